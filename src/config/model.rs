//! The typed configuration: a value that exists here is valid.

use crate::text::Span;
use crate::toml::Table;
use std::fmt;
use std::num::NonZeroU16;

/// Without `[qemu]`.
pub(crate) const QEMU_BIN: &str = "qemu-system-x86_64";
/// Without `boots`, and at most: serial outputs of earlier boots.
pub(super) const BOOTS: u32 = 5;
pub(super) const BOOTS_MAX: u32 = 99;
/// Without `vm_port` in `[vm.NAME.ssh]`: ssh's own.
pub(super) const VM_PORT: u16 = 22;

#[derive(Debug)]
pub(crate) struct Model {
    pub(super) qemu_bin: Option<Literal>,
    /// Only checked: nothing makes images yet.
    pub(super) qemu_img: Option<Literal>,
    pub(super) vars: Table,
    pub(super) ssh: Vec<SshOption>,
    pub(super) vms: Vec<Vm>,
}

#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    /// Of the name.
    pub(crate) span: Span,
    /// Where among the VMs the one is that it extends; never in a ring.
    pub(super) extends: Option<usize>,
    pub(super) own: Own,
    /// Where ssh reaches the guest on this host.
    pub(crate) port: SshPort,
    /// Where the guest's ssh server listens.
    pub(crate) vm_port: Port,
}

/// What a VM's table itself says. What it takes over as well, [`Model`] tells.
#[derive(Debug)]
pub(crate) struct Own {
    pub(super) qemu: Option<Literal>,
    pub(super) cmd: Option<Vec<Literal>>,
    pub(super) cmd_append: Option<Vec<Literal>>,
    pub(super) console: Option<bool>,
    pub(super) gdb: Option<bool>,
    pub(super) boots: Option<u32>,
    pub(super) vars: Table,
    pub(super) ssh: Vec<SshOption>,
}

/// A string of the file, placeholders in it.
#[derive(Clone, Debug)]
pub(crate) struct Literal {
    pub(super) text: String,
    pub(super) span: Span,
}

/// A keyword of ssh_config(5) with the values of its lines.
#[derive(Debug)]
pub(crate) struct SshOption {
    pub(super) name: String,
    pub(super) values: Vec<Setting>,
}

#[derive(Debug)]
pub(crate) enum Setting {
    Text(Literal),
    /// A number, or `yes` or `no`.
    AsWritten(String),
}

/// What `port` of a VM's ssh table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SshPort {
    Fixed(Port),
    /// Chosen at each start.
    Auto,
}

impl SshPort {
    pub(crate) fn fixed(self) -> Option<u16> {
        match self {
            Self::Fixed(port) => Some(port.get()),
            Self::Auto => None,
        }
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port(NonZeroU16);

impl Port {
    pub(crate) fn new(number: i64) -> Option<Self> {
        u16::try_from(number).ok().and_then(NonZeroU16::new).map(Self)
    }

    pub(crate) fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
