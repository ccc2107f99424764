//! The kinds of error.

/// The kinds of error that scripts can distinguish, by name in JSON and by exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Failed,
    Usage,
    NotRunning,
    TimedOut,
    Config,
    UnknownVm,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        self.facts().0
    }

    pub(crate) fn exit_code(self) -> u8 {
        self.facts().1
    }

    fn facts(self) -> (&'static str, u8) {
        match self {
            Self::Failed => ("failed", 1),
            Self::Usage => ("usage", 2),
            Self::NotRunning => ("not-running", 3),
            Self::TimedOut => ("timed-out", 4),
            Self::Config => ("config", 5),
            Self::UnknownVm => ("unknown-vm", 5),
        }
    }
}
