//! The paths of a VM's files. The kernel limits socket paths to 107 bytes. If the directory's path
//! is longer, or has characters with a meaning to QEMU, the sockets are reached through a short
//! symbolic link.

use crate::error::Error;
use crate::linux::SOCKET_PATH_BYTES_MAX;
use crate::system::{files, short_way};
use std::path::{Path, PathBuf};

/// The length of the longest name of a socket in a VM's directory: that of a shared ssh connection.
/// It is `ssh.`, 40 digits and `.N`, plus a dot and 16 random characters until it listens
/// (`mux.c`).
const SOCKET_NAME_BYTES_MAX: usize = 46 + 17;

/// The files of one VM. All are in its directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The name of the VM: its directory's name without `vm.`.
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) pid: PathBuf,
    pub(crate) monitor: PathBuf,
    pub(crate) serial: PathBuf,
    pub(crate) qmp: PathBuf,
    /// The QMP socket that is qqmgr's own.
    pub(crate) ctl: PathBuf,
    /// The serial line of a VM with a console.
    pub(crate) console: PathBuf,
    /// The file that is locked by the user of the console.
    pub(crate) console_lock: PathBuf,
    /// The socket on which QEMU listens for a debugger of the guest.
    pub(crate) gdb: PathBuf,
    /// QEMU's output.
    pub(crate) log: PathBuf,
    pub(crate) lock: PathBuf,
    /// The file that is locked by every `run` that uses the VM.
    pub(crate) users: PathBuf,
    pub(crate) instance: PathBuf,
    pub(crate) ssh_config: PathBuf,
    /// The host keys of this guest, which outlive its starts.
    pub(crate) known_hosts: PathBuf,
    /// A link to the configuration's directory, made when ssh could not read the directory's own
    /// name.
    pub(crate) project: PathBuf,
    /// The event log's path without the endings `.in` and `.out`, which QEMU adds: a QMP session
    /// whose commands and answers are files.
    pub(crate) events: PathBuf,
    pub(crate) events_in: PathBuf,
    pub(crate) events_out: PathBuf,
    /// The journal of unfinished work on the snapshots in the VM's disks.
    pub(crate) snapshot: PathBuf,
    /// The record of those snapshots; see [`crate::vm::snapshot::Saved`].
    pub(crate) saved: PathBuf,
    /// The method by which files are copied to this guest, recorded at the first copy.
    pub(crate) copy_method: PathBuf,
}

impl Paths {
    pub(crate) fn new(dir: PathBuf) -> Self {
        let file = |name| dir.join(name);
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        Self {
            name: name.strip_prefix("vm.").unwrap_or(&name).to_string(),
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
            saved: file("saved.json"),
            copy_method: file("copy-method"),
            dir,
        }
    }

    /// The output of a helper.
    pub(crate) fn helper_log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("helper.{name}.log"))
    }

    /// The path by which to bind or connect `socket`: its own, or one through the short link, which
    /// is made and verified.
    pub(crate) fn reachable(&self, socket: &Path) -> Result<PathBuf, Error> {
        if !fits(socket) {
            self.short_dir()?;
        }
        self.short_name(socket)
    }

    /// The path of [`Paths::reachable`] for a command line that is only composed; makes no link.
    pub(crate) fn short_name(&self, socket: &Path) -> Result<PathBuf, Error> {
        if fits(socket) {
            return Ok(socket.to_path_buf());
        }
        Ok(short_way::short_link(&self.dir)?.join(socket.file_name().unwrap_or_default()))
    }

    /// A short path to the VM's directory that no program has to quote.
    pub(crate) fn short_dir(&self) -> Result<PathBuf, Error> {
        short_way::short_way(&self.dir)
    }

    /// The VM's directory by a name that suits every program: its own, or the short link's. Makes
    /// no link.
    pub(crate) fn plain_dir(&self) -> Result<PathBuf, Error> {
        if self.needs_short_way() { short_way::short_link(&self.dir) } else { Ok(self.dir.clone()) }
    }

    /// Makes the short link for a VM that needs one, and gives the path of [`Paths::plain_dir`].
    pub(crate) fn make_plain_dir(&self) -> Result<PathBuf, Error> {
        if self.needs_short_way() { self.short_dir() } else { Ok(self.dir.clone()) }
    }

    /// Whether every socket of a VM can be bound in this directory by its name.
    pub(crate) fn has_room(dir: &Path) -> bool {
        dir.as_os_str().len() + "/".len() + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX
    }

    pub(super) fn needs_short_way(&self) -> bool {
        !Self::has_room(&self.dir) || !files::is_plain(&self.dir)
    }
}

/// Whether the kernel accepts the path of a socket, and QEMU reads all of it as a path: QEMU would
/// read text before a `=` or after a comma as an option.
fn fits(socket: &Path) -> bool {
    socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX && files::is_plain(socket)
}
