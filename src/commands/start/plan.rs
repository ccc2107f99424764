//! Everything that a VM is started with, from the configuration and the options of the command.

use crate::cli::{Args, Flag, Takes, spec};
use crate::commands::target::Target;
use crate::config::resolve::{HelperWords, Invocation};
use crate::config::{Choices, Config, Resolver, SshPort, Vm};
use crate::error::Error;
use crate::pasted::program_problem;
use crate::source::{Problem, Span};
use crate::ssh;
use crate::text::texts;
use crate::vm::argv::Features;
use crate::vm::forward::{Forward, append};
use crate::vm::helper::Helper;
use crate::vm::options::arguments_of;
use crate::vm::snapshot::Tag;
use crate::vm::{Instance, argv, helper, launch, port};
use crate::words::Word;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The end of the error of a flag that stands without `--from`.
pub(crate) const IS_FOR_FROM: &str = "is for `--from TAG`";

pub(crate) static FROM: Flag<Tag> = Flag::new(
    "from",
    Takes::Value("TAG"),
    Tag::read,
    "Begin with the machine and the disks of this snapshot",
);
pub(crate) static DISCARD: Flag =
    Flag::switch("discard", "With `--from`, lose disk changes that no snapshot has")
        .needs("from", IS_FOR_FROM);
pub(crate) static NO_SET_CLOCK: Flag =
    Flag::switch("no-set-clock", "With `--from`, do not set the guest's clock")
        .needs("from", IS_FOR_FROM);

/// QEMU's option for a start from a snapshot.
pub(crate) const LOADVM: &str = "-loadvm";
/// QEMU's option to start without letting the guest run.
const HELD: &str = "-S";

/// Options of a start beyond the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartOptions {
    /// Variables of `--set`.
    pub(crate) set: Vec<(String, String)>,
    /// Arguments for QEMU after the VM's own.
    pub(crate) arguments: Vec<OsString>,
    /// Whether the guest does not run until the caller lets it.
    pub(crate) held: bool,
    /// The snapshot to begin with.
    pub(crate) from: Option<Tag>,
    /// Whether a new VM stops when no `run` uses it any more. If unset, a VM that is
    /// already running is kept from then on.
    pub(crate) on_demand: bool,
}

impl StartOptions {
    /// Reads them from the command line of a command that has these flags.
    pub(crate) fn of(args: &Args) -> Self {
        let (set, from) = (args.all(&spec::SET), args.value(&FROM));
        Self { set, from, arguments: args.words.clone(), ..Self::default() }
    }
}

/// Everything that decides what a VM is started with.
#[derive(Clone)]
pub(crate) struct Inputs<'a> {
    pub(crate) target: &'a Target<'a>,
    pub(crate) vm: &'a Vm,
    pub(crate) options: StartOptions,
    /// `None` for a guest without ssh.
    pub(crate) ssh_port: Option<u16>,
}

impl<'a> Inputs<'a> {
    /// The inputs of a start with these options, on the port that the VM most likely has.
    pub(crate) fn new(target: &'a Target, options: StartOptions) -> Result<Self, Error> {
        let vm = target.vm()?;
        Ok(Self { target, vm, options, ssh_port: likely_port(target.config, vm) })
    }

    /// Takes over the port that was chosen for a VM that runs: it would be chosen again.
    pub(crate) fn on_port_of(self, running: Option<&Instance>) -> Self {
        let chosen = running.and_then(|record| record.ssh_port);
        let chosen = chosen.filter(|_| self.vm.port == SshPort::Auto);
        Self { ssh_port: chosen.or(self.ssh_port), ..self }
    }

    /// The VM with what the placeholders of its strings stand for.
    pub(crate) fn resolver(&self) -> Resolver<'_> {
        let choices = Choices { ssh_port: self.ssh_port, set: &self.options.set };
        Resolver::new(self.target.config, self.vm, choices)
    }

    /// The program, the VM's words and those of the options.
    pub(crate) fn own_argv(&self) -> Result<Vec<OsString>, Error> {
        self.own_words(&self.resolver()).map(|(argv, _)| argv)
    }

    /// The words of [`Self::own_argv`], and warnings about those of the configuration. An error has
    /// all problems that the resolver has found.
    pub(crate) fn own_words(
        &self,
        resolver: &Resolver,
    ) -> Result<(Vec<OsString>, Vec<Problem>), Error> {
        resolver.check_set()?;
        let (command, _) = examine_command(resolver);
        let Invocation { bin, words, pasted, .. } = resolver.checked(command)?;
        check_arguments(&self.options.arguments)?;
        let mut argv = vec![launch::program(&bin, self.target.config.dir())?.into_os_string()];
        argv.extend(words.into_iter().map(|word| OsString::from(word.text)));
        argv.extend(self.options.arguments.iter().cloned());
        Ok((argv, pasted.warnings))
    }

    /// The words that qqmgr appends to the VM's `own`, which begin with the program.
    pub(crate) fn injected(&self, own: &[OsString]) -> Result<Vec<OsString>, Error> {
        argv::injected(&self.target.paths, features(self.vm), &arguments_of(own))
    }

    /// The VM's helpers.
    pub(crate) fn helpers(&self) -> Result<Vec<Helper>, Error> {
        let resolver = self.resolver();
        resolver.checked(examine_helpers(&resolver, &self.target.paths.dir))
    }
}

/// Resolves the command line of a VM, and the forwards of `ports` in it. The resolver gets
/// everything that is wrong with it.
pub(crate) fn examine_command(resolver: &Resolver) -> (Invocation, Vec<Forward>) {
    let mut command = resolver.command();
    resolver.problems.add(command.pasted.errors.iter().cloned());
    resolver.problems.add(argv::problems(&command.words, "in `cmd`"));
    let (forwards, problems) =
        append(&mut command.words, &command.ports, resolver.choices.ssh_port);
    resolver.problems.add(problems);
    (command, forwards)
}

/// Resolves the helpers of the VM with this directory. The resolver gets everything that is
/// wrong with them.
pub(crate) fn examine_helpers(resolver: &Resolver, vm_dir: &Path) -> Vec<Helper> {
    let helper = |(name, words, pasted): HelperWords| {
        let is_right = pasted.errors.is_empty();
        let program = is_right.then(|| helper::program(&name, &words, resolver.config.dir()));
        let program =
            program.and_then(|program| resolver.problems.keep(program)).unwrap_or_default();
        Helper { warnings: pasted.warnings, ..Helper::new(name, program, &words, vm_dir) }
    };
    resolver.helpers().into_iter().map(helper).collect()
}

/// Everything that a VM is started with, for one ssh port. To make a plan, only the program is
/// looked at.
pub(crate) struct Plan {
    /// The whole command line of QEMU.
    pub(crate) argv: Vec<OsString>,
    /// The record of the start, which names neither the machine, nor the time, nor a process.
    pub(crate) record: Instance,
    /// The helpers that are started before QEMU.
    pub(crate) helpers: Vec<Helper>,
    /// The text of `ssh.conf`, if there is one.
    pub(crate) ssh_config: Option<String>,
    /// Whether ssh connects to a port of this host rather than to an address of the guest's own.
    pub(crate) reached_on_host: bool,
    /// Whether the VM's own words keep the guest from running until it is resumed.
    pub(crate) holds_guest: bool,
    /// Whether the caller asked to let the guest run itself once QEMU answers.
    pub(crate) is_held: bool,
    /// Words of `cmd` that are probably mistakes, for a QEMU that does not come up.
    pub(super) warnings: Vec<Problem>,
}

impl Plan {
    pub(crate) fn new(inputs: &Inputs) -> Result<Self, Error> {
        let Inputs { target, vm, ref options, ssh_port } = *inputs;
        let resolver = inputs.resolver();
        let helpers = examine_helpers(&resolver, &target.paths.dir);
        let (stop_command, ssh_options) = (resolver.stop_command(), resolver.ssh_options());
        let (mut argv, warnings) = inputs.own_words(&resolver)?;
        let own_words = argv.len();
        let holds_guest = arguments_of(&argv).iter().any(|argument| argument.name == "S");
        argv.extend(inputs.injected(&argv)?);
        // With the user's own `-S`, somebody else lets the guest run.
        let is_held = options.held && !holds_guest;
        argv.extend(is_held.then(|| HELD.into()));
        if let Some(tag) = &options.from {
            argv.extend([LOADVM.into(), tag.as_str().into()]);
        }
        let record = Instance {
            ssh_port,
            config_file: target.config.file.clone(),
            set: options.set.clone(),
            argv: texts(&argv),
            own_words,
            on_demand: options.on_demand,
            stop_timeout: Some(vm.stop_timeout),
            stop_command: stop_command?,
            ..Instance::default()
        };
        let ssh_options = ssh_options?;
        let reached_on_host = ssh::is_by_port(&ssh_options);
        let dir = target.config.dir();
        let text = |port| ssh::config_text(&ssh_options, &target.paths, port, dir);
        let ssh_config = ssh_port.map(text).transpose()?;
        Ok(Self {
            argv,
            record,
            helpers,
            ssh_config,
            reached_on_host,
            holds_guest,
            is_held,
            warnings,
        })
    }
}

/// The port that a VM has, or most likely would have; `None` for a guest without ssh.
pub(crate) fn likely_port(config: &Config, vm: &Vm) -> Option<u16> {
    match vm.port {
        SshPort::Fixed(port) => Some(port),
        SshPort::Auto => Some(port::first_choice(config.vm_dir(&vm.name).as_os_str().as_bytes())),
        SshPort::None => None,
    }
}

/// The features that the configuration gives this VM beyond what every VM has.
pub(crate) fn features(vm: &Vm) -> Features {
    Features { console: vm.console, gdb: vm.gdb }
}

/// Refuses words after `--` that QEMU must not get, with a usage error.
pub(crate) fn check_arguments(words: &[OsString]) -> Result<(), Error> {
    let words = words.iter();
    let words = words.map(|word| Word::plain(word.to_string_lossy(), Span::default()));
    let words: Vec<Word> = words.collect();
    let program = program_problem(&words, "the arguments after `--` begin");
    let checked = program.map_or_else(|| argv::check(&words, "after `--`"), Err);
    checked.map_err(|problem| Error::usage(problem.message).hint_if(problem.hint))
}
