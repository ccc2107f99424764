//! The mark of the `run`s that use a VM.

use super::Paths;
use super::lock::Lock;
use crate::error::Error;
use crate::log::Log;
use crate::system::lock::{Lock as FileLock, Mode};
use std::time::{Duration, Instant};

/// How long a killed process may take to release its files; microseconds unless the machine is
/// busy.
const END_WAIT: Duration = Duration::from_secs(1);

/// Marks the VM as in use, until it is dropped or the process ends. There can be any number of
/// these. They are taken and checked under the VM's lock.
pub(crate) struct Use {
    _mark: FileLock,
    log: Log,
}

impl Use {
    pub(crate) fn new(paths: &Paths, held: &Lock) -> Result<Self, Error> {
        // Only `is_over` has this lock exclusively, and only for a moment.
        let mark = FileLock::take(&paths.users, Mode::Shared, &|| Ok(()), &mut || None)?;
        held.log.step("use", || "the VM is marked as in use".into());
        Ok(Self { _mark: mark, log: held.log.clone() })
    }

    /// Whether the VM is not in use. A VM that is gone is not in use. A process that is killed
    /// closes one file after the other, so this waits a moment for the mark to go.
    pub(crate) fn is_over(paths: &Paths, held: &Lock) -> bool {
        let deadline = Instant::now() + END_WAIT;
        let mut waiting =
            || (Instant::now() >= deadline).then(|| Error::failed("the VM is in use"));
        let is_over = FileLock::take_existing(&paths.users, Mode::Exclusive, &mut waiting).is_ok();
        let users = if is_over { "no" } else { "a" };
        held.log.step("is_over", || format!("{users} `run` uses the VM"));
        is_over
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.log.step("unuse", || "the mark ends".into());
    }
}
