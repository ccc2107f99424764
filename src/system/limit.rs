//! The limits of programs.

use crate::error::{Error, Kind};
use std::time::{Duration, Instant};

/// How often a limit is checked while a program runs.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Returns the reason to end a program, when there is one.
pub(crate) type Exceeded<'a> = &'a mut dyn FnMut() -> Option<Error>;

/// The limit of a program that has this long from now on.
pub(crate) fn within(wait: Duration) -> impl FnMut() -> Option<Error> {
    let deadline = Instant::now() + wait;
    move || {
        let message = || format!("gave up after {} s", wait.as_secs_f64());
        (Instant::now() >= deadline).then(|| Error::new(Kind::TimedOut, message()))
    }
}
