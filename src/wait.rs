//! Waits for events that give no notice: a process that is not our child, a socket that does not
//! exist yet, a lock that another process holds. The only place in `src/` that sleeps.

use std::time::{Duration, Instant};

const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Too short to prolong a wait noticeably, and too long to cost measurable CPU time.
const PAUSE_MAX: Duration = Duration::from_millis(4);
/// A pause that is still too short for a person to notice; a look costs some 50 microseconds.
const LONG_PAUSE_MAX: Duration = Duration::from_millis(40);

/// A limit as it was given, and the time when it is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) limit: Duration,
    pub(crate) at: Instant,
}

impl Deadline {
    /// The deadline that is reached in `limit` from now.
    pub(crate) fn after(limit: Duration) -> Self {
        Self { limit, at: Instant::now() + limit }
    }

    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.at
    }

    /// The time that is left; zero after the deadline.
    pub(crate) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The limit in seconds, for messages.
    pub(crate) fn seconds(self) -> f64 {
        self.limit.as_secs_f64()
    }
}

/// Polls `ready` with pauses of 1 to 4 ms until it returns something; `None` at the deadline, if
/// there is one. The clock is monotonic: setting the time of day neither prolongs nor cuts a wait.
pub(crate) fn poll<T>(
    deadline: impl Into<Option<Instant>>,
    ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    poll_with(PAUSE_MAX, deadline.into(), ready)
}

/// Polls for something that may take minutes, with pauses of up to 40 ms.
pub(crate) fn poll_long<T>(
    deadline: Option<Instant>,
    ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    poll_with(LONG_PAUSE_MAX, deadline, ready)
}

/// Sleeps for a fixed time, when there is nothing to poll.
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

fn poll_with<T>(
    pause_max: Duration,
    deadline: Option<Instant>,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        let left =
            deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(pause_max);
    }
}
