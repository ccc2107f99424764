//! `qqmgr stop VM...`

use super::logs::LOGS;
use super::target::Target;
use super::{logs, on_guest};
use crate::cli::spec::{ALL, EVERYWHERE, JOBS, VMS};
use crate::cli::{Args, Command, Flag, refuse_if};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Outcome;
use crate::ssh::forget_guest;
use crate::system::files;
use crate::vm::ending::Ending;
use crate::vm::lock::{LOCK_WAIT, Lock, lock, lock_if_there};
use crate::vm::look::Place;
use crate::vm::shutdown::{Force, Method};
use crate::vm::users::Use;
use crate::vm::wait::pause;
use crate::vm::{Instance, Look, Process, clean, events, helpers, lock, look, shutdown};
use std::io;
use std::time::{Duration, Instant};

/// How long `--force` lets another command finish.
const FORCE_WAIT: Duration = Duration::from_secs(2);
/// How long a guard waits for the lock before it checks whether there is a VM.
const GUARD_LOCK_WAIT: Duration = Duration::from_secs(3);
/// How long a guard pauses between tries. A problem such as a full disk may last for hours.
const GUARD_PAUSE: Duration = Duration::from_secs(1);

pub(crate) static COMMAND: Command = Command {
    name: "stop",
    about: "Power VMs off, by force if need be",
    details: "Presses the guest's power button. If the guest does not power off in time, QEMU\n\
              gets SIGTERM, which closes its images cleanly, and at last SIGKILL. For a VM\n\
              that is not running, removes what a crash left, and exits with 0.",
    operands: &[VMS],
    flags: &[&ALL, &EVERYWHERE, &TIMEOUT, &FORCE, &NO_KILL, &JOBS, &LOGS, &UNUSED, &AT_EOF],
    check,
    examples: &["stop dev", "stop --all --timeout 60", "stop dev --force"],
    ..Command::DEFAULT
};

pub(super) static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Time to power off (default 20, or as configured)");
pub(super) static FORCE: Flag = Flag::switch("force", "End QEMU at once, without asking the guest");
pub(super) static NO_KILL: Flag =
    Flag::switch("no-kill", "Leave QEMU running when the guest does not power off");
static UNUSED: Flag = Flag::switch("unused", "Only what `run` started and no `run` uses any more");
static AT_EOF: Flag = Flag::switch("at-eof", "Wait for the end of standard input first");

/// The message of `--at-eof` before the wait.
pub(super) const WAITS_FOR_EOF: &str = "waiting for the end of standard input";

/// A stop of one VM, and what came of it.
pub(super) struct Stop<'a> {
    target: &'a Target<'a>,
    /// The command that other commands see as the holder of the lock.
    command: &'a Command,
    force: Force,
    begin: Instant,
    /// The VM's lock, if it could be taken.
    pub(super) lock: Option<Lock>,
    pid: Option<u32>,
    method: Method,
    ending: Ending,
    took: Duration,
}

/// Refuses two flags that contradict each other.
pub(super) fn check(args: &Args) -> Result<(), Error> {
    let both = args.has(&FORCE) && args.has(&NO_KILL);
    refuse_if(&[(both, "`--force` and `--no-kill` contradict each other")])
}

pub(super) fn run(target: &Target) -> Outcome {
    let is_guard = target.args.has(&AT_EOF);
    let mut stop = Stop::new(target, &COMMAND, force(target));
    logs::make_dir(target)?;
    if is_guard {
        target.log.note(WAITS_FOR_EOF);
        // A read error counts as the end of the input.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    }
    let stopped = match (target.args.has(&UNUSED), is_guard) {
        (true, true) => stop.as_guard(),
        (true, false) => stop.unused(Unused::Asked),
        // A directory that was removed is not made again.
        _ if files::is_missing(&target.paths.dir) => stop.unused(Unused::RunEnded),
        _ => stop.stop(),
    };
    let kept = logs::keep(target, &[]);
    stopped?;
    kept.map_err(|error| error.after(stop.text().trim_end()))?;
    Ok(target.report(stop.text(), stop.members()))
}

/// How hard to try, by the flags, or else by the VM's `stop_timeout`.
pub(super) fn force(target: &Target) -> Force {
    let (args, usual) = (target.args, usual_force(target));
    let (given, kill) = (args.value(&TIMEOUT), !args.has(&NO_KILL));
    let at_once = args.has(&FORCE) || usual.at_once && kill && given.is_none();
    Force { timeout: given.unwrap_or(usual.timeout), at_once, kill }
}

/// How hard to try without flags: as configured, or as recorded if the VM is no longer configured.
pub(super) fn usual_force(target: &Target) -> Force {
    let recorded = || Instance::read(&target.paths).ok().flatten()?.stop_timeout;
    let own = target.config.find_vm(&target.name).map(|vm| vm.stop_timeout).or_else(recorded);
    let timeout = own.map_or(shutdown::TIMEOUT, |own| Duration::from_secs(own.into()));
    Force { timeout, at_once: timeout.is_zero(), kill: true }
}

/// The reason why a VM may not be needed any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unused {
    /// `stop --unused` was called.
    Asked,
    /// The `run` that uses the VM is at its end.
    RunEnded,
    /// The `run` was killed, maybe in the middle of the start.
    RunKilled,
}

impl<'a> Stop<'a> {
    pub(super) fn new(target: &'a Target<'a>, command: &'a Command, force: Force) -> Self {
        let (begin, took, method, ending) =
            (Instant::now(), Duration::ZERO, Method::None, Ending::Unknown);
        Self { target, command, force, begin, lock: None, pid: None, method, ending, took }
    }

    /// Takes the lock, and stops the VM if it runs. With force, it works without the lock if
    /// necessary.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        let Target { args, paths, log, .. } = self.target;
        let by_force = args.has(&FORCE);
        self.lock = if by_force {
            self.lock_by_force()?
        } else {
            Some(lock(paths, self.command.name, LOCK_WAIT, log)?)
        };
        if self.lock.is_none() {
            return Ok(());
        }
        let look = Look::everywhere(paths)?;
        let process = match &look.place {
            Place::OtherHost(host) if by_force => {
                log.note(&format!("clearing the record of a start on the host `{host}`"));
                None
            }
            _ => look.process()?,
        };
        if let Some(process) = look::traced(process, log) {
            self.end(process)?;
        }
        self.clean()
    }

    /// Takes the lock of a VM that must end now, even if another command holds it. If several
    /// commands take turns, it waits for them. `None` if the VM has ended and the other command
    /// still holds the lock.
    fn lock_by_force(&mut self) -> Result<Option<Lock>, Error> {
        let (Target { paths, log, .. }, command) = (self.target, self.command.name);
        let hint = "no QEMU of the VM is left to end; wait for that command, or end it by its pid";
        let take = || {
            let lock = lock(paths, command, FORCE_WAIT, log);
            lock.map_err(|error| error.hint_for(Kind::TimedOut, hint))
        };
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let holder = lock::holder(&paths.lock);
            let error = match take() {
                Err(error) if error.kind == Kind::TimedOut => error,
                result => return result.map(Some),
            };
            if lock::holder(&paths.lock) != holder && Instant::now() < deadline {
                continue;
            }
            // A `start` that waits for this QEMU sees that it has ended, and releases the lock.
            if let Some(process) = look::traced(look::find(paths)?, log) {
                self.end(&process)?;
            } else if !helpers::end(paths, log)? {
                return Err(error);
            }
            return match take() {
                // A `start` whose helpers have ended may still have its QEMU.
                Err(error) if error.kind == Kind::TimedOut && self.was_running() => {
                    log.note(&format!("{holder} still has the VM's lock; its files stay"));
                    Ok(None)
                }
                result => result.map(Some),
            };
        }
    }

    /// Stops the VM of a `run` that was killed. No user could react to a failure, so it tries until
    /// the VM is gone or is needed again.
    fn as_guard(&mut self) -> Result<(), Error> {
        let Target { paths, log, .. } = self.target;
        while let Err(error) = self.unused(Unused::RunKilled) {
            if matches!(Look::everywhere(paths), Ok(look) if look.place.is_gone()) {
                return Err(error);
            }
            log.note(error.message());
            self.lock = None;
            pause(GUARD_PAUSE);
        }
        Ok(())
    }

    /// Takes the lock, if there is one, and stops a VM on demand that no `run` uses. Its directory
    /// may be about to be removed, so no file is made there.
    pub(super) fn unused(&mut self, why: Unused) -> Result<(), Error> {
        let Target { paths, log, .. } = self.target;
        let (by_run, was_killed) = (why != Unused::Asked, why == Unused::RunKilled);
        let lock_wait = if was_killed { GUARD_LOCK_WAIT } else { LOCK_WAIT };
        self.lock = lock_if_there(paths, self.command.name, lock_wait, log)?;
        // If the record is gone, the VM is the one that the `run` started.
        let on_demand = Instance::read(paths)?.map_or(by_run, |instance| instance.on_demand);
        if !on_demand || self.lock.as_ref().is_some_and(|lock| !Use::is_over(paths, lock)) {
            self.pid = look::find(paths)?.map(|process| process.pid);
            return Ok(());
        }
        let find = if was_killed { look::find_started } else { look::find_anywhere };
        while let Some(process) = look::traced(find(paths)?, log) {
            self.end(&process)?;
        }
        // Without the lock, the files may belong to another start.
        if self.lock.is_some() || !paths.dir.exists() { self.clean() } else { Ok(()) }
    }

    /// Lets the guest power off, and ends QEMU when that does not help.
    fn end(&mut self, process: &Process) -> Result<(), Error> {
        let (target, force) = (self.target, self.force);
        let Target { paths, log, .. } = target;
        let failed =
            if force.at_once { None } else { on_guest::stop_command(target, process, force) };
        self.pid = Some(process.pid);
        self.method = shutdown::shut_down(process, paths, force, log)?;
        let did_itself = matches!(self.method, Method::Powerdown | Method::Died);
        if let Some(error) = failed.filter(|_| !did_itself) {
            log.note(error.message());
        }
        (self.ending, self.took) = (events::ending(paths), self.begin.elapsed());
        Ok(())
    }

    /// Removes the files that only a running VM has. If that fails, the error says first that the
    /// VM is stopped.
    fn clean(&self) -> Result<(), Error> {
        let Target { paths, log, .. } = self.target;
        let ended = forget_guest(paths, log);
        let cleaned = clean::all(paths, log);
        ended.and(cleaned).map_err(|error| {
            if self.was_running() { error.after(self.text().trim_end()) } else { error }
        })
    }

    pub(super) fn was_running(&self) -> bool {
        self.method != Method::None
    }

    /// The facts of the stop, for its own report and as a part of that of `restart`.
    pub(super) fn members(&self) -> [(&'static str, Value); 5] {
        [
            ("pid", self.pid.into()),
            ("method", self.method.name().into()),
            ("reason", self.ending.reason().into()),
            ("exit_status", Value::Null),
            ("seconds", Value::seconds(self.took)),
        ]
    }

    pub(super) fn text(&self) -> String {
        let (name, seconds) = (&self.target.name, self.took.as_secs_f64());
        match self.method {
            Method::None if self.pid.is_some() => format!("{name} is left running\n"),
            Method::None => format!("{name} was not running\n"),
            Method::Powerdown => format!("{name} powered off in {seconds:.1} s\n"),
            Method::Sigterm => format!("{name} ended by SIGTERM in {seconds:.1} s\n"),
            Method::Sigkill => format!("{name} ended by SIGKILL in {seconds:.1} s\n"),
            Method::Died => format!("{name} ended in {seconds:.1} s: {}\n", self.ending),
        }
    }
}
