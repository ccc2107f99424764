//! TRUSTED CORE: which process is a VM's QEMU, and signals to it.
//!
//! A pid is ours only when it is alive, no zombie, and its command line names our pid file. The
//! pid file alone proves nothing: after a crash or a reboot its number may be anybody's.

use super::{Paths, instance::Instance, ps, wait};
use crate::error::{Error, Kind};
use crate::files;
use crate::linux;
use crate::log::Log;
use crate::programs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A program that was just started has its command line within this.
const EXEC_WAIT: Duration = Duration::from_millis(200);
/// A pid has at most 7 digits on Linux; what is longer is no pid file.
const PID_BYTES_MAX: u64 = 16;

/// A live QEMU that was seen to be this VM's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pid_file: PathBuf,
    /// Stopped by a signal or a debugger.
    pub(crate) frozen: bool,
    /// It has removed its pid file, which is among the last things that QEMU does.
    pub(crate) exiting: bool,
    /// How long it has run, where the system tells.
    pub(crate) uptime: Option<Duration>,
}

/// What the system says of a process.
struct Seen {
    /// As in ps(1).
    state: char,
    names_pid_file: bool,
    uptime: Option<Duration>,
}

/// The process of the VM `name`, which must run.
pub(crate) fn running(name: &str, paths: &Paths) -> Result<Process, Error> {
    find(paths).ok_or_else(|| {
        Error::new(Kind::NotRunning, format!("VM `{name}` is not running"))
            .hint(format!("`qqmgr start {name}` starts it"))
    })
}

/// The process that the VM's pid file names, if it is the VM's.
pub(crate) fn of_pid_file(paths: &Paths) -> Option<Process> {
    read_pid(&paths.pid).and_then(|pid| Process::look(pid, &paths.pid))
}

/// The VM's process, if there is one, also while its pid file does not name it.
pub(crate) fn find(paths: &Paths) -> Option<Process> {
    of_pid_file(paths).or_else(|| match Instance::read(paths)?.pid {
        Some(pid) => {
            Process::look(pid, &paths.pid).map(|process| Process { exiting: true, ..process })
        }
        None => named(&paths.pid).into_iter().next(),
    })
}

/// The same for who is about to start or stop it: also when all files that tell of it are gone.
/// Nothing but its command line tells then, which a debugger or a wrapper of QEMU has, too; so it
/// must also have the pid file open, as QEMU does for life, which only a `/proc` can tell.
pub(crate) fn find_anywhere(paths: &Paths) -> Option<Process> {
    let holds = |process: &Process| linux::holds(process.pid, &paths.pid);
    find(paths).or_else(|| named(&paths.pid).into_iter().find(holds))
}

/// The same for who knows that it was started, and may have been a moment ago, and not that its
/// directory is still there: also before it has its pid file. From its first moment on it says
/// what goes to its log. A wrapper does, too, so QEMU itself comes first.
pub(crate) fn find_started(paths: &Paths) -> Option<Process> {
    wait::poll(Instant::now() + EXEC_WAIT, || {
        find_anywhere(paths).or_else(|| {
            let has_log = |process: &Process| linux::holds(process.pid, &paths.log);
            let logs = |process: &Process| !linux::is_there() || has_log(process);
            named(&paths.pid).into_iter().find(logs)
        })
    })
}

/// All processes whose command line names the pid file, as of a `start` that was killed or is at
/// work: a QEMU that has not written it yet.
fn named(pid_file: &Path) -> Vec<Process> {
    if linux::is_there() {
        return linux::pids().filter_map(|pid| Process::look(pid, pid_file)).collect();
    }
    let shown = ps::processes(None).unwrap_or_default().into_iter();
    let named = shown.filter(|process| process.has_words("-pidfile", pid_file));
    named.filter_map(|process| Process::look(process.pid, pid_file)).collect()
}

fn read_pid(pid_file: &Path) -> Option<u32> {
    let bytes = files::read_start(pid_file, PID_BYTES_MAX).ok()?;
    str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

impl Process {
    /// The process `pid`, if it is alive and ours.
    fn look(pid: u32, pid_file: &Path) -> Option<Self> {
        let seen = if linux::is_there() {
            look_in_proc(pid, pid_file)?
        } else {
            look_with_ps(pid, pid_file)?
        };
        if !seen.names_pid_file || matches!(seen.state, 'Z' | 'X' | 'x') {
            return None;
        }
        let frozen = matches!(seen.state, 'T' | 't');
        let pid_file = pid_file.to_path_buf();
        Some(Self { pid, pid_file, frozen, exiting: false, uptime: seen.uptime })
    }

    /// Sees how it is now; whether it is alive.
    pub(crate) fn look_again(&mut self) -> bool {
        let seen = Self::look(self.pid, &self.pid_file);
        self.frozen = seen.as_ref().is_some_and(|process| process.frozen);
        seen.is_some()
    }

    pub(crate) fn is_alive(&self) -> bool {
        ps::has_shown(self.pid) || Self::look(self.pid, &self.pid_file).is_some()
    }

    /// Whether the process ended before the deadline.
    pub(crate) fn ends_by(&self, deadline: Instant) -> bool {
        wait::poll(deadline, || (!self.is_alive()).then_some(())).is_some()
    }

    /// Sends `TERM` or `KILL`, after looking once more that the process is ours.
    pub(crate) fn signal(&self, name: &str, log: &Log) -> Result<(), Error> {
        if Self::look(self.pid, &self.pid_file).is_none() {
            return Ok(());
        }
        log.verbose(|| format!("kill -{name} {}", self.pid));
        // `kill` is a builtin of every sh; slim images have no program of that name.
        let mut kill = programs::SH.command();
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &self.pid.to_string()]);
        let output = kill.stdin(Stdio::null()).output();
        let output = output.map_err(|error| programs::cannot_run(&kill, &error))?;
        if !output.status.success() && self.is_alive() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(Error::failed(format!("cannot signal pid {}: {words}", self.pid)));
        }
        Ok(())
    }
}

/// A process that vanishes while it is looked at is gone.
fn look_in_proc(pid: u32, pid_file: &Path) -> Option<Seen> {
    let linux::Stat { state, uptime } = linux::stat(pid)?;
    let command_line = linux::command_line(pid)?;
    let words: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let named = words.windows(2).any(|two| two == [b"-pidfile", pid_file.as_os_str().as_bytes()]);
    // QEMU keeps its pid file open, and so is known after its directory was moved.
    let moved = || words.contains(&&b"-pidfile"[..]) && linux::has_open(pid, pid_file);
    let is_named = named || moved();
    Some(Seen { state, names_pid_file: is_named && is_of_owner(pid, pid_file, &words), uptime })
}

/// Anybody can give a process any command line: it must be the user's whose directory it is. Root
/// may have QEMU give its rights up.
fn is_of_owner(pid: u32, pid_file: &Path, words: &[&[u8]]) -> bool {
    let directory = pid_file.parent().and_then(|dir| dir.metadata().ok());
    let owner = directory.map(|metadata| metadata.uid()).or_else(linux::user_id);
    let gives_up = || words.iter().any(|word| [&b"-runas"[..], b"-run-with"].contains(word));
    linux::owner(pid) == owner || owner == Some(0) && gives_up()
}

/// Where there is no `/proc`.
fn look_with_ps(pid: u32, pid_file: &Path) -> Option<Seen> {
    let shown = ps::processes(Some(pid)).ok()?;
    let owner = pid_file.parent().and_then(|dir| dir.metadata().ok()).map(|dir| dir.uid());
    let is_of_owner = |user: Option<u32>| user.is_none() || owner.is_none() || user == owner;
    shown.into_iter().find(|process| process.pid == pid).map(|process| Seen {
        state: process.state,
        names_pid_file: process.has_words("-pidfile", pid_file) && is_of_owner(process.user),
        uptime: None,
    })
}

/// The words of QEMU's command line name the pid file; a test holds the two lookups together.
#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn both_lookups_know_the_pid_file() {
        let mut child = Command::new("sh")
            .args(["-c", "read line", "sh", "-pidfile", "/a b/pid", "-x"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let ours = Path::new("/a b/pid");
        // For a moment after it was run, a program has no command line yet.
        let soon = Instant::now() + Duration::from_secs(10);
        let found = wait::poll(soon, || Process::look(child.id(), ours));
        assert_eq!(found.map(|found| found.pid), Some(child.id()));
        assert_eq!(Process::look(child.id(), Path::new("/a b/pi")), None);
        if Command::new("ps").output().is_ok() {
            assert!(look_with_ps(child.id(), ours).unwrap().names_pid_file);
            assert!(!look_with_ps(child.id(), Path::new("/a b/pi")).unwrap().names_pid_file);
        }
        child.kill().unwrap();
        // Not reaped yet: a zombie is no VM.
        assert!(
            wait::poll(Instant::now() + Duration::from_secs(10), || {
                Process::look(child.id(), ours).is_none().then_some(())
            })
            .is_some()
        );
        child.wait().unwrap();
        assert!(look_in_proc(child.id(), ours).is_none());
    }

    #[test]
    fn a_pid_file_is_a_number_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("qqmgr-pid-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("pid");
        for (content, expected) in
            [("12\n", Some(12)), ("", None), ("x", None), ("-1", None), ("99999999999", None)]
        {
            std::fs::write(&file, content).unwrap();
            assert_eq!(read_pid(&file), expected, "{content:?}");
        }
        assert_eq!(read_pid(&dir), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
