//! Reads the snapshots in a qcow2 image from its header (`docs/interop/qcow2.rst` of QEMU). This
//! needs no program, and works while another program has the image open.

use super::Part;
use crate::vm::qcow2::{QCOW, number};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// The length of the header up to and including the offset of the snapshot table.
const HEADER_BYTES: usize = 72;
/// The fixed part of an entry of the snapshot table.
const ENTRY_BYTES: usize = 40;
/// Each entry begins at a multiple of this many bytes.
const ENTRY_ALIGNMENT: usize = 8;
/// The maximum size of a table that is read. One of a thousand snapshots takes about 80 KiB.
const TABLE_BYTES_MAX: u64 = 1 << 20;
const NANOSECONDS: u64 = 1_000_000_000;

/// The snapshots in the order in which they were saved; `None` if the file is not a qcow2 image, or
/// if its table cannot be read. A snapshot whose tag is not UTF-8 is left out.
pub(crate) fn parts(file: &Path) -> Option<Vec<Part>> {
    // Opening a FIFO would block.
    let kind = file.metadata().ok()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return None;
    }
    let mut file = File::open(file).ok()?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).ok()?;
    if !header.starts_with(QCOW) {
        return None;
    }
    let (count, offset) = (number(&header, 60, 4)?, number(&header, 64, 8)?);
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut table = Vec::new();
    file.take(TABLE_BYTES_MAX).read_to_end(&mut table).ok()?;
    let (mut parts, mut rest) = (Vec::new(), table.as_slice());
    for _ in 0..count {
        let (part, next) = entry(rest)?;
        parts.extend(part);
        rest = next;
    }
    Some(parts)
}

/// The snapshot of the first entry, if its tag is UTF-8, and the rest of the table after it.
fn entry(table: &[u8]) -> Option<(Option<Part>, &[u8])> {
    let length = |at, bytes| usize::try_from(number(table, at, bytes)?).ok();
    let (id, name, extra) = (length(12, 2)?, length(14, 2)?, length(36, 4)?);
    let begin = ENTRY_BYTES.checked_add(extra)?.checked_add(id)?;
    let end = begin.checked_add(name)?;
    let tag = String::from_utf8(table.get(begin..end)?.to_vec()).ok();
    // The extra data begins with the size of the machine's state, which else has 32 bits.
    let machine_bytes =
        if extra < 8 { number(table, 32, 4)? } else { number(table, ENTRY_BYTES, 8)? };
    let (saved_at, nanoseconds) = (number(table, 16, 4)?, number(table, 24, 8)?);
    let guest_seconds = nanoseconds / NANOSECONDS;
    let part = tag.map(|tag| Part { tag, machine_bytes, saved_at, guest_seconds });
    Some((part, table.get(end.next_multiple_of(ENTRY_ALIGNMENT)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, &str, usize)]) -> Vec<u8> {
        let mut table = Vec::new();
        for (id, name, extra) in entries {
            let mut entry = vec![0; ENTRY_BYTES];
            entry[13] = u8::try_from(id.len()).unwrap();
            entry[15] = u8::try_from(name.len()).unwrap();
            entry[39] = u8::try_from(*extra).unwrap();
            entry.extend(vec![0xff; *extra]);
            entry.extend_from_slice(id.as_bytes());
            entry.extend_from_slice(name.as_bytes());
            entry.resize(entry.len().next_multiple_of(ENTRY_ALIGNMENT), 0);
            table.extend(entry);
        }
        table
    }

    #[test]
    fn entries_are_read_one_after_the_other() {
        let table = table(&[("1", "first", 24), ("20", "a b;c", 16), ("3", "", 0)]);
        let mut rest = table.as_slice();
        for expected in ["first", "a b;c", ""] {
            let (part, next) = entry(rest).unwrap();
            assert_eq!(part.unwrap().tag, expected);
            rest = next;
        }
        assert_eq!(entry(rest), None);
        for end in 0..table.len() {
            // A table that is cut anywhere is read without a panic.
            let _ = entry(&table[..end]);
        }
    }

    #[test]
    fn lengths_that_are_too_large_end_the_table() {
        let mut table = table(&[("1", "first", 0)]);
        table[36..40].fill(0xff);
        assert_eq!(entry(&table), None);
    }
}
