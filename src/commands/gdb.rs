//! `qqmgr gdb VM [-- ARGS...]`: becomes gdb, so that every signal and terminal mode is gdb's own.

use super::start::{Start, StartOptions};
use super::target::Target;
use crate::cli::{Args, Command, Count, Flag, Operand, spec};
use crate::error::Error;
use crate::report::Outcome;
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::{Session, gdb, look};
use std::ffi::OsString;

pub(crate) static COMMAND: Command = Command {
    name: "gdb",
    about: "Debug QEMU itself, or the guest's kernel",
    details: "gdb attaches to a running QEMU. Otherwise, gdb has the VM's command line, and\n\
              `run` starts it. ARGS go to gdb. The exit code is gdb's.",
    operands: &[spec::VM, Operand::new("ARGS", Count::Words)],
    flags: &[&GUEST],
    check,
    examples: &["gdb dev --guest -- vmlinux", "gdb dev"],
    ..Command::DEFAULT
};

static GUEST: Flag = Flag::switch("guest", "Attach to the guest of a running VM, not to QEMU");

fn check(args: &Args) -> Result<(), Error> {
    if args.json() {
        return Err(Error::usage("`gdb` has no result for `--json`")
            .hint("`qqmgr gdb VM -- -batch -ex COMMAND` prints what gdb answers"));
    }
    Ok(())
}

pub(super) fn run(target: &Target) -> Outcome {
    let program = gdb::find()?;
    let words = if target.args.has(&GUEST) { guest(target)? } else { qemu(target)? };
    let argv = [&[program], words.as_slice(), &target.args.words].concat();
    Err(gdb::replace_us(&argv, &target.log))
}

fn guest(target: &Target) -> Result<Vec<OsString>, Error> {
    let mut session = Session::open(&target.paths, &target.log)?;
    let listener = gdb::listener(&mut session, &target.paths)?;
    Ok(gdb::command("target remote ", &listener).into())
}

fn qemu(target: &Target) -> Result<Vec<OsString>, Error> {
    let Target { config, paths, log, .. } = target;
    if let Some(process) = look::find(paths)?.filter(|process| !process.exiting) {
        return Ok(gdb::attach(process.pid));
    }
    let mut start = Start::new(target, StartOptions::default())?;
    let bin = gdb::binary(&start.plan()?.argv[0])?;
    start.prepare(&|| None)?;
    let boots = start.inputs.vm.boots;
    let lock = lock(paths, COMMAND.name, LOCK_WAIT, log)?;
    Ok(match start.for_debugger(lock)? {
        Some(process) => gdb::attach(process.pid),
        None => gdb::start(&bin, &start.plan()?.argv[1..], config.dir(), paths, boots),
    })
}
