//! Runs `ps`, which shows processes where there is no `/proc`.
//!
//! The BSDs and macOS have no `/proc`. On Linux `ps` needs one itself, so without it no process can
//! be seen. BusyBox's form is tried second.

use super::output::Output;
use super::programs;
use crate::error::Error;
use crate::linux::Usage;
use crate::ps::{BUSYBOX_COLUMNS, COLUMNS, Shown, parse, parse_usage};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a process that was shown counts as alive: `ps` at every step would keep a CPU busy.
const SHOWN_FOR: Duration = Duration::from_millis(100);
static LAST_SHOWN: Mutex<Option<(u32, Instant)>> = Mutex::new(None);

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
