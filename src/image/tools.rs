//! TRUSTED CORE: runs the programs that fetch, verify and make images, and ends those that take too
//! long.

use super::hold::Held;
use crate::error::{Error, io_reason};
use crate::log::Log;
use crate::programs;
use crate::text::{command_line, sanitized};
use crate::vm::wait;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

/// Bytes that are kept of a program's stdout, and of its stderr.
const STDOUT_BYTES_MAX: u64 = 4 * 1024 * 1024;
const STDERR_BYTES_KEPT: usize = 4096;

/// How a program ended, and its output.
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// The end of its stderr.
    pub(super) stderr: String,
}

impl Said {
    /// The line that says why it failed, or how it ended. curl may draw a `^` below its message.
    pub(super) fn reason(&self) -> String {
        let mut lines = self.stderr.lines().map(str::trim);
        let of_curl = lines.clone().find(|line| line.starts_with("curl: ("));
        let last = || lines.rfind(|line| line.contains(char::is_alphanumeric));
        match of_curl.or_else(last) {
            Some(line) => sanitized(line),
            None => self.status.to_string(),
        }
    }
}

/// Runs a program to its end, or until `watch` returns an error, which ends the program. With
/// `held`, its standard input is the lock; otherwise it is what `command` sets.
pub(super) fn run(
    mut command: Command,
    held: Option<&Held>,
    watch: &mut dyn FnMut() -> Option<Error>,
    log: &Log,
) -> Result<Said, Error> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    log.verbose(|| format!("exec {}", command_line(words)));
    let failed = |command: &Command, error| programs::cannot_run(command, &error);
    if let Some(held) = held {
        let stdin = held.stdin().map_err(|error| failed(&command, error))?;
        command.stdin(stdin);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(&command, error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let readers = (thread::spawn(|| start_of(stdout)), thread::spawn(|| end_of(stderr)));
    let status = wait_for(&mut child, Path::new(command.get_program()), watch)?;
    let (stdout, stderr) = (readers.0.join(), readers.1.join());
    Ok(Said {
        status,
        stdout: stdout.unwrap_or_default(),
        stderr: String::from_utf8_lossy(&stderr.unwrap_or_default()).into_owned(),
    })
}

fn wait_for(
    child: &mut Child,
    program: &Path,
    watch: &mut dyn FnMut() -> Option<Error>,
) -> Result<ExitStatus, Error> {
    let ended = wait::poll_long(None::<Instant>, || match child.try_wait() {
        Ok(None) => watch().map(Err),
        Ok(Some(status)) => Some(Ok(status)),
        Err(error) => {
            let message = format!("cannot wait for `{}`: {}", program.display(), io_reason(&error));
            Some(Err(Error::failed(message)))
        }
    });
    ended.unwrap_or_else(|| Err(Error::failed("the wait ended"))).inspect_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
    })
}

/// The start of a stream. A program that writes more is ended by the closed pipe.
fn start_of(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(STDOUT_BYTES_MAX).read_to_end(&mut bytes);
    }
    bytes
}

fn end_of(stream: Option<impl Read>) -> Vec<u8> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 1024]);
    let Some(mut stream) = stream else { return bytes };
    while let Ok(count) = stream.read(&mut chunk)
        && count > 0
    {
        bytes.extend_from_slice(&chunk[..count]);
        let too_many = bytes.len().saturating_sub(STDERR_BYTES_KEPT);
        bytes.drain(..too_many);
    }
    bytes
}
