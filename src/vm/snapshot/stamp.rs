//! The size and time of a file, by which a later change is noticed.

use crate::json::Value;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) path: PathBuf,
    bytes: u64,
    /// The time of the last change: seconds since 1970 and nanoseconds.
    modified: (u64, u64),
    /// Tells a file from one that has replaced it. In a copied project, it is another one.
    pub(super) inode: Option<u64>,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.bytes, self.modified) == (&other.path, other.bytes, other.modified)
    }
}

impl Stamp {
    /// The stamp of a file as it is now. `None` if it is not a regular file: the time of a device
    /// says nothing about its content.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let modified = (metadata.mtime().try_into().ok()?, metadata.mtime_nsec().try_into().ok()?);
        let (path, inode) = (path.to_path_buf(), Some(metadata.ino()));
        Some(Self { path, bytes: metadata.len(), modified, inode })
    }

    /// A stamp that no file has.
    pub(super) fn outdated(self) -> Self {
        Self { modified: (0, 0), ..self }
    }

    /// When the file was changed, in seconds since 1970.
    pub(crate) fn modified_at(&self) -> u64 {
        self.modified.0
    }

    /// The stamp of a file that is named from `base` if it is below that directory.
    pub(super) fn json(&self, base: &Path) -> Value {
        Value::object([
            ("path", Value::from(self.path.strip_prefix(base).unwrap_or(&self.path))),
            ("bytes", self.bytes.into()),
            ("seconds", self.modified.0.into()),
            ("nanoseconds", self.modified.1.into()),
            ("inode", self.inode.into()),
        ])
    }

    /// The stamps in a list that [`Stamp::json`] wrote; `None` if one cannot be read.
    pub(super) fn list(list: &Value, base: &Path) -> Option<Vec<Self>> {
        let stamp = |value: &Value| {
            Some(Self {
                path: base.join(value.text("path")?),
                bytes: value.number("bytes")?,
                modified: (value.number("seconds")?, value.number("nanoseconds")?),
                inode: value.number("inode"),
            })
        };
        list.items().iter().map(stamp).collect()
    }
}
