//! The commands, one file each: a row for the table, what the command does, and what it reports.

mod copy;
pub(crate) mod help;
mod list;
mod ssh;
mod start;
mod status;
mod stop;

use crate::cli::{Args, Command};
use crate::config::model::Vm;
use crate::config::{Choices, Config, is_vm_name};
use crate::error::Error;
use crate::files;
use crate::vm::{Instance, Paths, argv, instance, launch, process};
use std::ffi::OsString;

/// In help order.
pub(crate) static COMMANDS: &[&Command] = &[
    &start::COMMAND,
    &stop::COMMAND,
    &status::COMMAND,
    &list::COMMAND,
    &ssh::COMMAND,
    &copy::PUT,
    &copy::GET,
    &help::COMMAND,
];

/// Everything that a VM would be started with now.
struct Plan {
    /// The whole command line of QEMU.
    argv: Vec<OsString>,
    ssh_config: String,
    ssh_port: u16,
    /// Whether ssh goes to a port of this host, and not to an address of the guest's own.
    reached_on_host: bool,
    /// Changes with what the configuration says of the VM.
    hash: String,
}

impl Plan {
    fn new(config: &Config, vm: &Vm, paths: &Paths, choices: &Choices) -> Result<Self, Error> {
        let (bin, words) = config.command(vm, choices)?;
        argv::check(&words).map_err(|problem| config.problem(problem))?;
        let mut argv = vec![launch::program(&bin, config.dir())?.into_os_string()];
        argv.extend(words.into_iter().map(|word| OsString::from(word.text)));
        let options = config.ssh_options(vm, choices)?;
        let ssh_port = config.ssh_port(vm, choices)?;
        // Without the ways to sockets, which depend on the environment for a deep directory.
        let hash = instance::config_hash(&argv, &format!("{ssh_port} {options:?}"));
        let reached_on_host =
            !options.iter().any(|(name, _)| name.eq_ignore_ascii_case("HostName"));
        let ssh_config = crate::ssh::config_text(&vm.name, &options, paths, ssh_port)?;
        argv.extend(argv::injected(paths)?);
        Ok(Self { argv, ssh_config, ssh_port, reached_on_host, hash })
    }
}

/// The VM that a command names.
struct Target {
    config: Config,
    name: String,
    paths: Paths,
}

impl Target {
    /// A VM that runs and is not configured any more is one, too: it can be looked at and stopped.
    fn new(args: &Args) -> Result<Self, Error> {
        let (config, name) = (Config::load(args)?, args.vm().into_owned());
        let paths = Paths::new(config.vm_dir(&name));
        files::check_access(&paths.dir)?;
        let is_configured = config.find_vm(&name).is_some();
        if is_configured || !is_vm_name(&name) || !runs_unconfigured(&config, &paths) {
            config.vm(&name)?;
        }
        Ok(Self { config, name, paths })
    }
}

/// Whether a VM runs that this configuration does not have, and had when it was started.
fn runs_unconfigured(config: &Config, paths: &Paths) -> bool {
    Instance::read(paths).is_none_or(|instance| instance.config_name == config.name())
        && process::find(paths).is_some()
}
