//! Locks of images and of fetched files: any number of commands may use one, or a single one may
//! change it.
//!
//! Every program that changes something also gets the lock, as its standard input: if it outlives
//! this process, it keeps the next command from working on the same file until it ends.

use crate::error::Error;
use crate::files;
use crate::log::Log;
use crate::vm::wait;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// A lock, held until it is dropped here and in the programs that have it.
pub(crate) struct Held {
    file: File,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Use,
    Change,
}

/// Returns the reason to stop waiting, when there is one.
pub(crate) type Exceeded<'a> = &'a (dyn Fn() -> Option<Error> + Sync);

/// Takes the lock at `path`, whose directory `make_dir` makes and verifies. If it has to wait, it
/// notes that another command has `what`.
pub(super) fn hold(
    path: &Path,
    make_dir: &dyn Fn() -> Result<(), Error>,
    how: For,
    what: &str,
    exceeded: Exceeded,
    log: &Log,
) -> Result<Held, Error> {
    let failed = |error: io::Error| Error::io("lock", path, &error);
    let mut said = false;
    loop {
        make_dir()?;
        let file = match files::open_lock(path) {
            // Its directory was removed in between.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && path.parent().is_some_and(|dir| !dir.exists()) =>
            {
                continue;
            }
            opened => opened.map_err(failed)?,
        };
        if !try_lock(&file, how).map_err(failed)? {
            if !said {
                said = true;
                log.note(&format!("waiting for another command that has {what}"));
            }
            let waited = wait::poll_long(None::<Instant>, || match try_lock(&file, how) {
                Ok(false) => exceeded().map(Err),
                Ok(true) => Some(Ok(())),
                Err(error) => Some(Err(failed(error))),
            });
            waited.transpose()?;
        }
        if files::is_at(&file, path) {
            return Ok(Held { file });
        }
    }
}

impl Held {
    /// The lock as standard input for a program that works on what is locked.
    pub(super) fn stdin(&self) -> io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }
}

fn try_lock(file: &File, how: For) -> io::Result<bool> {
    let locked = match how {
        For::Use => file.try_lock_shared(),
        For::Change => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
