//! The time of day, which whoever sets it moves: for records and for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970; nothing on a machine whose clock is set to an earlier time.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
