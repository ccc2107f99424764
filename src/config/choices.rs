//! Choices of a start in addition to the file.

use super::values::SshPort;
use super::vm::Vm;
use crate::source::{Problem, Span};

/// There are none by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choices<'a> {
    /// The port of a VM that has no fixed one. The port that a running VM was started with wins
    /// over the configured one.
    pub(crate) ssh_port: Option<u16>,
    /// Variables by the names that placeholders have, with their values, in which nothing is
    /// replaced. They win over those of the file; if a name is set twice, the last value counts.
    pub(crate) set: &'a [(String, String)],
}

impl Choices<'_> {
    pub(super) fn port(&self, vm: &Vm) -> Option<u16> {
        self.ssh_port.or(vm.port.fixed())
    }
}

/// The problem at `place` with a port that does not exist, or has not been chosen so far.
pub(super) fn no_port(vm: &Vm, place: Span) -> Problem {
    let name = &vm.name;
    if vm.port == SshPort::None {
        let message = format!("VM `{name}` has no ssh port: its `port` is \"none\"");
        return Problem::new(place, message).hint("leave the `hostfwd` out, or give it a port");
    }
    Problem::new(place, format!("the ssh port of VM `{name}` is chosen at start"))
}
