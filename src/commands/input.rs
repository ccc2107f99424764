//! Lines of standard input: commands that a person or a script gives one after the other, until the
//! input or the VM ends.

use super::confirm;
use super::target::Target;
use crate::error::{self, Error};
use crate::out;
use crate::vm::{Process, Session, look};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The longest line; QEMU takes none longer (`MAX_TOKEN_SIZE` of `qobject/json-streamer.c` is 64
/// MiB).
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often to check that the VM still runs while no line comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Input<'a> {
    target: &'a Target<'a>,
    /// The process that gets the commands.
    process: Process,
    lines: Receiver<io::Result<Vec<u8>>>,
    /// The prompt for a person.
    pub(super) prompt: Option<&'static str>,
}

impl<'a> Input<'a> {
    /// Starts to read commands for the VM, which must be running. `prompt` is shown when both ends
    /// are a terminal.
    pub(super) fn new(target: &'a Target<'a>, prompt: &'static str) -> Result<Self, Error> {
        let process = look::running(&target.paths)?;
        // This needs its own thread, since a read has no deadline. The thread ends with the
        // program.
        let (sender, lines) = mpsc::sync_channel(0);
        thread::spawn(move || {
            while let Some(line) = read_line().transpose() {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let is_person = io::stdin().is_terminal() && io::stdout().is_terminal();
        Ok(Self { target, process, lines, prompt: is_person.then_some(prompt) })
    }

    /// The next line that is not blank, without its line end; `None` when the input or the VM ends.
    pub(super) fn next(&self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let line = self.ask(self.prompt)?;
            if line.as_ref().is_none_or(|line| !line.trim_ascii().is_empty()) {
                return Ok(line);
            }
        }
    }

    /// Opens a session with the process, for one command: other commands of qqmgr need the socket.
    pub(super) fn session(&self) -> Result<Session, Error> {
        Session::open_with(&self.process, &self.target.paths, &self.target.log)
    }

    /// Whether to go on although something would be lost. A person is asked, and a script is not.
    pub(super) fn agrees(&self, loss: &str) -> Result<bool, Error> {
        if self.prompt.is_none() || !io::stderr().is_terminal() {
            return Ok(true);
        }
        let question = format!("qqmgr: {loss}. Go on? [y/N] ");
        Ok(self.ask(Some(&question))?.is_some_and(|answer| confirm::is_yes(&answer)))
    }

    fn ask(&self, prompt: Option<&str>) -> Result<Option<Vec<u8>>, Error> {
        if let Some(prompt) = prompt {
            out::write(prompt.as_bytes())?;
        }
        loop {
            match self.lines.recv_timeout(LOOK_INTERVAL) {
                Ok(line) => {
                    return line.map(Some).map_err(|error| {
                        let reason = error::io_reason(&error);
                        Error::failed(format!("cannot read standard input: {reason}"))
                    });
                }
                Err(RecvTimeoutError::Timeout) if self.process.is_alive() => {}
                Err(_) => break,
            }
        }
        if prompt.is_some() {
            let ended = if self.process.is_alive() { "" } else { "The VM has ended." };
            out::write(format!("{ended}\n").as_bytes())?;
        }
        Ok(None)
    }
}

fn read_line() -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    io::stdin().lock().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.len() as u64 == LINE_BYTES_MAX {
        let text = format!("a line of more than {} MiB", LINE_BYTES_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let is_end = line.is_empty();
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    Ok((!is_end).then_some(line))
}
