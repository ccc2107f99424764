//! Finds the process that is a VM's QEMU, if there is one.
//!
//! The record has the process's pid and start time, and the machine. A pid file alone proves
//! nothing: after a crash or a reboot its number may be another process's. A process that is not
//! found proves nothing either, as long as a program listens on the VM's own socket.

use super::instance::{Instance, Machine};
use super::qmp::{self, connect_by};
use super::{Paths, wait};
use crate::error::{Error, Kind};
use crate::files;
use crate::linux;
use crate::log::Log;
use crate::system::process::{Seen, same_start, see, signal, unseen};
use crate::system::ps;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A program that was just started has its command line within this time.
const EXEC_WAIT: Duration = Duration::from_millis(200);
/// How long to wait for a connection. Only a socket of a live QEMU with a full queue takes this
/// long.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// The threads of a process that ends are gone within this, but for those of a huge guest.
const THREADS_WAIT: Duration = Duration::from_secs(2);
/// The maximum size of a pid file. A pid has at most 7 digits on Linux.
const PID_BYTES_MAX: u64 = 16;

/// A live QEMU that is known to be this VM's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// See [`Seen::start`].
    pub(crate) start: Option<String>,
    pid_file: PathBuf,
    /// Stopped by a signal or a debugger.
    pub(crate) frozen: bool,
    /// It has removed its pid file, which is one of the last things that QEMU does.
    pub(crate) exiting: bool,
    /// The files that qqmgr needs to manage it were removed while it ran.
    pub(crate) lost: bool,
    /// How long it has run, if the system reports that.
    pub(crate) uptime: Option<Duration>,
}

/// Whether a VM is running, and what is known about it.
pub(crate) enum Look {
    /// The VM runs in this process.
    Here(Process),
    /// The VM runs in a process that cannot be seen (in a container, for example): it listens on
    /// the VM's own socket.
    Unseen,
    /// The VM was started on another machine with this name, and its state cannot be seen from
    /// here.
    OtherHost(String),
    /// The VM is known not to be running.
    Gone,
}

impl Look {
    /// The process, if the VM is running; an error if that process is not in reach.
    pub(crate) fn process(self) -> Result<Option<Process>, Error> {
        match self {
            Self::Here(process) => Ok(Some(process)),
            Self::Gone => Ok(None),
            Self::Unseen => {
                let message = "the VM runs in a QEMU that cannot be seen from here";
                Err(Error::failed(message).hint("it is in another container: use qqmgr in there"))
            }
            Self::OtherHost(host) => {
                let message = format!("the VM was started on the host `{host}`, and may run there");
                let hint = "stop it there; if it is gone, `qqmgr stop --force` clears its record";
                Err(Error::failed(message).hint(hint))
            }
        }
    }
}

/// Looks for the VM's process by the files in its directory.
pub(crate) fn look(paths: &Paths) -> Result<Look, Error> {
    let (record, this) = (Instance::read(paths)?, Machine::this()?);
    let other = record.as_ref().map(|record| &record.machine).filter(|m| m.has_other_pids(&this));
    if other.is_none()
        && let Some(process) = visible(paths, record.as_ref())?
    {
        return Ok(Look::Here(process));
    }
    if is_heard(paths)? {
        // QEMU may have begun to listen, and written its pid, since.
        if let Some(process) = visible(paths, record.as_ref().filter(|_| other.is_none()))? {
            return Ok(Look::Here(process));
        }
        if other.is_some() || !falls_silent(paths)? {
            return Ok(Look::Unseen);
        }
    }
    Ok(match other.filter(|machine| machine.is_elsewhere(&this)) {
        Some(machine) => Look::OtherHost(machine.host.clone().unwrap_or_default()),
        None => Look::Gone,
    })
}

/// Waits for the end of a listener without a process. The first thread of a QEMU that was killed is
/// a zombie while the others still hold its socket.
fn falls_silent(paths: &Paths) -> Result<bool, Error> {
    let silent = || match is_heard(paths) {
        Ok(true) => None,
        Ok(false) => Some(Ok(())),
        Err(error) => Some(Err(error)),
    };
    Ok(wait::poll(Instant::now() + THREADS_WAIT, silent).transpose()?.is_some())
}

/// The VM's process, if the VM is running.
pub(crate) fn find(paths: &Paths) -> Result<Option<Process>, Error> {
    look(paths)?.process()
}

/// Looks for the VM's process, even when all files that identify it are gone.
pub(crate) fn look_anywhere(paths: &Paths) -> Result<Look, Error> {
    let lost = Instance::read(paths)?.is_none();
    Ok(match look(paths)? {
        Look::Gone => {
            search(paths)?.map_or(Look::Gone, |process| Look::Here(Process { lost, ..process }))
        }
        look => look,
    })
}

/// The VM's process, even when all files that identify it are gone.
pub(crate) fn find_anywhere(paths: &Paths) -> Result<Option<Process>, Error> {
    look_anywhere(paths)?.process()
}

/// Finds a QEMU whose `start` was just killed, even before it has its pid file or its command line,
/// and while its directory is being removed. If there is none, this takes a moment, unless the
/// record says enough.
pub(crate) fn find_started(paths: &Paths) -> Result<Option<Process>, Error> {
    if Instance::read(paths)?.is_some_and(|record| record.pid.is_some()) {
        return find_anywhere(paths);
    }
    let deadline = Instant::now() + EXEC_WAIT;
    wait::poll(deadline, || find_anywhere(paths).transpose()).transpose()
}

/// The process of the VM `name`, which must be running and in reach.
pub(crate) fn running(name: &str, paths: &Paths) -> Result<Process, Error> {
    match find_anywhere(paths)? {
        Some(process) if process.lost => Err(process.is_lost(name, paths)),
        Some(process) => Ok(process),
        None => Err(Error::new(Kind::NotRunning, format!("VM `{name}` is not running"))
            .hint(format!("`qqmgr start {name}` starts it"))),
    }
}

/// The process that the VM's pid file names, if it is the VM's.
pub(crate) fn of_pid_file(paths: &Paths) -> Result<Option<Process>, Error> {
    by_pid_file(paths, Instance::read(paths)?.as_ref())
}

fn by_pid_file(paths: &Paths, record: Option<&Instance>) -> Result<Option<Process>, Error> {
    let Some(pid) = read_pid(&paths.pid)? else { return Ok(None) };
    let Some(seen) = see(pid)? else { return Ok(None) };
    let recorded = record.filter(|record| record.pid == Some(pid));
    let start = recorded.and_then(|record| record.start.as_deref());
    let is_it = same_start(start, seen.start.as_deref()).map_or_else(
        // QEMU holds its pid file open as long as it lives.
        || Ok(holds_open(pid, &paths.pid)? || claims(pid, &seen, &paths.pid)?),
        Ok,
    );
    Ok(is_it?.then(|| Process::new(pid, seen, paths)))
}

/// The VM's process, by its pid file or its record. The pids in those must be of this machine.
fn visible(paths: &Paths, record: Option<&Instance>) -> Result<Option<Process>, Error> {
    let by_file = by_pid_file(paths, record)?;
    let (None, Some(record)) = (&by_file, record) else { return Ok(by_file) };
    let Some(pid) = record.pid else { return search(paths) };
    let Some(seen) = see(pid)? else { return Ok(None) };
    let is_it = match same_start(record.start.as_deref(), seen.start.as_deref()) {
        Some(same) => same,
        None => claims(pid, &seen, &paths.pid)?,
    };
    let exiting = record.ready;
    Ok(is_it.then(|| Process { exiting, ..Process::new(pid, seen, paths) }))
}

/// The command lines of all processes, to find the VMs whose files were removed, many at once.
pub(crate) enum CommandLines {
    /// The words of each command line, with a NUL after each word.
    Words(Vec<Vec<u8>>),
    Shown(Vec<ps::Shown>),
}

impl CommandLines {
    pub(crate) fn read() -> Result<Self, Error> {
        if !linux::is_there() {
            return ps::processes(None).map(Self::Shown);
        }
        let pids = linux::pids().map_err(|error| unseen(&error))?;
        let lines = pids.into_iter().filter_map(|pid| linux::command_line(pid).transpose());
        lines.collect::<Result<_, _>>().map(Self::Words).map_err(|error| unseen(&error))
    }

    /// Whether one of the command lines may be that of the VM's QEMU, which the caller then checks.
    pub(crate) fn name(&self, pid_file: &Path) -> bool {
        match self {
            Self::Words(lines) => lines.iter().any(|line| names(line, pid_file)),
            Self::Shown(shown) => shown.iter().any(|shown| shown.has_words("-pidfile", pid_file)),
        }
    }
}

/// Whether the words of a command line name the pid file.
fn names(line: &[u8], pid_file: &Path) -> bool {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.windows(2).any(|two| two == [b"-pidfile", pid_file.as_os_str().as_bytes()])
}

/// Whether the process claims to be the VM's: its command line names the pid file. Any user can
/// give a process any command line, so the process must belong to the owner of the directory.
fn claims(pid: u32, seen: &Seen, pid_file: &Path) -> Result<bool, Error> {
    let directory = pid_file.parent().and_then(|dir| dir.metadata().ok());
    let owner = directory.map(|metadata| metadata.uid());
    if let Some(shown) = &seen.shown {
        let is_of_owner = shown.user.is_none() || owner.is_none() || shown.user == owner;
        return Ok(is_of_owner && shown.has_words("-pidfile", pid_file));
    }
    let Some(line) = linux::command_line(pid).map_err(|error| unseen(&error))? else {
        return Ok(false);
    };
    Ok(names(&line, pid_file) && linux::owner(pid) == owner.or_else(linux::user_id))
}

/// Searches all processes for one whose command line names the pid file: one of a `start` that was
/// killed before it could record it, or of a VM whose directory was removed. A debugger or a
/// wrapper of QEMU also has that command line; so if there is a `/proc`, the process must have
/// QEMU's pid file or log open.
fn search(paths: &Paths) -> Result<Option<Process>, Error> {
    if !linux::is_there() {
        let shown = ps::processes(None)?;
        for pid in shown.iter().filter(|p| p.has_words("-pidfile", &paths.pid)).map(|p| p.pid) {
            if let Some(seen) = see(pid)?
                && claims(pid, &seen, &paths.pid)?
            {
                return Ok(Some(Process::new(pid, seen, paths)));
            }
        }
        return Ok(None);
    }
    for pid in linux::pids().map_err(|error| unseen(&error))? {
        let Some(seen) = see(pid)? else { continue };
        if claims(pid, &seen, &paths.pid)?
            && (linux::holds(pid, &paths.pid).map_err(|error| unseen(&error))?
                || linux::holds(pid, &paths.log).map_err(|error| unseen(&error))?)
        {
            return Ok(Some(Process::new(pid, seen, paths)));
        }
    }
    Ok(None)
}

fn holds_open(pid: u32, path: &Path) -> Result<bool, Error> {
    linux::has_open(pid, path).map_err(|error| unseen(&error))
}

/// Whether a program listens, or may listen, on the VM's own socket.
fn is_heard(paths: &Paths) -> Result<bool, Error> {
    let failed = |error| Error::io("connect to", &paths.ctl, &error);
    match paths.ctl.symlink_metadata().map_err(|error| (error.kind(), error)) {
        Ok(_) => {}
        Err((ErrorKind::NotFound | ErrorKind::NotADirectory, _)) => return Ok(false),
        Err((_, error)) => return Err(failed(error)),
    }
    match connect_by(paths.reachable(&paths.ctl)?, Instant::now() + CONNECT_WAIT) {
        Err(qmp::Error::Unreachable(error)) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Ok(false),
            ErrorKind::WouldBlock => Ok(true),
            _ => Err(failed(error)),
        },
        _ => Ok(true),
    }
}

fn read_pid(pid_file: &Path) -> Result<Option<u32>, Error> {
    let bytes = files::read_if_there(pid_file, PID_BYTES_MAX)?;
    Ok(bytes.and_then(|bytes| str::from_utf8(&bytes).ok()?.trim().parse().ok()))
}

impl Process {
    fn new(pid: u32, seen: Seen, paths: &Paths) -> Self {
        let Seen { frozen, start, shown: _ } = seen;
        let uptime = start.as_ref().and_then(|start| linux::age(start.parse().ok()?));
        let (pid_file, exiting, lost) = (paths.pid.clone(), false, false);
        Self { pid, start, pid_file, frozen, exiting, lost, uptime }
    }

    /// Looks at the process as it is now; `None` when it is known to have ended.
    fn see(&self) -> Result<Option<Seen>, Error> {
        let Some(seen) = see(self.pid)? else { return Ok(None) };
        let is_it = match same_start(self.start.as_deref(), seen.start.as_deref()) {
            Some(same) => same,
            None => claims(self.pid, &seen, &self.pid_file)?,
        };
        Ok(is_it.then_some(seen))
    }

    /// Updates the state of the process, and returns whether it is alive.
    pub(crate) fn look_again(&mut self) -> bool {
        match self.see() {
            Ok(seen) => {
                self.frozen = seen.as_ref().is_some_and(|seen| seen.frozen);
                seen.is_some()
            }
            Err(_) => true,
        }
    }

    /// Whether the process has not ended, as far as is known. If it cannot be looked at, the answer
    /// is yes.
    pub(crate) fn is_alive(&self) -> bool {
        ps::has_shown(self.pid) || !matches!(self.see(), Ok(None))
    }

    /// Whether the process ended before the deadline.
    pub(crate) fn ends_by(&self, deadline: Instant) -> bool {
        wait::poll(deadline, || (!self.is_alive()).then_some(())).is_some()
    }

    /// Sends `TERM` or `KILL`, after checking once more that the process is ours.
    pub(crate) fn signal(&self, name: &str, log: &Log) -> Result<(), Error> {
        if self.see()?.is_none() {
            return Ok(());
        }
        log.verbose(|| format!("kill -{name} {}", self.pid));
        let output = signal(self.pid, name)?;
        if !output.status.success() && self.is_alive() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(Error::failed(format!("cannot signal pid {}: {words}", self.pid)));
        }
        Ok(())
    }

    /// The error for a VM that qqmgr can no longer talk to.
    pub(crate) fn is_lost(&self, name: &str, paths: &Paths) -> Error {
        let (pid, dir) = (self.pid, paths.dir.display());
        let message =
            format!("VM `{name}` runs (pid {pid}), but its files in `{dir}` were removed");
        Error::failed(message).hint(format!("`qqmgr stop {name}` ends it, by SIGTERM"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A directory for one test, removed when it is dropped.
    struct Dir(Paths);

    impl Dir {
        fn new(test: &str) -> Self {
            let name = format!("qqmgr-process-{test}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            std::fs::create_dir(&dir).unwrap();
            Self(Paths::new(dir))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0.dir);
        }
    }

    #[test]
    fn a_process_is_the_recorded_one_by_its_start() {
        let Dir(paths) = &Dir::new("start");
        let mut child =
            Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = Some(child.id());
        let start = see(child.id()).unwrap().unwrap().start;
        let mut record = Instance { pid, start, ready: true, ..Instance::default() };
        let found = visible(paths, Some(&record)).unwrap().unwrap();
        assert_eq!((Some(found.pid), found.exiting), (pid, true));
        std::fs::write(&paths.pid, format!("{}\n", child.id())).unwrap();
        assert!(!visible(paths, Some(&record)).unwrap().unwrap().exiting);
        // Without a record, its command line would have to name the pid file.
        assert_eq!(visible(paths, None).unwrap(), None);
        // The pid belonged to another process before.
        record.start = Some("1".into());
        assert_eq!(visible(paths, Some(&record)).unwrap(), None);
        child.kill().unwrap();
        // The child has not been waited for: a zombie is not a running VM.
        assert!(found.ends_by(Instant::now() + Duration::from_secs(10)));
        child.wait().unwrap();
        assert!(!found.is_alive());
    }

    #[test]
    fn a_command_line_names_the_pid_file() {
        let Dir(paths) = &Dir::new("words");
        let mut child = Command::new("sh")
            .args(["-c", "read line", "sh", "-pidfile"])
            .arg(&paths.pid)
            .arg("-x")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let claims_it = |pid_file: &Path| {
            let seen = see(child.id()).unwrap().unwrap();
            claims(child.id(), &seen, pid_file).unwrap()
        };
        // For a moment after it is run, a program has no command line.
        let soon = Instant::now() + Duration::from_secs(10);
        assert!(wait::poll(soon, || claims_it(&paths.pid).then_some(())).is_some());
        assert!(!claims_it(&paths.dir.join("pi")));
        // It has none of QEMU's files open.
        assert_eq!(search(paths).unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_file_is_a_number_and_nothing_else() {
        let Dir(paths) = &Dir::new("pid");
        for (content, expected) in
            [("12\n", Some(12)), ("", None), ("x", None), ("-1", None), ("99999999999", None)]
        {
            std::fs::write(&paths.pid, content).unwrap();
            assert_eq!(read_pid(&paths.pid).unwrap(), expected, "{content:?}");
        }
        assert_eq!(read_pid(&paths.dir).unwrap(), None);
        assert_eq!(read_pid(&paths.lock).unwrap(), None);
    }

    #[test]
    fn somebody_listens_or_nobody_does() {
        let Dir(paths) = &Dir::new("heard");
        assert!(!is_heard(paths).unwrap());
        let listener = std::os::unix::net::UnixListener::bind(&paths.ctl).unwrap();
        assert!(is_heard(paths).unwrap());
        assert!(matches!(look(paths).unwrap(), Look::Unseen));
        drop(listener);
        assert!(!is_heard(paths).unwrap());
        assert!(matches!(look(paths).unwrap(), Look::Gone));
    }
}
