//! The name of a snapshot.

use crate::error::{Error, Kind};
use crate::text::shell_quoted;
use std::ffi::OsStr;
use std::fmt;

/// The maximum length of a tag: `QEMUSnapshotInfo` of QEMU cuts off longer ones.
const TAG_BYTES_MAX: usize = 255;

/// The name of a snapshot, which QEMU and qemu-img read in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    pub(crate) fn new(text: &OsStr) -> Result<Self, Error> {
        Self::read(text).map_err(|reason| {
            let shown = text.to_string_lossy();
            Error::new(Kind::Usage, format!("`{shown}` is not a valid TAG of a snapshot: {reason}"))
        })
    }

    /// Reads the value of a flag; the error is the reason why it is refused.
    pub(crate) fn read(text: &OsStr) -> Result<Self, String> {
        let tag = text.to_str().ok_or("it is not UTF-8")?;
        let problem = if tag.is_empty() {
            "it is empty"
        } else if tag.len() > TAG_BYTES_MAX {
            "it has more than 255 bytes"
        } else if tag.starts_with('-') {
            "it begins with a dash"
        } else if tag.chars().any(char::is_control) {
            "it has a control character"
        } else if tag.bytes().all(|byte| byte.is_ascii_digit()) {
            "QEMU takes a number for an id"
        } else {
            return Ok(Self(tag.to_string()));
        };
        Err(problem.into())
    }

    /// The default name of a snapshot without a given name.
    pub(super) fn numbered(number: u64) -> Self {
        Self(format!("snapshot-{number}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag, quoted for a shell.
    pub(crate) fn quoted(&self) -> String {
        shell_quoted(OsStr::new(&self.0))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
