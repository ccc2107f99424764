//! `qqmgr completions SHELL`

use super::COMMANDS;
use crate::cli::completions::{SHELLS, script};
use crate::cli::spec::{Count, Operand};
use crate::cli::{Args, Command, Outcome, Run};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Report;
use crate::text::{did_you_mean, nearest};

pub(crate) static COMMAND: Command = Command {
    name: "completions",
    about: "Print what completes command lines in a shell",
    details: "SHELL is `bash`, `zsh` or `fish`. Names of VMs are completed as they are\n\
              configured at the time.",
    operands: &[Operand { name: "SHELL", count: Count::One }],
    flags: &[],
    failure_code: Kind::exit_code,
    run: Run::Once(run),
};

struct Script {
    shell: String,
    script: String,
}

fn run(args: &Args) -> Outcome {
    let shell = args.operands[0].to_string_lossy().into_owned();
    let Some(script) = script(&shell, COMMANDS) else {
        let near = nearest(&shell, SHELLS.iter().copied());
        let error =
            Error::new(Kind::Usage, did_you_mean(&format!("unknown shell `{shell}`"), near));
        let known = format!("the shells are `{}`", SHELLS.join("`, `"));
        return Err(if near.is_some() { error } else { error.hint(known) });
    };
    Ok(Box::new(Script { shell, script }))
}

impl Report for Script {
    fn text(&self) -> String {
        self.script.clone()
    }

    fn json(&self) -> Value {
        Value::object([
            ("shell", Value::from(self.shell.as_str())),
            ("script", self.script.as_str().into()),
        ])
    }
}
