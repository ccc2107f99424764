//! `saved.json` in a VM's directory: what its snapshots were made from, and whether its disks have
//! anything that no snapshot has. `-loadvm` reverts the disks, even when the load then fails, so
//! that `--from` needs disks without anything to lose.

use super::{Origin, Spare, Stamp, Tag};
use crate::clock::now;
use crate::error::Error;
use crate::json::{self, Value};
use crate::system::files;
use crate::vm::Paths;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The maximum size of the file: that of a thousand command lines of some KiB.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The format number; see that of `instance.json`.
const FORMAT: u64 = 1;

#[derive(Default)]
pub(crate) struct Saved {
    origins: Vec<Origin>,
    pub(crate) spare: Option<Spare>,
}

impl Saved {
    /// Reads the file. A file that is missing or cannot be understood says nothing, so that no disk
    /// may be lost.
    pub(crate) fn read(paths: &Paths) -> Result<Self, Error> {
        let bytes = files::read_if_there(&paths.saved, BYTES_MAX)?.unwrap_or_default();
        let Ok(value) = json::parse(&bytes) else { return Ok(Self::default()) };
        if value.get("format").and_then(Value::as_u64).is_none_or(|format| format > FORMAT) {
            return Err(Error::newer_record(&paths.saved));
        }
        let origins = value.get("snapshots").map(Value::items).unwrap_or_default().iter();
        let spare = value.get("spare").and_then(Spare::from_json);
        Ok(Self { origins: origins.filter_map(Origin::from_json).collect(), spare })
    }

    fn write(&self, paths: &Paths) -> Result<(), Error> {
        let value = Value::object([
            ("format", Value::from(FORMAT)),
            ("snapshots", self.origins.iter().map(Origin::json).collect()),
            ("spare", self.spare.as_ref().map_or(Value::Null, Spare::json)),
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

    /// Forgets a snapshot before it is deleted. Disks that depend on it are not spare any more.
    pub(crate) fn remove(paths: &Paths, tag: &Tag) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        saved.origins.retain(|origin| origin.tag != tag.as_str());
        saved.spare = saved.spare.filter(|spare| spare.tag != tag.as_str());
        if paths.saved.exists() { saved.write(paths) } else { Ok(()) }
    }

    /// The snapshot without which the disks would have something to lose, if they have nothing now.
    pub(crate) fn spare_tag(paths: &Paths) -> Result<Option<String>, Error> {
        let spare = Self::read(paths)?.spare;
        let is_as_recorded = |stamp: &Stamp| Stamp::of(&stamp.path).as_ref() == Some(stamp);
        let spare = spare.filter(|spare| spare.disks.iter().all(is_as_recorded));
        Ok(spare.map(|spare| spare.tag))
    }

    /// Records that the disks, which no program has open, have nothing that the snapshot lacks; or,
    /// if they are `in_use`, that they have nothing to keep when the program has ended.
    pub(crate) fn spare(
        paths: &Paths,
        tag: &str,
        disks: &[PathBuf],
        in_use: bool,
    ) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        let disks = disks.iter().filter_map(|disk| Stamp::of(disk)).collect();
        saved.spare = Some(Spare { tag: tag.into(), since: now().as_secs(), in_use, disks });
        saved.write(paths)
    }

    /// Ends the use of disks by a job after its QEMU has ended, however that happened: whatever is
    /// written to them from now on counts. That must be known after a power failure as well.
    pub(crate) fn settle(paths: &Paths) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        let Some(spare) = saved.spare.as_mut().filter(|spare| spare.in_use) else { return Ok(()) };
        spare.disks = spare.disks.iter().filter_map(|disk| Stamp::of(&disk.path)).collect();
        (spare.since, spare.in_use) = (now().as_secs(), false);
        saved.write(paths)?;
        sync(&paths.saved)
    }

    /// Makes what is written to the disks count although a job of `--from` began it: the VM stays.
    pub(crate) fn keep(paths: &Paths) -> Result<(), Error> {
        let mut saved = Self::read(paths)?;
        if saved.spare.as_ref().is_none_or(|spare| !spare.in_use) {
            return Ok(());
        }
        saved.spare = None;
        saved.write(paths)
    }
}

/// Makes sure that a file and its name are there after a power failure.
fn sync(path: &Path) -> Result<(), Error> {
    let sync = |path: &Path| File::open(path)?.sync_all();
    let synced = sync(path).and_then(|()| path.parent().map_or(Ok(()), sync));
    synced.map_err(|error| Error::io("write", path, &error))
}
