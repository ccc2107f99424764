//! `qqmgr restart VM...`: stops and starts under one lock, so that no other command comes between.

use super::fleet::{self, Known};
use super::plan::Extra;
use super::start::{ARGS, Started};
use super::stop::{self, Stopped};
use super::target::Target;
use super::up::{TIMEOUT_DEFAULT, Up};
use crate::cli::spec;
use crate::cli::{Command, Outcome, Run};
use crate::error::Kind;
use crate::json::Value;
use crate::report::Report;

pub(crate) static COMMAND: Command = Command {
    name: "restart",
    about: "Stop VMs and start them again",
    details: "As they are configured now. One that is not running is started. When the\n\
              configuration has an error, the VM is not stopped. ARGS go to QEMU, behind\n\
              the VM's own arguments, for this start.",
    operands: &[spec::VMS, ARGS],
    flags: &[&spec::ALL, &spec::WAIT, &spec::SET, &stop::TIMEOUT, &stop::FORCE, &stop::NO_KILL],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&COMMAND, args, Known::Configured, tell, run);
    }),
};

struct Restarted {
    stopped: Stopped,
    started: Started,
}

fn run(target: &Target) -> Outcome {
    let args = target.args;
    let extra = Extra::of(args);
    let mut up = Up::new(target, extra, TIMEOUT_DEFAULT)?;
    up.check_restart()?;
    up.build_images(&|| None)?;
    let force = stop::force(args);
    let (stopped, lock) = stop::stop(target, &COMMAND, force)?;
    let lock = lock.map_or_else(|| stop::lock_for(target, &COMMAND), Ok)?;
    let running = up.under(lock).map_err(|error| {
        let done = format!("VM `{}` was stopped, and does not start again", target.name);
        if stopped.was_running() { error.after(&done) } else { error }
    })?;
    let started = Started::new(target, running)?;
    Ok(Box::new(Restarted { stopped, started }))
}

impl Report for Restarted {
    fn text(&self) -> String {
        let stopped = if self.stopped.was_running() { self.stopped.text() } else { String::new() };
        stopped + &self.started.text()
    }

    fn json(&self) -> Value {
        let stopped = ("stopped", Value::object(self.stopped.json_members().into_iter().skip(1)));
        Value::object(self.started.json_members().into_iter().chain([stopped]))
    }
}
