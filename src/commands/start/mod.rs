//! `qqmgr start VM...`: what a VM is started with ([`plan`]), how that differs from what it runs
//! with ([`changes`]), and the start itself ([`begin`]).

pub(crate) mod begin;
pub(crate) mod changes;
mod found;
pub(crate) mod from;
pub(crate) mod origins;
pub(crate) mod plan;
pub(super) mod ports;
pub(crate) mod result;

use super::target::Target;
use super::{attach, clock, reach};
use crate::cli::{Command, Count, Flag, Operand, spec};
use crate::json::Value;
use crate::report::Outcome;
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::{Deadline, look};
use begin::{Start, TIMEOUT_DEFAULT};
use plan::{StartOptions, check_arguments};
use result::Running;
use std::time::Duration;

pub(crate) static COMMAND: Command = Command {
    name: "start",
    about: "Start VMs and wait until QEMU answers",
    details: "A VM that is already running is left alone, and the exit status is 0. ARGS\n\
              go to QEMU, after the VM's own arguments, for this start.",
    operands: &[spec::VMS, ARGS],
    flags: &[
        &spec::ALL,
        &spec::WAIT,
        &spec::CONSOLE,
        &spec::SET,
        &from::FROM,
        &from::DISCARD,
        &from::NO_SET_CLOCK,
        &TIMEOUT,
    ],
    check: |args| attach::check(args).and_then(|()| check_arguments(&args.words)),
    examples: &["start dev --wait", "start 'node-*'", "start dev --set memory=4G -- -s -S"],
    ..Command::DEFAULT
};

pub(crate) const ARGS: Operand = Operand::new("ARGS", Count::Words);

static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Give up on QEMU after this long (default 60)");

/// The state of a guest that QEMU keeps from running from the start (`-S`).
const PRELAUNCH: &str = "prelaunch";

pub(super) fn run(target: &Target) -> Outcome {
    let args = target.args;
    if args.has(&spec::WAIT) {
        target.check_has_ssh()?;
    }
    let mut start = Start::new(target, StartOptions::of(args))?;
    // A VM that is already running is left alone, and its configuration may have become wrong.
    if look::find_anywhere(&target.paths)?.is_none() {
        attach::check_configured(target)?;
        if args.has(&spec::WAIT) {
            start.check_wait()?;
        }
        start.prepare(&|| None)?;
    }
    let lock = lock(&target.paths, COMMAND.name, LOCK_WAIT, &target.log)?;
    let (running, lock) = start.begin(lock, args.value(&TIMEOUT).unwrap_or(TIMEOUT_DEFAULT))?;
    drop(lock);
    attach::after(target, after(target, running)?)
}

/// Waits for the guest of a VM that was started, if that was asked for, and reports the start.
pub(super) fn after(target: &Target, running: Running) -> Outcome {
    let log = target.log.with_remark("; Ctrl-C leaves the VM running");
    let target = &Target { log, ..target.clone() };
    let name = &target.name;
    let Running { ready, ssh_port, built, grown, from } = running;
    if !ready.already_running {
        if ready.run_state == PRELAUNCH {
            let way_on = format!("VM `{name}` is {PRELAUNCH}: `qqmgr resume {name}` lets it go on");
            target.log.note(&way_on);
        }
        target.note_own_port();
    }
    if let Some(wait) = target.args.value(&spec::WAIT) {
        let deadline = Deadline::after(wait.limit);
        let process = reach::for_ssh(target, deadline)?;
        let usable = reach::for_first_boot(target, &process, deadline);
        usable.map_err(|error| reach::hint_that_it_runs(target, error))?;
    }
    if from.is_some() && !target.args.has(&from::NO_SET_CLOCK) {
        clock::set(target);
    }
    let what = match &from {
        _ if ready.already_running => "is already running".into(),
        Some(tag) => format!("started from `{tag}`"),
        None => "started".into(),
    };
    let (state, pid) = (&ready.run_state, ready.process.pid);
    let port = ssh_port.map(|port| format!(", ssh port {port}")).unwrap_or_default();
    let text = format!("{name} {what}: {state}, pid {pid}{port}\n");
    let members = [
        ("pid", Value::from(pid)),
        ("state", state.into()),
        ("ssh", Value::object([("port", ssh_port.into())])),
        ("already_running", ready.already_running.into()),
        ("built", built.into_iter().collect()),
        ("grown", grown.into_iter().collect()),
    ];
    let from = from.map(|tag| ("from", tag.as_str().into()));
    Ok(target.report(text, members.into_iter().chain(from)))
}
