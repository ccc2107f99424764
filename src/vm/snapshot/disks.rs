//! The disks of a VM that its guest may write to, which are those that a snapshot contains.

use super::{Part, Tag};
use crate::error::Error;
use crate::text::{did_you_mean, listed, nearest};
use std::path::PathBuf;

/// The drivers that keep no snapshots. QEMU itself rejects others that are not qcow2.
const HOLD_NONE: &str =
    "cloop dmg file host_device luks nbd parallels qcow qed raw vdi vhdx vmdk vpc vvfat";
/// The protocol of a network storage that keeps snapshots of images in any format.
const HOLDING_PROTOCOL: &str = "rbd:";

/// A disk that the guest may write to.
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

/// All parts of a snapshot.
pub(crate) struct Whole<'a> {
    /// The part with the machine's state, if there is one; otherwise the first part.
    pub(crate) main: &'a Part,
    /// The disks with a part, in the VM's order.
    pub(crate) disks: Vec<&'a Disk>,
}

pub(crate) struct Disks {
    /// The VM's name.
    pub(super) vm: String,
    pub(crate) list: Vec<Disk>,
}

impl Disks {
    /// The absolute paths of the disks.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.list.iter().map(|disk| disk.path.clone()).collect()
    }

    /// All snapshots, oldest first.
    pub(crate) fn snapshots(&self) -> Vec<Whole<'_>> {
        let mut all: Vec<Whole> = Vec::new();
        for disk in &self.list {
            for part in &disk.parts {
                match all.iter_mut().find(|whole| whole.main.tag == part.tag) {
                    Some(whole) => {
                        whole.disks.push(disk);
                        if part.machine_bytes > whole.main.machine_bytes {
                            whole.main = part;
                        }
                    }
                    None => all.push(Whole { main: part, disks: vec![disk] }),
                }
            }
        }
        all.sort_by_key(|whole| whole.main.saved_at);
        all
    }

    pub(crate) fn find(&self, tag: &Tag) -> Result<Whole<'_>, Error> {
        let mut all = self.snapshots();
        if let Some(at) = all.iter().position(|whole| whole.main.tag == tag.as_str()) {
            return Ok(all.swap_remove(at));
        }
        let tags: Vec<&str> = all.iter().map(|whole| whole.main.tag.as_str()).collect();
        let near = nearest(tag.as_str(), tags.iter().copied());
        let message = format!("VM `{}` has no snapshot `{tag}`", self.vm);
        let error = Error::failed(did_you_mean(&message, near));
        Err(match tags.len() {
            _ if near.is_some() => error,
            0 => error.hint(format!("it has none; `qqmgr snapshot save {}` saves one", self.vm)),
            _ => error.hint(format!("it has {}", listed(&tags, "and"))),
        })
    }

    /// The disks for a new snapshot of that tag, if it can be saved.
    pub(crate) fn to_save(&self, tag: &Tag) -> Result<Vec<&Disk>, Error> {
        self.check_can_hold()?;
        if self.find(tag).is_err() {
            return Ok(self.list.iter().collect());
        }
        let vm = &self.vm;
        let error = Error::failed(format!("VM `{vm}` already has a snapshot `{tag}`"));
        Err(error.hint(format!("`qqmgr snapshot delete {vm} {}` removes it", tag.quoted())))
    }

    /// The snapshot, if it can be loaded: the guest must not see its disks at different times.
    pub(crate) fn to_load(&self, tag: &Tag) -> Result<Whole<'_>, Error> {
        self.check_can_hold()?;
        let whole = self.find(tag)?;
        let Some(without) = self.list.iter().find(|disk| Part::find(&disk.parts, tag).is_none())
        else {
            return Ok(whole);
        };
        let (vm, file) = (&self.vm, &without.file);
        let message = format!("snapshot `{tag}` of VM `{vm}` has nothing of `{file}`");
        Err(Error::failed(message).hint("it was saved when the VM had other disks than now"))
    }

    /// Checks that the VM can have snapshots.
    pub(crate) fn check_can_hold(&self) -> Result<(), Error> {
        let holds_none = |disk: &&Disk| {
            let is_of_none = HOLD_NONE.split(' ').any(|driver| driver == disk.format);
            is_of_none && !disk.file.starts_with(HOLDING_PROTOCOL)
        };
        let in_the_way: Vec<String> = self.list.iter().filter(holds_none).map(described).collect();
        let (why, hint) = if self.list.is_empty() {
            let hint = "they are kept in a qcow2 image: `-drive file=disk.qcow2,if=virtio`, say";
            ("it has no disk to write to".to_string(), hint)
        } else if in_the_way.is_empty() {
            return Ok(());
        } else {
            let hint = "convert it, `qemu-img convert -O qcow2 OLD NEW`, or make it read-only";
            let disks = in_the_way.join(" and ");
            (format!("the guest writes to {disks}, which cannot hold any"), hint)
        };
        Err(Error::failed(format!("VM `{}` cannot have snapshots: {why}", self.vm)).hint(hint))
    }

    /// The first of `snapshot-1`, `snapshot-2`, ... that does not exist.
    pub(crate) fn free_tag(&self) -> Tag {
        let is_taken =
            |tag: &Tag| self.list.iter().any(|disk| Part::find(&disk.parts, tag).is_some());
        let mut number = 1;
        while is_taken(&Tag::numbered(number)) {
            number += 1;
        }
        Tag::numbered(number)
    }
}

/// Describes the disk, as in "`r.raw` (raw, drive `virtio1`)".
fn described(Disk { file, format, device, .. }: &Disk) -> String {
    let drive = if device.is_empty() { String::new() } else { format!(", drive `{device}`") };
    format!("`{file}` ({format}{drive})")
}
