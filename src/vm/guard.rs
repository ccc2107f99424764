//! TRUSTED CORE: starts a process that outlives this one, to stop a VM when this one cannot.
//!
//! std has no signal handlers, and none would help against SIGKILL. So a small shell waits in a
//! process group of its own, where Ctrl-C does not reach it, for the end of a pipe that only this
//! process holds: it ends when this process does, however that happens.

use crate::error::Error;
use crate::log::Log;
use crate::programs;
use crate::text::command_line;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Stdio};

/// A line tells that there is nothing left to do.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r done && exit 0
exec "$@"
"#;

/// Dropped without [`Guard::disarm`] it does its work.
pub(crate) struct Guard {
    child: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// One that would run `argv`.
    pub(crate) fn new(argv: &[OsString], log: &Log) -> Result<Self, Error> {
        log.verbose(|| format!("guard {}", command_line(argv)));
        let mut sh = programs::SH.command();
        sh.args(["-c", SCRIPT, "sh"]).args(argv).process_group(0);
        // Its ends of our streams would keep readers of them waiting.
        sh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = sh.spawn().map_err(|error| programs::cannot_run(&sh, &error))?;
        let pipe = child.stdin.take().ok_or_else(|| Error::failed("`sh` has no input"))?;
        Ok(Self { child, pipe })
    }

    /// Ends it without its doing anything more. If it is gone already, that is as good.
    pub(crate) fn disarm(self) {
        let Self { mut child, mut pipe } = self;
        let _ = writeln!(pipe, "done");
        drop(pipe);
        let _ = child.wait();
    }
}
