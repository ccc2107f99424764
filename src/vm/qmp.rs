//! A client of the QEMU Machine Protocol, with one JSON text per line:
//! <https://www.qemu.org/docs/master/interop/qmp-spec.html>.
//!
//! QEMU serves one client per socket. The kernel accepts further connections, which receive
//! nothing. A client of a QEMU that is starting or frozen receives nothing either. Every wait has a
//! deadline, and silence never means "not running": only the process can show that.

use crate::json::{self, Value};
use crate::log::Log;
use crate::system::sockets::Socket;
use crate::text::sanitized;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// The maximum length of a line. QEMU's longest reply, to `query-qmp-schema`, is below 1 MiB.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The number of events that are kept for later; the oldest are dropped.
const EVENTS_MAX: usize = 1000;
/// The `id`s of commands begin at the pid times this, so that a reply to an earlier client is never
/// taken for ours.
const IDS_OF_A_PROCESS: u64 = 1000;
/// How much of a line that is not QMP an error shows.
const SHOWN_CHARS_MAX: usize = 80;

#[derive(Debug)]
pub(crate) enum Error {
    /// There is no socket, or no program listens on it.
    Unreachable(io::Error),
    /// QEMU sent nothing until the deadline.
    Silent,
    /// QEMU has closed the connection.
    Closed,
    /// The line is not QMP.
    Garbled(String),
    /// QEMU refused the command.
    Refused { command: String, reason: Refusal },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(error) => {
                write!(f, "its QMP socket: {}", crate::error::io_reason(error))
            }
            Self::Silent => f.write_str("its QMP socket is silent"),
            Self::Closed => f.write_str("its QMP connection was closed"),
            Self::Garbled(what) => write!(f, "its QMP socket speaks no QMP: {what}"),
            Self::Refused { command, reason } => write!(f, "`{command}`: {}", reason.desc),
        }
    }
}

/// An `error` of QMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `GenericError`, `CommandNotFound`, ... (`QapiErrorClass` of `qapi/error.json`).
    pub(crate) class: String,
    pub(crate) desc: String,
}

pub(crate) struct Qmp {
    socket: Socket,
    /// Bytes that were read and are not a complete line.
    buffer: Vec<u8>,
    /// The length of the start of `buffer` that is known to have no line end.
    searched: usize,
    /// The names of events that came with answers.
    events: VecDeque<String>,
    last_id: u64,
    log: Log,
}

/// A line that QEMU sent.
enum Message {
    Greeting,
    /// An event, by its name.
    Event(String),
    Return {
        id: Option<u64>,
        result: Result<Value, Refusal>,
    },
}

impl Qmp {
    /// Connects, waits for the greeting, and negotiates.
    pub(crate) fn open(socket: &Path, deadline: Instant, log: &Log) -> Result<Self, Error> {
        let socket = Socket::connect(socket.to_path_buf(), deadline).map_err(broken)?;
        let (buffer, events) = (Vec::new(), VecDeque::new());
        let last_id = u64::from(std::process::id()) * IDS_OF_A_PROCESS;
        let mut qmp = Self { socket, buffer, searched: 0, events, last_id, log: log.clone() };
        // Replies to an earlier client may come first: QEMU sends them to the current one.
        while !matches!(qmp.message(deadline)?, Message::Greeting) {}
        qmp.execute("qmp_capabilities", None, deadline)?;
        Ok(qmp)
    }

    /// Runs a command; its arguments are an object. Events that come before its reply are kept.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
        deadline: Instant,
    ) -> Result<Value, Error> {
        self.request(command, arguments, deadline)?;
        self.answer(command, deadline)
    }

    /// Executes a command that may take long. After each `pause` without a message from QEMU,
    /// `wait_on` decides whether to keep waiting; if not, the error is [`Error::Silent`].
    pub(crate) fn execute_patiently(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
        pause: Duration,
        wait_on: &mut dyn FnMut() -> bool,
    ) -> Result<Value, Error> {
        self.request(command, arguments, Instant::now() + pause)?;
        loop {
            match self.answer(command, Instant::now() + pause) {
                Err(Error::Silent) if wait_on() => {}
                result => return result,
            }
        }
    }

    fn request(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.last_id += 1;
        let arguments = arguments.map(|arguments| ("arguments", arguments.clone()));
        let request = [("execute", Value::from(command))].into_iter().chain(arguments);
        let request = request.chain([("id", self.last_id.into())]);
        let line = Value::object(request).compact();
        self.log.verbose(|| format!("qmp -> {line}"));
        self.socket.send(format!("{line}\n").as_bytes(), deadline).map_err(broken)
    }

    /// Waits for the answer to the last request: its value, or QEMU's refusal.
    fn answer(&mut self, command: &str, deadline: Instant) -> Result<Value, Error> {
        loop {
            match self.message(deadline)? {
                Message::Event(event) => self.keep(event),
                Message::Greeting => return Err(Error::Garbled("a second greeting".into())),
                Message::Return { id, result } if id == Some(self.last_id) => {
                    let command = command.to_string();
                    return result.map_err(|reason| Error::Refused { command, reason });
                }
                // A reply to an earlier client.
                Message::Return { id: Some(_), .. } => {}
                Message::Return { id: None, .. } => {
                    return Err(Error::Garbled(format!("a reply to `{command}` without its `id`")));
                }
            }
        }
    }

    /// Runs a command of the human monitor, and gives what it says.
    pub(crate) fn monitor(&mut self, command: &str, deadline: Instant) -> Result<String, Error> {
        let arguments = Value::object([("command-line", Value::from(command))]);
        let answer = self.execute("human-monitor-command", Some(&arguments), deadline)?;
        Ok(answer.as_str().unwrap_or_default().trim_end().to_string())
    }

    /// The guest's run state in QEMU's own words: `running`, `paused`, ...
    pub(crate) fn run_state(&mut self, deadline: Instant) -> Result<String, Error> {
        let reply = self.execute("query-status", None, deadline)?;
        let status = reply.text("status").map(str::to_string);
        status.ok_or_else(|| Error::Garbled("a status without `status`".into()))
    }

    /// The name of the next event: one that was kept, or a new one.
    pub(crate) fn event(&mut self, deadline: Instant) -> Result<String, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Message::Event(event) = self.message(deadline)? {
                return Ok(event);
            }
        }
    }

    fn keep(&mut self, event: String) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn message(&mut self, deadline: Instant) -> Result<Message, Error> {
        let line = self.line(deadline)?;
        let text = || sanitized(String::from_utf8_lossy(&line).trim_end());
        self.log.verbose(|| format!("qmp <- {}", text()));
        let value = parse(&line).map_err(Error::Garbled)?;
        Message::from(&value).ok_or_else(|| Error::Garbled("an unknown kind of message".into()))
    }

    /// The next line, without waiting past the deadline even while other lines keep coming.
    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>, Error> {
        loop {
            if Instant::now() >= deadline {
                return Err(Error::Silent);
            }
            if let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                let message = format!("a line of more than {} MiB", LINE_BYTES_MAX >> 20);
                return Err(Error::Garbled(message));
            }
            let mut chunk = [0; 16 * 1024];
            match self.socket.receive(&mut chunk, deadline) {
                Ok(0) => return Err(Error::Closed),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

impl Message {
    fn from(value: &Value) -> Option<Self> {
        if value.get("QMP").is_some() {
            return Some(Self::Greeting);
        }
        if let Some(event) = value.get("event") {
            return Some(Self::Event(event.as_str()?.to_string()));
        }
        let id = value.number("id");
        if let Some(error) = value.get("error") {
            let (class, desc) = (error.text("class")?.into(), error.text("desc")?.into());
            let reason = Refusal { class, desc };
            return Some(Self::Return { id, result: Err(reason) });
        }
        value.get("return").map(|value| Self::Return { id, result: Ok(value.clone()) })
    }
}

/// Parses a line. The error says what is wrong with one that is not JSON, and shows its start.
pub(super) fn parse(line: &[u8]) -> Result<Value, String> {
    json::parse(line).map_err(|error| {
        let text: String = String::from_utf8_lossy(line).chars().take(SHOWN_CHARS_MAX).collect();
        format!("{error}: {}", sanitized(text.trim_end()))
    })
}

/// Classifies an I/O error. QEMU ends a connection with EOF or, when it had not read a line of
/// ours, with a reset.
fn broken(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::Silent,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::Unreachable(error),
    }
}
