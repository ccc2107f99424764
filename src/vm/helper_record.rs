//! A helper in the record of a VM's start.

use crate::json::Value;
use std::path::PathBuf;

/// A helper that was started with a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HelperRecord {
    pub(crate) name: String,
    /// The first process of its process group.
    pub(crate) pid: u32,
    /// When that process started; see [`crate::system::process::Seen::start`].
    pub(crate) start: Option<String>,
    pub(crate) argv: Vec<String>,
    /// The sockets on which it serves QEMU. Relative paths start from QEMU's directory.
    pub(crate) sockets: Vec<PathBuf>,
}

impl HelperRecord {
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            name: value.text("name")?.to_string(),
            pid: value.number("pid")?.try_into().ok()?,
            start: value.text("start").map(str::to_string),
            argv: value.texts("argv")?,
            sockets: value.texts("sockets")?.into_iter().map(PathBuf::from).collect(),
        })
    }

    pub(super) fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(&self.name)),
            ("pid", self.pid.into()),
            ("start", self.start.as_deref().into()),
            ("argv", self.argv.iter().collect()),
            ("sockets", self.sockets.iter().collect()),
        ])
    }
}
