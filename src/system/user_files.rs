//! Writes files that the user named. Other users may be able to write to their directory.

use super::process;
use super::temporary::{self, DEFAULT_FILE};
use crate::destination::{check_is_of_file, links};
use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Makes a directory for the user and its missing parents, with the default mode.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, &error))
}

/// Makes a new, empty file for the user, in place of any file of that name.
pub(crate) fn create(path: &Path) -> Result<File, Error> {
    temporary::create(path, DEFAULT_FILE).map_err(|error| Error::io("create", path, &error))
}

/// Has `fill` write the user's file, device or FIFO. A new file replaces an existing one and keeps
/// its mode. A link stays and leads to the new file. Another user's link, device or FIFO is
/// refused: it would decide where the content goes.
pub(crate) fn replace(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = |error| Error::io("write", path, &error);
    let (user, old) = (process::user_id()?, fs::metadata(path).ok());
    check_links(path, user)?;
    if let Some(old) = old.as_ref().filter(|old| !old.is_file()) {
        check_owner(path, "", old.uid(), user)?;
        let written = OpenOptions::new().write(true).open(path);
        return written.and_then(|mut file| fill(&mut file)).map_err(failed);
    }
    check_is_of_file(path)?;
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mode = old.filter(|old| old.uid() == user).map(|old| old.mode() & 0o777);
    temporary::replace((&temporary::beside(&path), &path), (DEFAULT_FILE, mode), fill)
        .map_err(failed)
}

/// Fails if the path, or anything it links to, is a symbolic link of another user.
fn check_links(path: &Path, user: u32) -> Result<(), Error> {
    links(path.to_path_buf()).try_for_each(|path| match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => check_owner(&path, "symbolic link ", found.uid(), user),
        _ => Ok(()),
    })
}

/// Fails if a user other than root owns `path`, a link, device or FIFO, and can have put it there.
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
