//! Watches a guest while qqmgr waits for its ssh server: whether it runs at all, boots again, or
//! has set up its network. Reads QEMU's event log, and asks QEMU for its state.

use super::events;
use super::watch::{ASK_INTERVAL, Watch};
use std::time::Instant;

/// The events after which a guest may have started or stopped running.
const STATE_EVENTS: &[&str] = &["RESUME", "STOP", "SUSPEND", "WAKEUP"];
/// The event that QEMU sends when the guest's driver sets up a virtio network card.
const NETWORK_EVENT: &str = "NIC_RX_FILTER_CHANGED";

/// The known facts about a guest while qqmgr waits for its ssh server.
pub(super) struct Guest<'a> {
    watch: &'a Watch<'a>,
    /// The length of the event log at the last look; `None` before the first look.
    seen: Option<u64>,
    /// When to ask QEMU for its state; `None` if the state is known to be `running`.
    ask_at: Option<Instant>,
    /// The user was informed that the guest does not run.
    noted: bool,
}

/// A change in the guest.
pub(super) enum News {
    None,
    /// The guest does not run until the user lets it continue.
    Held,
    Boots,
    NetworkIsUp,
}

impl<'a> Guest<'a> {
    pub(super) fn new(watch: &'a Watch<'a>) -> Self {
        Self { watch, seen: None, ask_at: Some(Instant::now()), noted: false }
    }

    pub(super) fn news(&mut self) -> News {
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
