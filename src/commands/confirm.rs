//! Asks a person before a user's data is destroyed. A script is never asked.

use crate::cli::{Args, Flag};
use crate::error::{Error, io_reason};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024;

pub(super) static YES: Flag = Flag::switch("yes", "Do not ask before data is destroyed").short('y');

/// Whether to ask: there is a person at a terminal, and `--yes` was not given.
pub(super) fn is_wanted(args: &Args) -> bool {
    !args.has(&YES) && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks whether to go on. `loss` is a sentence without its full stop that says what is lost. Any
/// answer but yes is an error, and so is the end of input.
pub(super) fn confirm(loss: &str) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::failed(format!("cannot ask for confirmation: {}", io_reason(&error)))
    };
    let mut stderr = io::stderr();
    stderr.write_all(format!("qqmgr: {loss}. Go on? [y/N] ").as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer);
    read.map_err(failed)?;
    if !answer.ends_with(b"\n") {
        stderr.write_all(b"\n").map_err(failed)?;
    }
    if is_yes(&answer) {
        return Ok(());
    }
    Err(Error::failed("nothing was done: the answer was not `y`")
        .hint("with `--yes`, nothing is asked"))
}

pub(super) fn is_yes(answer: &[u8]) -> bool {
    [&b"y"[..], b"yes"].contains(&answer.trim_ascii().to_ascii_lowercase().as_slice())
}
