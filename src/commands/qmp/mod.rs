//! `qqmgr qmp VM [NAME] [ARGUMENT...]`: one QMP command, a session of them ([`session`]), or the
//! events that QEMU sends ([`events`]).
//!
//! A session holds the VM's QMP socket only while a command runs: the socket serves one client at a
//! time, and the other commands of qqmgr need it. Events come from the file that QEMU itself writes
//! them to, which needs no socket.

mod arguments;
mod events;
mod refusal;
mod session;

pub(super) use refusal::told as refusal;

use super::target::Target;
use crate::cli::spec::{self, Count, Flag, Operand};
use crate::cli::{Args, Command, Outcome, Run, usage_of};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::report::Report;
use crate::vm::session::Session;
use std::time::Duration;

pub(crate) static COMMAND: Command = Command {
    name: "qmp",
    about: "Run QMP commands, or print events",
    details: "NAME is a QMP command. An ARGUMENT is `key=TEXT` or `key:=JSON`, with dots in\n\
              the key for members of members, or one `{...}` is all of them. Without NAME,\n\
              each line of standard input is a command. With `--events`, NAME and ARGUMENT\n\
              are the names of the events to print; all are without one.",
    operands: &[
        spec::VM,
        Operand::new("NAME", Count::Optional),
        Operand::new("ARGUMENT", Count::Any),
    ],
    flags: &[&TIMEOUT, &EVENTS, &FOR],
    failure_code: Kind::exit_code,
    run: Run::Once(run),
};

/// The default of `--timeout`: some commands do much before they answer.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

pub(super) static TIMEOUT: Flag = Flag::timeout("Wait this long for QEMU's answer (default 60)");
static EVENTS: Flag = Flag::switch(
    "events",
    |args| args.events = true,
    "Print events as they come, until the VM ends",
);
static FOR: Flag = Flag::value(
    "for",
    "SECONDS",
    |args, value| {
        args.events_for = Some(spec::seconds(value)?);
        Ok(())
    },
    "Print events for this long only",
);

fn run(args: &Args) -> Outcome {
    let usage = |message: &str| Err(usage_of(&COMMAND, message.into()));
    if args.events && args.timeout.is_some() {
        return usage("`--timeout` is for commands; `--for` ends `--events`");
    }
    if args.events_for.is_some() && !args.events {
        return usage("`--for` needs `--events`");
    }
    let words: Vec<String> = args.operands[1..].iter().map(text).collect::<Result<_, _>>()?;
    if let Some(name) = words.first().filter(|name| name.starts_with('{')) {
        return Err(Error::new(Kind::Usage, format!("`{name}` is no name of a command"))
            .hint("a whole command in JSON is a line of standard input: `qqmgr qmp VM <FILE`"));
    }
    let config = Config::load(args)?;
    let target = Target::new(&config, args, &args.vm(), args.log())?;
    let limit = limit(args);
    match words.split_first() {
        _ if args.events => events::print(&target, &words, args.events_for),
        Some((command, words)) => once(&target, limit, command, words),
        None => session::serve(&target, limit),
    }
}

/// How long an answer may take.
pub(super) fn limit(args: &Args) -> Duration {
    args.timeout.unwrap_or(TIMEOUT_DEFAULT)
}

/// Checks that the word is UTF-8, as QMP is.
fn text(word: &std::ffi::OsString) -> Result<String, Error> {
    let shown = word.to_string_lossy();
    let error = || Error::new(Kind::Usage, format!("`{shown}` is not UTF-8, which QMP is"));
    word.to_str().map(str::to_string).ok_or_else(error)
}

fn once(target: &Target, limit: Duration, command: &str, words: &[String]) -> Outcome {
    let arguments = arguments::read(words).map_err(|message| usage_of(&COMMAND, message))?;
    let mut session = Session::open(&target.name, &target.paths, &target.log)?;
    let answer = session.try_execute(limit, command, arguments.as_ref());
    answer
        .map(|value| Report::new(value.pretty(), value))
        .map_err(|error| refusal(&mut session, limit, command, &error))
}
