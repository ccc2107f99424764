//! Waits until cloud-init has done its work on a guest.

use super::guest::{FAILURE_CODE, Guest, JOB_ALONE};
use super::limits::Limits;
use super::login::await_command;
use super::remote_command;
use crate::error::Error;
use crate::system::output::text_of;
use crate::vm::Deadline;
use crate::vm::wait::poll_long;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// Exits as `cloud-init status` does. Its documentation, under "failure states": 0 is success; 1 is
/// an unrecoverable error; 2 means that cloud-init is done and could recover from what went wrong,
/// such as a deprecated key.
const SCRIPT: &str = "command -v cloud-init >/dev/null || exit 127
cloud-init status --wait >/dev/null; code=$?; cloud-init status --long; exit $code";
const RECOVERED_CODE: i32 = 2;
/// The exit code of [`SCRIPT`] where there is no such program.
const MISSING_CODE: i32 = 127;
/// A guest that is reset does not end its connections.
const ALIVE: [&str; 4] = ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"];
/// Pause after a connection that broke.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until cloud-init is done, and notes errors that it recovered from. Returns `false` if the
/// guest has no cloud-init. `ended` returns an error when the guest is gone.
pub(crate) fn await_cloud_init(
    guest: &Guest,
    deadline: Deadline,
    ended: &mut dyn FnMut() -> Option<Error>,
) -> Result<bool, Error> {
    let limits = Limits { deadline: Some(deadline), guest: None };
    let late = || limits.exceeded().map(|error| error.after("cloud-init is not done"));
    let line = remote_command(&["sh".into(), "-c".into(), SCRIPT.into()]);
    let words: Vec<OsString> = ALIVE.map(OsString::from).into_iter().chain([line]).collect();
    let name = &guest.paths.name;
    loop {
        await_command(guest, deadline, ended)?;
        let ssh = guest.ssh(JOB_ALONE, &words);
        let mut exceeded = || late().or_else(&mut *ended);
        let output = ssh.captured(&mut exceeded, &guest.log)?;
        let said = text_of(&[&output.stdout[..], &output.stderr].concat());
        match output.status.code() {
            Some(0) => return Ok(true),
            Some(RECOVERED_CODE) => {
                guest
                    .log
                    .note(&format!("cloud-init of VM `{name}` recovered from errors:\n{said}"));
                return Ok(true);
            }
            Some(MISSING_CODE) => return Ok(false),
            // cloud-init may reboot the guest.
            None => {}
            Some(code) if code == i32::from(FAILURE_CODE) => {}
            Some(_) => {
                let message = format!("cloud-init reports an error on VM `{name}`:\n{said}");
                return Err(Error::failed(message).hint(
                    "`/var/log/cloud-init-output.log` tells more, and `--wait=ssh` ignores it",
                ));
            }
        }
        if let Some(error) = poll_long(Some(Instant::now() + PAUSE), &mut exceeded) {
            return Err(error);
        }
    }
}
