//! `pause`, `resume`, `reset`, `powerdown` and `nmi`: one QMP command each, and the state of the VM
//! afterwards. A guest that is not running may end up in another state than the expected one, for
//! example if it is paused while it is suspended, so the actual state is reported.

use super::on_guest;
use super::target::Target;
use crate::cli::{Command, Flag, spec};
use crate::clock::now;
use crate::error::Kind;
use crate::json::Value;
use crate::report::Outcome;
use crate::ssh::end_shared_connection;
use crate::text::duration;
use crate::vm::Session;
use crate::vm::events::EventLog;
use std::time::Duration;

pub(crate) static PAUSE: Command =
    row("pause", "Stop the CPUs of VMs, until `resume`", "", &["pause dev", "pause 'node-*'"]);
pub(crate) static RESUME: Command = Command {
    flags: &[&spec::ALL, &SET_CLOCK],
    ..row(
        "resume",
        "Continue VMs that are paused or suspended",
        "",
        &["resume dev", "resume --all", "resume dev --set-clock"],
    )
};
static SET_CLOCK: Flag = Flag::switch("set-clock", "Set the guest's clock over ssh");
pub(crate) static RESET: Command = row(
    "reset",
    "Press the reset button of VMs",
    "The guest is not asked, and loses unwritten data. `qqmgr ssh VM reboot`\n\
     and `restart` are gentler.",
    &["reset dev", "reset 'node-*'"],
);
pub(crate) static POWERDOWN: Command = row(
    "powerdown",
    "Press the power button of VMs once",
    "The guest decides what it does; `stop` waits until it has powered off.",
    &["powerdown dev", "powerdown --all"],
);
pub(crate) static NMI: Command = row(
    "nmi",
    "Send VMs a non-maskable interrupt",
    "A Linux guest panics, and can dump, if its `kernel.unknown_nmi_panic` is set.",
    &["nmi dev", "nmi 'node-*'"],
);

const fn row(
    name: &'static str,
    about: &'static str,
    details: &'static str,
    examples: &'static [&'static str],
) -> Command {
    Command {
        name,
        about,
        details,
        operands: &[spec::VMS],
        flags: const { &[&spec::ALL] },
        examples,
        ..Command::DEFAULT
    }
}

/// How long a reset may take after QEMU has agreed to it: QEMU stops all CPUs first.
const RESET_WAIT: Duration = Duration::from_secs(10);

/// Stops the CPUs.
pub(super) fn pause(target: &Target) -> Outcome {
    control(target, "stop", None)
}

pub(super) fn powerdown(target: &Target) -> Outcome {
    control(target, "system_powerdown", Some("power button pressed"))
}

fn control(target: &Target, command: &str, what: Option<&str>) -> Outcome {
    let mut session = Session::open(&target.paths, &target.log)?;
    session.execute(command, None)?;
    report(target, &mut session, what)
}

/// Resumes a guest. The command depends on its state: `cont` does nothing for a guest that has
/// suspended itself, and is refused for one that has shut down.
pub(super) fn resume(target: &Target) -> Outcome {
    let mut session = Session::open(&target.paths, &target.log)?;
    let stopped_at = EventLog::open(&target.paths).and_then(|mut log| log.stopped_at());
    let suspended = session.run_state()? == "suspended";
    let command = if suspended { "system_wakeup" } else { "cont" };
    let hint = format!("a guest that has shut down needs `qqmgr reset {}` first", target.name);
    session.execute(command, None).map_err(|error| error.hint_for(Kind::Failed, hint))?;
    let paused = stopped_at.map(|stopped_at| now().saturating_sub(stopped_at));
    let what = paused.map(|paused| match paused.as_secs() {
        0..60 => format!("was paused for {:.1} s", paused.as_secs_f64()),
        _ => format!("was paused for {}", duration(paused)),
    });
    let report = report(target, &mut session, what.as_deref())?;
    // While this session is open, QEMU would not serve another command.
    drop(session);
    if target.args.has(&SET_CLOCK) {
        on_guest::set_clock(target);
    }
    Ok(report.with_member("paused_seconds", paused.map(Value::seconds).into()))
}

/// Resets the machine. QEMU answers before it resets. With `-no-reboot`, QEMU ends instead, or is
/// shut down.
pub(super) fn reset(target: &Target) -> Outcome {
    let mut session = Session::open(&target.paths, &target.log)?;
    session.execute("system_reset", None)?;
    session.await_event(&["RESET", "SHUTDOWN"], RESET_WAIT)?;
    // The guest has forgotten its connections, so the shared one is dead.
    end_shared_connection(&target.paths, &target.log)?;
    report(target, &mut session, Some("reset"))
}

pub(super) fn nmi(target: &Target) -> Outcome {
    let hint = "not every machine type takes an NMI: `pc` and `q35` do";
    let sent = control(target, "inject-nmi", Some("NMI sent"));
    sent.map_err(|error| error.hint_for(Kind::Failed, hint))
}

/// Reports what was done to the VM and its state afterwards; `what` is `None` if the state alone is
/// enough.
pub(super) fn report(target: &Target, session: &mut Session, what: Option<&str>) -> Outcome {
    let (name, pid, state) = (&target.name, session.process.pid, session.run_state()?);
    let text = match what {
        Some(what) => format!("{name}: {what}, {state}\n"),
        None => format!("{name} is {state}\n"),
    };
    Ok(target.report(text, [("pid", pid.into()), ("state", state.into())]))
}
