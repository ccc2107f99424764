//! Snapshots of a VM that is not running, by qemu-img: of its disks, without a machine. The caller
//! holds the VM's lock, so that no other command starts the VM meanwhile. qemu-img also holds it,
//! since it may outlive the caller.

use super::journal::Journal;
use super::{Act, Disk, Disks, Part, Saved, Tag};
use crate::error::Error;
use crate::log::Log;
use crate::system::programs;
use crate::text::sanitized;
use crate::vm::format::{self, Format};
use crate::vm::lock::Lock;
use crate::vm::named::{Image, images};
use crate::vm::options::Argument;
use crate::vm::{Paths, events};
use std::path::{Path, PathBuf};

const QCOW2: &str = "qcow2";

/// Access to the disks of a stopped VM.
pub(crate) struct Stopped<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) qemu_img: PathBuf,
    /// The directory that QEMU would run in.
    pub(crate) dir: &'a Path,
    pub(crate) log: &'a Log,
    /// The VM's lock, which is passed on to qemu-img; `None` if nothing is changed.
    pub(crate) lock: Option<&'a Lock>,
}

impl Stopped<'_> {
    /// The disks on the command line that the guest may write to.
    pub(crate) fn disks(&self, arguments: &[Argument]) -> Result<Disks, Error> {
        let written = images(arguments).into_iter().filter(|(image, _)| image.written);
        let list = written.map(|(image, _)| self.disk(image)).collect::<Result<_, _>>()?;
        Ok(Disks { vm: self.paths.name.clone(), list })
    }

    fn disk(&self, image: Image) -> Result<Disk, Error> {
        let Some(file) = image.file().map(str::to_string) else {
            let (name, vm) = (image.name, &self.paths.name);
            let message =
                format!("`{name}`, which VM `{vm}` writes to, is not a file of this host");
            return Err(Error::failed(message).hint("its snapshots need the VM to run"));
        };
        match image.format.filter(|format| format != QCOW2) {
            Some(format) => {
                Ok(Disk { path: self.dir.join(&file), file, format, ..Disk::default() })
            }
            None => self.look(&file),
        }
    }

    /// Saves, loads or deletes the snapshot of these disks. It is saved in all of them or in none.
    /// A load or delete that failed can be repeated.
    pub(crate) fn run(&self, act: Act, disks: &[&Disk], tag: &Tag) -> Result<(), Error> {
        let before = Journal::read(self.paths)?;
        Journal::new(act, tag, disks, None).begin(self.paths)?;
        for (done, disk) in disks.iter().enumerate() {
            let Err(error) = self.snapshot(act, &disk.file, tag) else { continue };
            if done == 0 {
                // Nothing has changed, so earlier half-done work is still half done.
                match before {
                    Some(before) => before.begin(self.paths)?,
                    None => Journal::end(self.paths)?,
                }
                return Err(error);
            }
            if act != Act::Save {
                return Err(
                    error.hint("other disks are done; the same command again does the rest")
                );
            }
            let mut saved = disks[..done].iter();
            let undone = saved.try_for_each(|disk| self.snapshot(Act::Delete, &disk.file, tag));
            return Err(match undone.and_then(|()| Journal::end(self.paths)) {
                Ok(()) => error.hint("the other disks are as they were before"),
                Err(undo) => {
                    Error::failed(format!("{}; taken back: {}", error.message(), undo.message()))
                }
            });
        }
        Journal::end(self.paths)
    }

    /// Settles what a killed command left half done, before the VM is started or `next` is done: it
    /// undoes a save, finishes a delete, and refuses disks after a load of only some of them,
    /// unless `next` loads all disks.
    pub(crate) fn settle(&self, next: Option<Act>) -> Result<(), Error> {
        let Some(Journal { act, tag, disks, job }) = Journal::read(self.paths)? else {
            return Ok(());
        };
        let (vm, log) = (&self.paths.name, self.log);
        let mut with: Vec<&str> = Vec::new();
        // A disk that does not exist has no part of the snapshot.
        for disk in disks.iter().filter(|disk| self.dir.join(disk).exists()) {
            with.extend(Part::find(&self.look(disk)?.parts, &tag).map(|_| disk.as_str()));
        }
        let is_in_all = with.len() == disks.len();
        let delete = || with.iter().try_for_each(|disk| self.snapshot(Act::Delete, disk, &tag));
        match act {
            Act::Save if is_in_all => {}
            Act::Save => {
                delete()?;
                let what = format!("took snapshot `{tag}` of VM `{vm}` back");
                log.note(&format!("{what}: its `save` ended half way"));
            }
            Act::Delete => {
                delete()?;
                log.note(&format!("finished the `delete` of snapshot `{tag}` of VM `{vm}`"));
            }
            // QEMU has finished the load, and only the command was killed.
            Act::Load if job.is_some_and(|job| events::has_concluded(self.paths, &job)) => {}
            Act::Load if next == Some(Act::Load) => return Ok(()),
            Act::Load if is_in_all => {
                let message = format!(
                    "the load of snapshot `{tag}` ended half way: the disks of VM `{vm}` do not \
                     match"
                );
                let hint = format!("`qqmgr snapshot load {vm} {}` does the rest", tag.quoted());
                return Err(Error::failed(message).hint(hint));
            }
            Act::Load => {
                let half = format!("the load of snapshot `{tag}` of VM `{vm}` ended half way");
                log.warning(&format!("{half}, and not all disks have it any more"));
            }
        }
        Journal::end(self.paths)
    }

    /// Takes disks that `--from` alone has written to back to what they had before.
    pub(crate) fn revert(&self) -> Result<(), Error> {
        let Some((tag, files)) = Saved::used(self.paths)? else { return Ok(()) };
        let disks = files.iter().map(|path| self.look(&path.to_string_lossy()));
        let disks: Vec<Disk> = disks.collect::<Result<_, _>>()?;
        if !disks.iter().all(|disk| Part::find(&disk.parts, &tag).is_some()) {
            return Ok(());
        }
        self.run(Act::Load, &disks.iter().collect::<Vec<_>>(), &tag)?;
        Saved::spare(self.paths, tag.as_str(), &files, false)?;
        let what = format!("took the disks of VM `{}` back to snapshot `{tag}`", self.paths.name);
        self.log.note(&format!("{what}: `--from` had used them"));
        Ok(())
    }

    /// The format of a disk, which another program may be writing to, and the snapshots in it.
    fn look(&self, file: &str) -> Result<Disk, Error> {
        let path = self.dir.join(file);
        path.metadata().map_err(|error| {
            let hint = format!("`qqmgr check {}` shows what it lacks", self.paths.name);
            Error::io("read", &path, &error).hint(hint)
        })?;
        let format = format::read(&path)?;
        let parts = match &format {
            Format::Qcow2(header) => Part::in_image(&path, header).ok_or_else(|| {
                let message = format!("the snapshots in `{file}` cannot be read");
                Error::failed(message).hint("`qemu-img check` shows whether the image is damaged")
            })?,
            _ => Vec::new(),
        };
        let (file, format) = (file.to_string(), format.name().to_string());
        Ok(Disk { file, path, format, parts, ..Disk::default() })
    }

    fn snapshot(&self, act: Act, file: &str, tag: &Tag) -> Result<(), Error> {
        // `qemu-img snapshot` has no `-f`. A comma ends an option unless it is doubled.
        let image = format!("driver={QCOW2},file.filename={}", file.replace(',', ",,"));
        let mut command = programs::configured(&self.qemu_img);
        command.args(["snapshot", act.words().option, tag.as_str(), "--image-opts", &image]);
        command.current_dir(self.dir);
        self.lock.map_or(Ok(()), |lock| lock.give_to(&mut command))?;
        // A snapshot of a large disk may take minutes, and must not be cut off half done.
        let output = command.captured(&mut || None, self.log)?;
        if output.status.success() {
            return Ok(());
        }
        // Users know the file's name, but not the option that contains it.
        let said = sanitized(&String::from_utf8_lossy(&output.stderr).replace(&image, file));
        let said: Vec<&str> =
            said.lines().map(|line| line.trim_start_matches("qemu-img: ")).collect();
        Err(Error::failed(format!("`qemu-img` on `{file}`: {}", said.join("; "))))
    }
}
