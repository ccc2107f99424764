//! Snapshots of a VM: the content of its disks at one moment, and also of its machine if it is
//! running. They are kept in the disks themselves. QEMU makes those of a running VM ([`running`]),
//! and qemu-img those of a stopped one ([`stopped`]); both describe the same [`Disks`].

mod act;
mod disks;
pub(crate) mod journal;
pub(crate) mod origin;
mod part;
pub(crate) mod running;
pub(crate) mod saved;
mod stamp;
pub(crate) mod stopped;
mod tag;

pub(crate) use act::Act;
pub(crate) use disks::{Disk, Disks};
pub(crate) use origin::Origin;
pub(crate) use part::Part;
pub(crate) use running::Running;
pub(crate) use saved::Saved;
pub(crate) use stamp::Stamp;
pub(crate) use stopped::Stopped;
pub(crate) use tag::Tag;
