//! `qqmgr wait VM... --for CONDITION`

use super::reach::{Reach, UNLESS};
use super::target::Target;
use crate::cli::{Command, Flag, Takes, refuse_if, spec};
use crate::error::Error;
use crate::json::Value;
use crate::report::Outcome;
use crate::text::{command_line, on_a_line};
use crate::vm::ending::Ending;
use crate::vm::{Deadline, Look, Process, events, watch};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

pub(crate) static COMMAND: Command = Command {
    name: "wait",
    about: "Wait until something happens to VMs",
    details: "CONDITION is `ssh` (the guest's ssh server answers), `login` (a command runs\n\
              over ssh), `cloud-init` (cloud-init is done), `serial=TEXT` (TEXT is on the\n\
              serial output), `running`, or `stopped`, which also shows why the VM ended.",
    operands: &[spec::VMS],
    flags: &[&spec::ALL, &FOR, &UNLESS, &TIMEOUT],
    check: |args| refuse_if(&[(!args.has(&FOR), "`wait` needs `--for`: what to wait for")]),
    examples: &[
        "wait dev --for ssh",
        "wait dev --for serial=login: --timeout 120",
        "wait --all --for stopped",
    ],
    right_form: |words| {
        let (last, vms) = words.split_last()?;
        let has_flag = vms.iter().any(|word| word.as_bytes().starts_with(b"-"));
        let is_form = !vms.is_empty() && !has_flag && condition(last).is_ok();
        is_form.then(|| format!("wait {} --for {}", command_line(vms), command_line([last])))
    },
    ..Command::DEFAULT
};

static FOR: Flag<WaitFor> =
    Flag::new("for", Takes::Value("CONDITION"), condition, "What to wait for");
static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Give up after this long (default: never)");

/// The condition that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WaitFor {
    Ssh,
    /// A command runs over ssh.
    Login,
    CloudInit,
    Stopped,
    Running,
    /// These bytes appear on the serial output.
    Serial(Vec<u8>),
}

/// The conditions that are a word, each with what the VM then does.
const WORDS: &[(&str, WaitFor, &str)] = &[
    ("ssh", WaitFor::Ssh, "answers ssh"),
    ("login", WaitFor::Login, "accepts a login"),
    ("cloud-init", WaitFor::CloudInit, "is done with cloud-init"),
    ("stopped", WaitFor::Stopped, "is stopped"),
    ("running", WaitFor::Running, "is running"),
];

fn condition(value: &OsStr) -> Result<WaitFor, String> {
    if let Some((_, wanted, _)) = WORDS.iter().find(|(word, ..)| value == *word) {
        return Ok(wanted.clone());
    }
    let text = value.as_bytes().strip_prefix(b"serial=").filter(|text| !text.is_empty());
    text.map(|text| WaitFor::Serial(text.to_vec())).ok_or_else(|| {
        "it is `ssh`, `login`, `cloud-init`, `stopped`, `running` or `serial=TEXT`".into()
    })
}

pub(super) fn run(target: &Target) -> Outcome {
    let (begin, deadline) = (Instant::now(), target.args.value(&TIMEOUT).map(Deadline::after));
    let waited_for = target.args.value(&FOR).unwrap_or(WaitFor::Running);
    if matches!(waited_for, WaitFor::Ssh | WaitFor::Login | WaitFor::CloudInit) {
        target.check_has_ssh()?;
    }
    let process = find(target, &waited_for, deadline)?;
    if matches!(waited_for, WaitFor::Serial(_)) {
        target.note_own_port();
    }
    let pid = process.as_ref().map(|process| process.pid);
    let ending = match process {
        Some(process) => reached(&Reach::new(target, process, deadline)?, &waited_for)
            .map_err(|error| target.still_runs(error))?,
        None => Some(events::ending(&target.paths)),
    };
    let (name, took) = (&target.name, begin.elapsed());
    let (waited_for, done) = waited_for.in_words();
    let text = match &ending {
        Some(Ending::Unknown) => format!("{name} {done}\n"),
        Some(ending) => format!("{name} {done}: {ending}\n"),
        None => format!("{name} {done} after {:.1} s\n", took.as_secs_f64()),
    };
    let members = [
        ("for", Value::from(waited_for)),
        ("pid", pid.into()),
        ("reason", ending.as_ref().and_then(Ending::reason).into()),
        ("exit_status", Value::Null),
        ("seconds", Value::seconds(took)),
    ];
    Ok(target.report(text, members))
}

/// Waits until the condition is met, and gives the reason of an end that was waited for.
fn reached(reach: &Reach, waited_for: &WaitFor) -> Result<Option<Ending>, Error> {
    match waited_for {
        WaitFor::Ssh => reach.answer()?,
        WaitFor::Login => {
            reach.answer()?;
            reach.command()?;
        }
        WaitFor::CloudInit => {
            reach.answer()?;
            if !reach.cloud_init()? {
                let name = &reach.target.name;
                let message = format!("the guest of VM `{name}` has no `cloud-init`");
                let error = Error::failed(message);
                return Err(error.hint("`--for login` waits until a command runs there"));
            }
        }
        WaitFor::Running => reach.watch.running()?,
        WaitFor::Serial(text) => reach.watch.serial(text)?,
        WaitFor::Stopped => return reach.watch.stopped().map(Some),
    }
    Ok(None)
}

/// Finds the VM's process; `None` if the VM has already ended and `stopped` is waited for. For
/// `running`, waits for a later start.
fn find(
    target: &Target,
    waited_for: &WaitFor,
    deadline: Option<Deadline>,
) -> Result<Option<Process>, Error> {
    let Target { paths, log, .. } = target;
    let look = Look::everywhere(paths)?;
    match (look.process()?, waited_for) {
        (None, WaitFor::Stopped) => Ok(None),
        (None, WaitFor::Running) => watch::started(paths, deadline, log).map(Some),
        _ => look.running(paths).cloned().map(Some),
    }
}

impl WaitFor {
    /// The condition as it is written, and what the VM does when the condition is met.
    fn in_words(&self) -> (String, String) {
        if let Self::Serial(text) = self {
            let text = String::from_utf8_lossy(text);
            return (format!("serial={text}"), format!("said `{}`", on_a_line(&text)));
        }
        let row = WORDS.iter().find(|(_, wanted, _)| wanted == self);
        row.map(|(word, _, done)| (word.to_string(), done.to_string())).unwrap_or_default()
    }
}
