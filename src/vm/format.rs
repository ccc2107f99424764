//! Finds out the format of an image file from its content: the format by its magic, and the header
//! of a qcow2 file (docs/interop/qcow2.txt of QEMU). Reads files and changes none.
//!
//! An image may name other files and network addresses, and qemu-img opens them without asking. So
//! an untrusted file is checked here before any program opens it, and its format is always passed
//! on, so that qemu-img never guesses.

use super::qcow2::{HEADER_BYTES_MAX, QCOW, Qcow2, number};
use crate::error::Error;
use crate::text::sanitized;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// The formats that QEMU detects by content: the offset of the magic, the magic, and the name.
/// Functions below detect a VMDK descriptor and version 1 of qcow2.
const MAGICS: &[(usize, &[u8], &str)] = &[
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
];
/// The start of the trailer of an Apple disk image, and the trailer's length.
const DMG: &[u8] = b"koly";
const DMG_BYTES: u64 = 512;
/// The number of bytes that QEMU reads when it guesses a format.
const START_BYTES: usize = 2048;
/// The format of an image, from its content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Raw,
    Qcow2(Qcow2),
    /// Another format that QEMU knows, by QEMU's name.
    Other(&'static str),
}

/// Returns an error unless it is a file or a disk. Opening anything else might take forever.
pub(crate) fn check_kind(file: &Path) -> Result<Metadata, Error> {
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

pub(crate) fn no_image(file: &Path, what: &str) -> Error {
    Error::failed(format!("`{}` is not a disk image: it {what}", file.display()))
}

/// Reads the format of a file or disk.
pub(crate) fn read(file: &Path) -> Result<Format, Error> {
    check_kind(file)?;
    let failed = |error| Error::io("read", file, &error);
    let mut opened = File::open(file).map_err(failed)?;
    let mut start = Vec::new();
    let mut take = |bytes: u64, start: &mut Vec<u8>| {
        (&mut opened).take(bytes).read_to_end(start).map(|_| ()).map_err(failed)
    };
    take(START_BYTES as u64, &mut start)?;
    if start.starts_with(QCOW) && number(&start, 4, 4) != Some(1) {
        take(HEADER_BYTES_MAX - START_BYTES as u64, &mut start)?;
        return Qcow2::parse(&start).map(Format::Qcow2).map_err(|reason| {
            let message = format!("`{}` has a broken qcow2 header: {reason}", file.display());
            Error::failed(message).hint("fetch or copy it again")
        });
    }
    let mut end = Vec::new();
    if let Ok(length) = opened.seek(SeekFrom::End(0))
        && length >= DMG_BYTES
    {
        opened.seek(SeekFrom::Start(length - DMG_BYTES)).map_err(failed)?;
        opened.take(DMG.len() as u64).read_to_end(&mut end).map_err(failed)?;
    }
    Ok(by_magic(&start, &end))
}

/// Reads the header of a qcow2 disk; `None` if it is not one.
pub(crate) fn disk(file: &Path) -> Option<Qcow2> {
    match read(file).ok()? {
        Format::Qcow2(header) => Some(header),
        _ => None,
    }
}

fn by_magic(start: &[u8], end: &[u8]) -> Format {
    let has = |(at, magic, _): &&(usize, &[u8], &str)| {
        start.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    };
    match MAGICS.iter().find(has) {
        Some((_, _, name)) => Format::Other(name),
        None if start.starts_with(QCOW) => Format::Other("qcow"),
        None if is_vmdk_descriptor(start) => Format::Other("vmdk"),
        None if end == DMG => Format::Other("dmg"),
        None => Format::Raw,
    }
}

/// Whether it is a VMDK descriptor, the text that names the files of a VMDK image: comments, empty
/// lines, and then a version (`vmdk_probe` of block/vmdk.c).
fn is_vmdk_descriptor(start: &[u8]) -> bool {
    let lines = start.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    lines.next().is_some_and(|line| line.starts_with(b"version="))
}

impl Format {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2(_) => "qcow2",
            Self::Other(name) => name,
        }
    }

    /// Checks that the image is raw or qcow2, with all of its content in the file or its backing
    /// file. `shown` is the image's name for messages.
    pub(crate) fn check_plain(&self, shown: &str) -> Result<(), Error> {
        let header = match self {
            Self::Raw => return Ok(()),
            Self::Qcow2(header) => header,
            Self::Other(name) => {
                let message = format!("`{shown}` is in the format {name}, not raw or qcow2");
                let hint = convert(name) + "; `-f raw`, if it only looks like that format";
                return Err(Error::failed(message).hint(hint));
            }
        };
        let what = if let Some(name) = &header.data_file {
            format!("has its content in another file, `{}`", sanitized(name))
        } else if header.is_encrypted {
            "is encrypted".into()
        } else if header.unknown_features != 0 {
            format!("needs qcow2 features that are unknown here ({:#x})", header.unknown_features)
        } else {
            return Ok(());
        };
        Err(Error::failed(format!("`{shown}` {what}")).hint(convert("qcow2")))
    }

    /// Checks that the image names no other file with a part of its content. Otherwise the author
    /// of the image could choose a file of this host for the guest to read, or an address to
    /// connect to.
    pub(crate) fn check_alone(&self, shown: &str) -> Result<(), Error> {
        self.check_plain(shown)?;
        match self {
            Self::Qcow2(Qcow2 { backing: Some(name), .. }) => {
                let message = format!("`{shown}` is based on another file, `{}`", sanitized(name));
                Err(Error::failed(message).hint(convert("qcow2")))
            }
            _ => Ok(()),
        }
    }
}

/// A hint on how to make an image that is accepted.
pub(crate) fn convert(format: &str) -> String {
    format!(
        "if you trust it, `qemu-img convert -f {format} -O qcow2 IMAGE NEW.qcow2` makes it one whole \
         file; name that in `base`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_magic() {
        for (start, expected) in [
            (&b"QFI\xfb\0\0\0\x01"[..], "qcow"),
            (b"KDMV", "vmdk"),
            (b"# Disk DescriptorFile\n\n \r\nversion=1\n", "vmdk"),
            (b"version=1", "vmdk"),
            (b"# no descriptor\nconversion=1", "raw"),
            (b"conectix", "vpc"),
            (b"QFI", "raw"),
            (b"", "raw"),
        ] {
            assert_eq!(by_magic(start, b"").name(), expected);
        }
        assert_eq!(by_magic(&[0; 512], DMG).name(), "dmg");
    }
}
