//! Waits for changes of a VM: its ssh server, a text on its serial output, a run state, its end.
//! Reads only; [`crate::vm::probe`] connects to the ssh server.

use super::ending::Ending;
use super::events::{self, EventLog};
use super::last_words::tail;
use super::look::{self, Look};
use super::output::Output;
use super::process::{ENDING_WAIT, Process};
use super::sought::{Found, Sought};
use super::state::{State, start_again};
use super::{Instance, Paths, last_words, launch, wait};
use crate::error::{Error, Kind};
use crate::log::Log;
use crate::progress::Progress;
use crate::text::on_a_line;
use crate::wait::Deadline;
use std::time::{Duration, Instant};

/// How long until QEMU is asked again, if it does not answer or reports no change.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum time of one search, so that a wait ends in time while much is left to search.
const SEARCH_WAIT: Duration = Duration::from_millis(200);

/// Waits until a VM that is not running is started, and returns its process.
pub(crate) fn started(
    paths: &Paths,
    deadline: Option<Deadline>,
    log: &Log,
) -> Result<Process, Error> {
    let what = format!("VM `{}` to be started", paths.name);
    let mut progress = Progress::new(log);
    let found = wait::poll_long(deadline.map(|deadline| deadline.at), || {
        progress.show(&what, String::new);
        look::find(paths).transpose()
    });
    found.unwrap_or_else(|| {
        let seconds = deadline.map_or(0.0, Deadline::seconds);
        Err(Error::new(Kind::TimedOut, format!("waited {seconds} s for {what}")))
    })
}

/// A VM, and the deadline of a wait for something that happens to it.
pub(crate) struct Watch<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) process: Process,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) log: &'a Log,
    /// Texts on the serial line that end the wait; with an empty one, a panic does not.
    pub(crate) unless: Vec<Vec<u8>>,
}

impl Watch<'_> {
    /// Waits until the guest has done something; `what` completes "waiting for". An error when the
    /// guest panics, a text of `unless` appears, QEMU ends or the time is up before that.
    pub(super) fn until(
        &self,
        what: &str,
        mut happened: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let mut alarm = self.alarm(what, None)?;
        self.until_some(what, || if happened() { Some(Ok(())) } else { alarm() })
    }

    /// Makes a function that returns an error as soon as the wait is in vain, and success when
    /// `text` is on the serial line. Texts count from the VM's start on. A panic also counts,
    /// unless the guest has been reset or a snapshot was loaded after it.
    pub(crate) fn alarm<'w>(
        &'w self,
        what: &'w str,
        text: Option<&[u8]>,
    ) -> Result<impl FnMut() -> Option<Result<(), Error>> + 'w, Error> {
        let (mut seen, mut over) = (0, None);
        let mut output = Output::open(&self.paths.serial)?;
        let mut sought = Sought::new(text.map(<[u8]>::to_vec), self.unless.clone());
        let (panics, mut old) = (sought.panics, 0);
        if events::names_since(self.paths, 0).iter().any(|it| it == "RESET" || it == events::LOAD) {
            old = self.paths.serial.metadata().map_or(0, |metadata| metadata.len());
        }
        Ok(move || {
            let begin = Instant::now();
            while begin.elapsed() < SEARCH_WAIT
                && let Ok(piece) = output.piece()
                && !piece.is_empty()
            {
                sought.panics = panics && old == 0;
                old = old.saturating_sub(piece.len() as u64);
                if let Some(found) = sought.found_in(&piece) {
                    return Some(self.judged(&found, what));
                }
            }
            let length = events::length(self.paths);
            if std::mem::replace(&mut seen, length) != length {
                let mut events = EventLog::open(self.paths)?;
                if panics && events.ends_in_panic() {
                    return Some(self.judged(&Found::Panic, what));
                }
                over = match events.ending() {
                    ending @ Ending::Reported { .. } => Some((ending, Instant::now())),
                    Ending::Untold | Ending::Unknown => None,
                };
            }
            // QEMU usually ends soon after that.
            let (ending, since) = over.as_ref()?;
            let stays = since.elapsed() >= ENDING_WAIT;
            stays.then(|| Err(self.guest_ended(&format!("{ending} while waiting for {what}"))))
        })
    }

    /// Waits until `outcome` returns something, QEMU ends, or the time is up.
    fn until_some(
        &self,
        what: &str,
        mut outcome: impl FnMut() -> Option<Result<(), Error>>,
    ) -> Result<(), Error> {
        let mut progress = Progress::new(self.log);
        let deadline = self.deadline.map(|deadline| deadline.at);
        let result = wait::poll_long(deadline, || {
            // Ask before reading, so that an ended QEMU's last output is read.
            let alive = self.process.is_alive();
            if let Some(outcome) = outcome() {
                return Some(outcome);
            }
            if !alive {
                return Some(Err(self.ended(&format!("waiting for {what}"))));
            }
            progress.show(what, || tail(&self.paths.serial));
            None
        });
        drop(progress);
        result.unwrap_or_else(|| Err(self.timed_out(what)))
    }

    /// Waits until the text is on the serial output, which is searched from the VM's start.
    pub(crate) fn serial(&self, text: &[u8]) -> Result<(), Error> {
        let shown = on_a_line(&String::from_utf8_lossy(text));
        let what = format!("`{shown}` on the serial output of VM `{}`", self.paths.name);
        let alarm = self.alarm(&what, Some(text))?;
        self.until_some(&what, alarm)
    }

    /// Waits until QEMU runs the guest.
    pub(crate) fn running(&self) -> Result<(), Error> {
        let what = format!("VM `{}` to run", self.paths.name);
        let (mut seen, mut ask_at) = (None, Instant::now());
        self.until(&what, || {
            let length = events::length(self.paths);
            if seen == Some(length) && Instant::now() < ask_at {
                return false;
            }
            (seen, ask_at) = (Some(length), Instant::now() + ASK_INTERVAL);
            self.state() == State::Qemu("running".into())
        })
    }

    /// The VM's current state. The process is looked at again, since one that was frozen may
    /// continue.
    pub(super) fn state(&self) -> State {
        let look = Look::by_files(self.paths);
        let state = look.and_then(|look| State::ask(&look, self.paths, self.log));
        state.map_or(State::Unresponsive, |(state, _)| state)
    }

    /// Waits until QEMU has ended, or its guest under `-no-shutdown`, and returns the reason.
    pub(crate) fn stopped(&self) -> Result<Ending, Error> {
        let what = format!("VM `{}` to stop", self.paths.name);
        // Opened before QEMU ends: another `start` may follow at once and has its own event log.
        let (mut events, mut seen) = (EventLog::open(self.paths), 0);
        let mut alarm = self.alarm(&what, None)?;
        self.until_some(&what, || {
            if !self.process.is_alive() {
                return Some(Ok(()));
            }
            // QEMU may end after a panic, and after the guest's end. A text of `unless` counts.
            if let Some(Err(error)) = alarm()
                && error.kind == Kind::Failed
            {
                return Some(Err(error));
            }
            let length = events::length(self.paths);
            if std::mem::replace(&mut seen, length) == length {
                return None;
            }
            events.as_mut()?.guest_end().map(|_| Ok(()))
        })?;
        Ok(events.map_or(Ending::Unknown, |mut events| events.ending()))
    }

    /// The error for a QEMU that ended, with the reason; `when` completes "while".
    pub(crate) fn ended(&self, when: &str) -> Error {
        let status = launch::exit_status(self.process.pid);
        let when = format!("while {when}");
        let record = Instance::read(self.paths).ok().flatten();
        // The log and the output in the directory are those of the recorded start.
        let error = match record.filter(|record| record.pid != Some(self.process.pid)) {
            Some(_) => last_words::of_earlier(&when, status),
            None => last_words::error(&when, status, self.paths),
        };
        error.of_kind(Kind::NotRunning)
    }

    /// The result of a wait that a text on the serial line has ended.
    fn judged(&self, found: &Found, what: &str) -> Result<(), Error> {
        match found {
            Found::Until => Ok(()),
            Found::Panic => {
                Err(self.guest_ended(&format!("the guest panicked while waiting for {what}")))
            }
            Found::Failure(text) => {
                let text = on_a_line(&String::from_utf8_lossy(text));
                let said = last_words::of_guest(self.paths);
                let message = format!("`{text}` is on the serial line while waiting for {what}");
                Err(Error::failed(message + &said))
            }
        }
    }

    /// The error for a guest that has ended in a QEMU that stays.
    fn guest_ended(&self, message: &str) -> Error {
        let said = last_words::of_guest(self.paths);
        let error = Error::new(Kind::NotRunning, format!("{message}{said}"));
        error.hint(start_again(self.paths))
    }

    fn timed_out(&self, what: &str) -> Error {
        let seconds = self.deadline.map_or(0.0, Deadline::seconds);
        let said = last_words::of_guest(self.paths);
        let message = format!("waited {seconds} s for {what}{said}");
        Error::new(Kind::TimedOut, message)
    }
}
