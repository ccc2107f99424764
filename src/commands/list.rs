//! `qqmgr list`: looks at processes and asks no QEMU, so that a thousand VMs list at once.

use crate::cli::{Args, Command};
use crate::config::Config;
use crate::config::model::Vm;
use crate::error::Error;
use crate::json::Value;
use crate::report::Report;
use crate::vm::state::State;
use crate::vm::{Instance, Paths, process};
use std::fmt::Write as _;

pub(crate) static COMMAND: Command = Command {
    name: "list",
    about: "List the configured VMs",
    details: "A live VM is `running` here whatever its guest does; `status` asks QEMU.",
    operands: &[],
    flags: &[],
    failure_code: None,
    run,
};

struct Entry {
    name: String,
    state: State,
    pid: Option<u32>,
    ssh_port: u16,
}

struct Entries(Vec<Entry>);

fn run(args: &Args) -> Result<Box<dyn Report>, Error> {
    let config = Config::load(args)?;
    let entries = config.vms().iter().map(|vm| Entry::new(&config, vm)).collect();
    Ok(Box::new(Entries(entries)))
}

impl Entry {
    fn new(config: &Config, vm: &Vm) -> Self {
        let paths = Paths::new(config.vm_dir(vm));
        let process = process::find(&paths);
        let instance = process.as_ref().and_then(|_| Instance::read(&paths));
        Self {
            name: vm.name.clone(),
            state: State::at_a_glance(process.as_ref(), instance.as_ref()),
            pid: process.map(|process| process.pid),
            ssh_port: instance.map_or(vm.port.get(), |instance| instance.ssh_port),
        }
    }
}

impl Report for Entries {
    fn text(&self) -> String {
        let names = self.0.iter().map(|entry| entry.name.len());
        let width = names.max().unwrap_or_default().max("NAME".len());
        let mut text =
            format!("{:width$}  {:12}  {:>8}  {:>8}\n", "NAME", "STATE", "PID", "SSH PORT");
        for entry in &self.0 {
            let pid = entry.pid.map_or("-".into(), |pid| pid.to_string());
            let state = entry.state.name();
            let _ = writeln!(
                text,
                "{:width$}  {state:12}  {pid:>8}  {:>8}",
                entry.name, entry.ssh_port
            );
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
            ])
        };
        self.0.iter().map(one).collect()
    }
}
