//! `qqmgr cmdline VM`

use super::helpers;
use super::images::make_reachable;
use super::start::changes::options;
use super::start::plan::{StartOptions, check_arguments, injected, likely_port, own_words};
use super::start::{ARGS, plan};
use super::target::Target;
use crate::cli::{Command, spec};
use crate::config::{Choices, SshPort};
use crate::report::{Outcome, Report};
use crate::text::texts;
use crate::vm::Look;

pub(crate) static COMMAND: Command = Command {
    name: "cmdline",
    about: "Print the command line of QEMU",
    details: "One option a line, quoted for a shell; as JSON, an array of its words. A port\n\
              that is chosen at start is the one that the VM has, or most likely would have.",
    operands: &[spec::VM, ARGS],
    flags: &[&spec::SET, &spec::HELPER],
    check: |args| check_arguments(&args.words),
    examples: &["cmdline dev", "cmdline dev -- -s -S"],
    ..Command::DEFAULT
};

pub(super) fn run(target: &Target) -> Outcome {
    let config = target.config;
    let vm = target.vm()?;
    let running = Look::by_files(&target.paths)?.running_record()?;
    let chosen = running.and_then(|instance| instance.ssh_port);
    let chosen = chosen.filter(|_| vm.port == SshPort::Auto);
    let port = chosen.or_else(|| likely_port(config, vm));
    let start = StartOptions::of(target.args);
    let (mut argv, warnings) = own_words(target, vm, &start, port)?;
    if let Some(name) = target.args.value(&spec::HELPER) {
        let all = plan::helpers(target, vm, &start, port, &argv)?;
        let known: Vec<String> = all.iter().map(|helper| helper.name.clone()).collect();
        let helper = all.into_iter().find(|helper| helper.name == name);
        let helper = helper.ok_or_else(|| helpers::unknown(target, &name, &known))?;
        target.warn(&helper.warnings);
        argv = helper.argv;
    } else {
        target.warn(&warnings);
        argv.extend(injected(target, vm, &argv)?);
    }
    let choices = Choices { ssh_port: port, set: &start.set };
    make_reachable(config, vm, choices)?;
    let words = texts(&argv);
    Ok(Report::new(options(&words).join(" \\\n    ") + "\n", words.iter().collect()))
}
