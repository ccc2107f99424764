//! Writes a file that the user named. Other users may be able to write to its directory.

use super::account;
use super::temporary::{self, DEFAULT_FILE};
use crate::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The number of symbolic links that Linux follows.
const LINKS_MAX: usize = 40;

/// Writes a file for the user, or writes to a device or FIFO. A new file replaces an existing one
/// and keeps its mode. A link stays and leads to the new file. A link, device or FIFO that another
/// user has put there is refused: it would decide where the content goes.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |error| Error::io("write", path, &error);
    let user = account::user_id()?;
    check_links(path, user)?;
    let old = fs::metadata(path).ok();
    if let Some(old) = old.as_ref().filter(|old| !old.is_file()) {
        check_owner(path, "", old.uid(), user)?;
        let written = OpenOptions::new().write(true).open(path);
        return written.and_then(|mut file| file.write_all(content)).map_err(failed);
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mode = old.filter(|old| old.uid() == user).map(|old| old.mode() & 0o777);
    let names = (&*temporary::beside(&path), &*path);
    let replaced = temporary::replace(names, (DEFAULT_FILE, mode), |file| file.write_all(content));
    replaced.map_err(failed)
}

/// Fails if the path, or anything it links to, is a symbolic link of another user.
fn check_links(path: &Path, user: u32) -> Result<(), Error> {
    let mut path = path.to_path_buf();
    // The kernel follows no more links and reports a longer chain itself.
    for _ in 0..LINKS_MAX {
        let found = (fs::symlink_metadata(&path), fs::read_link(&path));
        let (Ok(metadata), Ok(target)) = found else { return Ok(()) };
        check_owner(&path, "symbolic link ", metadata.uid(), user)?;
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Ok(())
}

/// Fails if another user owns `path`, which the content would pass through, and could have put it
/// there. Files of root are trusted.
fn check_owner(path: &Path, what: &str, owner: u32, user: u32) -> Result<(), Error> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_shared = fs::metadata(dir).is_ok_and(|dir| dir.mode() & 0o022 != 0);
    if owner == user || owner == 0 || !is_shared {
        return Ok(());
    }
    let shown = path.display();
    Err(Error::failed(format!("the {what}`{shown}` belongs to user {owner}"))
        .hint("name another file, in a directory where only you can write"))
}
