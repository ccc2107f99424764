//! The VM that a command works on, and everything that it would be started with now.

use crate::cli::{Args, Detached};
use crate::config::values::is_vm_name;
use crate::config::{Config, Resolver, SshPort, Vm};
use crate::error::{Error, Kind, STDERR};
use crate::image::context::qemu_img;
use crate::json::Value;
use crate::log::Log;
use crate::report::Report;
use crate::source::Problem;
use crate::ssh::{self, FAILURE_CODE, Guest};
use crate::system::files;
use crate::vm::argv::own_port_note;
use crate::vm::lock::Lock;
use crate::vm::search::check_visible;
use crate::vm::snapshot::Stopped;
use crate::vm::{Instance, Look, Paths, State};
use std::path::Path;

#[derive(Clone)]
pub(super) struct Target<'a> {
    pub(super) config: &'a Config,
    pub(super) args: &'a Args,
    pub(super) name: String,
    pub(super) paths: Paths,
    pub(super) log: Log,
}

impl<'a> Target<'a> {
    /// Finds the VM. A VM that runs but is no longer configured is valid: it can be looked at and
    /// stopped.
    pub(super) fn new(
        config: &'a Config,
        args: &'a Args,
        name: &str,
        log: Log,
    ) -> Result<Self, Error> {
        check_visible()?;
        let paths = Paths::new(config.vm_dir(name));
        files::check_access(&paths.dir)?;
        check_name(config, args, name)?;
        Ok(Self { config, args, name: name.to_string(), paths, log })
    }

    /// The result of a command on this VM: an object with the VM's name and these members.
    pub(super) fn report<'m>(
        &self,
        text: impl Into<String>,
        members: impl IntoIterator<Item = (&'m str, Value)>,
    ) -> Report {
        Report::of(text, [("name", (&self.name).into())].into_iter().chain(members))
    }

    /// The result of a command that passes on the exit code of another program; `None`, if a signal
    /// ended it, is a failure of ssh.
    pub(super) fn exit_report<'m>(
        &self,
        code: Option<i32>,
        text: impl Into<String>,
        members: impl IntoIterator<Item = (&'m str, Value)>,
    ) -> Report {
        let exit_code = code.and_then(|code| code.try_into().ok()).unwrap_or(FAILURE_CODE);
        let code = [("exit_code", u16::from(exit_code).into())];
        Report { exit_code, ..self.report(text, code.into_iter().chain(members)) }
    }

    /// The guest over ssh; the VM must be running, and have ssh.
    pub(super) fn guest(&self) -> Result<Guest, Error> {
        self.check_has_ssh()?;
        Guest::of(self.config, &self.paths, &self.log)
    }

    /// The VM's configuration with the port and the variables of its start; `None` if it is no
    /// longer configured.
    pub(super) fn resolver<'c>(&'c self, record: Option<&'c Instance>) -> Option<Resolver<'c>> {
        let vm = self.config.find_vm(&self.name)?;
        Some(Resolver::new(self.config, vm, ssh::choices(record)))
    }

    /// Adds to the error of a wait that timed out that the VM still runs.
    pub(super) fn still_runs(&self, error: Error) -> Error {
        error.hint_for(Kind::TimedOut, format!("VM `{}` still runs", self.name))
    }

    /// Refuses a guest that does nothing until it is resumed: ssh would hang.
    pub(super) fn check_guest_runs(&self) -> Result<(), Error> {
        self.held().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The state of a guest that does nothing until it is resumed, and the error that says so.
    pub(super) fn held(&self) -> Option<(State, Error)> {
        let Self { name, paths, log, .. } = self;
        // If this fails here, the caller's next step reports it.
        let look = Look::by_files(paths).ok()?;
        let (state, _) = State::ask(&look, paths, log).ok()?;
        let way_on = state.way_on(paths)?;
        let message = format!("VM `{name}` is {}: its guest does not run", state.name());
        Some((state, Error::failed(message).hint(way_on)))
    }

    /// Refuses a guest that has no ssh: by its start if the VM runs, else by the configuration.
    pub(super) fn check_has_ssh(&self) -> Result<(), Error> {
        let record = Look::by_files(&self.paths).and_then(Look::running_record).ok().flatten();
        match port_of(record.as_ref(), self.config.find_vm(&self.name)) {
            Some(SshPort::None) => Err(no_ssh(&self.name)),
            _ => Ok(()),
        }
    }

    /// Says on standard error if the guest's first serial port is the user's own, so that commands
    /// about its console see another one.
    pub(super) fn note_own_port(&self) {
        let record = Instance::read(&self.paths).ok().flatten();
        if let Some(note) = record.and_then(|record| own_port_note(&record.arguments())) {
            self.log.note(&note);
        }
    }

    /// Writes warnings about places in the configuration to standard error.
    pub(super) fn warn(&self, warnings: &[Problem]) {
        let source = &self.config.source;
        for warning in warnings {
            let place = (source.as_ref(), source.position(warning.span.start));
            self.log.write(&STDERR.problem("warning", &self.log.vm(), warning, place));
        }
    }

    /// Access to the disks of the VM, which is stopped. The lock is needed for a change.
    pub(super) fn stopped<'t>(&'t self, lock: Option<&'t Lock>) -> Result<Stopped<'t>, Error> {
        let Self { config, paths, log, .. } = self;
        Ok(Stopped { paths, qemu_img: qemu_img(config)?, dir: config.dir(), log, lock })
    }

    /// The VM in the configuration.
    pub(super) fn vm(&self) -> Result<&'a Vm, Error> {
        self.config.vm(&self.name)
    }
}

/// The ssh port of a VM: that of its start while it runs, else the configured one.
pub(super) fn port_of(record: Option<&Instance>, vm: Option<&Vm>) -> Option<SshPort> {
    record.map(|record| SshPort::of_start(record.ssh_port)).or(vm.map(|vm| vm.port))
}

/// The error for a command that needs the ssh of a guest without it.
pub(super) fn no_ssh(name: &str) -> Error {
    Error::failed(format!("VM `{name}` has no ssh: its `port` is \"none\""))
        .hint("`port = \"auto\"` and a `hostfwd` give it ssh from its next start on")
}

/// An error unless there is a VM of that name, configured or running.
pub(super) fn check_name(config: &Config, args: &Args, name: &str) -> Result<(), Error> {
    let runs = || is_vm_name(name) && runs_unconfigured(config, name);
    if config.find_vm(name).is_some() || runs() {
        return Ok(());
    }
    let detached = args.detached.as_ref().filter(|detached| detached.word == name);
    let first = args.operands.first().filter(|word| Path::new(word).exists());
    let file = first.map(|word| word.to_string_lossy()).filter(|it| config.find_vm(it).is_none());
    let quote = file.map(|file| format!("`{file}` is a file: quote a pattern, as in `'node-*'`"));
    let hint = detached.map(Detached::hint).or(quote).or_else(|| args.right_form.clone());
    config.vm(name).map(|_| ()).map_err(|error| error.hint_if(hint))
}

/// Whether a VM runs that this configuration had when it was started, and no longer has.
pub(super) fn runs_unconfigured(config: &Config, name: &str) -> bool {
    match Look::by_files(&Paths::new(config.vm_dir(name))) {
        Ok(look) if look.place.is_gone() => false,
        Ok(Look { record: Some(record), .. }) => {
            record.config_file.file_name() == config.file.file_name()
        }
        Ok(_) | Err(_) => true,
    }
}
