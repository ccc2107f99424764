//! The row of `run` in the table of commands, with its flags.

use crate::cli::flag::{AnyFlag, not_empty, utf8};
use crate::cli::{Args, Command, Count, Flag, Operand, Takes, refuse_if, spec};
use crate::commands::logs::LOGS;
use crate::commands::start::{DISCARD, FROM, IS_FOR_FROM, NO_SET_CLOCK};
use crate::commands::vms::are_several;
use crate::error::{Error, Kind};
use crate::ssh::FAILURE_CODE;
use crate::text::command_line;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

/// The exit code of timeout(1) for a timeout.
const TIMED_OUT_CODE: u8 = 124;

pub(crate) static COMMAND: Command = Command {
    name: "run",
    about: "Run a job: a command on VMs, or their boot alone",
    details: "The VM is stopped after the job. With a COMMAND, a VM that is already running\n\
              is used and left running. One word after `--` is a command line for the\n\
              guest's shell; several words are a command and its arguments, as they are.\n\
              The exit code is the command's. Files are copied back whatever it is.\n\
              Without a COMMAND, the guest boots, its serial line is standard output, and the\n\
              exit code is QEMU's when QEMU ends, 128+N if signal N ended it; 0 after\n\
              `--until`; 1 after `--fail-on`, a panic, or an end before `--until`.\n\
              It is 124 after a timeout, and 255 when qqmgr, QEMU's start or ssh failed.\n\
              Several VMs have their jobs at the same time: each line begins with the VM's\n\
              name, `--get` copies to LOCAL/VM/, and the highest exit code counts.",
    operands: &[spec::VMS, Operand::new("COMMAND", Count::Words)],
    flags: &[
        &spec::ALL,
        &spec::JOBS,
        &spec::WAIT,
        &spec::SET,
        &PUT,
        &GET,
        &TERMINAL,
        &UNTIL,
        &FAIL_ON,
        &KEEP,
        &FRESH,
        &FROM,
        &PREPARE,
        &DISCARD,
        &NO_SET_CLOCK,
        &TIMEOUT,
        &LOGS,
    ],
    check,
    failure_code: |kind| if kind == Kind::TimedOut { TIMED_OUT_CODE } else { FAILURE_CODE },
    examples: &[
        "run dev --fresh --put tests:work -- sh work/run",
        "run kernel --until login: --timeout 5m",
        "run 'node-*' --logs logs -- make test",
    ],
    right_form: |words| {
        let [vm, first, ..] = words else { return None };
        let is_flag = |word: &OsString| word.as_bytes().starts_with(b"-");
        let is_own = |word: &OsString| {
            let spelled = |flag: &&dyn AnyFlag| *word == *format!("--{}", flag.info().long);
            *word == "--" || COMMAND.flags.iter().any(spelled)
        };
        let is_form = !is_flag(vm) && !is_flag(first) && !words.iter().any(is_own);
        is_form.then(|| format!("run {} -- {}", vm.display(), command_line(&words[1..])))
    },
};

pub(super) static PUT: Flag<(OsString, OsString)> = Flag::new(
    "put",
    Takes::Values("LOCAL:REMOTE"),
    divided,
    "Copy to the guest before the command",
);
pub(super) static GET: Flag<(OsString, OsString)> = Flag::new(
    "get",
    Takes::Values("REMOTE:LOCAL"),
    divided,
    "Copy from the guest after the command",
);
pub(super) static TERMINAL: Flag =
    Flag::switch("terminal", "Give the command a terminal; without one, open a shell").short('t');
pub(super) static UNTIL: Flag<OsString> = Flag::new(
    "until",
    Takes::Value("TEXT"),
    not_empty,
    "End with 0 when TEXT is on the serial line",
);
pub(super) static FAIL_ON: Flag<OsString> = Flag::new(
    "fail-on",
    Takes::Values("TEXT"),
    |text| Ok(text.to_os_string()),
    "Fail when TEXT is on the serial line; '' allows panics",
);
pub(super) static KEEP: Flag = Flag::switch("keep", "Leave the VM running");
pub(super) static FRESH: Flag =
    Flag::switch("fresh", "Forget what is written to disks (QEMU's -snapshot)");
pub(super) static PREPARE: Flag<String> = Flag::new(
    "prepare",
    Takes::Value("COMMAND"),
    utf8,
    "Make the snapshot of `--from` with this, if needed",
)
.needs("from", IS_FOR_FROM);
pub(super) static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Give up on all of it after this long (default: never)");

/// Splits at the first colon; neither side may be empty.
fn divided(value: &OsStr) -> Result<(OsString, OsString), String> {
    let bytes = value.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (from, to) = colon.map(|at| (&bytes[..at], &bytes[at + 1..])).unwrap_or_default();
    if from.is_empty() || to.is_empty() {
        return Err("it takes two names with a colon between them, as in `src:/tmp`".into());
    }
    Ok((OsString::from_vec(from.to_vec()), OsString::from_vec(to.to_vec())))
}

/// Refuses flags that have no meaning for this kind of job.
fn check(args: &Args) -> Result<(), Error> {
    let (ssh, boot) = (uses_ssh(args), !uses_ssh(args));
    let waits = args.has(&spec::WAIT) && !args.has(&PREPARE);
    let several = are_several(&args.operands);
    refuse_if(&[
        (boot && args.has(&PUT), "`--put` needs a command: `-- COMMAND...`"),
        (boot && args.has(&GET), "`--get` needs a command: `-- COMMAND...`"),
        (boot && waits, "`--wait` needs a command: `-- COMMAND...`"),
        (ssh && args.has(&UNTIL), "`--until` is for a `run` without a command"),
        (ssh && args.has(&FAIL_ON), "`--fail-on` is for a `run` without a command"),
        (
            args.has(&TERMINAL) && args.json(),
            "`--terminal` cannot be used with `--json`: it is for people",
        ),
        (
            args.has(&FRESH) && args.has(&FROM),
            "`--fresh` hides the snapshots, and `--from` needs one",
        ),
        (args.has(&TERMINAL) && several, "`--terminal` is for one VM, by its plain name"),
    ])
}

/// Whether the job is done over ssh; else it is the boot of the guest.
pub(super) fn uses_ssh(args: &Args) -> bool {
    !args.words.is_empty() || args.has(&TERMINAL)
}

/// Whether there is no job, and only the snapshot is made.
pub(super) fn only_prepares(args: &Args) -> bool {
    args.has(&PREPARE) && !uses_ssh(args) && !args.has(&UNTIL) && !args.has(&FAIL_ON)
}
