//! A VM as the rules of `check` see it.

use super::super::start::plan::{examine_command, examine_helpers, likely_port};
use crate::config::resolve::Invocation;
use crate::config::{Choices, Config, Resolver, Vm};
use crate::source::{Problem, Span};
use crate::ssh;
use crate::toml::Key;
use crate::vm::forward::Forward;
use crate::vm::helper::Helper;
use crate::vm::launch;
use crate::vm::options::{Argument, arguments};

/// A VM as it would be started now.
pub(super) struct Subject<'a> {
    pub(super) config: &'a Config,
    pub(super) vm: &'a Vm,
    pub(super) resolver: Resolver<'a>,
    /// Whether its words could be put together. Without them, no rule applies.
    pub(super) is_whole: bool,
    /// The place for a problem that several VMs share and that has no place in the file.
    pub(super) no_place: Span,
    /// The port for ssh, or the port that would be tried first.
    pub(super) ssh_port: Option<u16>,
    /// Whether ssh goes to that port on this host.
    pub(super) by_port: bool,
    pub(super) arguments: Vec<Argument>,
    pub(super) images: Vec<&'a Key>,
    pub(super) helpers: Vec<Helper>,
    /// Words of `cmd` and of helpers that are probably mistakes.
    pub(super) warnings: Vec<Problem>,
}

impl<'a> Subject<'a> {
    /// Looks at the VM; its resolver gets everything that is wrong with its program, words and
    /// options. `set` are variables, and `no_place` is the place for a program that the file does
    /// not name.
    pub(super) fn new(
        config: &'a Config,
        vm: &'a Vm,
        set: &'a [(String, String)],
        no_place: Span,
    ) -> Self {
        let ssh_port = likely_port(config, vm);
        let resolver = Resolver::new(config, vm, Choices { ssh_port, set });
        let (command, ports) = examine_command(&resolver);
        let Invocation { bin, pasted, is_whole, .. } = command;
        let helpers = examine_helpers(&resolver, &config.vm_dir(&vm.name));
        let by_port = ssh_port.is_some() && ssh::is_by_port(&resolver.examine_ssh_options());
        if is_whole && let Err(error) = launch::program(&bin, config.dir()) {
            resolver.problems.add([error.at(resolver.bin().map_or(no_place, |bin| bin.span))]);
        }
        let (images, mut warnings) = (resolver.images(), pasted.warnings);
        warnings.extend(helpers.iter().flat_map(|helper| helper.warnings.clone()));
        let mut arguments = arguments(pasted.words);
        // As separate arguments, the ports keep their places in the file.
        arguments.extend(ports.iter().map(Forward::argument));
        Self {
            config,
            vm,
            resolver,
            is_whole,
            no_place,
            ssh_port,
            by_port,
            arguments,
            images,
            helpers,
            warnings,
        }
    }
}
