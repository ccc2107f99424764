//! Reads the events of a QEMU as they are written.

use super::Paths;
use super::events::{is, parse};
use super::output::Output;
use crate::error::Error;
use crate::json::Value;

/// The longest line that is parsed. QEMU's longest events are some hundred bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The part of the log that is searched for the end of a job. It holds a hundred thousand resets of
/// the guest after the job.
const JOB_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A reader of the events that a QEMU writes from now on.
pub(crate) struct Follow {
    output: Output,
    /// The start of a line that was not complete when it was read.
    rest: Vec<u8>,
}

impl Follow {
    pub(crate) fn open(paths: &Paths) -> Result<Self, Error> {
        Self::open_at(paths, 0)
    }

    /// Begins `back` bytes before the end of the log.
    fn open_at(paths: &Paths, back: u64) -> Result<Self, Error> {
        let mut output = Output::open(&paths.events_out)?;
        if !output.is_there() {
            let missing = Error::failed(format!("there is no `{}`", paths.events_out.display()));
            return Err(missing.hint("QEMU writes its events there: `restart` begins a new one"));
        }
        output.skip_to_end(back)?;
        Ok(Self { output, rest: Vec::new() })
    }

    /// The events in the next piece of the log; `None` when there is no more for now.
    pub(crate) fn news(&mut self) -> Result<Option<Vec<Value>>, Error> {
        let piece = self.output.piece()?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.rest.extend_from_slice(&piece);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.rest.split_off(end);
        let whole = std::mem::replace(&mut self.rest, rest);
        if self.rest.len() > LINE_BYTES_MAX {
            // The rest of that line is not JSON and is ignored.
            self.rest = Vec::new();
        }
        let mut news = parse(&whole);
        news.retain(|value| value.get("event").is_some());
        Ok(Some(news))
    }
}

/// Whether the VM's last QEMU has ended a job, with or without success. Only the last
/// [`JOB_BYTES_MAX`] of the log are searched.
pub(crate) fn has_concluded(paths: &Paths, job: &str) -> bool {
    let Ok(mut follow) = Follow::open_at(paths, JOB_BYTES_MAX) else { return false };
    while let Ok(Some(news)) = follow.news() {
        let has = |event: &Value| {
            let datum = |name| event.get("data").and_then(|data| data.text(name));
            is(event, &["JOB_STATUS_CHANGE"])
                && datum("id") == Some(job)
                && datum("status") == Some("concluded")
        };
        if news.iter().any(has) {
            return true;
        }
    }
    false
}
