//! `qqmgr help [COMMAND]`

use super::COMMANDS;
use crate::cli::spec::{Count, Operand};
use crate::cli::{Args, Command, Outcome, Run, find_command, help};
use crate::error::Kind;
use crate::report::Report;

pub(crate) static COMMAND: Command = Command {
    name: "help",
    about: "Show help, of a command or of all",
    details: "",
    operands: &[Operand::new("COMMAND", Count::Optional)],
    flags: &[],
    failure_code: Kind::exit_code,
    run: Run::Once(run),
};

fn run(args: &Args) -> Outcome {
    let name = args.operands.first().map(|name| name.to_string_lossy());
    let command = name.map(|name| find_command(COMMANDS, &name)).transpose()?;
    Ok(report(command))
}

/// Help on a command, or the overview.
pub(crate) fn report(command: Option<&Command>) -> Report {
    Report::new(help::text(COMMANDS, command), help::json(COMMANDS, command))
}
