//! The time of day, for records and for people. It moves when somebody sets the clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970; zero on a machine whose clock is set to an earlier time.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
