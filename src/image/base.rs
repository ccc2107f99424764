//! Examines the base of a disk before it is used: by [`format::read`], and then by qemu-img(1).

use super::bases::verify;
use super::change::Change;
use super::context::{Context, is_locked, reason};
use super::fetch::fetch;
use crate::config::Config;
use crate::config::declared::Location;
use crate::error::Error;
use crate::json;
use crate::source::Problem;
use crate::system::files;
use crate::system::output::Output;
use crate::text::sanitized;
use crate::vm::format::{self, Format, check_kind, no_image};
use crate::vm::qcow2::Qcow2;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A raw image's size is a multiple of this.
const SECTOR: u64 = 512;
/// How many files a base may be based on, one on the other.
const CHAIN_MAX: usize = 16;
/// The beginnings of files that are not images, although qemu-img takes them for raw ones.
const NO_IMAGES: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "is compressed by gzip", "`gunzip` unpacks it"),
    (b"\xfd7zXZ\0", "is compressed by xz", "`unxz` unpacks it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "`unzstd` unpacks it"),
    (b"BZh", "is compressed by bzip2", "`bunzip2` unpacks it"),
    (b"PK\x03\x04", "is a ZIP archive", "`unzip` unpacks it"),
    (b"\x7fELF", "is a program", "a disk image is needed"),
];

/// An image that disks may be based on.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) file: PathBuf,
    pub(crate) format: &'static str,
    /// The size that the guest sees.
    pub(crate) virtual_bytes: u64,
}

/// The declared base, fetched if necessary, verified and examined; `None` for an image without one.
pub(super) fn declared_base(change: &Change) -> Result<Option<Base>, Error> {
    let Change { context, declared } = change;
    let (config, Some(base)) = (context.config, &declared.base) else { return Ok(None) };
    let at_base = |error: Error| config.problem(error.at(base.span));
    let (file, url) = match &base.location {
        Location::Url(url) => {
            let Some(fetched) = fetch(context, Some(url), &base.sums)? else { return Ok(None) };
            (fetched, Some(url.as_str()))
        }
        Location::File(file) => {
            check_is_there(config, file).map_err(at_base)?;
            verify(context, file, &base.sums).map_err(at_base)?;
            (file.clone(), None)
        }
    };
    let base = examine(context, &file, url).map_err(at_base)?;
    if let Some((size, span)) = declared.size.filter(|(size, _)| *size < base.virtual_bytes) {
        let message = format!(
            "image `{}` would be smaller than its base, which has {} bytes, not {size}",
            declared.name, base.virtual_bytes
        );
        let problem = Problem::new(span, message);
        return Err(config.problem(problem.hint("an image can be grown, not shrunk")));
    }
    Ok(Some(base))
}

/// Returns an error if there is no such file.
pub(super) fn check_is_there(config: &Config, file: &Path) -> Result<(), Error> {
    match file.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let error = Error::failed(format!("there is no file `{}`", file.display()));
            Err(error.hint(format!("relative paths start from `{}`", config.dir().display())))
        }
        _ => Ok(()),
    }
}

/// Examines an image before a disk is based on it. One that was fetched from `url` must have all
/// its data in its one file; others may be based on files of this host, which are examined too.
pub(crate) fn examine(context: &Context, file: &Path, url: Option<&str>) -> Result<Base, Error> {
    let mut format = format::read(file)?;
    match url {
        Some(url) => format.check_alone(url)?,
        None => format.check_plain(&file.display().to_string())?,
    }
    let base = examine_as(context, file, &format)?;
    let mut file = file.to_path_buf();
    for _ in 0..CHAIN_MAX {
        let Some(below) = backing(&file, &format)? else { return Ok(base) };
        (file, format) = below;
        examine_as(context, &file, &format)?;
    }
    let message = format!("`{}` is based on too many files", base.file.display());
    Err(Error::failed(message).hint(format!("the limit is {CHAIN_MAX}")))
}

/// Has qemu-img examine one file, whose format is known, and no other.
fn examine_as(context: &Context, file: &Path, format: &Format) -> Result<Base, Error> {
    if *format == Format::Raw {
        check_raw(file)?;
    }
    let output = context.info(file, format.name())?;
    if !output.status.success() {
        return Err(unusable(file, &output));
    }
    let facts = json::parse(&output.stdout).ok();
    let size = facts.and_then(|facts| facts.get("virtual-size")?.as_u64());
    let virtual_bytes = size.ok_or_else(|| {
        Error::failed(format!("qemu-img does not tell the size of `{}`", file.display()))
    })?;
    Ok(Base { file: file.to_path_buf(), format: format.name(), virtual_bytes })
}

/// The file that a qcow2 image is based on, and its format. Neither is guessed.
fn backing(file: &Path, format: &Format) -> Result<Option<(PathBuf, Format)>, Error> {
    let Format::Qcow2(Qcow2 { backing: Some(name), backing_format, .. }) = format else {
        return Ok(None);
    };
    let (shown, name_shown) = (file.display(), sanitized(name));
    let is_file = name.find([':', '/']).is_none_or(|at| name[at..].starts_with('/'));
    if !is_file || name.is_empty() {
        let message = format!("`{shown}` is based on `{name_shown}`, which is not a file");
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

fn unusable(file: &Path, output: &Output) -> Error {
    let (shown, reason) = (file.display(), reason(output));
    let reason = reason.strip_prefix("qemu-img: ").unwrap_or(&reason);
    if is_locked(output) {
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
