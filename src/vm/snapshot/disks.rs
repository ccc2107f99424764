//! The disks of a VM that its guest may write to, which are those that a snapshot contains.

use super::{Disk, Part, Tag};
use crate::error::Error;
use crate::text::{did_you_mean, listed, nearest};
use std::path::PathBuf;

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
        let Some(without) = self.list.iter().find(|disk| disk.part(tag.as_str()).is_none()) else {
            return Ok(whole);
        };
        let (vm, file) = (&self.vm, &without.file);
        let message = format!("snapshot `{tag}` of VM `{vm}` has nothing of `{file}`");
        Err(Error::failed(message).hint("it was saved when the VM had other disks than now"))
    }

    /// Checks that the VM can have snapshots.
    pub(crate) fn check_can_hold(&self) -> Result<(), Error> {
        let in_the_way = self.list.iter().filter(|disk| !disk.can_hold());
        let in_the_way: Vec<String> = in_the_way.map(Disk::described).collect();
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
        let mut number = 1;
        while self.list.iter().any(|disk| disk.part(Tag::numbered(number).as_str()).is_some()) {
            number += 1;
        }
        Tag::numbered(number)
    }
}
