//! A VM as the rules of `check` see it.

use super::super::start::plan::likely_port;
use crate::config::resolve::{HelperWords, Invocation};
use crate::config::{Choices, Config, Resolver, Vm};
use crate::source::{Problem, Span};
use crate::ssh;
use crate::toml::Key;
use crate::vm::forward::{Forward, append};
use crate::vm::options::{Argument, arguments};
use crate::vm::{argv, helper, launch};

/// A VM as it would be started now.
pub(super) struct Subject<'a> {
    pub(super) config: &'a Config,
    pub(super) vm: &'a Vm,
    choices: Choices<'a>,
    /// The place for a problem that several VMs share and that has no place in the file.
    pub(super) no_place: Span,
    /// The port for ssh, or the port that would be tried first.
    pub(super) ssh_port: Option<u16>,
    /// Whether ssh goes to that port on this host.
    pub(super) by_port: bool,
    pub(super) arguments: Vec<Argument>,
    pub(super) images: Vec<&'a Key>,
    pub(super) helpers: Vec<HelperWords>,
    /// Words of `cmd` and of helpers that are probably mistakes.
    pub(super) warnings: Vec<Problem>,
}

impl<'a> Subject<'a> {
    /// Makes the subject if its program, words and options can be put together, and reports
    /// everything that is wrong with them. `set` are variables, and `no_place` is the place for a
    /// program that the file does not name.
    pub(super) fn new(
        config: &'a Config,
        vm: &'a Vm,
        set: &'a [(String, String)],
        no_place: Span,
    ) -> (Option<Self>, Vec<Problem>) {
        let ssh_port = likely_port(config, vm);
        let choices = Choices { ssh_port, set };
        let resolver = Resolver::new(config, vm, choices);
        let (command, mut problems) = resolver.examine();
        let Invocation { bin, words, ports, pasted } = command;
        let is_whole = problems.is_empty();
        problems.extend(pasted.errors);
        problems.extend(argv::problems(&words, "in `cmd`"));
        let (ports, faults) = append(&mut pasted.words.clone(), &ports, ssh_port);
        problems.extend(faults);
        let (helpers, faults) = resolver.examine_helpers();
        problems.extend(faults);
        let programs = helpers.iter().filter(|(_, _, pasted)| pasted.errors.is_empty());
        let programs = programs.map(|(name, words, _)| helper::program(name, words, config.dir()));
        problems.extend(programs.filter_map(Result::err));
        let by_port = match resolver.ssh_options() {
            Ok(options) => ssh_port.is_some() && ssh::is_by_port(&options),
            Err(error) => {
                problems.extend(error.into_located().map(|all| all.problems).unwrap_or_default());
                false
            }
        };
        if !is_whole {
            return (None, problems);
        }
        if let Err(error) = launch::program(&bin, config.dir()) {
            problems.push(error.at(resolver.bin().map_or(no_place, |bin| bin.span)));
        }
        let (images, mut warnings) = (resolver.images(), pasted.warnings);
        warnings.extend(helpers.iter().flat_map(|(_, _, pasted)| pasted.warnings.clone()));
        let mut arguments = arguments(pasted.words);
        // As separate arguments, the ports keep their places in the file.
        arguments.extend(ports.iter().map(Forward::argument));
        (
            Some(Self {
                config,
                vm,
                choices,
                no_place,
                ssh_port,
                by_port,
                arguments,
                images,
                helpers,
                warnings,
            }),
            problems,
        )
    }
    pub(super) fn resolver(&self) -> Resolver<'_, '_> {
        Resolver::new(self.config, self.vm, self.choices)
    }
}
