//! The progress line of a wait, for a person at a terminal.

use crate::log::Log;
use std::time::{Duration, Instant};

/// How often the line is updated.
const INTERVAL: Duration = Duration::from_secs(1);

/// The line, removed when this is dropped.
pub(crate) struct Progress<'a> {
    log: &'a Log,
    begin: Instant,
    next_at: Instant,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(log: &'a Log) -> Self {
        let begin = Instant::now();
        Self { log, begin, next_at: begin }
    }

    /// Updates the line. `what` completes "waiting for", and `said` gives the guest's output, whose
    /// last line is shown.
    pub(crate) fn show(&mut self, what: &str, said: impl FnOnce() -> String) {
        if Instant::now() >= self.next_at {
            self.next_at += INTERVAL;
            let seconds = self.begin.elapsed().as_secs();
            self.log.progress(|| {
                let said = said();
                let last = said.lines().next_back().unwrap_or_default();
                format!("waiting for {what} ({seconds} s) {last}").trim_end().to_string()
            });
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.log.end_progress();
    }
}
