//! Starts the programs that outlive this process, QEMU and a VM's helpers, and learns how those
//! that this process has started end.

use super::{inherited, running};
use crate::error::Error;
use crate::log::Log;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;

/// A program that this process has started, and that may outlive it.
pub(crate) struct Daemon(Child);

/// The programs that outlive their start, kept to learn how they end, each with its pid. That is
/// not the one that was spawned where a wrapper runs the program.
static KEPT: Mutex<Vec<(u32, Daemon)>> = Mutex::new(Vec::new());

/// Spawns a program in a process group of its own, so that neither Ctrl-C nor a closed terminal
/// ends it. `argv` begins with the program; `output` is where it writes its messages.
pub(crate) fn spawn(
    argv: &[OsString],
    dir: &Path,
    output: &File,
    log: &Log,
) -> Result<Daemon, Error> {
    let mut command = inherited::command(argv, log);
    let outputs = output.try_clone().and_then(|stdout| Ok((stdout, output.try_clone()?)));
    let (stdout, stderr) = outputs.map_err(|error| command.failed(&error))?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    command.detached(log).map(Daemon)
}

impl Daemon {
    /// The pid of the process that was spawned: the program, or a wrapper that runs it.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it has ended; `None` as long as it runs.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Lets it run on. [`exit_status_of`] this pid tells how it ends.
    pub(crate) fn keep(self, pid: u32) {
        if let Ok(mut kept) = KEPT.lock() {
            kept.push((pid, self));
        }
    }

    /// Ends it at once, and waits until it is gone.
    pub(crate) fn end(mut self) {
        running::end(&mut self.0);
    }
}

/// How a program that this process has started and kept has ended; `None` for any other process,
/// and as long as it runs.
pub(crate) fn exit_status_of(pid: u32) -> Option<ExitStatus> {
    let mut kept = KEPT.lock().ok()?;
    kept.iter_mut().find(|(kept, _)| *kept == pid)?.1.exit_status()
}

/// Whether this process has started and kept the program.
pub(crate) fn is_kept(pid: u32) -> bool {
    KEPT.lock().is_ok_and(|kept| kept.iter().any(|(kept, _)| *kept == pid))
}
