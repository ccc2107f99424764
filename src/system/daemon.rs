//! Starts QEMU and helpers, which may outlive this process, and learns how they end.

use super::{inherited, running};
use crate::error::Error;
use crate::log::Log;
use crate::wait;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Instant;

/// Runs the program when a line comes, but not if the input ends. The shell keeps its pid.
const HELD: &str = "read -r qqmgr && exec \"$@\" </dev/null";

/// A program that this process has started, and that may outlive it.
pub(crate) struct Daemon {
    child: Child,
    held: Option<ChildStdin>,
}

/// The programs that outlive their start, each with its own pid, even where a wrapper runs it.
static KEPT: Mutex<Vec<(u32, Daemon)>> = Mutex::new(Vec::new());

/// Spawns a program in a process group of its own, so that neither Ctrl-C nor a closed terminal
/// ends it. `argv` begins with the program; `output` is where it writes its messages. If it is
/// `held`, it runs after [`Daemon::release`], and never if this process is killed before that.
pub(crate) fn spawn(
    argv: &[OsString],
    held: bool,
    (dir, output): (&Path, &File),
    log: &Log,
) -> Result<Daemon, Error> {
    let shell = if held { &["sh", "-c", HELD, "sh"][..] } else { &[] };
    let words: Vec<OsString> = shell.iter().map(OsString::from).chain(argv.to_vec()).collect();
    let mut command = inherited::command(&words, log).traced_as(argv);
    if held {
        command.stdin(Stdio::piped());
    }
    let outputs = output.try_clone().and_then(|stdout| Ok((stdout, output.try_clone()?)));
    let (stdout, stderr) = outputs.map_err(|error| command.failed(&error))?;
    command.current_dir(dir).stdout(stdout).stderr(stderr);
    let mut child = command.detached(log)?;
    Ok(Daemon { held: child.stdin.take(), child })
}

impl Daemon {
    /// The pid of the process that was spawned: the program, or a wrapper that runs it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets a program that is held run. [`Daemon::exit_status`] shows whether it has ended.
    pub(crate) fn release(&mut self) {
        let _ = self.held.take().map(|mut held| held.write_all(b"\n"));
    }

    /// How it has ended; `None` as long as it runs.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Lets it run on. [`exit_status_of`] gives the exit status of this pid later.
    pub(crate) fn keep(self, pid: u32) {
        let _ = KEPT.lock().map(|mut kept| kept.push((pid, self)));
    }

    /// Ends it at once, and waits until it is gone.
    pub(crate) fn end(mut self) {
        running::end(&mut self.child);
    }
}

/// How a kept program has ended, or ends before the deadline; `None` for any other process.
pub(crate) fn exit_status_of(pid: u32, deadline: Instant) -> Option<ExitStatus> {
    let mut kept = KEPT.lock().ok()?;
    let (_, daemon) = kept.iter_mut().find(|(kept, _)| *kept == pid)?;
    wait::poll(deadline, || daemon.exit_status())
}
