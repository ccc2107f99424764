//! TRUSTED CORE: starts QEMU and waits until it answers, or takes it back.
//!
//! A socket file that exists says nothing: with much memory to allocate the greeting comes many
//! seconds later. So a VM is up when QMP answers `query-status`, and not before.

use super::boots::Rotation;
use super::process::{self, Process};
use super::qmp::{self, Qmp};
use super::tail::tail;
use super::{Paths, causes, events, shutdown, wait};
use crate::error::{Error, Kind};
use crate::files;
use crate::log::Log;
use crate::programs;
use crate::system::inherited;
use crate::text::command_line;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// After this long, `start` says what it waits for. Silence is broken by a new connection then,
/// and again after twice that time: QEMU that is just starting may lose a client between two of
/// its threads, and never greet it (seen on 7.2, once in thousands of starts).
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long a QEMU that is about to end may keep its pid file, and how often that is looked at.
const OTHER_WAIT: Duration = Duration::from_secs(5);
const OTHER_RETRY: Duration = Duration::from_millis(200);
/// One that was just killed gives the lock back a moment after all else: no news to anybody.
const TRIES_TOLD: u32 = 2;
/// What QEMU says when another one holds the pid file's lock; it has then touched nothing else.
const PID_FILE_LOCKED: &str = "Cannot lock pid file";

/// The program that `bin` means: a name is looked for in `PATH`, a relative path starts from
/// `dir`. That there is none is told before anything is made for the VM.
pub(crate) fn program(bin: &str, dir: &Path) -> Result<PathBuf, Error> {
    programs::locate(bin, dir).ok_or_else(|| {
        Error::failed(format!("there is no program `{bin}`"))
            .hint("install QEMU (Debian: qemu-system-x86), or set `bin` in `[qemu]` to where it is")
    })
}

pub(crate) struct Launch<'a> {
    /// The whole command line; the first word is the program.
    pub(crate) argv: &'a [OsString],
    pub(crate) current_dir: &'a Path,
    pub(crate) paths: &'a Paths,
    /// The port of this host that leads to the guest's ssh.
    pub(crate) ssh_port: u16,
    pub(crate) timeout: Duration,
    /// The serial outputs of so many earlier boots are kept.
    pub(crate) boots: u32,
    pub(crate) log: &'a Log,
}

/// A QEMU that answers, and its run state.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) process: Process,
    pub(crate) run_state: String,
    /// It was there before.
    pub(crate) already_running: bool,
}

/// Why there is no VM.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The port of this host that QEMU could not forward.
    pub(crate) port_taken: Option<u16>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, port_taken: None }
    }
}

/// How the wait for a starting QEMU ended otherwise.
enum NotReady {
    /// With its status if it was our child.
    Died(Option<ExitStatus>),
    TimedOut,
    Garbled(qmp::Error),
}

/// Starts QEMU. Nothing of a failed start is left but its log.
pub(crate) fn launch(launch: &Launch) -> Result<Ready, Failed> {
    let deadline = Instant::now() + launch.timeout;
    let mut locked = Locked { tries: 0, until: deadline.min(Instant::now() + OTHER_WAIT) };
    loop {
        let rotation = Rotation::new(launch.paths).map_err(|error| not_run(launch.paths, error))?;
        let tried = launch_once(launch, deadline, &mut locked);
        let is_new = matches!(&tried, Ok(Some(ready)) if !ready.already_running);
        let settled = if is_new { rotation.finish(launch.boots) } else { rotation.undo() };
        if let Err(error) = settled {
            launch.log.note(error.message());
        }
        if let Some(ready) = tried? {
            return Ok(ready);
        }
    }
}

/// How often another QEMU was in the way, and until when that is waited for.
struct Locked {
    tries: u32,
    until: Instant,
}

/// `None` when another QEMU is in the way that is about to end.
fn launch_once(
    launch: &Launch,
    deadline: Instant,
    locked: &mut Locked,
) -> Result<Option<Ready>, Failed> {
    let mut child = spawn(launch)?;
    let mut ended = || child.try_wait().ok().flatten().map(Some);
    match wait_until_ready(launch.paths, &mut ended, deadline, launch.log) {
        Ok(run_state) => match process::of_pid_file(launch.paths) {
            Some(process) => Ok(Some(Ready { process, run_state, already_running: false })),
            None => Err(give_up(launch, child, "QEMU did not write its pid file").into()),
        },
        Err(NotReady::Died(status)) => {
            let said = tail(&launch.paths.log);
            if !said.contains(PID_FILE_LOCKED) {
                launch.paths.clean()?;
                let error = died(launch, status, &said);
                return Err(Failed { error, port_taken: causes::port_taken(&said) });
            }
            locked.tries += 1;
            if locked.tries == TRIES_TOLD {
                launch
                    .log
                    .note("another QEMU has the VM's pid file, waiting for it to answer or to end");
            }
            Ok(other_of_this_vm(launch, locked.until, deadline)?)
        }
        Err(NotReady::TimedOut) => {
            let seconds = launch.timeout.as_secs_f64();
            let message = format!("QEMU did not answer on its QMP socket within {seconds} s");
            Err(give_up(launch, child, &message).of_kind(Kind::TimedOut).into())
        }
        Err(NotReady::Garbled(error)) => {
            let message = format!("cannot manage this QEMU: {error}");
            Err(give_up(launch, child, &message).into())
        }
    }
}

/// Another QEMU has the pid file: one that a `start` began which was killed, and then it is the
/// VM; or one that is about to end, and then it is tried again; or one in a container, say, that
/// cannot be seen from here, which is an error.
fn other_of_this_vm(
    launch: &Launch,
    until: Instant,
    deadline: Instant,
) -> Result<Option<Ready>, Error> {
    let seen = || process::find_anywhere(launch.paths).filter(|process| !process.exiting);
    match wait::poll(until.min(Instant::now() + OTHER_RETRY), seen) {
        Some(process) => {
            let left = deadline.saturating_duration_since(Instant::now());
            wait_for_running(&process, launch.paths, left, launch.log).map(Some)
        }
        None if Instant::now() < until => Ok(None),
        None => {
            let message = "the VM runs in a QEMU that cannot be seen from here";
            Err(Error::failed(message).hint("is it in a container, or on another host?"))
        }
    }
}

/// Waits for a QEMU that somebody else has started.
pub(crate) fn wait_for_running(
    process: &Process,
    paths: &Paths,
    timeout: Duration,
    log: &Log,
) -> Result<Ready, Error> {
    let mut ended = || (!process.is_alive()).then_some(None);
    let result = wait_until_ready(paths, &mut ended, Instant::now() + timeout, log);
    let pid = process.pid;
    match result {
        Ok(run_state) => Ok(Ready { process: process.clone(), run_state, already_running: true }),
        Err(NotReady::Died(_)) => {
            let message = format!("QEMU (pid {pid}) ended before it was ready");
            Err(Error::failed(with_log(&message, &tail(&paths.log))))
        }
        Err(NotReady::Garbled(error)) => {
            let message = format!("cannot manage the QEMU that runs (pid {pid}): {error}");
            Err(Error::failed(message).hint(format!("`qqmgr stop {}` ends it", paths.vm_name())))
        }
        Err(NotReady::TimedOut) => {
            let seconds = timeout.as_secs_f64();
            let message =
                format!("QEMU runs (pid {pid}), and did not answer within {seconds:.1} s");
            let hint = format!("`qqmgr stop {}` ends it", paths.vm_name());
            Err(Error::new(Kind::TimedOut, message).hint(hint))
        }
    }
}

/// In a process group of its own, so that neither Ctrl-C nor a closed terminal ends the VM.
fn spawn(launch: &Launch) -> Result<Child, Error> {
    let program = launch.argv.first().ok_or_else(|| Error::failed("no QEMU"))?;
    launch.log.verbose(|| format!("exec {}", command_line(launch.argv)));
    let paths = launch.paths;
    let log = new_files(paths)?;
    let spawned =
        log.try_clone().map_err(|error| Error::io("open", &paths.log, &error)).and_then(|stdout| {
            let mut command = inherited::command(launch.argv, launch.log);
            command.current_dir(launch.current_dir).process_group(0);
            command.stdin(Stdio::null()).stdout(stdout).stderr(log);
            command.spawn().map_err(|error| {
                Error::io("run", Path::new(program), &error)
                    .hint("`bin` in `[qemu]` says which QEMU is run")
            })
        });
    spawned.map_err(|failed| not_run(paths, failed))
}

/// Makes the files in which a start begins anew, whoever runs QEMU then; gives the log.
pub(crate) fn new_files(paths: &Paths) -> Result<File, Error> {
    let made = events::prepare(paths).and_then(|()| {
        let log = files::create_private(&paths.log);
        log.map_err(|error| Error::io("create", &paths.log, &error))
    });
    made.map_err(|failed| not_run(paths, failed))
}

/// Nothing was run: not even a log is left. A directory in its place is the user's.
fn not_run(paths: &Paths, failed: Error) -> Error {
    let _ = files::remove(&paths.log).and_then(|()| files::remove(&paths.events_out));
    paths.clean_for_start().err().unwrap_or(failed)
}

/// Until QMP tells the run state. `ended` tells when there is nobody to tell it any more.
fn wait_until_ready(
    paths: &Paths,
    ended: &mut dyn FnMut() -> Option<Option<ExitStatus>>,
    deadline: Instant,
    log: &Log,
) -> Result<String, NotReady> {
    let socket = paths.reachable(&paths.ctl).map_err(|_| NotReady::TimedOut)?;
    let begin = Instant::now();
    let (mut patience, mut said) = (PATIENCE, false);
    let outcome = wait::poll(deadline, || {
        if let Some(status) = ended() {
            return Some(Err(NotReady::Died(status)));
        }
        if begin.elapsed() < hesitation(paths) {
            return None;
        }
        let now = Instant::now();
        let error = match run_state(&socket, deadline.min(now + patience), deadline, log) {
            Ok(run_state) => return Some(Ok(run_state)),
            Err(error @ (qmp::Error::Garbled(_) | qmp::Error::Refused { .. })) => {
                return Some(Err(NotReady::Garbled(error)));
            }
            Err(error) => error,
        };
        let silent = matches!(error, qmp::Error::Silent);
        if silent {
            patience *= 2;
        }
        if !said && begin.elapsed() >= PATIENCE && Instant::now() < deadline {
            said = true;
            let what = if silent { "QEMU's QMP greeting" } else { "QEMU to open its QMP socket" };
            log.note(&format!("waiting for {what}"));
        }
        None
    });
    outcome.unwrap_or(Err(NotReady::TimedOut))
}

/// How long after QEMU's start nobody should connect. While it sets its monitors up, two of its
/// threads see a client, which may be greeted twice or never; and once, in tens of thousands of
/// starts, a QEMU 7.2 hung that was connected to so early. Some tell nothing, and some take long.
fn hesitation(paths: &Paths) -> Duration {
    match events::stage(paths) {
        events::Stage::Nothing => Duration::from_millis(100),
        events::Stage::Greeted => Duration::from_secs(1),
        events::Stage::Negotiated => Duration::ZERO,
    }
}

fn run_state(
    socket: &Path,
    greeted_by: Instant,
    deadline: Instant,
    log: &Log,
) -> Result<String, qmp::Error> {
    Qmp::open(socket, greeted_by, log)?.run_state(deadline)
}

/// Ends a QEMU that did not come up, and tells what it said.
fn give_up(launch: &Launch, mut child: Child, message: &str) -> Error {
    let started = process::find(launch.paths);
    let ended =
        started.map_or(Ok(()), |process| shutdown::terminate(&process, launch.log).map(|_| ()));
    // Ours to reap, and still there when its pid file names something else.
    let reaped = wait::poll(Instant::now() + shutdown::TERM_WAIT, || {
        matches!(child.try_wait(), Ok(Some(_))).then_some(())
    });
    if reaped.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    match ended.and_then(|()| launch.paths.clean()) {
        Ok(()) => Error::failed(with_log(message, &tail(&launch.paths.log)))
            .hint(format!("its log is `{}`", launch.paths.log.display())),
        Err(error) => error,
    }
}

fn died(launch: &Launch, status: Option<ExitStatus>, said: &str) -> Error {
    let (code, signal) = (status.and_then(|s| s.code()), status.and_then(|s| s.signal()));
    let how = match (code, signal) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        _ => "ended".into(),
    };
    let start = causes::Start { dir: launch.current_dir, ssh_port: launch.ssh_port };
    let hint = causes::hint(said, &start)
        .unwrap_or_else(|| format!("its log is `{}`", launch.paths.log.display()));
    Error::failed(with_log(&format!("QEMU {how} before it was ready"), said)).hint(hint)
}

fn with_log(message: &str, said: &str) -> String {
    if said.is_empty() {
        format!("{message}, and said nothing")
    } else {
        format!("{message}:\n{said}")
    }
}
