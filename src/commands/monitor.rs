//! `qqmgr monitor VM [WORD...]`: runs commands of the human monitor through the QMP command for it.
//!
//! QMP gives every output as text, including failures, so only the text shows what failed.

use super::input::Input;
use super::qmp;
use super::target::Target;
use crate::cli::spec::{self, Count, Operand};
use crate::cli::{Args, Command, Outcome, Run, usage_of};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Report;
use crate::text::{did_you_mean, nearest, sanitized};
use crate::vm::look;
use crate::vm::session::Session;
use std::io::{self, IsTerminal as _};

pub(crate) static COMMAND: Command = Command {
    name: "monitor",
    about: "Run commands of QEMU's human monitor",
    details: "The WORDs are one command, with its own flags; those of qqmgr stand before the\n\
              VM. Without one, each line of standard input is a command; on a terminal it is\n\
              asked for, and Ctrl-D leaves.",
    operands: &[spec::VM, Operand::new("WORD", Count::Rest)],
    flags: &[&qmp::TIMEOUT],
    failure_code: Kind::exit_code,
    run: Run::Each(|args, tell| {
        if let Err(error) = run(args, tell) {
            tell(Err(error));
        }
    }),
};

fn run(args: &Args, tell: &mut dyn FnMut(Outcome)) -> Result<(), Error> {
    let words: Option<Vec<&str>> = args.operands[1..].iter().map(|word| word.to_str()).collect();
    let not_text = || usage_of(&COMMAND, "QEMU's monitor takes nothing but UTF-8".into());
    let command = words.ok_or_else(not_text)?.join(" ");
    let config = Config::load(args)?;
    let target = Target::new(&config, args, &args.vm(), args.log())?;
    if args.operands.len() > 1 {
        let mut session = Session::open(&target.name, &target.paths, &target.log)?;
        tell(execute(&target, &mut session, &command));
        return Ok(());
    }
    let process = look::running(&target.name, &target.paths)?;
    let input = Input::new("(qemu) ");
    while let Some(line) = input.next(&process)? {
        let command = String::from_utf8(line).map_err(|_| not_text())?;
        if command.trim().is_empty() {
            continue;
        }
        // The session stays open only while the command runs: other commands of qqmgr need the
        // socket.
        let Target { name, paths, log, .. } = &target;
        let mut session = Session::open_with(&process, name, paths, log)?;
        match execute(&target, &mut session, &command) {
            // QEMU is gone or hangs, so every following line would fail as well.
            Err(error) if error.kind != Kind::Failed => return Err(error),
            outcome => tell(outcome),
        }
    }
    Ok(())
}

fn execute(target: &Target, session: &mut Session, command: &str) -> Outcome {
    let output = ask(target, session, command)?;
    if let Some(failure) = Failure::of(&output) {
        let near = failure.near(target, session, command);
        return Err(failure.told(&target.name, command, near.as_deref()));
    }
    // The guest may control a part of the output.
    let is_shown = io::stdout().is_terminal();
    let text = if is_shown { sanitized(&output) } else { output.clone() };
    let members = [
        ("name", Value::from(&target.name)),
        ("command", command.into()),
        ("output", output.into()),
    ];
    Ok(Report::of(text, members))
}

fn ask(target: &Target, session: &mut Session, command: &str) -> Result<String, Error> {
    const EXECUTE: &str = "human-monitor-command";
    let (limit, arguments) = (qmp::limit(target.args), [("command-line", Value::from(command))]);
    let answer = session.try_execute(limit, EXECUTE, Some(&Value::object(arguments)));
    let answer = answer.map_err(|error| qmp::refusal(session, limit, command, &error))?;
    // The monitor writes the line ends of a terminal.
    Ok(answer.as_str().unwrap_or_default().replace("\r\n", "\n"))
}

/// An output that means that the command failed.
#[derive(Debug, PartialEq, Eq)]
struct Failure<'a> {
    what: String,
    is_unknown: bool,
    /// The argument for `help`.
    help: Option<&'a str>,
}

impl<'a> Failure<'a> {
    /// Recognizes a failure by how `monitor/hmp.c` and `hmp_handle_error` of QEMU begin and end
    /// such a text. The failure of a command with its own wording cannot be recognized.
    fn of(output: &'a str) -> Option<Self> {
        let begins = |begin: &str| output.lines().any(|line| line.starts_with(begin));
        let (last, (before, after)) = (output.lines().last()?, ("Try \"help ", "\" for more "));
        let help = last.strip_prefix(before).and_then(|rest| Some(rest.split_once(after)?.0));
        let is_unknown = begins("unknown command: ");
        if !is_unknown && !begins("Error: ") && help.is_none() {
            return None;
        }
        let told = output.lines().filter(|line| !line.starts_with(before));
        let told: Vec<&str> =
            told.map(|line| line.strip_prefix("Error: ").unwrap_or(line)).collect();
        Some(Self { what: told.join("\n"), is_unknown, help })
    }

    /// Finds the name of a command that was probably meant.
    fn near(&self, target: &Target, session: &mut Session, command: &str) -> Option<String> {
        if !self.is_unknown {
            return None;
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        let (list, at) =
            if words.first() == Some(&"info") { ("help info", 1) } else { ("help", 0) };
        // Without the list there is no hint, which is not an error in itself.
        let help = ask(target, session, list).unwrap_or_default();
        let names = help.lines().filter_map(|line| line.split(' ').nth(at));
        let near = nearest(words.get(at)?, names.flat_map(|name| name.split('|')));
        near.map(|name| if at == 1 { format!("info {name}") } else { name.to_string() })
    }

    fn told(&self, vm: &str, command: &str, near: Option<&str>) -> Error {
        let what = sanitized(&self.what);
        let error = Error::failed(did_you_mean(&format!("QEMU refuses `{command}`: {what}"), near));
        match self.help {
            Some(topic) => error.hint(format!("`qqmgr monitor {vm} help {topic}` tells more")),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of QEMU 7.2.
    #[test]
    fn what_went_wrong_is_told_by_the_text() {
        let failure = |what: &str, is_unknown, help| {
            Some(Failure { what: what.to_string(), is_unknown, help })
        };
        for (output, expected) in [
            ("", None),
            ("VM status: running\n", None),
            ("No CPU available\n", None),
            ("unknown command: 'nope'\n", failure("unknown command: 'nope'", true, None)),
            ("Error: Device 'x' not found\n", failure("Device 'x' not found", false, None)),
            (
                "block: extraneous characters at the end of line\n\
                 Try \"help info block\" for more information\n",
                failure(
                    "block: extraneous characters at the end of line",
                    false,
                    Some("info block"),
                ),
            ),
            ("warning\nError: a\nb\n", failure("warning\na\nb", false, None)),
        ] {
            assert_eq!(Failure::of(output), expected, "{output}");
        }
    }
}
