//! The header of a qcow2 file (docs/interop/qcow2.txt of QEMU).

pub(super) const QCOW: &[u8] = b"QFI\xfb";
/// The size of the largest cluster of a qcow2 file; the whole header is in the first cluster.
pub(super) const HEADER_BYTES_MAX: u64 = 2 << 20;
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

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Qcow2 {
    /// The size that the guest sees.
    pub(crate) virtual_bytes: u64,
    /// The name of the file with the content that this one lacks.
    pub(crate) backing: Option<String>,
    pub(crate) backing_format: Option<String>,
    /// The name of the external file with the content; it may be empty.
    pub(super) data_file: Option<String>,
    pub(super) is_encrypted: bool,
    /// The number of snapshots, and the place of their table.
    pub(super) snapshots: (u64, u64),
    pub(super) unknown_features: u64,
}

impl Qcow2 {
    /// Reads a qcow2 header from the bytes at the start of a file, or says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
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
        let mut header = Self {
            virtual_bytes: field(24, 8)?,
            is_encrypted: field(32, 4)? != 0,
            snapshots: (field(60, 4)?, field(64, 8)?),
            unknown_features: features & !(FEATURES | DATA_FILE_FEATURE),
            ..Self::default()
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
}

/// Reads a big-endian number of `count` bytes.
pub(super) fn number(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::format::Format;

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
        let format = match Qcow2::parse(bytes) {
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
        let read = Qcow2::parse(&header(0, b"base", &[(BACKING_FORMAT, b"raw")])).unwrap();
        assert_eq!(
            (read.backing.as_deref(), read.backing_format.as_deref()),
            (Some("base"), Some("raw"))
        );
        assert_eq!(read.virtual_bytes, 4096);
        // A cut or flipped byte gives an answer and never a panic.
        let whole = header(0, b"base", &[(BACKING_FORMAT, b"raw"), data]);
        for at in 0..whole.len() {
            let _ = Qcow2::parse(&whole[..at]);
            let mut flipped = whole.clone();
            flipped[at] = 0xff;
            let _ = Qcow2::parse(&flipped);
        }
    }
}
