//! The right to begin a shared connection of one directory.

use crate::system::lock::try_dir;
use std::fs::File;
use std::path::Path;

/// One process at a time has it, and it is released when this is dropped.
pub(crate) struct Turn(Option<File>);

impl Turn {
    /// Prepares the turn for this directory without taking it.
    pub(crate) fn of(dir: &Path) -> Self {
        Self(File::open(dir).ok())
    }

    /// Tries to take the turn and says whether that worked. On a file system without locks it
    /// always works.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.as_ref().is_none_or(try_dir)
    }
}
