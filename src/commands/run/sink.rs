//! The way of a job's output to its readers: standard output or error, where each line has the name
//! of its VM among several, the file of `--logs`, and the document of `--json`.

use crate::commands::logs;
use crate::commands::target::Target;
use crate::commands::vms::are_several;
use crate::error::Error;
use crate::log::Log;
use crate::out::{self, Collected, Reader};
use crate::system::user_files;
use crate::terminal::{ESCAPE, Filter, RESET_COLOURS};
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

/// A longer line is passed on in parts, each as a line.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Takes the bytes of one stream.
pub(super) struct Sink {
    log: Log,
    is_stderr: bool,
    is_shown: bool,
    /// The text in front of each line.
    prefix: Option<String>,
    /// Keeps what could harm it from a terminal.
    filter: Option<Filter>,
    /// The start of a line whose end has not come yet.
    begun: Vec<u8>,
    file: Option<(PathBuf, File)>,
    collected: Option<Collected>,
}

impl Sink {
    /// For the guest's serial output, which is standard output.
    pub(super) fn of_serial(target: &Target) -> Self {
        let filter = out::is_terminal().then(Filter::new);
        Self { filter, ..Self::new(target, false) }
    }

    /// For the standard output of a command, and for its standard error.
    pub(super) fn of_command(target: &Target) -> Result<[Self; 2], Error> {
        let file = |name| {
            let path = logs::dir(target).map(|dir| dir.join(name));
            path.map(|path| user_files::create(&path).map(|file| (path, file))).transpose()
        };
        let collected = || target.args.json().then(Collected::default);
        let (stdout, stderr) = (file(logs::STDOUT)?, file(logs::STDERR)?);
        Ok([
            Self { file: stdout, collected: collected(), ..Self::new(target, false) },
            Self { file: stderr, collected: collected(), ..Self::new(target, true) },
        ])
    }

    /// For the output of `--prepare`, which is not output of the job.
    pub(super) fn of_preparation(target: &Target) -> Self {
        Self { is_shown: true, ..Self::new(target, true) }
    }

    fn new(target: &Target, is_stderr: bool) -> Self {
        let is_terminal =
            if is_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let prefix = are_several(&target.args.operands).then(|| format!("{}: ", target.name));
        Self {
            log: target.log.clone(),
            is_stderr,
            is_shown: !target.args.json(),
            // The colour of one VM must not become that of the others.
            filter: (prefix.is_some() && is_terminal).then(Filter::new),
            prefix,
            begun: Vec::new(),
            file: None,
            collected: None,
        }
    }

    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some((path, file)) = &mut self.file {
            file.write_all(bytes).map_err(|error| Error::io("write", path, &error))?;
        }
        if let Some(collected) = &mut self.collected {
            collected.add(bytes)?;
        }
        if !self.is_shown || bytes.is_empty() {
            return Ok(());
        }
        let passed = self.filter.as_mut().map(|filter| filter.pass(bytes));
        let bytes = passed.as_deref().unwrap_or(bytes);
        if self.prefix.is_none() {
            return self.write(bytes);
        }
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() >= LINE_BYTES_MAX {
                lines.extend(self.line());
            }
        }
        self.write(&lines)
    }

    /// Passes on a line that has no end, and resets the colours of a terminal.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        let rest = match &self.filter {
            _ if !self.begun.is_empty() => self.line(),
            Some(filter) if self.is_shown && self.prefix.is_none() => filter.end_line(),
            _ => Vec::new(),
        };
        self.write(&rest)
    }

    /// The text that was collected for `--json`; invalid UTF-8 has become U+FFFD.
    pub(super) fn text(&self) -> Option<String> {
        self.collected.as_ref().map(Collected::text)
    }

    /// Ends the line that has begun, and gives it with the name of its VM.
    fn line(&mut self) -> Vec<u8> {
        let begun = std::mem::take(&mut self.begun);
        let text = begun.strip_suffix(b"\n").unwrap_or(&begun);
        let is_coloured = self.filter.is_some() && text.contains(&ESCAPE);
        let reset = if is_coloured { RESET_COLOURS } else { b"" };
        [self.prefix.as_deref().unwrap_or_default().as_bytes(), text, reset, b"\n"].concat()
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.prefix.is_some() {
            // A line of progress may be in this place.
            self.log.write("");
        }
        if self.is_stderr {
            // A closed stderr is no reason to stop.
            let _ = io::stderr().write_all(bytes);
        } else if out::write(bytes)? == Reader::Gone {
            return Err(Error::failed("standard output has no reader any more"));
        }
        Ok(())
    }
}
