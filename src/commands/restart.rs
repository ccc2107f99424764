//! `qqmgr restart VM...`: stops and starts under one lock, so that no other command comes between.

use super::start::{self, ARGS, Start, StartOptions, TIMEOUT_DEFAULT};
use super::stop::{self, Stop};
use super::target::Target;
use crate::cli::{Command, spec};
use crate::report::Outcome;
use crate::vm::lock::{LOCK_WAIT, lock};

pub(crate) static COMMAND: Command = Command {
    name: "restart",
    about: "Stop VMs and start them again",
    details: "A VM starts as it is configured now; a VM that is not running is started, too.\n\
              If the configuration has an error, the VM is not stopped. ARGS go to QEMU,\n\
              after the VM's own arguments, for this start.",
    operands: &[spec::VMS, ARGS],
    flags: &[
        &spec::ALL,
        &spec::WAIT,
        &spec::CONSOLE,
        &spec::SET,
        &stop::TIMEOUT,
        &stop::FORCE,
        &stop::NO_KILL,
    ],
    check: |args| start::check(args).and_then(|()| stop::check(args)),
    examples: &["restart dev --wait", "restart dev --set kernel=build/bzImage"],
    ..Command::DEFAULT
};

pub(super) fn run(target: &Target) -> Outcome {
    let mut start = Start::new(target, StartOptions::of(target.args))?;
    start::check_flags(&mut start)?;
    start.prepare_restart()?;
    let mut stop = Stop::new(target, &COMMAND, stop::force(target));
    stop.stop()?;
    let lock_now = || lock(&target.paths, COMMAND.name, LOCK_WAIT, &target.log);
    let lock = stop.lock.take().map_or_else(lock_now, Ok)?;
    let (ready, lock) = start.begin(lock, TIMEOUT_DEFAULT).map_err(|error| {
        let done = format!("VM `{}` was stopped, but could not be started again", target.name);
        if stop.was_running() { error.after(&done) } else { error }
    })?;
    drop(lock);
    start::after(start, &ready, Some(&stop))
}
