//! `--from TAG` and the flags beside it.

use crate::cli::{Args, Flag, Takes};
use crate::vm::snapshot::Tag;

/// The end of the error of a flag that stands without `--from`.
pub(crate) const IS_FOR_FROM: &str = "is for `--from TAG`";

pub(crate) static FROM: Flag<Tag> = Flag::new(
    "from",
    Takes::Value("TAG"),
    Tag::read,
    "Begin with the machine and the disks of this snapshot",
);
pub(crate) static DISCARD: Flag =
    Flag::switch("discard", "With `--from`, lose disk changes that no snapshot has")
        .needs("from", IS_FOR_FROM);
pub(crate) static NO_SET_CLOCK: Flag =
    Flag::switch("no-set-clock", "With `--from`, do not set the guest's clock")
        .needs("from", IS_FOR_FROM);

/// QEMU's option for a start from a snapshot.
pub(crate) const LOADVM: &str = "-loadvm";
/// The snapshot that a start was asked to begin with.
#[derive(Clone, Debug)]
pub(crate) struct From {
    pub(crate) tag: Tag,
    /// Whether the content of the disks that no snapshot has may be lost.
    pub(crate) discard: bool,
}

impl From {
    pub(crate) fn of(args: &Args) -> Option<Self> {
        Some(Self { tag: args.value(&FROM)?, discard: args.has(&DISCARD) })
    }
}
