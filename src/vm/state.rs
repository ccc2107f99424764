//! The state of a VM, for `status`, `list` and `start`.

use super::look::Place;
use super::qmp::{self, Qmp};
use super::{Instance, Look, Paths};
use crate::colour::Colour;
use crate::error::{Error, is_shortage};
use crate::log::Log;
use std::time::{Duration, Instant};

/// How long to wait for QEMU's answer. A QEMU that takes longer is busy or frozen, and people do
/// not wait longer for a status.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_millis(1500);

/// A hint on how to restart a guest that has ended in a QEMU that stays.
pub(crate) fn start_again(paths: &Paths) -> String {
    let name = &paths.name;
    let words = Instance::read(paths).ok().flatten().map(|instance| instance.argv);
    // With these, a reset ends QEMU.
    let is_no_reboot = |word: &String| word == "-no-reboot" || word.contains("reboot=shutdown");
    if words.iter().flatten().any(is_no_reboot) {
        return format!("`qqmgr restart {name} --force` starts it again");
    }
    format!("`qqmgr reset {name}` and then `qqmgr resume {name}` start it again")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Stopped,
    /// The process exists and has not been ready so far.
    Starting,
    /// The state cannot be seen from here, as when the VM was started on another host.
    Unknown,
    /// The process exists but does not answer, or it is about to end.
    Unresponsive,
    /// The state in QEMU's words (`RunState` of its QAPI schema): `running`, `paused`, ...
    Qemu(String),
}

impl State {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Unknown => "unknown",
            Self::Unresponsive => "unresponsive",
            Self::Qemu(state) => state,
        }
    }

    /// How a terminal shows the state, if not as other text: a guest that works, one that waits for
    /// somebody, one that has failed.
    pub(crate) fn colour(&self) -> Option<Colour> {
        match self.name() {
            "stopped" => None,
            "running" => Some(Colour::Green),
            "guest-panicked" | "internal-error" | "io-error" | "unresponsive" => Some(Colour::Red),
            _ => Some(Colour::Yellow),
        }
    }

    /// Whether the guest has panicked or shut down, and QEMU stays.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Qemu(state) if ["guest-panicked", "shutdown"].contains(&&**state))
    }

    /// A hint on how to continue a guest that is held in this state; `None` for a guest that runs,
    /// or soon will by itself.
    pub(crate) fn way_on(&self, paths: &Paths) -> Option<String> {
        let name = &paths.name;
        let Self::Qemu(state) = self else { return None };
        Some(match state.as_str() {
            "paused" | "prelaunch" | "postmigrate" | "suspended" | "io-error" | "watchdog" => {
                format!("`qqmgr resume {name}` lets it go on")
            }
            "debug" => format!("continue it in gdb, or by `qqmgr resume {name}`"),
            "guest-panicked" | "internal-error" | "shutdown" => start_again(paths),
            "preconfig" => format!("`qqmgr qmp {name} x-exit-preconfig` lets it go on"),
            "inmigrate" => "it waits for the state of another QEMU (`-incoming`)".into(),
            _ => return None,
        })
    }

    /// The state as the system and QEMU's event log report it, without asking QEMU: one that has
    /// been ready is `running`.
    pub(crate) fn at_a_glance(look: &Look, paths: &Paths) -> Self {
        match &look.place {
            Place::Gone => Self::Stopped,
            Place::OtherHost(_) => Self::Unknown,
            Place::Here(it) if it.frozen || it.exiting || it.lost => Self::Unresponsive,
            Place::Here(_) if look.is_starting(paths) => Self::Starting,
            Place::Here(_) | Place::Unseen => Self::Qemu("running".into()),
        }
    }

    /// The state as QEMU itself reports it, if it answers within [`ANSWER_WAIT`]. A QEMU that is
    /// starting is not asked. Also gives the session with a QEMU that has answered.
    pub(crate) fn ask(look: &Look, paths: &Paths, log: &Log) -> Result<(Self, Option<Qmp>), Error> {
        let process = look.process()?;
        let glance = Self::at_a_glance(look, paths);
        if !matches!(glance, Self::Qemu(_)) {
            return Ok((glance, None));
        }
        Ok(match Self::of_qemu(paths, log)? {
            Some((state, qmp)) => (state, Some(qmp)),
            // The process may have ended while it was asked.
            None if process.is_some_and(|process| !process.is_alive()) => (Self::Stopped, None),
            None => (Self::Unresponsive, None),
        })
    }

    /// The state that the QEMU behind the VM's own socket reports, and the session with it; `None`
    /// if it does not answer.
    pub(crate) fn of_qemu(paths: &Paths, log: &Log) -> Result<Option<(Self, Qmp)>, Error> {
        let deadline = Instant::now() + ANSWER_WAIT;
        let socket = paths.reachable(&paths.ctl)?;
        let opened = Qmp::open(&socket, deadline, log);
        match opened.and_then(|mut qmp| Ok((qmp.run_state(deadline)?, qmp))) {
            Ok((state, qmp)) => Ok(Some((Self::Qemu(state), qmp))),
            Err(qmp::Error::Unreachable(error)) if is_shortage(&error) => {
                Err(Error::io("connect to", &paths.ctl, &error))
            }
            Err(error) => {
                log.verbose(|| format!("qmp: {error}"));
                Ok(None)
            }
        }
    }
}
