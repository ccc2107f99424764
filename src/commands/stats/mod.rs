//! `qqmgr stats VM...`

mod usage;
mod watching;

use super::vms::{self, Scope};
use crate::answers::Answers;
use crate::cli::{Args, Command, Flag, spec};
use crate::error::Error;
use usage::Used;

pub(crate) static COMMAND: Command = Command {
    name: "stats",
    about: "Show what VMs use: CPU, memory, disks, network",
    details: "CPU time is that of QEMU's process, over its life, and with `--watch` over the\n\
              last second.",
    operands: &[spec::VMS],
    flags: &[&spec::ALL, &WATCH],
    examples: &["stats dev", "stats --all --watch"],
    ..Command::DEFAULT
};

static WATCH: Flag = Flag::switch("watch", "Again each second, as long as the VMs run").short('w');

pub(super) fn run(args: &Args, answers: &mut Answers) -> Result<(), Error> {
    if args.has(&WATCH) {
        return vms::together(args, Scope::Running, answers, watching::watch);
    }
    vms::each(args, Scope::Running, None, "", answers, |target| {
        Ok(Used::now(target, None)?.report())
    })?;
    Ok(())
}
