//! `pause`, `resume`, `reset`, `powerdown` and `nmi`: one QMP command each, and the state that it
//! left the VM in.

use super::fleet::{self, Known};
use super::target::Target;
use crate::cli::spec;
use crate::cli::{Command, Outcome, Run};
use crate::error::Kind;
use crate::json::Value;
use crate::report::Report;
use crate::vm::session::Session;

pub(crate) static PAUSE: Command = Command {
    name: "pause",
    about: "Stop the CPUs of VMs, until `resume`",
    details: "",
    operands: &[spec::VMS],
    flags: &[&spec::ALL],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&PAUSE, args, Known::Running, tell, |vm| control(vm, "stop", "paused"));
    }),
};

pub(crate) static RESUME: Command = Command {
    name: "resume",
    about: "Let VMs go on that are paused or suspended",
    details: "",
    operands: &[spec::VMS],
    flags: &[&spec::ALL],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&RESUME, args, Known::Running, tell, resume);
    }),
};

pub(crate) static RESET: Command = Command {
    name: "reset",
    about: "Press the reset button of VMs",
    details: "The guest is not asked, and loses what it has not written. `qqmgr ssh VM reboot`\n\
              and `restart` are gentler.",
    operands: &[spec::VMS],
    flags: &[&spec::ALL],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&RESET, args, Known::Running, tell, |vm| control(vm, "system_reset", "reset"));
    }),
};

pub(crate) static POWERDOWN: Command = Command {
    name: "powerdown",
    about: "Press the power button of VMs once",
    details: "What the guest makes of it is its own business; `stop` waits for the end.",
    operands: &[spec::VMS],
    flags: &[&spec::ALL],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&POWERDOWN, args, Known::Running, tell, |vm| {
            control(vm, "system_powerdown", "power button pressed")
        });
    }),
};

pub(crate) static NMI: Command = Command {
    name: "nmi",
    about: "Send VMs a non-maskable interrupt",
    details: "A Linux guest that has `kernel.unknown_nmi_panic` set panics, and so can dump.",
    operands: &[spec::VMS],
    flags: &[&spec::ALL],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&NMI, args, Known::Running, tell, |vm| control(vm, "inject-nmi", "NMI sent"));
    }),
};

struct Controlled {
    name: String,
    pid: u32,
    /// Completes the VM's name.
    what: &'static str,
    state: String,
}

fn control(target: &Target, command: &str, what: &'static str) -> Outcome {
    let session = Session::open(&target.name, &target.paths, &target.log)?;
    told(target, session, command, what)
}

/// What lets a guest go on depends on what keeps it: `cont` does nothing for one that has
/// suspended itself.
fn resume(target: &Target) -> Outcome {
    let mut session = Session::open(&target.name, &target.paths, &target.log)?;
    let suspended = session.run_state()? == "suspended";
    let command = if suspended { "system_wakeup" } else { "cont" };
    told(target, session, command, "resumed")
}

fn told(target: &Target, mut session: Session, command: &str, what: &'static str) -> Outcome {
    session.execute(command, None)?;
    let (pid, state) = (session.process.pid, session.run_state()?);
    Ok(Box::new(Controlled { name: target.name.clone(), pid, what, state }))
}

impl Report for Controlled {
    fn text(&self) -> String {
        format!("{} {}: {}\n", self.name, self.what, self.state)
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("pid", self.pid.into()),
            ("state", self.state.as_str().into()),
        ])
    }
}
