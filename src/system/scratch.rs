//! TRUSTED CORE: makes and removes directories that exist for the duration of a copy.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const PRIVATE: u32 = 0o700;
/// The number of names to try. Killed copies with the same pid may have left directories.
const NUMBERS: u32 = 1000;

/// Makes a new directory in `parent` that only this user may enter.
pub(crate) fn fresh_dir(parent: &Path, name: &str) -> io::Result<PathBuf> {
    let mut result = Err(ErrorKind::AlreadyExists.into());
    for number in 0..NUMBERS {
        let dir = parent.join(format!("{name}.{}.{number}", std::process::id()));
        result = DirBuilder::new().mode(PRIVATE).create(&dir).map(|()| dir);
        match &result {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    result
}

/// Removes a directory of qqmgr with its content, whatever its permissions are. Symbolic links are
/// removed and not followed. Returns whether the directory is gone.
pub(crate) fn remove_tree(dir: &Path) -> bool {
    if fs::remove_dir_all(dir).is_ok() {
        return true;
    }
    open_up(dir);
    let _ = fs::remove_dir_all(dir);
    dir.symlink_metadata().is_err()
}

/// Gives the owner access to a directory and those below it.
fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, Permissions::from_mode(PRIVATE));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
