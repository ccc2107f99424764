//! `--from TAG` and the flags beside it.

use crate::cli::{Flag, Takes};
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
