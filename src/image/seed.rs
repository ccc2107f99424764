//! The data for cloud-init: `user-data` and `meta-data` of its NoCloud data source, in a file
//! system with the label `cidata`. The data is JSON, which is also valid YAML. Writes no file.

use super::fat;
use crate::config::declared::{Seed, render_file};
use crate::config::image::PUBLIC_KEY;
use crate::config::{Config, Declared};
use crate::error::{Error, io_reason};
use crate::json::Value;
use crate::system::files;
use crate::text::fingerprint;
use std::path::Path;

/// The label that the data source looks for, even in the oldest cloud-init in use.
const LABEL: &str = "cidata";
const KEYS_BYTES_MAX: u64 = 256 * 1024;
/// Limit of `user-data`: half of what the file system can hold.
const USER_DATA_BYTES_MAX: usize = 1024 * 1024;
/// The line that shows cloud-init the format of the rest.
const CLOUD_CONFIG: &str = "#cloud-config\n";

#[derive(Debug)]
pub(super) struct Content {
    pub(super) user_data: String,
    meta_data: String,
}

impl Content {
    /// The whole file system. The same content gives the same bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let files = [("meta-data", &self.meta_data), ("user-data", &self.user_data)];
        fat::image(LABEL, &files.map(|(name, text)| (name, text.as_bytes())))
    }
}

/// The data for the guest, if it has any. If the image has its own key pair, that must exist.
pub(super) fn content(config: &Config, declared: &Declared) -> Result<Option<Content>, Error> {
    let (name, Some(seed)) = (&declared.name, &declared.seed) else { return Ok(None) };
    let (user_data, hostname) = match seed {
        Seed::File((file, span)) => {
            let text = read(file, USER_DATA_BYTES_MAX as u64);
            let text = text.map_err(|error| config.problem(error.at(*span)))?;
            (render_file(config, file, &text)?, None)
        }
        Seed::Keys { authorized_keys, hostname, .. } => {
            let keys = match authorized_keys {
                Some(files) => {
                    let keys = files.iter().map(|(file, span)| {
                        keys(file).map_err(|error| config.problem(error.at(*span)))
                    });
                    keys.collect::<Result<Vec<_>, _>>()?.concat()
                }
                None => keys(&declared.paths.file(PUBLIC_KEY))?,
            };
            let document = cloud_config(seed, &keys).pretty();
            (format!("{CLOUD_CONFIG}{document}"), Some(hostname.as_str()))
        }
    };
    if user_data.len() > USER_DATA_BYTES_MAX {
        let message =
            format!("the cloud-init data of image `{name}` has {} bytes", user_data.len());
        return Err(Error::failed(message).hint(format!("the limit is {USER_DATA_BYTES_MAX}")));
    }
    // A guest that has seen this content does nothing again; a fresh disk has seen none.
    let instance = format!("{name}-{}", fingerprint(user_data.as_bytes()));
    let mut meta_data = vec![("instance-id", Value::from(instance.as_str()))];
    meta_data.extend(hostname.map(|hostname| ("local-hostname", hostname.into())));
    Ok(Some(Content { user_data, meta_data: Value::object(meta_data).pretty() }))
}

/// The configuration for cloud-init, by its own reference. The user is the distribution's first one
/// under another name, with the shell and the groups that it has there.
fn cloud_config(seed: &Seed, keys: &[String]) -> Value {
    let Seed::Keys { user, hostname, packages, run, .. } = seed else { return Value::Null };
    let mut members = vec![
        ("hostname", Value::from(hostname.as_str())),
        // Without this, sudo would complain about the host name, after a delay.
        ("manage_etc_hosts", "localhost".into()),
        ("users", ["default"].into_iter().collect()),
        (
            "user",
            Value::object([
                ("name", Value::from(user.as_str())),
                ("sudo", "ALL=(ALL) NOPASSWD:ALL".into()),
                ("lock_passwd", true.into()),
            ]),
        ),
        ("ssh_authorized_keys", keys.iter().collect()),
        ("disable_root", (user != "root").into()),
    ];
    if !packages.is_empty() {
        members.push(("package_update", true.into()));
        members.push(("packages", packages.iter().collect()));
    }
    if !run.is_empty() {
        members.push(("runcmd", run.iter().collect()));
    }
    Value::object(members)
}

/// Reads the lines of a file that have keys.
fn keys(file: &Path) -> Result<Vec<String>, Error> {
    let text = read(file, KEYS_BYTES_MAX)?;
    let shown = file.display();
    if text.starts_with("-----BEGIN") {
        let hint = format!("its public half is most likely in `{shown}.pub`");
        return Err(Error::failed(format!("`{shown}` is a private key")).hint(hint));
    }
    let lines = text.lines().map(str::trim).filter(|line| is_key(line));
    let keys: Vec<String> = lines.map(str::to_string).collect();
    if keys.is_empty() {
        let message = format!("`{shown}` has no public key of ssh");
        return Err(Error::failed(message).hint("`ssh-keygen -t ed25519` makes a pair"));
    }
    Ok(keys)
}

/// Whether a line of authorized_keys has a key, by sshd(8): options, a type and base64.
fn is_key(line: &str) -> bool {
    !line.starts_with('#')
        && line.split_whitespace().any(|word| {
            let types = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"];
            types.iter().any(|kind| word.starts_with(kind))
        })
}

/// Reads a file of the user's as text.
fn read(file: &Path, limit: u64) -> Result<String, Error> {
    let failed =
        |reason: &str| Error::failed(format!("cannot read `{}`: {reason}", file.display()));
    let bytes = files::read_start(file, limit + 1).map_err(|error| failed(&io_reason(&error)))?;
    if bytes.len() as u64 > limit {
        return Err(failed(&format!("it is larger than {} KiB", limit >> 10)));
    }
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8"))
}
