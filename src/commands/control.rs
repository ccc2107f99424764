//! `pause`, `resume`, `reset`, `powerdown` and `nmi`: one QMP command each, and the state of the VM
//! afterwards. A guest that is not running may end up in another state than the expected one, for
//! example if it is paused while it is suspended, so the actual state is reported.

use super::fleet::{self, Known};
use super::target::Target;
use crate::cli::spec;
use crate::cli::{Command, Outcome, Run};
use crate::error::Kind;
use crate::json::Value;
use crate::report::Report;
use crate::ssh::end_shared_connection;
use crate::vm::session::Session;
use std::time::Duration;

pub(crate) static PAUSE: Command = Command {
    name: "pause",
    about: "Stop the CPUs of VMs, until `resume`",
    details: "",
    operands: &[spec::VMS],
    flags: &[&spec::ALL],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        fleet::each(&PAUSE, args, Known::Running, tell, |vm| control(vm, "stop", None));
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
        fleet::each(&RESET, args, Known::Running, tell, reset);
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
            control(vm, "system_powerdown", Some("power button pressed"))
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
        fleet::each(&NMI, args, Known::Running, tell, nmi);
    }),
};

/// How long a reset may take after QEMU has agreed to it: QEMU stops all CPUs first.
const RESET_WAIT: Duration = Duration::from_secs(10);

fn control(target: &Target, command: &str, what: Option<&str>) -> Outcome {
    let mut session = Session::open(&target.name, &target.paths, &target.log)?;
    session.execute(command, None)?;
    report(&target.name, &mut session, what)
}

/// Resumes a guest. The command depends on its state: `cont` does nothing for a guest that has
/// suspended itself, and is refused for one that has shut down.
fn resume(target: &Target) -> Outcome {
    let mut session = Session::open(&target.name, &target.paths, &target.log)?;
    let suspended = session.run_state()? == "suspended";
    let command = if suspended { "system_wakeup" } else { "cont" };
    session.execute(command, None).map_err(|error| match error.kind {
        Kind::Failed => error
            .hint(format!("a guest that has shut down needs `qqmgr reset {}` first", target.name)),
        _ => error,
    })?;
    report(&target.name, &mut session, None)
}

/// Resets the machine. QEMU does it after it has answered. With `-no-reboot` it ends instead, or is
/// shut down.
fn reset(target: &Target) -> Outcome {
    let mut session = Session::open(&target.name, &target.paths, &target.log)?;
    session.execute("system_reset", None)?;
    session.await_event(&["RESET", "SHUTDOWN"], RESET_WAIT)?;
    // The guest has forgotten its connections, so the shared one is dead.
    end_shared_connection(&target.name, &target.paths, &target.log)?;
    report(&target.name, &mut session, Some("reset"))
}

fn nmi(target: &Target) -> Outcome {
    control(target, "inject-nmi", Some("NMI sent")).map_err(|error| match error.kind {
        Kind::Failed => error.hint("not every machine type takes an NMI: `pc` and `q35` do"),
        _ => error,
    })
}

/// Reports what was done to the VM and its state afterwards; `what` is `None` if the state alone is
/// enough.
pub(super) fn report(name: &str, session: &mut Session, what: Option<&str>) -> Outcome {
    let (pid, state) = (session.process.pid, session.run_state()?);
    let text = match what {
        Some(what) => format!("{name}: {what}, {state}\n"),
        None => format!("{name} is {state}\n"),
    };
    let members = [("name", Value::from(name)), ("pid", pid.into()), ("state", state.into())];
    Ok(Report::of(text, members))
}
