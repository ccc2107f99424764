//! Waits until a QEMU that is starting answers.
//!
//! The existence of a socket file proves nothing: with much memory to allocate, QEMU answers many
//! seconds later. So a VM counts as up only when QEMU has answered `query-status` in the session of
//! its event log ([`Answer`]).

use super::ending::Ending;
use super::events::{self, Answer};
use super::process::{ENDING_WAIT, Process};
use super::state::State;
use super::wait::Deadline;
use super::{Paths, last_words, wait};
use crate::error::{Error, Kind};
use crate::log::Log;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// After this long, `start` says what it waits for. A QEMU that another `start` has spawned is then
/// asked over its socket: its event log may have been replaced.
const PATIENCE: Duration = Duration::from_secs(3);
/// A QEMU that answers, and its run state.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) process: Process,
    pub(crate) run_state: String,
    /// QEMU was already running before this start.
    pub(crate) already_running: bool,
}

/// How the wait for a starting QEMU failed.
pub(super) enum NotReady {
    /// QEMU ended. The status is known if it was our child.
    Died(Option<ExitStatus>),
    /// QEMU has reported the guest's end, but it stays and does not answer.
    GuestEnded,
    /// QEMU was not ready in time, or cannot be managed.
    Unusable(Error),
    /// A helper has ended.
    Helper(Error),
}

/// Waits for a QEMU that another process has started.
pub(crate) fn wait_for_running(
    process: &Process,
    paths: &Paths,
    deadline: Deadline,
    log: &Log,
) -> Result<Ready, Error> {
    let mut ended = || (!process.is_alive()).then_some(NotReady::Died(None));
    let ask = || match State::of_qemu(paths, log) {
        Ok(Some((State::Qemu(run_state), _))) => Some(run_state),
        _ => None,
    };
    let pid = process.pid;
    match wait_until_ready(paths, &mut ended, &ask, deadline, log) {
        Ok(run_state) => Ok(Ready { process: process.clone(), run_state, already_running: true }),
        Err(NotReady::Died(_) | NotReady::GuestEnded) => {
            Err(last_words::error(&format!("before it was ready (pid {pid})"), None, paths))
        }
        Err(NotReady::Unusable(error) | NotReady::Helper(error)) => {
            let hint = format!("`qqmgr stop {}` ends it", paths.name);
            Err(error.after(&format!("QEMU runs (pid {pid})")).hint(hint))
        }
    }
}

/// Waits until QEMU has answered, and returns the guest's run state. `ended` reports an end. `ask`
/// gives the run state of a QEMU that does not report it in this event log.
pub(super) fn wait_until_ready(
    paths: &Paths,
    ended: &mut dyn FnMut() -> Option<NotReady>,
    ask: &dyn Fn() -> Option<String>,
    deadline: Deadline,
    log: &Log,
) -> Result<String, NotReady> {
    let begin = Instant::now();
    let (mut said, mut over) = (false, None);
    let outcome = wait::poll(deadline.at, || {
        if let Some(ended) = ended() {
            return Some(Err(ended));
        }
        match events::answer(paths) {
            Answer::RunState(state) => return Some(Ok(state)),
            Answer::Wrong(why) => {
                let error = Error::failed(format!("cannot manage this QEMU: {why}"));
                return Some(Err(NotReady::Unusable(error)));
            }
            Answer::Negotiated => {
                if let Some(state) = ask() {
                    return Some(Ok(state));
                }
            }
            Answer::Missing => {}
        }
        if let Ending::Reported { .. } = events::ending(paths)
            && over.get_or_insert_with(Instant::now).elapsed() >= ENDING_WAIT
        {
            return Some(Err(NotReady::GuestEnded));
        }
        if begin.elapsed() < PATIENCE {
            return None;
        }
        if !std::mem::replace(&mut said, true) {
            log.note("waiting for QEMU to answer");
        }
        ask().map(Ok)
    });
    outcome.unwrap_or_else(|| {
        let message = format!("QEMU was not ready within {} s", deadline.seconds());
        Err(NotReady::Unusable(Error::new(Kind::TimedOut, message)))
    })
}
