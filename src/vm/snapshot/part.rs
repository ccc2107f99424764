//! One disk's part of a snapshot.

use crate::json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) tag: String,
    /// The size of the machine's state, which is kept in one of the disks; 0 in the others.
    pub(crate) machine_bytes: u64,
    /// In seconds since 1970.
    pub(crate) saved_at: u64,
    /// How long the guest had run, in seconds.
    pub(crate) guest_seconds: u64,
}

impl Part {
    /// Reads the snapshots of an `ImageInfo` of `qapi/block-core.json`.
    pub(super) fn list(image: &Value) -> Vec<Self> {
        image.list("snapshots").iter().filter_map(Self::read).collect()
    }

    fn read(snapshot: &Value) -> Option<Self> {
        let number = |name| snapshot.number(name).unwrap_or_default();
        Some(Self {
            tag: snapshot.text("name")?.to_string(),
            machine_bytes: number("vm-state-size"),
            saved_at: number("date-sec"),
            guest_seconds: number("vm-clock-sec"),
        })
    }
}
