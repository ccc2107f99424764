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
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotRunning => "not-running",
            Self::TimedOut => "timed-out",
            Self::Config => "config",
            Self::UnknownVm => "unknown-vm",
        }
    }

    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::TimedOut => 4,
            Self::Config | Self::UnknownVm => 5,
        }
    }
}
