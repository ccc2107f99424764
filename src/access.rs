//! Errors about files and directories that this user may not use, with hints that fit the cause.
//! Only looks.

use crate::error::Error;
use crate::text::shell_quoted;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::{fs, io};

/// The error for a file or directory that cannot be made or entered, with a hint that fits the
/// cause.
pub(crate) fn no_access(verb: &str, path: &Path, error: &io::Error, user: Option<u32>) -> Error {
    let failed = Error::io(verb, path, error);
    let elsewhere = "QQMGR_RUNTIME_DIR names another directory for the files of all VMs";
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => failed.hint(elsewhere),
        io::ErrorKind::PermissionDenied => {
            // The nearest directory that can be looked at, and its owner.
            let mut dirs = path.ancestors();
            let found = dirs.find_map(|dir| Some((dir, fs::symlink_metadata(dir).ok()?.uid())));
            match (found, user) {
                (Some((above, owner)), Some(user)) if owner != user && is_runtime(above) => {
                    failed.hint(whose(above, owner, user))
                }
                _ => failed.hint(elsewhere),
            }
        }
        _ => failed,
    }
}

/// The error for a file that cannot be written or removed, with a hint if its VM or image could
/// have its files elsewhere.
pub(crate) fn not_changed(verb: &str, path: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem && path.ancestors().any(is_runtime) {
        return no_access(verb, path, error, None);
    }
    Error::io(verb, path, error)
}

/// Whether `dir` is the directory of a VM or an image, or a `.qqmgr` that contains these.
fn is_runtime(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().as_bytes();
    name.ends_with(b".qqmgr") || name.starts_with(b"vm.") || name.starts_with(b"img.")
}

/// The hint for a directory of qqmgr that belongs to another user. `sudo qqmgr` makes root's.
pub(crate) fn whose(dir: &Path, owner: u32, user: u32) -> String {
    if owner == 0 {
        let dir = shell_quoted(dir.as_os_str());
        format!("it is root's, as after a `sudo`: `sudo chown -R {user} {dir}` makes it yours")
    } else {
        "who owns the directory controls the VM; use a directory of your own".into()
    }
}
