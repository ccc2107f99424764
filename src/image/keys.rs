//! The key pair of an image, by ssh-keygen(1).

use super::change::Change;
use super::context::{check, reason};
use crate::config::Declared;
use crate::config::image::{KEY, PUBLIC_KEY};
use crate::error::Error;
use crate::system::{files, programs};

/// Makes what is missing of the key pair. The pair is made with the disk: the guest of an existing
/// disk knows the pair that it had at first.
pub(super) fn complete(change: &Change, is_new: bool) -> Result<(), Error> {
    let [key, public_key] = [KEY, PUBLIC_KEY].map(|name| change.declared.paths.file(name));
    match (key.is_file(), public_key.is_file()) {
        (true, true) => Ok(()),
        (true, false) => derive_public_key(change),
        (false, _) if is_new => make(change),
        (false, _) => {
            let (name, key) = (&change.declared.name, key.display());
            let message = format!("the private key of image `{name}` is gone: `{key}`");
            Err(Error::failed(message).hint(hint(name)))
        }
    }
}

/// Writes the public key again, from the private one.
fn derive_public_key(change: &Change) -> Result<(), Error> {
    let Declared { name, paths, .. } = change.declared;
    let file = paths.file(KEY);
    let mut command = programs::SSH_KEYGEN.command();
    // The passphrase is empty, so that ssh-keygen does not ask for one.
    command.args(["-y", "-P", "", "-f"]).arg(&file);
    let output = change.context.run(command)?;
    let key = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !key.starts_with("ssh-") {
        let (file, reason) = (file.display(), reason(&output));
        let message = format!("cannot read the private key `{file}`: {reason}");
        return Err(Error::failed(message).hint(hint(name)));
    }
    let key = key.trim();
    // Old versions of ssh-keygen leave the comment out.
    let has_comment = key.split(' ').count() > 2;
    let comment = if has_comment { String::new() } else { format!(" {}", comment(name)) };
    files::write_private(&paths.file(PUBLIC_KEY), format!("{key}{comment}\n"))
}

/// Makes the key pair. The private key gets its name last.
fn make(change: &Change) -> Result<(), Error> {
    let Declared { name, paths, .. } = change.declared;
    files::remove(&paths.file(KEY))?;
    let mut command = programs::SSH_KEYGEN.command();
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", &comment(name), "-f"]);
    command.arg(change.unfinished(KEY));
    check(&change.context.run(command)?, "cannot make a key pair")?;
    [PUBLIC_KEY, KEY]
        .iter()
        .try_for_each(|name| files::put_in_place(&change.unfinished(name), &paths.file(name)))
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
