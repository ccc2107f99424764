//! Waits until a QEMU that was spawned is ready, or ends it again.

use super::boots::Boot;
use super::helper::Helper;
use super::helpers::{self, Helpers};
use super::last_words::tail;
use super::process::{MOMENT, Process};
use super::ready::{NotReady, Ready, wait_for_running, wait_until_ready};
use super::wait::Deadline;
use super::{Instance, Paths, causes, clean, last_words, look, search, shutdown, wait};
use crate::error::Error;
use crate::log::Log;
use crate::system::daemon::{self, Daemon};
use crate::system::programs;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long a QEMU that is about to end may keep its pid file, and how often to check.
const OTHER_WAIT: Duration = Duration::from_secs(5);
const OTHER_RETRY: Duration = Duration::from_millis(200);
/// The number of tries before a message: a QEMU that was just killed releases the lock a moment
/// later than everything else, which is not worth a message.
const TRIES_TOLD: u32 = 2;
/// QEMU's message when another QEMU holds the lock of the pid file. Nothing else has been touched
/// then.
const PID_FILE_LOCKED: &str = "Cannot lock pid file";
/// The hint of the error about a QEMU that cannot be run.
const BIN_HINT: &str = "`bin` in `[qemu]` says which QEMU is run";

/// Finds the program `bin`: a name is looked up in `PATH`, and a relative path is relative to
/// `dir`. Called before any file of the VM is made, so that a missing program is reported first.
pub(crate) fn program(bin: &str, dir: &Path) -> Result<PathBuf, Error> {
    let hint = "install QEMU (Debian: qemu-system-x86, or qemu-system for every guest), or name it \
                by `qemu` of the VM or `bin` in `[qemu]`";
    programs::require(bin, dir, hint)
}

/// The wait for a QEMU that was spawned, over all tries of one start.
pub(crate) struct Launch<'a> {
    /// The directory in which QEMU runs.
    dir: &'a Path,
    paths: &'a Paths,
    deadline: Deadline,
    /// The number of earlier boots whose serial outputs are kept.
    boots: u32,
    log: &'a Log,
    /// How often another QEMU was in the way, and until when to wait for its end.
    rivals: u32,
    rival_until: Instant,
}

/// Why a start failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether QEMU itself has failed, and not a helper, say.
    pub(crate) of_qemu: bool,
    /// The port of this host that QEMU could not forward.
    pub(crate) port_taken: Option<u16>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, of_qemu: true, port_taken: None }
    }
}

impl<'a> Launch<'a> {
    pub(crate) fn new(
        dir: &'a Path,
        paths: &'a Paths,
        deadline: Deadline,
        boots: u32,
        log: &'a Log,
    ) -> Self {
        let rival_until = deadline.at.min(Instant::now() + OTHER_WAIT);
        Self { dir, paths, deadline, boots, log, rivals: 0, rival_until }
    }

    /// Starts QEMU by the command line `argv`, after its helpers, records each of them, and waits
    /// until QEMU is ready. A QEMU that fails leaves nothing but its log. `None` when another QEMU
    /// that is about to end was in the way: the caller tries again.
    pub(crate) fn run(
        &mut self,
        argv: &[OsString],
        helpers: &[Helper],
        record: &mut Instance,
    ) -> Result<Option<Ready>, Failed> {
        let Self { dir, paths, deadline, log, .. } = *self;
        let no_qemu = |error: Error| Failed { of_qemu: false, ..error.into() };
        let (boot, is_held) = (Boot::new(paths).map_err(no_qemu)?, !helpers.is_empty());
        let helpers = Helpers::start(helpers, record, (dir, paths), deadline, log)
            .map_err(|error| no_qemu(boot.not_run(error)))?;
        // A QEMU with helpers runs only after it is recorded: an unknown QEMU would use them.
        let mut qemu = daemon::spawn(argv, is_held, (dir, &boot.log), log)
            .map_err(|error| no_qemu(boot.not_run(error.hint(BIN_HINT))))?;
        record.clone().spawned(qemu.id(), paths, log);
        qemu.release();
        let settled = self.await_ready(qemu, helpers, record.ssh_port);
        let is_new = matches!(&settled, Ok(Some(ready)) if !ready.already_running);
        if let Err(error) = boot.end(is_new, self.boots) {
            self.log.note(error.message());
        }
        settled
    }

    fn await_ready(
        &mut self,
        mut qemu: Daemon,
        mut helpers: Helpers,
        ssh_port: Option<u16>,
    ) -> Result<Option<Ready>, Failed> {
        let paths = self.paths;
        let mut ended = || ended(&mut qemu, &mut helpers);
        let ready = wait_until_ready(paths, &mut ended, &|| None, self.deadline, self.log);
        Err(match ready.and_then(|run_state| ended().map_or(Ok(run_state), Err)) {
            Ok(run_state) => match self.started() {
                Ok(process) => {
                    qemu.keep(process.pid);
                    helpers.keep();
                    return Ok(Some(Ready { process, run_state, already_running: false }));
                }
                // QEMU removes its pid file when it ends.
                Err(_)
                    if !paths.pid.exists()
                        && let Some(status) =
                            wait::poll(Instant::now() + OTHER_WAIT, || qemu.exit_status()) =>
                {
                    self.died(Some(status), &mut helpers, ssh_port)?
                }
                Err(error) => self.give_up(qemu, &error).into(),
            },
            Err(NotReady::Died(_)) if tail(&paths.log).contains(PID_FILE_LOCKED) => {
                helpers::end(paths, self.log)?;
                return Ok(self.rival()?);
            }
            Err(NotReady::Died(status)) => self.died(status, &mut helpers, ssh_port)?,
            Err(NotReady::GuestEnded) => {
                self.take_back(qemu)?;
                self.died(None, &mut helpers, ssh_port)?
            }
            Err(NotReady::Helper(error)) => {
                self.take_back(qemu).and_then(|()| clean::all(paths, self.log))?;
                Failed { of_qemu: false, ..error.into() }
            }
            Err(NotReady::Unusable(error)) => self.give_up(qemu, &error).into(),
        })
    }

    /// The process of a QEMU that is ready, by its pid file.
    fn started(&self) -> Result<Process, Error> {
        let record = Instance::read(self.paths)?;
        let process = search::by_pid_file(self.paths, record.as_ref())?;
        process.ok_or_else(|| Error::failed("QEMU did not write its pid file"))
    }

    /// Handles another QEMU that has the pid file. If a killed `start` has started it, it is the
    /// VM. If it is about to end, the caller tries again (`None`). A QEMU that cannot be seen from
    /// here, such as in a container, is an error.
    fn rival(&mut self) -> Result<Option<Ready>, Error> {
        let Self { paths, log, rival_until: until, .. } = *self;
        self.rivals += 1;
        if self.rivals == TRIES_TOLD {
            log.note("another QEMU has the VM's pid file, waiting for it to answer or to end");
        }
        let is_it = |process: &Process| !process.exiting;
        let seen = || look::find_anywhere(paths).map(|seen| seen.filter(is_it)).transpose();
        match wait::poll(until.min(Instant::now() + OTHER_RETRY), seen) {
            Some(Err(error)) => Err(error),
            Some(Ok(process)) => wait_for_running(&process, paths, self.deadline, log).map(Some),
            None if Instant::now() < until => Ok(None),
            None => {
                let message = "the VM runs in a QEMU that cannot be seen from here";
                Err(Error::failed(message).hint("is it in a container, or on another host?"))
            }
        }
    }

    /// Ends a QEMU that did not come up, and adds its output to the error.
    fn give_up(&self, qemu: Daemon, error: &Error) -> Error {
        let log = &self.paths.log;
        match self.take_back(qemu).and_then(|()| clean::all(self.paths, self.log)) {
            Ok(()) => Error::new(error.kind, error.message().to_string() + &last_words::of(log))
                .hint(format!("its log is `{}`", log.display())),
            Err(error) => error,
        }
    }

    /// Ends a QEMU that did not come up.
    fn take_back(&self, mut qemu: Daemon) -> Result<(), Error> {
        let ended = look::find(self.paths).and_then(|started| {
            started.map_or(Ok(()), |process| shutdown::terminate(&process, self.log).map(|_| ()))
        });
        // The child must be reaped, and may still exist if its pid file names another process.
        let until = Instant::now() + shutdown::TERM_WAIT;
        if wait::poll(until, || qemu.exit_status()).is_none() {
            qemu.end();
        }
        ended
    }

    fn died(
        &self,
        status: Option<ExitStatus>,
        helpers: &mut Helpers,
        ssh_port: Option<u16>,
    ) -> Result<Failed, Error> {
        let said = tail(&self.paths.log);
        let mut error = last_words::error("before it was ready", status, self.paths);
        if let Some(failure) = helpers.failure() {
            error = error.before(&failure);
        }
        let start = causes::Start { dir: self.dir, ssh_port };
        let error = error.hint_if(causes::hint(&said, &start));
        clean::all(self.paths, self.log)?;
        Ok(Failed { port_taken: causes::port_taken(&said), ..error.into() })
    }
}

/// How a QEMU that this process has started ended.
pub(crate) fn exit_status(pid: u32) -> Option<ExitStatus> {
    // Its command line disappears a moment before the process can be waited for.
    daemon::exit_status_of(pid, Instant::now() + OTHER_WAIT)
}

/// Whether QEMU or one of its helpers has ended. A helper also ends because its QEMU did.
fn ended(qemu: &mut Daemon, helpers: &mut Helpers) -> Option<NotReady> {
    let died = |status| NotReady::Died(Some(status));
    if let Some(status) = qemu.exit_status() {
        return Some(died(status));
    }
    let error = helpers.ended()?;
    let soon = wait::poll(Instant::now() + MOMENT, || qemu.exit_status());
    Some(soon.map_or(NotReady::Helper(error), died))
}
