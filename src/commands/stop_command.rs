//! The `stop_command` of a VM: what its guest does before its power button is pressed.

use super::target::Target;
use crate::error::Error;
use crate::ssh::run::capture;
use crate::ssh::{FAILURE_CODE, Limits, UNATTENDED};
use crate::vm::shutdown::Force;
use crate::vm::{Deadline, Instance, Process};

/// Runs the VM's `stop_command`, if it has one, for as long as the guest has to power off. Reports
/// a command that fails. Returns the error of a failed connection: a guest that powers off ends its
/// connections, too.
pub(super) fn run(target: &Target, process: &Process, force: Force) -> Option<Error> {
    let Target { name, log, .. } = target;
    let explained = |error: Error| error.after(&format!("`stop_command` of VM `{name}`"));
    match try_run(target, force).map_err(explained) {
        Ok(Some((code, said))) if code != Some(FAILURE_CODE.into()) => {
            let how = code.map_or("was ended by a signal".into(), |code| {
                format!("exited with status {code}")
            });
            let said = if said.is_empty() { said } else { format!(": {said}") };
            log.note(&format!("`stop_command` of VM `{name}` {how}{said}"));
            None
        }
        Ok(Some((_, said))) => Some(explained(Error::failed(said))),
        Err(error) if process.is_alive() => Some(error),
        Ok(None) | Err(_) => None,
    }
}

/// Runs the command, and returns the exit code and the errors of one that failed.
fn try_run(target: &Target, force: Force) -> Result<Option<(Option<i32>, String)>, Error> {
    let record = Instance::read(&target.paths)?;
    let configured = target.resolver(record.as_ref()).map(|it| it.stop_command()).transpose()?;
    let recorded = || record.and_then(|record| record.stop_command);
    let Some(command) = configured.unwrap_or_else(recorded) else { return Ok(None) };
    target.check_has_ssh()?;
    target.check_guest_runs()?;
    let limits = Limits { deadline: Some(Deadline::after(force.timeout)), guest: None };
    let guest = target.guest()?.within(limits);
    let output = capture(guest.ssh(UNATTENDED, &[command]), &guest)?;
    let failed = !output.status.success();
    Ok(failed.then(|| (output.status.code(), output.said())))
}
