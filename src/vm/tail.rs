//! The end of what QEMU or the guest wrote, for a message. Reads only.

use crate::files;
use crate::text::sanitized;
use std::path::Path;

/// A message shows this much of a file.
const BYTES_SHOWN: u64 = 4096;
const LINES_SHOWN: usize = 20;

/// The last lines of a file that are not blank, fit for a terminal; nothing of one that is not
/// there.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = files::read_end(path, BYTES_SHOWN).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    sanitized(&shown.join("\n"))
}
