//! The port of this host that is forwarded to a guest's ssh server: whether it is free, and which
//! one is.

use super::plan::Plan;
use crate::commands::target::Target;
use crate::error::Error;
use crate::vm::{Instance, Look, Paths, port};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;

/// Finds a free port that no other VM of this configuration has, running or stopped. The `refused`
/// ones were taken by other programs before QEMU could have them.
pub(super) fn free(target: &Target, refused: &BTreeSet<u16>) -> Result<u16, Error> {
    let Target { config, name, paths, .. } = target;
    let others = config.vms_with_a_dir()?.into_iter().filter(|other| other != name);
    // A record that is left after a crash reserves a port in vain, which does no harm.
    let record = |name: String| Instance::read(&Paths::new(config.vm_dir(&name))).ok()?;
    let recorded = others.filter_map(record);
    let mut claimed: BTreeSet<u16> = recorded.filter_map(|record| record.ssh_port).collect();
    claimed.extend(config.vms().iter().filter_map(|vm| vm.port.fixed()));
    claimed.extend(refused);
    let chosen = port::choose(paths.dir.as_os_str().as_bytes(), &claimed);
    chosen.ok_or_else(|| Error::failed("there is no free port for ssh"))
}

/// Checks that the port of the plan is free: QEMU would say only that it could not set up a
/// forwarding rule.
pub(super) fn check(target: &Target, plan: &Plan) -> Result<(), Error> {
    let (config, reached) = (target.config, plan.ssh_port.filter(|_| plan.reached_on_host));
    let Some(port) = reached.filter(|port| port::is_taken(*port)) else { return Ok(()) };
    let holder = config.vms().iter().find(|other| {
        let has_port = |look: Look| {
            !look.place.is_gone() && look.record.is_some_and(|record| record.ssh_port == Some(port))
        };
        let look = || Look::by_files(&Paths::new(config.vm_dir(&other.name)));
        other.name != target.name && look().is_ok_and(has_port)
    });
    let (who, hint) = match holder {
        Some(other) => {
            (format!("VM `{}`", other.name), "stop that one, or give this one another port")
        }
        None => (port::holder(port), "give the VM another `port`, and its `hostfwd` too"),
    };
    Err(Error::failed(format!("ssh port {port} is taken by {who}")).hint(hint))
}
