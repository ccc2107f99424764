//! Standard output, which gets a command's result at once or piece by piece.

use crate::error::{self, Error};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

/// Whether standard output still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    /// The reader has closed its end, and more output is pointless.
    Gone,
}

/// Whether standard output is a terminal, which obeys control sequences.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Output that is collected, up to a limit, for `--json` to show as one string.
#[derive(Default)]
pub(crate) struct Collected(Vec<u8>);

impl Collected {
    const BYTES_MAX: usize = 64 * 1024 * 1024;

    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(bytes);
        if self.0.len() <= Self::BYTES_MAX {
            return Ok(());
        }
        Err(Error::failed(format!("there is more output than {} MiB", Self::BYTES_MAX >> 20)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// Writes all bytes to standard output and flushes it. A reader that has gone away is no error.
pub(crate) fn write(bytes: &[u8]) -> Result<Reader, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => {
            let reason = error::io_reason(&error);
            Err(Error::failed(format!("cannot write to standard output: {reason}")))
        }
    }
}
