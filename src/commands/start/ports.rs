//! The ports of this host that are forwarded to a guest: whether they are free, and which one is
//! for its ssh server.

use super::plan::Plan;
use crate::commands::target::Target;
use crate::error::Error;
use crate::source::Span;
use crate::vm::forward::{Forward, forwards};
use crate::vm::options::Argument;
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
    claimed.extend(config.vms.iter().filter_map(|vm| vm.port.fixed()));
    claimed.extend(refused);
    let chosen = port::choose(paths.dir.as_os_str().as_bytes(), &claimed);
    chosen.ok_or_else(|| Error::failed("there is no free port for ssh"))
}

/// Checks that the port for ssh and all others that QEMU would forward are free: QEMU would say
/// only that it could not set up a rule. Ports that the VM has already are not looked at.
pub(super) fn check(
    target: &Target,
    plan: &Plan,
    is_own: &dyn Fn(&Forward) -> bool,
) -> Result<(), Error> {
    // A port that is chosen was free a moment ago, and another one is chosen if it no longer is.
    let vm = target.vm()?;
    let for_ssh = vm.port.fixed().filter(|_| plan.reached_on_host);
    let for_ssh = for_ssh
        .and_then(|port| Forward::read(&format!("{port}:{}", vm.vm_port), Span::default()).ok());
    let is_chosen = |it: &Forward| !it.udp && Some(it.port) == plan.record.ssh_port;
    let others = forwarded(&plan.record.arguments()).filter(|forward| !is_chosen(forward));
    let mut ports = for_ssh.into_iter().chain(others);
    let taken = ports.find(|forward| port::is_taken_for(forward) && !is_own(forward));
    taken.map_or(Ok(()), |forward| {
        let what = if is_chosen(&forward) { "ssh port" } else { "port" };
        Err(is_taken(target, &forward, what))
    })
}

/// The error of a port that is taken, with its holder. `what` is "port", or more exact.
pub(crate) fn is_taken(target: &Target, forward: &Forward, what: &str) -> Error {
    let vms = target.config.vms.iter().filter(|other| other.name != target.name);
    let mut names = vms.map(|other| &other.name);
    let holder = names.find(|name| {
        let look = Look::by_files(&Paths::new(target.config.vm_dir(name)));
        let record = look.ok().filter(|look| !look.place.is_gone()).and_then(|look| look.record);
        record.is_some_and(|record| is_of(forward, &record, record.pid))
    });
    let who = holder.map_or_else(|| port::holder(forward), |name| format!("VM `{name}`"));
    let hint = match (what, holder) {
        ("ssh port", Some(_)) => "stop that one, or give this one another port",
        ("ssh port", None) => "give the VM another `port`, and its `hostfwd` too",
        (_, Some(_)) => "stop that one, or forward another port",
        (_, None) => "forward another port of this host",
    };
    let protocol = if forward.udp { "UDP " } else { "" };
    Error::failed(format!("{protocol}{what} {} is taken by {who}", forward.port)).hint(hint)
}

/// Whether the VM of this record has the port, or its process.
pub(super) fn is_of(forward: &Forward, record: &Instance, pid: Option<u32>) -> bool {
    !forward.udp && record.ssh_port == Some(forward.port)
        || forwarded(&record.arguments()).any(|other| other.is_at(forward))
        || pid.is_some_and(|pid| port::is_held_by(forward, pid))
}

/// The ports of this host that QEMU forwards with these arguments.
fn forwarded(arguments: &[Argument]) -> impl Iterator<Item = Forward> + use<> {
    forwards(arguments).into_iter().filter(|forward| forward.port != 0)
}
