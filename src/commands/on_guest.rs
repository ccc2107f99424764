//! Commands that qqmgr itself runs on a guest: one sets the clock of a guest that stood still, and
//! the VM's `stop_command` runs before the power button is pressed.

use super::reach::Reach;
use super::target::Target;
use crate::clock::now;
use crate::error::Error;
use crate::ssh::run::{Output, capture};
use crate::ssh::{FAILURE_CODE, Guest, Limits, UNATTENDED};
use crate::vm::shutdown::Force;
use crate::vm::{Deadline, Instance, Process};
use std::ffi::OsString;
use std::time::Duration;

/// How long the ssh server of a guest that was up before may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The command that sets the guest's clock to the time of this host, to half a second. A user other
/// than root needs `sudo` without a password. The shell itself checks for root: on a cold guest, a
/// program would take a while.
fn clock_command() -> OsString {
    let time = (now() + Duration::from_millis(500)).as_secs();
    format!("test -O / && date -u -s @{time} >/dev/null || sudo -n date -u -s @{time} >/dev/null")
        .into()
}

/// Sets the clock of a running guest over ssh, or warns that this is not possible.
pub(super) fn set_clock(target: &Target) {
    let set = || -> Result<(), Error> {
        let reach = Reach::running(target, PATIENCE)?;
        let limits = Limits { deadline: reach.watch.deadline, guest: None };
        log_in(&reach, &target.guest()?.within(limits), true)
    };
    if let Err(error) = set() {
        warn_of_clock(target, error.message());
    }
}

/// Logs in to a guest that was up before, with one connection that later calls share. With `sets`,
/// sets the clock, or warns that this is not possible.
pub(super) fn log_in(reach: &Reach, guest: &Guest, sets: bool) -> Result<(), Error> {
    // A guest that answers at once needs no wait.
    if !guest.connects()? {
        reach.server()?;
    }
    let output = reach.login(guest, &|| if sets { clock_command() } else { "true".into() })?;
    if sets && !output.status.success() {
        warn_of_clock(reach.target, &output.said());
    }
    Ok(())
}

fn warn_of_clock(target: &Target, why: &str) {
    let why = why.lines().last().unwrap_or_default();
    target.log.warning(&format!("the guest's clock is not set: {why}"));
}

/// Runs the VM's `stop_command`, if it has one, for as long as the guest has to power off. Reports
/// a command that fails. Returns the error of a failed connection: a guest that powers off ends its
/// connections, too.
pub(super) fn stop_command(target: &Target, process: &Process, force: Force) -> Option<Error> {
    let what = format!("`stop_command` of VM `{}`", target.name);
    let output = match stop_output(target, force) {
        Ok(output) => output.filter(|output| !output.status.success())?,
        Err(error) => return process.is_alive().then(|| error.after(&what)),
    };
    let (code, said) = (output.status.code(), output.said());
    if code == Some(FAILURE_CODE.into()) {
        return Some(Error::failed(said).after(&what));
    }
    let how = code.map_or("was ended by a signal".into(), |it| format!("exited with status {it}"));
    let said = if said.is_empty() { said } else { format!(": {said}") };
    target.log.note(&format!("{what} {how}{said}"));
    None
}

/// Runs the `stop_command`, if there is one.
fn stop_output(target: &Target, force: Force) -> Result<Option<Output>, Error> {
    let record = Instance::read(&target.paths)?;
    let configured = target.resolver(record.as_ref()).map(|it| it.stop_command()).transpose()?;
    let recorded = || record.and_then(|record| record.stop_command);
    let Some(command) = configured.unwrap_or_else(recorded) else { return Ok(None) };
    target.check_guest_runs()?;
    let limits = Limits { deadline: Some(Deadline::after(force.timeout)), guest: None };
    let guest = target.guest()?.within(limits);
    capture(guest.ssh(UNATTENDED, &[command]), &guest).map(Some)
}
