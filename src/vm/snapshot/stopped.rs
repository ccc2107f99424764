//! Runs qemu-img. Snapshots of a VM that is not running: of its disks, without a
//! machine. The caller holds the VM's lock, so that no other command starts the VM meanwhile.
//! qemu-img also holds it, since it may outlive the caller.

use super::journal::{Act, Journal};
use super::{Disk, Disks, Snapshot, Tag, Whole, parse};
use crate::error::Error;
use crate::json;
use crate::log::Log;
use crate::system::programs;
use crate::text::sanitized;
use crate::vm::Paths;
use crate::vm::format::{self, Format};
use crate::vm::lock::Lock;
use crate::vm::named::{Image, images};
use crate::vm::options::Argument;
use std::ffi::OsStr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const QCOW2: &str = "qcow2";
/// The description of a disk with a thousand snapshots has some 300 KiB.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// Access to the disks of a stopped VM.
pub(crate) struct Stopped<'a> {
    pub(crate) qemu_img: PathBuf,
    /// The directory that QEMU would run in.
    pub(crate) dir: &'a Path,
    pub(crate) log: &'a Log,
    /// The VM's lock, which is passed on to qemu-img; `None` if nothing is changed.
    pub(crate) lock: Option<&'a Lock>,
}

impl Stopped<'_> {
    /// The disks on the command line that the guest may write to.
    pub(crate) fn disks(&self, vm: &str, arguments: &[Argument]) -> Result<Disks, Error> {
        let written = images(arguments).into_iter().filter(|(image, _)| image.written);
        let list = written.map(|(image, _)| self.disk(vm, image)).collect::<Result<_, _>>()?;
        Ok(Disks { vm: vm.to_string(), list })
    }

    fn disk(&self, vm: &str, image: Image) -> Result<Disk, Error> {
        let Some(file) = image.file().map(str::to_string) else {
            let name = image.name;
            let message = format!("`{name}`, which VM `{vm}` writes to, is no file of this host");
            return Err(Error::failed(message).hint("its snapshots need the VM to run"));
        };
        if let Some(format) = image.format.filter(|format| format != QCOW2) {
            return Ok(Disk { file, format, place: None, snapshots: Vec::new() });
        }
        let found = self.format(&file)?;
        let snapshots = match found {
            Format::Qcow2(_) => self.snapshots(&file)?,
            _ => Vec::new(),
        };
        Ok(Disk { file, format: found.name().into(), place: None, snapshots })
    }

    /// Saves a snapshot in all disks or in none.
    pub(crate) fn save(&self, disks: &Disks, tag: &Tag, paths: &Paths) -> Result<(), Error> {
        self.begin(Act::Save, disks.list.iter(), tag, paths)?;
        for (done, disk) in disks.list.iter().enumerate() {
            let Err(error) = self.snapshot("-c", &disk.file, tag) else { continue };
            let (saved, failed) = (&disks.list[..done], error.message());
            let undone = saved.iter().try_for_each(|disk| self.snapshot("-d", &disk.file, tag));
            return Err(match undone.and_then(|()| Journal::end(paths)) {
                Ok(()) if done > 0 => error.hint("the other disks are as they were before"),
                Ok(()) => error,
                Err(undo) => Error::failed(format!("{failed}; taken back: {}", undo.message())),
            });
        }
        Journal::end(paths)
    }

    /// Loads a snapshot into every disk. A failed load can be repeated: the disks' current content
    /// is given up anyway.
    pub(crate) fn load(&self, disks: &Disks, tag: &Tag, paths: &Paths) -> Result<(), Error> {
        self.each(Act::Load, &disks.list.iter().collect::<Vec<_>>(), tag, paths)
    }

    pub(crate) fn delete(&self, whole: &Whole, tag: &Tag, paths: &Paths) -> Result<(), Error> {
        self.each(Act::Delete, &whole.disks, tag, paths)
    }

    fn each(&self, act: Act, disks: &[&Disk], tag: &Tag, paths: &Paths) -> Result<(), Error> {
        let before = Journal::read(paths)?;
        self.begin(act, disks.iter().copied(), tag, paths)?;
        let option = if act == Act::Load { "-a" } else { "-d" };
        for (done, disk) in disks.iter().enumerate() {
            let Err(error) = self.snapshot(option, &disk.file, tag) else { continue };
            if done > 0 {
                return Err(
                    error.hint("other disks are done; the same command again does the rest")
                );
            }
            // Nothing has changed, so earlier half-done work is still half done.
            match before {
                Some(before) => before.begin(paths)?,
                None => Journal::end(paths)?,
            }
            return Err(error);
        }
        Journal::end(paths)
    }

    /// Writes the journal if there are several disks; work on one disk cannot be left half done.
    fn begin<'d>(
        &self,
        act: Act,
        disks: impl ExactSizeIterator<Item = &'d Disk>,
        tag: &Tag,
        paths: &Paths,
    ) -> Result<(), Error> {
        if disks.len() < 2 {
            return Ok(());
        }
        let disks = disks.map(|disk| self.dir.join(&disk.file)).collect();
        Journal { act, tag: tag.as_str().into(), disks, job: None }.begin(paths)
    }

    pub(super) fn snapshot(&self, option: &str, file: &str, tag: &Tag) -> Result<(), Error> {
        // `qemu-img snapshot` has no `-f`. A comma ends an option unless it is doubled.
        let image = format!("driver={QCOW2},file.filename={}", file.replace(',', ",,"));
        let words = ["snapshot", option, tag.as_str(), "--image-opts", &image].map(OsStr::new);
        self.run(file, &words).map(|_| ())
    }

    /// Finds out the format of a disk, so that qemu-img does not guess it.
    pub(super) fn format(&self, file: &str) -> Result<Format, Error> {
        let path = self.dir.join(file);
        let metadata = path.metadata().map_err(|error| Error::io("read", &path, &error))?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::failed(format!("`{file}` is neither a file nor a disk")));
        }
        format::read(&path)
    }

    /// Reads the snapshots in a disk. Another program may keep writing to it meanwhile.
    pub(super) fn snapshots(&self, file: &str) -> Result<Vec<Snapshot>, Error> {
        let path = self.dir.join(file);
        let words = ["info", "--force-share", "--output=json", "-f", QCOW2].map(OsStr::new);
        let said = self.run(file, &[&words[..], &[path.as_os_str()]].concat())?;
        let info = json::parse(&said);
        let info =
            info.map_err(|error| Error::failed(format!("`qemu-img info` of `{file}`: {error}")))?;
        Ok(parse(info.get("snapshots")))
    }

    fn run(&self, file: &str, words: &[&OsStr]) -> Result<Vec<u8>, Error> {
        let mut command = programs::configured(&self.qemu_img);
        let stdin = self.lock.map_or_else(|| Ok(Stdio::null()), Lock::stdin);
        let stdin = stdin.map_err(|error| command.failed(&error))?;
        command.args(words).current_dir(self.dir).stdin(stdin);
        // A snapshot of a large disk may take minutes, and must not be cut off half done.
        let output = command.captured(OUTPUT_BYTES_MAX, &mut || None, self.log)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // Users know the file's name, but not the options that contain it.
        let options = words.last().map(|word| word.to_string_lossy()).unwrap_or_default();
        let said = sanitized(&said.replace(&*options, file));
        let said: Vec<&str> =
            said.lines().map(|line| line.trim_start_matches("qemu-img: ")).collect();
        Err(Error::failed(format!("`qemu-img` on `{file}`: {}", said.join("; "))))
    }
}
