//! Snapshots of a VM: the content of its disks at one moment, and also of its machine if it is
//! running. They are kept in the disks themselves. QEMU makes those of a running VM ([`running`]),
//! and qemu-img those of a stopped one ([`stopped`]); both describe the same [`Disks`].

pub(crate) mod header;
pub(crate) mod journal;
pub(crate) mod running;
pub(crate) mod settle;
pub(crate) mod stopped;
mod tag;

use crate::error::Error;
use crate::json::Value;
use crate::text::{did_you_mean, nearest};
pub(crate) use tag::Tag;

/// The drivers of QEMU that keep no snapshots in what they read and write. QEMU itself rejects
/// other drivers that are not qcow2.
const HOLD_NONE: &[&str] = &[
    "cloop",
    "dmg",
    "file",
    "host_device",
    "luks",
    "nbd",
    "parallels",
    "qcow",
    "qed",
    "raw",
    "vdi",
    "vhdx",
    "vmdk",
    "vpc",
    "vvfat",
];
/// The protocol of a network storage that keeps snapshots of images in any format.
const HOLDING_PROTOCOL: &str = "rbd:";
/// The maximum number of tags in an error.
const TAGS_SHOWN_MAX: usize = 8;

/// The disks of a VM that its guest may write to, which are those that a snapshot contains.
pub(crate) struct Disks {
    /// The VM's name.
    pub(crate) vm: String,
    pub(crate) list: Vec<Disk>,
}

pub(crate) struct Disk {
    /// The file as the command line has it, relative to the directory that QEMU runs in.
    pub(crate) file: String,
    /// QEMU's name of the disk's driver.
    pub(crate) format: String,
    /// The disk's place in QEMU; unknown for a VM that is stopped.
    place: Option<Place>,
    snapshots: Vec<Snapshot>,
}

struct Place {
    /// The name of the drive; empty if it has none.
    device: String,
    /// The name of the block node, which QEMU's jobs use.
    node: String,
}

/// One disk's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) tag: String,
    /// The size of the machine's state, which is kept in one of the disks; 0 in the others.
    pub(crate) machine_bytes: u64,
    /// In seconds since 1970.
    pub(crate) saved_at: u64,
    /// How long the guest had run, in seconds.
    pub(crate) guest_seconds: u64,
}

/// All parts of a snapshot.
pub(crate) struct Whole<'a> {
    /// The part with the machine's state, if there is one; otherwise the first part.
    pub(crate) main: &'a Snapshot,
    pub(crate) disks: Vec<&'a Disk>,
}

impl Whole<'_> {
    pub(crate) fn has_machine(&self) -> bool {
        self.main.machine_bytes > 0
    }

    fn is_in(&self, disk: &Disk) -> bool {
        disk.part(&self.main.tag).is_some()
    }
}

impl Disk {
    fn part(&self, tag: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.tag == tag)
    }

    fn can_hold(&self) -> bool {
        let holds_none = HOLD_NONE.contains(&self.format.as_str());
        !holds_none || self.file.starts_with(HOLDING_PROTOCOL)
    }

    /// Describes the disk, as in "`r.raw` (raw, drive `virtio1`)".
    fn described(&self) -> String {
        let device = self.place.as_ref().map(|place| place.device.as_str()).unwrap_or_default();
        let drive = if device.is_empty() { String::new() } else { format!(", drive `{device}`") };
        format!("`{}` ({}{drive})", self.file, self.format)
    }
}

impl Disks {
    /// All snapshots, oldest first.
    pub(crate) fn snapshots(&self) -> Vec<Whole<'_>> {
        let mut all: Vec<Whole> = Vec::new();
        for disk in &self.list {
            for part in &disk.snapshots {
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
            1..=TAGS_SHOWN_MAX => error.hint(format!("it has `{}`", tags.join("`, `"))),
            _ => error.hint(format!("`qqmgr snapshot list {}` shows those that it has", self.vm)),
        })
    }

    /// Checks that a new snapshot can be saved under that tag.
    pub(crate) fn check_save(&self, tag: &Tag) -> Result<(), Error> {
        self.check_can_hold()?;
        if self.find(tag).is_err() {
            return Ok(());
        }
        let vm = &self.vm;
        let error = Error::failed(format!("VM `{vm}` has a snapshot `{tag}` already"));
        Err(error.hint(format!("`qqmgr snapshot delete {vm} {}` removes it", tag.quoted())))
    }

    /// Checks that the snapshot can be loaded: the guest must not see its disks at different times.
    pub(crate) fn check_load(&self, whole: &Whole) -> Result<(), Error> {
        self.check_can_hold()?;
        let Some(without) = self.list.iter().find(|disk| !whole.is_in(disk)) else {
            return Ok(());
        };
        let (tag, file) = (&whole.main.tag, &without.file);
        let message = format!("snapshot `{tag}` of VM `{}` has nothing of `{file}`", self.vm);
        Err(Error::failed(message).hint("it was saved when the VM had other disks than now"))
    }

    fn check_can_hold(&self) -> Result<(), Error> {
        let vm = &self.vm;
        if self.list.is_empty() {
            let message = format!("VM `{vm}` cannot have snapshots: it has no disk to write to");
            let hint = "they are kept in a qcow2 image: `-drive file=disk.qcow2,if=virtio`, say";
            return Err(Error::failed(message).hint(hint));
        }
        let in_the_way = self.list.iter().filter(|disk| !disk.can_hold());
        let in_the_way: Vec<String> = in_the_way.map(Disk::described).collect();
        if in_the_way.is_empty() {
            return Ok(());
        }
        let message = format!(
            "VM `{vm}` cannot have snapshots: the guest writes to {}, which cannot hold any",
            in_the_way.join(" and ")
        );
        let error = Error::failed(message);
        Err(error.hint("convert it, `qemu-img convert -O qcow2 OLD NEW`, or make it read-only"))
    }

    /// The first of `snapshot-1`, `snapshot-2`, ... that does not exist.
    pub(crate) fn free_tag(&self) -> Tag {
        let all = self.snapshots();
        let is_taken = |tag: &Tag| all.iter().any(|whole| whole.main.tag == tag.as_str());
        let mut number = 1;
        while is_taken(&Tag::numbered(number)) {
            number += 1;
        }
        Tag::numbered(number)
    }
}

/// Parses a list of `SnapshotInfo` of `qapi/block-core.json`; no list means no snapshots.
fn parse(list: Option<&Value>) -> Vec<Snapshot> {
    let snapshots = list.map(Value::items).unwrap_or_default().iter();
    let parsed = snapshots.filter_map(|snapshot| {
        let number = |name| snapshot.get(name).and_then(Value::as_u64).unwrap_or_default();
        Some(Snapshot {
            tag: snapshot.get("name")?.as_str()?.to_string(),
            machine_bytes: number("vm-state-size"),
            saved_at: number("date-sec"),
            guest_seconds: number("vm-clock-sec"),
        })
    });
    parsed.collect()
}
