//! Messages on stderr while a command works: with `--verbose` everything that is executed,
//! otherwise only that the command waits, and for what.

use crate::hint;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

/// So that the line of progress does not wrap, which could not be taken back.
const PROGRESS_CHARS_MAX: usize = 70;
/// To the line's start, and what stands there away (ECMA-48: EL).
const CLEAR_LINE: &str = "\r\x1b[K";

/// Given to whatever starts programs, speaks QMP or waits.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    verbose: bool,
    /// Whether a person looks on, who gets a line of progress.
    live: bool,
    /// The VM that every line is about, when a command acts on several.
    vm: Option<Arc<str>>,
    /// What every line of progress ends with.
    remark: &'static str,
}

impl Log {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, live: !verbose && std::io::stderr().is_terminal(), vm: None, remark: "" }
    }

    /// The log of one VM among several, whose progress nobody wants to read.
    pub(crate) fn of_vm(&self, name: &str) -> Self {
        Self { vm: Some(name.into()), ..*self }
    }

    /// Ends every line of progress with this, which a person should know before it matters.
    pub(crate) fn with_remark(&self, remark: &'static str) -> Self {
        Self { remark, ..self.clone() }
    }

    /// A line for `--verbose`; `text` is only made when it is shown.
    pub(crate) fn verbose(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.note(&text());
        }
    }

    /// A line for everybody. A closed stderr is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        let vm = self.vm.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
        let clear = if self.live { CLEAR_LINE } else { "" };
        let text = hint::complete(text);
        let _ = writeln!(std::io::stderr(), "{clear}qqmgr: {vm}{text}");
    }

    /// The line of progress of a wait, in the place of the last one; only on a terminal.
    /// [`Log::end_progress`] takes it away.
    pub(crate) fn progress(&self, text: impl FnOnce() -> String) {
        if self.live && self.vm.is_none() {
            let room = PROGRESS_CHARS_MAX.saturating_sub(self.remark.len());
            let shown: String = text().chars().take(room).collect();
            let _ = write!(std::io::stderr(), "{CLEAR_LINE}qqmgr: {shown}{}", self.remark);
        }
    }

    pub(crate) fn end_progress(&self) {
        if self.live && self.vm.is_none() {
            let _ = write!(std::io::stderr(), "{CLEAR_LINE}");
        }
    }
}
