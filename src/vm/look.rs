//! One look at a VM: its record, and whether and where it runs.
//!
//! A process that is not found proves nothing as long as a program listens on the VM's own socket.

use super::instance::Instance;
use super::machine::Machine;
use super::process::Process;
use super::search::{search, visible};
use super::{Paths, wait};
use crate::clock::now;
use crate::error::{Error, Kind};
use crate::log::Log;
use crate::system::sockets::Socket;
use std::borrow::Borrow;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// A program that was just started gets its command line within this time.
const EXEC_WAIT: Duration = Duration::from_millis(200);
/// How long to wait for a connection. Only a socket of a live QEMU with a full queue takes this
/// long.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// The threads of an ending process are gone within this time, except with a huge guest.
const THREADS_WAIT: Duration = Duration::from_secs(2);

/// The result of one look at a VM.
pub(crate) struct Look {
    /// The record of the VM's last start, read before the process was looked for.
    pub(crate) record: Option<Instance>,
    pub(crate) place: Place,
}

/// Whether and where a VM is running.
pub(crate) enum Place {
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
    /// The look at a VM that has no directory.
    pub(crate) fn nothing() -> Self {
        Self { record: None, place: Place::Gone }
    }

    /// Looks for the VM by the files in its directory.
    pub(crate) fn by_files(paths: &Paths) -> Result<Self, Error> {
        let record = Instance::read(paths)?;
        let place = place(paths, record.as_ref())?;
        Ok(Self { record, place })
    }

    /// Looks for the VM, even when all files that identify its process are gone.
    pub(crate) fn everywhere(paths: &Paths) -> Result<Self, Error> {
        let mut look = Self::by_files(paths)?;
        if look.place.is_gone()
            && let Some(process) = search(paths)?
        {
            // The record may have been written, or removed by a `stop`, since it was read.
            let is_lost = look.record.is_none() && {
                look.record = Instance::read(paths)?;
                look.record.is_none()
            };
            look.place = Place::Here(Process { lost: is_lost, ..process });
        }
        Ok(look)
    }

    /// The process, if the VM is running; an error if that process is not in reach.
    pub(crate) fn process(&self) -> Result<Option<&Process>, Error> {
        match &self.place {
            Place::Here(process) => Ok(Some(process)),
            Place::Gone => Ok(None),
            Place::Unseen => {
                let message = "the VM runs in a QEMU that cannot be seen from here";
                Err(Error::failed(message).hint("it is in another container: use qqmgr in there"))
            }
            Place::OtherHost(host) => {
                let message = format!("the VM was started on the host `{host}`, and may run there");
                let hint = "stop it there; if it is gone, `qqmgr stop --force` clears its record";
                Err(Error::failed(message).hint(hint))
            }
        }
    }

    /// The process of the VM, which must be running and in reach.
    pub(crate) fn running(&self, paths: &Paths) -> Result<&Process, Error> {
        let name = &paths.name;
        match self.process()? {
            Some(process) if process.lost => Err(process.is_lost(paths)),
            Some(process) => Ok(process),
            None => Err(Error::new(Kind::NotRunning, format!("VM `{name}` is not running"))
                .hint(format!("`qqmgr start {name}` starts it"))),
        }
    }

    /// How long the VM's process has run, from the system, or from the record if the system does
    /// not say.
    pub(crate) fn uptime(&self) -> Option<Duration> {
        let Place::Here(process) = &self.place else { return None };
        process.uptime.or_else(|| {
            let started_at = Duration::from_secs(self.record.as_ref()?.started_at);
            Some(now().saturating_sub(started_at))
        })
    }

    /// Whether the VM's QEMU has not answered so far, by the record and the event log.
    pub(crate) fn is_starting(&self, paths: &Paths) -> bool {
        self.record.as_ref().is_some_and(|record| !record.has_answered(paths))
    }

    /// The record, if the VM is running here.
    pub(crate) fn running_record(self) -> Result<Option<Instance>, Error> {
        Ok(if self.process()?.is_some() { self.record } else { None })
    }
}

impl Place {
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

/// The VM's process by the files in its directory, if the VM is running here.
pub(crate) fn find(paths: &Paths) -> Result<Option<Process>, Error> {
    Ok(Look::by_files(paths)?.process()?.cloned())
}

/// The VM's process, even when all files that identify it are gone.
pub(crate) fn find_anywhere(paths: &Paths) -> Result<Option<Process>, Error> {
    Ok(Look::everywhere(paths)?.process()?.cloned())
}

/// Traces the look of a command that starts or stops the VM, and gives what it has found.
pub(crate) fn traced<P: Borrow<Process>>(found: Option<P>, log: &Log) -> Option<P> {
    log.step("look", || match &found {
        Some(process) => format!("the VM runs, pid {}", process.borrow().pid),
        None => "the VM does not run".into(),
    });
    found
}

/// The process of the VM, which must be running and in reach.
pub(crate) fn running(paths: &Paths) -> Result<Process, Error> {
    Look::everywhere(paths)?.running(paths).cloned()
}

/// Finds a QEMU whose `start` was just killed, even before it has its pid file or its command line,
/// and while its directory is being removed. If there is none, this takes a moment, unless the
/// record says enough.
pub(crate) fn find_started(paths: &Paths) -> Result<Option<Process>, Error> {
    let deadline = Instant::now() + EXEC_WAIT;
    let may_come = |look: &Look| {
        look.place.is_gone() && look.record.as_ref().is_none_or(|record| record.pid.is_none())
    };
    let look = || match Look::everywhere(paths) {
        Ok(look) if may_come(&look) => None,
        Ok(look) => Some(look.process().map(Option::<&Process>::cloned)),
        Err(error) => Some(Err(error)),
    };
    Ok(wait::poll(deadline, look).transpose()?.flatten())
}

/// Finds whether and where the VM runs. `record` is that of its last start.
fn place(paths: &Paths, record: Option<&Instance>) -> Result<Place, Error> {
    let this = Machine::this()?;
    let other = record.map(|record| &record.machine).filter(|m| m.has_other_pids(&this));
    if other.is_none()
        && let Some(process) = visible(paths, record)?
    {
        return Ok(Place::Here(process));
    }
    if is_heard(paths)? {
        // QEMU may have begun to listen, and written its pid, since.
        if let Some(process) = visible(paths, record.filter(|_| other.is_none()))? {
            return Ok(Place::Here(process));
        }
        // The first thread of a killed QEMU is a zombie while the others still hold its socket.
        let silent = || is_heard(paths).map(|is_heard| (!is_heard).then_some(())).transpose();
        let end = Instant::now() + THREADS_WAIT;
        if other.is_some() || wait::poll(end, silent).transpose()?.is_none() {
            return Ok(Place::Unseen);
        }
    }
    Ok(match other.filter(|machine| machine.is_elsewhere(&this)) {
        Some(machine) => Place::OtherHost(machine.host.clone().unwrap_or_default()),
        None => Place::Gone,
    })
}

/// Whether a program listens, or may listen, on the VM's own socket.
fn is_heard(paths: &Paths) -> Result<bool, Error> {
    let connected = match paths.ctl.symlink_metadata() {
        Ok(_) => Socket::connect(paths.reachable(&paths.ctl)?, Instant::now() + CONNECT_WAIT).err(),
        Err(error) => Some(error),
    };
    let Some(error) = connected else { return Ok(true) };
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(true),
        ErrorKind::ConnectionRefused | ErrorKind::NotFound | ErrorKind::NotADirectory => Ok(false),
        _ => Err(Error::io("connect to", &paths.ctl, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::tests::Dir;

    #[test]
    fn somebody_listens_or_nobody_does() {
        let Dir(paths) = &Dir::new("look-heard");
        assert!(!is_heard(paths).unwrap());
        let listener = std::os::unix::net::UnixListener::bind(&paths.ctl).unwrap();
        assert!(is_heard(paths).unwrap());
        assert!(matches!(Look::by_files(paths).unwrap().place, Place::Unseen));
        drop(listener);
        assert!(!is_heard(paths).unwrap());
        assert!(Look::by_files(paths).unwrap().place.is_gone());
    }
}
