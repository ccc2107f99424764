//! `qqmgr list`: looks at processes and asks no QEMU, so that a thousand VMs list at once.

use super::status::ended;
use super::target::runs_unconfigured;
use crate::cli::spec::Flag;
use crate::cli::{Args, Command, Outcome, Run};
use crate::config::Config;
use crate::config::model::Vm;
use crate::error::{Error, Kind};
use crate::files;
use crate::json::Value;
use crate::log::Log;
use crate::report::Report;
use crate::system::ps;
use crate::vm::events::End;
use crate::vm::process::{self, CommandLines, Look, Process};
use crate::vm::state::State;
use crate::vm::{Instance, Paths};
use std::fmt::Write as _;

pub(crate) static COMMAND: Command = Command {
    name: "list",
    about: "List the VMs",
    details: "Those of the configuration in its order, then those that run without being in\n\
              it any more. With `-q` alone those of the configuration only. A live VM is\n\
              `running` here whatever its guest does; `status` asks QEMU.",
    operands: &[],
    flags: &[&QUIET, &RUNNING],
    failure_code: Kind::exit_code,
    run: Run::Each(run),
};

pub(super) static QUIET: Flag =
    Flag::switch("quiet", |args| args.quiet = true, "Print only the names, one a line").short('q');
static RUNNING: Flag = Flag::switch("running", |args| args.running = true, "Only the VMs that run");

struct Entry {
    name: String,
    state: State,
    pid: Option<u32>,
    ssh_port: Option<u16>,
    configured: bool,
    /// How its last QEMU ended, if the VM is not running.
    end: Option<End>,
    /// The VM's errors in the configuration.
    error: Option<Value>,
}

struct Entries(Vec<Entry>);

/// Only the names, for scripts and for completion.
pub(super) struct Names(pub(super) Vec<String>);

/// Reports the VMs, and then the errors of those that are broken.
fn run(args: &Args, tell: &mut dyn FnMut(Outcome)) {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => return tell(Err(error)),
    };
    let problems = config.all_problems(Vec::new());
    let errors = (!problems.is_empty()).then(|| Error::config(&config.source, problems));
    match errors {
        Some(errors) if config.vms().is_empty() && !args.quiet => tell(Err(errors)),
        Some(errors) if !args.quiet && !args.json => {
            tell(list(args, &config));
            tell(Err(errors));
        }
        _ => tell(list(args, &config)),
    }
}

fn list(args: &Args, config: &Config) -> Outcome {
    if args.quiet && !args.running {
        return Ok(Box::new(Names(config.names())));
    }
    ps::check()?;
    files::check_access(config.runtime_dir())?;
    let log = args.log();
    // One look at the directory saves two for each VM that has never run.
    let with_a_dir = config.vms_with_a_dir()?;
    // And one look at all processes finds the VMs whose directories were removed.
    let lines = CommandLines::read()?;
    let names = config.names();
    let configured = names.iter().map(|name| {
        let paths = Paths::new(config.vm_dir(name));
        let look = look(&paths, with_a_dir.contains(name), &lines);
        if let Err(error) = &look {
            log.note(&format!("warning: {name}: {}", error.message()));
        }
        let vm = config.vm(name);
        let entry = Entry::new(name, vm.as_ref().ok().copied(), &paths, look, &log);
        let error = vm.err().map(|error| error.of_vm(name, true).json());
        Entry { configured: true, error, ..entry }
    });
    let others = with_a_dir.iter().filter(|name| !config.is_declared(name));
    let running = others.filter_map(|name| {
        let paths = Paths::new(config.vm_dir(name));
        let look = || process::look(&paths);
        runs_unconfigured(config, &paths).then(|| Entry::new(name, None, &paths, look(), &log))
    });
    let mut entries: Vec<Entry> = configured.chain(running).collect();
    if args.running {
        entries.retain(|entry| entry.state != State::Stopped);
    }
    if args.quiet {
        return Ok(Box::new(Names(entries.into_iter().map(|entry| entry.name).collect())));
    }
    Ok(Box::new(Entries(entries)))
}

/// Looks for a VM in its directory, if it has one, and more closely if a command line names it.
fn look(paths: &Paths, has_dir: bool, lines: &CommandLines) -> Result<Look, Error> {
    match if has_dir { process::look(paths)? } else { Look::Gone } {
        Look::Gone if lines.name(&paths.pid) => process::look_anywhere(paths),
        look => Ok(look),
    }
}

impl Entry {
    /// Makes an entry. `vm` is `None` for a VM that is no longer configured.
    fn new(
        name: &str,
        vm: Option<&Vm>,
        paths: &Paths,
        look: Result<Look, Error>,
        log: &Log,
    ) -> Self {
        let may_run = !matches!(look, Ok(Look::Gone));
        let instance = may_run.then(|| Instance::read(paths).ok()?).flatten();
        let recorded = instance.as_ref().map(|instance| instance.ssh_port);
        let (state, process) = match look {
            Ok(Look::Here(process)) => {
                (state(&process, instance.as_ref(), paths, log), Some(process))
            }
            Ok(Look::Gone) => (State::Stopped, None),
            Ok(Look::Unseen) => (State::Qemu("running".into()), None),
            Ok(Look::OtherHost(_)) | Err(_) => (State::Unknown, None),
        };
        Self {
            name: name.to_string(),
            end: if state == State::Stopped { End::of(paths) } else { None },
            state,
            pid: process.map(|process| process.pid),
            ssh_port: recorded.or(vm.and_then(|vm| vm.port.fixed())),
            configured: vm.is_some(),
            error: None,
        }
    }
}

/// The state of a VM, without asking QEMU unless the record says that the VM is starting: the
/// record may be wrong after a start on a full disk, or if a debugger started QEMU.
fn state(process: &Process, instance: Option<&Instance>, paths: &Paths, log: &Log) -> State {
    match State::at_a_glance(Some(process), instance) {
        State::Starting => match State::ask(paths, Some(process), instance, log) {
            Ok(State::Qemu(_)) => State::Qemu("running".into()),
            state => state.unwrap_or(State::Starting),
        },
        state => state,
    }
}

impl Entry {
    /// Whether the VM runs; `None` if that is unknown.
    fn is_running(&self) -> Option<bool> {
        (self.state != State::Unknown).then_some(self.state != State::Stopped)
    }
}

impl Report for Names {
    fn text(&self) -> String {
        self.0.iter().flat_map(|name| [name, "\n"]).collect()
    }

    fn json(&self) -> Value {
        self.0.iter().map(|name| Value::from(name.as_str())).collect()
    }
}

impl Report for Entries {
    fn text(&self) -> String {
        let names = self.0.iter().map(|entry| entry.name.len());
        let width = names.max().unwrap_or_default().max("NAME".len());
        let mut text =
            format!("{:width$}  {:12}  {:>8}  {:>8}\n", "NAME", "STATE", "PID", "SSH PORT");
        let number = |number: Option<u32>| number.map_or("-".into(), |n| n.to_string());
        for entry in &self.0 {
            let (pid, port) = (number(entry.pid), number(entry.ssh_port.map(u32::from)));
            let is_chosen = entry.configured && entry.error.is_none() && entry.ssh_port.is_none();
            let port = if is_chosen { "auto" } else { &port };
            let (name, state) = (&entry.name, entry.state.name());
            let note = match entry {
                Entry { configured: false, .. } => "  not configured any more",
                Entry { error: Some(_), .. } => "  has errors",
                _ => "",
            };
            let end = entry.end.as_ref().map(|end| format!("  {}", ended(end)));
            let end = end.unwrap_or_default();
            let _ = writeln!(text, "{name:width$}  {state:12}  {pid:>8}  {port:>8}{note}{end}");
        }
        text
    }

    fn json(&self) -> Value {
        let one = |entry: &Entry| {
            if let Some(error) = &entry.error {
                return error.clone();
            }
            let members = [
                ("name", Value::from(entry.name.as_str())),
                ("running", entry.is_running().into()),
                ("state", entry.state.name().into()),
                ("pid", entry.pid.into()),
                ("ssh", Value::object([("port", entry.ssh_port.into())])),
                ("configured", entry.configured.into()),
            ];
            Value::object(members.into_iter().chain(End::json_members(entry.end.as_ref())))
        };
        self.0.iter().map(one).collect()
    }

    fn exit_code(&self) -> u8 {
        let is_broken = self.0.iter().any(|entry| entry.error.is_some());
        if is_broken { Kind::Config.exit_code() } else { 0 }
    }
}
