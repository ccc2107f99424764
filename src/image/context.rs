//! The context of the functions that make images: it takes locks and runs programs.
//!
//! Any number of commands may use an image or a fetched file, or a single one may change it. Every
//! program that runs under a lock also gets it, as its standard input: if it outlives this process,
//! it keeps the next command from working on the same file until it ends.

use crate::config::{Config, declared};
use crate::error::Error;
use crate::log::Log;
use crate::system::lock::{Lock, Mode};
use crate::system::output::Output;
use crate::system::run::Invocation;
use crate::system::{programs, running};
use crate::text::sanitized;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a server may send nothing before a fetch is given up.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);

/// Part of QEMU's error about an image in use (`raw_check_lock_bytes` of block/file-posix.c).
const LOCKED: &str = "\" lock";

/// Returns the reason to stop waiting, when there is one.
pub(crate) type Exceeded<'a> = &'a (dyn Fn() -> Option<Error> + Sync);

/// The configuration whose images are made, and the limits for that.
#[derive(Clone)]
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    /// How long a server may send nothing before the fetch is given up.
    pub(crate) patience: Duration,
    pub(crate) exceeded: Exceeded<'a>,
    pub(crate) log: &'a Log,
    /// The lock on the files that are changed.
    pub(crate) lock: Option<Arc<Lock>>,
}

impl<'a> Context<'a> {
    /// The context of a command without a limit of its own.
    pub(crate) fn new(config: &'a Config, log: &'a Log) -> Self {
        Self { config, patience: PATIENCE_DEFAULT, exceeded: &|| None, log, lock: None }
    }

    /// The context of a change under this lock.
    pub(super) fn under(&self, lock: Lock) -> Self {
        Self { lock: Some(Arc::new(lock)), ..self.clone() }
    }

    /// Takes the lock at `path`, whose directory `make_dir` makes and verifies. If it has to wait,
    /// it notes that another command has `what`.
    pub(super) fn lock(
        &self,
        path: &Path,
        mode: Mode,
        make_dir: &dyn Fn() -> Result<(), Error>,
        what: &str,
    ) -> Result<Lock, Error> {
        let mut has_noted = false;
        Lock::take(path, mode, make_dir, &mut || {
            if !std::mem::replace(&mut has_noted, true) {
                self.log.note(&format!("waiting for another command that has {what}"));
            }
            (self.exceeded)().map(|error| error.after(&format!("another command has {what}")))
        })
    }

    /// Runs `qemu-img info` of a file in this format.
    pub(super) fn info(&self, file: &Path, format: &str) -> Result<Output, Error> {
        let mut command = self.qemu_img(&["info", "--output=json", "-f", format])?;
        command.arg(file);
        self.run(command)
    }

    /// The command for qemu-img with these words.
    pub(super) fn qemu_img(&self, words: &[&str]) -> Result<Invocation, Error> {
        let mut command = programs::configured(qemu_img(self.config)?);
        command.args(words);
        Ok(command)
    }

    /// Runs a program to its end. Its standard input is the lock, if there is one.
    pub(super) fn run(&self, command: Invocation) -> Result<Output, Error> {
        self.run_until(command, &mut || (self.exceeded)())
    }

    /// Runs a program to its end, or until `exceeded` returns an error, which ends the program.
    pub(super) fn run_until(
        &self,
        mut command: Invocation,
        exceeded: running::Exceeded,
    ) -> Result<Output, Error> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.give_to(&mut command))?;
        command.captured(exceeded, self.log)
    }
}

/// The program that makes images, as the configuration names it.
pub(crate) fn qemu_img(config: &Config) -> Result<PathBuf, Error> {
    let hint = "install it (Debian: qemu-utils), or set `img` in `[qemu]` to where it is";
    programs::require(&declared::qemu_img(config)?, config.dir(), hint)
}

/// The line that says why a program failed, or how it ended. curl may draw a `^` below its message.
pub(super) fn reason(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut lines = stderr.lines().map(str::trim);
    let of_curl = lines.clone().find(|line| line.starts_with("curl: ("));
    let last = || lines.rfind(|line| line.contains(char::is_alphanumeric));
    of_curl.or_else(last).map_or_else(|| output.status.to_string(), sanitized)
}

/// An error, which begins with `what` ("cannot make it"), unless the program succeeded.
pub(super) fn check(output: &Output, what: &str) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    Err(Error::failed(format!("{what}: {}", reason(output))))
}

/// Whether qemu-img failed because another program has the image open.
pub(super) fn is_locked(output: &Output) -> bool {
    !output.status.success() && output.said().contains(LOCKED)
}
