//! Reads the events of a QEMU as they are written.

use super::Paths;
use super::events::parse;
use super::output::Output;
use crate::error::Error;
use crate::json::Value;

/// The longest line that is parsed. QEMU's longest events are some hundred bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A reader of the events that a QEMU writes from now on.
pub(crate) struct Follow {
    output: Output,
    /// The start of a line that was not complete when it was read.
    rest: Vec<u8>,
}

impl Follow {
    pub(crate) fn open(paths: &Paths) -> Result<Self, Error> {
        let mut output = Output::open(&paths.events_out)?;
        if !output.is_there() {
            let missing = Error::failed(format!("there is no `{}`", paths.events_out.display()));
            return Err(missing.hint("QEMU writes its events there: `restart` begins a new one"));
        }
        output.skip_to_last(0)?;
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
        Ok(Some(parse(&whole).filter(|value| value.get("event").is_some()).collect()))
    }
}
