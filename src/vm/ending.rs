//! Why a QEMU ended.

use std::fmt;

/// QEMU's reason for an end when the guest has powered itself off.
pub(crate) const POWERED_OFF: &str = "guest-shutdown";

/// Why a QEMU ended, from its `SHUTDOWN` event (`ShutdownCause` of `qapi/run-state.json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Reported {
        reason: String,
        /// In seconds since 1970.
        at: Option<u64>,
    },
    /// QEMU reported no reason: it was killed, it crashed, or the guest has a device that ends
    /// QEMU, such as `isa-debug-exit`.
    Untold,
    /// There is no event log.
    Unknown,
}

impl Ending {
    /// QEMU's own word for the reason, if it gave one.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Reported { reason, .. } => Some(reason),
            Self::Untold | Self::Unknown => None,
        }
    }

    /// Whether the guest may have powered itself off: it has not if it panicked or reset.
    pub(crate) fn may_be_power_off(&self) -> bool {
        *self == Self::Unknown || self.reason() == Some(POWERED_OFF)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untold => "QEMU gave no reason: killed, crashed, or a debug exit of the guest",
            Self::Unknown => "why is not known",
            Self::Reported { reason, .. } => match reason.as_str() {
                POWERED_OFF => "the guest powered off",
                "guest-reset" => "the guest reset, and QEMU ends then",
                "guest-panic" => "the guest panicked",
                "host-signal" => "QEMU was ended by a signal",
                "host-qmp-quit" => "QEMU was told to quit",
                "host-ui" => "QEMU's window was closed",
                "host-error" => "QEMU met an error",
                other => return write!(f, "QEMU says `{other}`"),
            },
        })
    }
}
