//! `qqmgr completions SHELL`

use crate::cli::complete::{SHELLS, script};
use crate::cli::spec::{Count, Operand};
use crate::cli::{Args, Command};
use crate::error::Error;
use crate::report::{Outcome, Report};

pub(crate) static COMMAND: Command = Command {
    name: "completions",
    about: "Print the completion script for a shell",
    details: "The script asks qqmgr, so it knows the VMs that are configured now.",
    operands: &[Operand::new("SHELL", Count::One).one_of(SHELLS)],
    examples: &[
        "completions bash >~/.local/share/bash-completion/completions/qqmgr",
        "completions fish >~/.config/fish/completions/qqmgr.fish",
    ],
    ..Command::DEFAULT
};

pub(super) fn run(args: &Args) -> Outcome {
    let shell = args.operands[0].to_string_lossy().into_owned();
    let no_shell = || Error::usage(format!("`{shell}` has no script"));
    let script = script(&shell).ok_or_else(no_shell)?.to_string();
    Ok(Report::of(script.as_str(), [("shell", shell.into()), ("script", script.as_str().into())]))
}
