//! All parts of a snapshot.

use super::{Disk, Part};

pub(crate) struct Whole<'a> {
    /// The part with the machine's state, if there is one; otherwise the first part.
    pub(crate) main: &'a Part,
    /// The disks with a part, in the VM's order.
    pub(crate) disks: Vec<&'a Disk>,
}

impl Whole<'_> {
    pub(crate) fn has_machine(&self) -> bool {
        self.main.machine_bytes > 0
    }

    pub(super) fn is_in(&self, disk: &Disk) -> bool {
        disk.part(&self.main.tag).is_some()
    }
}
