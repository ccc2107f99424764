//! Locks of images and of fetched files: any number of commands may use one, or a single one may
//! change it.
//!
//! Every program that changes something also gets the lock, as its standard input: if it outlives
//! this process, it keeps the next command from working on the same file until it ends.

use crate::error::Error;
use crate::log::Log;
pub(crate) use crate::system::lock::Lock as Held;
use crate::system::lock::{Lock, Missing, Mode};
use std::io::ErrorKind;
use std::path::Path;

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
    let mut has_noted = false;
    let mut waiting = || {
        if !std::mem::replace(&mut has_noted, true) {
            log.note(&format!("waiting for another command that has {what}"));
        }
        exceeded()
    };
    let mode = if how == For::Use { Mode::Shared } else { Mode::Exclusive };
    let lock = Lock::take(path, mode, Missing::Made(make_dir), &mut waiting)?;
    lock.ok_or_else(|| Error::io("lock", path, &ErrorKind::NotFound.into()))
}
