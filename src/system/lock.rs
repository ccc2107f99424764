//! Locks of the kernel, on files that stay. The kernel releases a lock when the last process that
//! has it ends, so no stale lock ever has to be removed by hand.

use super::files;
use super::process::user_id;
use super::run::Invocation;
use crate::access::no_access;
use crate::error::Error;
use crate::wait;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Seek as _, Write as _};
use std::path::Path;
use std::time::Instant;

/// How many processes may have a lock at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Any number, as long as no one has it exclusively.
    Shared,
    Exclusive,
}

/// A lock, held until it is dropped here and all programs that got it have ended.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock in the file at `path`. A missing file is made, in the directory that
    /// `make_dir` makes and verifies. While another process has the lock, `waiting` is called again
    /// and again; its error ends the wait.
    pub(crate) fn take(
        path: &Path,
        mode: Mode,
        make_dir: &dyn Fn() -> Result<(), Error>,
        waiting: &mut dyn FnMut() -> Option<Error>,
    ) -> Result<Self, Error> {
        loop {
            make_dir()?;
            if let Some(lock) = Self::wait((path, true), mode, waiting)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock like [`Lock::take`], or gives `None` if its file does not exist.
    pub(crate) fn take_existing(
        path: &Path,
        mode: Mode,
        waiting: &mut dyn FnMut() -> Option<Error>,
    ) -> Result<Option<Self>, Error> {
        while !files::is_missing(path) {
            let lock = Self::wait((path, false), mode, waiting)?;
            if lock.is_some() {
                return Ok(lock);
            }
        }
        Ok(None)
    }

    /// Opens the file, or makes it, and waits for its lock. `None` if it is no longer the file at
    /// `path`: a user may have removed it, and another process may have locked a new one since.
    fn wait(
        (path, makes): (&Path, bool),
        mode: Mode,
        waiting: &mut dyn FnMut() -> Option<Error>,
    ) -> Result<Option<Self>, Error> {
        let file = match files::open_lock(path, makes) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| no_access("lock", path, &error, user_id().ok()))?,
        };
        let try_lock = || match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        let locked = wait::poll(None::<Instant>, || match try_lock() {
            Err(TryLockError::WouldBlock) => waiting().map(Err),
            Err(TryLockError::Error(error)) => Some(Err(Error::io("lock", path, &error))),
            Ok(()) => Some(Ok(())),
        });
        locked.transpose()?;
        Ok(files::is_at(&file, path).then_some(Self(file)))
    }

    /// Gives the lock to a program as its stdin. If this process is killed, the program goes on,
    /// and the next command waits until it ends.
    pub(crate) fn give_to(&self, command: &mut Invocation) -> Result<(), Error> {
        let file = self.0.try_clone().map_err(|error| command.failed(&error))?;
        command.stdin(file);
        Ok(())
    }

    /// Writes the holder into the lock's file, for messages. On a full disk these have less detail.
    pub(crate) fn sign(&mut self, who: &str) {
        let emptied = self.0.set_len(0).and_then(|()| self.0.rewind());
        let _ = emptied.and_then(|()| writeln!(self.0, "{who}"));
    }
}

/// Tries to lock an open directory itself, until it is closed. Any user who may read the directory
/// may lock it, too. On a file system without locks this always works.
pub(crate) fn try_dir(dir: &File) -> bool {
    !matches!(dir.try_lock(), Err(TryLockError::WouldBlock))
}
