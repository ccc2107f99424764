//! The key pair of an image, by ssh-keygen(1).

use super::context::Context;
use super::hold::Held;
use super::names::{NEW_PUBLIC_KEY, unfinished};
use crate::config::image::ImagePaths;
use crate::error::Error;
use crate::system::files;
use crate::system::programs;

/// Makes what is missing of the key pair. The pair is made with the disk: the guest of an existing
/// disk knows the pair that it had at first.
pub(super) fn complete(
    context: &Context,
    name: &str,
    paths: &ImagePaths,
    is_new: bool,
    held: &Held,
) -> Result<(), Error> {
    match (paths.key.is_file(), paths.public_key().is_file()) {
        (true, true) => Ok(()),
        (true, false) => derive_public_key(context, name, paths, held),
        (false, _) if is_new => make(context, name, paths, held),
        (false, _) => {
            let key = paths.key.display();
            let message = format!("the private key of image `{name}` is gone: `{key}`");
            Err(Error::failed(message).hint(hint(name)))
        }
    }
}

/// Writes the public key again, from the private one.
fn derive_public_key(
    context: &Context,
    name: &str,
    paths: &ImagePaths,
    held: &Held,
) -> Result<(), Error> {
    let mut command = programs::SSH_KEYGEN.command();
    // The passphrase is empty, so that ssh-keygen does not ask for one.
    command.args(["-y", "-P", "", "-f"]).arg(&paths.key);
    let said = context.run(command, Some(held))?;
    let key = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() || !key.starts_with("ssh-") {
        let key = paths.key.display();
        let message = format!("cannot read the private key `{key}`: {}", said.reason());
        return Err(Error::failed(message).hint(hint(name)));
    }
    let key = key.trim();
    // Old versions of ssh-keygen leave the comment out.
    let has_comment = key.split(' ').count() > 2;
    let comment = if has_comment { String::new() } else { format!(" {}", comment(name)) };
    let new = paths.dir.join(NEW_PUBLIC_KEY);
    files::write_new(&new, format!("{key}{comment}\n").as_bytes())?;
    files::put_in_place(&new, &paths.public_key())
}

/// Makes the key pair. The private key gets its name last.
fn make(context: &Context, name: &str, paths: &ImagePaths, held: &Held) -> Result<(), Error> {
    files::remove(&paths.key)?;
    let new = unfinished(&paths.key);
    let mut command = programs::SSH_KEYGEN.command();
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", &comment(name), "-f"]).arg(&new);
    context.run(command, Some(held))?.check("cannot make a key pair")?;
    files::put_in_place(&paths.dir.join(NEW_PUBLIC_KEY), &paths.public_key())?;
    files::put_in_place(&new, &paths.key)
}

fn comment(name: &str) -> String {
    format!("qqmgr-{name}")
}

fn hint(name: &str) -> String {
    format!(
        "put the key back; or log in on `qqmgr console` and allow another key; or `qqmgr img reset \
         {name}` makes a new disk and key pair, without what was written"
    )
}
