//! The serial line of a VM that has a console.
//!
//! QEMU serves one client of that socket at a time. The kernel accepts a second connection, which
//! then receives nothing. So the current client is looked for first: another `console`, which holds
//! a lock, or any other program, which QEMU reports.

use super::ending::Ending;
use super::events::EventLog;
use super::process::Process;
use super::session::{DISCONNECTED, Session};
use super::{Look, Paths, argv, lock, wait};
use crate::error::{Error, io_reason};
use crate::linux;
use crate::log::Log;
use crate::system::lock::Lock;
use crate::system::sockets::Socket;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// QEMU notices within this time that the last client has left.
const LEAVING_WAIT: Duration = Duration::from_secs(1);
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// If the guest accepts no input for this long and its buffers are full, typed input is lost, as on
/// a real serial line. The user can still leave the console.
const TYPING_WAIT: Duration = Duration::from_secs(1);

const OTHER: &str = "another program";

/// Whether the VM was started with a console.
pub(crate) fn is_there(paths: &Paths) -> bool {
    paths.console.symlink_metadata().is_ok()
}

pub(crate) struct Console {
    socket: Socket,
    process: Process,
    /// The event log, opened before QEMU ends: another start may follow at once and has its own
    /// log.
    events: Option<EventLog>,
    _held: Lock,
}

impl Console {
    /// Opens the console of the VM, which must be running; `None` if it was started without one.
    pub(crate) fn open(paths: &Paths, log: &Log) -> Result<Option<Self>, Error> {
        let (name, look) = (&paths.name, Look::everywhere(paths)?);
        let process = look.running(paths)?.clone();
        if !is_there(paths) {
            return Ok(None);
        }
        let mut session = Session::open_at(&look, paths, log)?;
        let on = linux::terminal().map(|tty| format!(" on {}", tty.display())).unwrap_or_default();
        let who = format!("`console` (pid {}{on})", std::process::id());
        let held = lock::now(&paths.console_lock, &who)?.map_err(|holder| has_it(&holder, name))?;
        wait_until_free(&mut session, name)?;
        let events = EventLog::open(paths);
        let deadline = Instant::now() + CONNECT_WAIT;
        let socket = Socket::connect(paths.reachable(&paths.console)?, deadline);
        let socket = socket.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => has_it(OTHER, name),
            _ => Error::io("open", &paths.console, &error),
        })?;
        Ok(Some(Self { socket, process, events, _held: held }))
    }

    /// Gives a reader of the guest's output and a writer of its input. Typed input may be lost;
    /// other input waits for the guest.
    pub(crate) fn ends(
        &self,
        typed: bool,
    ) -> Result<(impl Read + Send + use<>, impl Write + Send + use<>), Error> {
        let handle = |wait| self.socket.handle(wait);
        let ends = handle(None).and_then(|reader| {
            let writer = handle(typed.then_some(TYPING_WAIT))?;
            Ok((reader, writer))
        });
        ends.map_err(|error| {
            Error::failed(format!("cannot use the console: {}", io_reason(&error)))
        })
    }

    /// Why QEMU has ended, after it has closed the console; `None` if QEMU is still running.
    pub(crate) fn ending(&mut self) -> Option<Ending> {
        let has_ended = self.process.has_ended();
        let ending = self.events.as_mut().map_or(Ending::Unknown, EventLog::ending);
        (has_ended || ending.reason().is_some()).then_some(ending)
    }
}

fn wait_until_free(session: &mut Session, name: &str) -> Result<(), Error> {
    let free = wait::poll(Instant::now() + LEAVING_WAIT, || {
        let is_free = |name: String| name.starts_with(DISCONNECTED);
        let console = session.chardev(argv::CONSOLE);
        console.map(|name| name.is_none_or(is_free).then_some(())).transpose()
    });
    free.unwrap_or_else(|| Err(has_it(OTHER, name)))
}

fn has_it(who: &str, name: &str) -> Error {
    let error = Error::failed(format!("{who} has the console of VM `{name}`"));
    error.hint(format!("`qqmgr serial {name} -f` shows what the guest says meanwhile"))
}
