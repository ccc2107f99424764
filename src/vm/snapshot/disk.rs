//! A disk that the guest may write to.

use super::Part;
use std::path::PathBuf;

/// The drivers that keep no snapshots. QEMU itself rejects others that are not qcow2.
const HOLD_NONE: &str =
    "cloop dmg file host_device luks nbd parallels qcow qed raw vdi vhdx vmdk vpc vvfat";
/// The protocol of a network storage that keeps snapshots of images in any format.
const HOLDING_PROTOCOL: &str = "rbd:";

#[derive(Default)]
pub(crate) struct Disk {
    /// The file as the command line has it, relative to the directory that QEMU runs in.
    pub(crate) file: String,
    /// The absolute path of the file.
    pub(crate) path: PathBuf,
    /// QEMU's name of the disk's driver.
    pub(super) format: String,
    /// The name of the drive in a running QEMU; empty if it has none.
    pub(super) device: String,
    /// The name of the block node in a running QEMU, which its jobs use.
    pub(super) node: String,
    pub(super) parts: Vec<Part>,
}

impl Disk {
    pub(super) fn part(&self, tag: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.tag == tag)
    }

    pub(super) fn can_hold(&self) -> bool {
        let holds_none = HOLD_NONE.split(' ').any(|driver| driver == self.format);
        !holds_none || self.file.starts_with(HOLDING_PROTOCOL)
    }

    /// Describes the disk, as in "`r.raw` (raw, drive `virtio1`)".
    pub(super) fn described(&self) -> String {
        let Self { file, format, device, .. } = self;
        let drive = if device.is_empty() { String::new() } else { format!(", drive `{device}`") };
        format!("`{file}` ({format}{drive})")
    }
}
