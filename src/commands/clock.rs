//! Sets the clock of a guest that stood still: one that was loaded from a snapshot, or paused.

use super::reach;
use super::target::Target;
use crate::clock;
use crate::error::Error;
use crate::ssh::Guest;
use crate::ssh::limits::Limits;
use crate::system::output::Output;
use crate::vm::look;
use crate::vm::process::Process;
use crate::vm::wait::Deadline;
use std::ffi::OsString;
use std::time::Duration;

/// How long the ssh server of a guest that was up before may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The command that sets the clock as it is on this host, to half a second. A user who is not root
/// needs `sudo` without a password.
pub(super) fn command() -> OsString {
    let now = (clock::now() + Duration::from_millis(500)).as_secs();
    format!("date -u -s @{now} >/dev/null || sudo -n date -u -s @{now} >/dev/null").into()
}

/// Sets the clock of a running guest over ssh, or warns that this is not possible.
pub(super) fn set(target: &Target) {
    let deadline = Deadline::after(PATIENCE);
    let done = try_set(target, deadline);
    told(target, done);
}

fn try_set(target: &Target, deadline: Deadline) -> Result<Output, Error> {
    target.check_has_ssh()?;
    let Target { config, paths, log, .. } = target;
    let process = look::running(paths)?;
    reach::ssh_by(target, &process, deadline)?;
    let limits = Limits { deadline: Some(deadline), guest: None };
    let guest = Guest::of(config, paths, log)?.within(limits);
    log_in(target, &guest, &process, deadline)
}

/// Logs in and sets the clock with one connection, which later calls share.
pub(super) fn log_in(
    target: &Target,
    guest: &Guest,
    process: &Process,
    deadline: Deadline,
) -> Result<Output, Error> {
    // If this fails, the login does so with a better error.
    let _ = guest.share()?;
    reach::for_login_by(target, guest, process, deadline, &command)
}

/// Warns when the clock was not set.
pub(super) fn told(target: &Target, done: Result<Output, Error>) {
    let why = match done {
        Ok(output) if output.status.success() => return,
        Ok(output) => output.said(),
        Err(error) => error.message().to_string(),
    };
    let why = why.lines().last().unwrap_or_default();
    target.log.warning(&format!("the guest's clock is not set: {why}"));
}
