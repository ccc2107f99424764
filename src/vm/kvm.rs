//! TRUSTED CORE: opens `/dev/kvm`, to see whether this user may, and does nothing with it.

use std::fs::OpenOptions;
use std::io;

pub(crate) const DEVICE: &str = "/dev/kvm";

/// QEMU opens the device in the same way; reading it does nothing.
pub(crate) fn usable() -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map(|_| ())
}
