//! A change of an image's files, which no other command uses meanwhile.

use super::context::{Context, is_locked};
use super::record::Record;
use crate::config::image::{DISK, ImagePaths, KEY, LOCK, PUBLIC_KEY, SEED};
use crate::error::Error;
use crate::system::lock::{Lock, Mode};
use crate::system::output::Output;
use crate::system::run::Invocation;
use crate::system::{files, short_way};
use std::path::PathBuf;

pub(super) struct Change<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) name: &'a str,
    pub(super) paths: &'a ImagePaths,
    pub(super) lock: Lock,
}

impl<'a> Change<'a> {
    /// Takes the lock for a change, and removes what a killed command left.
    pub(super) fn begin(
        context: &'a Context,
        name: &'a str,
        paths: &'a ImagePaths,
    ) -> Result<Self, Error> {
        let change =
            Self { context, name, paths, lock: lock(context, name, paths, Mode::Exclusive)? };
        reachable(paths)?;
        files::remove_unfinished(&paths.dir);
        let made = [DISK, SEED, KEY, PUBLIC_KEY].map(|name| change.unfinished(name));
        made.iter().try_for_each(|file| files::remove(file))?;
        Ok(change)
    }

    /// The path that a file has until it is complete. ssh-keygen names a public key after the
    /// private one.
    pub(super) fn unfinished(&self, name: &str) -> PathBuf {
        let name = match name.strip_suffix(".pub") {
            Some(key) => format!("{key}.new.pub"),
            None => format!("{name}.new"),
        };
        self.paths.file(&name)
    }

    /// Runs a program, which keeps the lock for as long as it lives.
    pub(super) fn run(&self, command: Invocation) -> Result<Output, Error> {
        self.context.run(command, Some(&self.lock))
    }

    /// Whether a program has the disk open.
    pub(super) fn is_used(&self) -> Result<bool, Error> {
        let disk = self.paths.file(DISK);
        Ok(disk.exists() && is_locked(&self.context.info(&disk, "qcow2", Some(&self.lock))?))
    }

    /// Returns an error if a program has the disk open. A disk that is broken in another way may be
    /// thrown away.
    pub(super) fn check_unused(&self) -> Result<(), Error> {
        if !self.is_used()? {
            return Ok(());
        }
        let (disk, name) = (self.paths.file(DISK), self.name);
        Err(Error::failed(format!("image `{name}` is in use by another program"))
            .hint(format!("`{}` is the file", disk.display())))
    }
}

/// Locks the files of an image.
pub(super) fn lock(
    context: &Context,
    name: &str,
    paths: &ImagePaths,
    mode: Mode,
) -> Result<Lock, Error> {
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
