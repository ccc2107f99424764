//! The end of the output of QEMU or the guest, for a message. Reads only.

use crate::system::files;
use crate::text::sanitized;
use std::path::Path;

/// How much of a file a message shows.
const BYTES_SHOWN: u64 = 4096;
const LINES_SHOWN: usize = 20;

/// The last lines of a file that are not blank, safe for a terminal; empty if the file does not
/// exist.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = files::read_end(path, BYTES_SHOWN).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    sanitized(&shown.join("\n"))
}
