//! A QMP session with a running VM, for commands that query or control QEMU. Its errors are in the
//! user's words, and every answer has a deadline.

use super::process::Process;
use super::qmp::{self, Qmp};
use super::{Look, Paths, wait};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::linux;
use crate::log::Log;
use crate::text::sanitized;
use std::time::{Duration, Instant};

/// How long to wait for an answer. QEMU answers within milliseconds, unless it is busy, frozen, or
/// serves another client.
const ANSWER_WAIT: Duration = Duration::from_millis(1900);
/// How often a long wait checks whether to go on.
const PAUSE: Duration = Duration::from_secs(1);

/// How the description of a socket without a client begins (`chardev/char-socket.c`, 2.7 to 10.0).
pub(crate) const DISCONNECTED: &str = "disconnected:";

pub(crate) struct Session {
    /// The VM.
    name: String,
    pub(crate) process: Process,
    qmp: Qmp,
}

impl Session {
    /// Opens a session with the VM: an error of [`Kind::NotRunning`] when it is not running, and of
    /// [`Kind::TimedOut`] when QEMU does not serve us within two seconds.
    pub(crate) fn open(paths: &Paths, log: &Log) -> Result<Self, Error> {
        Self::open_at(&Look::everywhere(paths)?, paths, log)
    }

    /// Opens a session with the VM that was found by `look`.
    pub(crate) fn open_at(look: &Look, paths: &Paths, log: &Log) -> Result<Self, Error> {
        Self::connect(look.running(paths)?, look, paths, log)
    }

    /// Opens a session with this process, but not with another one that was started since.
    pub(crate) fn open_with(process: &Process, paths: &Paths, log: &Log) -> Result<Self, Error> {
        let look = Look::by_files(paths)?;
        let found = look.process()?.filter(|found| found.pid == process.pid);
        Self::connect(found.ok_or_else(|| ended(&paths.name))?, &look, paths, log)
    }

    fn connect(process: &Process, look: &Look, paths: &Paths, log: &Log) -> Result<Self, Error> {
        let socket = paths.reachable(&paths.ctl)?;
        let deadline = Instant::now() + ANSWER_WAIT;
        let qmp = match wait::poll(deadline, || (!look.is_starting(paths)).then_some(())) {
            Some(()) => Qmp::open(&socket, deadline, log),
            None => Err(qmp::Error::Silent),
        };
        let qmp = qmp.map_err(|error| explained(&error, &paths.name, process))?;
        Ok(Self { name: paths.name.clone(), process: process.clone(), qmp })
    }

    /// Runs a command that QEMU answers at once; `arguments` are an object.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
    ) -> Result<Value, Error> {
        self.try_execute(ANSWER_WAIT, command, arguments).map_err(|error| self.explain(&error))
    }

    /// Runs a command of the human monitor, and gives what it says.
    pub(crate) fn monitor(&mut self, command: &str) -> Result<String, Error> {
        let said = self.qmp.monitor(command, Instant::now() + ANSWER_WAIT);
        said.map_err(|error| self.explain(&error))
    }

    /// Executes a command that may take any time, for as long as QEMU lives and is not frozen.
    /// `waiting` is called about once a second. The caller handles QEMU's refusal.
    pub(crate) fn try_execute_patiently(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
        waiting: &mut dyn FnMut(),
    ) -> Result<Value, qmp::Error> {
        let process = &self.process;
        let mut wait_on = || {
            waiting();
            process.is_alive() && !process.is_frozen()
        };
        let result = self.qmp.execute_patiently(command, arguments, PAUSE, &mut wait_on);
        result.map_err(|error| match error {
            qmp::Error::Silent if !self.process.is_alive() => qmp::Error::Closed,
            error => error,
        })
    }

    /// Waits until an event of this name has come, or a second has passed.
    pub(crate) fn listen_for(&mut self, name: &str) -> Result<(), Error> {
        match self.await_event(&[name], PAUSE) {
            Err(error) if error.kind == Kind::TimedOut => Ok(()),
            result => result,
        }
    }

    /// Executes a command that QEMU answers within `limit`. The caller handles QEMU's refusal.
    pub(crate) fn try_execute(
        &mut self,
        limit: Duration,
        command: &str,
        arguments: Option<&Value>,
    ) -> Result<Value, qmp::Error> {
        self.qmp.execute(command, arguments, Instant::now() + limit)
    }

    /// QEMU's description of the character device with this label; `None` if there is none.
    pub(crate) fn chardev(&mut self, label: &str) -> Result<Option<String>, Error> {
        let devices = self.execute("query-chardev", None)?;
        let device = devices.items().iter().find(|device| device.text("label") == Some(label));
        Ok(device.and_then(|device| device.text("filename")).map(str::to_string))
    }

    /// Asks this QEMU for its QMP schema, for a [`super::schema::Schema`].
    pub(crate) fn query_schema(&mut self) -> Result<Value, Error> {
        self.execute("query-qmp-schema", None)
    }

    /// Waits for an event of one of these names, or for the end of QEMU; an event that came with an
    /// answer counts.
    pub(crate) fn await_event(&mut self, names: &[&str], limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        loop {
            match self.qmp.event(deadline) {
                Ok(event) if names.contains(&event.as_str()) => return Ok(()),
                Ok(_) => {}
                Err(qmp::Error::Closed) => return Ok(()),
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    /// The guest's run state in QEMU's own words, or `stopped` when QEMU has just ended.
    pub(crate) fn run_state(&mut self) -> Result<String, Error> {
        match self.qmp.run_state(Instant::now() + ANSWER_WAIT) {
            Err(qmp::Error::Closed) if self.process.has_ended() => Ok("stopped".into()),
            state => state.map_err(|error| self.explain(&error)),
        }
    }

    /// Puts an error of this session in the user's words.
    pub(crate) fn explain(&self, error: &qmp::Error) -> Error {
        explained(error, &self.name, &self.process)
    }
}

/// Puts an error of QMP in the user's words.
fn explained(error: &qmp::Error, name: &str, process: &Process) -> Error {
    match error {
        qmp::Error::Refused { .. } => Error::failed(format!("QEMU refuses {error}")),
        qmp::Error::Silent if process.is_frozen() => {
            let message = format!("VM `{name}` does not answer: QEMU is frozen");
            Error::new(Kind::TimedOut, message).hint(what_froze(process.pid))
        }
        qmp::Error::Silent => {
            let message = format!("VM `{name}` does not answer on its QMP socket");
            Error::new(Kind::TimedOut, message)
                .hint("QEMU is busy or still starting, or serves another `qqmgr`; try again")
        }
        // QEMU removes its sockets some time before it is gone.
        qmp::Error::Closed | qmp::Error::Unreachable(_) if process.has_ended() => ended(name),
        error => Error::failed(format!("VM `{name}` cannot be asked: {error}")),
    }
}

/// Describes what stopped the process, and how to continue it. SIGCONT does not help if a debugger
/// has stopped it.
fn what_froze(pid: u32) -> String {
    match linux::debugger(pid) {
        Some((debugger, name)) => {
            let name = sanitized(&name);
            format!("`{name}` (pid {debugger}) has it; `continue` or `detach` there lets it go on")
        }
        None if linux::is_there() => {
            format!("a signal stopped it; `kill -CONT {pid}` lets it go on")
        }
        None => format!("a signal or a debugger stopped it; `kill -CONT {pid}` undoes the signal"),
    }
}

fn ended(name: &str) -> Error {
    Error::new(Kind::NotRunning, format!("VM `{name}` has just ended"))
}
