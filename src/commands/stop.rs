//! `qqmgr stop VM...`

use super::fleet::{self, Known};
use super::target::Target;
use crate::cli::spec::{self, Flag};
use crate::cli::{Args, Command, Outcome, Run};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Report;
use crate::ssh::forget_guest;
use crate::vm::events::{self, Ending};
use crate::vm::lock::{self, LOCK_WAIT, Lock, Use, lock, lock_if_there};
use crate::vm::shutdown::{self, Force, Method};
use crate::vm::{Instance, process};
use std::io;
use std::time::{Duration, Instant};

/// So long `--force` lets another command finish.
const FORCE_WAIT: Duration = Duration::from_secs(2);

pub(crate) static COMMAND: Command = Command {
    name: "stop",
    about: "Power VMs off, by force if need be",
    details: "The guest's power button is pressed. When the guest has not powered off in time,\n\
              QEMU gets SIGTERM, which closes its images cleanly, and at last SIGKILL.\n\
              Stopping a stopped VM is success, and cleans up what a crash left.",
    operands: &[spec::VMS],
    flags: &[&spec::ALL, &TIMEOUT, &FORCE, &NO_KILL, &UNUSED, &AT_EOF],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&COMMAND, args, Known::All, tell, run);
    }),
};

pub(super) static TIMEOUT: Flag =
    Flag::timeout("Give the guest this long to power off (default 20)");
pub(super) static FORCE: Flag =
    Flag::switch("force", |args| args.force = true, "End QEMU at once, without asking the guest");
pub(super) static NO_KILL: Flag = Flag::switch(
    "no-kill",
    |args| args.no_kill = true,
    "Leave QEMU running when the guest does not power off",
);
static UNUSED: Flag = Flag::switch(
    "unused",
    |args| args.unused = true,
    "Only what `run` started and no `run` uses any more",
);
static AT_EOF: Flag =
    Flag::switch("at-eof", |args| args.at_eof = true, "Wait for the end of standard input first");

/// What is said, by `--at-eof`, before the wait.
pub(super) const WAITS_FOR_EOF: &str = "waiting for the end of standard input";

pub(super) struct Stopped {
    name: String,
    pid: Option<u32>,
    method: Method,
    ending: Ending,
    took: Duration,
}

fn run(target: &Target) -> Outcome {
    let force = force(target.args);
    if target.args.at_eof {
        target.log.note(WAITS_FOR_EOF);
        // Whoever cannot read any more has come to the end, too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    }
    if target.args.unused {
        return Ok(Box::new(stop_unused(target, &COMMAND, force, target.args.at_eof)?));
    }
    let (paths, name) = (&target.paths, target.name.clone());
    if paths.dir.symlink_metadata().is_err() && process::find_anywhere(paths).is_none() {
        return Ok(Box::new(Stopped::nothing(name)));
    }
    let (stopped, _lock) = stop(target, &COMMAND, force)?;
    Ok(Box::new(stopped))
}

/// How hard to try, as it was asked.
pub(super) fn force(args: &Args) -> Force {
    let timeout = args.timeout.unwrap_or(shutdown::TIMEOUT);
    Force { timeout, at_once: args.force, kill: !args.no_kill }
}

/// Stops the VM if it runs, and gives the lock under which that was done.
pub(super) fn stop(
    target: &Target,
    command: &Command,
    force: Force,
) -> Result<(Stopped, Lock), Error> {
    let Target { name, paths, log, .. } = target;
    let (mut stopped, begin) = (Stopped::nothing(name.clone()), Instant::now());
    let lock = if force.at_once {
        lock_by_force(target, command, &mut stopped)?
    } else {
        lock(paths, name, command.name, LOCK_WAIT, log)?
    };
    if let Some(process) = process::find_anywhere(paths) {
        stopped.pid = Some(process.pid);
        stopped.method = shutdown::shut_down(&process, paths, force, log)?;
        stopped.ending = events::ending(paths);
    }
    forget_guest(name, paths, log)?;
    paths.clean()?;
    stopped.took = begin.elapsed();
    Ok((stopped, lock))
}

/// The lock of a VM that must end now, also when another command keeps it. Several that take turns
/// are waited for.
fn lock_by_force(target: &Target, command: &Command, stopped: &mut Stopped) -> Result<Lock, Error> {
    let Target { name, paths, log, .. } = target;
    let lock_for = |wait| lock(paths, name, command.name, wait, log);
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let holder = lock::holder(&paths.lock);
        let error = match lock_for(FORCE_WAIT) {
            Err(error) if error.kind == Kind::TimedOut && Instant::now() < deadline => error,
            result => return result,
        };
        if lock::holder(&paths.lock) == holder {
            // A `start` waits for this QEMU in vain; it sees the end and gives the lock back.
            let process = process::find(paths).ok_or(error)?;
            stopped.pid = Some(process.pid);
            stopped.method = shutdown::terminate(&process, log)?;
            return lock_for(LOCK_WAIT);
        }
    }
}

/// Stops a VM on demand that no `run` uses. Who is known to have been one is it also when nothing
/// in its directory tells so any more. Somebody may be removing that: nothing is made there.
pub(super) fn stop_unused(
    target: &Target,
    command: &Command,
    force: Force,
    known: bool,
) -> Result<Stopped, Error> {
    let Target { name, paths, log, .. } = target;
    let (mut stopped, begin) = (Stopped::nothing(name.clone()), Instant::now());
    let lock = lock_if_there(paths, name, command.name, LOCK_WAIT, log)?;
    let on_demand = Instance::read(paths).map_or(known, |instance| instance.on_demand);
    if !on_demand || lock.as_ref().is_some_and(|lock| !Use::is_over(paths, lock)) {
        stopped.pid = process::find(paths).map(|process| process.pid);
        return Ok(stopped);
    }
    while let Some(process) = process::find_started(paths) {
        stopped.pid = Some(process.pid);
        stopped.method = shutdown::shut_down(&process, paths, force, log)?;
        stopped.ending = events::ending(paths);
    }
    // Without a lock, files that are there may be those of another start.
    if lock.is_some() || !paths.dir.exists() {
        forget_guest(name, paths, log)?;
        paths.clean()?;
    }
    stopped.took = begin.elapsed();
    Ok(stopped)
}

impl Stopped {
    fn nothing(name: String) -> Self {
        let (method, ending) = (Method::None, Ending::Unknown);
        Self { name, pid: None, method, ending, took: Duration::ZERO }
    }

    pub(super) fn was_running(&self) -> bool {
        self.method != Method::None
    }

    pub(super) fn json_members(&self) -> [(&'static str, Value); 5] {
        [
            ("name", Value::from(self.name.as_str())),
            ("pid", self.pid.into()),
            ("method", self.method.name().into()),
            ("reason", self.ending.reason().into()),
            ("seconds", Value::seconds(self.took)),
        ]
    }
}

impl Report for Stopped {
    fn text(&self) -> String {
        let (name, seconds) = (&self.name, self.took.as_secs_f64());
        match self.method {
            Method::None if self.pid.is_some() => format!("{name} is left running\n"),
            Method::None => format!("{name} was not running\n"),
            Method::Powerdown => format!("{name} powered off in {seconds:.1} s\n"),
            Method::Sigterm => format!("{name} ended by SIGTERM in {seconds:.1} s\n"),
            Method::Sigkill => format!("{name} ended by SIGKILL in {seconds:.1} s\n"),
            Method::Died => format!("{name} ended in {seconds:.1} s: {}\n", self.ending),
        }
    }

    fn json(&self) -> Value {
        Value::object(self.json_members())
    }
}
