//! Makes short paths to directories with long names, for sockets, whose paths have at most 107
//! bytes. They are symbolic links in a directory of the user's own.

use super::{files, process, temporary};
use crate::error::Error;
use crate::text::fingerprint;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Makes and verifies a short symbolic link to a directory of qqmgr, which needs no quotes.
pub(crate) fn short_way(dir: &Path) -> Result<PathBuf, Error> {
    files::private_dir(&short_parent()?)?;
    let link = short_link(dir)?;
    files::symlink(dir, &link)?;
    Ok(link)
}

/// The path that the link has, or would have.
pub(crate) fn short_link(dir: &Path) -> Result<PathBuf, Error> {
    Ok(short_parent()?.join(fingerprint(dir.as_os_str().as_bytes())))
}

/// `$XDG_RUNTIME_DIR/qqmgr`, or `/tmp/qqmgr-UID`.
fn short_parent() -> Result<PathBuf, Error> {
    let fits = |dir: &PathBuf| dir.as_os_str().len() <= 40 && files::is_plain(dir);
    match files::directory_in("XDG_RUNTIME_DIR").filter(|dir| fits(dir) && dir.is_dir()) {
        Some(dir) => Ok(dir.join("qqmgr")),
        None => short_parent_in_tmp(process::user_id()?),
    }
}

/// Finds `/tmp/qqmgr-UID`. Another user can make that directory first. Then a directory with a
/// random suffix is used instead: an existing one if it is the user's own, or a new one. Other
/// users cannot remove its name, since `/tmp` is sticky.
fn short_parent_in_tmp(user: u32) -> Result<PathBuf, Error> {
    let (tmp, own) = (Path::new("/tmp"), format!("qqmgr-{user}"));
    let usual = tmp.join(&own);
    let is_own = |dir: &Path| {
        fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == user)
    };
    if is_own(&usual) || files::is_missing(&usual) {
        return Ok(usual);
    }
    let mut names = files::names_in(tmp);
    names.retain(|name| name.starts_with(&format!("{own}.")) && is_own(&tmp.join(name)));
    if let Some(name) = names.iter().min() {
        return Ok(tmp.join(name));
    }
    temporary::fresh_dir(tmp, &own).map_err(|error| Error::io("create", &usual, &error))
}
