//! Waits until a QEMU that was spawned is ready, or ends it again.

use super::boot::Boot;
use super::process::Process;
use super::ready::{NotReady, Ready, wait_for_running, wait_until_ready};
use super::tail::tail;
use super::wait::Deadline;
use super::{Instance, Paths, causes, clean, last_words, look, search, shutdown, wait};
use crate::error::{Error, Kind};
use crate::log::Log;
use crate::system::daemon::{self, Daemon};
use crate::system::programs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long a QEMU that is about to end may keep its pid file, and how often to check.
const OTHER_WAIT: Duration = Duration::from_secs(5);
const OTHER_RETRY: Duration = Duration::from_millis(200);
/// The number of tries after which the user is informed: a QEMU that was just killed gives the lock
/// back a moment later than all else, which is not worth a message.
const TRIES_TOLD: u32 = 2;
/// QEMU's message when another QEMU holds the lock of the pid file; it has then touched nothing
/// else.
const PID_FILE_LOCKED: &str = "Cannot lock pid file";

/// Finds the program `bin`: a name is looked up in `PATH`, and a relative path is relative to
/// `dir`. Called before any file of the VM is made, so that a missing program is reported first.
pub(crate) fn program(bin: &str, dir: &Path) -> Result<PathBuf, Error> {
    programs::locate(bin, dir).ok_or_else(|| {
        let hint =
            "install QEMU (Debian: qemu-system-x86), or set `bin` in `[qemu]` to where it is";
        programs::missing(bin, dir, hint)
    })
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
    /// The port of this host that QEMU could not forward.
    pub(crate) port_taken: Option<u16>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, port_taken: None }
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

    /// Waits until the QEMU is ready. A QEMU that fails leaves nothing but its log. `None` when
    /// another QEMU that is about to end was in the way: the caller tries again.
    pub(crate) fn settle(
        &mut self,
        boot: Boot,
        qemu: Daemon,
        ssh_port: Option<u16>,
    ) -> Result<Option<Ready>, Failed> {
        let settled = self.await_ready(qemu, ssh_port);
        let is_new = matches!(&settled, Ok(Some(ready)) if !ready.already_running);
        if let Err(error) = boot.end(is_new, self.boots) {
            self.log.note(error.message());
        }
        settled
    }

    fn await_ready(
        &mut self,
        mut qemu: Daemon,
        ssh_port: Option<u16>,
    ) -> Result<Option<Ready>, Failed> {
        let (paths, deadline) = (self.paths, self.deadline);
        let mut ended = || qemu.exit_status().map(Some);
        match wait_until_ready(paths, &mut ended, &|| None, deadline.at, self.log) {
            Ok(run_state) => match Instance::read(paths)
                .and_then(|record| search::by_pid_file(paths, record.as_ref()))
            {
                Ok(Some(process)) => {
                    qemu.keep(process.pid);
                    Ok(Some(Ready { process, run_state, already_running: false }))
                }
                // QEMU removes that file when it ends.
                Ok(None)
                    if !paths.pid.exists()
                        && let Some(status) = wait::poll(Instant::now() + OTHER_WAIT, ended) =>
                {
                    Err(self.died(status, ssh_port)?)
                }
                Ok(None) => Err(self.give_up(qemu, "QEMU did not write its pid file").into()),
                Err(error) => Err(self.give_up(qemu, error.message()).into()),
            },
            Err(NotReady::Died(_)) if tail(&paths.log).contains(PID_FILE_LOCKED) => {
                Ok(self.rival()?)
            }
            Err(NotReady::Died(status)) => Err(self.died(status, ssh_port)?),
            Err(NotReady::GuestEnded) => {
                self.take_back(qemu)?;
                Err(self.died(None, ssh_port)?)
            }
            Err(NotReady::TimedOut) => {
                let seconds = deadline.limit.as_secs_f64();
                let message = format!("QEMU was not ready within {seconds} s");
                Err(self.give_up(qemu, &message).of_kind(Kind::TimedOut).into())
            }
            Err(NotReady::Wrong(why)) => {
                let message = format!("cannot manage this QEMU: {why}");
                Err(self.give_up(qemu, &message).into())
            }
        }
    }

    /// Handles another QEMU that has the pid file. If a `start` that was killed has started it, it
    /// is the VM. If it is about to end, the start is tried again (`None`). If it cannot be seen
    /// from here (in a container, for example), that is an error.
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

    /// Ends a QEMU that did not come up. The error contains its output.
    fn give_up(&self, qemu: Daemon, message: &str) -> Error {
        let paths = self.paths;
        match self.take_back(qemu).and_then(|()| clean::all(paths, self.log)) {
            Ok(()) => Error::failed(with_log(message, &tail(&paths.log)))
                .hint(format!("its log is `{}`", paths.log.display())),
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

    fn died(&self, status: Option<ExitStatus>, ssh_port: Option<u16>) -> Result<Failed, Error> {
        let said = tail(&self.paths.log);
        let error = last_words::error("before it was ready", status, self.paths);
        let start = causes::Start { dir: self.dir, ssh_port };
        let error = match causes::hint(&said, &start) {
            Some(hint) => error.hint(hint),
            None => error,
        };
        clean::all(self.paths, self.log)?;
        Ok(Failed { error, port_taken: causes::port_taken(&said) })
    }
}

/// How a QEMU that this process has started ended.
pub(crate) fn exit_status(pid: u32) -> Option<ExitStatus> {
    if !daemon::is_kept(pid) {
        return None;
    }
    // Its command line disappears a moment before the process can be waited for.
    wait::poll(Instant::now() + OTHER_WAIT, || daemon::exit_status_of(pid))
}

fn with_log(message: &str, said: &str) -> String {
    if said.is_empty() {
        format!("{message}, and said nothing")
    } else {
        format!("{message}:\n{said}")
    }
}
