//! What a copy leaves out, and why. Pure.

use std::path::{Path, PathBuf};

/// Names shown in one message.
const SHOWN_MAX: usize = 20;

/// A name that a copy left out.
#[derive(Debug)]
pub(crate) struct LeftOut {
    /// Begins with the name of the source.
    name: PathBuf,
    /// What it is, or what is wrong with it.
    why: String,
}

impl LeftOut {
    pub(crate) fn new(name: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { name: name.into(), why: why.into() }
    }

    /// Names it without this directory in front.
    pub(crate) fn inside(mut self, dir: &Path) -> Self {
        if let Ok(name) = self.name.strip_prefix(dir) {
            self.name = Path::new(".").join(name);
        }
        self
    }
}

/// What a message says of them all.
pub(crate) fn message(left: &[LeftOut]) -> String {
    let shown = left.iter().take(SHOWN_MAX);
    let mut shown: Vec<String> = shown
        .map(|left| {
            let name = left.name.to_string_lossy().replace(char::is_control, "?");
            format!("`{name}` ({})", left.why)
        })
        .collect();
    if left.len() > SHOWN_MAX {
        shown.push(format!("and {} more", left.len() - SHOWN_MAX));
    }
    format!("left out of the copy: {}", shown.join(", "))
}
