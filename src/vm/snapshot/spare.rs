//! Disks whose content may be lost: a snapshot has it, or a job of `--from` wrote it.

use super::Stamp;
use crate::json::Value;
use std::path::Path;

pub(crate) struct Spare {
    /// The snapshot that has what the disks had before `--from` used them.
    pub(crate) tag: String,
    /// When that was found, in seconds since 1970.
    pub(crate) since: u64,
    /// A QEMU of `--from` is writing to the disks, or its end has not been seen.
    pub(super) in_use: bool,
    /// Whether `--from` has used the disks, so that they may have something else than the snapshot.
    pub(super) used: bool,
    /// The disks without what a job writes.
    pub(crate) disks: Vec<Stamp>,
}

impl Spare {
    pub(super) fn json(&self, base: &Path) -> Value {
        Value::object([
            ("tag", Value::from(self.tag.as_str())),
            ("since", self.since.into()),
            ("in_use", self.in_use.into()),
            ("used", self.used.into()),
            ("disks", self.disks.iter().map(|disk| disk.json(base)).collect()),
        ])
    }

    pub(super) fn from_json(value: &Value, base: &Path) -> Option<Self> {
        Some(Self {
            tag: value.text("tag")?.to_string(),
            since: value.number("since")?,
            in_use: value.get("in_use")? == &Value::Bool(true),
            used: value.get("used") == Some(&Value::Bool(true)),
            disks: Stamp::list(value.get("disks")?, base)?,
        })
    }
}
