//! Files that a copy left out, and the reasons. Pure.

use std::path::{Path, PathBuf};

/// The number of names shown in one message.
const SHOWN_MAX: usize = 20;

/// A name that a copy left out.
#[derive(Debug)]
pub(crate) struct LeftOut {
    /// The path, which begins with the name of the source.
    name: PathBuf,
    /// The kind of file, or what is wrong with it.
    why: String,
}

impl LeftOut {
    pub(crate) fn new(name: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { name: name.into(), why: why.into() }
    }

    /// Removes this directory from the front of the name.
    pub(crate) fn inside(mut self, dir: &Path) -> Self {
        if let Ok(name) = self.name.strip_prefix(dir) {
            self.name = Path::new(".").join(name);
        }
        self
    }
}

/// The message that lists the names that were left out.
pub(crate) fn message(left: &[LeftOut]) -> String {
    let name = |left: &LeftOut| left.name.to_string_lossy().replace(char::is_control, "?");
    let shown = left.iter().map(|left| format!("`{}` ({})", name(left), left.why));
    let mut shown: Vec<String> = shown.take(SHOWN_MAX).collect();
    if left.len() > SHOWN_MAX {
        shown.push(format!("and {} more", left.len() - SHOWN_MAX));
    }
    format!("left out of the copy: {}", shown.join(", "))
}
