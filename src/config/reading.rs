//! Reads the file of the configuration.

use crate::error::{Error, Kind};
use crate::source::{Problem, Source, Span};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;

/// Limit of the file; a thousand VMs take about 300 KiB.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads the file, which messages call `shown`.
pub(super) fn read(file: &Path, shown: String) -> Result<Source, Error> {
    let unreadable = |error| Error::io("read", file, &error).of_kind(Kind::Config);
    if file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        // Opening it would wait for a writer.
        return Err(Error::new(Kind::Config, format!("`{shown}` is a FIFO, and must be a file")));
    }
    let opened = File::open(file).map_err(unreadable)?;
    let size = opened.metadata().map_or(0, |metadata| metadata.len()).min(CONFIG_BYTES_MAX);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    opened.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        let message = format!("`{shown}` is larger than {} MiB", CONFIG_BYTES_MAX >> 20);
        return Err(Error::new(Kind::Config, message)
            .hint("is it the right file? a configuration of 1,000 VMs takes less than 1 MiB"));
    }
    String::from_utf8(bytes).map(|text| Source { name: shown.clone(), text }).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let span = Span { start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
        let source = Arc::new(Source { name: shown, text });
        let problem = Problem::new(span, "invalid UTF-8").hint("save the file as UTF-8");
        Error::config(&source, vec![problem])
    })
}
