//! `qqmgr help [COMMAND]`

use crate::cli::spec::Table;
use crate::cli::{Args, Command, Count, Operand, find_command, help};
use crate::report::{Outcome, Report};

pub(crate) static COMMAND: Command = Command {
    name: "help",
    about: "Show help for a command, or for all",
    operands: &[Operand::new("COMMAND", Count::Optional)],
    examples: &["help start", "help --json"],
    ..Command::DEFAULT
};

pub(super) fn run(table: Table, args: &Args) -> Outcome {
    let name = args.operands.first().map(|name| name.to_string_lossy());
    let command = name.map(|name| find_command(table, &name)).transpose()?;
    Ok(report(table, command))
}

/// Help on a command, or the overview.
pub(crate) fn report(table: Table, command: Option<&Command>) -> Report {
    let text = command.map_or_else(|| help::overview(table), help::page);
    Report::new(text, help::json(table, command))
}
