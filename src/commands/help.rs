//! `qqmgr help [COMMAND]`

use super::COMMANDS;
use crate::cli::spec::{Count, Operand};
use crate::cli::{Args, Command, Outcome, Run, find_command, help};
use crate::error::Kind;
use crate::json::Value;
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

/// Help on a command, or the overview.
pub(crate) struct Help(pub(crate) Option<&'static Command>);

fn run(args: &Args) -> Outcome {
    let name = args.operands.first().map(|name| name.to_string_lossy());
    let command = name.map(|name| find_command(COMMANDS, &name)).transpose()?;
    Ok(Box::new(Help(command)))
}

impl Report for Help {
    fn text(&self) -> String {
        help::text(COMMANDS, self.0)
    }

    fn json(&self) -> Value {
        help::json(COMMANDS, self.0)
    }
}
