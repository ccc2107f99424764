//! `qqmgr check`: everything that is wrong or doubtful in the configuration and around it, found
//! without starting or changing anything. The rules are in [`files`], [`images`], [`keys`],
//! [`machine`] and [`network`].

mod files;
mod findings;
mod images;
mod keys;
mod machine;
mod network;
mod subject;

use super::vms::matching;
use crate::cli::spec;
use crate::cli::{Args, Command};
use crate::config::Config;
use crate::config::scope::Choices;
use crate::error::{Error, Located};
use crate::report::Outcome;
use crate::source::Problem;
use crate::vm::kvm;
use findings::{Findings, Severity};
use std::collections::BTreeSet;
use std::sync::Arc;
use subject::Subject;

pub(crate) static COMMAND: Command = Command {
    name: "check",
    about: "Find what is wrong, without starting anything",
    details: "Looks at the whole configuration, at the files that QEMU would open, at ports\n\
              and at KVM. Exits with 5 if there is an error, else with 0.",
    operands: &[spec::VMS],
    ..Command::DEFAULT
};

pub(super) fn run(args: &Args) -> Outcome {
    let (config, problems) = match Config::load_what_is_right(args).map_err(Error::into_located) {
        Ok(loaded) => loaded,
        Err(Ok(located)) => return Ok(Findings::of_file(located).report()),
        Err(Err(error)) => return Err(error),
    };
    if !problems.is_empty() || config.vms().is_empty() && !config.broken().is_empty() {
        let problems = config.all_problems(problems);
        return Ok(all_errors(&config, problems).report());
    }
    let chosen = chosen(args, &config)?;
    let is_chosen = |name: &str| chosen.contains(name);
    let mut findings = Findings::new(&config.source, chosen.len());
    // A problem with a program that no VM names is reported at the first VM.
    let first = config.vms().iter().find(|vm| is_chosen(&vm.name)).map(|vm| vm.span);
    let mut subjects = Vec::new();
    for broken in config.broken().iter().filter(|vm| is_chosen(&vm.name)) {
        findings.add_broken(&broken.name, &broken.problems);
    }
    for vm in config.vms() {
        let (subject, problems) = Subject::new(&config, vm, first.unwrap_or(vm.span));
        subjects.extend(subject);
        if is_chosen(&vm.name) {
            findings.add(Severity::Error, &vm.name, problems);
        }
    }
    let made = images::paths(&config);
    for subject in subjects.iter().filter(|subject| is_chosen(&subject.vm.name)) {
        let (vm, arguments) = (&subject.vm.name, &subject.arguments);
        findings.add(Severity::Error, vm, files::missing(&config, arguments, &made));
        images::add(&config, subject, &mut findings);
        findings.add(Severity::Error, vm, machine::kvm(arguments, &kvm::usable));
        findings.add(Severity::Warning, vm, subject.warnings.clone());
        findings.add(Severity::Warning, vm, machine::serial(arguments));
        findings.add(Severity::Warning, vm, network::problems(&config.source, subject));
        let choices = Choices { ssh_port: subject.ssh_port, ..Choices::default() };
        findings.add(Severity::Warning, vm, keys::problems(&config, subject.vm, &choices));
    }
    if args.operands.is_empty() {
        images::add_unused(&config, &subjects, &mut findings);
    }
    // A VM that was not named may conflict with one that was.
    let shared = [files::shared(&config, &subjects), network::shared(&subjects)];
    let shared = shared.into_iter().flatten();
    let shared = shared.filter(|(vms, _)| vms.iter().any(|name| is_chosen(name)));
    shared.for_each(|one| findings.add_shared(one));
    Ok(findings.sorted().report())
}

/// The findings of the whole file, if some of them make it unusable.
fn all_errors(config: &Config, problems: Vec<Problem>) -> Findings {
    let source = Arc::clone(&config.source);
    let mut findings = Findings::of_file(Located { source, problems });
    for vm in config.vms() {
        let (_, problems) = Subject::new(config, vm, vm.span);
        findings.add(Severity::Error, &vm.name, problems);
    }
    findings.sorted()
}

/// The names of the VMs to look at.
fn chosen(args: &Args, config: &Config) -> Result<BTreeSet<String>, Error> {
    let mut chosen = BTreeSet::new();
    for operand in &args.operands {
        for name in matching(operand, config.names().into_iter())? {
            if !config.is_declared(&name) {
                config.vm(&name)?;
            }
            chosen.insert(name);
        }
    }
    Ok(if args.operands.is_empty() { config.names().into_iter().collect() } else { chosen })
}
