//! `qqmgr completions SHELL`

use crate::cli::complete::{SHELLS, script};
use crate::cli::spec::{Count, Operand};
use crate::cli::{Args, Command};
use crate::report::Report;

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

pub(super) fn run(args: &Args) -> Report {
    let shell = args.operands[0].to_string_lossy().into_owned();
    let script = script(&shell).unwrap_or_default();
    Report::of(script, [("shell", shell.into()), ("script", script.into())])
}
