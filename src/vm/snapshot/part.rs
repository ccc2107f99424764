//! One disk's part of a snapshot.

use super::Tag;
use crate::json::Value;
use crate::vm::qcow2::{Qcow2, number};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// The fixed part of an entry of the snapshot table.
const ENTRY_BYTES: usize = 40;
/// Each entry begins at a multiple of this many bytes.
const ENTRY_ALIGNMENT: usize = 8;
/// The maximum size of a table that is read. One of a thousand snapshots takes about 80 KiB.
const TABLE_BYTES_MAX: u64 = 1 << 20;
const NANOSECONDS: u64 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) tag: String,
    /// The size of the machine's state, which is kept in one of the disks; 0 in the others.
    pub(crate) machine_bytes: u64,
    /// In seconds since 1970.
    pub(crate) saved_at: u64,
    /// How long the guest had run, in seconds.
    pub(crate) guest_seconds: u64,
}

impl Part {
    /// Reads the snapshots of an `ImageInfo` of `qapi/block-core.json`.
    pub(super) fn list(image: &Value) -> Vec<Self> {
        let read = |snapshot: &Value| {
            let number = |name| snapshot.number(name).unwrap_or_default();
            Some(Self {
                tag: snapshot.text("name")?.to_string(),
                machine_bytes: number("vm-state-size"),
                saved_at: number("date-sec"),
                guest_seconds: number("vm-clock-sec"),
            })
        };
        image.list("snapshots").iter().filter_map(read).collect()
    }

    /// The part of the snapshot with this tag.
    pub(super) fn find<'p>(parts: &'p [Self], tag: &Tag) -> Option<&'p Self> {
        parts.iter().find(|part| part.tag == tag.as_str())
    }

    /// Whether it has the state of a machine.
    pub(crate) fn has_machine(&self) -> bool {
        self.machine_bytes > 0
    }

    /// Reads the snapshots in a qcow2 image from their table, in the order in which they were saved
    /// (`docs/interop/qcow2.rst` of QEMU); `None` if it cannot be read. A snapshot whose tag is not
    /// UTF-8 is left out. This needs no program, and works while another one has the image open.
    pub(crate) fn in_image(file: &Path, header: &Qcow2) -> Option<Vec<Self>> {
        let (count, offset) = header.snapshots;
        let mut file = File::open(file).ok()?;
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
