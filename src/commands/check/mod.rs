//! `qqmgr check`: everything that is wrong or doubtful in the configuration and around it, found
//! without starting or changing anything. The rules are in [`files`], [`images`], [`keys`],
//! [`machine`], [`network`] and [`sockets`].

mod files;
mod findings;
mod images;
mod keys;
mod machine;
mod network;
mod sockets;
mod subject;

use super::vms::matching;
use crate::cli::{Args, Command, spec};
use crate::config::{Choices, Config, Resolver};
use crate::error::Error;
use crate::linux::KVM_DEVICE;
use crate::report::Outcome;
use crate::source::Problem;
use crate::system::files::try_to_open;
use findings::{Findings, Severity};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use subject::Subject;

pub(crate) static COMMAND: Command = Command {
    name: "check",
    about: "Find what is wrong, without starting anything",
    details: "Looks at the whole configuration, at the files that QEMU would open, at ports\n\
              and at KVM. Exits with 5 if there is an error, else with 0.",
    operands: &[spec::VMS],
    flags: &[&spec::SET],
    examples: &["check", "check dev"],
    ..Command::DEFAULT
};

/// A rule about one VM.
type Rule = fn(&Subject) -> Vec<Problem>;

/// The rules about one VM alone, each with the severity of what it finds.
const RULES: &[(Severity, Rule)] = &[
    (Severity::Error, files::missing),
    (Severity::Error, |subject| {
        found(machine::kvm(&subject.arguments, &|| try_to_open(KVM_DEVICE.as_ref())))
    }),
    (Severity::Error, |subject| found(machine::display(&subject.arguments))),
    (Severity::Error, |subject| found(machine::second_gdb(subject))),
    (Severity::Warning, |subject| subject.warnings.clone()),
    (Severity::Warning, |subject| found(machine::serial(&subject.arguments))),
    (Severity::Warning, network::problems),
    (Severity::Warning, |subject| subject.resolver.unused_vars()),
    (Severity::Warning, keys::misspelt),
    (Severity::Warning, keys::problems),
    (Severity::Warning, keys::no_program),
];

fn found(problem: Option<Problem>) -> Vec<Problem> {
    problem.into_iter().collect()
}

pub(super) fn run(args: &Args) -> Outcome {
    examine(Config::load_what_is_right(args), &args.operands, &args.all(&spec::SET))
}

/// Checks one VM of a file.
pub(super) fn of_vm(file: &Path, name: &str) -> Outcome {
    examine(Config::load_silently(Some(file)), &[name.into()], &[])
}

/// Checks the VMs that the operands name, or all.
fn examine(
    loaded: Result<Config, Error>,
    operands: &[OsString],
    set: &[(String, String)],
) -> Outcome {
    let config = match loaded.map_err(Error::into_located) {
        Ok(loaded) => loaded,
        Err(Ok(located)) => return Ok(Findings::of_file(located).report()),
        Err(Err(error)) => return Err(error),
    };
    let chosen = chosen(operands, &config)?;
    let is_chosen = |name: &str| chosen.contains(name);
    for one in set.chunks(1) {
        let choices = Choices { set: one, ..Choices::default() };
        let vms = config.vms.iter().filter(|vm| is_chosen(&vm.name));
        let mut checked = vms.map(|vm| Resolver::new(&config, vm, choices).check_set());
        let first = checked.next().unwrap_or(Ok(()));
        // A name that is set is a variable of at least one of the VMs.
        if first.is_err() && checked.all(|checked| checked.is_err()) {
            first?;
        }
    }
    let mut findings = Findings::new(&config.source, chosen.len());
    findings.add_named(Severity::Error, &[], config.shared.iter().cloned());
    // A problem with a program that no VM names is reported at the first VM.
    let first = config.vms.iter().find(|vm| is_chosen(&vm.name)).map(|vm| vm.span);
    let mut subjects = Vec::new();
    for broken in config.broken.iter().filter(|vm| is_chosen(&vm.name)) {
        findings.add_named(Severity::Error, &[&broken.name], broken.problems.iter().cloned());
    }
    for vm in &config.vms {
        let subject = Subject::new(&config, vm, set, first.unwrap_or(vm.span));
        if is_chosen(&vm.name) {
            findings.add(Severity::Error, &vm.name, subject.resolver.problems.sorted());
        }
        subjects.extend(Some(subject).filter(|subject| subject.is_whole));
    }
    for subject in subjects.iter().filter(|subject| is_chosen(&subject.vm.name)) {
        images::add(subject, &mut findings);
        for (severity, rule) in RULES {
            findings.add(*severity, &subject.vm.name, rule(subject));
        }
        for (severity, problem) in sockets::unserved(subject, &subjects) {
            findings.add(severity, &subject.vm.name, [problem]);
        }
    }
    // A mistake in `[img]` is among those of the whole file.
    if operands.is_empty() && config.shared.is_empty() {
        images::add_unused(&config, &subjects, &mut findings);
    }
    // A VM that was not named may conflict with one that was.
    let shared = [files::shared(&config, &subjects), network::shared(&subjects)];
    for (vms, problem) in shared.into_iter().flatten() {
        if vms.iter().any(|name| is_chosen(name)) {
            findings.add_named(Severity::Warning, &vms, [problem]);
        }
    }
    Ok(findings.sorted().report())
}

/// The names of the VMs to look at.
fn chosen(operands: &[OsString], config: &Config) -> Result<BTreeSet<String>, Error> {
    let mut chosen = BTreeSet::new();
    for operand in operands {
        for name in matching(operand, config.names().map(str::to_string))? {
            if !config.is_declared(&name) {
                config.vm(&name)?;
            }
            chosen.insert(name);
        }
    }
    Ok(if operands.is_empty() { config.names().map(str::to_string).collect() } else { chosen })
}
