//! What a command says on stderr while it works: with `--verbose` everything that is executed,
//! otherwise only that, and for what, it waits.

use std::io::Write as _;

/// Copied to whatever starts programs or speaks QMP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    pub(crate) verbose: bool,
}

impl Log {
    /// A line for `--verbose`; `text` is only made when it is shown.
    pub(crate) fn verbose(self, text: impl FnOnce() -> String) {
        if self.verbose {
            note(&text());
        }
    }
}

/// A line for everybody. A closed stderr is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "qqmgr: {text}");
}
