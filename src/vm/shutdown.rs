//! TRUSTED CORE: ends a VM, the gentlest way that works.
//!
//! Power button over QMP, then SIGTERM, which QEMU takes as a clean quit, then SIGKILL. The end
//! of the QMP connection is the notice that QEMU exits, so that nothing is lost in polling.

use super::events;
use super::launch::PATIENCE;
use super::process::Process;
use super::qmp::{self, Qmp};
use super::{Paths, wait};
use crate::error::{Error, Kind, is_shortage};
use crate::log::Log;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a guest gets by default to power off.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// A guest that is still booting misses the power button, so it is pressed again.
const POWERDOWN_INTERVAL: Duration = Duration::from_secs(3);
/// QEMU flushes its images after SIGTERM.
pub(crate) const TERM_WAIT: Duration = Duration::from_secs(5);
const KILL_WAIT: Duration = Duration::from_secs(5);
/// What QEMU has at least to end by itself after it has closed its sockets.
const EXIT_WAIT: Duration = Duration::from_secs(10);
/// QEMU makes its sockets in the first moments of its life; later they do not come any more.
const SOCKET_WAIT: Duration = Duration::from_secs(2);

/// What ended the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// It was not running.
    None,
    Powerdown,
    Sigterm,
    Sigkill,
    /// It ended while the guest was given time, and not because the guest powered off.
    Died,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Powerdown => "powerdown",
            Self::Sigterm => "sigterm",
            Self::Sigkill => "sigkill",
            Self::Died => "died",
        }
    }
}

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Force {
    /// For the guest to power off.
    pub(crate) timeout: Duration,
    /// Not to wait for the guest at all.
    pub(crate) at_once: bool,
    /// To end QEMU when the guest does not power off.
    pub(crate) kill: bool,
}

/// How asking the guest ended.
enum Gentle {
    Ended,
    /// The guest has, and QEMU stays, as under `-no-shutdown`.
    GuestEnded,
    /// Waiting longer cannot help; why.
    Pointless(String),
    TimedOut,
}

/// What to do about a guest in a run state.
enum Step {
    Press,
    WakeThenPress(&'static str),
    Pointless,
}

/// Ends the process. With `force.kill` unset it may be left running, which is an error.
pub(crate) fn shut_down(
    process: &Process,
    paths: &Paths,
    force: Force,
    log: &Log,
) -> Result<Method, Error> {
    if force.at_once {
        return terminate(process, log);
    }
    let deadline = Instant::now() + force.timeout;
    let why = match power_off(process, paths, deadline, log)? {
        Gentle::Ended if events::ending(paths).may_be_power_off() => return Ok(Method::Powerdown),
        Gentle::Ended => return Ok(Method::Died),
        // There is no guest any more that `--no-kill` could spare.
        Gentle::GuestEnded => {
            let powered_off = events::ending(paths).may_be_power_off();
            let method = terminate(process, log)?;
            return Ok(if powered_off { Method::Powerdown } else { method });
        }
        Gentle::Pointless(why) => why,
        Gentle::TimedOut => {
            format!("the guest did not power off within {} s", force.timeout.as_secs_f64())
        }
    };
    if !force.kill {
        let pid = process.pid;
        return Err(Error::new(Kind::TimedOut, format!("{why}; QEMU (pid {pid}) still runs"))
            .hint("without `--no-kill` QEMU would be ended now"));
    }
    log.verbose(|| why);
    terminate(process, log)
}

/// SIGTERM, then SIGKILL.
pub(crate) fn terminate(process: &Process, log: &Log) -> Result<Method, Error> {
    process.signal("TERM", log)?;
    if process.ends_by(Instant::now() + TERM_WAIT) {
        return Ok(Method::Sigterm);
    }
    process.signal("KILL", log)?;
    if process.ends_by(Instant::now() + KILL_WAIT) {
        return Ok(Method::Sigkill);
    }
    let message = format!("QEMU (pid {}) does not end, not even by SIGKILL", process.pid);
    Err(Error::new(Kind::TimedOut, message).hint("it hangs in the kernel, often in a file system"))
}

/// Presses the power button until the process has ended, or until that cannot help.
fn power_off(
    process: &Process,
    paths: &Paths,
    deadline: Instant,
    log: &Log,
) -> Result<Gentle, Error> {
    let socket = match paths.reachable(&paths.ctl) {
        Ok(socket) => socket,
        Err(error) => {
            let why = format!("the guest cannot be asked: {}", error.message());
            return Ok(Gentle::Pointless(why));
        }
    };
    let asked = connect(process, paths, &socket, deadline, log)
        .and_then(|mut qmp| press_until_closed(&mut qmp, deadline, log));
    match asked {
        // QEMU is ending, and may have much to write to its images yet.
        Err(qmp::Error::Closed) => {
            let ended = process.ends_by(deadline.max(Instant::now() + EXIT_WAIT));
            Ok(if ended { Gentle::Ended } else { Gentle::TimedOut })
        }
        Ok(gentle) => Ok(gentle),
        Err(_) if !process.is_alive() => Ok(Gentle::Ended),
        Err(qmp::Error::Silent) => Ok(Gentle::TimedOut),
        // It is not the guest that fails then.
        Err(qmp::Error::Unreachable(error)) if is_shortage(&error) => {
            Err(Error::io("connect to", &paths.ctl, &error))
        }
        Err(error) => Ok(Gentle::Pointless(format!("the guest cannot be asked: {error}"))),
    }
}

/// Another client or a busy QEMU may yet make room for us, so a connection waits in the queue, each
/// longer than the last; a new one, since QEMU that was just started may forget one.
/// Only for a socket that is not there yet is there anything to try again; of a QEMU that is
/// about to end it is the end that is waited for. Without its directory a socket does not come.
fn connect(
    process: &Process,
    paths: &Paths,
    socket: &Path,
    deadline: Instant,
    log: &Log,
) -> Result<Qmp, qmp::Error> {
    let retry_until = if process.exiting { deadline } else { Instant::now() + SOCKET_WAIT };
    let mut patience = PATIENCE;
    let connected = wait::poll(deadline, || {
        let now = Instant::now();
        let comes = || now < retry_until && process.is_alive() && paths.dir.exists();
        match Qmp::open(socket, deadline.min(now + patience), log) {
            Err(qmp::Error::Unreachable(_)) if comes() => None,
            Err(qmp::Error::Silent) if Instant::now() < deadline => {
                patience *= 2;
                None
            }
            result => Some(result),
        }
    });
    connected.unwrap_or(Err(qmp::Error::Silent))
}

/// Ends with [`qmp::Error::Closed`] when all goes well.
fn press_until_closed(qmp: &mut Qmp, deadline: Instant, log: &Log) -> Result<Gentle, qmp::Error> {
    let mut said = false;
    loop {
        if let Some(state) = press(qmp, deadline)? {
            if state == "shutdown" {
                return Ok(Gentle::GuestEnded);
            }
            return Ok(Gentle::Pointless(format!("the guest is `{state}` and cannot power off")));
        }
        match wait_for_change(qmp, deadline.min(Instant::now() + POWERDOWN_INTERVAL)) {
            Err(qmp::Error::Silent) if Instant::now() >= deadline => return Ok(Gentle::TimedOut),
            Err(qmp::Error::Silent) if !said => {
                said = true;
                log.note("waiting for the guest to power off");
            }
            Ok(()) | Err(qmp::Error::Silent) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Presses the power button, or gives the run state in which that is pointless.
fn press(qmp: &mut Qmp, deadline: Instant) -> Result<Option<String>, qmp::Error> {
    let state = qmp.run_state(deadline)?;
    match step(&state) {
        Step::Pointless => return Ok(Some(state)),
        Step::WakeThenPress(command) => {
            qmp.execute(command, deadline)?;
        }
        Step::Press => {}
    }
    qmp.execute("system_powerdown", deadline)?;
    Ok(None)
}

/// By the run states of QEMU's QAPI schema (`qapi/run-state.json`). A state that it gains later
/// is given the time that `stop` has anyway.
fn step(run_state: &str) -> Step {
    match run_state {
        "paused" | "debug" | "io-error" | "watchdog" => Step::WakeThenPress("cont"),
        "suspended" => Step::WakeThenPress("system_wakeup"),
        "prelaunch" | "preconfig" | "inmigrate" | "postmigrate" | "shutdown" | "guest-panicked"
        | "internal-error" => Step::Pointless,
        _ => Step::Press,
    }
}

/// Until the guest stops without QEMU's end (`-no-shutdown`, a panic), which changes what to do.
fn wait_for_change(qmp: &mut Qmp, deadline: Instant) -> Result<(), qmp::Error> {
    loop {
        if matches!(qmp.event(deadline)?.name.as_str(), "STOP" | "GUEST_PANICKED") {
            return Ok(());
        }
    }
}
