//! Finds out the format of an image file from its content: the format by its magic, and the header
//! of a qcow2 file (docs/interop/qcow2.txt of QEMU). Reads files and changes none.
//!
//! An image may name other files and network addresses, and qemu-img opens them without asking. So
//! an untrusted file is checked here before any program opens it, and its format is always passed
//! on, so that qemu-img never guesses.

use crate::error::Error;
use crate::text::sanitized;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
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
pub(super) const QCOW: &[u8] = b"QFI\xfb";
/// The start of the trailer of an Apple disk image, and the trailer's length.
const DMG: &[u8] = b"koly";
const DMG_BYTES: u64 = 512;
/// The size of the largest cluster of a qcow2 file; the whole header is in the first cluster.
const HEADER_BYTES_MAX: u64 = 2 << 20;
/// The number of bytes that QEMU reads when it guesses a format.
const START_BYTES: usize = 2048;
/// The smallest and the largest cluster, as powers of 2.
const CLUSTER_BITS: std::ops::RangeInclusive<u64> = 9..=21;
/// The maximum length of the name of a backing file.
const NAME_BYTES_MAX: usize = 1023;
/// The incompatible features that are accepted: the marks of a dirty or corrupt file, another
/// compression than deflate, subclusters. The third bit is an external data file.
const FEATURES: u64 = 0b1_1011;
const DATA_FILE_FEATURE: u64 = 0b100;
/// Header extensions.
const END: u64 = 0;
const BACKING_FORMAT: u64 = 0xe279_2aca;
const DATA_FILE: u64 = 0x4441_5441;

/// The format of an image, from its content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Raw,
    Qcow2(Qcow2),
    /// Another format that QEMU knows, by QEMU's name.
    Other(&'static str),
}

/// The header of a qcow2 file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Qcow2 {
    /// The size that the guest sees.
    pub(crate) virtual_bytes: u64,
    /// The name of the file with the content that this one lacks.
    pub(crate) backing: Option<String>,
    pub(crate) backing_format: Option<String>,
    /// The name of the external file with the content; it may be empty.
    data_file: Option<String>,
    is_encrypted: bool,
    unknown_features: u64,
}

/// Reads the format of a file or disk. The caller has made sure that it is one of the two.
pub(crate) fn read(file: &Path) -> Result<Format, Error> {
    let failed = |error| Error::io("read", file, &error);
    let mut opened = File::open(file).map_err(failed)?;
    let mut start = Vec::new();
    let mut take = |bytes: u64, start: &mut Vec<u8>| {
        (&mut opened).take(bytes).read_to_end(start).map(|_| ()).map_err(failed)
    };
    take(START_BYTES as u64, &mut start)?;
    if start.starts_with(QCOW) && number(&start, 4, 4) != Some(1) {
        take(HEADER_BYTES_MAX - START_BYTES as u64, &mut start)?;
        return qcow2(&start).map(Format::Qcow2).map_err(|reason| {
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

/// Reads the header of a qcow2 disk; `None` if the file is not one.
pub(crate) fn disk(file: &Path) -> Option<Qcow2> {
    if !file.is_file() {
        return None;
    }
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

/// Reads a qcow2 header from the bytes at the start of a file, or says what is wrong with it.
fn qcow2(bytes: &[u8]) -> Result<Qcow2, &'static str> {
    const SHORT: &str = "it ends too early";
    let field = |at, count| number(bytes, at, count).ok_or(SHORT);
    let size = |number: u64| usize::try_from(number).map_err(|_| SHORT);
    let (features, length) = match field(4, 4)? {
        2 => (0, 72),
        3 => (field(72, 8)?, field(100, 4)?.max(104)),
        _ => return Err("its version is neither 2 nor 3"),
    };
    let cluster_bits = field(20, 4)?;
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return Err("its clusters have an impossible size");
    }
    let cluster = &bytes[..bytes.len().min(1 << cluster_bits)];
    let (backing_at, backing_length) = (size(field(8, 8)?)?, size(field(16, 4)?)?);
    let mut header = Qcow2 {
        virtual_bytes: field(24, 8)?,
        is_encrypted: field(32, 4)? != 0,
        unknown_features: features & !(FEATURES | DATA_FILE_FEATURE),
        ..Qcow2::default()
    };
    let mut extensions_end = cluster.len();
    if backing_at != 0 {
        let name = cluster.get(backing_at..).and_then(|rest| rest.get(..backing_length));
        let name = name.filter(|name| name.len() <= NAME_BYTES_MAX).ok_or(SHORT)?;
        header.backing = Some(String::from_utf8_lossy(name).into_owned());
        extensions_end = extensions_end.min(backing_at);
    }
    let mut rest = cluster.get(size(length)?..extensions_end).ok_or(SHORT)?;
    while let Some((kind, length)) = number(rest, 0, 4).zip(number(rest, 4, 4)) {
        if kind == END {
            break;
        }
        let content = rest[8..].get(..size(length)?).ok_or("an extension is too long")?;
        let text = || Some(String::from_utf8_lossy(content).into_owned());
        match kind {
            BACKING_FORMAT => header.backing_format = text(),
            DATA_FILE => header.data_file = text(),
            _ => {}
        }
        rest = rest.get(8 + content.len().next_multiple_of(8)..).unwrap_or_default();
    }
    if features & DATA_FILE_FEATURE != 0 {
        header.data_file.get_or_insert_default();
    }
    Ok(header)
}

/// Reads a big-endian number of `count` bytes.
pub(super) fn number(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
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

    /// A header of version 3 with these features, a backing file at byte 200 and extensions.
    fn header(features: u64, backing: &[u8], extensions: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 104];
        let mut set = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        set(0, QCOW);
        set(4, &3_u32.to_be_bytes());
        if !backing.is_empty() {
            set(8, &200_u64.to_be_bytes());
            set(16, &u32::try_from(backing.len()).unwrap().to_be_bytes());
        }
        set(20, &16_u32.to_be_bytes());
        set(24, &4096_u64.to_be_bytes());
        set(72, &features.to_be_bytes());
        set(100, &104_u32.to_be_bytes());
        for (kind, content) in extensions {
            bytes.extend(u32::try_from(*kind).unwrap().to_be_bytes());
            bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.resize(200, 0);
        bytes.extend(backing);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        let format = match qcow2(bytes) {
            Ok(header) => Format::Qcow2(header),
            Err(reason) => return reason.into(),
        };
        format.check_alone("x").err().map(|error| error.message().to_string()).unwrap_or_default()
    }

    #[test]
    fn qcow2_headers() {
        let data: (u64, &[u8]) = (DATA_FILE, b"/etc/passwd");
        for (bytes, expected) in [
            (header(0, b"", &[]), ""),
            (header(FEATURES, b"", &[(0x6803_f857, &[0; 48])]), ""),
            (header(0, b"nbd:x", &[]), "`x` is based on another file, `nbd:x`"),
            (header(4, b"", &[]), "`x` has its content in another file, ``"),
            // The extension follows one of an odd length, and the feature is not set.
            (
                header(0, b"", &[(7, b"abc"), data]),
                "`x` has its content in another file, `/etc/passwd`",
            ),
            (
                header(1 << 40, b"", &[]),
                "`x` needs qcow2 features that are unknown here (0x10000000000)",
            ),
            (header(0, b"", &[(7, &[0; 80])]), ""),
            (header(0, b"", &[])[..100].to_vec(), "it ends too early"),
            (header(0, &[b'a'; 1024], &[]), "it ends too early"),
        ] {
            assert_eq!(refusal(&bytes), expected);
        }
        let mut short = header(0, b"a", &[(7, &[0; 64])]);
        short[104 + 4..104 + 8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(refusal(&short), "an extension is too long");
        let read = qcow2(&header(0, b"base", &[(BACKING_FORMAT, b"raw")])).unwrap();
        assert_eq!(
            (read.backing.as_deref(), read.backing_format.as_deref()),
            (Some("base"), Some("raw"))
        );
        assert_eq!(read.virtual_bytes, 4096);
        // A cut or flipped byte gives an answer and never a panic.
        let whole = header(0, b"base", &[(BACKING_FORMAT, b"raw"), data]);
        for at in 0..whole.len() {
            let _ = qcow2(&whole[..at]);
            let mut flipped = whole.clone();
            flipped[at] = 0xff;
            let _ = qcow2(&flipped);
        }
    }

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
