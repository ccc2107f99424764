//! The place of fetched bases. A disk needs its base for as long as it lives, so a base is data: it
//! is in `$XDG_DATA_HOME/qqmgr`, with its SHA-256 as its name. Versions before 0.2.0 kept bases in
//! `$XDG_CACHE_HOME/qqmgr`.

use crate::config::values::sha256;
use crate::error::Error;
use crate::system::files;
use std::path::{Path, PathBuf};

const DATA: (&str, &str) = ("XDG_DATA_HOME", ".local/share");
const CACHE: (&str, &str) = ("XDG_CACHE_HOME", ".cache");

/// The directory of this program in the directory that a variable names, or in `default` below the
/// home directory.
fn dir_of((variable, default): (&str, &str)) -> Option<PathBuf> {
    let dir = files::directory_in(variable).or_else(|| Some(files::home()?.join(default)))?;
    Some(dir.join("qqmgr"))
}

/// The directory of the bases, which may not exist.
pub(super) fn path() -> Option<PathBuf> {
    let dir = dir_of(DATA)?;
    Some(dir.canonicalize().unwrap_or(dir))
}

/// The directory of the bases, made if it is missing. It may be a user's own link to where there is
/// space.
pub(super) fn dir() -> Result<PathBuf, Error> {
    let dir = dir_of(DATA).ok_or_else(|| {
        Error::failed("there is no directory for fetched images")
            .hint("set `HOME` or `XDG_DATA_HOME`")
    })?;
    files::own_dir(&dir)
}

/// The path that a base has in the cache of an old version.
pub(super) fn in_cache(sha256: &str) -> Option<PathBuf> {
    Some(dir_of(CACHE)?.join(sha256))
}

/// The SHA-256 of a fetched base, which is its name.
pub(super) fn sum_of(base: &Path) -> Option<&str> {
    base.file_name()?.to_str().filter(|name| sha256(name).as_deref() == Some(*name))
}

/// Whether the disk's header must be changed to where this base is now: it names a base in the
/// cache, or one that is gone and may be elsewhere.
pub(super) fn must_move(base: &Path) -> bool {
    let Some(cached) = sum_of(base).and_then(in_cache) else { return false };
    let real = cached.parent().and_then(|dir| dir.canonicalize().ok());
    let is_in_cache =
        base == cached || real.as_deref().is_some_and(|dir| base.parent() == Some(dir));
    is_in_cache || !base.exists()
}
