//! Runs programs. Everything that this program executes goes through an [`Invocation`], so it has
//! one trace, and a limit for the output that is kept and for the time that it takes.

use super::output::Output;
use super::running::{Exceeded, PAUSE, Running, within};
use crate::error::Error;
use crate::log::Log;
use crate::text::command_line;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The limit for a helper such as `ps` or `id`, which answers in milliseconds.
const HELPER_WAIT: Duration = Duration::from_secs(20);

/// A program with its words, environment, working directory and streams. By default, its input is
/// empty, and its output goes where this process writes; some ways of running it differ.
#[derive(Debug)]
pub(crate) struct Invocation {
    command: Command,
    /// The Debian package, for a hint when the program is missing.
    package: Option<&'static str>,
    /// The trace, where it differs from the words.
    trace: Option<String>,
}

impl Invocation {
    pub(super) fn new(program: impl AsRef<OsStr>, package: Option<&'static str>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, package, trace: None }
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
    pub(super) fn failed(&self, error: &io::Error) -> Error {
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

    /// Runs the program to its end with the streams that were set.
    pub(crate) fn attached(self, exceeded: Exceeded, log: &Log) -> Result<ExitStatus, Error> {
        self.trace(log);
        self.start()?.finish(exceeded).map(|output| output.status)
    }

    /// Runs the program to its end and keeps its output.
    pub(crate) fn captured(mut self, exceeded: Exceeded, log: &Log) -> Result<Output, Error> {
        self.stdout(Stdio::piped());
        self.in_background(log)?.finish(exceeded)
    }

    /// Runs a helper such as `ps`, without a trace, and with a limit that it should never reach.
    pub(crate) fn answer(mut self) -> Result<Output, Error> {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.start()?.finish(&mut within(HELPER_WAIT))
    }

    /// Runs `self | to`, and gives how each of them ended, with its standard error.
    pub(crate) fn piped_to(
        mut self,
        mut to: Self,
        exceeded: Exceeded,
        log: &Log,
    ) -> Result<(Output, Output), Error> {
        self.trace(log);
        to.trace(log);
        let mut child = self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stream = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        let mut source = Running::new(child, self.program().to_os_string())?;
        to.stdin(stream).stdout(Stdio::null()).stderr(Stdio::piped());
        // This consumes `to`, which holds the reading end: while that is open, the sender would
        // never learn that the receiver has ended.
        let mut sink = to.start()?;
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

    /// Starts the program, and keeps those of its outputs that are pipes.
    fn start(mut self) -> Result<Running, Error> {
        let child = self.spawn()?;
        Running::new(child, self.program().to_os_string())
    }

    /// Starts the program. Its standard error is kept, and its standard output if that is a pipe.
    pub(crate) fn in_background(mut self, log: &Log) -> Result<Running, Error> {
        self.trace(log);
        self.stderr(Stdio::piped());
        self.start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(script: &str) -> Invocation {
        let mut sh = Invocation::new("sh", None);
        sh.args(["-c", script]);
        sh
    }

    fn log() -> Log {
        Log::new(false)
    }

    #[test]
    fn output_is_kept_up_to_a_limit() {
        let output = sh("echo out; echo err >&2; exit 3").captured(&mut || None, &log()).unwrap();
        assert_eq!((&output.stdout[..], output.said().as_str()), (&b"out\n"[..], "err"));
        assert_eq!(output.status.code(), Some(3));
        for script in ["yes", "yes >&2"] {
            let error = sh(script).captured(&mut || None, &log()).unwrap_err();
            assert_eq!(error.message(), "`sh` wrote more than 64 MiB");
        }
    }

    #[test]
    fn a_program_that_goes_on_is_ended() {
        let begin = Instant::now();
        let short = Duration::from_millis(50);
        for script in ["exec sleep 20", "exec sleep 20 >&- 2>&-", "while echo x >&2; do :; done"] {
            let error = sh(script).captured(&mut within(short), &log()).unwrap_err();
            assert_eq!(error.message(), "gave up after 0.05 s");
        }
        let error = sh("exec sleep 20").attached(&mut within(short), &log()).unwrap_err();
        assert_eq!(error.message(), "gave up after 0.05 s");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn another_process_that_holds_the_pipes_is_not_awaited() {
        let begin = Instant::now();
        let output = sh("echo x; sleep 20 &").captured(&mut || None, &log()).unwrap();
        assert_eq!(output.stdout, b"x\n");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn both_ends_of_a_pipe_are_known() {
        let pipe = |from: &str, to: &str| {
            let (from, to) = sh(from).piped_to(sh(to), &mut || None, &log()).unwrap();
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
