//! Looks at processes and signals them.
//!
//! A pid alone identifies no process, because the system reuses it later. Pid and start together
//! identify one process for as long as the machine runs.

use super::output::Output;
use super::ps;
use crate::error::Error;
use crate::linux::{self, PROC};
use crate::ps::Shown;
use crate::system::programs;
use std::io;
use std::path::Path;

/// A live process as the system shows it.
pub(crate) struct Seen {
    pub(crate) pid: u32,
    /// Whether it is stopped by a signal or a debugger.
    pub(crate) frozen: bool,
    /// When it started: in ticks since the machine's start where there is a `/proc`, as a date in
    /// UTC elsewhere, and `None` where `ps` does not show it.
    pub(crate) start: Option<String>,
    /// The output of `ps` for it, where there is no `/proc`.
    pub(crate) shown: Option<Shown>,
}

/// The process `pid` as it is now. `None` proves that there is none, or that it has ended and its
/// parent has not waited for it. A process that cannot be looked at is an error.
pub(crate) fn see(pid: u32) -> Result<Option<Seen>, Error> {
    let (state, start, shown) = if linux::is_there() {
        let Some(stat) = linux::stat(pid).map_err(|error| unseen(&error))? else { return Ok(None) };
        (stat.state, stat.start_ticks.map(|ticks| ticks.to_string()), None)
    } else {
        let shown = ps::processes(Some(pid))?;
        let Some(shown) = shown.into_iter().find(|shown| shown.pid == pid) else {
            return Ok(None);
        };
        (shown.state, shown.start.clone(), Some(shown))
    };
    let frozen = matches!(state, 'T' | 't');
    Ok((!matches!(state, 'Z' | 'X' | 'x')).then_some(Seen { pid, frozen, start, shown }))
}

/// The error when the system does not show processes.
pub(crate) fn unseen(error: &io::Error) -> Error {
    Error::io("look at processes in", Path::new(PROC), error)
}

/// Whether two records name the same start. `None` where they cannot be compared: one is unknown,
/// or one comes from `/proc` and the other from `ps`.
pub(crate) fn same_start(one: Option<&str>, other: Option<&str>) -> Option<bool> {
    let is_ticks = |start: &str| start.bytes().all(|byte| byte.is_ascii_digit());
    let (one, other) = (one?, other?);
    (is_ticks(one) == is_ticks(other)).then_some(one == other)
}

/// Sends the signal of this name to the process, or to the process group that it leads. The caller
/// has just verified which process has the pid.
pub(crate) fn signal(pid: u32, to_group: bool, name: &str) -> Result<Output, Error> {
    let target = if to_group { format!("-{pid}") } else { pid.to_string() };
    // `kill` is a builtin of every sh; slim images have no program of that name. dash, bash and
    // BusyBox all take a process group in this form.
    let mut kill = programs::SH.command();
    kill.args(["-c", "kill \"-$1\" \"$2\"", "sh", name, &target]);
    kill.answer()
}
