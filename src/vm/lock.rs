//! `start` and `stop` of one VM exclude each other. The kernel gives the lock back when its holder
//! dies, so that none is ever left to be removed by hand.

use super::{Paths, wait};
use crate::error::{Error, Kind};
use crate::files;
use crate::log::note;
use crate::text::sanitized;
use std::fs::{File, TryLockError};
use std::io::{Seek as _, Write as _};
use std::time::{Duration, Instant};

/// Longer than a start or stop takes with the timeouts that they have by default.
const LOCK_WAIT: Duration = Duration::from_secs(120);
const HOLDER_BYTES_MAX: u64 = 100;

/// Held until it is dropped.
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock of the VM `name` for `command`; says for whom it waits.
pub(crate) fn lock(paths: &Paths, name: &str, command: &str) -> Result<Lock, Error> {
    let failed = |error| Error::io("lock", &paths.lock, &error);
    let mut file = files::open_lock(&paths.lock).map_err(failed)?;
    if !try_lock(&file).map_err(failed)? {
        let holder = holder(paths);
        note(&format!("waiting for {holder} of VM `{name}` to finish"));
        let deadline = Instant::now() + LOCK_WAIT;
        let locked = wait::poll(deadline, || match try_lock(&file) {
            Ok(false) => None,
            result => Some(result),
        });
        locked.transpose().map_err(failed)?.ok_or_else(|| {
            let seconds = LOCK_WAIT.as_secs();
            let message = format!("{holder} of VM `{name}` did not finish within {seconds} s");
            Error::new(Kind::TimedOut, message)
        })?;
    }
    let holder = format!("`{command}` (pid {})\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(|error| Error::io("write", &paths.lock, &error))?;
    Ok(Lock { _file: file })
}

fn try_lock(file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn holder(paths: &Paths) -> String {
    let bytes = files::read_start(&paths.lock, HOLDER_BYTES_MAX).unwrap_or_default();
    let text = sanitized(String::from_utf8_lossy(&bytes).trim());
    if text.is_empty() { "another command".into() } else { text }
}
