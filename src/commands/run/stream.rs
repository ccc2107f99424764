//! The serial output of a guest on its way to standard output, and the texts that are sought in it.

use super::flags::{FAIL_ON, UNTIL};
use super::sink::Sink;
use crate::commands::target::Target;
use crate::error::Error;
use crate::ssh::Limits;
use crate::vm::output::Output;
use crate::vm::sought::{Found, Sought};
use crate::vm::{Process, wait};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

/// How much of the serial output `--json` shows.
const TAIL_BYTES_MAX: usize = 1 << 20;
/// Pieces of the output that are passed on before anything else is looked at.
const PIECES_MAX: usize = 16;
/// More output follows a failure on the serial line, such as the call trace after a panic. It is
/// over after this much silence, and at the latest after this long.
const SILENCE: Duration = Duration::from_secs(1);
const LAST_WORDS_WAIT: Duration = Duration::from_secs(10);
/// How much of a line a message shows.
const SHOWN_CHARS_MAX: usize = 200;

/// The serial output. With `--json` it is not shown.
pub(super) struct Stream {
    output: Output,
    pub(super) sought: Sought,
    pub(super) sink: Sink,
    /// The end of the output.
    tail: Vec<u8>,
}

/// The result of a look at the output.
pub(super) enum Passed {
    Found(Found),
    /// There may be more.
    Some,
    Nothing,
}

impl Stream {
    pub(super) fn new(target: &Target) -> Result<Self, Error> {
        let args = target.args;
        let until = args.value(&UNTIL).map(OsStringExt::into_vec);
        let failures = args.all(&FAIL_ON).into_iter().map(OsStringExt::into_vec).collect();
        Ok(Self {
            output: Output::open(&target.paths.serial)?,
            sought: Sought::new(until, failures),
            sink: Sink::of_serial(target),
            tail: Vec::new(),
        })
    }

    /// Passes on what has been added, up to the first text that is found.
    pub(super) fn pass_on(&mut self) -> Result<Passed, Error> {
        for count in 0..PIECES_MAX {
            let piece = self.output.piece()?;
            if piece.is_empty() {
                return Ok(if count == 0 { Passed::Nothing } else { Passed::Some });
            }
            self.tail.extend_from_slice(&piece);
            self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES_MAX));
            self.sink.pass(&piece)?;
            if let Some(found) = self.sought.found_in(&piece) {
                return Ok(Passed::Found(found));
            }
        }
        Ok(Passed::Some)
    }

    /// Passes on what follows a failure, until QEMU has ended or nothing comes any more.
    pub(super) fn pass_last_words_on(
        &mut self,
        process: &Process,
        limits: &Limits,
    ) -> Result<(), Error> {
        let until = Instant::now() + limits.left(LAST_WORDS_WAIT);
        let mut heard_at = Instant::now();
        let passed = wait::poll_long(Some(until), || {
            let alive = process.is_alive();
            match self.pass_on() {
                Err(error) => return Some(Err(error)),
                Ok(Passed::Nothing) => {}
                Ok(Passed::Some | Passed::Found(_)) => {
                    heard_at = Instant::now();
                    return None;
                }
            }
            (!alive || heard_at.elapsed() >= SILENCE).then_some(Ok(()))
        });
        passed.unwrap_or(Ok(()))
    }

    /// The end of the output; invalid UTF-8 has become U+FFFD.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    /// The text from the last place where `start` is to the end of that line.
    pub(super) fn last_line_with(&self, start: &str) -> String {
        let text = self.text();
        let line = text.rfind(start).and_then(|at| text[at..].lines().next());
        line.unwrap_or(start).chars().take(SHOWN_CHARS_MAX).collect()
    }
}
