//! TRUSTED CORE: the lock of a VM, and the file that says who has it.
//!
//! `start` and `stop` of one VM exclude each other. The kernel gives the lock back when its holder
//! dies, so that none is ever left to be removed by hand.

use super::{Paths, wait};
use crate::error::{Error, Kind};
use crate::files;
use crate::log::Log;
use crate::text::sanitized;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Seek as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Longer than a start or stop takes with the timeouts that they have by default.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(120);
/// Another command is mostly done sooner, and nobody needs to know that it was waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// It takes microseconds, on a machine that has time for it.
const END_WAIT: Duration = Duration::from_secs(1);
/// A claim takes milliseconds.
const DIR_WAIT: Duration = Duration::from_secs(5);
const HOLDER_BYTES_MAX: u64 = 100;

/// Held until it is dropped.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    fn of(mut file: File, command: &str) -> Self {
        sign(&mut file, &format!("`{command}` (pid {})", std::process::id()));
        Self { file }
    }

    /// Of whatever one process has at a time, by the file `path`; or who has it.
    pub(super) fn now(path: &Path, who: &str) -> Result<Result<Self, String>, Error> {
        let failed = |error| Error::io("lock", path, &error);
        let mut file = files::open_lock(path).map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            return Ok(Err(holder(path)));
        }
        sign(&mut file, who);
        Ok(Ok(Self { file }))
    }

    /// The lock for a program that goes on when this process is killed: it keeps the next command
    /// waiting until it ends.
    pub(crate) fn stdin(&self) -> std::io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// Gives the lock back and removes its file, and the VM's directory if nothing else is there.
    /// Who waits for the file notices that it is gone and makes a new one.
    pub(crate) fn discard(self, paths: &Paths) -> Result<(), Error> {
        files::remove(&paths.users)?;
        files::remove(&paths.lock)?;
        files::remove_empty_dir(&paths.dir);
        drop(self);
        Ok(())
    }
}

/// Takes the lock of the VM `name` for `command`, in the VM's directory, which is made if it is
/// missing; says for whom it waits, and does so for at most `wait`.
pub(crate) fn lock(
    paths: &Paths,
    name: &str,
    command: &str,
    wait: Duration,
    log: &Log,
) -> Result<Lock, Error> {
    let deadline = Instant::now() + wait;
    loop {
        files::private_dir(&paths.dir)?;
        let file = open(paths)?;
        wait_for_lock(&file, paths, name, deadline, log)?;
        if files::is_at(&file, &paths.lock) {
            return Ok(Lock::of(file, command));
        }
    }
}

/// The same without making anything: `None` when the lock's file is gone, or its directory, which
/// somebody may be removing.
pub(crate) fn lock_if_there(
    paths: &Paths,
    name: &str,
    command: &str,
    wait: Duration,
    log: &Log,
) -> Result<Option<Lock>, Error> {
    let deadline = Instant::now() + wait;
    loop {
        let file = match files::open_existing(&paths.lock) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &paths.lock, &error)),
        };
        wait_for_lock(&file, paths, name, deadline, log)?;
        if files::is_at(&file, &paths.lock) {
            return Ok(Some(Lock::of(file, command)));
        }
    }
}

/// Says that somebody needs the VM, until it is dropped or the process ends. Any number may. It is
/// taken and looked for under the VM's lock.
pub(crate) struct Use {
    _file: File,
}

impl Use {
    pub(crate) fn new(paths: &Paths, _held: &Lock) -> Result<Self, Error> {
        let locked = files::open_lock(&paths.users).and_then(|file| {
            file.lock_shared()?;
            Ok(file)
        });
        let file = locked.map_err(|error| Error::io("lock", &paths.users, &error))?;
        Ok(Self { _file: file })
    }

    /// Whether nobody does. Of a VM that is gone nothing is used, by whomever. A process that is
    /// killed loses one file after the other, and may not have given this one back yet.
    pub(crate) fn is_over(paths: &Paths, _held: &Lock) -> bool {
        let is_over = || match files::open_existing(&paths.users) {
            Ok(file) => try_lock(&file).unwrap_or(false),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        wait::poll(Instant::now() + END_WAIT, || is_over().then_some(())).is_some()
    }
}

/// Locks a directory itself, for moments: so claims that are made in it exclude each other. Who
/// may read it may lock it, too, and must not keep us for ever: then, or where a file system has
/// no locks, it goes without.
pub(crate) fn lock_dir(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    wait::poll(Instant::now() + DIR_WAIT, || match try_lock(&file) {
        Ok(false) => None,
        Ok(true) | Err(_) => Some(()),
    })?;
    Some(file)
}

/// The directory may be removed by a [`Lock::discard`] between its making and here.
fn open(paths: &Paths) -> Result<File, Error> {
    files::open_lock(&paths.lock)
        .or_else(|error| match error.kind() {
            ErrorKind::NotFound if files::private_dir(&paths.dir).is_ok() => {
                files::open_lock(&paths.lock)
            }
            _ => Err(error),
        })
        .map_err(|error| Error::io("create", &paths.lock, &error))
}

fn wait_for_lock(
    file: &File,
    paths: &Paths,
    name: &str,
    deadline: Instant,
    log: &Log,
) -> Result<(), Error> {
    let lock_by = |deadline| {
        let locked = wait::poll(deadline, || match try_lock(file) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        locked.transpose().map_err(|error| Error::io("lock", &paths.lock, &error))
    };
    if lock_by(deadline.min(Instant::now() + PATIENCE))?.is_some() {
        return Ok(());
    }
    log.note(&format!("waiting for {} of VM `{name}` to finish", holder(&paths.lock)));
    lock_by(deadline)?.ok_or_else(|| {
        let message = format!("{} of VM `{name}` did not finish in time", holder(&paths.lock));
        let hint = format!("`qqmgr stop --force {name}` ends the VM all the same");
        Error::new(Kind::TimedOut, message).hint(hint)
    })
}

fn try_lock(file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// For who waits to be told; on a full disk they are told less.
fn sign(file: &mut File, who: &str) {
    let emptied = file.set_len(0).and_then(|()| file.rewind());
    let _ = emptied.and_then(|()| writeln!(file, "{who}"));
}

/// Who has the lock of this file, or had it last, for people.
pub(crate) fn holder(path: &Path) -> String {
    let bytes = files::read_start(path, HOLDER_BYTES_MAX).unwrap_or_default();
    let text = sanitized(String::from_utf8_lossy(&bytes).trim());
    if text.is_empty() { "another command".into() } else { text }
}
