//! The commands, one file each: a row for the table, what the command does, and what it reports.

mod copy;
pub(crate) mod help;
mod list;
mod ssh;
mod start;
mod status;
mod stop;

use crate::cli::{Args, Command};
use crate::config::Config;
use crate::config::model::Vm;
use crate::error::Error;
use crate::vm::{Paths, argv, instance, launch};
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
    /// Changes with any of the above.
    hash: String,
}

impl Plan {
    fn new(config: &Config, vm: &Vm, paths: &Paths) -> Result<Self, Error> {
        let (bin, words) = config.command(vm)?;
        argv::check(&words).map_err(|problem| config.problem(problem))?;
        let mut argv = vec![launch::program(&bin, config.dir())?.into_os_string()];
        let ssh_config = crate::ssh::config_text(config, vm, paths, vm.port.get())?;
        argv.extend(words.into_iter().map(|word| OsString::from(word.text)));
        argv.extend(argv::injected(paths)?);
        let hash = instance::config_hash(&argv, &ssh_config);
        Ok(Self { argv, ssh_config, hash })
    }
}

/// The configuration, and the files of the VM that the command names.
fn target(args: &Args) -> Result<(Config, Paths), Error> {
    let config = Config::load(args)?;
    let paths = Paths::new(config.vm_dir(config.vm(&args.vm())?));
    Ok((config, paths))
}
