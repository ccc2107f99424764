//! Settles work on several disks that a killed command left half done, before anything else is done
//! to them: a save is undone, a delete is finished, and disks of which only some were loaded are
//! not used.

use super::journal::{Act, Journal};
use super::running::Running;
use super::stopped::Stopped;
use super::{Disks, Tag};
use crate::error::Error;
use crate::vm::format::Format;
use crate::vm::{Paths, events};
use std::ffi::OsStr;
use std::path::Path;

/// The operation that is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A load into all disks, which makes the progress of an earlier load irrelevant.
    Load,
    Other,
}

impl Stopped<'_> {
    /// Settles half-done work on the disks of a VM that is stopped.
    pub(crate) fn settle(&self, vm: &str, paths: &Paths, next: Next) -> Result<(), Error> {
        let Some(journal) = Journal::read(paths)? else { return Ok(()) };
        let Journal { act, tag, disks, job } = &journal;
        let tag = &Tag::new(OsStr::new(tag))?;
        let mut with: Vec<&str> = Vec::new();
        for disk in disks {
            if self.has(disk, tag)?
                && let Some(disk) = disk.to_str()
            {
                with.push(disk);
            }
        }
        let is_in_all = with.len() == disks.len();
        match act {
            Act::Save if is_in_all => {}
            Act::Save | Act::Delete => {
                with.iter().try_for_each(|disk| self.snapshot("-d", disk, tag))?;
                self.log.note(&match act {
                    Act::Save => format!(
                        "took snapshot `{tag}` of VM `{vm}` back: its `save` ended half way"
                    ),
                    _ => format!("finished the `delete` of snapshot `{tag}` of VM `{vm}`"),
                });
            }
            // QEMU has finished the load, and only the command was killed.
            Act::Load if job.as_ref().is_some_and(|job| events::has_concluded(paths, job)) => {}
            Act::Load if next == Next::Load => return Ok(()),
            Act::Load if is_in_all => return Err(half_loaded(vm, tag)),
            Act::Load => {
                let what = format!("the load of snapshot `{tag}` of VM `{vm}` ended half way");
                self.log.note(&format!("warning: {what}, and not all disks have it any more"));
            }
        }
        Journal::end(paths)
    }

    /// Whether a disk has its part of a snapshot. A disk that does not exist has none.
    fn has(&self, disk: &Path, tag: &Tag) -> Result<bool, Error> {
        let Some(name) = disk.to_str().filter(|_| disk.exists()) else { return Ok(false) };
        match self.format(name)? {
            Format::Qcow2(_) => {
                let snapshots = self.snapshots(name)?;
                Ok(snapshots.iter().any(|snapshot| snapshot.tag == tag.as_str()))
            }
            _ => Ok(false),
        }
    }
}

impl Running<'_> {
    /// Settles the work of a command that was killed while QEMU did it. QEMU answers again, so it
    /// has finished; if only part of a save exists, `qemu-img` made it before the VM was started.
    pub(crate) fn settle(&mut self, paths: &Paths, disks: Disks) -> Result<Disks, Error> {
        let Some(journal) = Journal::read(paths)? else { return Ok(disks) };
        if let Some(job) = &journal.job {
            self.wait_for(job, &|_| ())?;
        }
        let disks = self.disks(&disks.vm)?;
        let tag = Tag::new(OsStr::new(&journal.tag))?;
        let whole = disks.find(&tag).ok();
        let is_left = whole.as_ref().is_some_and(|whole| match journal.act {
            Act::Save => whole.disks.len() < disks.list.len(),
            Act::Delete => true,
            Act::Load => false,
        });
        if let Some(whole) = whole.filter(|_| is_left) {
            self.delete(&disks, &whole, &tag)?;
        }
        Journal::end(paths)?;
        self.disks(&disks.vm)
    }
}

fn half_loaded(vm: &str, tag: &Tag) -> Error {
    let message =
        format!("the load of snapshot `{tag}` ended half way: the disks of VM `{vm}` do not match");
    let quoted = tag.quoted();
    Error::failed(message).hint(format!("`qqmgr snapshot load {vm} {quoted}` does the rest"))
}
