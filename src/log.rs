//! Messages on stderr while a command works: with `--verbose` everything that is executed,
//! otherwise only what the command is waiting for.

use crate::colour::{Colour, Stream};
use crate::hint;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};

/// The columns assumed for a terminal of unknown width.
const USUAL_COLUMNS: usize = 80;
/// How the columns of the terminal on stderr are found; see [`measure_by`].
static COLUMNS: OnceLock<fn() -> Option<usize>> = OnceLock::new();
/// Moves the cursor to the start of the line and erases the line (ECMA-48: EL).
const CLEAR_LINE: &str = "\r\x1b[K";

/// The log of one command, passed to all code that starts programs, speaks QMP or waits.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    verbose: bool,
    /// Whether stderr is a terminal, so that a person sees a line of progress.
    live: bool,
    /// The VM that every line is about, when a command acts on several.
    vm: Option<Arc<str>>,
    /// The end of every line of progress.
    remark: &'static str,
}

impl Log {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, live: !verbose && std::io::stderr().is_terminal(), vm: None, remark: "" }
    }

    /// The log of one VM among several. It shows no progress.
    pub(crate) fn of_vm(&self, name: &str) -> Self {
        Self { vm: Some(name.into()), ..*self }
    }

    /// Ends every line of progress with this remark, which the user should read in advance.
    pub(crate) fn with_remark(&self, remark: &'static str) -> Self {
        Self { remark, ..self.clone() }
    }

    /// Writes a line for `--verbose`; `text` is only called when the line is shown.
    pub(crate) fn verbose(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.note(&text());
        }
    }

    /// Writes the line of a step of the life cycle for `--verbose`, after the step: its name, then
    /// its outcome. A test knows all steps, and in which order they may come.
    pub(crate) fn step(&self, name: &str, outcome: impl FnOnce() -> String) {
        self.verbose(|| format!("{name}: {}", outcome()));
    }

    /// Writes a line with or without `--verbose`. A closed stderr is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        let (vm, text) = (self.vm(), hint::complete(text));
        self.write(&format!("qqmgr: {vm}{text}\n"));
    }

    /// Writes a warning.
    pub(crate) fn warning(&self, text: &str) {
        self.note(&format!("{} {text}", Colour::Yellow.paint(Stream::Stderr, "warning:")));
    }

    /// Writes lines as they are.
    pub(crate) fn write(&self, lines: &str) {
        let clear = if self.live { CLEAR_LINE } else { "" };
        let _ = write!(std::io::stderr(), "{clear}{lines}");
    }

    /// The text in front of each message: the VM, when the command acts on several.
    pub(crate) fn vm(&self) -> String {
        self.vm.as_deref().map(|name| format!("{name}: ")).unwrap_or_default()
    }

    /// Writes the progress line of a wait over the last one, only on a terminal.
    /// [`Log::end_progress`] erases it.
    pub(crate) fn progress(&self, text: impl FnOnce() -> String) {
        if self.live && self.vm.is_none() {
            let columns = COLUMNS.get().and_then(|columns| columns()).unwrap_or(USUAL_COLUMNS);
            let line = progress_line(&text(), self.remark, columns);
            let _ = write!(std::io::stderr(), "{CLEAR_LINE}{line}");
        }
    }

    pub(crate) fn end_progress(&self) {
        if self.live && self.vm.is_none() {
            let _ = write!(std::io::stderr(), "{CLEAR_LINE}");
        }
    }
}

/// Makes all lines of progress as wide as the terminal. `columns` is called only for such a line.
pub(crate) fn measure_by(columns: fn() -> Option<usize>) {
    let _ = COLUMNS.set(columns);
}

/// A line of progress that ends with the remark, cut to the columns: one that wraps could not be
/// erased. A character that is not ASCII may take two.
fn progress_line(text: &str, remark: &str, columns: usize) -> String {
    let cut = |text: &str, room: usize| -> String {
        let mut used = 0;
        let fits = |c: &char| {
            used += if c.is_ascii() { 1 } else { 2 };
            used < room
        };
        text.chars().take_while(fits).collect()
    };
    let text = cut(&format!("qqmgr: {text}"), columns.saturating_sub(remark.len()));
    cut(&(text + remark), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_does_not_wrap() {
        assert_eq!(progress_line("waiting", "", 80), "qqmgr: waiting");
        assert_eq!(progress_line("waiting", "; stop", 18), "qqmgr: wait; stop");
        assert_eq!(progress_line("w\u{e9}\u{4e2d}", "", 11), "qqmgr: w\u{e9}");
        assert_eq!(progress_line("waiting", "; Ctrl-C", 6), "; Ctr");
    }
}
