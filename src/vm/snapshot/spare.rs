//! Disks whose content may be lost: a snapshot has it, or a job of `--from` wrote it.

use super::Stamp;
use crate::json::Value;

pub(crate) struct Spare {
    /// The snapshot.
    pub(crate) tag: String,
    /// When that was found, in seconds since 1970.
    pub(crate) since: u64,
    /// A job is writing to the disks, or its end has not been seen.
    pub(super) in_use: bool,
    /// The disks without what a job writes.
    pub(crate) disks: Vec<Stamp>,
}

impl Spare {
    pub(super) fn json(&self) -> Value {
        Value::object([
            ("tag", Value::from(self.tag.as_str())),
            ("since", self.since.into()),
            ("in_use", self.in_use.into()),
            ("disks", self.disks.iter().map(Stamp::json).collect()),
        ])
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            tag: value.get("tag")?.as_str()?.to_string(),
            since: value.get("since")?.as_u64()?,
            in_use: value.get("in_use")? == &Value::Bool(true),
            disks: Stamp::list(value.get("disks")?)?,
        })
    }
}
