//! What a disk is based on, looked at before it is used, by qemu-img(1).

use super::build::Maker;
use super::hold::Held;
use super::tools::{self, Said};
use crate::config::Config;
use crate::error::Error;
use crate::files;
use crate::json::{self, Value};
use crate::programs;
use crate::text::sanitized;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a raw image's size has to end.
const SECTOR: u64 = 512;
/// What QEMU says of an image that another process writes (`raw_check_lock_bytes` of
/// block/file-posix.c).
const LOCKED: &str = "lock";
/// Formats in which nothing names another file, but for what [`Base::other`] has.
const ALONE: &[&str] = &["qcow2", "raw"];
/// The beginnings of files that are no images, which qemu-img takes for raw ones all the same.
const NO_IMAGES: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "is compressed by gzip", "`gunzip` unpacks it"),
    (b"\xfd7zXZ\0", "is compressed by xz", "`unxz` unpacks it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "`unzstd` unpacks it"),
    (b"BZh", "is compressed by bzip2", "`bunzip2` unpacks it"),
    (b"PK\x03\x04", "is a ZIP archive", "`unzip` unpacks it"),
    (b"\x7fELF", "is a program", "a disk image is wanted"),
];

/// An image that disks may be based on.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) file: PathBuf,
    pub(crate) format: String,
    /// As the guest sees it.
    pub(crate) virtual_bytes: u64,
    /// Another file that has a part of it.
    other: Option<String>,
}

impl Base {
    /// An error unless all that the image has is in its one file: whoever made what was fetched
    /// from `url` would else choose a file of this host that the guest reads.
    pub(crate) fn check_alone(&self, url: &str) -> Result<(), Error> {
        if let Some(other) = &self.other {
            let message = format!("`{url}` is based on another file, `{}`", sanitized(other));
            return Err(Error::failed(message).hint("a fetched image must be whole"));
        }
        if !ALONE.contains(&self.format.as_str()) {
            let message = format!("`{url}` is in the format {}", sanitized(&self.format));
            let hint = "only qcow2 and raw are known to be in one file; convert it by qemu-img";
            return Err(Error::failed(message).hint(hint));
        }
        Ok(())
    }
}

impl Maker<'_> {
    /// Looks at an image and everything that it is based on itself.
    pub(crate) fn examine(&self, file: &Path, held: Option<&Held>) -> Result<Base, Error> {
        let shown = file.display();
        let no_image = |what: &str| no_image(file, what);
        let metadata = check_kind(file)?;
        let mut command = self.qemu_img()?;
        command.args(["info", "--output=json", "--backing-chain"]).arg(file);
        let said = self.run_qemu_img(command, held)?;
        if !said.status.success() {
            return Err(unusable(file, &said));
        }
        let facts = first(&said.stdout).and_then(|image| {
            let format = image.get("format")?.as_str()?.to_string();
            let data = image.get("format-specific").and_then(|specific| specific.get("data"));
            let data = data.and_then(|data| data.get("data-file"));
            let other = image.get("backing-filename").or(data).and_then(Value::as_str);
            Some((format, image.get("virtual-size")?.as_u64()?, other.map(str::to_string)))
        });
        let (format, virtual_bytes, other) = facts
            .ok_or_else(|| Error::failed(format!("qemu-img does not tell what `{shown}` is")))?;
        if format == "raw" && metadata.is_file() {
            let start = files::read_start(file, SECTOR);
            let start = start.map_err(|error| Error::io("read", file, &error))?;
            let known = NO_IMAGES.iter().find(|(magic, ..)| start.starts_with(magic));
            if let Some((_, what, hint)) = known {
                return Err(no_image(what).hint(*hint));
            }
            if start.is_empty() || !metadata.len().is_multiple_of(SECTOR) || is_text(&start) {
                let what = if start.is_empty() { "is empty" } else { "is some other file" };
                return Err(no_image(what).hint("a raw image is a whole number of 512 bytes"));
            }
        }
        Ok(Base { file: file.to_path_buf(), format, virtual_bytes, other })
    }

    /// An error if a program has the disk open.
    pub(super) fn check_unused(&self, name: &str, disk: &Path, held: &Held) -> Result<(), Error> {
        if !disk.exists() {
            return Ok(());
        }
        let mut command = self.qemu_img()?;
        command.args(["info", "--output=json"]).arg(disk);
        let said = self.run_qemu_img(command, Some(held))?;
        // Broken in another way it may be thrown away.
        if said.status.success() || !said.stderr.contains(LOCKED) {
            return Ok(());
        }
        let error = Error::failed(format!("image `{name}` is in use by another program"));
        Err(error.hint(format!("`{}` is the file", disk.display())))
    }

    pub(super) fn qemu_img(&self) -> Result<Command, Error> {
        qemu_img(self.config).map(programs::configured)
    }

    pub(super) fn run_qemu_img(
        &self,
        command: Command,
        held: Option<&Held>,
    ) -> Result<Said, Error> {
        tools::run(command, held, &mut || (self.exceeded)(), self.log)
    }
}

/// The program that makes images, by the configuration.
pub(crate) fn qemu_img(config: &Config) -> Result<PathBuf, Error> {
    let img = config.qemu_img()?;
    programs::locate(&img, config.dir()).ok_or_else(|| {
        Error::failed(format!("there is no program `{img}`"))
            .hint("install it (Debian: qemu-utils), or set `img` in `[qemu]` to where it is")
    })
}

/// An error unless it is a file or a disk. To open anything else might take for ever.
pub(super) fn check_kind(file: &Path) -> Result<Metadata, Error> {
    let metadata = file.metadata().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::failed(format!("there is no file `{}`", file.display())),
        _ => Error::io("read", file, &error),
    })?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(no_image(file, "is a directory"));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(no_image(file, "is no file"));
    }
    Ok(metadata)
}

fn no_image(file: &Path, what: &str) -> Error {
    Error::failed(format!("`{}` is no disk image: it {what}", file.display()))
}

/// The size that the guest of a qcow2 image sees: 8 bytes of its header, big-endian, at byte 24
/// (docs/interop/qcow2.txt of QEMU).
pub(crate) fn virtual_bytes(disk: &Path) -> Option<u64> {
    let header = files::read_start(disk, 32).ok()?;
    let size = header.strip_prefix(b"QFI\xfb")?.get(20..28)?;
    Some(u64::from_be_bytes(size.try_into().ok()?))
}

/// What qemu-img tells of the image itself, without those that it is based on.
fn first(stdout: &[u8]) -> Option<Value> {
    match json::parse(stdout).ok()? {
        Value::Array(images) => images.into_iter().next(),
        image => Some(image),
    }
}

fn unusable(file: &Path, said: &Said) -> Error {
    let (shown, reason) = (file.display(), said.reason());
    let reason = reason.strip_prefix("qemu-img: ").unwrap_or(&reason);
    if said.stderr.contains(LOCKED) {
        let error = Error::failed(format!("`{shown}` is being written by another program"));
        return error.hint("a base must not change: stop the VM that has it as its disk");
    }
    Error::failed(format!("`{shown}` cannot be used: {reason}"))
}

/// Whether a sector is all text, as that of no disk is.
fn is_text(start: &[u8]) -> bool {
    let text = str::from_utf8(start).or_else(|error| str::from_utf8(&start[..error.valid_up_to()]));
    text.is_ok_and(|text| {
        text.len() + 4 > start.len()
            && !text.contains(|c: char| c.is_control() && !"\t\r\n".contains(c))
    })
}
