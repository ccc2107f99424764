//! A change of an image's files, which no other command uses meanwhile.

use super::context::{Context, check, is_locked};
use super::inspection::{Inspection, inspect};
use super::record::Record;
use crate::config::Declared;
use crate::config::image::{DISK, ImagePaths, KEY, LOCK, PUBLIC_KEY, SEED};
use crate::error::Error;
use crate::system::lock::{Lock, Mode};
use crate::system::{files, short_way};
use std::path::PathBuf;

pub(super) struct Change<'a> {
    /// It has the lock of the image.
    pub(super) context: Context<'a>,
    pub(super) declared: &'a Declared,
}

impl<'a> Change<'a> {
    /// Takes the lock for a change, and removes what a killed command left.
    pub(super) fn begin(context: &Context<'a>, declared: &'a Declared) -> Result<Self, Error> {
        let lock = lock(context, declared, Mode::Exclusive)?;
        let change = Self { context: context.under(lock), declared };
        reachable(&declared.paths)?;
        files::remove_unfinished(&declared.paths.dir);
        let made = [DISK, SEED, KEY, PUBLIC_KEY].map(|name| change.unfinished(name));
        made.iter().try_for_each(|file| files::remove(file))?;
        Ok(change)
    }

    /// Takes the lock for a change if `need` finds in the files that there is something to do, and
    /// still finds it once no other command can do it.
    pub(super) fn begin_for<T>(
        context: &Context<'a>,
        declared: &'a Declared,
        need: impl Fn(Inspection) -> Option<T>,
    ) -> Result<Option<(Self, T)>, Error> {
        let look = || need(inspect(context.config, declared));
        if look().is_none() {
            return Ok(None);
        }
        let change = Self::begin(context, declared)?;
        Ok(look().map(|need| (change, need)))
    }

    /// The path of a file until it is complete. ssh-keygen names a public key by the private one.
    pub(super) fn unfinished(&self, name: &str) -> PathBuf {
        let name = match name.strip_suffix(".pub") {
            Some(key) => format!("{key}.new.pub"),
            None => format!("{name}.new"),
        };
        self.declared.paths.file(&name)
    }

    /// Whether a program has the disk open.
    pub(super) fn is_used(&self) -> Result<bool, Error> {
        let info = self.context.info(&self.declared.paths.file(DISK), "qcow2")?;
        // A program that could not look has seen nothing.
        if !info.said().contains("Could not open") {
            check(&info, &format!("cannot see whether image `{}` is in use", self.declared.name))?;
        }
        Ok(is_locked(&info))
    }

    /// An error if a program has the disk open. A disk that is broken otherwise may be thrown away.
    pub(super) fn check_unused(&self) -> Result<(), Error> {
        if !self.is_used()? {
            return Ok(());
        }
        let (disk, name) = (self.declared.paths.file(DISK), &self.declared.name);
        Err(Error::failed(format!("image `{name}` is in use by another program"))
            .hint(format!("`{}` is the file", disk.display())))
    }
}

/// Locks the files of an image.
pub(super) fn lock(context: &Context, declared: &Declared, mode: Mode) -> Result<Lock, Error> {
    let Declared { name, paths, .. } = declared;
    let make_dir = || files::private_dir(&paths.dir);
    let lock = context.lock(&paths.file(LOCK), mode, &make_dir, &format!("image `{name}`"))?;
    Record::check(paths).map(|()| lock)
}

/// Makes the path by which QEMU reaches the image's files.
pub(crate) fn reachable(paths: &ImagePaths) -> Result<(), Error> {
    if !files::is_plain(&paths.dir) {
        short_way::short_way(&paths.dir)?;
    }
    Ok(())
}
