//! `qqmgr ssh-config [VM...]`: prints what ssh itself, rsync, Ansible and editors need to know.

use super::target::{Target, port_of};
use super::vms::{Scope, select};
use crate::cli::{Args, Command, Group, spec};
use crate::config::Config;
use crate::config::choices::Choices;
use crate::config::resolve::Resolver;
use crate::config::values::SshPort;
use crate::error::Error;
use crate::json::Value;
use crate::report::{Outcome, Report};
use crate::ssh;
use crate::vm::Look;

pub(crate) static COMMAND: Command = Command {
    name: "ssh-config",
    group: Group::Reach,
    about: "Print an ssh configuration for VMs",
    details: "For all VMs, or for these, to be used by `Include` in ~/.ssh/config, or by `-F`\n\
              of ssh, scp and others: a `Host` for each VM, all paths absolute. A port that\n\
              is chosen at start is known while the VM runs.",
    operands: &[spec::VMS],
    examples: &["ssh-config dev >ssh.conf", "ssh-config 'web-*'"],
    ..Command::DEFAULT
};

struct Entry {
    name: String,
    port: Option<u16>,
    /// The text for ssh; `None` if there is no port.
    config: Option<String>,
    /// Whether the guest has no ssh.
    without_ssh: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let config = Config::load(args)?;
    let names = select(args, &config, Scope::Configured)?;
    let among_others = names.len() > 1;
    let entries = names.iter().map(|name| {
        let target = Target::new(&config, args, name, args.log());
        let entry = target.and_then(|target| Entry::new(&target));
        entry.map_err(|error| error.of_vm(name, among_others))
    });
    Ok(report(&entries.collect::<Result<Vec<Entry>, Error>>()?))
}

impl Entry {
    fn new(target: &Target) -> Result<Self, Error> {
        let Target { config, name, paths, .. } = target;
        let vm = target.vm()?;
        let instance = Look::by_files(paths)?.running_record()?;
        let choices = ssh::choices(instance.as_ref());
        let port = port_of(instance.as_ref(), Some(vm));
        let without_ssh = port == Some(SshPort::None);
        let port = port.and_then(SshPort::fixed);
        let config = port.map(|port| {
            let choices = Choices { ssh_port: Some(port), ..choices };
            let options = Resolver::new(config, vm, &choices).ssh_options()?;
            ssh::config_text(&options, paths, port, config.dir())
        });
        Ok(Self { name: name.clone(), port, config: config.transpose()?, without_ssh })
    }
}

fn report(entries: &[Entry]) -> Report {
    let text = |entry: &Entry| match &entry.config {
        Some(config) => config.clone(),
        None if entry.without_ssh => format!("# The VM {} has no ssh.\n", entry.name),
        None => format!("# The port of the VM {} is chosen at its start.\n", entry.name),
    };
    let json = |entry: &Entry| {
        Value::object([
            ("name", Value::from(&entry.name)),
            ("port", entry.port.into()),
            ("config", entry.config.as_deref().into()),
        ])
    };
    let text = entries.iter().map(text).collect::<Vec<_>>().join("\n");
    Report::new(text, entries.iter().map(json).collect())
}
