//! Reads files that grow while the VM runs, such as the output of the guest or QEMU: the last
//! lines, and new output. A guest may write any amount, so every read is of a bounded piece.

use super::process::Process;
use super::wait;
use crate::error::Error;
use crate::system::files;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The maximum size of a piece.
const CHUNK_BYTES: usize = 64 * 1024;

/// An open file and the position up to which it was read. It stays the file of its boot when a new
/// start puts another in its place.
pub(crate) struct Output {
    path: PathBuf,
    /// `None` while the file does not exist: QEMU makes it a moment after it was started.
    file: Option<File>,
}

impl Output {
    /// Opens a file at its start. Anything but a regular file is an error; a reader of a FIFO, for
    /// example, might wait for ever.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut output = Self { path: path.to_path_buf(), file: None };
        output.find().map_err(|error| Error::io("read", path, &error))?;
        Ok(output)
    }

    pub(crate) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Skips all but the last `lines` lines. Text after the last line end counts as a line.
    pub(crate) fn skip_to_last(&mut self, lines: u64) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let skipped = start_of_last(file, lines).and_then(|at| file.seek(SeekFrom::Start(at)));
        skipped.map(|_| ()).map_err(|error| Error::io("read", &self.path, &error))
    }

    /// Reads the next bytes, and waits for them as long as the process is alive. `None` at the end.
    pub(crate) fn next(&mut self, process: Option<&Process>) -> Result<Option<Vec<u8>>, Error> {
        let next = wait::poll_long(None, || {
            // Ask before reading, so that an ended QEMU's last output is read.
            let alive = process.is_some_and(Process::is_alive);
            match self.piece() {
                Ok(bytes) if bytes.is_empty() => (!alive).then_some(Ok(None)),
                other => Some(other.map(Some)),
            }
        });
        next.transpose().map(Option::flatten)
    }

    /// Reads the next available bytes, at most [`CHUNK_BYTES`]; none at the end of the file.
    pub(crate) fn piece(&mut self) -> Result<Vec<u8>, Error> {
        self.read().map_err(|error| Error::io("read", &self.path, &error))
    }

    fn find(&mut self) -> io::Result<()> {
        match files::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            opened => opened.map(|file| self.file = Some(file)),
        }
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.find()?;
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}

/// The offset of the last `lines` lines, searched for from the end.
fn start_of_last(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let (mut end, mut left) = (length, lines);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    while end > 0 && lines > 0 {
        let start = end.saturating_sub(CHUNK_BYTES as u64);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        file.take(end - start).read_to_end(&mut chunk)?;
        for at in (0..chunk.len()).rev() {
            let behind = start + at as u64 + 1;
            // The line end of the last line begins no other line.
            if chunk[at] == b'\n' && behind < length {
                left -= 1;
                if left == 0 {
                    return Ok(behind);
                }
            }
        }
        end = start;
    }
    Ok(if lines == 0 { length } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(content: &[u8], lines: u64) -> Vec<u8> {
        let name = crate::text::fingerprint(&[content, &lines.to_le_bytes()].concat());
        let path = std::env::temp_dir().join(format!("qqmgr-output-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let mut output = Output::open(&path).unwrap();
        output.skip_to_last(lines).unwrap();
        let mut all = Vec::new();
        while let Some(bytes) = output.next(None).unwrap() {
            all.extend(bytes);
        }
        std::fs::remove_file(path).unwrap();
        all
    }

    #[test]
    fn the_last_lines() {
        for (content, lines, expected) in [
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nlogin: ", 1, "login: "),
            ("a\n\n", 1, "\n"),
            ("", 3, ""),
        ] {
            assert_eq!(last(content.as_bytes(), lines), expected.as_bytes(), "{lines} {content:?}");
        }
    }

    #[test]
    fn the_last_lines_of_a_large_file() {
        let content = "x".repeat(99) + "\n";
        let content = content.repeat(5_000);
        assert_eq!(last(content.as_bytes(), 3_000).len(), 300_000);
        let one = vec![b'x'; 3 * CHUNK_BYTES];
        assert_eq!(last(&one, 2), one);
    }
}
