//! Examines the file that a disk is based on before it is used: by [`format::read`], and when that
//! finds nothing wrong by qemu-img(1).

use super::context::Context;
use super::hold::Held;
use super::tools::Said;
use crate::error::Error;
use crate::json;
use crate::system::files;
use crate::text::sanitized;
use crate::vm::format::{self, Format, Qcow2};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// A raw image's size is a multiple of this.
const SECTOR: u64 = 512;
/// Part of QEMU's error about an image that another process writes (`raw_check_lock_bytes` of
/// block/file-posix.c).
const LOCKED: &str = "lock";
/// How many files a base may be based on, one on the other.
const CHAIN_MAX: usize = 16;
/// The beginnings of files that are not images, although qemu-img takes them for raw ones.
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
    pub(crate) format: &'static str,
    /// The size that the guest sees.
    pub(crate) virtual_bytes: u64,
}

/// Examines an image before a disk is based on it. One that was fetched from `url` must have all
/// its data in its one file; others may be based on files of this host, which are examined too.
pub(crate) fn examine(
    context: &Context,
    file: &Path,
    url: Option<&str>,
    held: Option<&Held>,
) -> Result<Base, Error> {
    check_kind(file)?;
    let mut format = format::read(file)?;
    match url {
        Some(url) => format.check_alone(url)?,
        None => format.check_plain(&file.display().to_string())?,
    }
    let base = examine_as(context, file, &format, held)?;
    let mut file = file.to_path_buf();
    for _ in 0..CHAIN_MAX {
        let Some(below) = backing(&file, &format)? else { return Ok(base) };
        (file, format) = below;
        examine_as(context, &file, &format, held)?;
    }
    let message = format!("`{}` is based on too many files", base.file.display());
    Err(Error::failed(message).hint(format!("{CHAIN_MAX} are the most")))
}

/// Has qemu-img examine one file, whose format is known, and no other.
fn examine_as(
    context: &Context,
    file: &Path,
    format: &Format,
    held: Option<&Held>,
) -> Result<Base, Error> {
    if *format == Format::Raw {
        check_raw(file)?;
    }
    let said = info(context, file, format.name(), held)?;
    if !said.status.success() {
        return Err(unusable(file, &said));
    }
    let facts = json::parse(&said.stdout).ok();
    let size = facts.and_then(|facts| facts.get("virtual-size")?.as_u64());
    let virtual_bytes = size.ok_or_else(|| {
        Error::failed(format!("qemu-img does not tell the size of `{}`", file.display()))
    })?;
    Ok(Base { file: file.to_path_buf(), format: format.name(), virtual_bytes })
}

fn info(context: &Context, file: &Path, format: &str, held: Option<&Held>) -> Result<Said, Error> {
    context.qemu_img(held, |command| {
        command.args(["info", "--output=json", "-f", format]).arg(file);
    })
}

/// Returns an error if a program has the disk open.
pub(super) fn check_unused(
    context: &Context,
    name: &str,
    disk: &Path,
    held: &Held,
) -> Result<(), Error> {
    // A disk that is broken in another way may be thrown away.
    if !disk.exists() || !is_locked(&info(context, disk, "qcow2", Some(held))?) {
        return Ok(());
    }
    Err(Error::failed(format!("image `{name}` is in use by another program"))
        .hint(format!("`{}` is the file", disk.display())))
}

/// Whether qemu-img failed because another program has the image open.
pub(super) fn is_locked(said: &Said) -> bool {
    !said.status.success() && said.stderr.contains(LOCKED)
}

/// Returns an error unless it is a file or a disk. Opening anything else might take forever.
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

/// The file that a qcow2 image is based on, and its format. Neither is guessed.
fn backing(file: &Path, format: &Format) -> Result<Option<(PathBuf, Format)>, Error> {
    let Format::Qcow2(Qcow2 { backing: Some(name), backing_format, .. }) = format else {
        return Ok(None);
    };
    let (shown, name_shown) = (file.display(), sanitized(name));
    let is_file = name.find([':', '/']).is_none_or(|at| name[at..].starts_with('/'));
    if !is_file || name.is_empty() {
        let message = format!("`{shown}` is based on `{name_shown}`, which is no file");
        return Err(Error::failed(message).hint(format::convert("qcow2")));
    }
    let below = file.parent().unwrap_or(file).join(name);
    check_kind(&below).map_err(|error| {
        let message = format!("`{shown}` is based on another file: {}", error.message());
        Error::failed(message)
    })?;
    let found = match backing_format.as_deref() {
        Some("raw") => Format::Raw,
        Some("qcow2") => format::read(&below)?,
        other => {
            let other = other.map_or("does not say in which".into(), |name| {
                format!("says that it is in the format {}", sanitized(name))
            });
            let message = format!("`{shown}` is based on `{name_shown}`, and {other}");
            return Err(Error::failed(message).hint(format::convert("qcow2")));
        }
    };
    found.check_plain(&below.display().to_string())?;
    Ok(Some((below, found)))
}

/// Returns an error if a raw image is another kind of file, as far as its beginning shows.
fn check_raw(file: &Path) -> Result<(), Error> {
    let no_image = |what: &str| no_image(file, what);
    let metadata = check_kind(file)?;
    if !metadata.is_file() {
        return Ok(());
    }
    let start = files::read_start(file, SECTOR).map_err(|error| Error::io("read", file, &error))?;
    if let Some((_, what, hint)) = NO_IMAGES.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return Err(no_image(what).hint(*hint));
    }
    if start.is_empty() || !metadata.len().is_multiple_of(SECTOR) || is_text(&start) {
        let what = if start.is_empty() { "is empty" } else { "is some other file" };
        return Err(no_image(what).hint("a raw image is a whole number of 512 bytes"));
    }
    Ok(())
}

fn unusable(file: &Path, said: &Said) -> Error {
    let (shown, reason) = (file.display(), said.reason());
    let reason = reason.strip_prefix("qemu-img: ").unwrap_or(&reason);
    if is_locked(said) {
        let error = Error::failed(format!("`{shown}` is being written by another program"));
        return error.hint("a base must not change: stop the VM that has it as its disk");
    }
    Error::failed(format!("`{shown}` cannot be used: {reason}"))
}

/// Whether a sector is all text, which no disk's is.
fn is_text(start: &[u8]) -> bool {
    let text = str::from_utf8(start).or_else(|error| str::from_utf8(&start[..error.valid_up_to()]));
    text.is_ok_and(|text| {
        text.len() + 4 > start.len()
            && !text.contains(|c: char| c.is_control() && !"\t\r\n".contains(c))
    })
}
