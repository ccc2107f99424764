//! `--from TAG` and the flags beside it.

use crate::cli::flag::{Flag, Takes};
use crate::cli::{Args, Command, usage_of};
use crate::error::Error;
use crate::vm::snapshot::Tag;

pub(crate) static FROM: Flag<Tag> = Flag::new(
    "from",
    Takes::Value("TAG"),
    Tag::read,
    "Begin with the machine and the disks of this snapshot",
);
pub(crate) static DISCARD: Flag =
    Flag::switch("discard", "With `--from`, lose what no snapshot of the disks has");
pub(crate) static NO_SET_CLOCK: Flag =
    Flag::switch("no-set-clock", "With `--from`, leave the guest's clock behind");

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

/// Refuses flags that need `--from`.
pub(crate) fn check_flags(args: &Args, command: &'static Command) -> Result<(), Error> {
    let dependent = [("discard", args.has(&DISCARD)), ("no-set-clock", args.has(&NO_SET_CLOCK))];
    match dependent.iter().find(|(_, is_given)| *is_given && !args.has(&FROM)) {
        Some((flag, _)) => Err(usage_of(command, format!("`--{flag}` is for `--from TAG`"))),
        None => Ok(()),
    }
}
