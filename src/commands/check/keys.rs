//! Rules about ssh: that it is there, the names of its options, and the key files that they name,
//! which must exist and be as ssh accepts them.

use super::subject::Subject;
use crate::source::Problem;
use crate::system::files;
use crate::system::programs::SSH;
use crate::text::shell_quoted;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const IDENTITY: &str = "IdentityFile";
/// The options that name the files. Without one of the first two ssh goes on, but the login may
/// fail; without the last it trusts no guest.
const KEYWORDS: &[&str] = &[IDENTITY, "CertificateFile", "RevokedHostKeys"];
/// How a file with a private key begins.
const PRIVATE: &[u8] = b"-----BEGIN";
/// Read, write and execute for group and others: ssh rejects a private key that has any of them.
const OTHERS: u32 = 0o077;

/// Reports that ssh is not installed, for a guest that has it.
pub(super) fn no_program(subject: &Subject) -> Vec<Problem> {
    if subject.ssh_port.is_none() || SSH.find().is_some() {
        return Vec::new();
    }
    let message = format!("there is no program `{}`", SSH.name());
    let hint = "install it (Debian: openssh-client): `qqmgr ssh`, `put`, `get` and `run` need it";
    vec![Problem::new(subject.no_place, message).hint(hint)]
}

/// Warns about unknown options whose names are nearly those of options of ssh.
pub(super) fn misspelt(subject: &Subject) -> Vec<Problem> {
    subject.resolver.misspelt_options()
}

pub(super) fn problems(subject: &Subject) -> Vec<Problem> {
    let mut problems = Vec::new();
    for keyword in KEYWORDS {
        for (value, place) in subject.resolver.ssh_texts(keyword) {
            let Some(path) = path(subject.config.dir(), &value) else { continue };
            if let Some((message, hint)) = fault(keyword, &value, &path) {
                problems.push(Problem::new(place, message).hint(hint));
            }
        }
    }
    problems
}

/// The file that a value names, unless the value has parts that ssh expands.
fn path(dir: &Path, value: &str) -> Option<PathBuf> {
    let is_anothers = value.starts_with('~') && !value.starts_with("~/");
    let is_none = value.is_empty() || value.eq_ignore_ascii_case("none");
    if is_none || is_anothers || value.contains(['%', '$']) {
        return None;
    }
    files::path_from(dir, value)
}

/// The problem with the file, and a hint.
fn fault(keyword: &str, value: &str, path: &Path) -> Option<(String, String)> {
    let hint = format!("`{keyword}` names `{}`", path.display());
    let Ok(metadata) = path.metadata() else {
        // An agent may have the private key that belongs to a public one.
        let mut public = path.as_os_str().to_os_string();
        public.push(".pub");
        let has_public = keyword == IDENTITY && Path::new(&public).exists();
        return (!has_public).then(|| (format!("there is no file `{value}`"), hint));
    };
    if !metadata.is_file() {
        return Some((format!("`{value}` is not a file"), hint));
    }
    let is_ours = crate::system::process::user_id().is_ok_and(|user| user == metadata.uid());
    let is_open = is_ours && metadata.mode() & OTHERS != 0;
    (keyword == IDENTITY && is_open && is_private_key(path)).then(|| {
        let mode = metadata.mode() & 0o777;
        let message = format!("ssh will not use `{value}`: its mode is {mode:04o}");
        (message, format!("`chmod 600 {}`", shell_quoted(path.as_os_str())))
    })
}

fn is_private_key(path: &Path) -> bool {
    let mut start = [0; PRIVATE.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == PRIVATE
}
