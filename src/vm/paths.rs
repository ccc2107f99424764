//! Where a VM's files are. Socket paths are limited to 107 bytes by the kernel; for a longer
//! directory, or one with characters that mean something to QEMU, the same sockets are reached
//! through a short symbolic link.

use crate::error::Error;
use crate::files;
use crate::linux::SOCKET_PATH_BYTES_MAX;
use crate::system::short_way;
use std::path::{Path, PathBuf};

/// The longest name that is bound in a VM's directory: that of a shared ssh connection. It is
/// `ssh.`, 40 digits and `.N`, and a dot and 16 random characters until it listens (`mux.c`).
const SOCKET_NAME_BYTES_MAX: usize = 46 + 17;

/// The files of one VM. All are in its directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) dir: PathBuf,
    pub(crate) pid: PathBuf,
    pub(crate) monitor: PathBuf,
    pub(crate) serial: PathBuf,
    pub(crate) qmp: PathBuf,
    /// The QMP socket that is qqmgr's own.
    pub(crate) ctl: PathBuf,
    /// The serial line of a VM with a console.
    pub(crate) console: PathBuf,
    /// Locked by who has the console.
    pub(crate) console_lock: PathBuf,
    /// Where QEMU listens for a debugger of the guest.
    pub(crate) gdb: PathBuf,
    /// What QEMU said.
    pub(crate) log: PathBuf,
    pub(crate) lock: PathBuf,
    /// Locked by every `run` that uses the VM.
    pub(crate) users: PathBuf,
    pub(crate) instance: PathBuf,
    pub(crate) ssh_config: PathBuf,
    /// The host keys of this guest, which outlive its starts.
    pub(crate) known_hosts: PathBuf,
    /// A link to the configuration's directory, where ssh could not read that one's own name.
    pub(crate) project: PathBuf,
    /// Without its endings `.in` and `.out`, which QEMU adds: a QMP session whose commands and
    /// answers are files.
    pub(crate) events: PathBuf,
    pub(crate) events_in: PathBuf,
    pub(crate) events_out: PathBuf,
    /// What is half done to the snapshots in the VM's disks.
    pub(crate) snapshot: PathBuf,
    /// How files are copied to this guest, found out at the first copy.
    pub(crate) copy_method: PathBuf,
}

impl Paths {
    /// The name of the VM, which its directory has behind `vm.`.
    pub(crate) fn vm_name(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("vm.").unwrap_or(&name).to_string()
    }

    pub(crate) fn new(dir: PathBuf) -> Self {
        let file = |name| dir.join(name);
        Self {
            pid: file("pid"),
            monitor: file("monitor.socket"),
            serial: file("serial"),
            qmp: file("qmp.socket"),
            ctl: file("ctl.socket"),
            console: file("console.socket"),
            console_lock: file("console.lock"),
            gdb: file("gdb.socket"),
            log: file("qemu.log"),
            lock: file("lock"),
            users: file("users"),
            instance: file("instance.json"),
            ssh_config: file("ssh.conf"),
            known_hosts: file("known_hosts"),
            project: file("project"),
            events: file("events"),
            events_in: file("events.in"),
            events_out: file("events.out"),
            snapshot: file("snapshot.json"),
            copy_method: file("copy-method"),
            dir,
        }
    }

    /// The path to bind or connect `socket` by: itself, or the way through the short link, which
    /// is made and verified.
    pub(crate) fn reachable(&self, socket: &Path) -> Result<PathBuf, Error> {
        if !fits(socket) {
            self.short_dir()?;
        }
        self.short_name(socket)
    }

    /// The path of [`Paths::reachable`] for a command line that is only composed: nothing is made.
    pub(crate) fn short_name(&self, socket: &Path) -> Result<PathBuf, Error> {
        if fits(socket) {
            return Ok(socket.to_path_buf());
        }
        Ok(short_way::short_link(&self.dir)?.join(socket.file_name().unwrap_or_default()))
    }

    /// A short way to the VM's directory, with nothing in it that any program would have to quote.
    pub(crate) fn short_dir(&self) -> Result<PathBuf, Error> {
        short_way::short_way(&self.dir)
    }

    /// The VM's directory by the name that suits every program: its own, or the short link's,
    /// which is not made.
    pub(crate) fn plain_dir(&self) -> Result<PathBuf, Error> {
        if self.needs_short_way() { short_way::short_link(&self.dir) } else { Ok(self.dir.clone()) }
    }

    /// Makes the short way for a VM that needs one.
    pub(crate) fn make_short_way(&self) -> Result<(), Error> {
        if self.needs_short_way() { self.short_dir().map(|_| ()) } else { Ok(()) }
    }

    /// Whether every socket of a VM can be bound in this directory by its name.
    pub(crate) fn has_room(dir: &Path) -> bool {
        dir.as_os_str().len() + "/".len() + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX
    }

    fn needs_short_way(&self) -> bool {
        !Self::has_room(&self.dir) || !files::is_plain(&self.dir)
    }

    /// Removes what only a running VM has. Logs stay, and the lock file.
    pub(crate) fn clean(&self) -> Result<(), Error> {
        // One that cannot be removed keeps no other.
        let removed = [
            self.remove_pid_file(),
            self.clean_for_start(),
            files::remove(&self.users),
            files::remove(&self.console_lock),
        ];
        removed.into_iter().collect()
    }

    pub(crate) fn remove_pid_file(&self) -> Result<(), Error> {
        files::remove(&self.pid)
            .map_err(|error| error.hint("it is in the place of QEMU's pid file: remove it"))
    }

    /// The same but for the pid file: QEMU takes a stale one over, and its lock on it is what
    /// keeps a second QEMU out when we do not see the first.
    pub(crate) fn clean_for_start(&self) -> Result<(), Error> {
        let sockets = [&self.monitor, &self.qmp, &self.ctl, &self.console, &self.gdb];
        let files =
            [&self.instance, &self.ssh_config, &self.project, &self.copy_method, &self.events_in];
        let removed: Vec<_> =
            files.into_iter().chain(sockets).map(|path| files::remove(path)).collect();
        removed.into_iter().collect::<Result<(), Error>>()?;
        files::remove_unfinished(&self.dir);
        // One that was never needed is not looked at, and one that is left does no harm.
        if self.needs_short_way() {
            let _ = short_way::short_link(&self.dir).and_then(|link| files::remove(&link));
        }
        Ok(())
    }
}

/// Whether the kernel takes the path of a socket, and QEMU reads all of it as that: what is in
/// front of a `=` would be an option, and what is behind a comma.
fn fits(socket: &Path) -> bool {
    socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX && files::is_plain(socket)
}
