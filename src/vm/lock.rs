//! The lock of a VM: `start` and `stop` of one VM exclude each other.

use super::{Paths, wait};
use crate::error::{Error, Kind};
use crate::log::Log;
use crate::system::files;
use crate::system::lock::{Lock as FileLock, Mode, try_dir};
use crate::system::run::Invocation;
use crate::text::sanitized;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for the lock: longer than a start or stop takes with the default timeouts.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(120);
/// How long to wait without a message, since most commands finish sooner.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long to wait for the lock of a directory; a claim takes milliseconds.
const DIR_WAIT: Duration = Duration::from_secs(5);

const HOLDER_BYTES_MAX: u64 = 100;

/// The lock of a VM, until it is dropped.
pub(crate) struct Lock {
    file: FileLock,
    pub(super) log: Log,
}

impl Lock {
    fn new(mut file: FileLock, command: &str, log: &Log) -> Self {
        let holder = format!("`{command}` (pid {})", std::process::id());
        file.sign(&holder);
        log.step("lock", || format!("{holder} has the VM"));
        Self { file, log: log.clone() }
    }

    /// See [`FileLock::give_to`].
    pub(crate) fn give_to(&self, command: &mut Invocation) -> Result<(), Error> {
        self.file.give_to(command)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.log.step("unlock", || "other commands may start or stop the VM".into());
    }
}

/// Takes the lock of the VM for `command`, in the VM's directory, which is made if it is missing.
/// Names the holder if there is one, and waits for at most `wait`.
pub(crate) fn lock(paths: &Paths, command: &str, wait: Duration, log: &Log) -> Result<Lock, Error> {
    let make_dir = || files::private_dir(&paths.dir);
    let mut waiting = waiting(paths, wait, log);
    let file = FileLock::take(&paths.lock, Mode::Exclusive, &make_dir, &mut waiting)?;
    Ok(Lock::new(file, command, log))
}

/// Takes the lock of the VM like [`lock`], but makes nothing: `None` when the lock's file or its
/// directory is gone, which another command may be removing.
pub(crate) fn lock_if_there(
    paths: &Paths,
    command: &str,
    wait: Duration,
    log: &Log,
) -> Result<Option<Lock>, Error> {
    let mut waiting = waiting(paths, wait, log);
    let file = FileLock::take_existing(&paths.lock, Mode::Exclusive, &mut waiting)?;
    Ok(file.map(|file| Lock::new(file, command, log)))
}

/// Names the holder after a moment, and ends the wait after `wait`.
fn waiting(paths: &Paths, wait: Duration, log: &Log) -> impl FnMut() -> Option<Error> {
    let (begin, mut has_noted) = (Instant::now(), false);
    move || {
        let name = &paths.name;
        if !has_noted && begin.elapsed() >= PATIENCE.min(wait) {
            has_noted = true;
            log.note(&format!("waiting for {} of VM `{name}` to finish", holder(&paths.lock)));
        }
        (begin.elapsed() >= wait).then(|| {
            let holder = holder(&paths.lock);
            let message = format!("{holder} of VM `{name}` did not finish in time");
            let hint = format!("`qqmgr stop --force {name}` ends the VM all the same");
            Error::new(Kind::TimedOut, message).hint(hint)
        })
    }
}

/// Takes the lock in the file `path` for `who` without waiting, or returns the name of its holder.
pub(super) fn now(path: &Path, who: &str) -> Result<Result<FileLock, String>, Error> {
    let mut is_held = false;
    let mut waiting = || {
        is_held = true;
        Some(Error::failed("another process has the lock"))
    };
    match FileLock::take(path, Mode::Exclusive, &|| Ok(()), &mut waiting) {
        Err(_) if is_held => Ok(Err(holder(path))),
        Err(error) => Err(error),
        Ok(mut lock) => {
            lock.sign(who);
            Ok(Ok(lock))
        }
    }
}

/// Releases the lock and removes its file, and the VM's directory if nothing else is in it. A
/// command that waits for the file notices that it is gone and makes a new one.
pub(crate) fn discard(lock: Lock, paths: &Paths) -> Result<(), Error> {
    files::remove(&paths.users)?;
    files::remove(&paths.lock)?;
    files::remove_empty_dir(&paths.dir);
    drop(lock);
    Ok(())
}

/// Locks a directory itself for a moment, so that claims that are made in it exclude each other.
/// `None` after a while: any user who may read the directory may also lock it, and must not block
/// us for ever. A file system without locks gives an unlocked file.
pub(crate) fn lock_dir(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    wait::poll(Instant::now() + DIR_WAIT, || try_dir(&file).then_some(()))?;
    Some(file)
}

/// The current or last holder of the lock in this file, for messages.
pub(crate) fn holder(path: &Path) -> String {
    let bytes = files::read_start(path, HOLDER_BYTES_MAX).unwrap_or_default();
    let text = sanitized(String::from_utf8_lossy(&bytes).trim());
    if text.is_empty() { "another command".into() } else { text }
}
