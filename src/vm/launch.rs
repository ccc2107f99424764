//! TRUSTED CORE: starts QEMU and waits until it answers, or ends it again.
//!
//! The existence of a socket file proves nothing: with much memory to allocate, QEMU answers many
//! seconds later. So a VM counts as up only when QEMU has answered `query-status` in the session of
//! its event log ([`events::answer`]).

use super::boots::Rotation;
use super::events::{self, Answer, Ending};
use super::process::{self, Process};
use super::state::State;
use super::tail::tail;
use super::{Paths, causes, last_words, shutdown, wait};
use crate::error::{Error, Kind};
use crate::files;
use crate::log::Log;
use crate::programs;
use crate::system::inherited;
use crate::text::command_line;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// After this long, `start` says what it waits for, and a QEMU that another `start` has spawned is
/// asked over its socket: that `start` may have had an event log of its own.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a QEMU that is about to end may keep its pid file, and how often to check.
const OTHER_WAIT: Duration = Duration::from_secs(5);
const OTHER_RETRY: Duration = Duration::from_millis(200);
/// The number of tries after which the user is informed: a QEMU that was just killed gives the lock
/// back a moment later than all else, which is not worth a message.
const TRIES_TOLD: u32 = 2;
/// QEMU's message when another QEMU holds the lock of the pid file; it has then touched nothing
/// else.
const PID_FILE_LOCKED: &str = "Cannot lock pid file";

/// Finds the program `bin`: a name is looked up in `PATH`, and a relative path is relative to
/// `dir`. Called before any file of the VM is made, so that a missing program is reported first.
pub(crate) fn program(bin: &str, dir: &Path) -> Result<PathBuf, Error> {
    programs::locate(bin, dir).ok_or_else(|| {
        let hint =
            "install QEMU (Debian: qemu-system-x86), or set `bin` in `[qemu]` to where it is";
        programs::missing(bin, dir, hint)
    })
}

pub(crate) struct Launch<'a> {
    /// The whole command line; the first word is the program.
    pub(crate) argv: &'a [OsString],
    pub(crate) current_dir: &'a Path,
    pub(crate) paths: &'a Paths,
    /// The port of this host that is forwarded to the guest's ssh server.
    pub(crate) ssh_port: u16,
    /// Called with the pid of the spawned process, at once.
    pub(crate) spawned: &'a dyn Fn(u32),
    pub(crate) timeout: Duration,
    /// The number of earlier boots whose serial outputs are kept.
    pub(crate) boots: u32,
    pub(crate) log: &'a Log,
}

/// A QEMU that answers, and its run state.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) process: Process,
    pub(crate) run_state: String,
    /// QEMU was already running before this start.
    pub(crate) already_running: bool,
}

/// Why a start failed.
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

/// How the wait for a starting QEMU failed.
enum NotReady {
    /// QEMU ended. The status is known if it was our child.
    Died(Option<ExitStatus>),
    TimedOut,
    /// QEMU has reported the guest's end, but it stays and does not answer.
    GuestEnded,
    /// QEMU cannot be managed, for this reason.
    Wrong(String),
}

/// Starts QEMU. A failed start leaves nothing but its log.
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

/// How often another QEMU was in the way, and until when to wait for it.
struct Locked {
    tries: u32,
    until: Instant,
}

/// Tries once to start QEMU. `None` when another QEMU that is about to end is in the way.
fn launch_once(
    launch: &Launch,
    deadline: Instant,
    locked: &mut Locked,
) -> Result<Option<Ready>, Failed> {
    let mut child = spawn(launch)?;
    (launch.spawned)(child.id());
    let mut ended = || child.try_wait().ok().flatten().map(Some);
    match wait_until_ready(launch.paths, &mut ended, &|| None, deadline, launch.log) {
        Ok(run_state) => match process::of_pid_file(launch.paths) {
            Ok(Some(process)) => {
                keep(child);
                Ok(Some(Ready { process, run_state, already_running: false }))
            }
            // QEMU removes that file when it ends.
            Ok(None)
                if !launch.paths.pid.exists()
                    && let Some(status) = wait::poll(Instant::now() + OTHER_WAIT, ended) =>
            {
                Err(died(launch, status)?)
            }
            Ok(None) => Err(give_up(launch, child, "QEMU did not write its pid file").into()),
            Err(error) => Err(give_up(launch, child, error.message()).into()),
        },
        Err(NotReady::Died(status)) => {
            if !tail(&launch.paths.log).contains(PID_FILE_LOCKED) {
                return Err(died(launch, status)?);
            }
            locked.tries += 1;
            if locked.tries == TRIES_TOLD {
                launch
                    .log
                    .note("another QEMU has the VM's pid file, waiting for it to answer or to end");
            }
            Ok(other_of_this_vm(launch, locked.until, deadline)?)
        }
        Err(NotReady::GuestEnded) => {
            take_back(launch, child)?;
            Err(died(launch, None)?)
        }
        Err(NotReady::TimedOut) => {
            let seconds = launch.timeout.as_secs_f64();
            let message = format!("QEMU was not ready within {seconds} s");
            Err(give_up(launch, child, &message).of_kind(Kind::TimedOut).into())
        }
        Err(NotReady::Wrong(why)) => {
            let message = format!("cannot manage this QEMU: {why}");
            Err(give_up(launch, child, &message).into())
        }
    }
}

/// The QEMUs that this process has started, kept to learn how they end.
static STARTED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn keep(child: Child) {
    if let Ok(mut started) = STARTED.lock() {
        started.push(child);
    }
}

/// How a QEMU that this process has started ended.
pub(super) fn exit_status(pid: u32) -> Option<ExitStatus> {
    let mut started = STARTED.lock().ok()?;
    let child = started.iter_mut().find(|child| child.id() == pid)?;
    // Its command line disappears a moment before the process can be waited for.
    wait::poll(Instant::now() + OTHER_WAIT, || child.try_wait().ok().flatten())
}

/// Handles another QEMU that has the pid file. If a `start` that was killed has started it, it is
/// the VM. If it is about to end, the start is tried again (`None`). If it cannot be seen from here
/// (in a container, for example), that is an error.
fn other_of_this_vm(
    launch: &Launch,
    until: Instant,
    deadline: Instant,
) -> Result<Option<Ready>, Error> {
    let is_it = |process: &Process| !process.exiting;
    let seen = || process::find_anywhere(launch.paths).map(|seen| seen.filter(is_it)).transpose();
    match wait::poll(until.min(Instant::now() + OTHER_RETRY), seen) {
        Some(Err(error)) => Err(error),
        Some(Ok(process)) => {
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

/// Waits for a QEMU that another process has started.
pub(crate) fn wait_for_running(
    process: &Process,
    paths: &Paths,
    timeout: Duration,
    log: &Log,
) -> Result<Ready, Error> {
    let mut ended = || (!process.is_alive()).then_some(None);
    let ask = || match State::of_qemu(paths, log) {
        Ok(Some(State::Qemu(run_state))) => Some(run_state),
        _ => None,
    };
    let result = wait_until_ready(paths, &mut ended, &ask, Instant::now() + timeout, log);
    let pid = process.pid;
    match result {
        Ok(run_state) => Ok(Ready { process: process.clone(), run_state, already_running: true }),
        Err(NotReady::Died(_) | NotReady::GuestEnded) => {
            Err(last_words::error(&format!("before it was ready (pid {pid})"), None, paths))
        }
        Err(NotReady::Wrong(why)) => {
            let message = format!("cannot manage the QEMU that runs (pid {pid}): {why}");
            Err(Error::failed(message).hint(format!("`qqmgr stop {}` ends it", paths.vm_name())))
        }
        Err(NotReady::TimedOut) => {
            let seconds = timeout.as_secs_f64();
            let message = format!("QEMU runs (pid {pid}), and was not ready within {seconds:.1} s");
            let hint = format!("`qqmgr stop {}` ends it", paths.vm_name());
            Err(Error::new(Kind::TimedOut, message).hint(hint))
        }
    }
}

/// Spawns QEMU in a process group of its own, so that neither Ctrl-C nor a closed terminal ends the
/// VM.
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

/// Makes the log and the event log, which are new for every start, whichever program runs QEMU;
/// returns the log.
pub(crate) fn new_files(paths: &Paths) -> Result<File, Error> {
    let made = events::prepare(paths).and_then(|()| {
        let log = files::create_private(&paths.log);
        log.map_err(|error| Error::io("create", &paths.log, &error))
    });
    made.map_err(|failed| not_run(paths, failed))
}

/// Cleans up after a start that ran nothing, including the log. A directory in the log's place is
/// the user's and stays.
fn not_run(paths: &Paths, failed: Error) -> Error {
    let _ = files::remove(&paths.log).and_then(|()| files::remove(&paths.events_out));
    paths.clean_for_start().err().unwrap_or(failed)
}

/// Waits until QEMU has answered, and returns the guest's run state. `ended` reports that QEMU has
/// ended. `ask` is called after [`PATIENCE`], for the run state of a QEMU without an event log.
fn wait_until_ready(
    paths: &Paths,
    ended: &mut dyn FnMut() -> Option<Option<ExitStatus>>,
    ask: &dyn Fn() -> Option<String>,
    deadline: Instant,
    log: &Log,
) -> Result<String, NotReady> {
    let begin = Instant::now();
    let (mut said, mut over) = (false, None);
    let outcome = wait::poll(deadline, || {
        if let Some(status) = ended() {
            return Some(Err(NotReady::Died(status)));
        }
        match events::answer(paths) {
            Answer::RunState(state) => return Some(Ok(state)),
            Answer::Wrong(why) => return Some(Err(NotReady::Wrong(why))),
            Answer::Missing => {}
        }
        if let Ending::Told { .. } = events::ending(paths)
            && over.get_or_insert_with(Instant::now).elapsed() >= events::EXIT_WAIT
        {
            return Some(Err(NotReady::GuestEnded));
        }
        if begin.elapsed() < PATIENCE {
            return None;
        }
        if !std::mem::replace(&mut said, true) {
            log.note("waiting for QEMU to answer");
        }
        ask().map(Ok)
    });
    outcome.unwrap_or(Err(NotReady::TimedOut))
}

/// Ends a QEMU that did not come up. The error contains its output.
fn give_up(launch: &Launch, child: Child, message: &str) -> Error {
    match take_back(launch, child).and_then(|()| launch.paths.clean()) {
        Ok(()) => Error::failed(with_log(message, &tail(&launch.paths.log)))
            .hint(format!("its log is `{}`", launch.paths.log.display())),
        Err(error) => error,
    }
}

/// Ends a QEMU that did not come up.
fn take_back(launch: &Launch, mut child: Child) -> Result<(), Error> {
    let ended = process::find(launch.paths).and_then(|started| {
        started.map_or(Ok(()), |process| shutdown::terminate(&process, launch.log).map(|_| ()))
    });
    // The child must be reaped, and may still exist if its pid file names another process.
    let reaped = wait::poll(Instant::now() + shutdown::TERM_WAIT, || {
        matches!(child.try_wait(), Ok(Some(_))).then_some(())
    });
    if reaped.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ended
}

fn died(launch: &Launch, status: Option<ExitStatus>) -> Result<Failed, Error> {
    let said = tail(&launch.paths.log);
    let error = last_words::error("before it was ready", status, launch.paths);
    let start = causes::Start { dir: launch.current_dir, ssh_port: launch.ssh_port };
    let error = match causes::hint(&said, &start) {
        Some(hint) => error.hint(hint),
        None => error,
    };
    launch.paths.clean()?;
    Ok(Failed { error, port_taken: causes::port_taken(&said) })
}

fn with_log(message: &str, said: &str) -> String {
    if said.is_empty() {
        format!("{message}, and said nothing")
    } else {
        format!("{message}:\n{said}")
    }
}
