//! An action on a snapshot: it is saved, loaded or deleted.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Save,
    Load,
    Delete,
}

impl Act {
    const ALL: [Self; 3] = [Self::Save, Self::Load, Self::Delete];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Load => "load",
            Self::Delete => "delete",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.name() == name)
    }

    /// The word for messages while it is in progress.
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::Save => "saving",
            Self::Load => "loading",
            Self::Delete => "deleting",
        }
    }

    /// The word for messages when it is done.
    pub(crate) fn done(self) -> &'static str {
        match self {
            Self::Save => "saved",
            Self::Load => "loaded",
            Self::Delete => "deleted",
        }
    }

    /// The option of `qemu-img snapshot`.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Save => "-c",
            Self::Load => "-a",
            Self::Delete => "-d",
        }
    }
}
