//! The VMs that a command works on, and the same work on each of them, in parallel.

use super::logs::LOGS;
use super::target::{Target, check_name, runs_unconfigured};
use crate::answers::Answers;
use crate::cli::{Args, spec};
use crate::config::{Choices, Config, Resolver};
use crate::error::{Error, Kind};
use crate::progress::Progress;
use crate::report::{Outcome, Report};
use crate::text::on_a_line;
use crate::vm::everywhere::{Found, running};
use crate::vm::{Look, Paths};
use crate::{glob, linux};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// How many VMs are worked on at the same time: many, since most of the work is waiting, but not so
/// many that a thousand QEMUs start in the same second. A `wait` watches all VMs at once, so that
/// an event of one VM is reported without waiting for the others.
const PARALLEL_MAX: usize = 32;

/// How many files the work on one VM has open at a time: its lock, a socket, QEMU's files, pipes.
const FILES_OF_ONE: usize = 12;

/// How often [`in_parallel`] reports that there is no result.
const SILENCE: Duration = Duration::from_secs(1);

/// The VMs that a pattern or `--all` can match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Configured,
    /// The configured VMs, and those that run but are no longer configured.
    All,
    /// Only the VMs that run, configured or not.
    Running,
}

/// Does `work` on the VM of that name.
pub(super) fn one<T>(
    args: &Args,
    name: &str,
    work: impl FnOnce(&Target) -> Result<T, Error>,
) -> Result<T, Error> {
    let config = Config::load(args)?;
    let target = Target::new(&config, args, name, args.log());
    target.and_then(|target| work(&target)).map_err(|error| error.of_vm(name, false))
}

/// Does `work` on the VMs that `args` name, and reports each outcome as it comes. A person also
/// sees how many are still missing, and the remark. A failure on one VM does not stop the work on
/// the others. Returns the names of the VMs, each with its exit status. `at_once` works on all VMs
/// at the same time; otherwise, `--jobs` or the system sets the number.
pub(super) fn each(
    args: &Args,
    scope: Scope,
    at_once: Option<usize>,
    remark: &'static str,
    answers: &mut Answers,
    work: fn(&Target) -> Outcome,
) -> Result<Vec<(String, u8)>, Error> {
    let config = Config::load(args)?;
    let names = select(args, &config, scope)?;
    if are_several(&args.operands) {
        answers.begin_array();
    }
    if answers.refuse(wrong(args, &config, &names, scope)) {
        return Ok(Vec::new());
    }
    let several = names.len() > 1;
    let one = |name: &String| {
        let log = if several { args.log().of_vm(name) } else { args.log() };
        let target = Target::new(&config, args, name, log);
        target.and_then(|target| work(&target)).map_err(|error| error.of_vm(name, several))
    };
    let statuses = match names.as_slice() {
        [name] => vec![answers.tell_at(0, one(name))],
        names => at_the_same_time(names, args, at_once, remark, answers, one),
    };
    Ok(names.into_iter().zip(statuses).collect())
}

/// Does `work` on the running VMs of all configurations of this user, for `--everywhere`. Each is
/// known by the record of its start; its configuration is not read.
pub(super) fn everywhere(
    args: &Args,
    answers: &mut Answers,
    work: fn(&Target) -> Outcome,
) -> Result<(), Error> {
    if args.has(&LOGS) {
        let message = "`--logs` cannot be used with `--everywhere`: VMs may have the same name";
        return Err(Error::usage(message));
    }
    answers.begin_array();
    let work = |found: &Found| by_record(args, found, work);
    at_the_same_time(&running()?, args, None, "", answers, work);
    Ok(())
}

/// Does the work on one VM. The answer names the VM's configuration.
fn by_record(args: &Args, found: &Found, work: fn(&Target) -> Outcome) -> Outcome {
    let Found { paths, config_file, .. } = found;
    let (name, shown) = (paths.name.clone(), on_a_line(&config_file.to_string_lossy()));
    let log = args.log().of_vm(&format!("{shown}: {name}"));
    let runtime = paths.dir.parent().unwrap_or(&paths.dir).to_path_buf();
    let done = Config::unread(config_file.clone(), runtime).and_then(|config| {
        work(&Target { config: &config, args, name, paths: paths.clone(), log })
    });
    let named = |error: Error| error.after(&shown).after_reading("config_file", config_file);
    let report = done.map_err(|error| named(error).of_vm(&paths.name, true))?;
    let text = format!("{shown}: {}", report.text);
    Ok(Report { text, ..report }.with_member("config_file", config_file.into()))
}

/// Does `work` on each VM, as [`each`] does, and returns the exit status of each.
fn at_the_same_time<T: Sync>(
    vms: &[T],
    args: &Args,
    at_once: Option<usize>,
    remark: &'static str,
    answers: &mut Answers,
    work: impl Fn(&T) -> Outcome + Sync,
) -> Vec<u8> {
    let by_files = || linux::files_left().map_or(PARALLEL_MAX, |left| left / FILES_OF_ONE);
    let by_system = || by_files().clamp(1, PARALLEL_MAX);
    let at_once = at_once.or_else(|| args.value(&spec::JOBS)).unwrap_or_else(by_system);
    let log = args.log().with_remark(remark);
    let (mut progress, mut statuses) = (Progress::new(&log), vec![None; vms.len()]);
    in_parallel(vms, at_once, work, |news| {
        if let Some((at, outcome)) = news {
            log.end_progress();
            statuses[at] = Some(answers.tell_at(at, outcome));
        } else {
            let left = statuses.iter().filter(|status| status.is_none()).count();
            progress.show(&format!("{left} of {} VMs", vms.len()), String::new);
        }
    });
    statuses.into_iter().map(Option::unwrap_or_default).collect()
}

/// Does `work` on each item, on at most `at_once` of them at the same time. Passes the index and
/// the result of each to `news` as it comes, and `None` after each second without a result.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    work: impl Fn(&T) -> R + Sync,
    mut news: impl FnMut(Option<(usize, R)>),
) {
    let (next, (sender, results)) = (AtomicUsize::new(0), mpsc::channel());
    let worker = |sender: &Sender<_>| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            let _ = sender.send((at, work(item)));
        }
    };
    thread::scope(|scope| {
        let (worker, sender) = (&worker, sender);
        let workers = (0..items.len().min(at_once)).map(|_| {
            let sender = sender.clone();
            thread::Builder::new().spawn_scoped(scope, move || worker(&sender))
        });
        // If the system has no more threads, fewer workers do the work, or this thread does.
        if workers.take_while(Result::is_ok).count() == 0 {
            worker(&sender);
        }
        drop(sender);
        loop {
            match results.recv_timeout(SILENCE) {
                Ok(result) => news(Some(result)),
                Err(RecvTimeoutError::Timeout) => news(None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
}

/// Does `work` once, on all the VMs that `args` name. It gets only those that exist.
pub(super) fn together(
    args: &Args,
    scope: Scope,
    answers: &mut Answers,
    work: impl FnOnce(Vec<Target>, &mut Answers) -> Result<(), Error>,
) -> Result<(), Error> {
    let config = Config::load(args)?;
    let names = select(args, &config, scope)?;
    if answers.refuse(wrong(args, &config, &names, scope)) {
        return Ok(());
    }
    let mut targets = Vec::new();
    for name in &names {
        match Target::new(&config, args, name, args.log().of_vm(name)) {
            Ok(target) => targets.push(target),
            Err(error) => answers.tell(Err(error.of_vm(name, names.len() > 1))),
        }
    }
    work(targets, answers)
}

/// Whether the operands may stand for any number of things, so that `--json` prints an array.
pub(super) fn are_several(operands: &[OsString]) -> bool {
    match operands {
        [operand] => glob::is_pattern(&operand.to_string_lossy()),
        _ => true,
    }
}

/// Everything that is wrong with the names. After any error, no VM is touched.
fn wrong(args: &Args, config: &Config, names: &[String], scope: Scope) -> Vec<Error> {
    let choices = Choices { set: &args.all(&spec::SET), ..Choices::default() };
    let check = |name: &String| -> Result<(), Error> {
        let vm = config.find_vm(name);
        // A broken VM is reported in its turn, and the other VMs are still worked on.
        if vm.is_none() && config.is_declared(name) {
            return Ok(());
        }
        check_name(config, args, name)?;
        match vm {
            Some(vm) => Resolver::new(config, vm, choices).check_set(),
            None if scope == Scope::Configured => config.vm(name).map(|_| ()),
            None => Ok(()),
        }
    };
    let several = names.len() > 1;
    names.iter().filter_map(|name| Some(check(name).err()?.of_vm(name, several))).collect()
}

/// The names that the operands stand for, each once, in the order given. The matches of a pattern
/// are in the configuration's order. Without operands, all names. A pattern that matches nothing is
/// an error. Plain names are not looked up.
pub(super) fn select(args: &Args, config: &Config, scope: Scope) -> Result<Vec<String>, Error> {
    let is_pattern = |operand: &OsString| glob::is_pattern(&operand.to_string_lossy());
    let mut all = Vec::new();
    if args.operands.is_empty() || args.operands.iter().any(is_pattern) {
        let may_run = |name: &&str| {
            let look = Look::by_files(&Paths::new(config.vm_dir(name)));
            // A VM that cannot be looked at may run; the work on it reports why it cannot.
            !matches!(look, Ok(look) if look.place.is_gone())
        };
        let names = config.names().filter(|name| scope != Scope::Running || may_run(name));
        all.extend(names.map(str::to_string));
        if scope != Scope::Configured {
            let mut others = config.vms_with_a_dir()?;
            others.retain(|name| !config.is_declared(name) && runs_unconfigured(config, name));
            all.extend(others);
        }
    }
    if args.operands.is_empty() {
        return Ok(all);
    }
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for operand in &args.operands {
        let found = matching(operand, all.iter().cloned()).map_err(|error| match scope {
            Scope::Running => {
                let message = format!("no running VM matches `{}`", operand.display());
                let error = Error::new(Kind::NotRunning, message);
                error.hint("`qqmgr list --running` shows the running VMs")
            }
            Scope::Configured | Scope::All => error,
        })?;
        names.extend(found.into_iter().filter(|name| seen.insert(name.clone())));
    }
    Ok(names)
}

/// The name that the operand is, or the names of `all` that match if it is a pattern.
pub(super) fn matching(
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
        return Err(error.hint("`qqmgr list` shows all VMs"));
    }
    Ok(found)
}
