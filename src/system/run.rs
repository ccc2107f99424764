//! Runs programs. Everything that this program executes goes through an [`Invocation`], and so has
//! one trace, and a limit for the output that is kept and for the time that it takes.

use crate::error::{Error, Kind, io_reason};
use crate::log::Log;
use crate::text::{command_line, sanitized};
use crate::wait;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How often a limit is checked while a program runs.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// The output of a program that has ended is complete after this much silence, even if another
/// process still holds its pipes.
const SILENCE: Duration = Duration::from_secs(1);
/// Limits for a helper such as `ps` or `id`, which answers in milliseconds.
const HELPER_WAIT: Duration = Duration::from_secs(20);
const HELPER_BYTES_MAX: usize = 16 << 20;
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that wait in memory before a program that writes faster than they are kept has to wait.
const CHUNKS_MAX: usize = 16;

/// Returns the reason to end a program, when there is one.
pub(crate) type Exceeded<'a> = &'a mut dyn FnMut() -> Option<Error>;

/// A program with its words, environment, working directory and streams. The streams are those of
/// this process unless something else is set or the way of running it says otherwise.
#[derive(Debug)]
pub(crate) struct Invocation {
    command: Command,
    /// The Debian package, for a hint when the program is missing.
    package: Option<&'static str>,
    /// The trace, where it differs from the words.
    trace: Option<String>,
}

/// How a program ended, and its output.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The end of its standard error, no longer than the limit.
    pub(crate) stderr: Vec<u8>,
    /// Whether `stderr` lacks its beginning.
    pub(crate) is_cut: bool,
}

impl Output {
    /// Its standard error as text for a message.
    pub(crate) fn said(&self) -> String {
        text_of(&self.stderr)
    }
}

/// The standard error of a program as text for a message.
pub(crate) fn text_of(stderr: &[u8]) -> String {
    sanitized(String::from_utf8_lossy(stderr).trim())
}

impl Invocation {
    pub(super) fn new(program: impl AsRef<OsStr>, package: Option<&'static str>) -> Self {
        Self { command: Command::new(program), package, trace: None }
    }

    /// Shows these words in the trace, where the real ones would tell the reader less.
    pub(super) fn traced_as(mut self, argv: &[OsString]) -> Self {
        self.trace = Some(command_line(argv));
        self
    }

    pub(crate) fn arg(&mut self, word: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(word);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(
        &mut self,
        words: impl IntoIterator<Item = S>,
    ) -> &mut Self {
        self.command.args(words);
        self
    }

    pub(crate) fn env(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn env_remove(&mut self, name: &str) -> &mut Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn current_dir(&mut self, dir: &Path) -> &mut Self {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn stdin(&mut self, from: impl Into<Stdio>) -> &mut Self {
        self.command.stdin(from);
        self
    }

    pub(crate) fn stdout(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.command.stdout(to);
        self
    }

    pub(crate) fn stderr(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.command.stderr(to);
        self
    }

    pub(crate) fn program(&self) -> &OsStr {
        self.command.get_program()
    }

    /// The error for a program that could not be run.
    pub(crate) fn failed(&self, error: &io::Error) -> Error {
        let failed = Error::io("run", Path::new(self.program()), error);
        match self.package {
            Some(package) if error.kind() == ErrorKind::NotFound => {
                failed.hint(format!("install it (Debian: {package})"))
            }
            _ => failed,
        }
    }

    fn trace(&self, log: &Log) {
        log.verbose(|| {
            let words = std::iter::once(self.program()).chain(self.command.get_args());
            format!("exec {}", self.trace.clone().unwrap_or_else(|| command_line(words)))
        });
    }

    pub(super) fn spawn(&mut self) -> Result<Child, Error> {
        self.command.spawn().map_err(|error| self.failed(&error))
    }

    /// Spawns the program in a process group of its own, where Ctrl-C and a closed terminal do not
    /// reach it. It may outlive this process.
    pub(crate) fn detached(mut self, log: &Log) -> Result<Child, Error> {
        self.trace(log);
        self.command.process_group(0);
        self.spawn()
    }

    /// Replaces this process by the program. Returns only when that fails.
    pub(crate) fn exec(mut self, log: &Log) -> Error {
        self.trace(log);
        let error = self.command.exec();
        self.failed(&error)
    }

    /// Runs the program to its end with our streams, or those that were set. Without `exceeded`
    /// there is no limit: a person can interrupt it.
    pub(crate) fn attached(
        mut self,
        exceeded: Option<Exceeded>,
        log: &Log,
    ) -> Result<ExitStatus, Error> {
        self.trace(log);
        let program = self.program().to_os_string();
        let mut child = self.spawn()?;
        let Some(exceeded) = exceeded else {
            return child.wait().map_err(|error| cannot_wait(&program, &error));
        };
        let ended = wait::poll(None::<Instant>, || match child.try_wait() {
            Ok(None) => exceeded().map(Err),
            Ok(Some(status)) => Some(Ok(status)),
            Err(error) => Some(Err(cannot_wait(&program, &error))),
        });
        if !matches!(ended, Some(Ok(_))) {
            end(&mut child);
        }
        ended.unwrap_or_else(|| Err(Error::failed("the wait ended")))
    }

    /// Runs the program to its end and keeps its output.
    pub(crate) fn captured(
        mut self,
        bytes_max: usize,
        exceeded: Exceeded,
        log: &Log,
    ) -> Result<Output, Error> {
        self.trace(log);
        self.stdout(Stdio::piped());
        self.start(bytes_max)?.finish(exceeded)
    }

    /// Runs the program to its end and keeps its standard error. Its standard output is ours, where
    /// it shows its progress.
    pub(crate) fn watched(
        self,
        bytes_max: usize,
        exceeded: Exceeded,
        log: &Log,
    ) -> Result<Output, Error> {
        self.trace(log);
        self.start(bytes_max)?.finish(exceeded)
    }

    /// Runs a helper of the host, such as `ps`, without a trace and with limits that it never
    /// reaches unless something is wrong.
    pub(crate) fn answer(mut self) -> Result<Output, Error> {
        self.stdout(Stdio::piped());
        self.start(HELPER_BYTES_MAX)?.finish(&mut within(HELPER_WAIT))
    }

    /// Runs `self | to`, and gives how each of them ended, with its standard error.
    pub(crate) fn piped_to(
        mut self,
        mut to: Self,
        bytes_max: usize,
        exceeded: Exceeded,
        log: &Log,
    ) -> Result<(Output, Output), Error> {
        self.trace(log);
        to.trace(log);
        self.stdin(Stdio::null()).stdout(Stdio::piped());
        let program = self.program().to_os_string();
        let mut child = self.stderr(Stdio::piped()).spawn()?;
        let stream = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        let mut source = Running::new(child, program, bytes_max)?;
        to.stdin(stream).stdout(Stdio::null());
        // This consumes `to`, which holds the reading end: while that is open, the sender would
        // never learn that the receiver has ended.
        let mut sink = to.start(bytes_max)?;
        let (mut sent, mut received) = (None, None);
        loop {
            // Both are awaited, since either may write more than a pipe holds.
            if sent.is_none() {
                sent = source.wait(PAUSE)?;
            }
            if received.is_none() {
                received = sink.wait(PAUSE)?;
            }
            match (sent, received) {
                (Some(sent), Some(received)) => return Ok((sent, received)),
                unfinished => (sent, received) = unfinished,
            }
            if let Some(error) = exceeded() {
                return Err(error);
            }
        }
    }

    /// Starts the program, and keeps its standard error, and its standard output if that is a pipe.
    fn start(mut self, bytes_max: usize) -> Result<Running, Error> {
        let child = self.stderr(Stdio::piped()).spawn()?;
        Running::new(child, self.program().to_os_string(), bytes_max)
    }

    /// Starts the program with its output in pipes, and does not wait for it.
    pub(crate) fn in_background(mut self, bytes_max: usize, log: &Log) -> Result<Running, Error> {
        self.trace(log);
        self.stdout(Stdio::piped());
        self.start(bytes_max)
    }
}

/// The limit of a program that has this long from now on.
pub(crate) fn within(wait: Duration) -> impl FnMut() -> Option<Error> {
    let deadline = Instant::now() + wait;
    move || {
        let message = || format!("gave up after {} s", wait.as_secs_f64());
        (Instant::now() >= deadline).then(|| Error::new(Kind::TimedOut, message()))
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

/// A running program whose output is kept. Dropping it ends the program.
pub(crate) struct Running {
    child: Child,
    program: OsString,
    /// The limit for each of the two streams.
    bytes_max: usize,
    chunks: Receiver<(Stream, Vec<u8>)>,
    /// Whether all its pipes have been read to their ends.
    is_closed: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    is_cut: bool,
    status: Option<ExitStatus>,
    /// When the last chunk came, or the program ended.
    heard_at: Instant,
}

impl Running {
    fn new(child: Child, program: OsString, bytes_max: usize) -> Result<Self, Error> {
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        let mut running = Self {
            child,
            program,
            bytes_max,
            chunks,
            is_closed: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            is_cut: false,
            status: None,
            heard_at: Instant::now(),
        };
        let (stdout, stderr) = (running.child.stdout.take(), running.child.stderr.take());
        let out = stdout.map_or(Ok(()), |from| forward(Stream::Out, from, sender.clone()));
        let forwarded = out.and(stderr.map_or(Ok(()), |from| forward(Stream::Err, from, sender)));
        forwarded.map_err(|error| cannot_wait(&running.program, &error))?;
        Ok(running)
    }

    /// Waits for the end of the program, for at most `pause`, and gives its output then.
    pub(crate) fn wait(&mut self, pause: Duration) -> Result<Option<Output>, Error> {
        let until = Instant::now() + pause;
        while !self.is_closed {
            match self.chunks.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((stream, chunk)) => self.keep(stream, &chunk)?,
                Err(RecvTimeoutError::Disconnected) => self.is_closed = true,
                Err(RecvTimeoutError::Timeout) => break,
            }
            if Instant::now() >= until {
                break;
            }
        }
        if self.status.is_none() {
            let until = if self.is_closed { until } else { Instant::now() };
            let ended = wait::poll(until, || self.child.try_wait().transpose()).transpose();
            self.status = ended.map_err(|error| cannot_wait(&self.program, &error))?;
            self.heard_at = Instant::now();
        }
        let is_whole = self.is_closed || self.heard_at.elapsed() >= SILENCE;
        Ok(self.status.filter(|_| is_whole).map(|status| self.output(status)))
    }

    /// The bytes that it has written so far, to standard output and to standard error.
    pub(crate) fn read_so_far(&self) -> [&[u8]; 2] {
        [&self.stdout, &self.stderr]
    }

    fn finish(mut self, exceeded: Exceeded) -> Result<Output, Error> {
        loop {
            if let Some(output) = self.wait(PAUSE)? {
                return Ok(output);
            }
            if let Some(error) = exceeded() {
                return Err(error);
            }
        }
    }

    fn keep(&mut self, stream: Stream, chunk: &[u8]) -> Result<(), Error> {
        self.heard_at = Instant::now();
        match stream {
            Stream::Out if self.stdout.len() + chunk.len() > self.bytes_max => {
                let (program, limit) = (self.program.display(), self.bytes_max >> 20);
                Err(Error::failed(format!("`{program}` wrote more than {limit} MiB")))
            }
            Stream::Out => {
                self.stdout.extend_from_slice(chunk);
                Ok(())
            }
            Stream::Err => {
                self.stderr.extend_from_slice(chunk);
                // Not at every chunk, since it moves all that is kept.
                if self.stderr.len() > 2 * self.bytes_max {
                    self.cut();
                }
                Ok(())
            }
        }
    }

    /// Drops the start of standard error, so that no more than the limit is kept.
    fn cut(&mut self) {
        let excess = self.stderr.len().saturating_sub(self.bytes_max);
        self.stderr.drain(..excess);
        self.is_cut |= excess > 0;
    }

    fn output(&mut self, status: ExitStatus) -> Output {
        self.cut();
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        Output { status, stdout, stderr, is_cut: self.is_cut }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            end(&mut self.child);
        }
    }
}

/// Ends a program at once. One that has ended is no error.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Begins to send what a program writes, until its end or until the receiver is gone, which closes
/// the pipe.
fn forward(
    stream: Stream,
    mut from: impl Read + Send + 'static,
    to: SyncSender<(Stream, Vec<u8>)>,
) -> io::Result<()> {
    let forward = move || {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(count @ 1..) if to.send((stream, chunk[..count].to_vec())).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    };
    std::thread::Builder::new().spawn(forward).map(|_| ())
}

fn cannot_wait(program: &OsStr, error: &io::Error) -> Error {
    Error::failed(format!("cannot wait for `{}`: {}", program.display(), io_reason(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Invocation {
        let mut sh = Invocation::new("sh", None);
        sh.args(["-c", script]).stdin(Stdio::null());
        sh
    }

    fn log() -> Log {
        Log::new(false)
    }

    #[test]
    fn output_is_kept_up_to_a_limit() {
        let output = sh("echo out; echo err >&2; exit 3").captured(4, &mut || None, &log());
        let output = output.unwrap();
        assert_eq!((&output.stdout[..], output.said().as_str()), (&b"out\n"[..], "err"));
        assert_eq!((output.status.code(), output.is_cut), (Some(3), false));
        let output = sh("echo 123456789 >&2").captured(4, &mut || None, &log()).unwrap();
        assert_eq!((output.said().as_str(), output.is_cut), ("789", true));
        let error = sh("yes").captured(1 << 20, &mut || None, &log()).unwrap_err();
        assert_eq!(error.message(), "`sh` wrote more than 1 MiB");
    }

    #[test]
    fn a_program_that_goes_on_is_ended() {
        let begin = Instant::now();
        let short = Duration::from_millis(50);
        for script in ["exec sleep 20", "exec sleep 20 >&- 2>&-", "yes >&2"] {
            let error = sh(script).captured(9, &mut within(short), &log()).unwrap_err();
            assert_eq!(error.message(), "gave up after 0.05 s");
        }
        let error = sh("exec sleep 20").attached(Some(&mut within(short)), &log()).unwrap_err();
        assert_eq!(error.message(), "gave up after 0.05 s");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn another_process_that_holds_the_pipes_is_not_awaited() {
        let begin = Instant::now();
        let output = sh("echo x; sleep 20 &").captured(9, &mut || None, &log()).unwrap();
        assert_eq!(output.stdout, b"x\n");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn both_ends_of_a_pipe_are_known() {
        let pipe = |from: &str, to: &str| {
            let (from, to) = sh(from).piped_to(sh(to), 99, &mut || None, &log()).unwrap();
            (from.status.code(), from.said(), to.status.code(), to.said())
        };
        assert_eq!(
            pipe("echo x", "cat >&2; exit 2"),
            (Some(0), String::new(), Some(2), "x".to_string())
        );
        // SIGPIPE has ended the sender.
        assert_eq!(pipe("exec yes", "exit 1"), (None, String::new(), Some(1), String::new()));
    }
}
