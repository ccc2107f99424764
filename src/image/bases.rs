//! The place of fetched bases. A disk needs its base for as long as it lives, so a base is data: it
//! is in `$XDG_DATA_HOME/qqmgr`, with a checksum as its name. Versions before 0.2.0 kept bases in
//! `$XDG_CACHE_HOME/qqmgr`.

use crate::config::sum::Sum;
use crate::error::Error;
use crate::system::files;
use crate::text::fingerprint;
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

/// The directory of the bases, made if it is missing. It may be the user's link to a place with
/// more space.
pub(super) fn dir() -> Result<PathBuf, Error> {
    let dir = dir_of(DATA).ok_or_else(|| {
        Error::failed("there is no directory for fetched images")
            .hint("set `HOME` or `XDG_DATA_HOME`")
    })?;
    files::own_dir(&dir)
}

/// The path that a base has in the cache of an old version.
pub(super) fn in_cache(sum: &Sum) -> Option<PathBuf> {
    Some(dir_of(CACHE)?.join(sum.digits()))
}

/// The name by which a URL is known among the bases.
pub(super) fn name_of(url: &str) -> String {
    format!("url-{}", fingerprint(url.as_bytes()))
}

/// Makes a link that leads from a URL to its base, so that the URL is not fetched again.
pub(crate) fn remember(url: &str, base: &Path) -> Result<(), Error> {
    let link = dir()?.join(name_of(url));
    files::remove(&link)?;
    files::symlink(base.file_name().unwrap_or_default().as_ref(), &link)
}

/// The checksum of the base to which the link of a URL leads.
pub(super) fn linked(link: &Path) -> Option<Sum> {
    let target = link.read_link().ok()?;
    sum_of(&target).filter(|sum| target == Path::new(sum.digits()))
}

/// The checksum of a fetched base, which is its name.
pub(super) fn sum_of(base: &Path) -> Option<Sum> {
    let name = base.file_name()?.to_str()?;
    Sum::parse(name).filter(|sum| sum.digits() == name)
}

/// The name that a disk in the directory `disks` has for its base: relative to the disk if both are
/// in the project, which can then be moved as a whole.
pub(super) fn name_from(disks: &Path, project: &Path, base: &Path) -> PathBuf {
    let relative = || {
        let (disks, project) = (disks.canonicalize().ok()?, project.canonicalize().ok()?);
        let below = real(base).strip_prefix(&project).ok()?.to_path_buf();
        let up = disks.strip_prefix(&project).ok()?.components();
        Some(up.map(|_| Path::new("..")).collect::<PathBuf>().join(below))
    };
    relative().unwrap_or_else(|| base.to_path_buf())
}

/// The base that a disk in the directory `disks` has by this name.
pub(super) fn named(disks: &Path, name: &str) -> PathBuf {
    if name.starts_with('/') { name.into() } else { real(&disks.join(name)) }
}

/// The path without links and `..` before its last component.
fn real(path: &Path) -> PathBuf {
    let dir = path.parent().and_then(|dir| dir.canonicalize().ok());
    let real = dir.zip(path.file_name()).map(|(dir, name)| dir.join(name));
    real.unwrap_or_else(|| path.to_path_buf())
}

/// Whether the disk's header must be changed to where this base is now: it names a base in the
/// cache, or one that is gone and may be elsewhere.
pub(super) fn must_move(base: &Path) -> bool {
    let Some(cached) = sum_of(base).as_ref().and_then(in_cache) else { return false };
    let real = cached.parent().and_then(|dir| dir.canonicalize().ok());
    let is_in_cache =
        base == cached || real.as_deref().is_some_and(|dir| base.parent() == Some(dir));
    is_in_cache || !base.exists()
}
