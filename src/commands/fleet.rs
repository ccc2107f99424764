//! Several VMs at once: which ones are meant, and the same work on each, in parallel.

use super::target::{Target, unconfigured};
use crate::cli::{Args, Command, Outcome, usage_of};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::glob;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

/// So many VMs are worked on at the same time: enough that waiting costs nothing, few enough that
/// a thousand QEMUs are not started in the same second.
const PARALLEL_MAX: usize = 32;

/// Which VMs a pattern or `--all` may mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Configured,
    /// Also those that run and are not configured any more.
    Running,
}

/// What is done with each VM.
type Work = fn(&Target) -> Outcome;

/// Does `work` on the VMs that `args` name, and tells each outcome as it comes. One that fails
/// keeps no other from being worked on.
pub(super) fn each(
    command: &Command,
    args: &Args,
    known: Known,
    tell: &mut dyn FnMut(Outcome),
    work: Work,
) {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => return tell(Err(error)),
    };
    match select(command, args, &config, known, tell) {
        Ok(names) => Fleet { config: &config, args, work, names }.run(tell),
        Err(error) => tell(Err(error)),
    }
}

/// The names, each once, in the order in which they were given, those of a pattern in that of the
/// configuration. A pattern that matches nothing is told.
fn select(
    command: &Command,
    args: &Args,
    config: &Config,
    known: Known,
    tell: &mut dyn FnMut(Outcome),
) -> Result<Vec<String>, Error> {
    if args.all != args.operands.is_empty() {
        let name = command.name;
        return Err(usage_of(
            command,
            if args.all {
                format!("`{name}` takes VMs or `--all`, not both")
            } else {
                format!("`{name}` needs a VM, or `--all`")
            },
        ));
    }
    let all = || {
        let others = (known == Known::Running).then(|| unconfigured(config));
        let configured = config.vms().iter().map(|vm| vm.name.clone());
        configured.chain(others.into_iter().flatten())
    };
    if args.all {
        return Ok(all().collect());
    }
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for operand in &args.operands {
        match meant(operand, all()) {
            Ok(found) => names.extend(found.into_iter().filter(|name| seen.insert(name.clone()))),
            Err(error) => tell(Err(error)),
        }
    }
    Ok(names)
}

/// The name that the operand is, or those of `all` that match it, if it is a pattern.
pub(super) fn meant(
    operand: &OsStr,
    all: impl Iterator<Item = String>,
) -> Result<Vec<String>, Error> {
    let operand = operand.to_string_lossy();
    if !glob::is_pattern(&operand) {
        return Ok(vec![operand.to_string()]);
    }
    let found: Vec<String> = all.filter(|name| glob::matches(&operand, name)).collect();
    if found.is_empty() {
        let error = Error::new(Kind::UnknownVm, format!("no VM matches `{operand}`"));
        return Err(error.hint("`qqmgr list` shows the VMs that there are"));
    }
    Ok(found)
}

struct Fleet<'a> {
    config: &'a Config,
    args: &'a Args,
    work: Work,
    names: Vec<String>,
}

impl Fleet<'_> {
    fn run(&self, tell: &mut dyn FnMut(Outcome)) {
        let (next, (sender, receiver)) = (AtomicUsize::new(0), mpsc::channel());
        if self.names.len() == 1 {
            return tell(self.one(&self.names[0]));
        }
        thread::scope(|scope| {
            let workers = (0..self.names.len().min(PARALLEL_MAX)).map(|_| {
                let (sender, next) = (sender.clone(), &next);
                thread::Builder::new().spawn_scoped(scope, move || self.worker(next, &sender))
            });
            // Where the system has no more threads for us, fewer do the same, or this one.
            if workers.take_while(Result::is_ok).count() == 0 {
                self.worker(&next, &sender);
            }
            drop(sender);
            receiver.iter().for_each(tell);
        });
    }

    fn worker(&self, next: &AtomicUsize, outcomes: &Sender<Outcome>) {
        while let Some(name) = self.names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let _ = outcomes.send(self.one(name));
        }
    }

    fn one(&self, name: &str) -> Outcome {
        let among_others = self.names.len() > 1;
        let log = self.args.log();
        let log = if among_others { log.of_vm(name) } else { log };
        Target::new(self.config, self.args, name, log)
            .and_then(|target| (self.work)(&target))
            .map_err(|error| error.of_vm(name, among_others))
    }
}
