//! `qqmgr list`: looks at processes and asks no QEMU, so that a thousand VMs list at once.

use super::runs_unconfigured;
use crate::cli::{Args, Command};
use crate::config::Config;
use crate::config::model::SshPort;
use crate::error::Error;
use crate::files;
use crate::json::Value;
use crate::report::Report;
use crate::vm::state::State;
use crate::vm::{Instance, Paths, process};
use std::fmt::Write as _;

pub(crate) static COMMAND: Command = Command {
    name: "list",
    about: "List the VMs",
    details: "Those of the configuration in its order, then those that run without being in it any\n\
              more. A live VM is `running` here whatever its guest does; `status` asks QEMU.",
    operands: &[],
    flags: &[],
    failure_code: None,
    run,
};

struct Entry {
    name: String,
    state: State,
    pid: Option<u32>,
    ssh_port: Option<u16>,
    configured: bool,
}

struct Entries(Vec<Entry>);

fn run(args: &Args) -> Result<Box<dyn Report>, Error> {
    let config = Config::load(args)?;
    files::check_access(config.runtime_dir())?;
    // One look at the directory saves two for each VM that never ran.
    let with_a_dir = config.vms_with_a_dir();
    let configured = config.vms().iter().map(|vm| {
        let paths = with_a_dir.get(&vm.name).map(|name| Paths::new(config.vm_dir(name)));
        Entry::new(&vm.name, Some(vm.port), paths.as_ref())
    });
    let others = with_a_dir.iter().filter(|name| config.find_vm(name).is_none());
    let running = others.filter_map(|name| {
        let paths = Paths::new(config.vm_dir(name));
        runs_unconfigured(&config, &paths).then(|| Entry::new(name, None, Some(&paths)))
    });
    Ok(Box::new(Entries(configured.chain(running).collect())))
}

impl Entry {
    /// `configured_port` is `None` for a VM that the configuration has no more, `paths` for one
    /// that has no directory.
    fn new(name: &str, configured_port: Option<SshPort>, paths: Option<&Paths>) -> Self {
        let process = paths.and_then(process::find);
        let instance = process.as_ref().and(paths).and_then(Instance::read);
        Self {
            name: name.to_string(),
            state: State::at_a_glance(process.as_ref(), instance.as_ref()),
            pid: process.map(|process| process.pid),
            ssh_port: instance
                .map(|instance| instance.ssh_port)
                .or(configured_port.and_then(SshPort::fixed)),
            configured: configured_port.is_some(),
        }
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
            let port = if entry.configured && entry.ssh_port.is_none() { "auto" } else { &port };
            let (name, state) = (&entry.name, entry.state.name());
            let note = if entry.configured { "" } else { "  not configured any more" };
            let _ = writeln!(text, "{name:width$}  {state:12}  {pid:>8}  {port:>8}{note}");
        }
        text
    }

    fn json(&self) -> Value {
        let one = |entry: &Entry| {
            Value::object([
                ("name", Value::from(entry.name.as_str())),
                ("running", entry.pid.is_some().into()),
                ("state", entry.state.name().into()),
                ("pid", entry.pid.into()),
                ("ssh", Value::object([("port", entry.ssh_port.into())])),
                ("configured", entry.configured.into()),
            ])
        };
        self.0.iter().map(one).collect()
    }
}
