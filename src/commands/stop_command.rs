//! The `stop_command` of a VM: what its guest does before its power button is pressed.

use super::target::Target;
use crate::error::Error;
use crate::ssh::run::{Output, capture};
use crate::ssh::{FAILURE_CODE, Limits, UNATTENDED};
use crate::vm::shutdown::Force;
use crate::vm::{Deadline, Instance, Process};

/// Runs the VM's `stop_command`, if it has one, for as long as the guest has to power off. Reports
/// a command that fails. Returns the error of a failed connection: a guest that powers off ends its
/// connections, too.
pub(super) fn run(target: &Target, process: &Process, force: Force) -> Option<Error> {
    let what = format!("`stop_command` of VM `{}`", target.name);
    let output = match try_run(target, force) {
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

/// Runs the command, if there is one.
fn try_run(target: &Target, force: Force) -> Result<Option<Output>, Error> {
    let record = Instance::read(&target.paths)?;
    let configured = target.resolver(record.as_ref()).map(|it| it.stop_command()).transpose()?;
    let recorded = || record.and_then(|record| record.stop_command);
    let Some(command) = configured.unwrap_or_else(recorded) else { return Ok(None) };
    target.check_guest_runs()?;
    let limits = Limits { deadline: Some(Deadline::after(force.timeout)), guest: None };
    let guest = target.guest()?.within(limits);
    capture(guest.ssh(UNATTENDED, &[command]), &guest).map(Some)
}
