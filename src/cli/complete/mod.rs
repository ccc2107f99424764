//! Finds what may come next on a command line, with the table that the line is parsed with.
//!
//! [`place`] reads the words before the current one as [`super::parse()`] does, and says what the
//! table has for this place. It is pure: `qqmgr complete`, which the shells call, looks up the
//! names that are only known at run time. The shells' scripts are the files beside this one.

pub(crate) mod bash;

use super::flag::{AnyFlag, CONFIG, GLOBAL_FLAGS, Info};
use super::lex::{Lexer, Token};
use super::parse::{Words, known_flags};
use super::spec::{Command, Count, Operand, Table};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// The shells that have a script, and their scripts.
const SCRIPTS: &[(&str, &str)] = &[
    ("bash", include_str!("qqmgr.bash")),
    ("zsh", include_str!("qqmgr.zsh")),
    ("fish", include_str!("qqmgr.fish")),
];
pub(crate) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The script for that shell, if it is one of [`SHELLS`].
pub(crate) fn script(shell: &str) -> Option<&'static str> {
    SCRIPTS.iter().find(|(name, _)| *name == shell).map(|(_, script)| *script)
}

/// The names in the table that can be completed, and the words that can stand for each. Where there
/// are none, they are looked up at run time.
const COMPLETED: &[(&str, &[&str])] = &[
    ("VM", &[]),
    ("IMAGE", &[]),
    ("TAG", &[]),
    ("HELPER", &[]),
    ("NAME=VALUE", &[]),
    ("PORT", &[]),
    ("LINES", &["all"]),
    ("BOOT", &["-1", "-2", "-3", "-4", "-5"]),
    ("serial=TEXT", &["serial="]),
    ("CONDITION", &["ssh", "login", "cloud-init", "stopped", "running", "serial="]),
];

/// The names in the table that stand for files.
pub(crate) const FILES: &[&str] = &["DIR", "FILE", "FILE_OR_URL", "LOCAL", "LOCAL:REMOTE"];

/// The words that can complete a word, each with its help.
type Offered = Vec<(String, &'static str)>;

/// The place of a word on a command line.
#[derive(Debug)]
pub(crate) struct Place {
    /// The name that the table has for this place, if it is one of [`COMPLETED`] or [`FILES`].
    pub(crate) name: &'static str,
    /// The words that can stand there, as far as the table knows them.
    pub(crate) words: Offered,
    /// The part of the current word before the completed one: `--for=`, or nothing.
    pub(crate) prefix: OsString,
    /// The file that `-c` names.
    pub(crate) config: Option<PathBuf>,
    /// The operands before the word.
    pub(crate) operands: Vec<OsString>,
}

/// Finds the place of `current`, which follows the words `before`. `None` if nothing is known about
/// it, or if the word belongs to another program.
pub(crate) fn place(commands: Table, before: Vec<OsString>, current: &OsStr) -> Option<Place> {
    let mut words = Words::new(commands);
    let mut lexer = Lexer::new(before);
    let (mut awaited, mut ended) = (None, false);
    while let Some(token) = lexer.next() {
        match token {
            Token::Word(word) => words.word(word).ok()?,
            Token::Flag(spelled) => awaited = walk_flag(&mut words, &mut lexer, &spelled),
            Token::End if words.takes_words() => return None,
            Token::End => ended = true,
        }
        if words.rest_follows() {
            return None;
        }
    }
    let bytes = current.as_bytes();
    let equals = bytes.iter().position(|byte| *byte == b'=');
    let mut prefix = OsString::new();
    let (name, offered) = if let Some(flag) = awaited {
        of_value(&words, flag)?
    } else if let Some(at) = equals.filter(|_| !ended && bytes.starts_with(b"--")) {
        let flag = words.find_flag(current.to_str()?.get(..at)?)?;
        prefix = OsString::from_vec(bytes[..=at].to_vec());
        of_value(&words, flag.info())?
    } else if !ended && bytes.starts_with(b"-") {
        ("", flags(&words))
    } else if let Some(command) = words.command {
        of_operand(commands, operand_at(command, words.args.operands.len())?)?
    } else {
        ("", all_commands(commands))
    };
    let config = words.args.all(&CONFIG).into_iter().next().map(PathBuf::from);
    Some(Place { name, words: offered, prefix, config, operands: words.args.operands })
}

/// Takes a flag and its value. Returns the flag if its value is the word that follows.
fn walk_flag(words: &mut Words, lexer: &mut Lexer, spelled: &str) -> Option<&'static Info> {
    // A flag that only another command has takes its value as well.
    let elsewhere = || Words::new(words.commands).find_flag(spelled);
    let flag = words.find_flag(spelled).or_else(elsewhere)?.info();
    let value = if flag.requires_value() { lexer.value() } else { lexer.attached_value() };
    if value.is_none() && flag.requires_value() {
        return Some(flag);
    }
    words.args.flags.push((flag.long, value.unwrap_or_default()));
    None
}

fn all_commands(table: Table) -> Offered {
    table.iter().map(|(_, command)| (command.name.into(), command.about)).collect()
}

/// Every spelling of the flags that are valid here.
fn flags(words: &Words) -> Offered {
    let known = match words.command {
        Some(command) => known_flags(words.commands, Some(command)),
        None => GLOBAL_FLAGS.to_vec(),
    };
    let spellings = known.into_iter().map(AnyFlag::info).flat_map(|flag| {
        let short = flag.short.map(|letter| (format!("-{letter}"), flag.help));
        short.into_iter().chain([(format!("--{}", flag.long), flag.help)])
    });
    spellings.collect()
}

/// Finds what completes the value of that flag. Before the command is known, the flag may come from
/// the row of another command that has a flag of this name.
fn of_value(words: &Words, flag: &Info) -> Option<(&'static str, Offered)> {
    let mut own = known_flags(words.commands, words.command).into_iter().map(AnyFlag::info);
    let flag = own.find(|own| own.long == flag.long)?;
    if flag.long == "wait" { Some(("", plain(&["ssh"]))) } else { of_name(flag.value_name()?) }
}

fn of_operand(table: Table, operand: &Operand) -> Option<(&'static str, Offered)> {
    match operand.choices {
        [] if operand.name == "COMMAND" => Some(("", all_commands(table))),
        [] => of_name(operand.name),
        choices => Some(("", plain(choices))),
    }
}

fn of_name(name: &str) -> Option<(&'static str, Offered)> {
    let files = FILES.iter().map(|name| (*name, &[][..]));
    let (name, words) = COMPLETED.iter().copied().chain(files).find(|(known, _)| *known == name)?;
    Some((name, plain(words)))
}

fn plain(words: &[&str]) -> Offered {
    words.iter().map(|word| (word.to_string(), "")).collect()
}

/// Finds the operand at this index. If the word may be either of two operands, the one that can be
/// completed is chosen.
fn operand_at(command: &'static Command, index: usize) -> Option<&'static Operand> {
    let words = |operand: &&Operand| !matches!(operand.count, Count::Words | Count::Rest);
    let several = |operand: &&Operand| matches!(operand.count, Count::Many | Count::Any);
    let operands: Vec<&Operand> = command.operands.iter().filter(words).collect();
    let Some(many) = operands.iter().position(several) else {
        return operands.get(index).copied();
    };
    // The first word of `Count::Many` cannot be one of the operands that follow.
    if index < many || index == many && operands[many].count == Count::Many {
        return operands.get(index).copied();
    }
    let known = |operand: &&&Operand| of_operand(&[], operand).is_some();
    operands[many..].iter().find(known).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;

    fn at(line: &[&str], current: &str) -> String {
        let before = line.iter().map(OsString::from).collect();
        let Some(place) = place(&table(), before, OsStr::new(current)) else {
            return "nothing".into();
        };
        let words: Vec<String> = place.words.into_iter().map(|(word, _)| word).collect();
        let found = if words.is_empty() { place.name.to_string() } else { words.join(" ") };
        format!("{}{found}", place.prefix.display())
    }

    #[test]
    fn operands_and_values() {
        for (line, current, expected) in [
            (&["snapshot"][..], "", "save load delete list"),
            (&["snapshot", "load", "a"], "x", "TAG"),
            (&["put", "a"], "", "LOCAL"),
            (&["put", "a", "b", "c"], "", "LOCAL"),
            (&["get", "a"], "", "nothing"),
            (&["get", "a", "b"], "", "LOCAL"),
            (&["stop", "a", "b"], "", "VM"),
            (&["stop", "--", "a"], "--force", "VM"),
            (&["start", "--"], "", "nothing"),
            (&["ssh", "a"], "", "nothing"),
            (&["wait", "--for"], "", "ssh login cloud-init stopped running serial="),
            (&["wait"], "--for=se", "--for=ssh login cloud-init stopped running serial="),
            (&["stop"], "--timeout=", "nothing"),
            (&["start"], "--wait=", "--wait=ssh"),
            (&["run", "a", "--from"], "", "TAG"),
            (&["run", "a", "--from", "b", "--prepare"], "", "nothing"),
            (&["run", "--jobs"], "", "nothing"),
            (&["run", "a", "--set"], "", "NAME=VALUE"),
            (&["wait", "a", "--unless"], "", "serial="),
            (&["forward", "a"], "", "PORT"),
            (&["forward", "a", "b", "--remove"], "", "PORT"),
            (&["stop", "--no-such"], "", "VM"),
            (&["nonsense"], "", "nothing"),
            (&["-vc"], "", "FILE"),
            (
                &["-vcx", "list"],
                "-",
                "-q --quiet --running --everywhere -c --config --json -v --verbose -h \
                 --help -V --version",
            ),
        ] {
            assert_eq!(at(line, current), expected, "{line:?} {current}");
        }
    }

    #[test]
    fn every_shell_has_its_script() {
        for shell in SHELLS {
            assert!(script(shell).is_some_and(|script| script.contains(shell)), "{shell}");
        }
    }
}
