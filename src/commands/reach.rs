//! Ways to a guest: whether its ssh server answers, whether it lets us log in, and how to wait for
//! both.

use super::target::Target;
use crate::cli::flag::{Flag, Takes};
use crate::cli::spec;
use crate::config::{Declared, Resolver};
use crate::error::Error;
use crate::image::build::{end_first_boot, is_first_boot};
use crate::image::context::Context;
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
    let wait = target.args.value(&spec::WAIT);
    let reach = wait.map(|wait| Reach::running(target, wait.limit)).transpose()?;
    if let Some(reach) = &reach {
        reach.server().map_err(|error| target.still_runs(error))?;
    }
    target.check_guest_runs()?;
    let guest = target.guest()?;
    if let Some(reach) = reach.filter(|_| login) {
        reach.first_boot()?;
        reach.login(&guest, &|| "true".into())?;
    }
    Ok(guest)
}

/// A VM that runs and whose guest is waited for.
pub(super) struct Reach<'a> {
    pub(super) target: &'a Target<'a>,
    pub(super) watch: Watch<'a>,
    record: Option<Instance>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(
        target: &'a Target<'a>,
        process: Process,
        deadline: Option<Deadline>,
    ) -> Result<Self, Error> {
        let Target { args, paths, log, .. } = target;
        let watch = Watch { paths, process, deadline, log, unless: args.all(&UNLESS) };
        Ok(Self { target, watch, record: Instance::read(paths)? })
    }

    /// The VM, which must be running, and the time `limit` for all waits.
    pub(super) fn running(target: &'a Target<'a>, limit: Duration) -> Result<Self, Error> {
        Self::new(target, look::running(&target.paths)?, Some(Deadline::after(limit)))
    }

    /// Waits for the ssh server, unless a shared connection shows that it has answered. Servers
    /// shut out clients that connect often without logging in (`PerSourcePenalties` of OpenSSH
    /// 9.8).
    pub(super) fn server(&self) -> Result<(), Error> {
        if ssh::is_connected(&self.target.paths) { Ok(()) } else { self.answer() }
    }

    /// Waits for ssh where ssh itself would connect: at the port of the VM's start, or as its
    /// options say.
    pub(super) fn answer(&self) -> Result<(), Error> {
        let (target, watch) = (self.target, &self.watch);
        let resolver = target.resolver(self.record.as_ref());
        let options = resolver.as_ref().map(Resolver::ssh_options).transpose()?;
        let direct = resolver.zip(options).filter(|(_, options)| !ssh::is_proxied(options));
        let Some((resolver, options)) = direct else {
            let guest = target.guest()?;
            return ssh_server::wait_by(watch, |seconds| guest.question(seconds));
        };
        let (port, host) = (resolver.ssh_port()?, ssh::host(&options));
        let arguments = self.record.as_ref().map(Instance::arguments).filter(|_| host.is_none());
        let cut_off = arguments.filter(|it| !forward::may_reach(it, port) && !port::is_taken(port));
        let Some(arguments) = cut_off else {
            return ssh_server::wait(watch, host.unwrap_or(ssh::THIS_HOST), port);
        };
        let name = &target.name;
        let message =
            format!("nothing forwards port {port} of this host to the ssh server of VM `{name}`");
        let mut networks = forward::networks(&arguments);
        let has_address = networks.any(|network| forward::ADDRESSED.contains(&network.first()));
        Err(Error::failed(message).hint(if has_address {
            "set `HostName` among the VM's ssh options to the guest's address".to_string()
        } else {
            let rule = forward::for_ssh(target.vm()?.vm_port);
            format!("add `{rule}` to a user network in `cmd`, and restart the VM")
        }))
    }

    /// Waits until the guest accepts a login, and returns the result of the command that it runs.
    /// Its ssh server has answered before.
    pub(super) fn login(
        &self,
        guest: &Guest,
        command: &dyn Fn() -> OsString,
    ) -> Result<Output, Error> {
        self.unless_gone("a login", |deadline, ended| {
            await_login(guest, deadline, REFUSED_WAIT, command, ended)
        })
    }

    /// Does a step until the deadline, and passes it a function that returns an error once the
    /// guest is gone.
    fn unless_gone<T>(
        &self,
        what: &str,
        step: impl FnOnce(Deadline, &mut dyn FnMut() -> Option<Error>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let watch = &self.watch;
        let mut alarm = watch.alarm(what, None)?;
        let mut progress = Progress::new(watch.log);
        step(watch.deadline.unwrap_or_else(|| Deadline::after(FOREVER)), &mut || {
            progress.show(what, || tail(&watch.paths.serial));
            let alive = watch.process.is_alive();
            let error = alarm().and_then(Result::err);
            error.or_else(|| (!alive).then(|| watch.ended(&format!("waiting for {what}"))))
        })
    }

    /// Waits until a command runs on the guest. The ssh server has answered before.
    pub(super) fn command(&self) -> Result<(), Error> {
        let guest = self.target.guest()?;
        self.unless_gone("a login", |deadline, ended| await_command(&guest, deadline, ended))
    }

    /// Waits until cloud-init is done. Gives `false` if the guest has no cloud-init. The ssh server
    /// has answered before.
    pub(super) fn cloud_init(&self) -> Result<bool, Error> {
        let guest = self.target.guest()?;
        let what = format!("cloud-init of VM `{}`", self.target.name);
        self.unless_gone(&what, |deadline, ended| await_cloud_init(&guest, deadline, ended))
    }

    /// At the first boot of a disk, waits until cloud-init is done, and records that; not with
    /// `--wait=ssh`. Under `-snapshot`, writes are forgotten, so the next boot is again the first.
    pub(super) fn first_boot(&self) -> Result<(), Error> {
        let Target { config, args, name, log, .. } = self.target;
        let Some(resolver) = self.target.resolver(self.record.as_ref()) else { return Ok(()) };
        let declared = resolver.images().into_iter();
        let declared = declared.filter_map(|image| Declared::new(config, image).ok());
        let booting: Vec<Declared> = declared.filter(is_first_boot).collect();
        if booting.is_empty() || args.value(&spec::WAIT).is_some_and(|wait| wait.ssh_only) {
            return Ok(());
        }
        if !self.cloud_init()? {
            log.note(&format!("the guest of VM `{name}` has no cloud-init to wait for"));
        }
        let arguments = self.record.as_ref().map(Instance::arguments).unwrap_or_default();
        if !arguments.iter().any(|argument| argument.name == "snapshot") {
            let context = Context::new(config, log);
            let ended = booting.iter().try_for_each(|image| end_first_boot(&context, image));
            if let Err(error) = ended {
                log.note(&format!("cannot record that cloud-init is done: {}", error.message()));
            }
        }
        Ok(())
    }
}
