//! The place of fetched bases. A disk needs its base for as long as it lives, so a base is data: it
//! is in `$XDG_DATA_HOME/qqmgr`, with its SHA-256 as its name. Versions before 0.2.0 kept bases in
//! `$XDG_CACHE_HOME/qqmgr`; such a base gets a second name among the data, and the header of each
//! disk that needs it is changed to that name.

use super::base::LOCKED;
use super::build::Maker;
use super::fetch::Wanted;
use super::hold::Held;
use super::record::Record;
use super::{DISK, Look};
use crate::config::declared::{Declared, Location};
use crate::config::image::ImagePaths;
use crate::config::values::sha256;
use crate::error::Error;
use crate::system::files;
use crate::system::second_name;
use crate::vm::format;
use std::path::{Path, PathBuf};

/// The directory of this program in the directory that a variable names, or in `default` below the
/// home directory.
fn dir_of(variable: &str, default: &str) -> Option<PathBuf> {
    let dir = files::directory_in(variable).or_else(|| Some(files::home()?.join(default)))?;
    Some(dir.join("qqmgr"))
}

/// The directory of the bases, which may not exist.
pub(super) fn bases_path() -> Option<PathBuf> {
    let dir = dir_of("XDG_DATA_HOME", ".local/share")?;
    Some(dir.canonicalize().unwrap_or(dir))
}

/// The directory of the bases, made if it is missing. It may be a user's own link to where there is
/// space.
pub(super) fn bases_dir() -> Result<PathBuf, Error> {
    let Some(dir) = dir_of("XDG_DATA_HOME", ".local/share") else {
        let message = "there is no directory for fetched images";
        return Err(Error::failed(message).hint("set `HOME` or `XDG_DATA_HOME`"));
    };
    files::own_dir(&dir)
}

/// Whether a base is in the cache of an old version.
fn is_in_cache(base: &Path) -> bool {
    let cache = dir_of("XDG_CACHE_HOME", ".cache");
    cache.is_some_and(|cache| {
        let real = cache.canonicalize().ok();
        base.parent().is_some_and(|dir| dir == cache || Some(dir) == real.as_deref())
    })
}

/// The SHA-256 of a fetched base, which is its name.
fn sum_of(base: &Path) -> Option<&str> {
    base.file_name()?.to_str().filter(|name| sha256(name).as_deref() == Some(*name))
}

/// Whether the disk's header must be changed to where this base is now: it names a base in the
/// cache, or one that is gone and may be elsewhere.
pub(super) fn must_move(base: &Path) -> bool {
    sum_of(base).is_some() && (is_in_cache(base) || !base.exists())
}

impl Maker<'_> {
    /// Gives a base in the cache its name among the data, if its content has that sum. The caller
    /// has the lock of `file`.
    pub(super) fn take_from_cache(&self, sha256: &str, file: &Path, part: &Path) -> bool {
        let Some(cached) = dir_of("XDG_CACHE_HOME", ".cache").map(|dir| dir.join(sha256)) else {
            return false;
        };
        if !cached.is_file() || !self.has_sum(&cached, sha256) {
            return false;
        }
        if second_name::give(&cached, file, part).is_err() {
            return false;
        }
        let is_right = self.has_sum(file, sha256);
        if !is_right {
            // Another program changed it in between. Even if it stays, it is not taken for the
            // right one.
            let _ = files::remove(file);
        }
        is_right
    }

    fn has_sum(&self, file: &Path, sha256: &str) -> bool {
        self.sum(file).is_ok_and(|sum| sum == sha256)
    }

    /// Changes the disk's header to name the base where it is kept, and fetches the base if it is
    /// gone. Everything that was written to the disk stays.
    pub(super) fn keep_base(
        &self,
        declared: &Declared,
        look: &Look,
        paths: &ImagePaths,
        held: &Held,
    ) -> Result<(), Error> {
        let Some(base) = look.base.as_deref().filter(|_| look.moves || look.lost_base.is_some())
        else {
            return Ok(());
        };
        if let (None, Some(declared_base)) = (sum_of(base), &declared.base) {
            // The error shows the place of the declaration.
            self.base(declared, declared_base, held)?;
        }
        let record = Record::read(paths);
        let known = record.as_ref().and_then(|record| record.sha256.as_deref());
        let Some(sha256) = sum_of(base) else { return Err(lost(&declared.name, base, known)) };
        let url = declared.base.as_ref().and_then(|base| match &base.location {
            Location::Url(url) if base.sha256.as_deref() == Some(sha256) => Some(url.as_str()),
            _ => None,
        });
        let kept = match self.fetch_kept(url, sha256) {
            Ok(Some(kept)) => kept,
            Ok(None) => return Err(lost(&declared.name, base, Some(sha256))),
            Err(error) => {
                return Err(lost(&declared.name, base, Some(sha256)).because(&error));
            }
        };
        if kept == base {
            return Ok(());
        }
        if let Err(error) = self.rebase(declared, &kept, paths, held) {
            // A program has the disk open. That does no harm while the base is in both places.
            return if error.message().contains(LOCKED) && base.exists() {
                Ok(())
            } else {
                Err(error)
            };
        }
        match record {
            Some(record) => Record { backing: Some(kept), ..record }.write(paths),
            None => Ok(()),
        }
    }

    /// Finds the base with this sum, or fetches it if there is a URL for it.
    fn fetch_kept(&self, url: Option<&str>, sha256: &str) -> Result<Option<PathBuf>, Error> {
        match url {
            Some(url) => Ok(Some(self.fetch(&Wanted { url, sha256: Some(sha256) })?.file)),
            None => self.find_kept(sha256),
        }
    }

    /// Changes only the name of the base in the disk's header.
    fn rebase(
        &self,
        declared: &Declared,
        base: &Path,
        paths: &ImagePaths,
        held: &Held,
    ) -> Result<(), Error> {
        let (name, disk) = (&declared.name, paths.dir.join(DISK));
        let known = format::disk(&disk).and_then(|header| header.backing_format);
        let known = known.filter(|format| ["raw", "qcow2"].contains(&format.as_str()));
        let Some(format) = known else {
            let message =
                format!("the disk of image `{name}` does not name the format of its base");
            return Err(Error::failed(message).hint(reset_hint(name)));
        };
        let mut command = self.qemu_img()?;
        command.args(["rebase", "-q", "-u", "-f", "qcow2", "-F", &format, "-b"]);
        command.arg(base).arg(disk);
        let said = self.run_qemu_img(command, Some(held))?;
        if said.status.success() {
            return Ok(());
        }
        let message = format!("cannot tell the disk of image `{name}` where its base is: ");
        Err(Error::failed(message + &said.reason()))
    }
}

fn reset_hint(name: &str) -> String {
    format!("`qqmgr img reset {name}` builds the image anew, without what was written to it")
}

/// The error about a disk whose base cannot be found.
fn lost(name: &str, base: &Path, sha256: Option<&str>) -> Error {
    let shown = base.display();
    let Some(sha256) = sha256 else {
        let message = format!("the base of image `{name}` is gone: `{shown}`");
        return Error::failed(message).hint(format!(
            "put it back as it was, or `qqmgr img reset {name}` builds the image anew"
        ));
    };
    let place = match bases_path().filter(|_| sum_of(base).is_some()) {
        Some(dir) => dir.join(sha256).display().to_string(),
        None => shown.to_string(),
    };
    let message = format!(
        "image `{name}`: this disk needs the old base with SHA-256 {sha256}, which is gone"
    );
    Error::failed(message).hint(format!("put it back as `{place}`, or {}", reset_hint(name)))
}
