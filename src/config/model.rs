//! The typed configuration: a value that exists here is valid.

use crate::source::{Problem, Span};
use crate::toml::Table;
use std::fmt;
use std::num::NonZeroU16;

/// The default of `bin` in `[qemu]`.
pub(crate) const QEMU_BIN: &str = "qemu-system-x86_64";
/// The default of `img` in `[qemu]`.
pub(crate) const QEMU_IMG: &str = "qemu-img";
/// The default of `user` in `[img.NAME.cloud_init]`.
pub(super) const USER: &str = "dev";
/// The default and the maximum of `boots`: how many serial outputs of earlier boots are kept.
pub(super) const BOOTS: u32 = 5;
pub(super) const BOOTS_MAX: u32 = 99;
/// The default of `vm_port` in `[vm.NAME.ssh]`: ssh's own port.
pub(super) const VM_PORT: u16 = 22;

#[derive(Debug)]
pub(crate) struct Model {
    pub(super) qemu_bin: Option<Literal>,
    pub(super) qemu_img: Option<Literal>,
    pub(super) vars: Table,
    pub(super) ssh: Vec<SshOption>,
    pub(super) vms: Vec<Vm>,
    /// The VMs that cannot be used.
    pub(super) broken: Vec<Broken>,
    pub(super) images: Vec<Image>,
}

/// A disk that is made when it is needed.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: String,
    /// The place of the name.
    pub(crate) span: Span,
    /// The content before anything is written to it; `None` for an empty disk.
    pub(super) base: Option<Base>,
    /// The bytes that the guest sees, and where the file says so; by default those of the base.
    pub(super) size: Option<(u64, Span)>,
    pub(super) cloud_init: Option<CloudInit>,
}

#[derive(Debug)]
pub(crate) struct Base {
    /// A path, or a URL that has a sum.
    pub(super) location: Literal,
    /// The expected sum in lower case.
    pub(super) sha256: Option<String>,
}

/// The data that a guest gets at its first boot.
#[derive(Debug)]
pub(crate) enum CloudInit {
    /// A file of the user's own.
    File(Literal),
    Keys {
        user: String,
        /// The names of files; `None` for a key pair of the image's own.
        authorized_keys: Option<Vec<Literal>>,
        hostname: Option<Literal>,
        packages: Vec<Literal>,
        run: Vec<Literal>,
    },
}

/// A VM with a problem in its table, or in that of a VM that it extends. Commands still work on the
/// other VMs.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) name: String,
    /// The place of the name.
    pub(crate) span: Span,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    /// The place of the name.
    pub(crate) span: Span,
    /// The index of the VM that it extends; never in a ring.
    pub(super) extends: Option<usize>,
    pub(super) own: Own,
    /// The port on this host where ssh reaches the guest.
    pub(crate) port: SshPort,
    /// The port where the guest's ssh server listens.
    pub(crate) vm_port: Port,
}

/// The keys of a VM's own table. [`Model`] adds what it takes over from others.
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

/// A string of the file, with its placeholders.
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

/// The value of `port` in a VM's ssh table.
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
