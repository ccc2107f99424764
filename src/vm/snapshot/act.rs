//! An action on a snapshot: it is saved, loaded or deleted.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Save,
    Load,
    Delete,
}

impl Act {
    /// Its name, the words for it while it is in progress and when it is done, and the option of
    /// `qemu-img snapshot`.
    fn words(self) -> [&'static str; 4] {
        match self {
            Self::Save => ["save", "saving", "saved", "-c"],
            Self::Load => ["load", "loading", "loaded", "-a"],
            Self::Delete => ["delete", "deleting", "deleted", "-d"],
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Save, Self::Load, Self::Delete].into_iter().find(|act| act.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        self.words()[0]
    }

    pub(super) fn doing(self) -> &'static str {
        self.words()[1]
    }

    pub(crate) fn done(self) -> &'static str {
        self.words()[2]
    }

    pub(super) fn option(self) -> &'static str {
        self.words()[3]
    }
}
