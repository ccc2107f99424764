//! The port of this host that is forwarded to a guest's ssh server: whether it is free, and which
//! one is.

use super::plan::Plan;
use crate::commands::target::Target;
use crate::error::Error;
use crate::vm::{Instance, Look, Paths, forward, options, port};
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

/// Checks that the port for ssh and all others that QEMU would forward are free: QEMU would say
/// only that it could not set up a rule. Ports that the VM has already are not looked at.
pub(super) fn check(
    target: &Target,
    plan: &Plan,
    is_own: &dyn Fn(u16) -> bool,
) -> Result<(), Error> {
    // A port that is chosen was free a moment ago, and another one is chosen if it no longer is.
    let for_ssh = target.vm()?.port.fixed().filter(|_| plan.reached_on_host);
    let words: Vec<String> =
        plan.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let others = forwarded(&words).into_iter().filter(|port| Some(*port) != plan.ssh_port);
    let mut ports = for_ssh.into_iter().chain(others);
    let Some(port) = ports.find(|port| port::is_taken(*port) && !is_own(*port)) else {
        return Ok(());
    };
    let vms = target.config.vms().iter().filter(|other| other.name != target.name);
    let mut names = vms.map(|other| &other.name);
    let holder = names.find(|name| {
        let look = Look::by_files(&Paths::new(target.config.vm_dir(name)));
        let record = look.ok().filter(|look| !look.place.is_gone()).and_then(|look| look.record);
        record.is_some_and(|record| {
            record.ssh_port == Some(port) || forwarded(&record.argv).contains(&port)
        })
    });
    let who = holder.map_or_else(|| port::holder(port), |name| format!("VM `{name}`"));
    let (what, hint) = match (Some(port) == plan.ssh_port, holder) {
        (true, Some(_)) => ("ssh port", "stop that one, or give this one another port"),
        (true, None) => ("ssh port", "give the VM another `port`, and its `hostfwd` too"),
        (false, Some(_)) => ("port", "stop that one, or use another port in this `hostfwd`"),
        (false, None) => ("port", "use another port in this `hostfwd`"),
    };
    Err(Error::failed(format!("{what} {port} is taken by {who}")).hint(hint))
}

/// The TCP ports of 127.0.0.1 that a command line of QEMU forwards.
pub(super) fn forwarded(argv: &[String]) -> Vec<u16> {
    let arguments = options::arguments_of(argv.iter().map(String::as_str));
    let forwards = forward::forwards(&arguments).into_iter();
    let local = forwards.filter(|forward| !forward.udp && forward.is_local() && forward.port != 0);
    local.map(|forward| forward.port).collect()
}
