//! `qqmgr help [COMMAND]`

use super::COMMANDS;
use crate::cli::spec::{Count, Operand};
use crate::cli::{Args, Command, help};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Report;
use crate::text::nearest;

pub(crate) static COMMAND: Command = Command {
    name: "help",
    about: "Show help, of a command or of all",
    details: "",
    operands: &[Operand { name: "COMMAND", count: Count::Optional }],
    flags: &[],
    failure_code: None,
    run,
};

/// Help on a command, or the overview.
pub(crate) struct Help(pub(crate) Option<&'static Command>);

fn run(args: &Args) -> Result<Box<dyn Report>, Error> {
    let Some(name) = args.operands.first().map(|name| name.to_string_lossy()) else {
        return Ok(Box::new(Help(None)));
    };
    let command = COMMANDS.iter().find(|command| command.name == name).ok_or_else(|| {
        let near = nearest(&name, COMMANDS.iter().map(|command| command.name));
        let hint = near.map_or("`qqmgr help` lists the commands".into(), |near| {
            format!("did you mean `{near}`?")
        });
        Error::new(Kind::Usage, format!("unknown command `{name}`")).hint(hint)
    })?;
    Ok(Box::new(Help(Some(command))))
}

impl Report for Help {
    fn text(&self) -> String {
        help::text(COMMANDS, self.0)
    }

    fn json(&self) -> Value {
        help::json(COMMANDS, self.0)
    }
}
