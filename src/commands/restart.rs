//! `qqmgr restart VM...`: stops and starts under one lock, so that no other command comes between.

use super::start::ARGS;
use super::start::begin::{Start, TIMEOUT_DEFAULT};
use super::start::plan::{StartOptions, check_arguments};
use super::stop::Stop;
use super::target::{Target, no_ssh};
use super::{attach, start, stop};
use crate::cli::{Command, spec};
use crate::config::SshPort;
use crate::json::Value;
use crate::report::{Outcome, Report};
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
    check: |args| {
        attach::check(args)?;
        stop::check(args).and_then(|()| check_arguments(&args.words))
    },
    examples: &["restart dev --wait", "restart dev --set kernel=build/bzImage"],
    ..Command::DEFAULT
};

pub(super) fn run(target: &Target) -> Outcome {
    let args = target.args;
    let mut start = Start::new(target, StartOptions::of(args))?;
    if args.has(&spec::WAIT) {
        if start.inputs.vm.port == SshPort::None {
            return Err(no_ssh(&target.name));
        }
        start.check_wait()?;
    }
    attach::check_configured(target)?;
    start.check_restart()?;
    start.prepare(&|| None)?;
    let mut stop = Stop::new(target, &COMMAND, stop::force(target));
    stop.stop()?;
    let lock_now = || lock(&target.paths, COMMAND.name, LOCK_WAIT, &target.log);
    let lock = stop.lock.take().map_or_else(lock_now, Ok)?;
    let (running, lock) = start.begin(lock, TIMEOUT_DEFAULT).map_err(|error| {
        let done = format!("VM `{}` was stopped, but could not be started again", target.name);
        if stop.was_running() { error.after(&done) } else { error }
    })?;
    drop(lock);
    let report =
        start::after(target, running)?.with_member("stopped", Value::object(stop.members()));
    let before = if stop.was_running() { stop.text() } else { String::new() };
    attach::after(target, Report { text: before + &report.text, ..report })
}
