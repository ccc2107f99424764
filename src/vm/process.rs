//! The process of a VM's QEMU, or of a helper with its process group: whether it is alive, whether
//! it is frozen, how long it has run.

use super::{Paths, wait};
use crate::error::Error;
use crate::linux;
use crate::log::Log;
use crate::system::process::{Seen, has_shown, same_start, see, signal, unseen};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// QEMU ends within this time after it has shown that it does, by an event or a closed connection,
/// unless it has much to write to its images or hangs. A 7.2 may hang when the guest panics while
/// QEMU answers a command.
pub(crate) const ENDING_WAIT: Duration = Duration::from_secs(2);
/// A QEMU that does not answer because it is ending is gone within this time.
pub(super) const MOMENT: Duration = Duration::from_millis(400);

/// The part that a process has in a VM, with the file that identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// QEMU. Where starts cannot be compared, it is the process whose command line names this pid
    /// file.
    Qemu(PathBuf),
    /// A helper and its whole process group. After the end of its first process, the group's
    /// processes with this log open are the rest. While a group has a number, no process gets that
    /// number as its pid.
    Helper(PathBuf),
}

/// A process that is known to be this VM's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// See [`Seen::start`].
    pub(crate) start: Option<String>,
    pub(super) role: Role,
    /// A signal or a debugger held it when it was found.
    pub(crate) frozen: bool,
    /// It has removed its pid file, which is one of the last things that QEMU does.
    pub(crate) exiting: bool,
    /// The files that qqmgr needs to manage it were removed while it ran.
    pub(crate) lost: bool,
    /// How long it has run, if the system reports that.
    pub(crate) uptime: Option<Duration>,
}

impl Process {
    pub(super) fn new(seen: Seen, paths: &Paths) -> Self {
        let Seen { pid, frozen, start, shown: _ } = seen;
        let uptime = start.as_ref().and_then(|start| linux::age(start.parse().ok()?));
        let (role, exiting, lost) = (Role::Qemu(paths.pid.clone()), false, false);
        Self { pid, start, role, frozen, exiting, lost, uptime }
    }

    /// The recorded process of a helper. It may have ended.
    pub(super) fn of_helper(pid: u32, start: Option<String>, output: PathBuf) -> Self {
        let role = Role::Helper(output);
        Self { pid, start, role, frozen: false, exiting: false, lost: false, uptime: None }
    }

    /// Looks at the process as it is now; `None` when it is known to have ended.
    fn see(&self) -> Result<Option<Seen>, Error> {
        let Some(seen) = see(self.pid)? else { return self.see_rest() };
        let start = self.start.as_deref();
        let is_it = match &self.role {
            Role::Qemu(pid_file) => is_it(&seen, start, pid_file)?,
            Role::Helper(_) => same_start(start, seen.start.as_deref()) == Some(true),
        };
        Ok(is_it.then_some(seen))
    }

    /// Looks at what is left of a helper's process group without its first process.
    fn see_rest(&self) -> Result<Option<Seen>, Error> {
        let Role::Helper(output) = &self.role else { return Ok(None) };
        if !linux::is_there() {
            return Ok(None);
        }
        for pid in linux::members(self.pid).map_err(|error| unseen(&error))? {
            if let Some(seen) = see(pid)?
                && linux::has_open(pid, output).map_err(|error| unseen(&error))?
            {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// How the process is called in messages.
    pub(super) fn noun(&self) -> &'static str {
        if matches!(self.role, Role::Qemu(_)) { "QEMU" } else { "the helper" }
    }

    /// Whether a signal or a debugger holds the process now.
    pub(crate) fn is_frozen(&self) -> bool {
        matches!(self.see(), Ok(Some(seen)) if seen.frozen)
    }

    /// Whether the process has not ended, as far as is known. If it cannot be looked at, the answer
    /// is yes.
    pub(crate) fn is_alive(&self) -> bool {
        has_shown(self.pid) || !matches!(self.see(), Ok(None))
    }

    /// Whether the process ended before the deadline.
    pub(crate) fn ends_by(&self, deadline: Instant) -> bool {
        wait::poll(deadline, || (!self.is_alive()).then_some(())).is_some()
    }

    /// Whether a process that does not answer turns out to be ending: waits a moment for its end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ends_by(Instant::now() + MOMENT)
    }

    /// Whether a process that has shown its end has ended. Waits as long as a QEMU needs that has
    /// nothing to write to its images.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_by(Instant::now() + ENDING_WAIT)
    }

    /// Sends `TERM` or `KILL`, after checking once more that the process is ours.
    pub(crate) fn signal(&self, name: &str, log: &Log) -> Result<(), Error> {
        if self.see()?.is_none() {
            return Ok(());
        }
        let to_group = matches!(self.role, Role::Helper(_));
        log.verbose(|| format!("kill -{name} {}{}", if to_group { "-" } else { "" }, self.pid));
        let output = signal(self.pid, to_group, name)?;
        if !output.status.success() && self.is_alive() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(Error::failed(format!("cannot signal pid {}: {words}", self.pid)));
        }
        Ok(())
    }

    /// The error for a VM that qqmgr can no longer talk to.
    pub(crate) fn is_lost(&self, paths: &Paths) -> Error {
        let (pid, name, dir) = (self.pid, &paths.name, paths.dir.display());
        let message =
            format!("VM `{name}` runs (pid {pid}), but its files in `{dir}` were removed");
        Error::failed(message).hint(format!("`qqmgr stop {name}` ends it, by SIGTERM"))
    }
}

/// Whether the process is the one that started then. If that cannot be compared, it must claim to
/// be the VM's.
fn is_it(seen: &Seen, start: Option<&str>, pid_file: &Path) -> Result<bool, Error> {
    same_start(start, seen.start.as_deref()).map_or_else(|| claims(seen, pid_file), Ok)
}

/// Whether the process claims to be the VM's: its command line names the pid file. Any user can
/// give a process any command line, so the process must belong to the owner of the directory.
pub(super) fn claims(seen: &Seen, pid_file: &Path) -> Result<bool, Error> {
    let directory = pid_file.parent().and_then(|dir| dir.metadata().ok());
    let owner = directory.map(|metadata| metadata.uid());
    if let Some(shown) = &seen.shown {
        let is_of_owner = shown.user.is_none() || owner.is_none() || shown.user == owner;
        return Ok(is_of_owner && shown.line.names(pid_file));
    }
    let line = linux::command_line(seen.pid).map_err(|error| unseen(&error))?;
    let is_of_owner = || linux::owner(seen.pid) == owner.or_else(linux::user_id);
    Ok(line.is_some_and(|line| line.names(pid_file)) && is_of_owner())
}
