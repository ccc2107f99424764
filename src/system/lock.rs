//! Locks of the kernel, on files that stay. The kernel releases a lock when the last process that
//! has it ends, so no stale lock ever has to be removed by hand.

use super::account::user_id;
use super::files;
use crate::access::no_access;
use crate::error::Error;
use crate::wait;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Seek as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// How many processes may have a lock at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Any number, as long as no one has it exclusively.
    Shared,
    Exclusive,
}

/// A lock, held until it is dropped here and has ended in the programs that were given it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// The treatment of a lock's file that is missing.
#[derive(Clone, Copy)]
pub(crate) enum Missing<'a> {
    /// It is made, in the directory that this makes and verifies.
    Made(&'a dyn Fn() -> Result<(), Error>),
    /// There is nothing to lock.
    Nothing,
}

impl Lock {
    /// Takes the lock in the file at `path`, or gives `None` if there is nothing to lock. While
    /// another process has it, `waiting` is called again and again, and ends the wait by an error.
    pub(crate) fn take(
        path: &Path,
        mode: Mode,
        missing: Missing,
        waiting: &mut dyn FnMut() -> Option<Error>,
    ) -> Result<Option<Self>, Error> {
        let failed = |error: io::Error| Error::io("lock", path, &error);
        loop {
            let opened = match missing {
                Missing::Made(make_dir) => make_dir().map(|()| files::open_lock(path))?,
                Missing::Nothing => files::open_existing(path),
            };
            let file = match (opened, missing) {
                (Ok(file), _) => file,
                (Err(error), Missing::Nothing) if error.kind() == ErrorKind::NotFound => {
                    return Ok(None);
                }
                // Its directory was removed in between.
                (Err(error), Missing::Made(_))
                    if error.kind() == ErrorKind::NotFound
                        && path.parent().is_some_and(|dir| !dir.exists()) =>
                {
                    continue;
                }
                (Err(error), _) => {
                    return Err(no_access("lock", path, &error, user_id().ok()));
                }
            };
            let locked = wait::poll(None::<Instant>, || match has_locked(&file, mode) {
                Ok(false) => waiting().map(Err),
                Ok(true) => Some(Ok(())),
                Err(error) => Some(Err(failed(error))),
            });
            locked.transpose()?;
            // A user may have removed the file, and another process has locked a new one since.
            if files::is_at(&file, path) {
                return Ok(Some(Self { file }));
            }
        }
    }

    /// The lock as the stdin of a program that continues when this process is killed: it keeps the
    /// next command waiting until that program ends.
    pub(crate) fn stdin(&self) -> io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// Writes the holder into the lock's file, for the messages of commands that wait. On a full
    /// disk the messages have less detail.
    pub(crate) fn sign(&mut self, who: &str) {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        let _ = emptied.and_then(|()| writeln!(self.file, "{who}"));
    }
}

fn has_locked(file: &File, mode: Mode) -> io::Result<bool> {
    let locked = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Tries to lock an open directory itself, until it is closed. Any user who may read the directory
/// may lock it, too. On a file system without locks this always works.
pub(crate) fn try_dir(dir: &File) -> bool {
    !matches!(has_locked(dir, Mode::Exclusive), Ok(false))
}
