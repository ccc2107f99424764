//! `qqmgr serial VM` and `qqmgr log VM`: what the guest wrote to its serial line, and what QEMU
//! logged.

use super::helpers;
use super::target::Target;
use crate::cli::{Args, Command, Flag, Takes, refuse_if, spec};
use crate::error::Error;
use crate::json::Value;
use crate::out::{self, Collected, Reader};
use crate::report::Outcome;
use crate::terminal::Filter;
use crate::vm::output::Output;
use crate::vm::{Process, boots, look};
use std::path::Path;
use std::str::FromStr;

/// The number of lines on a terminal without `--lines`: about what it can show at once.
const TERMINAL_LINES: u64 = 40;

pub(crate) static SERIAL: Command = Command {
    name: "serial",
    about: "Show the guest's serial output",
    details: "Prints all of it, or on a terminal the last 40 lines, even of a stopped VM.",
    operands: &[spec::VM],
    flags: &[&FOLLOW, &LINES, &BOOT, &RAW],
    check,
    examples: &["serial dev --follow", "serial dev --lines 20"],
    ..Command::DEFAULT
};

pub(crate) static LOG: Command = Command {
    name: "log",
    about: "Show QEMU's own output",
    details: "Prints all of it, or on a terminal the last 40 lines, even of a stopped VM.",
    operands: &[spec::VM],
    flags: &[&FOLLOW, &LINES, &RAW, &spec::HELPER],
    check,
    examples: &["log dev", "log dev --lines 20"],
    ..Command::DEFAULT
};

static FOLLOW: Flag =
    Flag::switch("follow", "Go on with new output until the VM has ended").short('f');
/// How many lines to show, counted from the end; `None` for all of them.
static LINES: Flag<Option<u64>> = Flag::new(
    "lines",
    Takes::Value("LINES"),
    |value| {
        let lines =
            if value == "all" { Some(None) } else { value.to_str().and_then(number).map(Some) };
        lines.ok_or_else(|| "it takes a number of lines, or `all`".into())
    },
    "Begin with the last LINES lines, or with `all`",
)
.short('n');
/// The boot to show, counted back from the last one, which is 0.
static BOOT: Flag<u32> = Flag::new(
    "boot",
    Takes::Value("BOOT"),
    |value| {
        let ago = |text: &str| number(text.strip_prefix('-').or((text == "0").then_some(text))?);
        let ago = value.to_str().and_then(ago);
        ago.ok_or_else(|| "0 is the last boot, -1 the one before, and so on".into())
    },
    "Show an earlier boot: -1 is the one before (default 0)",
);
static RAW: Flag = Flag::switch("raw", "Keep no control sequences from a terminal");

fn number<N: FromStr>(text: &str) -> Option<N> {
    if text.chars().all(|c| c.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn check(args: &Args) -> Result<(), Error> {
    let (follows, earlier) = (args.has(&FOLLOW), args.value(&BOOT).is_some_and(|boot| boot > 0));
    let with_json = "`--follow` cannot be used with `--json`, which prints one document";
    let with_boot = "`--follow` is for the last boot: an earlier one gets no more output";
    refuse_if(&[(follows && args.json(), with_json), (follows && earlier, with_boot)])
}

pub(super) fn serial(target: &Target) -> Outcome {
    let (name, paths, boot) = (&target.name, &target.paths, target.args.value(&BOOT).unwrap_or(0));
    // Look for the process before the file: a new start replaces the file, which then belongs to
    // another process.
    let process = look::find_anywhere(paths)?.filter(|_| boot == 0);
    target.note_own_port();
    let file = boots::path(paths, boot);
    let missing = || {
        if boot == 0 {
            return not_yet(name, "serial output");
        }
        let oldest = boots::kept(paths).last().map(|it| format!("`--boot` goes down to -{it}"));
        let hint = oldest.unwrap_or_else(|| "no output of an earlier boot is kept".into());
        Error::failed(format!("there is no serial output of boot -{boot} of VM `{name}`"))
            .hint(hint)
    };
    let text = text(target, &file, process, missing)?;
    let boot = ("boot", Value::Number((-i64::from(boot)).to_string()));
    Ok(target.report("", [boot, ("file", (&file).into()), ("text", text.into())]))
}

pub(super) fn log(target: &Target) -> Outcome {
    let (name, paths) = (&target.name, &target.paths);
    let (process, file, what) = match target.args.value(&spec::HELPER) {
        None => (look::find_anywhere(paths)?, paths.log.clone(), "log".into()),
        Some(helper) => {
            let what = format!("log of the helper `{helper}`");
            (helpers::process(target, &helper)?, paths.helper_log(&helper), what)
        }
    };
    let text = text(target, &file, process, || not_yet(name, &what))?;
    Ok(target.report("", [("file", (&file).into()), ("text", text.into())]))
}

/// Shows the file and what the process adds to it, or with `--json` collects the file's text.
fn text(
    target: &Target,
    file: &Path,
    process: Option<Process>,
    missing: impl FnOnce() -> Error,
) -> Result<String, Error> {
    let args = target.args;
    let process = process.filter(|_| args.has(&FOLLOW));
    let mut output = Output::open(file)?;
    if !output.is_there() && process.is_none() {
        return Err(missing());
    }
    let default = out::is_terminal().then_some(TERMINAL_LINES);
    if let Some(lines) = args.value(&LINES).unwrap_or(default) {
        output.skip_to_last(lines)?;
    }
    if args.json() {
        let mut all = Collected::default();
        while let Some(bytes) = output.next(None)? {
            all.add(&bytes).map_err(|error| error.hint("`--lines` asks for less"))?;
        }
        return Ok(all.text());
    }
    let mut filter = (out::is_terminal() && !args.has(&RAW)).then(Filter::new);
    show(&mut output, process.as_ref(), filter.as_mut())?;
    out::write(&filter.map(|filter| filter.end_line()).unwrap_or_default())?;
    Ok(String::new())
}

/// Writes the output to standard output, and what is added while the process lives. Ends early when
/// the reader of standard output is gone.
pub(super) fn show(
    output: &mut Output,
    process: Option<&Process>,
    mut filter: Option<&mut Filter>,
) -> Result<(), Error> {
    while let Some(bytes) = output.next(process)? {
        let bytes = filter.as_mut().map(|filter| filter.pass(&bytes)).unwrap_or(bytes);
        if out::write(&bytes)? == Reader::Gone {
            break;
        }
    }
    Ok(())
}

/// The error of an output that does not exist.
fn not_yet(name: &str, what: &str) -> Error {
    let error = Error::failed(format!("there is no {what} of VM `{name}` yet"));
    error.hint(format!("`qqmgr start {name}` starts it"))
}
