//! `qqmgr start VM...`: what a VM is started with ([`plan`]), how that differs from what it runs
//! with ([`changes`]), and the start itself ([`begin`]).

mod begin;
pub(crate) mod changes;
mod origins;
pub(crate) mod plan;
pub(super) mod ports;

use super::images::Images;
use super::reach::Reach;
use super::stop::Stop;
use super::target::{Target, no_ssh};
use super::vms::are_several;
use super::{console, on_guest};
use crate::cli::{Args, Command, Count, Flag, Operand, refuse_if, spec};
use crate::config::SshPort;
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::out;
use crate::report::Outcome;
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::look;
use crate::vm::ready::Ready;
pub(crate) use begin::{Start, TIMEOUT_DEFAULT};
pub(crate) use origins::Origins;
pub(crate) use plan::{DISCARD, FROM, IS_FOR_FROM, LOADVM, NO_SET_CLOCK, StartOptions};
use plan::{Inputs, check_arguments};
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
        &FROM,
        &DISCARD,
        &NO_SET_CLOCK,
        &TIMEOUT,
    ],
    check,
    examples: &["start dev --wait", "start 'node-*'", "start dev --set memory=4G -- -s -S"],
    ..Command::DEFAULT
};

pub(crate) const ARGS: Operand = Operand::new("ARGS", Count::Words);

static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Give up on QEMU after this long (default 60)");

/// The state of a guest that QEMU keeps from running from the start (`-S`).
const PRELAUNCH: &str = "prelaunch";

/// Refuses `--console` for several VMs and with `--json`, and words that QEMU must not get.
pub(super) fn check(args: &Args) -> Result<(), Error> {
    let is_wrong = args.has(&spec::CONSOLE) && (args.json() || are_several(&args.operands));
    refuse_if(&[(is_wrong, "`--console` takes one VM by its name, and no `--json`")])?;
    check_arguments(&args.words)
}

/// Refuses `--wait` and `--console` for a VM that would be started without ssh, without a console,
/// or with a guest that does not run.
pub(super) fn check_flags(start: &mut Start) -> Result<(), Error> {
    let Inputs { target: Target { args, name, .. }, vm, .. } = start.inputs;
    let waits = args.has(&spec::WAIT);
    if waits && vm.port == SshPort::None {
        return Err(no_ssh(name));
    }
    if args.has(&spec::CONSOLE) && !vm.console {
        return Err(Error::failed(format!("VM `{name}` has no console to attach to"))
            .hint(format!("put `console = true` into `[vm.{name}]`")));
    }
    if waits && start.plan()?.holds_guest {
        let message = "`--wait` waits for ssh, and with `-S` the guest does not run";
        let hint = format!(
            "`qqmgr start {name}`, `qqmgr resume {name}` and `qqmgr wait {name} --for ssh`"
        );
        return Err(Error::new(Kind::Usage, message).hint(hint));
    }
    Ok(())
}

pub(super) fn run(target: &Target) -> Outcome {
    let args = target.args;
    let mut start = Start::new(target, StartOptions::of(args))?;
    // A VM that is already running is left alone, and its configuration may have become wrong.
    if look::find_anywhere(&target.paths)?.is_none() {
        check_flags(&mut start)?;
        start.prepare(&|| None)?;
    } else if args.has(&spec::WAIT) {
        target.check_has_ssh()?;
    }
    let lock = lock(&target.paths, COMMAND.name, LOCK_WAIT, &target.log)?;
    let (ready, lock) = start.begin(lock, args.value(&TIMEOUT).unwrap_or(TIMEOUT_DEFAULT))?;
    drop(lock);
    after(start, &ready, None)
}

/// Gives the images of a VM that was started back, waits for its guest, reports the start and the
/// stop before it, and attaches to the console, as was asked for.
pub(super) fn after(start: Start, ready: &Ready, stop: Option<&Stop>) -> Outcome {
    let Images { built, grown, .. } = start.images.unwrap_or_default();
    let Inputs { target, options, ssh_port, .. } = start.inputs;
    let log = target.log.with_remark("; Ctrl-C leaves the VM running");
    let target = &Target { log, ..target.clone() };
    let name = &target.name;
    if !ready.already_running {
        if ready.run_state == PRELAUNCH {
            let way_on = format!("VM `{name}` is {PRELAUNCH}: `qqmgr resume {name}` lets it go on");
            target.log.note(&way_on);
        }
        target.note_own_port();
    }
    if let Some(wait) = target.args.value(&spec::WAIT) {
        let reach = Reach::running(target, wait.limit)?;
        let usable = reach.server().and_then(|()| reach.first_boot());
        usable.map_err(|error| target.still_runs(error))?;
    }
    let from = options.from;
    if from.is_some() && !target.args.has(&NO_SET_CLOCK) {
        on_guest::set_clock(target);
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
    let stopped = stop.map(|stop| ("stopped", Value::object(stop.members())));
    let before = stop.filter(|stop| stop.was_running()).map(Stop::text).unwrap_or_default();
    let members = members.into_iter().chain(from).chain(stopped);
    let report = target.report(before + &text, members);
    if !target.args.has(&spec::CONSOLE) {
        return Ok(report);
    }
    out::write(report.text.as_bytes())?;
    console::run(target)
}
