//! Looks at processes and signals them.
//!
//! A pid alone identifies no process, because the system reuses it later. Pid and start together
//! identify one process for as long as the machine runs.
//!
//! The BSDs and macOS have no `/proc`: `ps` shows processes there. On Linux `ps` needs one itself,
//! so without it no process can be seen. BusyBox's form is tried second.

use super::output::Output;
use super::programs;
use crate::error::Error;
use crate::linux::{self, PROC, Usage};
use crate::ps::{BUSYBOX_COLUMNS, COLUMNS, Shown, parse, parse_usage};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a process that was shown counts as alive: `ps` at every step would keep a CPU busy.
const SHOWN_FOR: Duration = Duration::from_millis(100);
static LAST_SHOWN: Mutex<Option<(u32, Instant)>> = Mutex::new(None);

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
        let shown = processes(Some(pid))?;
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

/// Whether the process was shown a moment ago.
pub(crate) fn has_shown(pid: u32) -> bool {
    let last = LAST_SHOWN.lock().ok().and_then(|last| *last);
    last.is_some_and(|(shown, at)| shown == pid && at.elapsed() < SHOWN_FOR)
}

/// The process of this pid, if it exists, and possibly others; without a pid, all processes.
pub(crate) fn processes(pid: Option<u32>) -> Result<Vec<Shown>, Error> {
    let pid_text = pid.map(|pid| pid.to_string());
    let selection = pid_text.as_deref().map_or(vec!["-A"], |pid| vec!["-p", pid]);
    let output = run(&[COLUMNS, &selection].concat())?;
    // A `ps` that finds no process fails and prints nothing.
    let is_full = output.status.success() || output.stderr.is_empty();
    let output = if is_full { output } else { run(BUSYBOX_COLUMNS)? };
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let shown: Vec<Shown> = lines.filter_map(|line| parse(line, is_full)).collect();
    if let (Some(pid), Ok(mut last)) = (pid, LAST_SHOWN.lock()) {
        let is_there = shown.iter().any(|process| process.pid == pid && process.state != 'Z');
        *last = is_there.then(|| (pid, Instant::now()));
    }
    Ok(shown)
}

/// The CPU time and memory of a process. POSIX has no `rss`, and BusyBox has no `time`.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let output = run(&["-o", "time=", "-o", "rss=", "-p", &pid.to_string()]).ok()?;
    parse_usage(str::from_utf8(&output.stdout).ok()?)
}

fn run(arguments: &[&str]) -> Result<Output, Error> {
    let mut ps = programs::PS.command();
    // Text that is not ASCII is shown unchanged, and lines are as long as BusyBox allows.
    ps.args(arguments).env("LC_ALL", "C.UTF-8").env("COLUMNS", "9999").env("TZ", "UTC0");
    ps.answer()
}

/// The output of `id` with this option. It asks the host's user database, which may be a server.
pub(crate) fn id(option: &str) -> Result<String, Error> {
    let mut id = programs::ID.command();
    id.arg(option);
    let output = id.answer()?;
    if !output.status.success() {
        return Err(Error::failed(format!("`id {option}` failed: {}", output.said())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// The effective user of this process, who owns the files that it creates.
pub(crate) fn user_id() -> Result<u32, Error> {
    if let Some(user) = linux::user_id() {
        return Ok(user);
    }
    let no_number = |_| Error::failed("cannot tell the user: `id -u` gives no number");
    id("-u")?.parse().map_err(no_number)
}
