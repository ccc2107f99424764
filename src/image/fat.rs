//! A file system with a few files, as bytes: FAT12 with long names. Pure.
//!
//! It takes a quarter of the space of ISO 9660 with Joliet, which spends 2 KiB on each of a dozen
//! structures; cloud-init looks for both. The layout, and the names of the fields, are those of
//! Microsoft's "FAT: General Overview of On-Disk Format" 1.03. The same files give the same bytes.

use std::iter;

/// Bytes of a sector, which is also a cluster here.
const SECTOR: usize = 512;
/// The media byte that `blkid` and `file` take for a fixed disk.
const MEDIA: u8 = 0xf8;
/// Bytes of a directory entry; a sector of the root directory has 16 of them.
const ENTRY: usize = 32;
/// The end of a chain of clusters.
const END_OF_CHAIN: usize = 0xfff;
const ATTR_READ_ONLY: u8 = 0x01;
const ATTR_VOLUME_ID: u8 = 0x08;
const ATTR_LONG_NAME: u8 = 0x0f;
/// 1980-01-01, the first day of FAT.
const DATE: u16 = 1 << 5 | 1;
/// Where the three parts of a long name are in its entry, and their numbers of UTF-16 units.
const LONG_NAME_PARTS: [(usize, usize); 3] = [(1, 5), (14, 6), (28, 2)];

/// Makes the file system with this label, of up to 11 ASCII characters, and these files, with names
/// of up to 13. The caller makes sure that they have up to 4084 sectors, 2 MB: more were FAT16.
pub(super) fn image(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let label = &format!("{label:11}");
    // The first two entries of the table are for no cluster.
    let mut table = vec![0xff0 | usize::from(MEDIA & 0xf), END_OF_CHAIN];
    let mut directory = short_entry(label.as_bytes(), ATTR_VOLUME_ID, 0, 0).to_vec();
    let mut data = Vec::new();
    for (number, (name, content)) in files.iter().enumerate() {
        let (next, count) = (table.len(), content.len().div_ceil(SECTOR));
        table.extend((next + 1..next + count).chain([END_OF_CHAIN]).take(count));
        let (short, first) = (short_name(number), if count == 0 { 0 } else { next });
        directory.extend(long_entry(name, &short));
        directory.extend(short_entry(&short, ATTR_READ_ONLY, first, content.len()));
        data.extend_from_slice(content);
        data.resize(data.len().next_multiple_of(SECTOR), 0);
    }
    let table = packed(&table);
    directory.resize(directory.len().next_multiple_of(SECTOR), 0);
    let mut image = boot_sector(label, &table, &directory, data.len());
    image.extend([table, directory, data].concat());
    image
}

/// The boot sector with what is known as the BIOS parameter block.
fn boot_sector(label: &str, table: &[u8], directory: &[u8], data_bytes: usize) -> Vec<u8> {
    let sectors = 1 + (table.len() + directory.len() + data_bytes) / SECTOR;
    let mut sector = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x3c, 0x90]); // BS_jmpBoot
    put(3, b"qqmgr   "); // BS_OEMName
    put(11, &le16(SECTOR)); // BPB_BytsPerSec
    put(13, &[1]); // BPB_SecPerClus
    put(14, &le16(1)); // BPB_RsvdSecCnt: this one
    put(16, &[1]); // BPB_NumFATs
    put(17, &le16(directory.len() / ENTRY)); // BPB_RootEntCnt
    put(19, &le16(sectors)); // BPB_TotSec16
    put(21, &[MEDIA]); // BPB_Media
    put(22, &le16(table.len() / SECTOR)); // BPB_FATSz16
    put(24, &le16(32)); // BPB_SecPerTrk
    put(26, &le16(64)); // BPB_NumHeads
    put(36, &[0x80, 0, 0x29]); // BS_DrvNum, BS_Reserved1, BS_BootSig
    put(39, b"qqm1"); // BS_VolID
    put(43, label.as_bytes()); // BS_VolLab
    put(54, b"FAT12   "); // BS_FilSysType
    put(510, &[0x55, 0xaa]);
    sector
}

/// Packs entries of 12 bits, two in three bytes, into whole sectors.
fn packed(table: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for pair in table.chunks(2) {
        let (low, high) = (pair[0], pair.get(1).copied().unwrap_or_default());
        let both = (low | high << 12).to_le_bytes();
        bytes.extend_from_slice(&both[..3]);
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

/// A short name, which is never read since all files have a long one. It only has to differ.
fn short_name(number: usize) -> [u8; 11] {
    let mut name = *b"FILE~0     ";
    name[5] += u8::try_from(number % 10).unwrap_or_default();
    name
}

fn short_entry(name: &[u8], attributes: u8, cluster: usize, bytes: usize) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[26..28].copy_from_slice(&le16(cluster));
    entry[28..].copy_from_slice(&bytes.to_le_bytes()[..4]);
    entry
}

/// The entry of a long name, tied by a checksum to the short name that follows.
fn long_entry(name: &str, short: &[u8; 11]) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0] = 0x41; // The first entry of the name, and its last.
    entry[11] = ATTR_LONG_NAME;
    entry[13] = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let places = LONG_NAME_PARTS.into_iter().flat_map(|(at, count)| (at..).step_by(2).take(count));
    let units = name.encode_utf16().chain([0]).chain(iter::repeat(0xffff));
    for (at, unit) in places.zip(units) {
        entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
    }
    entry
}

fn le16(number: usize) -> [u8; 2] {
    let bytes = number.to_le_bytes();
    [bytes[0], bytes[1]]
}
