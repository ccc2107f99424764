//! TRUSTED CORE: starts a process that outlives this one, to do what this one cannot do any more:
//! stop a VM, give a terminal its mode back.
//!
//! std has no signal handlers, and none would help against SIGKILL. So a child waits in a process
//! group of its own, where Ctrl-C does not reach it, for the end of a pipe that only this process
//! holds: its standard input ends when this process does, however that happens. Of a program that
//! is being started meanwhile, the pipe is held until that one runs, so that it can be seen then.

use crate::error::Error;
use crate::log::Log;
use crate::programs;
use crate::system::inherited;
use crate::text::{command_line, sanitized};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Stdio};

/// A signal that is ignored stays so for the program. Who sets the mode of a terminal without being
/// in its foreground would be stopped by TTOU.
const SCRIPT: &str = r#"
trap '' HUP INT TERM TTOU
exec "$@"
"#;

/// Dropped without [`Guard::disarm`] it does its work.
pub(crate) struct Guard {
    child: Child,
    _pipe: ChildStdin,
}

impl Guard {
    /// Runs `argv`, a program that does its work at the end of its standard input, and waits until
    /// it says on its standard error that it is `ready`: what it needs may be gone later. It has
    /// `stdout` as its standard output.
    pub(crate) fn new(
        argv: &[OsString],
        ready: &str,
        stdout: Stdio,
        log: &Log,
    ) -> Result<Self, Error> {
        log.verbose(|| format!("guard {}", command_line(argv)));
        let failed = |reason: &str| Error::failed(format!("cannot run a guard: {reason}"));
        let words: Vec<OsString> = ["sh", "-c", SCRIPT, "sh"].map(Into::into).into();
        let mut sh = inherited::command(&[&words, argv].concat(), log);
        sh.process_group(0);
        // Its ends of our streams would keep readers of them waiting.
        sh.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped());
        let mut child = sh.spawn().map_err(|error| programs::cannot_run(&sh, &error))?;
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
        Ok(Self { child, _pipe: pipe })
    }

    /// Ends it without its doing anything more. If it is gone already, that is as good.
    pub(crate) fn disarm(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
