//! `qqmgr ssh-config [VM...]`: prints what ssh itself, rsync, Ansible and editors need to know.

use super::target::{Target, port_of};
use super::vms::{Scope, select};
use crate::cli::{Args, Command, spec};
use crate::config::{Choices, Config, Resolver, SshPort};
use crate::error::Error;
use crate::json::Value;
use crate::report::{Outcome, Report};
use crate::ssh;
use crate::vm::Look;

pub(crate) static COMMAND: Command = Command {
    name: "ssh-config",
    about: "Print an ssh configuration for VMs",
    details: "Prints a `Host` block for each VM, by default for all, with absolute paths. Use\n\
              it by `Include` in ~/.ssh/config, or by `-F` of ssh, scp and others. A port\n\
              that is chosen at start is known while the VM runs.",
    operands: &[spec::VMS],
    examples: &["ssh-config dev >ssh.conf", "ssh-config 'web-*'"],
    ..Command::DEFAULT
};

pub(super) fn run(args: &Args) -> Outcome {
    let config = Config::load(args)?;
    let names = select(args, &config, Scope::Configured)?;
    let among_others = names.len() > 1;
    let entries = names.iter().map(|name| {
        let target = Target::new(&config, args, name, args.log());
        let entry = target.and_then(|target| entry(&target));
        entry.map_err(|error| error.of_vm(name, among_others))
    });
    let (texts, documents): (Vec<_>, Vec<_>) =
        entries.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok(Report::new(texts.join("\n"), Value::Array(documents)))
}

/// The text for ssh about a VM, which is a comment if there is no port, and its document.
fn entry(target: &Target) -> Result<(String, Value), Error> {
    let Target { config, name, paths, .. } = target;
    let vm = target.vm()?;
    let instance = Look::by_files(paths)?.running_record()?;
    let port = port_of(instance.as_ref(), Some(vm));
    let written = port.and_then(SshPort::fixed).map(|port| {
        let choices = Choices { ssh_port: Some(port), ..ssh::choices(instance.as_ref()) };
        let options = Resolver::new(config, vm, choices).ssh_options()?;
        ssh::config_text(&options, paths, port, config.dir())
    });
    let written = written.transpose()?;
    let document = Value::object([
        ("name", Value::from(name)),
        ("port", port.and_then(SshPort::fixed).into()),
        ("config", written.as_deref().into()),
    ]);
    let text = written.unwrap_or_else(|| match port {
        Some(SshPort::None) => format!("# The VM {name} has no ssh.\n"),
        _ => format!("# The port of the VM {name} is chosen at its start.\n"),
    });
    Ok((text, document))
}
