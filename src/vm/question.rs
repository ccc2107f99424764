//! Runs `ssh` again and again to see whether a guest's server answers through `ProxyCommand` or
//! `ProxyJump`.

use crate::error::Error;
use crate::log::Log;
use crate::system::output::Output;
use crate::system::run::Invocation;
use crate::system::running::Running;
use crate::text::sanitized;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The message of OpenSSH's `-v` once the server has introduced itself.
const ANSWERED: &str = "Remote protocol version ";
/// The prefix of the messages that `-v` adds to ssh's own.
const VERBOSE: &str = "debug1: ";
/// The timeout of ssh as a part of the time since the start. It is limited because a connection
/// that the guest missed is lost.
const PATIENCE_PART: f64 = 0.6;
const PATIENCE_SECONDS: (u64, u64) = (2, 12);
const PAUSE: Duration = Duration::from_millis(500);

/// The search for an answer of one server. Dropping it ends the `ssh` that is still asking.
pub(super) struct Questions<F> {
    /// Makes the command that asks the server, from its timeout in seconds.
    command: F,
    log: Log,
    running: Option<Running>,
    begin: Instant,
    next_at: Instant,
    trouble: Option<String>,
}

impl<F: Fn(u64) -> Invocation> Questions<F> {
    pub(super) fn new(command: F, log: &Log) -> Self {
        let begin = Instant::now();
        Self { command, log: log.clone(), running: None, begin, next_at: begin, trouble: None }
    }

    /// Whether the server has introduced itself; asks again when it is time to.
    pub(super) fn has_answered(&mut self) -> bool {
        let ended = match &mut self.running {
            Some(running) => running.wait(Duration::ZERO).transpose(),
            None if Instant::now() >= self.next_at => self.ask().err().map(Err),
            None => None,
        };
        let Some(ended) = ended else { return false };
        self.running = None;
        self.next_at = Instant::now() + PAUSE;
        match ended {
            Ok(output) => self.heard(&output),
            Err(error) => {
                self.trouble = Some(error.message().to_string());
                false
            }
        }
    }

    /// The last error message of ssh.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn ask(&mut self) -> Result<(), Error> {
        let (least, most) = PATIENCE_SECONDS;
        let patience = self.begin.elapsed().mul_f64(PATIENCE_PART).as_secs().clamp(least, most);
        let mut command = (self.command)(patience);
        command.stdout(Stdio::piped());
        self.running = Some(command.in_background(&self.log)?);
        Ok(())
    }

    fn heard(&mut self, output: &Output) -> bool {
        let said = String::from_utf8_lossy(&output.stderr);
        let mut lines = said.lines().rev().map(str::trim);
        let last = lines.find(|line| !line.is_empty() && !line.starts_with(VERBOSE));
        self.trouble = last.map(|line| format!("`ssh` says: {}", sanitized(line)));
        said.contains(ANSWERED)
    }
}
