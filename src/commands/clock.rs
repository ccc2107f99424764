//! Sets the clock of a guest that stood still: one that was loaded from a snapshot, or paused.

use super::reach::Reach;
use super::target::Target;
use crate::clock;
use crate::error::Error;
use crate::ssh::{Guest, Limits};
use std::ffi::OsString;
use std::time::Duration;

/// How long the ssh server of a guest that was up before may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The command that sets the guest's clock to the time of this host, to half a second. A user other
/// than root needs `sudo` without a password. The shell itself checks for root: on a cold guest, a
/// program would take a while.
fn command() -> OsString {
    let now = (clock::now() + Duration::from_millis(500)).as_secs();
    format!("test -O / && date -u -s @{now} >/dev/null || sudo -n date -u -s @{now} >/dev/null")
        .into()
}

/// Sets the clock of a running guest over ssh, or warns that this is not possible.
pub(super) fn set(target: &Target) {
    if let Err(error) = try_set(target) {
        warn(target, error.message());
    }
}

fn try_set(target: &Target) -> Result<(), Error> {
    let reach = Reach::running(target, PATIENCE)?;
    let limits = Limits { deadline: reach.watch.deadline, guest: None };
    log_in(&reach, &target.guest()?.within(limits), true)
}

/// Logs in to a guest that was up before, with one connection that later calls share. With `sets`,
/// sets the clock, or warns that this is not possible.
pub(super) fn log_in(reach: &Reach, guest: &Guest, sets: bool) -> Result<(), Error> {
    // A guest that answers at once needs no wait.
    if !guest.connects()? {
        reach.server()?;
    }
    let output = reach.login(guest, &|| if sets { command() } else { "true".into() })?;
    if sets && !output.status.success() {
        warn(reach.target, &output.said());
    }
    Ok(())
}

fn warn(target: &Target, why: &str) {
    let why = why.lines().last().unwrap_or_default();
    target.log.warning(&format!("the guest's clock is not set: {why}"));
}
