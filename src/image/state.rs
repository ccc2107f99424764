//! The state of an image in one word.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Missing,
    /// There is a disk, and something that belongs to it is missing.
    Incomplete,
    Changed,
    Built,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Incomplete => "incomplete",
            Self::Changed => "changed",
            Self::Built => "built",
        }
    }
}
