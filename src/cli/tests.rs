//! Tests of the parser with the real table of commands, and of the rules that the table follows.

use super::flag::{Flag, GLOBAL_FLAGS};
use super::names::{OTHER_FLAGS, find_command};
use super::spec::{Count, Operand};
use super::{Line, Parsed, parse};
use crate::commands::table;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

static TIMEOUT: Flag<Duration> = Flag::seconds("timeout", "");

/// Shows in short how a command line was read.
fn read(words: &[&str]) -> String {
    read_os(&words.iter().map(OsString::from).collect::<Vec<_>>())
}

fn read_os(words: &[OsString]) -> String {
    let Line { command, json, parsed } = parse(&table(), words);
    match parsed {
        Ok(Parsed::Run(command, args)) => {
            let flags = args.flags.iter().map(|(long, value)| match value.to_str() {
                Some("") => format!("+{long}"),
                _ => format!("{long}={}", value.display()),
            });
            let operands = args.operands.iter().map(|operand| format!("{operand:?}"));
            let behind = args.words.iter().map(|word| format!("[{word:?}]"));
            let words = [command.name.to_string()].into_iter().chain(flags);
            words.chain(operands).chain(behind).collect::<Vec<_>>().join(" ")
        }
        Ok(Parsed::Help) => {
            format!("help of {:?}, json {json}", command.map(|command| command.name))
        }
        Ok(Parsed::Version) => format!("version, json {json}"),
        Err(error) => {
            let text = error.text();
            let text = text.lines().next().unwrap_or_default();
            format!("{} (json {})", text.trim_start_matches("qqmgr: error: "), json)
        }
    }
}

#[test]
fn flags_stand_anywhere() {
    for words in [
        &["--timeout", "5", "--json", "stop", "a", "--force"][..],
        &["stop", "--timeout=5", "a", "--force", "--json"],
        &["--json", "--force", "--timeout", "5", "stop", "--", "a"],
    ] {
        let mut read: Vec<String> = read(words).split(' ').map(str::to_string).collect();
        read.sort();
        assert_eq!(read, ["\"a\"", "+force", "+json", "stop", "timeout=5"], "{words:?}");
    }
    assert_eq!(read(&["-vcx", "list"]), "list +verbose config=x");
    assert_eq!(read(&["list", "-c", "-v"]), "list config=-v");
    assert_eq!(read(&["put", "a", "--", "-l", "--", "r"]), "put \"a\" \"-l\" \"--\" \"r\"");
}

/// The examples of the help are command lines of the command that shows them, two or three each.
#[test]
fn examples_are_right() {
    for (_, command) in table() {
        assert!(matches!(command.examples.len(), 2..=3), "{}", command.name);
        for example in command.examples {
            let example = example.replace("SHA256", &"0".repeat(64));
            let line = example.split(['>', '|']).next().unwrap_or_default();
            let words = line.split_ascii_whitespace().map(|word| word.replace('\'', ""));
            let shown = read_os(&words.map(OsString::from).collect::<Vec<_>>());
            assert!(shown.starts_with(command.name), "{example}: {shown}");
        }
    }
}

/// Everything after `--` goes to QEMU, even without operands or with several.
#[test]
fn words_after_dashes_are_qemus() {
    assert_eq!(read(&["start", "a", "--", "--json"]), "start \"a\" [\"--json\"]");
    assert_eq!(
        read(&["start", "a", "--json", "b", "--", "-m", "--", "c"]),
        "start +json \"a\" \"b\" [\"-m\"] [\"--\"] [\"c\"]"
    );
    assert_eq!(read(&["start", "--", "a"]), "`start` needs a VM, or `--all` (json false)");
    assert_eq!(read(&["start", "--all", "--", "a"]), "start +all [\"a\"]");
    assert_eq!(read(&["restart", "a", "--"]), "restart \"a\"");
    assert_eq!(read(&["run", "a", "--", "-x"]), "run \"a\" [\"-x\"]");
}

#[test]
fn words_of_ssh_are_its_own() {
    assert_eq!(read(&["ssh", "a", "-h", "--", "--json"]), "ssh \"a\" \"-h\" \"--\" \"--json\"");
    assert_eq!(read(&["ssh", "-v", "a", "-v"]), "ssh +verbose \"a\" \"-v\"");
    assert_eq!(read(&["ssh", "--", "a", "--", "b"]), "ssh \"a\" \"--\" \"b\"");
    assert_eq!(read(&["ssh", "--help", "a"]), "help of Some(\"ssh\"), json false");
}

#[test]
fn help_and_version_win_over_what_is_missing() {
    assert_eq!(read(&["-h"]), "help of None, json false");
    assert_eq!(read(&["stop", "--json", "-h"]), "help of Some(\"stop\"), json true");
    assert_eq!(read(&["--version", "stop"]), "version, json false");
}

#[test]
fn refused() {
    for (words, expected) in [
        (&[][..], "no command given (json false)"),
        (&["strat"], "unknown command `strat`; did you mean `start`? (json false)"),
        (&["--json", ""], "unknown command `` (json true)"),
        (&["ssh"], "`ssh` needs the operand VM (json false)"),
        (&["put", "a", "b"], "`put` needs the operand REMOTE (json false)"),
        (&["list", "a"], "unexpected operand `a` of `list` (json false)"),
        (&["list", "--force"], "`list` has no flag `--force` (json false)"),
        (&["--force", "list"], "`list` has no flag `--force` (json false)"),
        (
            &["stop", "--forec"],
            "`stop` has no flag `--forec`; did you mean `--force`? (json false)",
        ),
        (&["-x"], "unknown flag `-x` (json false)"),
        (&["list", "--json=1"], "`--json` takes no value (json false)"),
        (&["list", "-c"], "`-c` needs a value: `-c FILE` (json false)"),
        (&["-c", "a", "list", "-c", "b"], "`-c` is given twice (json false)"),
        (&["list", "-c", ""], "invalid value `` for `--config`: it is empty (json false)"),
        (&["list", "--", "--json"], "unexpected operand `--json` of `list` (json false)"),
        (&["run"], "`run` needs a VM, or `--all` (json false)"),
        (&["cmdline", "--", "a"], "`cmdline` needs the operand VM (json false)"),
        (&["cmdline", "a", "b", "--", "c"], "unexpected operand `b` of `cmdline` (json false)"),
        (&["cmdline", "a", "b"], "unexpected operand `b` of `cmdline` (json false)"),
    ] {
        assert_eq!(read(words), expected, "{words:?}");
    }
}

#[test]
fn arguments_stay_bytes() {
    let bytes = OsString::from_vec(b"\xff".to_vec());
    let words = [OsString::from("-c"), bytes.clone(), "ssh".into(), "a".into(), bytes.clone()];
    let Ok(Parsed::Run(_, args)) = parse(&table(), &words).parsed else { panic!("refused") };
    assert_eq!(args.config().unwrap().into_os_string(), bytes);
    assert_eq!(args.operands, [OsString::from("a"), bytes]);
}

/// Parses every line of up to four words from a nasty vocabulary: none panics or loses an operand.
#[test]
fn every_short_line() {
    const WORDS: &[&str] = &[
        "",
        "-",
        "--",
        "---",
        "-c",
        "-cv",
        "-vc=",
        "--config=",
        "--json",
        "--timeout",
        "--timeout=1",
        "-h=",
        "-é",
        "\u{fffd}",
        "ssh",
        "stop",
        "put",
        "help",
        "a",
        "=",
    ];
    let mut lines: Vec<Vec<&str>> = vec![vec![]];
    for _ in 0..4 {
        lines = lines
            .iter()
            .flat_map(|line| WORDS.iter().map(move |word| [&line[..], &[word]].concat()))
            .collect();
        for line in &lines {
            let argv: Vec<OsString> = line.iter().map(OsString::from).collect();
            if let Ok(Parsed::Run(command, args)) = parse(&table(), &argv).parsed {
                let least = command.operands.iter().filter(|o| o.count == Count::One).count();
                assert!(args.operands.len() >= least && args.operands.len() < line.len());
                assert!(
                    args.value(&TIMEOUT).is_none_or(|timeout| timeout == Duration::from_secs(1))
                );
            }
        }
    }
}

#[test]
fn the_table_keeps_its_rules() {
    let lower = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let mut meanings: HashMap<String, &str> = HashMap::new();
    let mut mean = |name: String, long: &'static str| {
        assert_eq!(*meanings.entry(name).or_insert(long), long);
    };
    for (_, command) in table() {
        assert!(lower(command.name));
        assert!(is_help_text(command.about), "{}", command.about);
        assert_eq!(table().iter().filter(|(_, other)| other.name == command.name).count(), 1);
        let many = command.operands.iter().filter(|o| o.count == Count::Many).count();
        let rest = command.operands.iter().position(|o| o.count == Count::Rest);
        let words = |o: &&Operand| matches!(o.count, Count::One | Count::Optional);
        let choices = command.operands.iter().rposition(|o| !o.choices.is_empty());
        assert!(choices.is_none_or(|at| command.operands[..=at].iter().all(|o| words(&o))));
        assert!(many <= 1 && rest.is_none_or(|at| at + 1 == command.operands.len()));
        let flags = command.flags.iter().chain(GLOBAL_FLAGS);
        for flag in flags.map(|flag| flag.info()) {
            assert!(lower(flag.long));
            assert!(is_help_text(flag.help), "{}", flag.help);
            mean(format!("--{}", flag.long), flag.long);
            if let Some(letter) = flag.short {
                mean(format!("-{letter}"), flag.long);
            }
        }
    }
    for command in table().into_iter().map(|(_, command)| Some(command)).chain([None]) {
        let page = command.map_or_else(|| super::help::overview(&table()), super::help::page);
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
}

fn is_help_text(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && !text.ends_with('.')
}

#[test]
fn flags_of_other_tools_are_not_ours_and_lead_to_ours() {
    let commands = table();
    for (flags, names, hint) in OTHER_FLAGS {
        for name in names.split(' ') {
            let command = find_command(&commands, name).unwrap();
            let known = command.flags.iter().chain(GLOBAL_FLAGS);
            let known: Vec<_> = known.map(|flag| flag.info()).collect();
            let is_known = |spelled: &str| known.iter().any(|flag| flag.is_spelled(spelled));
            for flag in flags.split(' ') {
                assert!(!is_known(flag), "`{name} {flag}` is ours");
            }
            let quoted = hint.split('`').skip(1).step_by(2);
            let meant = quoted.filter_map(|it| it.strip_prefix('-')).map(|it| format!("-{it}"));
            for flag in meant.filter(|flag| flag != "--") {
                let flag = flag.split(' ').next().unwrap();
                assert!(is_known(flag), "`{name}` has no `{flag}`");
            }
        }
    }
}
