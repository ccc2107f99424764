//! Ways to a guest: whether its ssh server answers, whether it lets us log in, and how to wait for
//! both.

use super::images;
use super::target::Target;
use crate::cli::flag::{Flag, Takes};
use crate::cli::spec;
use crate::config::Resolver;
use crate::error::{Error, Kind};
use crate::progress::Progress;
use crate::ssh::login::{REFUSED_WAIT, await_cloud_init, await_command, await_login};
use crate::ssh::{self, Guest};
use crate::system::output::Output;
use crate::vm::last_words::tail;
use crate::vm::watch::Watch;
use crate::vm::{Deadline, Instance, Process, forward, look, port, ssh_server};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// The time of a wait without a limit.
const FOREVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// Texts that end a wait early, as a panic of the guest does.
pub(super) static UNLESS: Flag<Vec<u8>> = Flag::new(
    "unless",
    Takes::Values("serial=TEXT"),
    |value| match value.as_bytes().strip_prefix(b"serial=") {
        Some(text) if !text.is_empty() => Ok(text.to_vec()),
        None if value.is_empty() => Ok(Vec::new()),
        _ => Err("it is `serial=TEXT`, or '' to allow panics".into()),
    },
    "Fail at TEXT on the serial line; '' allows panics",
);

/// The guest over ssh. With `--wait`, waits for its ssh server and, if `login`, until it is usable.
pub(super) fn guest(target: &Target, login: bool) -> Result<Guest, Error> {
    target.check_has_ssh()?;
    let deadline = target.args.value(&spec::WAIT).map(|wait| Deadline::after(wait.limit));
    let process = deadline.map(|deadline| for_ssh(target, deadline)).transpose()?;
    target.check_guest_runs()?;
    let guest = Guest::of(target.config, &target.paths, &target.log)?;
    if let (Some(process), Some(deadline), true) = (process, deadline, login) {
        for_first_boot(target, &process, deadline)?;
        for_login(target, &guest, &process, deadline, &|| "true".into())?;
    }
    Ok(guest)
}

pub(super) fn watch<'a>(
    target: &'a Target,
    process: &'a Process,
    deadline: Option<Deadline>,
) -> Watch<'a> {
    let unless = target.args.all(&UNLESS);
    Watch { paths: &target.paths, process, deadline, log: &target.log, unless }
}

pub(super) fn hint_that_it_runs(target: &Target, error: Error) -> Error {
    error.hint_for(Kind::TimedOut, format!("VM `{}` still runs", target.name))
}

/// Waits for the ssh server of a VM that runs.
pub(super) fn for_ssh(target: &Target, deadline: Deadline) -> Result<Process, Error> {
    let process = look::running(&target.paths)?;
    ssh_by(target, &process, deadline).map_err(|error| hint_that_it_runs(target, error))?;
    Ok(process)
}

/// The error of a VM that ended while the command of a `run` was running.
pub(super) fn ended(target: &Target, process: &Process) -> Error {
    watch(target, process, None).ended("the command ran")
}

/// Waits for the ssh server, unless a shared connection shows that it has answered. Servers shut
/// out clients that connect often without logging in (`PerSourcePenalties` of OpenSSH 9.8).
pub(super) fn ssh_by(target: &Target, process: &Process, deadline: Deadline) -> Result<(), Error> {
    if ssh::is_connected(&target.paths) {
        return Ok(());
    }
    ssh_of(target, &watch(target, process, Some(deadline)))
}

/// Waits for ssh where ssh itself would connect: at the port of the VM's start, or as its options
/// say.
pub(super) fn ssh_of(target: &Target, watch: &Watch) -> Result<(), Error> {
    let Target { config, name, paths, log, .. } = target;
    let instance = Instance::read(paths)?;
    let choices = ssh::choices(instance.as_ref());
    let by_ssh = || {
        let guest = Guest::of(config, paths, log)?;
        ssh_server::wait_by(watch, |seconds| guest.question(seconds))
    };
    let Some(vm) = config.find_vm(name) else { return by_ssh() };
    let options = Resolver::new(config, vm, choices).ssh_options()?;
    if ssh::is_proxied(&options) {
        return by_ssh();
    }
    let port = Resolver::new(config, vm, choices).ssh_port()?;
    let host = ssh::host(&options);
    let arguments = instance.map(|instance| instance.arguments()).filter(|_| host.is_none());
    let cut_off = arguments.filter(|it| !forward::may_reach(it, port) && !port::is_taken(port));
    let Some(arguments) = cut_off else {
        return ssh_server::wait(watch, host.unwrap_or(ssh::THIS_HOST), port);
    };
    let message =
        format!("nothing forwards port {port} of this host to the ssh server of VM `{name}`");
    let mut kinds = forward::networks(&arguments).map(|(_, pairs)| pairs);
    let has_address = kinds.any(|it| it.get("type").is_some_and(forward::gives_an_address));
    Err(Error::failed(message).hint(if has_address {
        "set `HostName` among the VM's ssh options to the guest's address".to_string()
    } else {
        let rule = format!("hostfwd=tcp:127.0.0.1:{{{{.vm.ssh.port}}}}-:{}", vm.vm_port);
        format!("add `{rule}` to a user network in `cmd`, and restart the VM")
    }))
}

/// Waits until the guest accepts a login, and returns the result of the command that it runs. Its
/// ssh server has answered before.
pub(super) fn for_login(
    target: &Target,
    guest: &Guest,
    process: &Process,
    deadline: Deadline,
    command: &dyn Fn() -> OsString,
) -> Result<Output, Error> {
    let watch = watch(target, process, Some(deadline));
    unless_gone(&watch, "a login", |ended| {
        await_login(guest, deadline, REFUSED_WAIT, command, ended)
    })
}

/// Does a step, and passes it a function that returns an error once the guest is gone.
fn unless_gone<T>(
    watch: &Watch,
    what: &str,
    step: impl FnOnce(&mut dyn FnMut() -> Option<Error>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut alarm = watch.alarm(what, None)?;
    let mut progress = Progress::new(watch.log);
    step(&mut || {
        progress.show(what, || tail(&watch.paths.serial));
        let alive = watch.process.is_alive();
        let error = alarm().and_then(Result::err);
        error.or_else(|| (!alive).then(|| watch.ended(&format!("waiting for {what}"))))
    })
}

/// Waits until a command runs on the guest; with `cloud_init`, until cloud-init is done. Gives
/// `false` if the guest has no cloud-init. The ssh server has answered before.
pub(super) fn for_command(target: &Target, watch: &Watch, cloud_init: bool) -> Result<bool, Error> {
    let guest = Guest::of(target.config, &target.paths, &target.log)?;
    let deadline = watch.deadline.unwrap_or_else(|| Deadline::after(FOREVER));
    let login = |ended: &mut dyn FnMut() -> Option<Error>| {
        await_command(&guest, deadline, ended).map(|()| true)
    };
    if !cloud_init {
        return unless_gone(watch, "a login", login);
    }
    let what = format!("cloud-init of VM `{}`", target.name);
    unless_gone(watch, &what, |ended| await_cloud_init(&guest, deadline, ended))
}

/// At the first boot of a disk, waits until cloud-init is done, and records that; not with
/// `--wait=ssh`. Under `-snapshot`, writes are forgotten, so the next boot is again the first.
pub(super) fn for_first_boot(
    target: &Target,
    process: &Process,
    deadline: Deadline,
) -> Result<(), Error> {
    let Target { config, args, name, paths, log } = target;
    let (instance, Some(vm)) = (Instance::read(paths)?, config.find_vm(name)) else {
        return Ok(());
    };
    let resolver = Resolver::new(config, vm, ssh::choices(instance.as_ref()));
    let images = images::first_boots(config, resolver.images());
    if images.is_empty() || args.value(&spec::WAIT).is_some_and(|wait| wait.ssh_only) {
        return Ok(());
    }
    if !for_command(target, &watch(target, process, Some(deadline)), true)? {
        log.note(&format!("the guest of VM `{name}` has no cloud-init to wait for"));
    }
    let arguments = instance.map(|instance| instance.arguments()).unwrap_or_default();
    if !arguments.iter().any(|argument| argument.name == "snapshot") {
        images::end_first_boots(target, &images);
    }
    Ok(())
}
