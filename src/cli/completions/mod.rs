//! Scripts that complete command lines in a shell, from the table of commands.
//!
//! Each shell's file has the parts that never change as text in that shell, and fills in what the
//! table says. Names of VMs, images and tags are asked of `qqmgr list -q` and its like at the time,
//! silently.

mod bash;
mod fish;
mod zsh;

use super::spec::{Command, Count, Flag, FlagKind, GLOBAL_FLAGS, Operand};

pub(crate) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The script for that shell, if it is one of [`SHELLS`].
pub(crate) fn script(shell: &str, commands: &[&Command]) -> Option<String> {
    match shell {
        "bash" => Some(bash::script(commands)),
        "zsh" => Some(zsh::script(commands)),
        "fish" => Some(fish::script(commands)),
        _ => None,
    }
}

/// What completes an operand or the value of a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Completion {
    Vms,
    Images,
    /// Of the snapshots of the VM before it, where one is needed that is there.
    Tags,
    Commands,
    Files,
    Words(&'static [&'static str]),
    Nothing,
}

impl Completion {
    fn of_operand(operand: &Operand) -> Self {
        match operand.choices {
            [] => Self::of(operand.name),
            choices => Self::Words(choices),
        }
    }

    /// The one place that knows what the names in the table stand for.
    fn of(name: &str) -> Self {
        match name {
            "VM" => Self::Vms,
            "IMAGE" => Self::Images,
            "TAG" => Self::Tags,
            "COMMAND" => Self::Commands,
            "FILE" | "FILE_OR_URL" | "LOCAL" | "LOCAL:REMOTE" => Self::Files,
            "LINES" => Self::Words(&["all"]),
            "BOOT" => Self::Words(&["-1", "-2", "-3", "-4", "-5"]),
            "CONDITION" => Self::Words(&["ssh", "stopped", "running", "serial="]),
            _ => Self::Nothing,
        }
    }
}

/// The operands by place: the first ones, and with `None` all that may follow. Where a
/// word may be either of two operands, it is the one that can be completed.
fn places(command: &Command) -> Vec<(Option<usize>, &'static Operand)> {
    let (mut places, mut more): (Vec<_>, Option<&Operand>) = (Vec::new(), None);
    for operand in command.operands {
        match operand.count {
            Count::One | Count::Optional if more.is_none() => {
                places.push((Some(places.len()), operand));
            }
            Count::Many => {
                places.push((Some(places.len()), operand));
                more = Some(operand);
            }
            Count::One | Count::Optional | Count::Any => {
                more = more.filter(|more| Completion::of_operand(more) != Completion::Nothing);
                more = more.or(Some(operand));
            }
            Count::Words { .. } | Count::Rest => {}
        }
    }
    places.extend(more.map(|name| (None, name)));
    places
}

/// Every flag that there is, once.
fn all_flags(commands: &[&Command]) -> Vec<&'static Flag> {
    let mut flags: Vec<&'static Flag> = GLOBAL_FLAGS.to_vec();
    for flag in commands.iter().flat_map(|command| command.flags) {
        if flags.iter().all(|other| other.long != flag.long) {
            flags.push(flag);
        }
    }
    flags
}

/// Whether commands have flags of that name whose values are not completed alike.
fn is_ambiguous(flag: &Flag, commands: &[&Command]) -> bool {
    let completion = |flag: &Flag| flag.kind.value_name().map(Completion::of);
    let others = commands.iter().flat_map(|command| command.flags);
    others
        .filter(|other| other.long == flag.long)
        .any(|other| completion(other) != completion(flag))
}

/// `-c` and `--config`, those that there are.
fn spellings(flag: &Flag) -> Vec<String> {
    let short = flag.short.map(|letter| format!("-{letter}"));
    short.into_iter().chain([format!("--{}", flag.long)]).collect()
}

/// Whether the word behind the flag is its value.
fn takes_next_word(flag: &Flag) -> bool {
    matches!(flag.kind, FlagKind::Value { .. } | FlagKind::List { .. })
}

/// What a walk over the words of a line has to know, in place of these marks in the text.
fn fill(text: &str, commands: &[&Command]) -> String {
    let flags = all_flags(commands);
    let with_value = || flags.iter().filter(|flag| takes_next_word(flag));
    let with = |is: fn(Count) -> bool| {
        commands.iter().filter(move |c| c.operands.iter().any(|operand| is(operand.count)))
    };
    let words = with(|count| matches!(count, Count::Words { .. })).map(|command| command.name);
    let rest =
        with(|count| count == Count::Rest).map(|c| format!("{}:{}", c.name, c.operands.len() - 1));
    let letters: String = with_value().filter_map(|flag| flag.short).collect();
    [
        ("@COMMANDS@", join(commands.iter().map(|command| command.name))),
        ("@WITH_VALUE@", join(with_value().map(|flag| format!("--{}", flag.long)))),
        ("@LETTERS@", letters),
        ("@WORDS@", join(words)),
        ("@REST@", join(rest)),
    ]
    .iter()
    .fold(text.to_string(), |text, (mark, value)| text.replace(mark, value))
}

fn join(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.as_ref().to_string()).collect();
    words.join(" ")
}

/// These, each on a line of its own.
fn lines(indent: usize, lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().fold(String::new(), |text, line| text + &" ".repeat(indent) + &line + "\n")
}

/// The text in single quotes, as all three shells read it where there is no backslash.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
