//! Runs the programs that fetch, verify and make images, with the lock of what they work on.

use super::hold::Held;
use crate::error::Error;
use crate::log::Log;
use crate::system::run::{Exceeded, Invocation};
use crate::text::sanitized;
use std::process::ExitStatus;

/// The limit for each of a program's two output streams.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// How a program ended, and its output.
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Said {
    /// The line that says why it failed, or how it ended. curl may draw a `^` below its message.
    pub(super) fn reason(&self) -> String {
        let mut lines = self.stderr.lines().map(str::trim);
        let of_curl = lines.clone().find(|line| line.starts_with("curl: ("));
        let last = || lines.rfind(|line| line.contains(char::is_alphanumeric));
        match of_curl.or_else(last) {
            Some(line) => sanitized(line),
            None => self.status.to_string(),
        }
    }

    /// Returns an error unless it succeeded. `what` begins the message, as in "cannot make it".
    pub(super) fn check(self, what: &str) -> Result<Self, Error> {
        if self.status.success() {
            return Ok(self);
        }
        Err(Error::failed(format!("{what}: {}", self.reason())))
    }
}

/// Runs a program to its end, or until `exceeded` returns an error, which ends the program. With
/// `held`, its standard input is the lock; otherwise it is what `command` sets.
pub(super) fn run(
    mut command: Invocation,
    held: Option<&Held>,
    exceeded: Exceeded,
    log: &Log,
) -> Result<Said, Error> {
    if let Some(held) = held {
        let stdin = held.stdin().map_err(|error| command.failed(&error))?;
        command.stdin(stdin);
    }
    let output = command.captured(OUTPUT_BYTES_MAX, exceeded, log)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Said { status: output.status, stdout: output.stdout, stderr })
}
