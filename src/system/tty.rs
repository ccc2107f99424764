//! Runs `stty`, which tells the terminal's size, changes the terminal's mode and restores it.

use crate::error::Error;
use crate::log::Log;
use crate::system::guard::Guard;
use crate::system::programs;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;

/// The script of the guard that restores the terminal, which is its standard output.
const RESTORE: &str = "echo ready >&2; read -r end; exec stty \"$1\" <&1";
const READY: &str = "ready";

/// Keeps the terminal on standard input in raw mode: every key is passed on, including Ctrl-C, and
/// none is shown. The previous mode is restored however this process ends; [`Raw::restore`]
/// restores it at once.
pub(crate) struct Raw {
    /// The previous mode as `stty -g` writes it.
    saved: String,
    guard: Guard,
    log: Log,
}

impl Raw {
    pub(crate) fn new(log: &Log) -> Result<Self, Error> {
        let saved = stty(&["-g"], log)?.trim().to_string();
        let argv = ["sh", "-c", RESTORE, "sh", &saved].map(OsString::from);
        let terminal = io::stdin().as_fd().try_clone_to_owned();
        let terminal = terminal.map_err(|error| Error::failed(format!("the terminal: {error}")))?;
        let guard = Guard::new(&argv, READY, Stdio::from(terminal), log)?;
        stty(&["raw", "-echo"], log)?;
        Ok(Self { saved, guard, log: log.clone() })
    }

    pub(crate) fn restore(self) -> Result<(), Error> {
        stty(&[&self.saved], &self.log)?;
        self.guard.disarm();
        Ok(())
    }
}

/// Runs stty(1), which works on the terminal on standard input, and gives its output.
fn stty(arguments: &[&str], log: &Log) -> Result<String, Error> {
    log.verbose(|| format!("exec stty {}", arguments.join(" ")));
    let mut stty = programs::STTY.command();
    stty.args(arguments).stdin(Stdio::inherit());
    let output = stty.answer()?;
    if !output.status.success() {
        return Err(Error::failed(format!("cannot set the terminal: {}", output.said())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rows and columns of the terminal.
pub(crate) fn size(terminal: impl AsFd) -> Option<(usize, usize)> {
    let terminal = terminal.as_fd().try_clone_to_owned().ok()?;
    let mut stty = programs::STTY.command();
    stty.arg("size").stdin(terminal);
    let text = String::from_utf8(stty.answer().ok()?.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    let size = (rows.parse().ok()?, columns.parse().ok()?);
    // Where no size is set, it is 0.
    (size.0 > 0 && size.1 > 0).then_some(size)
}
