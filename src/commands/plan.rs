//! Everything that a VM would be started with, and how it differs from what the VM runs with.

use super::target::Target;
use crate::cli::Args;
use crate::config::Choices;
use crate::config::model::Vm;
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::source::Span;
use crate::ssh;
use crate::text::command_line;
use crate::vm::argv::{self, Features};
use crate::vm::options::takes_value;
use crate::vm::{Instance, launch};
use crate::words::Word;
use std::ffi::OsString;
use std::fmt;

/// Options of a start beyond the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra<'a> {
    /// Variables of `--set`.
    pub(super) set: &'a [(String, String)],
    /// Arguments for QEMU after the VM's own.
    pub(super) arguments: Vec<OsString>,
    /// Whether a new VM stops when no `run` uses it any more. If unset, a VM that is
    /// already running is kept from then on.
    pub(super) on_demand: bool,
}

impl<'a> Extra<'a> {
    /// Reads them from the command line of a command that has these flags.
    pub(super) fn of(args: &'a Args) -> Self {
        Self { set: &args.set, arguments: args.words.clone(), on_demand: false }
    }

    pub(super) fn is_none(&self) -> bool {
        self.set.is_empty() && self.arguments.is_empty()
    }
}

pub(super) struct Plan {
    /// The program and the user's arguments. The arguments that qqmgr adds are left out: for a deep
    /// directory they depend on the environment.
    pub(super) own_argv: Vec<OsString>,
    pub(super) ssh_port: u16,
    pub(super) ssh_config: String,
    /// Whether ssh connects to a port of this host rather than to an address of the guest's own.
    pub(super) reached_on_host: bool,
}

impl Plan {
    pub(super) fn new(
        target: &Target,
        vm: &Vm,
        extra: &Extra,
        ssh_port: u16,
    ) -> Result<Self, Error> {
        let Target { config, paths, .. } = target;
        let choices = Choices { ssh_port: Some(ssh_port), set: extra.set };
        let own_argv = own_argv(target, vm, extra, ssh_port)?;
        let options = config.ssh_options(vm, &choices)?;
        let reached_on_host = ssh::is_by_port(&options);
        let ssh_config = ssh::config_text(&vm.name, &options, paths, ssh_port, config.dir())?;
        Ok(Self { own_argv, ssh_port, ssh_config, reached_on_host })
    }

    /// The whole command line of QEMU.
    pub(super) fn argv(&self, target: &Target) -> Result<Vec<OsString>, Error> {
        let mut argv = self.own_argv.clone();
        argv.extend(injected(target, target.vm()?)?);
        Ok(argv)
    }
}

/// The words that qqmgr appends to the VM's own.
pub(super) fn injected(target: &Target, vm: &Vm) -> Result<Vec<OsString>, Error> {
    argv::injected(&target.paths, features(target, vm))
}

/// The features that the configuration gives this VM beyond what every VM has.
pub(super) fn features(target: &Target, vm: &Vm) -> Features {
    Features { console: target.config.console(vm), gdb: target.config.gdb(vm) }
}

/// The program, the VM's words and those of `extra`.
pub(super) fn own_argv(
    target: &Target,
    vm: &Vm,
    extra: &Extra,
    ssh_port: u16,
) -> Result<Vec<OsString>, Error> {
    let config = target.config;
    let choices = Choices { ssh_port: Some(ssh_port), set: extra.set };
    let (bin, words) = config.command(vm, &choices)?;
    argv::check(&words, "in `cmd`").map_err(|problem| config.problem(problem))?;
    check_arguments(&extra.arguments)?;
    let mut argv = vec![launch::program(&bin, config.dir())?.into_os_string()];
    argv.extend(words.into_iter().map(|word| OsString::from(word.text)));
    argv.extend(extra.arguments.iter().cloned());
    Ok(argv)
}

/// Refuses words after `--` that QEMU must not get, with a usage error.
pub(super) fn check_arguments(words: &[OsString]) -> Result<(), Error> {
    let words = words.iter();
    let words =
        words.map(|word| Word { text: word.to_string_lossy().into_owned(), span: Span::default() });
    argv::check(&words.collect::<Vec<_>>(), "behind `--`").map_err(|problem| {
        let error = Error::new(Kind::Usage, problem.message);
        problem.hint.into_iter().fold(error, Error::hint)
    })
}

/// Something that a restart would change: the running value, and the configured one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) running: Option<String>,
    pub(super) configured: Option<String>,
}

impl Change {
    pub(super) fn json(&self) -> Value {
        Value::object([
            ("running", Value::from(self.running.as_deref())),
            ("configured", self.configured.as_deref().into()),
        ])
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.running, &self.configured) {
            (Some(running), Some(configured)) => {
                write!(f, "running with `{running}`, configured `{configured}`")
            }
            (Some(running), None) => write!(f, "running with `{running}`, which is not configured"),
            (None, configured) => {
                let configured = configured.as_deref().unwrap_or_default();
                write!(f, "running without `{configured}`, which is configured")
            }
        }?;
        f.write_str(": restart to apply")
    }
}

/// Finds what a restart would change. Options are compared as a whole, `-m 2048`; an option that is
/// on both sides is no change, wherever it is.
pub(super) fn changes(
    instance: &Instance,
    own_argv: &[OsString],
    ssh_port: u16,
    features: Features,
) -> Vec<Change> {
    let configured: Vec<String> =
        own_argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (mut running, mut configured) = (options(instance.own_argv()), options(&configured));
    running.push(format!("ssh port {}", instance.ssh_port));
    configured.push(format!("ssh port {ssh_port}"));
    running.retain(|option| match configured.iter().position(|other| other == option) {
        Some(same) => {
            configured.remove(same);
            false
        }
        None => true,
    });
    let mut changes = Vec::new();
    for option in running {
        let same_name = |other: &String| name(other) == name(&option);
        let configured = configured.iter().position(same_name).map(|at| configured.remove(at));
        changes.push(Change { running: Some(option), configured });
    }
    let added = configured.into_iter();
    changes.extend(added.map(|option| Change { running: None, configured: Some(option) }));
    let (has, wanted) =
        (Features::of(&instance.argv[instance.own_argv().len()..]).keys(), features.keys());
    let only = |these: &[&str], others: &[&str]| -> Vec<String> {
        these.iter().filter(|key| !others.contains(key)).map(ToString::to_string).collect()
    };
    let lost = only(&has, &wanted).into_iter();
    changes.extend(lost.map(|key| Change { running: Some(key), configured: None }));
    let new = only(&wanted, &has).into_iter();
    changes.extend(new.map(|key| Change { running: None, configured: Some(key) }));
    changes
}

/// The program, and each option with its value, quoted for a shell.
pub(super) fn options(argv: &[String]) -> Vec<String> {
    let (mut options, mut words) = (Vec::new(), argv.iter());
    while let Some(word) = words.next() {
        let value = if takes_value(word) { words.next() } else { None };
        options.push(command_line(std::iter::once(word).chain(value)));
    }
    options
}

fn name(option: &str) -> &str {
    let name = option.split(' ').next().unwrap_or_default();
    // Programs and images have no name of their own.
    if name.starts_with('-') || name == "ssh" { name } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_options_are_told_in_pairs() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let argv = words("qemu -m 2048 -nographic -smp 2 disk.img -drive a -drive b");
        let own_words = argv.len();
        let instance = Instance { ssh_port: 2222, argv, own_words, ..Instance::default() };
        let changes_to = |text: &str, port| -> Vec<String> {
            let argv: Vec<OsString> = words(text).into_iter().map(OsString::from).collect();
            let shown = |side: Option<String>| side.unwrap_or("-".into());
            let changes = changes(&instance, &argv, port, Features::default()).into_iter();
            changes.map(|c| format!("{} / {}", shown(c.running), shown(c.configured))).collect()
        };
        let none: [&str; 0] = [];
        let same = "qemu -m 2048 -nographic -smp 2 disk.img -drive a -drive b";
        assert_eq!(changes_to(same, 2222), none);
        assert_eq!(changes_to(same, 2223), ["ssh port 2222 / ssh port 2223"]);
        assert_eq!(
            changes_to("qemu2 -m 4096 -smp 2 disk.img -drive b -drive c -cpu max", 2222),
            [
                "qemu / qemu2",
                "-m 2048 / -m 4096",
                "-nographic / -",
                "-drive a / -drive c",
                "- / -cpu max"
            ]
        );
    }
}
