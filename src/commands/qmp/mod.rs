//! `qqmgr qmp VM [NAME] [ARGUMENT...]`: one QMP command, a session of them ([`session`]), or the
//! events that QEMU sends ([`events`]).
//!
//! A session holds the VM's QMP socket only while a command runs: the socket serves one client at a
//! time, and the other commands of qqmgr need it. Events come from the file that QEMU itself writes
//! them to, which needs no socket.

mod arguments;
mod events;
mod session;

use super::target::Target;
use crate::cli::{Args, Command, Count, Flag, Operand, spec};
use crate::error::Error;
use crate::report::{Outcome, Report};
use crate::vm::Session;
use crate::vm::refusal::refusal;
use std::ffi::OsString;
use std::time::Duration;

pub(crate) static COMMAND: Command = Command {
    name: "qmp",
    about: "Run QMP commands, or print events",
    details: "NAME is a QMP command. An ARGUMENT is `key=TEXT` or `key:=JSON`; dots in a key\n\
              lead into objects. A single `{...}` has all arguments. Without NAME, each line\n\
              of standard input is a command. With `--events`, NAME and ARGUMENT are the\n\
              names of the events to print, by default all.",
    operands: &[
        spec::VM,
        Operand::new("NAME", Count::Optional),
        Operand::new("ARGUMENT", Count::Any),
    ],
    flags: &[&TIMEOUT, &EVENTS, &FOR],
    check,
    examples: &["qmp dev query-block", "qmp dev --events"],
    ..Command::DEFAULT
};

/// The default of `--timeout`: some commands do much before they answer.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

pub(super) static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Wait this long for QEMU's answer (default 60)");
static EVENTS: Flag = Flag::switch("events", "Print events as they come, until the VM ends");
static FOR: Flag<Duration> =
    Flag::seconds("for", "Print events for this long only").needs("events", "needs `--events`");

fn check(args: &Args) -> Result<(), Error> {
    if args.has(&EVENTS) && args.has(&TIMEOUT) {
        return Err(Error::usage("`--timeout` is for commands; `--for` ends `--events`"));
    }
    let words = words(args)?;
    match words.split_first() {
        Some((name, _)) if name.starts_with('{') => {
            let hint = "a whole command in JSON is a line of standard input: `qqmgr qmp VM <FILE`";
            let message = format!("`{name}` is not the name of a command");
            Err(Error::usage(message).hint(hint))
        }
        Some((_, words)) if !args.has(&EVENTS) => {
            arguments::read(words).map_err(Error::usage).map(|_| ())
        }
        _ => Ok(()),
    }
}

pub(super) fn run(target: &Target) -> Outcome {
    let (words, limit) = (words(target.args)?, limit(target.args));
    match words.split_first() {
        _ if target.args.has(&EVENTS) => events::print(target, &words, target.args.value(&FOR)),
        Some((command, words)) => once(target, limit, command, words),
        None => session::serve(target, limit),
    }
}

/// The words after the VM, which are UTF-8, as QMP is.
fn words(args: &Args) -> Result<Vec<String>, Error> {
    let text = |word: &OsString| {
        let error = || Error::usage(format!("`{}` is not UTF-8, which QMP is", word.display()));
        word.to_str().map(str::to_string).ok_or_else(error)
    };
    args.operands[1..].iter().map(text).collect()
}

/// How long an answer may take.
pub(super) fn limit(args: &Args) -> Duration {
    args.value(&TIMEOUT).unwrap_or(TIMEOUT_DEFAULT)
}

fn once(target: &Target, limit: Duration, command: &str, words: &[String]) -> Outcome {
    let arguments = arguments::read(words).map_err(Error::usage)?;
    let mut session = Session::open(&target.paths, &target.log)?;
    let answer = session.try_execute(limit, command, arguments.as_ref());
    answer
        .map(|value| Report::new(value.pretty(), value))
        .map_err(|error| refusal(&mut session, limit, command, &error))
}
