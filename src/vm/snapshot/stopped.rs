//! TRUSTED CORE: runs qemu-img. Snapshots of a VM that does not run: of its disks, without a
//! machine. The caller holds the VM's lock, so that nothing starts it meanwhile.

use super::{Disk, Disks, Tag, Whole, parse};
use crate::error::Error;
use crate::json::{self, Value};
use crate::log::Log;
use crate::programs;
use crate::text::{command_line, sanitized};
use crate::vm::format::{self, Format};
use crate::vm::named::{Image, images};
use crate::vm::options::Argument;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const QCOW2: &str = "qcow2";

/// How a VM's disks are reached.
pub(crate) struct Stopped<'a> {
    pub(crate) qemu_img: PathBuf,
    /// The directory that QEMU would run in.
    pub(crate) dir: &'a Path,
    pub(crate) log: &'a Log,
}

impl Stopped<'_> {
    /// Those that the command line has for the guest to write to.
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
            Format::Qcow2(_) => parse(self.info(&file)?.get("snapshots")),
            _ => Vec::new(),
        };
        Ok(Disk { file, format: found.name().into(), place: None, snapshots })
    }

    /// In all disks or in none.
    pub(crate) fn save(&self, disks: &Disks, tag: &Tag) -> Result<(), Error> {
        for (done, disk) in disks.list.iter().enumerate() {
            let Err(error) = self.snapshot("-c", disk, tag) else { continue };
            let (saved, failed) = (&disks.list[..done], error.message());
            let undone = saved.iter().try_for_each(|disk| self.snapshot("-d", disk, tag));
            return Err(match undone {
                Ok(()) if done > 0 => error.hint("the other disks are as they were before"),
                Ok(()) => error,
                Err(undo) => Error::failed(format!("{failed}; taken back: {}", undo.message())),
            });
        }
        Ok(())
    }

    /// What fails can be done again: whatever a disk had is given up anyway.
    pub(crate) fn load(&self, disks: &Disks, tag: &Tag) -> Result<(), Error> {
        self.each("-a", &disks.list.iter().collect::<Vec<_>>(), tag)
    }

    pub(crate) fn delete(&self, whole: &Whole, tag: &Tag) -> Result<(), Error> {
        self.each("-d", &whole.disks, tag)
    }

    fn each(&self, act: &str, disks: &[&Disk], tag: &Tag) -> Result<(), Error> {
        for (done, disk) in disks.iter().enumerate() {
            self.snapshot(act, disk, tag).map_err(|error| match done {
                0 => error,
                _ => error.hint("other disks are done; the same command again does the rest"),
            })?;
        }
        Ok(())
    }

    fn snapshot(&self, act: &str, disk: &Disk, tag: &Tag) -> Result<(), Error> {
        // `qemu-img snapshot` has no `-f`. A comma ends an option, unless it is doubled.
        let image = format!("driver={QCOW2},file.filename={}", disk.file.replace(',', ",,"));
        let words = ["snapshot", act, tag.as_str(), "--image-opts", &image].map(OsStr::new);
        self.run(&disk.file, &words).map(|_| ())
    }

    /// Tells the format of a disk, so that qemu-img does not guess it.
    fn format(&self, file: &str) -> Result<Format, Error> {
        let path = self.dir.join(file);
        let metadata = path.metadata().map_err(|error| Error::io("read", &path, &error))?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::failed(format!("`{file}` is neither a file nor a disk")));
        }
        format::read(&path)
    }

    /// Whoever has the image open may go on writing to it.
    fn info(&self, file: &str) -> Result<Value, Error> {
        let path = self.dir.join(file);
        let words = ["info", "--force-share", "--output=json", "-f", QCOW2].map(OsStr::new);
        let said = self.run(file, &[&words[..], &[path.as_os_str()]].concat())?;
        json::parse(&said)
            .map_err(|error| Error::failed(format!("`qemu-img info` of `{file}`: {error}")))
    }

    fn run(&self, file: &str, words: &[&OsStr]) -> Result<Vec<u8>, Error> {
        let mut command = programs::configured(&self.qemu_img);
        command.args(words).current_dir(self.dir).stdin(Stdio::null());
        self.log.verbose(|| {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            command_line(words.map(OsString::from))
        });
        let output = command.output().map_err(|error| programs::cannot_run(&command, &error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // People know the file, and not the options that name it.
        let options = words.last().map(|word| word.to_string_lossy()).unwrap_or_default();
        let said = sanitized(&said.replace(&*options, file));
        let said: Vec<&str> =
            said.lines().map(|line| line.trim_start_matches("qemu-img: ")).collect();
        Err(Error::failed(format!("`qemu-img` on `{file}`: {}", said.join("; "))))
    }
}
