//! Starts a process that outlives this one and cleans up after it: it stops a VM, restores a
//! terminal's mode, or removes a directory.
//!
//! std has no signal handlers, and a handler would not help against SIGKILL. So a child waits for
//! the end of a pipe that only this process holds: the child's standard input ends when this
//! process ends in any way. The child is in a process group of its own, where Ctrl-C does not reach
//! it. A program that this process is just starting holds the pipe until it runs, so the child can
//! see it.

use crate::error::Error;
use crate::log::Log;
use crate::system::{inherited, running};
use crate::text::sanitized;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Stdio};

/// The program inherits the ignored signals. TTOU would stop one that sets a terminal's mode.
const SCRIPT: &str = r#"
trap '' HUP INT TERM TTOU
exec "$@"
"#;

/// A waiting child process. It does its work when this is dropped without [`Guard::disarm`].
pub(crate) struct Guard {
    child: Child,
    _pipe: ChildStdin,
}

impl Guard {
    /// Runs `argv`, a program that does its work at the end of its standard input. Waits until the
    /// program writes `ready` to its standard error, since what it needs to start may be gone
    /// later. Its standard output is `stdout`.
    pub(crate) fn new(
        argv: &[OsString],
        ready: &str,
        stdout: Stdio,
        log: &Log,
    ) -> Result<Self, Error> {
        let failed = |reason: &str| Error::failed(format!("cannot run a guard: {reason}"));
        let words: Vec<OsString> = ["sh", "-c", SCRIPT, "sh"].map(Into::into).into();
        let mut sh = inherited::command(&[&words, argv].concat(), log);
        // If the child held our streams, their readers would wait for it.
        sh.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped());
        let mut child = sh.detached(log)?;
        let (Some(pipe), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            return Err(failed("it has no pipes"));
        };
        let (mut stderr, mut said) = (BufReader::new(stderr), Vec::new());
        while !said.ends_with(format!("{ready}\n").as_bytes()) {
            if !matches!(stderr.read_until(b'\n', &mut said), Ok(1..)) {
                let _ = child.wait();
                return Err(failed(&sanitized(String::from_utf8_lossy(&said).trim())));
            }
        }
        log.step("guard", || format!("pid {} acts when this command ends", child.id()));
        Ok(Self { child, _pipe: pipe })
    }

    /// Ends the child before it does its work. A child that has ended is no error.
    pub(crate) fn disarm(mut self) {
        running::end(&mut self.child);
    }
}
