//! `sendkey`: what a real QEMU says to keys, and a guest that gets them.

use crate::guest;
use crate::harness::{Project, free_port, wait_until};
use crate::real_qemu::{NO_MACHINE, project};
use std::time::Duration;

/// All that a US keyboard types but letters and digits.
const MARKS: &str = r#"`~!@#$%^&*()-_=+[{]}|;:'",<.>/?"#;
const LETTERS: &str = "the quick brown fox jumps over the LAZY dog 0123456789";
/// A guest that shares two cores with all the other tests stalls now and then.
const SLOWLY: &str = "--hold=0.1";

#[track_caller]
fn started() -> Option<Project> {
    let project = project(NO_MACHINE)?;
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: [..], pid [PID], ssh port [PORT]\n").success();
    Some(project)
}

#[test]
fn keys_by_name() {
    let Some(project) = started() else { return };
    let sendkey = |words: &[&str]| project.qqmgr(&[&["sendkey", "vm"], words].concat()).run();
    sendkey(&["ctrl-alt-f2"]).stdout("vm: sent 1 key, running\n").success();
    sendkey(&["a", "shift-b", "ret"]).stdout("vm: sent 3 keys, running\n").success();
    sendkey(&["--text", r"a\n", "--hold=0.001"]).stdout("vm: sent 2 keys, running\n").success();
    sendkey(&["--text", ""]).stdout("vm: sent 0 keys, running\n").success();
    let pid = project.pid("vm");
    let json =
        format!("{{\n  \"name\": \"vm\",\n  \"pid\": {pid},\n  \"state\": \"running\"\n}}\n");
    project.qqmgr(&["--json", "sendkey", "vm", "a"]).run().stdout(json).success();
    // The commands as QEMU gets them.
    let verbose = sendkey(&["-v", "shift-x", "--hold", "0.03"]);
    assert!(
        verbose.stderr.contains(
            "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [\
             {\"type\": \"qcode\", \"data\": \"shift\"}, {\"type\": \"qcode\", \"data\": \"x\"}], \
             \"hold-time\": 30}"
        ),
        "{}",
        verbose.stderr
    );
}

#[test]
fn keys_that_there_are_not() {
    let Some(project) = started() else { return };
    let sendkey = |words: &[&str]| project.qqmgr(&[&["sendkey", "vm", "-v"], words].concat()).run();
    for (words, expected) in [
        (&["a", "crtl-x"][..], "QEMU has no key `crtl`, did you mean `ctrl`?"),
        (&["F12"], "QEMU has no key `F12`, did you mean `f12`?"),
        (&["enter"], "QEMU has no key `enter`\nqqmgr: hint: it has letters, digits and [..]"),
    ] {
        let refused = sendkey(words);
        // None of the others was pressed.
        assert!(!refused.stderr.contains("\"execute\": \"send-key\""), "{}", refused.stderr);
        refused.stderr(format!("...\nqqmgr: error: {expected}\n")).code(1);
    }
    project.qqmgr(&["pause", "vm"]).run().stdout("vm is paused\n").success();
    let paused = "qqmgr: error: VM `vm` takes no keys: it is paused\n\
                  qqmgr: hint: `qqmgr resume vm` lets it go on\n";
    project.qqmgr(&["sendkey", "vm", "a"]).run().stderr(paused).code(1);
}

#[test]
fn words_that_are_no_keys() {
    let Some(project) = project(NO_MACHINE) else { return };
    let help = "qqmgr: hint: `qqmgr help sendkey` shows how it is used";
    let usage = "qqmgr: hint: usage: qqmgr sendkey [OPTIONS] VM [KEYS...]";
    for (words, expected, hint) in [
        (&[][..], "`sendkey` needs KEYS or `--text`", usage),
        (&["a", "--text", "b"], "`sendkey` takes KEYS or `--text`, not both", usage),
        (&["ctrl-"], "`ctrl-` has a `-` with no key beside it", usage),
        (&["ctrl--"], "`ctrl--` has a `-` with no key beside it; the key `-` is `minus`", usage),
        (&["a-a-a-a-a-a-a-a-a"], "at most 8 keys are held together", usage),
        (
            &["--text", "caf\u{e9}"],
            "`caf\u{e9}` is no value for `--text`: no key of a US keyboard types `\u{e9}`",
            help,
        ),
        (
            &["--text", "\\x"],
            "`\\x` is no value for `--text`: `\\x` is none of \\n, \\r, \\t, \\e and \\\\",
            help,
        ),
        (&["a", "--hold", "0"], "`0` is no value for `--hold`: it takes 0.001 to 10", help),
        (
            &["a", "--hold", "x"],
            "`x` is no value for `--hold`: it takes a number of seconds, like `20` or `0.5`",
            help,
        ),
    ] {
        let refused = project.qqmgr(&[&["sendkey", "vm"], words].concat()).run();
        refused.stderr(format!("qqmgr: error: {expected}\n{hint}\n")).code(2);
    }
    project
        .qqmgr(&["sendkey", "vm", "a"])
        .run()
        .stderr("qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n")
        .code(3);
}

/// QEMU drops what its queue does not take, 1024 events of a key or a pause: some 170 keys.
#[test]
fn many_keys_are_sent_in_portions() {
    let Some(project) = started() else { return };
    let text = "x".repeat(300);
    let sent = project.qqmgr(&["-v", "sendkey", "vm", "--hold=0.001", "--text", &text]).run();
    assert_eq!(sent.stdout, "vm: sent 300 keys, running\n");
    assert_eq!(sent.stderr.matches("\"execute\": \"send-key\"").count(), 300);
    // Each over a connection of its own, as are the questions before and after.
    assert_eq!(sent.stderr.matches("qmp <- {\"QMP\"").count(), 300_usize.div_ceil(16) + 2);
}

/// Every character, and keys held together: those that switch from one console to the other.
#[test]
fn what_is_typed_arrives_on_the_guest() {
    let port = free_port().to_string();
    let Some(config) = guest::config("", &port, "-device VGA") else { return };
    let project = Project::new();
    project.config(&config);
    guest::start(&project);
    let script = "exec 3</dev/tty1 4</dev/tty2; echo ready; \
                  for i in 1 2; do read -r line <&3; echo \"$line\"; done; \
                  read -r line <&4; echo \"$line\"";
    let reader = project.qqmgr(&["ssh", "vm", script]).start();
    reader.says("ready\n");

    // Another command uses the socket meanwhile, and is not kept waiting for all the keys.
    let line = format!("{LETTERS}\\n");
    let typing = project.qqmgr(&["sendkey", "vm", SLOWLY, "--text", &line]).start();
    wait_until("the line has arrived", Duration::from_secs(50), || {
        project.qqmgr(&["qmp", "vm", "query-name"]).run().stdout("{}\n").success();
        reader.said().contains(LETTERS)
    });
    let count = LETTERS.len() + 1;
    typing.end().stdout(format!("vm: sent {count} keys, running\n")).success();
    let marks = format!("{MARKS}\\\\\\n");
    let typed = project.qqmgr(&["sendkey", "vm", SLOWLY, "--text", &marks]).run();
    typed.stdout(format!("vm: sent {} keys, running\n", MARKS.len() + 2)).success();
    let keys = ["sendkey", "vm", SLOWLY, "ctrl-alt-f2", "o", "t", "h", "shift-e", "r", "ret"];
    project.qqmgr(&keys).run().stdout("vm: sent 7 keys, running\n").success();
    reader.end().stdout(format!("ready\n{LETTERS}\n{MARKS}\\\nothEr\n")).success();
}
