//! Tries the KVM device, to see whether this user may, and does nothing with it.

use crate::linux::KVM_DEVICE;
use crate::system::files;
use std::io;
use std::path::Path;

/// Whether the device can be opened for reading and writing, as QEMU opens it. Opening has no
/// effect.
pub(crate) fn usable() -> io::Result<()> {
    files::try_to_open(Path::new(KVM_DEVICE))
}
