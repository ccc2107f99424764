//! Waits until a guest's ssh server has introduced itself, and watches meanwhile whether the guest
//! runs at all, boots again, or has set up its network.

use super::events;
use super::probe::Probe;
use super::watch::{ASK_INTERVAL, Watch};
use crate::error::{Error, Kind};
use crate::system::run::Invocation;
use crate::system::running::Running;
use crate::text::sanitized;
use std::time::{Duration, Instant};

/// The message of OpenSSH's `-v` once the server has introduced itself.
const ANSWERED: &str = "Remote protocol version ";
/// The prefix of the messages that `-v` adds to ssh's own.
const VERBOSE: &str = "debug1: ";
/// The timeout of ssh as a part of the time since the first one. It is limited because a connection
/// that the guest missed is lost.
const PATIENCE_PART: f64 = 0.6;
const PATIENCE_SECONDS: (u64, u64) = (2, 12);
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// The events after which a guest may have started or stopped running.
const STATE_EVENTS: &[&str] = &["RESUME", "STOP", "SUSPEND", "WAKEUP"];
/// The event that QEMU sends when the guest's driver sets up a virtio network card.
const NETWORK_EVENT: &str = "NIC_RX_FILTER_CHANGED";

/// Waits until the guest's ssh server has introduced itself on this port.
pub(crate) fn wait(watch: &Watch, host: &str, port: u16) -> Result<(), Error> {
    let mut probe = Probe::new(host, port);
    let result = until_ssh(watch, |news| {
        match news {
            News::Boots => probe.guest_boots(Instant::now()),
            News::NetworkIsUp => probe.network_is_up(Instant::now()),
            News::Held | News::None => {}
        }
        probe.has_answered()
    });
    with_trouble(result, probe.trouble())
}

/// Waits until the guest's ssh server has introduced itself to ssh, which knows how to reach it.
/// `command` makes the `ssh -v` that asks, from its timeout in seconds.
pub(crate) fn wait_by(watch: &Watch, command: impl Fn(u64) -> Invocation) -> Result<(), Error> {
    let (begin, (least, most)) = (Instant::now(), PATIENCE_SECONDS);
    let (mut asked, mut next_at, mut trouble) = (None::<Running>, begin, None);
    let result = until_ssh(watch, |_| {
        let ended = match &mut asked {
            Some(running) => running.wait(Duration::ZERO).transpose(),
            None if Instant::now() >= next_at => {
                let patience = begin.elapsed().mul_f64(PATIENCE_PART).as_secs();
                let begun = command(patience.clamp(least, most)).in_background(watch.log);
                begun.map(|running| asked = Some(running)).err().map(Err)
            }
            None => None,
        };
        let Some(ended) = ended else { return false };
        (asked, next_at) = (None, Instant::now() + ASK_PAUSE);
        match ended {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let mut lines = said.lines().rev().map(str::trim);
                let last = lines.find(|line| !line.is_empty() && !line.starts_with(VERBOSE));
                trouble = last.map(|line| format!("`ssh` says: {}", sanitized(line)));
                said.contains(ANSWERED)
            }
            Err(error) => {
                trouble = Some(error.message().to_string());
                false
            }
        }
    });
    with_trouble(result, trouble)
}

/// Waits until the ssh server has answered. It is not asked while the guest does not run, since
/// all those connections would reach the server at once when the guest continues.
fn until_ssh(watch: &Watch, mut has_answered: impl FnMut(&News) -> bool) -> Result<(), Error> {
    let what = format!("the ssh server of VM `{}`", watch.paths.name);
    let mut guest = Guest::new(watch);
    watch.until(&what, || {
        let news = guest.news();
        !matches!(news, News::Held) && has_answered(&news)
    })
}

/// Adds to the error of a wait that timed out what kept ssh from the server.
fn with_trouble(result: Result<(), Error>, trouble: Option<String>) -> Result<(), Error> {
    match (result, trouble) {
        (Err(error), Some(trouble)) if error.kind == Kind::TimedOut => Err(error.after(&trouble)),
        (result, _) => result,
    }
}

/// The known facts about a guest while qqmgr waits for its ssh server.
struct Guest<'a> {
    watch: &'a Watch<'a>,
    /// The length of the event log at the last look; `None` before the first look.
    seen: Option<u64>,
    /// When to ask QEMU for its state; `None` if the state is known to be `running`.
    ask_at: Option<Instant>,
    /// The user was informed that the guest does not run.
    noted: bool,
}

/// A change in the guest.
enum News {
    None,
    /// The guest does not run until the user lets it continue.
    Held,
    Boots,
    NetworkIsUp,
}

impl<'a> Guest<'a> {
    fn new(watch: &'a Watch<'a>) -> Self {
        Self { watch, seen: None, ask_at: Some(Instant::now()), noted: false }
    }

    fn news(&mut self) -> News {
        let seen = events::length(self.watch.paths);
        let mut news = Vec::new();
        if self.seen != Some(seen) {
            news = events::names_since(self.watch.paths, self.seen.unwrap_or(0));
        }
        let is_first = self.seen.replace(seen).is_none();
        let happened = |names: &[&str]| news.iter().any(|name| names.contains(&name.as_str()));
        let was_held = self.ask_at.is_some() && !is_first;
        if happened(STATE_EVENTS) || self.ask_at.is_some_and(|at| Instant::now() >= at) {
            self.ask();
        }
        if self.ask_at.is_some() {
            News::Held
        } else if !is_first && (was_held || happened(&["RESET"])) {
            News::Boots
        } else if happened(&[NETWORK_EVENT]) {
            News::NetworkIsUp
        } else {
            News::None
        }
    }

    /// Asks QEMU whether the guest runs, and says once why it does not.
    fn ask(&mut self) {
        let (state, paths) = (self.watch.state(), self.watch.paths);
        let way_on = state.way_on(paths);
        self.ask_at = way_on.as_ref().map(|_| Instant::now() + ASK_INTERVAL);
        // If the guest has ended, the wait ends with an error anyway.
        if let Some(way_on) = way_on
            && !state.is_over()
            && !std::mem::replace(&mut self.noted, true)
        {
            self.watch.log.note(&format!("VM `{}` is {}: {way_on}", paths.name, state.name()));
        }
    }
}
