//! Images are files or disks.

use crate::error::Error;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

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
        return Err(no_image(file, "is not a file"));
    }
    Ok(metadata)
}

pub(super) fn no_image(file: &Path, what: &str) -> Error {
    Error::failed(format!("`{}` is not a disk image: it {what}", file.display()))
}
