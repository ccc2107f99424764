//! Ends a VM in the gentlest way that works.
//!
//! The steps are the power button over QMP, then SIGTERM, which makes QEMU quit cleanly, then
//! SIGKILL. The end of the QMP connection shows that QEMU exits, so that no time is lost in
//! polling.

use super::process::Process;
use super::qmp::Qmp;
use super::{Instance, Paths, events, qmp, wait};
use crate::error::{Error, Kind, is_shortage};
use crate::log::Log;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a guest has by default to power off.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// A guest that is still booting misses the power button, so it is pressed again.
const POWERDOWN_INTERVAL: Duration = Duration::from_secs(3);
/// How long QEMU has to end after SIGTERM, when it flushes its images.
pub(crate) const TERM_WAIT: Duration = Duration::from_secs(5);
const KILL_WAIT: Duration = Duration::from_secs(5);
/// The minimum time that QEMU has to end by itself after it has closed its sockets.
const EXIT_WAIT: Duration = Duration::from_secs(10);
/// How long to wait for a socket. QEMU makes its sockets in the first moments of its life.
const SOCKET_WAIT: Duration = Duration::from_secs(2);

/// How the VM was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// The VM was not running.
    None,
    Powerdown,
    Sigterm,
    Sigkill,
    /// QEMU ended while the guest had time to power off, for another reason than a power-off.
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
    /// How long the guest has to power off.
    pub(crate) timeout: Duration,
    /// Do not wait for the guest at all.
    pub(crate) at_once: bool,
    /// End QEMU when the guest does not power off.
    pub(crate) kill: bool,
}

/// How asking the guest ended.
enum Gentle {
    Ended,
    /// The guest has ended, but QEMU stays, as under `-no-shutdown`.
    GuestEnded,
    /// The guest is still there: waiting longer cannot help, for this reason, or the time is up.
    Stays(Option<String>),
}

/// Ends the process. If `force.kill` is not set, the process may be left running, which is an
/// error.
pub(crate) fn shut_down(
    process: &Process,
    paths: &Paths,
    force: Force,
    log: &Log,
) -> Result<Method, Error> {
    let pid = process.pid;
    log.step("shut_down", || format!("pid {pid} shall end"));
    let ended =
        if force.at_once { terminate(process, log) } else { ask(process, paths, force, log) };
    let method = ended?;
    log.step("ends", || format!("pid {pid} has ended: {}", method.name()));
    Ok(method)
}

/// Asks the guest to power off, and ends the process when that does not help.
fn ask(process: &Process, paths: &Paths, force: Force, log: &Log) -> Result<Method, Error> {
    let deadline = Instant::now() + force.timeout;
    let seconds = force.timeout.as_secs_f64();
    let timed_out = format!("the guest did not power off within {seconds} s");
    let why = match power_off(process, paths, deadline, log)? {
        Gentle::Ended if events::ending(paths).may_be_power_off() => return Ok(Method::Powerdown),
        Gentle::Ended => return Ok(Method::Died),
        // `--no-kill` has no guest left to spare.
        Gentle::GuestEnded => {
            let powered_off = events::ending(paths).may_be_power_off();
            let method = terminate(process, log)?;
            return Ok(if powered_off { Method::Powerdown } else { method });
        }
        Gentle::Stays(why) => why.unwrap_or(timed_out),
    };
    if !force.kill {
        let pid = process.pid;
        return Err(Error::new(Kind::TimedOut, format!("{why}; QEMU (pid {pid}) still runs"))
            .hint("without `--no-kill` QEMU would be ended now"));
    }
    log.verbose(|| why);
    terminate(process, log)
}

/// Ends the process with SIGTERM, then with SIGKILL.
pub(crate) fn terminate(process: &Process, log: &Log) -> Result<Method, Error> {
    process.signal("TERM", log)?;
    if process.ends_by(Instant::now() + TERM_WAIT) {
        return Ok(Method::Sigterm);
    }
    process.signal("KILL", log)?;
    if process.ends_by(Instant::now() + KILL_WAIT) {
        return Ok(Method::Sigkill);
    }
    let (noun, pid) = (process.noun(), process.pid);
    let message = format!("{noun} (pid {pid}) does not end, not even by SIGKILL");
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
        Err(error) => return Ok(cannot_be_asked(error.message())),
    };
    let asked = connect(process, paths, &socket, deadline, log)
        .and_then(|mut qmp| press_until_closed(&mut qmp, deadline, log));
    match asked {
        // QEMU is ending, and may still have much to write to its images.
        Err(qmp::Error::Closed) => {
            let ended = process.ends_by(deadline.max(Instant::now() + EXIT_WAIT));
            Ok(if ended { Gentle::Ended } else { Gentle::Stays(None) })
        }
        Ok(gentle) => Ok(gentle),
        Err(_) if !process.is_alive() => Ok(Gentle::Ended),
        Err(qmp::Error::Silent) => Ok(Gentle::Stays(None)),
        // The failure is on our side and not the guest's.
        Err(qmp::Error::Unreachable(error)) if is_shortage(&error) => {
            Err(Error::io("connect to", &paths.ctl, &error))
        }
        Err(error) => Ok(cannot_be_asked(&error.to_string())),
    }
}

fn cannot_be_asked(why: &str) -> Gentle {
    Gentle::Stays(Some(format!("the guest cannot be asked: {why}")))
}

/// Connects to the QMP socket, once QEMU has answered in its own session. Other clients may come
/// first: the connection waits in the queue. A socket that does not exist is tried again, until the
/// deadline for a QEMU that is about to end. A socket without a directory will not appear.
fn connect(
    process: &Process,
    paths: &Paths,
    socket: &Path,
    deadline: Instant,
    log: &Log,
) -> Result<Qmp, qmp::Error> {
    let comes = || process.is_alive() && paths.dir.exists();
    // If the record cannot be read, the socket shows whether QEMU answers.
    let record = Instance::read(paths).ok().flatten();
    let is_starting = || record.as_ref().is_some_and(|record| !record.has_answered(paths));
    wait::poll(deadline, || (!is_starting() || !comes()).then_some(()));
    let retry_until = if process.exiting { deadline } else { Instant::now() + SOCKET_WAIT };
    let connected = wait::poll(deadline, || match Qmp::open(socket, deadline, log) {
        Err(qmp::Error::Unreachable(_)) if Instant::now() < retry_until && comes() => None,
        result => Some(result),
    });
    connected.unwrap_or(Err(qmp::Error::Silent))
}

/// Presses the power button until the connection ends, which is [`qmp::Error::Closed`] and means
/// success.
fn press_until_closed(qmp: &mut Qmp, deadline: Instant, log: &Log) -> Result<Gentle, qmp::Error> {
    let mut said = false;
    loop {
        if let Some(state) = press(qmp, deadline)? {
            if state == "shutdown" {
                return Ok(Gentle::GuestEnded);
            }
            let why = format!("the guest is `{state}` and cannot power off");
            return Ok(Gentle::Stays(Some(why)));
        }
        match wait_for_change(qmp, deadline.min(Instant::now() + POWERDOWN_INTERVAL)) {
            Err(qmp::Error::Silent) if Instant::now() >= deadline => {
                return Ok(Gentle::Stays(None));
            }
            Err(qmp::Error::Silent) if !said => {
                said = true;
                log.note("waiting for the guest to power off");
            }
            Ok(()) | Err(qmp::Error::Silent) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Presses the power button, or returns the run state in which that is pointless (`RunState` of
/// `qapi/run-state.json`). In a state that is added later, the button is pressed and `stop` waits
/// as usual.
fn press(qmp: &mut Qmp, deadline: Instant) -> Result<Option<String>, qmp::Error> {
    let state = qmp.run_state(deadline)?;
    match state.as_str() {
        "paused" | "debug" | "io-error" | "watchdog" => {
            qmp.execute("cont", None, deadline)?;
        }
        "suspended" => {
            qmp.execute("system_wakeup", None, deadline)?;
        }
        "prelaunch" | "preconfig" | "inmigrate" | "postmigrate" | "shutdown" | "guest-panicked"
        | "internal-error" => return Ok(Some(state)),
        _ => {}
    }
    qmp.execute("system_powerdown", None, deadline)?;
    Ok(None)
}

/// Waits until the guest stops but QEMU does not end (`-no-shutdown`, a panic), which changes what
/// to do.
fn wait_for_change(qmp: &mut Qmp, deadline: Instant) -> Result<(), qmp::Error> {
    loop {
        if matches!(qmp.event(deadline)?.as_str(), "STOP" | "GUEST_PANICKED") {
            return Ok(());
        }
    }
}
