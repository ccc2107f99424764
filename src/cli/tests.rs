//! Tests of the parser with the real table of commands, and of the rules that the table follows.

use super::spec::{Count, Flag, GLOBAL_FLAGS, Operand};
use super::{Parsed, parse};
use crate::commands::COMMANDS;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

/// Shows in short how a command line was read.
fn read(words: &[&str]) -> String {
    read_os(words.iter().map(OsString::from).collect())
}

fn read_os(words: Vec<OsString>) -> String {
    match parse(COMMANDS, words) {
        Ok(Parsed::Run(command, args)) => {
            let flags = [
                args.json.then(|| "+json".to_string()),
                args.verbose.then(|| "+verbose".into()),
                args.force.then(|| "+force".into()),
                args.no_kill.then(|| "+no-kill".into()),
                args.timeout.map(|timeout| format!("timeout={}", timeout.as_secs_f64())),
                args.config.map(|file| format!("config={}", file.display())),
            ];
            let operands = args.operands.iter().map(|operand| format!("{operand:?}"));
            let behind = args.words.iter().map(|word| format!("[{word:?}]"));
            let words = [command.name.to_string()].into_iter().chain(flags.into_iter().flatten());
            words.chain(operands).chain(behind).collect::<Vec<_>>().join(" ")
        }
        Ok(Parsed::Help { command, json }) => {
            format!("help of {:?}, json {json}", command.map(|command| command.name))
        }
        Ok(Parsed::Version { json }) => format!("version, json {json}"),
        Err(refused) => {
            let text = refused.error.text();
            let text = text.lines().next().unwrap_or_default();
            format!("{} (json {})", text.trim_start_matches("qqmgr: error: "), refused.json)
        }
    }
}

#[test]
fn flags_stand_anywhere() {
    for words in [
        &["--timeout", "5", "--json", "stop", "a", "--force"][..],
        &["stop", "--timeout=5", "a", "--force", "--json"],
        &["--json", "--force", "--timeout", "5.0", "stop", "--", "a"],
    ] {
        assert_eq!(read(words), "stop +json +force timeout=5 \"a\"", "{words:?}");
    }
    assert_eq!(read(&["-vcx", "list"]), "list +verbose config=x");
    assert_eq!(read(&["list", "-c", "-v"]), "list config=-v");
    assert_eq!(read(&["put", "a", "--", "-l", "--", "r"]), "put \"a\" \"-l\" \"--\" \"r\"");
}

/// Everything after `--` goes to QEMU, even without operands or with several.
#[test]
fn words_behind_dashes_are_qemus() {
    assert_eq!(read(&["start", "a", "--", "--json"]), "start \"a\" [\"--json\"]");
    assert_eq!(
        read(&["start", "a", "--json", "b", "--", "-m", "--", "c"]),
        "start +json \"a\" \"b\" [\"-m\"] [\"--\"] [\"c\"]"
    );
    assert_eq!(read(&["start", "--", "a"]), "start [\"a\"]");
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
        (&["list", "-c", ""], "`` is no value for `--config`: the name is empty (json false)"),
        (&["list", "--", "--json"], "unexpected operand `--json` of `list` (json false)"),
        (&["run", "a"], "`run` needs the operand COMMAND (json false)"),
        (&["run", "a", "--"], "`run` needs the operand COMMAND (json false)"),
        (&["run", "a", "b", "--", "c"], "unexpected operand `b` of `run` (json false)"),
        (&["cmdline", "a", "b"], "unexpected operand `b` of `cmdline` (json false)"),
    ] {
        assert_eq!(read(words), expected, "{words:?}");
    }
}

#[test]
fn arguments_stay_bytes() {
    let bytes = OsString::from_vec(b"\xff".to_vec());
    let words = [OsString::from("-c"), bytes.clone(), "ssh".into(), "a".into(), bytes.clone()];
    let Ok(Parsed::Run(_, args)) = parse(COMMANDS, words.into()) else { panic!("refused") };
    assert_eq!(args.config.unwrap().into_os_string(), bytes);
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
            let argv = line.iter().map(OsString::from).collect();
            if let Ok(Parsed::Run(command, args)) = parse(COMMANDS, argv) {
                let least = command.operands.iter().filter(|o| o.count == Count::One).count();
                assert!(args.operands.len() >= least && args.operands.len() < line.len());
                assert!(args.timeout.is_none_or(|timeout| timeout == Duration::from_secs(1)));
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
    for command in COMMANDS {
        assert!(lower(command.name));
        assert!(is_help_text(command.about), "{}", command.about);
        assert_eq!(COMMANDS.iter().filter(|other| other.name == command.name).count(), 1);
        let many = command.operands.iter().filter(|o| o.count == Count::Many).count();
        let rest = command.operands.iter().position(|o| o.count == Count::Rest);
        let words = |o: &&Operand| matches!(o.count, Count::One | Count::Optional);
        let choices = command.operands.iter().rposition(|o| !o.choices.is_empty());
        assert!(choices.is_none_or(|at| command.operands[..=at].iter().all(|o| words(&o))));
        assert!(many <= 1 && rest.is_none_or(|at| at + 1 == command.operands.len()));
        let flags: Vec<&&Flag> = command.flags.iter().chain(GLOBAL_FLAGS).collect();
        for flag in flags {
            assert!(lower(flag.long));
            assert!(is_help_text(flag.help), "{}", flag.help);
            mean(format!("--{}", flag.long), flag.long);
            if let Some(letter) = flag.short {
                mean(format!("-{letter}"), flag.long);
            }
        }
    }
    for command in COMMANDS.iter().copied().map(Some).chain([None]) {
        let page = super::help::text(COMMANDS, command);
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
}

fn is_help_text(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && !text.ends_with('.')
}
