//! `qqmgr monitor VM [WORD...]`: runs commands of the human monitor through the QMP command for it.
//!
//! QMP gives every output as text, including failures, so only the text shows what failed.

use super::input::Input;
use super::target::Target;
use super::{qmp, vms};
use crate::answers::Answers;
use crate::cli::{Args, Command, Count, Operand, spec, usage_of};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::out;
use crate::report::Outcome;
use crate::text::{nearest, sanitized};
use crate::vm::Session;
use crate::vm::refusal::refusal;

pub(crate) static COMMAND: Command = Command {
    name: "monitor",
    about: "Run commands of QEMU's human monitor",
    details: "The WORDs are one command with its own flags; flags of qqmgr stand before the\n\
              VM. Without a WORD, each line of standard input is a command. On a terminal,\n\
              there is a prompt: Ctrl-D leaves it, and `quit` asks before it ends QEMU.",
    operands: &[spec::VM, Operand::new("WORD", Count::Rest)],
    flags: &[&qmp::TIMEOUT],
    check: |args| words(args).map(|_| ()),
    examples: &["monitor dev info registers", "monitor dev"],
    ..Command::DEFAULT
};

/// The command of the command line; empty if there is none.
fn words(args: &Args) -> Result<String, Error> {
    let words: Option<Vec<&str>> = args.operands[1..].iter().map(|word| word.to_str()).collect();
    Ok(words.ok_or_else(not_text)?.join(" "))
}

fn not_text() -> Error {
    usage_of(&COMMAND, "QEMU's monitor takes only UTF-8")
}

pub(super) fn run(args: &Args, answers: &mut Answers) -> Result<(), Error> {
    vms::one(args, &args.vm(), |target| {
        if args.operands.len() == 1 {
            return serve(target, answers);
        }
        let mut session = Session::open(&target.paths, &target.log)?;
        answers.tell(execute(target, &mut session, &words(args)?));
        Ok(())
    })
}

/// Runs each line of standard input.
fn serve(target: &Target, answers: &mut Answers) -> Result<(), Error> {
    let input = Input::new(target, "(qemu) ")?;
    if input.prompt.is_some() {
        let name = &target.name;
        target.log.note(&format!("this is QEMU's monitor of VM `{name}`; Ctrl-D leaves it"));
    }
    while let Some(line) = input.next()? {
        let command = String::from_utf8(line).map_err(|_| not_text())?;
        let is_declined = match command.split_whitespace().next() {
            Some("q" | "quit") => {
                !input.agrees("that ends QEMU, as a power cut would end the guest")?
            }
            word => word == Some("exit") && input.prompt.is_some(),
        };
        if is_declined {
            target.log.note("nothing was done; Ctrl-D leaves the monitor");
            continue;
        }
        match execute(target, &mut input.session()?, &command) {
            // QEMU is gone or hangs, so every following line would fail as well.
            Err(error) if error.kind != Kind::Failed => return Err(error),
            outcome => answers.tell(outcome),
        }
    }
    Ok(())
}

fn execute(target: &Target, session: &mut Session, command: &str) -> Outcome {
    let output = ask(target, session, command)?;
    if let Some(failure) = Failure::of(&output) {
        let near = if failure.is_unknown { near(target, session, command) } else { None };
        let (vm, what) = (&target.name, sanitized(&failure.what));
        let hint =
            failure.help.map(|topic| format!("`qqmgr monitor {vm} help {topic}` tells more"));
        let error = Error::failed(format!("QEMU refuses `{command}`: {what}"));
        return Err(error.did_you_mean(near.as_deref()).hint_if(hint));
    }
    // The guest may control a part of the output.
    let text = if out::is_terminal() { sanitized(&output) } else { output.clone() };
    Ok(target.report(text, [("command", command.into()), ("output", output.into())]))
}

fn ask(target: &Target, session: &mut Session, command: &str) -> Result<String, Error> {
    const EXECUTE: &str = "human-monitor-command";
    let (limit, arguments) = (qmp::limit(target.args), [("command-line", Value::from(command))]);
    let answer = session.try_execute(limit, EXECUTE, Some(&Value::object(arguments)));
    let answer = answer.map_err(|error| refusal(session, limit, command, &error))?;
    // The monitor writes the line ends of a terminal.
    Ok(answer.as_str().unwrap_or_default().replace("\r\n", "\n"))
}

/// Finds the name of a command that the user probably meant.
fn near(target: &Target, session: &mut Session, command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (list, at) = if words.first() == Some(&"info") { ("help info", 1) } else { ("help", 0) };
    // Without the list, the error has no hint.
    let help = ask(target, session, list).unwrap_or_default();
    let names = help.lines().filter_map(|line| line.split(' ').nth(at));
    let near = nearest(words.get(at)?, names.flat_map(|name| name.split('|')));
    near.map(|name| if at == 1 { format!("info {name}") } else { name.to_string() })
}

/// An output that means that the command failed.
#[derive(Debug, PartialEq, Eq)]
struct Failure<'a> {
    /// The problem in QEMU's words.
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
        let lines = output.lines().filter(|line| !line.starts_with(before));
        let lines = lines.map(|line| line.strip_prefix("Error: ").unwrap_or(line));
        Some(Self { what: lines.collect::<Vec<_>>().join("\n"), is_unknown, help })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of QEMU 7.2.
    #[test]
    fn failures_are_recognized_by_their_text() {
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
