//! A VM that is running when it is to be started.

use crate::commands::target::Target;
use crate::error::{Error, Kind};
use crate::vm::{Instance, Look, Process, State, look};
use std::time::{Duration, Instant};

/// A VM that runs: its process, record and state.
pub(super) type Found = (Process, Option<Instance>, State);

/// The VM, if it runs. Waits for a process that is about to end, since it still holds its images.
pub(super) fn running(target: &Target, timeout: Duration) -> Result<Option<Found>, Error> {
    let Target { name, paths, log, .. } = target;
    let look = Look::everywhere(paths)?;
    let Some(process) = look::traced(look.process()?, log) else { return Ok(None) };
    if process.lost && !process.is_ending() {
        return Err(process.is_lost(paths));
    }
    if process.exiting {
        let pid = process.pid;
        log.note(&format!("waiting for the VM's last QEMU (pid {pid}) to end"));
        if process.ends_by(Instant::now() + timeout) {
            return Ok(None);
        }
        let message = format!("the VM's last QEMU (pid {pid}) does not end");
        let hint = format!("`qqmgr stop {name}` ends it");
        return Err(Error::new(Kind::TimedOut, message).hint(hint));
    }
    let (state, _) = State::ask(&look, paths, log)?;
    // A QEMU that got SIGTERM closes its sockets before it removes its pid file and ends.
    let runs = state != State::Stopped && (state != State::Unresponsive || !process.is_ending());
    Ok(runs.then(|| (process.clone(), look.record.clone(), state)))
}
