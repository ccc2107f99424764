//! `qqmgr run VM -- COMMAND...`: runs one job on a VM that is started for it.

use super::reach;
use super::start::begin::{Start, TIMEOUT_DEFAULT};
use super::start::plan::StartOptions;
use super::stop::{self, Unused};
use super::target::Target;
use crate::cli::flag::{Flag, Takes};
use crate::cli::spec::{self, Count, Operand};
use crate::cli::{Args, Command, Group};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::{Outcome, Report};
use crate::ssh::copy::{Copy, copy};
use crate::ssh::limits::Limits;
use crate::ssh::run::{Output, capture_until, run_attached};
use crate::ssh::{FAILURE_CODE, Guest, end_shared_connection};
use crate::system::guard::Guard;
use crate::system::programs;
use crate::text::command_line;
use crate::vm::lock::{LOCK_WAIT, Use, lock};
use crate::vm::process::Process;
use crate::vm::ready::Ready;
use crate::vm::shutdown::{self, Force};
use crate::vm::wait::Deadline;
use crate::vm::{Instance, events, look};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The exit code of timeout(1) for a timeout.
const TIMED_OUT_CODE: u8 = 124;
/// QEMU's option for `--fresh`.
const SNAPSHOT: &str = "-snapshot";

/// How long to wait for the guest's ssh server without `--wait`, which has the same default.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);

pub(crate) static COMMAND: Command = Command {
    name: "run",
    group: Group::Run,
    about: "Run a command on a VM started just for it",
    details: "The VM is stopped after it. One that runs already is used, and left running.\n\
              One word behind `--` is a command line for the guest's shell; several are a\n\
              command and its arguments, as they are. The exit code is the command's, 124\n\
              after a timeout, and 255 when qqmgr or ssh failed. Files are copied back\n\
              whatever the command's exit code is.",
    operands: &[spec::VM, Operand::new("COMMAND", Count::Words { required: true })],
    flags: &[&spec::WAIT, &spec::SET, &PUT, &GET, &KEEP, &FRESH, &TIMEOUT],
    failure_code: |kind| if kind == Kind::TimedOut { TIMED_OUT_CODE } else { FAILURE_CODE },
    examples: &["run dev -- uname -a", "run dev --fresh --put tests:work -- sh work/run"],
    right_form: |words| {
        let is_flag = |word: &OsString| word.as_bytes().starts_with(b"-");
        match words {
            [vm, first, ..]
                if ![vm, first].into_iter().any(is_flag) && !words.contains(&"--".into()) =>
            {
                Some(format!("run {} -- {}", vm.display(), command_line(&words[1..])))
            }
            _ => None,
        }
    },
    ..Command::DEFAULT
};

static PUT: Flag<(OsString, OsString)> = Flag::new(
    "put",
    Takes::Values("LOCAL:REMOTE"),
    divided,
    "Copy to the guest before the command",
);
static GET: Flag<(OsString, OsString)> = Flag::new(
    "get",
    Takes::Values("REMOTE:LOCAL"),
    divided,
    "Copy from the guest after the command",
);
static KEEP: Flag = Flag::switch("keep", "Leave the VM running");
static FRESH: Flag = Flag::switch("fresh", "Forget what is written to disks (QEMU's -snapshot)");
static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Give up on all of it after this long (default: never)");

/// Splits at the first colon; neither side may be empty.
fn divided(value: &OsStr) -> Result<(OsString, OsString), String> {
    let bytes = value.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (from, to) = colon.map(|at| (&bytes[..at], &bytes[at + 1..])).unwrap_or_default();
    if from.is_empty() || to.is_empty() {
        return Err("it takes two names with a colon between them".into());
    }
    Ok((OsString::from_vec(from.to_vec()), OsString::from_vec(to.to_vec())))
}

pub(super) fn run(target: &Target) -> Outcome {
    let mut job = Job::new(target)?;
    let begin = Instant::now();
    // The job's own error is reported even if the VM cannot be stopped, which is reported as well.
    let result = job.start().and_then(|ready| {
        let process = &ready.process;
        let (exit_code, output) = job.work(process).map_err(|error| job.cause(process, error))?;
        Ok((exit_code, output, !ready.already_running))
    });
    let ended = job.end();
    let (exit_code, output, started) = match (result, ended) {
        (Ok(_), Err(error)) => return Err(error),
        (Err(error), Err(other)) => {
            target.log.note(&format!("and then: {}", other.message()));
            return Err(error);
        }
        (result, Ok(())) => result?,
    };
    let text = |bytes: fn(&Output) -> &Vec<u8>| {
        let bytes = output.as_ref().map(bytes);
        Value::from(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    };
    let members = [
        ("name", Value::from(&target.name)),
        ("exit_code", u64::from(exit_code).into()),
        ("stdout", text(|output| &output.stdout)),
        ("stderr", text(|output| &output.stderr)),
        ("started", started.into()),
        ("seconds", Value::seconds(begin.elapsed())),
    ];
    // Without `--json` the command has printed its own output.
    Ok(Report::of("", members).with_exit_code(exit_code))
}

struct Job<'a> {
    target: &'a Target<'a>,
    limits: Limits,
    /// Stops the VM if this process cannot.
    guard: Option<Guard>,
    /// Keeps other `run`s from stopping the VM.
    using: Option<Use>,
}

impl<'a> Job<'a> {
    /// Makes a job, and reports the errors that can be found before anything is started.
    fn new(target: &'a Target<'a>) -> Result<Self, Error> {
        let args = target.args;
        target.check_has_ssh()?;
        for (local, _) in &args.all(&PUT) {
            let local = Path::new(local);
            local.metadata().map_err(|error| Error::io("read", local, &error))?;
        }
        for (_, local) in &args.all(&GET) {
            let local = Path::new(local);
            let dir = Path::new(".").join(local.parent().unwrap_or(local));
            dir.metadata().map_err(|error| Error::io("write", local, &error))?;
        }
        let deadline = args.value(&TIMEOUT).map(Deadline::after);
        let limits = Limits { deadline, guest: None };
        Ok(Self { target, limits, guard: None, using: None })
    }

    /// Starts the VM if it is not running.
    fn start(&mut self) -> Result<Ready, Error> {
        let Target { config, args, name, paths, log } = self.target;
        let arguments = if args.has(&FRESH) { vec![SNAPSHOT.into()] } else { Vec::new() };
        let set = args.all(&spec::SET);
        let options = StartOptions { set, arguments, on_demand: !args.has(&KEEP) };
        let mut start = Start::new(self.target, options)?;
        if args.has(&FRESH) {
            check_blockdevs(name, start.plan()?.own_argv())?;
        }
        if look::find_anywhere(paths)?.is_none() {
            start.prepare(&|| self.limits.exceeded())?;
        }
        let lock = lock(paths, name, COMMAND.name, self.limits.left(LOCK_WAIT), log)?;
        let found = look::traced(look::find_anywhere(paths)?, log);
        if let Some(process) = found.filter(|process| !process.exiting) {
            if process.lost {
                // The process does not belong to this `run`, which must not stop it at its end.
                return Err(process.is_lost(name, paths));
            }
            self.check_freshness()?;
        }
        self.using = Some(Use::new(paths, &lock)?);
        if !args.has(&KEEP) {
            let stop = stop_command(config, name, args)?;
            self.guard = Some(Guard::new(&stop, stop::WAITS_FOR_EOF, Stdio::null(), log)?);
        }
        let (running, lock) = start.begin(lock, self.limits.left(TIMEOUT_DEFAULT))?;
        let ready = running.ready;
        if args.has(&KEEP) || ready.already_running && !self.is_on_demand() {
            // A VM that stays needs neither. If it died and another `run` started it anew, that
            // one's guard would take the mark for somebody who stops the VM: so the mark ends
            // before other commands have the lock.
            self.using = None;
            self.disarm();
        }
        drop(lock);
        Ok(ready)
    }

    /// Refuses a running VM that would keep writes with `--fresh`, or forget them without it.
    fn check_freshness(&self) -> Result<(), Error> {
        let Target { args, name, paths, .. } = self.target;
        let (fresh, instance) = (args.has(&FRESH), Instance::read(paths)?);
        let of_a_run = instance.filter(|instance| instance.on_demand);
        let is_fresh = of_a_run.is_some_and(|vm| vm.own_argv().iter().any(|word| word == SNAPSHOT));
        let why = match (fresh, is_fresh) {
            (true, _) => "`--fresh` needs its own start",
            (false, true) => "for a `run --fresh`, which forgets what is written",
            (false, false) => return Ok(()),
        };
        let error = Error::failed(format!("VM `{name}` runs already, {why}"));
        Err(error.hint(format!("`qqmgr wait {name} --for stopped` waits for its end")))
    }

    /// Runs the command, and returns its exit code and, if wanted, its output.
    fn work(&self, process: &Process) -> Result<(u8, Option<Output>), Error> {
        let Target { args, config, name, paths, log } = self.target;
        let given = args.value(&spec::WAIT);
        let of_wait = Deadline::after(given.unwrap_or(WAIT_DEFAULT));
        let deadline = self.limits.deadline.filter(|all| all.at < of_wait.at).unwrap_or(of_wait);
        // If the guest has ended, the wait gives a better error.
        if given.is_none()
            && let Some((state, error)) = self.target.held()
            && !state.is_over()
        {
            let hint = format!("`--wait` waits until `qqmgr resume {name}` lets it go on");
            return Err(error.hint(hint));
        }
        reach::ssh_by(self.target, process, deadline)?;

        let guest = Some((paths.clone(), events::told(paths)));
        let limits = Limits { guest, ..self.limits.clone() };
        let guest = Guest::of(name, config, paths, log)?.within(limits);
        reach::for_login(self.target, &guest, process, deadline)?;
        for (local, remote) in &args.all(&PUT) {
            let to = Copy::Put { from: vec![PathBuf::from(local)], to: remote.clone() };
            copy(&guest, &to, false)?;
        }
        let words = [crate::ssh::remote_command(&args.words)];
        let may_be_killed = guest.limits.deadline.is_some();
        if !may_be_killed {
            guest.begin_sharing()?;
        }
        let ssh = if may_be_killed { guest.ssh_alone(&words) } else { guest.ssh(&words) };
        let (exit_code, output) = if args.json() {
            let output = capture_until(ssh, &guest.limits, log)?;
            (output.status.code(), Some(output))
        } else {
            (run_attached(ssh, &guest.limits, log)?, None)
        };
        let exit_code = exit_code.and_then(|code| code.try_into().ok()).unwrap_or(FAILURE_CODE);
        if exit_code == FAILURE_CODE && process.is_ending() {
            return Err(reach::ended(self.target, process));
        }
        let got = args.all(&GET).iter().try_for_each(|(remote, local)| {
            let from = Copy::Get { from: vec![remote.clone()], to: local.into() };
            copy(&guest, &from, false)
        });
        match got {
            // The command's own failure is more important.
            Err(error) if exit_code != 0 => log.note(error.message()),
            got => got?,
        }
        Ok((exit_code, output))
    }

    /// The reason why the job failed.
    fn cause(&self, process: &Process, error: Error) -> Error {
        let Target { name, paths, log, .. } = self.target;
        match (error.kind, process.is_alive()) {
            (Kind::Failed, false) => reach::ended(self.target, process),
            // The shared connection does not notice that the guest it belongs to is gone.
            (Kind::NotRunning, true) => {
                end_shared_connection(name, paths, log).err().unwrap_or(error)
            }
            _ => error,
        }
    }

    /// Stops the VM, whichever `run` started it, unless another `run` still uses it.
    fn end(&mut self) -> Result<(), Error> {
        self.using = None;
        if self.guard.is_some() {
            let (timeout, at_once) = (shutdown::TIMEOUT, self.target.args.has(&FRESH));
            // A guest whose writes are forgotten has nothing to lose.
            let force = Force { timeout, at_once, kill: true };
            stop::stop_unused(self.target, &COMMAND, force, Unused::RunEnded)?;
        }
        self.disarm();
        Ok(())
    }

    /// Disarms the guard, since there is nothing to stop.
    fn disarm(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.disarm();
        }
    }

    fn is_on_demand(&self) -> bool {
        let record = Instance::read(&self.target.paths);
        record.is_ok_and(|record| record.is_some_and(|instance| instance.on_demand))
    }
}

/// Refuses a `-blockdev` that would be written. QEMU's `-snapshot` is for `-drive` and its short
/// forms only (`system/vl.c`: the default of `drive_add`).
fn check_blockdevs(name: &str, argv: &[OsString]) -> Result<(), Error> {
    if argv.iter().any(|word| word == "-blockdev" || word == "--blockdev") {
        let message = format!("`--fresh` does not cover the `-blockdev` of VM `{name}`");
        return Err(Error::failed(message).hint("use `-drive`, or give the node an overlay"));
    }
    Ok(())
}

/// The command that stops the VM as this `run` would.
fn stop_command(config: &Config, name: &str, args: &Args) -> Result<Vec<OsString>, Error> {
    let program = programs::own().map_err(|error| Error::io("find", Path::new("qqmgr"), &error))?;
    let mut argv = vec![program.into_os_string(), "-c".into(), config.file.clone().into()];
    argv.extend(["stop".into(), "--unused".into(), "--at-eof".into()]);
    argv.extend(args.has(&FRESH).then(|| "--force".into()));
    argv.extend(["--".into(), name.into()]);
    Ok(argv)
}
