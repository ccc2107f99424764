//! When to end a program that has not ended by itself.

use crate::error::{Error, Kind};
use crate::system::running::too_late;
use crate::vm::{Deadline, Paths, events, last_words};
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) deadline: Option<Deadline>,
    /// The VM whose guest must live on, and the length of its event log at the beginning: ssh
    /// itself notices late, or never, that the guest has ended.
    pub(crate) guest: Option<(Paths, u64)>,
}

impl Limits {
    /// The time that is left, at most `most`, in whole tenths of a second, since errors show it.
    pub(crate) fn left(&self, most: Duration) -> Duration {
        let Some(deadline) = self.deadline else { return most };
        let left = deadline.left().as_secs_f64();
        Duration::from_secs_f64((left * 10.0).ceil() / 10.0).min(most)
    }

    pub(crate) fn exceeded(&self) -> Option<Error> {
        if let Some(error) = self.deadline.and_then(too_late) {
            return Some(error);
        }
        let (paths, bytes) = self.guest.as_ref()?;
        let what = events::lost_since(paths, *bytes)?;
        Some(Error::new(Kind::NotRunning, format!("{what}{}", last_words::of_guest(paths))))
    }
}
