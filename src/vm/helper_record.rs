//! A helper in the record of a VM's start.

use super::Paths;
use super::process::Process;
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
    /// The process of the helper, which may have ended.
    pub(crate) fn process(&self, paths: &Paths) -> Process {
        Process::of_helper(self.pid, self.start.clone(), paths.helper_log(&self.name))
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let texts = |key| -> Option<Vec<String>> {
            let Value::Array(items) = value.get(key)? else { return None };
            items.iter().map(|item| item.as_str().map(str::to_string)).collect()
        };
        Some(Self {
            name: value.get("name")?.as_str()?.to_string(),
            pid: value.get("pid")?.as_u64()?.try_into().ok()?,
            start: value.get("start").and_then(Value::as_str).map(str::to_string),
            argv: texts("argv")?,
            sockets: texts("sockets")?.into_iter().map(PathBuf::from).collect(),
        })
    }

    pub(super) fn json(&self) -> Value {
        let sockets = self.sockets.iter().map(Value::from).collect();
        Value::object([
            ("name", Value::from(&self.name)),
            ("pid", self.pid.into()),
            ("start", self.start.as_deref().into()),
            ("argv", self.argv.iter().map(|word| Value::from(word.as_str())).collect()),
            ("sockets", sockets),
        ])
    }
}
