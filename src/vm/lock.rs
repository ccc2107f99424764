//! TRUSTED CORE: the lock of a VM, and the file that names its holder.
//!
//! `start` and `stop` of one VM exclude each other. The kernel releases the lock when its holder
//! dies, so no stale lock ever has to be removed by hand.

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

/// How long to wait for the lock: longer than a start or stop takes with the default timeouts.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(120);
/// How long to wait without a message, since most commands finish sooner.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a killed process may take to release its files; microseconds unless the machine is
/// busy.
const END_WAIT: Duration = Duration::from_secs(1);
/// How long to wait for the lock of a directory; a claim takes milliseconds.
const DIR_WAIT: Duration = Duration::from_secs(5);
const HOLDER_BYTES_MAX: u64 = 100;

/// A lock that is held until it is dropped.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    fn of(mut file: File, command: &str) -> Self {
        sign(&mut file, &format!("`{command}` (pid {})", std::process::id()));
        Self { file }
    }

    /// Takes the lock in the file `path` without waiting, or returns the name of its holder.
    pub(super) fn now(path: &Path, who: &str) -> Result<Result<Self, String>, Error> {
        let failed = |error| Error::io("lock", path, &error);
        let mut file = files::open_lock(path).map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            return Ok(Err(holder(path)));
        }
        sign(&mut file, who);
        Ok(Ok(Self { file }))
    }

    /// The lock as the stdin of a program that continues when this process is killed: it keeps the
    /// next command waiting until that program ends.
    pub(crate) fn stdin(&self) -> std::io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// Releases the lock and removes its file, and the VM's directory if nothing else is in it. A
    /// command that waits for the file notices that it is gone and makes a new one.
    pub(crate) fn discard(self, paths: &Paths) -> Result<(), Error> {
        files::remove(&paths.users)?;
        files::remove(&paths.lock)?;
        files::remove_empty_dir(&paths.dir);
        drop(self);
        Ok(())
    }
}

/// Takes the lock of the VM `name` for `command`, in the VM's directory, which is made if it is
/// missing. Names the holder if there is one, and waits for at most `wait`.
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

/// Takes the lock of the VM like [`lock`], but makes nothing: `None` when the lock's file or its
/// directory is gone, which another command may be removing.
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

/// Marks the VM as in use, until it is dropped or the process ends. There can be any number of
/// these. They are taken and checked under the VM's lock.
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

    /// Whether the VM is not in use. A VM that is gone is not in use. A process that is killed
    /// closes one file after the other, so this waits a moment for the mark to go.
    pub(crate) fn is_over(paths: &Paths, _held: &Lock) -> bool {
        let is_over = || match files::open_existing(&paths.users) {
            Ok(file) => try_lock(&file).unwrap_or(false),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        wait::poll(Instant::now() + END_WAIT, || is_over().then_some(())).is_some()
    }
}

/// Locks a directory itself for a moment, so that claims that are made in it exclude each other.
/// Any user who may read the directory may also lock it, and must not block us for ever. So `None`
/// after a while; a file system without locks gives an unlocked file.
pub(crate) fn lock_dir(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    wait::poll(Instant::now() + DIR_WAIT, || match try_lock(&file) {
        Ok(false) => None,
        Ok(true) | Err(_) => Some(()),
    })?;
    Some(file)
}

/// Opens the lock's file. The directory is made again if a [`Lock::discard`] has just removed it.
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

/// Writes the holder into the lock's file, for the messages of commands that wait. On a full disk
/// the messages have less detail.
fn sign(file: &mut File, who: &str) {
    let emptied = file.set_len(0).and_then(|()| file.rewind());
    let _ = emptied.and_then(|()| writeln!(file, "{who}"));
}

/// The current or last holder of the lock in this file, for messages.
pub(crate) fn holder(path: &Path) -> String {
    let bytes = files::read_start(path, HOLDER_BYTES_MAX).unwrap_or_default();
    let text = sanitized(String::from_utf8_lossy(&bytes).trim());
    if text.is_empty() { "another command".into() } else { text }
}
