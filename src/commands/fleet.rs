//! Work on several VMs: which ones are meant, and the same work on each, in parallel.

use super::start::plan::check_arguments;
use super::target::{Target, check_name, may_run, unconfigured};
use crate::cli::{Args, Command, Outcome, usage_of};
use crate::config::Config;
use crate::config::resolve::Resolver;
use crate::config::scope::Choices;
use crate::error::{Error, Kind};
use crate::glob;
use crate::linux;
use crate::vm::Paths;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How many VMs are worked on at the same time: enough that waiting costs nothing, few enough that
/// a thousand QEMUs are not started in the same second. A wait watches all of them at once, so that
/// an event of one VM is reported without waiting for the others.
const PARALLEL_MAX: usize = 32;

/// How many files the work on one VM has open at a time: its lock, a socket, QEMU's files, pipes.
const FILES_OF_ONE: usize = 12;

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The VMs that a pattern or `--all` can match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Configured,
    /// The configured VMs, and those that run but are no longer configured.
    All,
    /// Only the VMs that run, configured or not.
    Running,
}

/// The work that is done on each VM.
type Work = fn(&Target) -> Outcome;

/// Does `work` on the VMs that `args` name, and reports each outcome as it comes. A failure on one
/// VM does not stop the work on the others.
pub(super) fn each(
    command: &Command,
    args: &Args,
    known: Known,
    tell: &mut dyn FnMut(Outcome),
    work: Work,
) {
    match chosen(command, args, known) {
        Ok((config, names)) => {
            let stays = command.name == "start" && args.wait.is_some();
            let remark = if stays { "; Ctrl-C leaves the VMs running" } else { "" };
            Fleet { config: &config, args, work, names, remark }.run(tell);
        }
        Err(errors) => errors.into_iter().for_each(|error| tell(Err(error))),
    }
}

/// Does `work` once, on all the VMs that `args` name. It gets only those that exist.
pub(super) fn together(
    command: &Command,
    args: &Args,
    known: Known,
    tell: &mut dyn FnMut(Outcome),
    work: impl FnOnce(Vec<Target>, &mut dyn FnMut(Outcome)),
) {
    let (config, names) = match chosen(command, args, known) {
        Ok(chosen) => chosen,
        Err(errors) => return errors.into_iter().for_each(|error| tell(Err(error))),
    };
    let mut targets = Vec::new();
    for name in &names {
        match Target::new(&config, args, name, args.log().of_vm(name)) {
            Ok(target) => targets.push(target),
            Err(error) => tell(Err(error.of_vm(name, names.len() > 1))),
        }
    }
    work(targets, tell);
}

/// The VMs that are meant, or everything that is wrong with the operands: then no VM is touched.
fn chosen(
    command: &Command,
    args: &Args,
    known: Known,
) -> Result<(Config, Vec<String>), Vec<Error>> {
    if args.all != args.operands.is_empty() {
        let (takes, needs) = ("takes VMs or `--all`, not both", "needs a VM, or `--all`");
        let message = format!("`{}` {}", command.name, if args.all { takes } else { needs });
        return Err(vec![usage_of(command, message)]);
    }
    let alone = |error| vec![error];
    check_arguments(&args.words).map_err(alone)?;
    let config = Config::load(args).map_err(alone)?;
    let names = select(args, &config, known).map_err(alone)?;
    let choices = Choices { set: &args.set, ..Choices::default() };
    let check = |name: &String| match config.find_vm(name) {
        Some(vm) => Resolver::new(&config, vm, &choices).check_set(),
        None if known == Known::Configured => config.vm(name).map(|_| ()),
        None => Ok(()),
    };
    // A broken VM is reported when it is its turn: the others are worked on.
    let is_broken = |name: &str| config.find_vm(name).is_none() && config.is_declared(name);
    let wrong = names.iter().filter(|name| !is_broken(name)).filter_map(|name| {
        let checked = check_name(&config, args, name).and_then(|()| check(name));
        checked.err().map(|error| error.of_vm(name, names.len() > 1))
    });
    let wrong: Vec<Error> = wrong.collect();
    if wrong.is_empty() { Ok((config, names)) } else { Err(wrong) }
}

/// The names that the operands mean, each once, in the order given; the matches of a pattern are in
/// the configuration's order. Without operands, all names. A pattern that matches nothing is an
/// error. Plain names are not looked up.
pub(super) fn select(args: &Args, config: &Config, known: Known) -> Result<Vec<String>, Error> {
    let is_pattern = |operand: &OsString| glob::is_pattern(&operand.to_string_lossy());
    let needs_all = args.operands.is_empty() || args.operands.iter().any(is_pattern);
    let others =
        if needs_all && known != Known::Configured { unconfigured(config)? } else { Vec::new() };
    let all = || {
        let configured = config.names().into_iter();
        let is_running = |name: &String| may_run(&Paths::new(config.vm_dir(name)));
        let configured = configured.filter(move |name| known != Known::Running || is_running(name));
        configured.chain(others.iter().cloned())
    };
    if args.operands.is_empty() {
        return Ok(all().collect());
    }
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for operand in &args.operands {
        let found = meant(operand, all()).map_err(|error| match known {
            Known::Running => none_runs(operand),
            Known::Configured | Known::All => error,
        })?;
        names.extend(found.into_iter().filter(|name| seen.insert(name.clone())));
    }
    Ok(names)
}

/// The error of a pattern that matches no running VM.
fn none_runs(pattern: &OsStr) -> Error {
    let message = format!("no VM that runs matches `{}`", pattern.display());
    Error::new(Kind::NotRunning, message).hint("`qqmgr list --running` shows those that do")
}

/// The name that the operand is, or the names of `all` that match if it is a pattern.
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

/// How many VMs are worked on at the same time: fewer if few files may be open.
fn parallel_max() -> usize {
    let by_files = linux::files_left().map_or(PARALLEL_MAX, |left| left / FILES_OF_ONE);
    by_files.clamp(1, PARALLEL_MAX)
}

struct Fleet<'a> {
    config: &'a Config,
    args: &'a Args,
    work: Work,
    names: Vec<String>,
    /// The end of the progress line.
    remark: &'static str,
}

impl Fleet<'_> {
    fn run(&self, tell: &mut dyn FnMut(Outcome)) {
        let (next, (sender, receiver)) = (AtomicUsize::new(0), mpsc::channel());
        if self.names.len() == 1 {
            return tell(self.one(&self.names[0]));
        }
        thread::scope(|scope| {
            let waits = self.args.wait_for.is_some();
            let parallel = if waits { usize::MAX } else { parallel_max() };
            let workers = (0..self.names.len().min(parallel)).map(|_| {
                let (sender, next) = (sender.clone(), &next);
                thread::Builder::new().spawn_scoped(scope, move || self.worker(next, &sender))
            });
            // If the system has no more threads, fewer workers do the work, or this thread does.
            if workers.take_while(Result::is_ok).count() == 0 {
                self.worker(&next, &sender);
            }
            drop(sender);
            self.tell_all(&receiver, tell);
        });
    }

    /// Reports outcomes until all workers have ended. A person also sees how many are missing.
    fn tell_all(&self, outcomes: &Receiver<Outcome>, tell: &mut dyn FnMut(Outcome)) {
        let (begin, mut left) = (Instant::now(), self.names.len());
        let log = self.args.log().with_remark(self.remark);
        loop {
            match outcomes.recv_timeout(PROGRESS_INTERVAL) {
                Ok(outcome) => {
                    log.end_progress();
                    tell(outcome);
                    left -= 1;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = begin.elapsed().as_secs();
                    log.progress(|| {
                        format!("waiting for {left} of {} VMs ({seconds} s)", self.names.len())
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return log.end_progress(),
            }
        }
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
