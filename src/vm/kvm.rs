//! TRUSTED CORE: opens the KVM device, to see whether this user may, and does nothing with it.

use crate::linux::KVM_DEVICE;
use std::fs::OpenOptions;
use std::io;

/// Whether the device can be opened for reading and writing, as QEMU opens it. Opening has no
/// effect.
pub(crate) fn usable() -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(KVM_DEVICE).map(|_| ())
}
