//! The VM of a job: started for it, guarded while it lasts, and stopped at its end.

use super::flags::{COMMAND, FRESH, KEEP, uses_ssh};
use crate::cli::spec::{self, Wait};
use crate::commands::logs::{self, LOGS, Seen};
use crate::commands::reach::Reach;
use crate::commands::start::{FROM, LOADVM, Start, StartOptions, TIMEOUT_DEFAULT};
use crate::commands::stop::{self, Stop, Unused};
use crate::commands::target::Target;
use crate::error::Error;
use crate::ssh::{Guest, Limits};
use crate::system::guard::Guard;
use crate::system::programs;
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::ready::Ready;
use crate::vm::shutdown::Force;
use crate::vm::users::Use;
use crate::vm::{Deadline, Instance, Process, events, look};
use std::ffi::OsString;
use std::path::{self, Path};
use std::process::Stdio;

/// QEMU's option for `--fresh`.
const SNAPSHOT: &str = "-snapshot";

/// The job that is the guest's boot.
const BOOT: &str = "`run` without a command";

pub(super) struct Job<'a> {
    pub(super) target: &'a Target<'a>,
    /// The only arguments are those of `--fresh`.
    options: StartOptions,
    /// The option, or the kind of job, that needs a VM which is not running.
    own_start: Option<&'static str>,
    pub(super) limits: Limits,
    /// Whether the guest does not run until the job lets it.
    pub(super) is_held: bool,
    /// Stops the VM if this process cannot.
    guard: Option<Guard>,
    /// Keeps other `run`s from stopping the VM.
    using: Option<Use>,
    /// The logs before this job, which are not those of the job.
    earlier: Vec<Seen>,
}

impl<'a> Job<'a> {
    pub(super) fn new(target: &'a Target<'a>, limits: Limits) -> Self {
        let args = target.args;
        let own_start = if !uses_ssh(args) {
            Some(BOOT)
        } else if args.has(&FRESH) {
            Some("`--fresh`")
        } else {
            args.value(&FROM).map(|_| "`--from`")
        };
        // A guest that ends QEMU at once must not look like a QEMU that failed to start.
        let (held, on_demand) = (own_start == Some(BOOT), !args.has(&KEEP));
        let arguments = if args.has(&FRESH) { vec![SNAPSHOT.into()] } else { Vec::new() };
        let options = StartOptions { arguments, held, on_demand, ..StartOptions::of(args) };
        let (is_held, guard, using, earlier) = (false, None, None, logs::seen(target));
        Self { target, options, own_start, limits, is_held, guard, using, earlier }
    }

    /// A job that makes the snapshot for another one.
    pub(super) fn preparing(target: &'a Target<'a>, limits: Limits) -> Self {
        let set = target.args.all(&spec::SET);
        let options = StartOptions { set, on_demand: true, ..StartOptions::default() };
        Self { options, own_start: Some("`--prepare`"), ..Self::new(target, limits) }
    }

    /// Starts the VM if it is not running.
    pub(super) fn start(&mut self) -> Result<Ready, Error> {
        let Target { name, paths, log, .. } = self.target;
        let mut start = Start::new(self.target, self.options.clone())?;
        let plan = start.plan()?;
        self.is_held = plan.is_held;
        // QEMU's `-snapshot` is for `-drive` and its short forms only: it is the default of
        // `drive_add` in `system/vl.c`.
        let is_other = |word: &String| ["-blockdev", "--blockdev"].contains(&&**word);
        if !self.options.arguments.is_empty() && plan.record.own_argv().iter().any(is_other) {
            let message = format!("`--fresh` does not cover the `-blockdev` of VM `{name}`");
            return Err(Error::failed(message).hint("use `-drive`, or give the node an overlay"));
        }
        if look::find_anywhere(paths)?.is_none() {
            start.prepare(&|| self.limits.exceeded())?;
        }
        let lock = lock(paths, COMMAND.name, self.limits.left(LOCK_WAIT), log)?;
        let found = look::traced(look::find_anywhere(paths)?, log);
        if let Some(process) = found.filter(|process| !process.exiting) {
            if process.lost {
                // The process does not belong to this `run`, which must not stop it at its end.
                return Err(process.is_lost(paths));
            }
            self.earlier.clear();
            self.check_can_share()?;
        }
        self.using = Some(Use::new(paths, &lock)?);
        if self.options.on_demand {
            let stop = stop_command(self.target, self.forgets())?;
            self.guard = Some(Guard::new(&stop, stop::WAITS_FOR_EOF, Stdio::null(), log)?);
        }
        let (ready, lock) = start.begin(lock, self.limits.left(TIMEOUT_DEFAULT))?;
        let on_demand = Instance::read(paths).is_ok_and(|it| it.is_some_and(|it| it.on_demand));
        if !self.options.on_demand || ready.already_running && !on_demand {
            // A VM that stays needs neither. If it died and another `run` started it again, that
            // `run`'s guard would take the mark for a `run` that stops the VM. So the mark ends
            // before other commands get the lock.
            self.using = None;
            self.disarm();
        }
        drop(lock);
        Ok(ready)
    }

    /// Refuses a running VM for a job that needs its own start: one without a command, and one
    /// that would keep writes with `--fresh`, or forget them without it.
    fn check_can_share(&self) -> Result<(), Error> {
        let Target { name, paths, .. } = self.target;
        let of_a_run = Instance::read(paths)?.filter(|instance| instance.on_demand);
        let has = |option| of_a_run.iter().flat_map(|vm| &vm.argv).any(|word| word == option);
        let forgets = |flag| format!("for a `run {flag}`, which forgets what is written");
        let why = match self.own_start {
            Some(what) => format!("and {what} needs its own start"),
            None if has(SNAPSHOT) => forgets("--fresh"),
            None if has(LOADVM) => forgets("--from"),
            None => return Ok(()),
        };
        let error = Error::failed(format!("VM `{name}` is already running, {why}"));
        Err(error.hint(match of_a_run {
            Some(_) => format!("`qqmgr wait {name} --for stopped` waits for its end"),
            None => format!("`qqmgr stop {name}` ends it"),
        }))
    }

    /// The VM, and until when to wait for its guest's ssh server and a login.
    pub(super) fn reach(&self, process: Process) -> Result<Reach<'a>, Error> {
        let wait = self.target.args.value(&spec::WAIT).unwrap_or(Wait::DEFAULT);
        let of_wait = Deadline::after(wait.limit);
        let deadline = self.limits.deadline.filter(|all| all.at < of_wait.at).unwrap_or(of_wait);
        Reach::new(self.target, process, Some(deadline))
    }

    /// The guest, for calls that end when it resets or QEMU ends.
    pub(super) fn guest(&self) -> Result<Guest, Error> {
        let paths = &self.target.paths;
        let lives = Some((paths.clone(), events::length(paths)));
        Ok(self.target.guest()?.within(Limits { guest: lives, ..self.limits.clone() }))
    }

    /// Waits until a guest that boots accepts a login.
    pub(super) fn booted(&self, reach: &Reach) -> Result<Guest, Error> {
        reach.server()?;
        reach.first_boot()?;
        let guest = self.guest()?;
        reach.login(&guest, &|| "true".into())?;
        Ok(guest)
    }

    /// Stops the VM, whichever `run` started it, unless another `run` still uses it, and keeps its
    /// logs. `is_over` means that its guest can no longer power off.
    pub(super) fn end(&mut self, is_over: bool) -> Result<(), Error> {
        self.using = None;
        // A guest whose writes are forgotten has nothing to lose.
        let usual = stop::usual_force(self.target);
        let at_once = is_over || self.forgets() || usual.at_once;
        let mut stop = Stop::new(self.target, &COMMAND, Force { at_once, ..usual });
        let stopped = self.guard.as_ref().map_or(Ok(()), |_| stop.unused(Unused::RunEnded));
        let kept = logs::keep(self.target, &self.earlier);
        stopped?;
        self.disarm();
        kept
    }

    /// Disarms the guard, since there is nothing to stop.
    fn disarm(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.disarm();
        }
    }

    /// Whether the guest's writes are thrown away.
    fn forgets(&self) -> bool {
        self.options.from.is_some() || !self.options.arguments.is_empty()
    }
}

/// The command that stops the VM as this `run` would.
fn stop_command(target: &Target, forgets: bool) -> Result<Vec<OsString>, Error> {
    let Target { config, args, name, .. } = target;
    let program = programs::own().map_err(|error| Error::io("find", Path::new("qqmgr"), &error))?;
    let mut argv = vec![program.into_os_string(), "-c".into(), config.file.clone().into()];
    argv.extend(["stop".into(), "--unused".into(), "--at-eof".into()]);
    argv.extend(forgets.then(|| "--force".into()));
    if let Some(dir) = args.value(&LOGS) {
        // The working directory may be removed under the guard.
        let dir = path::absolute(&dir).unwrap_or(dir.into());
        argv.extend(["--logs".into(), dir.into_os_string()]);
    }
    argv.extend(["--".into(), name.into()]);
    Ok(argv)
}
