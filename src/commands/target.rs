//! The VM that a command is about, and everything that it would be started with now.

use super::wait;
use crate::cli::Args;
use crate::config::model::Vm;
use crate::config::{Config, is_vm_name};
use crate::error::Error;
use crate::files;
use crate::log::Log;
use crate::ssh::Guest;
use crate::system::ps;
use crate::vm::process::{self, Look};
use crate::vm::state::State;
use crate::vm::{Instance, Paths};
use std::time::Instant;

pub(super) struct Target<'a> {
    pub(super) config: &'a Config,
    pub(super) args: &'a Args,
    pub(super) name: String,
    pub(super) paths: Paths,
    pub(super) log: Log,
}

impl<'a> Target<'a> {
    /// A VM that runs and is not configured any more is one, too: it can be looked at and stopped.
    pub(super) fn new(
        config: &'a Config,
        args: &'a Args,
        name: &str,
        log: Log,
    ) -> Result<Self, Error> {
        ps::check()?;
        let paths = Paths::new(config.vm_dir(name));
        files::check_access(&paths.dir)?;
        check_name(config, args, name)?;
        Ok(Self { config, args, name: name.to_string(), paths, log })
    }

    /// The same VM, with something that a person should know while it is waited for.
    pub(super) fn with_remark(&self, remark: &'static str) -> Self {
        let (name, paths) = (self.name.clone(), self.paths.clone());
        Self {
            config: self.config,
            args: self.args,
            name,
            paths,
            log: self.log.with_remark(remark),
        }
    }

    /// The guest over ssh, waited for if that was asked for, also until it lets us in if `login`.
    pub(super) fn guest(&self, login: bool) -> Result<Guest, Error> {
        let limit = self.args.wait.map(|timeout| (timeout, Instant::now() + timeout));
        let process = limit.map(|limit| wait::for_ssh(self, limit)).transpose()?;
        self.check_guest_runs()?;
        let guest = Guest::of(&self.name, self.config, &self.paths, &self.log)?;
        if let (Some(process), Some(limit), true) = (process, limit, login) {
            wait::for_login(self, &guest, &process, limit)?;
        }
        Ok(guest)
    }

    /// An error for a guest that does nothing until somebody lets it go on: ssh would hang.
    pub(super) fn check_guest_runs(&self) -> Result<(), Error> {
        self.held().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The state of a guest that does nothing until somebody lets it go on, and the error for it.
    pub(super) fn held(&self) -> Option<(State, Error)> {
        let Self { name, paths, log, .. } = self;
        // What cannot be told here is told by what the caller does next.
        let (process, instance) = (process::find(paths).ok()?, Instance::read(paths).ok()?);
        let state = State::ask(paths, process.as_ref(), instance.as_ref(), log).ok()?;
        let way_on = state.way_on(name)?;
        let message = format!("VM `{name}` is {}: its guest does not run", state.name());
        Some((state, Error::failed(message).hint(way_on)))
    }

    /// As the configuration has it.
    pub(super) fn vm(&self) -> Result<&'a Vm, Error> {
        self.config.vm(&self.name)
    }
}

/// An error unless there is a VM of that name, configured or running.
pub(super) fn check_name(config: &Config, args: &Args, name: &str) -> Result<(), Error> {
    let runs = || is_vm_name(name) && runs_unconfigured(config, &Paths::new(config.vm_dir(name)));
    if config.find_vm(name).is_some() || runs() {
        return Ok(());
    }
    let detached = args.detached.as_ref().filter(|detached| detached.word == name);
    config.vm(name).map(|_| ()).map_err(|error| match detached {
        Some(detached) => error.hint(detached.hint()),
        None => error,
    })
}

/// Whether a VM runs, as far as that can be told: one that cannot be looked at may, and the command
/// that works on it says why it cannot.
pub(super) fn may_run(paths: &Paths) -> bool {
    !matches!(process::look(paths), Ok(Look::Gone))
}

/// Whether a VM runs that this configuration does not have, and had when it was started.
pub(super) fn runs_unconfigured(config: &Config, paths: &Paths) -> bool {
    let record = Instance::read(paths).ok().flatten();
    record.is_none_or(|instance| instance.config_name == config.name()) && may_run(paths)
}

/// The VMs that run, or are about to, without being in the configuration any more; sorted.
pub(super) fn unconfigured(config: &Config) -> Result<Vec<String>, Error> {
    let mut others = config.vms_with_a_dir()?;
    others.retain(|name| {
        let paths = Paths::new(config.vm_dir(name));
        !config.is_declared(name) && runs_unconfigured(config, &paths)
    });
    Ok(others.into_iter().collect())
}
