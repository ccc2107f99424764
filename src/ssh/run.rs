//! TRUSTED CORE: runs `ssh`, `scp` and `tar`.

use crate::error::{Error, Kind, io_reason};
use crate::log::Log;
use crate::programs::cannot_run;
use crate::text::{command_line, sanitized};
use crate::vm::tail::tail;
use crate::vm::wait::poll;
use crate::vm::{Paths, events};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Limit for each of a program's two output streams, where it is kept.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Marks a line on stderr that is not an error: it names what a script on the guest left out.
pub(super) const MARK: &[u8] = b"qqmgr-left-out: ";

/// The signal's number, which is the same on all systems that QEMU runs on.
const SIGPIPE: i32 = 13;

/// When to end a program that has not ended by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// The time limit as it was given, and the moment when it is over.
    pub(crate) deadline: Option<(Duration, Instant)>,
    /// The VM whose guest must live on, and how many bytes its event log had before: ssh notices
    /// late, or never, that the guest has ended.
    pub(crate) guest: Option<(Paths, u64)>,
}

impl Limits {
    /// The time that is left, and at most `most`; rounded up to tenths of a second, since errors
    /// show it.
    pub(crate) fn left(&self, most: Duration) -> Duration {
        let Some((_, deadline)) = self.deadline else { return most };
        let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
        Duration::from_secs_f64((left * 10.0).ceil() / 10.0).min(most)
    }

    /// Waits for a program to end, or ends it and returns the reason.
    fn wait(&self, child: &mut Child, program: &OsStr) -> Result<ExitStatus, Error> {
        let failed = |error: &std::io::Error| {
            let reason = io_reason(error);
            Error::failed(format!("cannot wait for `{}`: {reason}", program.display()))
        };
        if self.deadline.is_none() && self.guest.is_none() {
            return child.wait().map_err(|error| failed(&error));
        }
        let ended = poll(None::<Instant>, || match child.try_wait() {
            Ok(None) => self.exceeded().map(Err),
            Ok(Some(status)) => Some(Ok(status)),
            Err(error) => Some(Err(failed(&error))),
        });
        if !matches!(ended, Some(Ok(_))) {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended.unwrap_or_else(|| child.wait().map_err(|error| failed(&error)))
    }

    pub(crate) fn exceeded(&self) -> Option<Error> {
        if let Some((limit, deadline)) = self.deadline
            && Instant::now() >= deadline
        {
            let message = format!("gave up after {} s", limit.as_secs_f64());
            return Some(Error::new(Kind::TimedOut, message));
        }
        let (paths, told) = self.guest.as_ref()?;
        let what = events::lost_since(paths, *told)?;
        let said = tail(&paths.serial);
        let message = format!("{what}; the end of its serial output:\n{said}");
        Some(Error::new(Kind::NotRunning, message))
    }
}

/// How a program ended, and its output.
pub(crate) struct Output {
    /// `None` when a signal ended it.
    pub(crate) exit_code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// Its stderr, as text for a message.
    pub(super) fn said(&self) -> String {
        said(&self.stderr)
    }
}

fn said(stderr: &[u8]) -> String {
    sanitized(String::from_utf8_lossy(stderr).trim())
}

/// Replaces this process by the program. Returns only when that fails.
pub(crate) fn replace_by(mut command: Command, log: &Log) -> Error {
    trace(&command, log);
    let error = command.exec();
    cannot_run(&command, &error)
}

/// Runs a program to its end and keeps its stdout and stderr.
pub(crate) fn capture(mut command: Command, limits: &Limits, log: &Log) -> Result<Output, Error> {
    command.stdout(Stdio::piped());
    watch(command, limits, log)
}

/// Runs a program to its end and keeps its stderr; its stdout is ours, where progress is shown.
pub(super) fn watch(mut command: Command, limits: &Limits, log: &Log) -> Result<Output, Error> {
    trace(&command, log);
    let mut child = spawn(&mut command)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Each reader ends when the program does, or when it has read too much, which ends the program.
    let readers = (std::thread::spawn(|| read(stdout)), std::thread::spawn(|| read(stderr)));
    let status = limits.wait(&mut child, command.get_program());
    // After a program was ended, another one may still have the other ends of the pipes.
    let status = status?;
    let (stdout, stderr) = (readers.0.join(), readers.1.join());
    let (Some(stdout), Some(stderr)) = (stdout.unwrap_or_default(), stderr.unwrap_or_default())
    else {
        let limit = OUTPUT_BYTES_MAX >> 20;
        return Err(Error::failed(format!("the command said more than {limit} MiB"))
            .hint("without `--json` there is no limit"));
    };
    Ok(Output { exit_code: status.code(), stdout, stderr })
}

/// Runs a program with our streams. Returns its exit code, `None` when a signal ended it.
pub(crate) fn run_attached(
    mut command: Command,
    limits: &Limits,
    log: &Log,
) -> Result<Option<i32>, Error> {
    trace(&command, log);
    let mut child = command.spawn().map_err(|error| cannot_run(&command, &error))?;
    limits.wait(&mut child, command.get_program()).map(|status| status.code())
}

/// Runs a program whose result does not matter, for at most `limit`.
pub(super) fn briefly(mut command: Command, limit: Duration, log: &Log) {
    trace(&command, log);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = quiet.spawn() else { return };
    if poll(Instant::now() + limit, || child.try_wait().ok().flatten()).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn read(stream: Option<impl Read>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Some(bytes) };
    stream.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= OUTPUT_BYTES_MAX).then_some(bytes)
}

/// How a pipe ended after its receiver got a whole stream.
pub(super) struct Piped {
    /// The sender's stderr.
    pub(super) said: Vec<u8>,
    /// The error when something could not be sent or received, but everything else was.
    pub(super) incomplete: Option<Error>,
}

/// Signs in a receiver's messages of a file that it could not write to its end.
const HALF_FILES: [&str; 5] = ["write", "wrote", "space", "quota", "i/o"];

/// Runs `from | to`. The result of `to` counts only when it got a whole stream. The exit code
/// `broken` of `from` means that the stream broke off.
pub(super) fn pipe(
    mut from: Command,
    mut to: Command,
    broken: u8,
    limits: &Limits,
    log: &Log,
) -> Result<Piped, Error> {
    trace(&from, log);
    trace(&to, log);
    let mut source = spawn(from.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let stream = source.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let sink = spawn(to.stdin(stream).stdout(Stdio::null()));
    let receiver = to.get_program().to_os_string();
    // `to` holds the reading end: while that is open, `from` would never learn that the receiver
    // has ended.
    drop(to);
    // Both are awaited at once, since either may write more than a pipe holds.
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| end(source, limits));
        let received = sink.and_then(|child| end(child, limits)).map(|end| {
            let said = String::from_utf8_lossy(&end.said).to_lowercase();
            (end.checked(&receiver), HALF_FILES.iter().any(|sign| said.contains(sign)))
        });
        let sent = sending.join().unwrap_or_else(|_| Err(Error::failed("the copy failed")))?;
        // The sender was ended by SIGPIPE, which is a consequence and not a cause.
        let receiver_left = sent.status.signal() == Some(SIGPIPE);
        let is_whole = sent.status.code().is_some_and(|code| code != broken.into());
        let said = sent.said.clone();
        let (received, is_half) = received.unwrap_or_else(|error| (Err(error), true));
        match (sent.checked(from.get_program()), received) {
            (Err(_), Err(error)) if receiver_left => Err(error),
            (Err(error), Ok(())) if is_whole => Ok(Piped { said, incomplete: Some(error) }),
            (Ok(()), Err(error)) if !is_half => Ok(Piped { said, incomplete: Some(error) }),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(())) => Ok(Piped { said, incomplete: None }),
        }
    })
}

fn spawn(command: &mut Command) -> Result<Child, Error> {
    command.stderr(Stdio::piped()).spawn().map_err(|error| cannot_run(command, &error))
}

/// How a program of a pipe ended.
struct End {
    status: ExitStatus,
    said: Vec<u8>,
}

impl End {
    /// Returns an error unless the program succeeded.
    fn checked(&self, program: &OsStr) -> Result<(), Error> {
        if self.status.success() {
            return Ok(());
        }
        let lines = self.said.split(|byte| *byte == b'\n');
        let lines: Vec<&[u8]> = lines.filter(|line| !line.starts_with(MARK)).collect();
        let said = said(&lines.join(&b'\n'));
        let said = if said.is_empty() { self.status.to_string() } else { said };
        Err(Error::failed(format!("the copy failed: `{}`: {said}", program.display())))
    }
}

/// Waits for a program of a pipe to end.
fn end(mut child: Child, limits: &Limits) -> Result<End, Error> {
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(|| read(stderr));
    let status = limits.wait(&mut child, OsStr::new("the copy"))?;
    Ok(End { status, said: reader.join().unwrap_or_default().unwrap_or_default() })
}

fn trace(command: &Command, log: &Log) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    log.verbose(|| format!("exec {}", command_line(words)));
}
