//! `qqmgr list`: looks at processes and asks no QEMU, so that a thousand VMs list at once.

use super::target::runs_unconfigured;
use crate::answers::Answers;
use crate::cli::flag::Flag;
use crate::cli::{Args, Command, spec};
use crate::config::{Config, SshPort};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::log::Log;
use crate::report::Align::{Left, Right};
use crate::report::{Outcome, Report, Table};
use crate::system::files;
use crate::vm::end::End;
use crate::vm::everywhere::{Found, running};
use crate::vm::search::{PidFiles, check_visible};
use crate::vm::{Look, Paths, State};
use std::path::PathBuf;

pub(crate) static COMMAND: Command = Command {
    name: "list",
    about: "List the VMs",
    details: "First the VMs of the configuration in its order, then running VMs that are no\n\
              longer in it. `-q` alone shows only the configured ones. A VM whose QEMU runs\n\
              is `running`, whatever its guest does; `status` asks QEMU.",
    flags: &[&QUIET, &RUNNING, &spec::EVERYWHERE],
    examples: &["list", "list --running -q", "list --everywhere"],
    ..Command::DEFAULT
};

pub(super) static QUIET: Flag =
    Flag::switch("quiet", "Print only the names, one a line").short('q');
static RUNNING: Flag = Flag::switch("running", "Show only running VMs");

struct Entry {
    name: String,
    state: State,
    pid: Option<u32>,
    ssh_port: Option<SshPort>,
    configured: bool,
    /// The file of its configuration, with `--everywhere`.
    config_file: Option<PathBuf>,
    /// How its last QEMU ended, if the VM is not running.
    end: Option<End>,
    /// The VM's errors in the configuration.
    error: Option<Value>,
}

/// Reports the VMs, and then the errors of broken VMs.
pub(super) fn run(args: &Args, answers: &mut Answers) -> Result<(), Error> {
    if args.has(&spec::EVERYWHERE) {
        let entries = running()?.into_iter().map(|Found { paths, look, config_file }| Entry {
            config_file: Some(config_file),
            ..Entry::new(&paths, None, look, &args.log())
        });
        answers.tell(Ok(report(entries.collect(), args)));
        return Ok(());
    }
    let config = Config::load(args)?;
    let (problems, is_empty) = (config.all_problems(), config.vms.is_empty());
    let is_wrong = !problems.is_empty() && !args.has(&QUIET);
    let errors = is_wrong.then(|| Error::config(&config.source, problems));
    if errors.is_none() || !is_empty {
        answers.tell(list(args, config));
    }
    // In JSON, each VM has its own errors.
    if let Some(errors) = errors.filter(|_| is_empty || !args.json()) {
        answers.tell(Err(errors));
    }
    Ok(())
}

/// Takes the configuration, which is large when it has many VMs, to free it before the VMs are
/// looked at.
fn list(args: &Args, config: Config) -> Outcome {
    if args.has(&QUIET) && !args.has(&RUNNING) {
        return Ok(Report::names(config.names()));
    }
    check_visible()?;
    files::check_access(&config.runtime)?;
    let log = args.log();
    // One look at the directory saves two for each VM that has never run.
    let with_a_dir = config.vms_with_a_dir()?;
    // And one look at all processes finds the VMs whose directories were removed.
    let named = PidFiles::read()?;
    let others = with_a_dir.iter().filter(|name| !config.is_declared(name));
    let others: Vec<Entry> = others
        .filter(|name| runs_unconfigured(&config, name))
        .map(|name| Paths::new(config.vm_dir(name)))
        .map(|paths| Entry::new(&paths, None, Look::by_files(&paths), &log))
        .collect();
    let known = known(&config);
    drop(config);
    let configured = known.into_iter().map(|(dir, port, error)| {
        let paths = Paths::new(dir);
        let look = look(&paths, with_a_dir.contains(&paths.name), &named);
        Entry { configured: true, error, ..Entry::new(&paths, port, look, &log) }
    });
    Ok(report(configured.chain(others).collect(), args))
}

/// The VMs of the configuration, in its order: the directory of each, its ssh port, its errors.
fn known(config: &Config) -> Vec<(PathBuf, Option<SshPort>, Option<Value>)> {
    // In the same order, but without the VMs that have errors.
    let mut vms = config.vms.iter().peekable();
    let known = config.names().map(|name| {
        let vm = vms.next_if(|vm| vm.name == name).map_or_else(|| config.vm(name), Ok);
        let (dir, port) = (config.vm_dir(name), vm.as_ref().ok().map(|vm| vm.port));
        (dir, port, vm.err().map(|error| error.of_vm(name, true).json()))
    });
    known.collect()
}

/// Looks for a VM in its directory, if it has one, and more closely if a command line names it.
fn look(paths: &Paths, has_dir: bool, named: &PidFiles) -> Result<Look, Error> {
    let look = if has_dir { Look::by_files(paths)? } else { Look::nothing() };
    if look.place.is_gone() && named.have(&paths.pid) {
        return Look::everywhere(paths);
    }
    Ok(look)
}

impl Entry {
    /// Makes the entry of a VM, and warns if it could not be looked at. `port` is the configured
    /// one; `None` if the VM is not configured.
    fn new(paths: &Paths, port: Option<SshPort>, look: Result<Look, Error>, log: &Log) -> Self {
        let warn = |error: &Error| log.warning(&format!("{}: {}", paths.name, error.message()));
        let look = look.inspect_err(warn).ok();
        let state = look.as_ref().map_or(State::Unknown, |look| State::at_a_glance(look, paths));
        let process = look.as_ref().and_then(|look| look.process().ok().flatten());
        let pid = process.map(|process| process.pid);
        let record = look.and_then(|look| look.record).filter(|_| state != State::Stopped);
        Self {
            name: paths.name.clone(),
            end: if state == State::Stopped { End::of(paths) } else { None },
            state,
            pid,
            ssh_port: record.map(|record| SshPort::of_start(record.ssh_port)).or(port),
            configured: false,
            config_file: None,
            error: None,
        }
    }

    fn json(&self) -> Value {
        if let Some(error) = &self.error {
            return error.clone();
        }
        let is_running = (self.state != State::Unknown).then_some(self.state != State::Stopped);
        let members = [
            ("name", Value::from(&self.name)),
            ("running", is_running.into()),
            ("state", self.state.name().into()),
            ("pid", self.pid.into()),
            ("ssh", Value::object([("port", self.ssh_port.and_then(SshPort::fixed).into())])),
            ("configured", self.config_file.is_none().then_some(self.configured).into()),
        ];
        let file = self.config_file.iter().map(|file| ("config_file", file.into()));
        let ended = End::json_members(self.end.as_ref());
        Value::object(members.into_iter().chain(ended).chain(file))
    }

    fn cells(&self) -> Vec<String> {
        let pid = self.pid.map_or("-".into(), |pid| pid.to_string());
        let port = self.ssh_port.map_or("-".into(), |port| port.to_string());
        let note = match self {
            Self { config_file: Some(file), .. } => Some(file.display().to_string()),
            Self { configured: false, .. } => Some("not configured any more".into()),
            Self { error: Some(_), .. } => Some("has errors".into()),
            _ => None,
        };
        let notes = note.into_iter().chain(self.end.as_ref().map(End::to_string));
        let notes = notes.collect::<Vec<_>>().join("  ");
        vec![self.name.clone(), self.state.name().to_string(), pid, port, notes]
    }
}

/// The column of the state.
const STATE: usize = 1;

/// Lists the VMs that are wanted: their names, or else the text or the JSON. Both at once, for a
/// thousand VMs, would need more memory than all the rest of this command.
fn report(mut entries: Vec<Entry>, args: &Args) -> Report {
    if args.has(&RUNNING) {
        entries.retain(|entry| entry.state != State::Stopped);
    }
    if args.has(&QUIET) {
        return Report::names(entries.into_iter().map(|entry| entry.name));
    }
    let is_broken = entries.iter().any(|entry| entry.error.is_some());
    let exit_code = if is_broken { Kind::Config.exit_code() } else { 0 };
    if args.json() {
        let documents = entries.iter().map(Entry::json).collect();
        return Report::new("", documents).with_exit_code(exit_code);
    }
    let mut table = Table::new(&[
        ("NAME", Left, 0),
        ("STATE", Left, 12),
        ("PID", Right, 8),
        ("SSH PORT", Right, 8),
        (if args.has(&spec::EVERYWHERE) { "CONFIGURATION" } else { "" }, Left, 0),
    ]);
    for entry in entries {
        table.line(entry.cells(), entry.state.colour().map(|colour| (STATE, colour)));
    }
    table.report().with_exit_code(exit_code)
}
