//! Help, from the table of commands: the overview and one command's page, as text and as JSON.

use super::flag::{AnyFlag, GLOBAL_FLAGS, Info, Takes};
use super::spec::{Command, Count, Operand, Table};
use crate::json::Value;
use crate::text::listed;
use std::fmt::Write as _;

/// `qqmgr stop [OPTIONS] VM`
pub(crate) fn synopsis(command: &Command) -> String {
    format!("qqmgr {} [OPTIONS]{}", command.name, operands(command))
}

fn operands(command: &Command) -> String {
    command.operands.iter().flat_map(|operand| [" ".into(), operand.usage()]).collect()
}

pub(crate) fn json(commands: Table, command: Option<&Command>) -> Value {
    let one = |(group, command): &(&'static str, &'static Command)| {
        Value::object([
            ("name", Value::from(command.name)),
            ("group", (*group).into()),
            ("about", command.about.into()),
            ("usage", synopsis(command).into()),
            ("flags", flags_json(command.flags)),
            ("examples", examples(command).collect()),
        ])
    };
    match command {
        Some(command) => commands.iter().find(|(_, row)| row.name == command.name).map(one).into(),
        None => Value::object([
            ("commands", commands.iter().map(one).collect()),
            ("flags", flags_json(GLOBAL_FLAGS)),
        ]),
    }
}

/// The overview of all commands.
pub(crate) fn overview(commands: Table) -> String {
    let row = |row: &Command| (format!("{}{}", row.name, operands(row)), row.about);
    // One width for all groups, so that they read as one table.
    let lines = columns(commands.iter().map(|(_, command)| row(command)).collect());
    let mut lines = lines.split_inclusive('\n');
    let mut groups = String::new();
    for group in commands.chunk_by(|(one, _), (next, _)| one == next) {
        let _ = writeln!(groups, "{}:", group[0].0);
        groups.extend(lines.by_ref().take(group.len()));
        groups.push('\n');
    }
    format!(
        "qqmgr - Quick QEMU Manager\n\nUsage: qqmgr [OPTIONS] COMMAND ...\n\n\
         {groups}Options of every command:\n{}\n\
         `qqmgr help COMMAND` shows the options of a command; qqmgr(1), qqmgr(7),\n\
         qqmgr.toml(5) and qqmgr-json(5) are the reference.\n",
        columns(rows(GLOBAL_FLAGS)),
    )
}

/// The page of one command.
pub(crate) fn page(command: &Command) -> String {
    let mut text = format!("{}\n\nUsage: {}\n", command.about, synopsis(command));
    for operand in command.operands.iter().filter(|operand| !operand.choices.is_empty()) {
        let _ = write!(text, "\n{} is {}.\n", operand.name, listed(operand.choices, "or"));
    }
    if !command.details.is_empty() {
        let _ = write!(text, "\n{}\n", command.details);
    }
    if !command.flags.is_empty() {
        let _ = write!(text, "\nOptions:\n{}", columns(rows(command.flags)));
    }
    let global: Vec<String> = GLOBAL_FLAGS.iter().map(|flag| flag.info().in_short()).collect();
    let _ = write!(text, "\nOptions of every command: {}\n\nExamples:\n", global.join(", "));
    for example in examples(command) {
        let _ = writeln!(text, "  {example}");
    }
    text
}

fn examples(command: &Command) -> impl Iterator<Item = String> {
    command.examples.iter().map(|example| format!("qqmgr {example}"))
}

impl Operand {
    fn usage(&self) -> String {
        let name = self.name;
        match self.count {
            Count::One => name.to_string(),
            Count::Optional => format!("[{name}]"),
            Count::Many => format!("{name}..."),
            Count::Words => format!("[-- {name}...]"),
            Count::Any | Count::Rest => format!("[{name}...]"),
        }
    }
}

fn rows(flags: &[&dyn AnyFlag]) -> Vec<(String, &'static str)> {
    flags.iter().map(|flag| flag.info().row()).collect()
}

fn flags_json(flags: &[&dyn AnyFlag]) -> Value {
    flags.iter().map(|flag| flag.info().json()).collect()
}

impl Info {
    /// `-c FILE`, or `--json` for a flag without a letter.
    fn in_short(&self) -> String {
        let name = self.short.map_or(format!("--{}", self.long), |letter| format!("-{letter}"));
        self.value_name().map_or(name.clone(), |value| format!("{name} {value}"))
    }

    /// `-c, --config FILE` and its help text.
    fn row(&self) -> (String, &'static str) {
        let short = self.short.map_or("    ".into(), |letter| format!("-{letter}, "));
        let value = match self.takes {
            Takes::Optional { name, .. } => format!("[={name}]"),
            _ => self.value_name().map(|name| format!(" {name}")).unwrap_or_default(),
        };
        (format!("{short}--{}{value}", self.long), self.help)
    }

    fn json(&self) -> Value {
        Value::object([
            ("long", Value::from(self.long)),
            ("short", self.short.map(String::from).into()),
            ("value", self.value_name().into()),
            ("value_required", self.requires_value().into()),
            ("repeatable", matches!(self.takes, Takes::Values(_)).into()),
            ("help", self.help.into()),
        ])
    }
}

fn columns(rows: Vec<(String, &str)>) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or_default();
    rows.into_iter().fold(String::new(), |mut text, (left, right)| {
        let _ = writeln!(text, "  {left:width$}  {right}");
        text
    })
}
