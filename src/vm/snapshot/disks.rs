//! The disks of a VM that its guest may write to, which are those that a snapshot contains.

use super::{Disk, Part, Tag};
use crate::error::Error;
use crate::text::{did_you_mean, nearest};
use std::path::PathBuf;

/// The maximum number of tags in an error.
const TAGS_SHOWN_MAX: usize = 8;

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
            1..=TAGS_SHOWN_MAX => error.hint(format!("it has `{}`", tags.join("`, `"))),
            _ => error.hint(format!("`qqmgr snapshot list {}` shows those that it has", self.vm)),
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

    /// Checks that the snapshot can be loaded: the guest must not see its disks at different times.
    pub(crate) fn check_load(&self, whole: &Whole) -> Result<(), Error> {
        self.check_can_hold()?;
        let tag = &whole.main.tag;
        let Some(without) = self.list.iter().find(|disk| disk.part(tag).is_none()) else {
            return Ok(());
        };
        let (vm, file) = (&self.vm, &without.file);
        let message = format!("snapshot `{tag}` of VM `{vm}` has nothing of `{file}`");
        Err(Error::failed(message).hint("it was saved when the VM had other disks than now"))
    }

    /// Checks that the VM can have snapshots.
    pub(crate) fn check_can_hold(&self) -> Result<(), Error> {
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
        let mut number = 1;
        while self.list.iter().any(|disk| disk.part(Tag::numbered(number).as_str()).is_some()) {
            number += 1;
        }
        Tag::numbered(number)
    }
}
