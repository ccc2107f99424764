//! `saved.json` in a VM's directory: what its snapshots were made from, and whether its disks have
//! changes that no snapshot has. `-loadvm` reverts the disks even if the load then fails, so
//! `--from` needs disks without such changes.

use super::{Origin, Stamp, Tag};
use crate::clock::now;
use crate::error::Error;
use crate::json::Value;
use crate::system::files;
use crate::vm::machine::{Machine, booted_at};
use crate::vm::record;
use crate::vm::{Instance, Paths};
use std::path::{Path, PathBuf};

/// The maximum size of the file: that of a thousand command lines of some KiB.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Disks whose content may be lost: a snapshot has it, or a job of `--from` wrote it.
pub(crate) struct Spare {
    /// The snapshot that has what the disks had before `--from` used them.
    tag: String,
    /// When that was found, in seconds since 1970.
    pub(crate) since: u64,
    /// A QEMU of `--from` is writing to the disks, or its end has not been seen.
    in_use: bool,
    /// Whether `--from` has used the disks, so that they may have something else than the snapshot.
    used: bool,
    /// The disks without what a job writes.
    pub(crate) disks: Vec<Stamp>,
}

#[derive(Default)]
pub(crate) struct Saved {
    origins: Vec<Origin>,
    pub(crate) spare: Option<Spare>,
}

impl Saved {
    /// Reads the file. If that is impossible, every disk has something to lose.
    pub(crate) fn read(paths: &Paths) -> Result<Self, Error> {
        let value = record::read(&paths.saved, BYTES_MAX)?.unwrap_or(Value::Null);
        let (list, base) = (value.list("snapshots").iter(), base(paths));
        let origins = list.filter_map(|origin| Origin::from_json(origin, base)).collect();
        let spare = value.get("spare").and_then(|spare| {
            Some(Spare {
                tag: spare.text("tag")?.to_string(),
                since: spare.number("since")?,
                in_use: spare.get("in_use")? == &Value::Bool(true),
                used: spare.is_true("used"),
                disks: Stamp::list(spare.get("disks")?, base)?,
            })
        });
        Ok(Self { origins, spare })
    }

    fn write(&self, paths: &Paths) -> Result<(), Error> {
        let base = base(paths);
        let spare = self.spare.as_ref().map_or(Value::Null, |spare| {
            Value::object([
                ("tag", Value::from(spare.tag.as_str())),
                ("since", spare.since.into()),
                ("in_use", spare.in_use.into()),
                ("used", spare.used.into()),
                ("disks", spare.disks.iter().map(|disk| disk.json(base)).collect()),
            ])
        });
        let value = Value::object([
            ("format", Value::from(record::FORMAT)),
            ("snapshots", self.origins.iter().map(|origin| origin.json(base)).collect()),
            ("spare", spare),
        ]);
        files::write_private(&paths.saved, value.pretty())
    }

    /// The origin of the snapshot with this tag, as far as it is known.
    pub(crate) fn origin(&self, tag: &str) -> Option<&Origin> {
        self.origins.iter().find(|origin| origin.tag == tag)
    }

    /// Records what a new snapshot was made from.
    pub(crate) fn add(paths: &Paths, origin: Origin) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        saved.origins.retain(|other| other.tag != origin.tag);
        saved.origins.push(origin);
        saved.write(paths)
    }

    /// Forgets a snapshot before it is deleted; disks that depend on it are no longer spare. An
    /// error if a job is using such disks: the snapshot has what they had before.
    pub(crate) fn remove(paths: &Paths, tag: &Tag) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        let used = saved.spare.as_ref().filter(|spare| spare.in_use && spare.used);
        if used.is_some_and(|spare| spare.tag == tag.as_str()) && !was_to_stay(paths)? {
            let message =
                format!("a job has the disks, and snapshot `{tag}` is what they had before");
            return Err(Error::failed(message).hint("it can be deleted when the job has ended"));
        }
        saved.origins.retain(|origin| origin.tag != tag.as_str());
        let is_spare = saved.spare.take_if(|spare| spare.tag == tag.as_str()).is_some();
        let written = if paths.saved.exists() { saved.write(paths) } else { Ok(()) };
        // The disk may be full, and the delete makes room. Another snapshot has another time.
        if is_spare { written } else { Ok(()) }
    }

    /// The snapshot that has all that is on these disks; `None` if they have something to lose.
    pub(crate) fn spare_tag(paths: &Paths, disks: &[PathBuf]) -> Result<Option<String>, Error> {
        let Some(Spare { tag, disks: spare, .. }) = Self::read(paths)?.spare else {
            return Ok(None);
        };
        let is_spare = |disk: &PathBuf| Stamp::of(disk).is_some_and(|now| spare.contains(&now));
        Ok(disks.iter().all(is_spare).then_some(tag))
    }

    /// The disks that only `--from` has used since, and the snapshot of what they had before.
    pub(crate) fn used(paths: &Paths) -> Result<Option<(Tag, Vec<PathBuf>)>, Error> {
        let spare = Self::read(paths)?.spare.filter(|spare| spare.used);
        let is_it = |disk: &Stamp| Stamp::of(&disk.path).as_ref() == Some(disk);
        let spare = spare.filter(|spare| spare.disks.iter().all(is_it));
        Ok(spare.and_then(|it| {
            let disks = it.disks.into_iter().map(|disk| disk.path).collect();
            Tag::new(it.tag.as_ref()).ok().map(|tag| (tag, disks))
        }))
    }

    /// Records that the snapshot has everything that is on the disks, to which nothing writes; or,
    /// if they are `in_use`, that this will be so when the program has ended.
    pub(crate) fn spare(
        paths: &Paths,
        tag: &str,
        disks: &[PathBuf],
        in_use: bool,
    ) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        let disks = disks.iter().filter_map(|disk| Stamp::of(disk)).collect();
        let (tag, since) = (tag.into(), now().as_secs());
        saved.spare = Some(Spare { tag, since, in_use, used: false, disks });
        saved.write(paths)
    }

    /// Records, before a QEMU uses these disks for `--from`, that they have nothing to lose.
    pub(crate) fn lend(paths: &Paths, disks: &[PathBuf]) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        if let Some(spare) = &mut saved.spare {
            spare.disks.retain(|stamp| disks.contains(&stamp.path));
            (spare.since, spare.in_use, spare.used) = (now().as_secs(), true, true);
        }
        // A device has no time of change, so it is never known to be spare.
        saved.spare = saved.spare.filter(|spare| spare.disks.len() == disks.len());
        saved.write(paths)
    }

    /// Ends the use of disks after its QEMU has ended in any way: later writes to them count. That
    /// must be known after a power failure as well.
    pub(crate) fn settle(paths: &Paths) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        let Some(spare) = saved.spare.as_mut().filter(|spare| spare.in_use) else { return Ok(()) };
        // Until when writes do not count. Those of a VM that was to stay do; one that ran before a
        // reboot has written nothing since.
        let until = match Instance::read(paths)? {
            _ if was_to_stay(paths)? => 0,
            Some(it) if it.machine.boot_id != Machine::this()?.boot_id => booted_at(),
            _ => u64::MAX,
        };
        let since = now().as_secs();
        for stamp in &mut spare.disks {
            // A disk that was replaced or written later differs from its stamp: it is not spare.
            let is_of_job = |last: &Stamp| last.modified_at() < until && last.inode == stamp.inode;
            if let Some(last) = Stamp::of(&stamp.path).filter(is_of_job) {
                *stamp = last;
                spare.since = since;
            }
        }
        spare.in_use = false;
        saved.write(paths)?;
        files::sync(&paths.saved)
    }
}

/// The directory from which the files of a project are named, so that they are found when the
/// project has been moved, and in a directory whose name is not UTF-8.
fn base(paths: &Paths) -> &Path {
    paths.dir.ancestors().nth(2).unwrap_or(&paths.dir)
}

/// Whether the VM was started to stay, or may have been, and its guest has run.
fn was_to_stay(paths: &Paths) -> Result<bool, Error> {
    let instance = Instance::read(paths)?;
    Ok(instance.is_none_or(|instance| !instance.on_demand && instance.has_answered(paths)))
}
