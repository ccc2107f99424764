//! An action on a snapshot: it is saved, loaded or deleted.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Save,
    Load,
    Delete,
}

/// How an action is called: by its name, while it is in progress, when it is done, and as an option
/// of `qemu-img snapshot`.
pub(crate) struct Words {
    pub(crate) name: &'static str,
    pub(super) doing: &'static str,
    pub(crate) done: &'static str,
    pub(super) option: &'static str,
}

impl Act {
    pub(crate) fn words(self) -> Words {
        match self {
            Self::Save => Words { name: "save", doing: "saving", done: "saved", option: "-c" },
            Self::Load => Words { name: "load", doing: "loading", done: "loaded", option: "-a" },
            Self::Delete => {
                Words { name: "delete", doing: "deleting", done: "deleted", option: "-d" }
            }
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Save, Self::Load, Self::Delete].into_iter().find(|act| act.words().name == name)
    }
}
