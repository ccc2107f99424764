//! The results of a start.

use crate::vm::Process;
use crate::vm::ready::Ready;
use crate::vm::snapshot::Tag;
use std::ffi::OsString;

/// A VM that runs.
pub(crate) struct Running {
    pub(crate) ready: Ready,
    /// `None` for a guest without ssh.
    pub(crate) ssh_port: Option<u16>,
    /// The snapshot that it was started from.
    pub(crate) from: Option<Tag>,
    /// The images that were made for this start.
    pub(crate) built: Vec<String>,
    /// The images whose disks were grown for it.
    pub(crate) grown: Vec<String>,
}

/// A VM for a debugger: its process, or the command line of QEMU if it is not running.
pub(crate) enum Debuggee {
    Process(Process),
    Argv(Vec<OsString>),
}
