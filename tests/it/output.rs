//! `serial` and `log`: the last lines, what comes while they look on, the boots before, and what a
//! terminal is not given.

use crate::harness::{Project, fake_qemu, free_port, has_tool, signal};
use crate::real_qemu::{self, BUTTON, NO_MACHINE, OFF, SAYS_READY, WAITS};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

/// What a guest could do to whoever looks at it.
const HARMFUL: &[u8] = b"a\x1b[6nb\x1b]0;title\x07c\x1b[2Jd\x1b[31mred\xff\r\n";

fn qqmgr(project: &Project, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = project.qqmgr(&words).run();
    assert_eq!(output.status, Some(0), "{line}: {}", output.stderr);
}

/// The output of a command that succeeds.
#[track_caller]
fn says(project: &Project, line: &str, expected: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    project.qqmgr(&words).run().stdout(expected).success();
}

/// A VM on the fake QEMU that was started, and has said this on its serial line.
fn started(serial: &str) -> Project {
    let project = Project::new();
    project.fake_vm("normal");
    qqmgr(&project, "start vm");
    fs::write(project.vm_path("vm", "serial"), serial).unwrap();
    project
}

/// As QEMU does.
fn append(project: &Project, file: &str, text: &str) {
    let file = OpenOptions::new().append(true).open(project.vm_path("vm", file));
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn the_last_lines_while_it_runs_and_after() {
    let project = started("one\r\ntwo\nlogin: ");
    for _ in 0..2 {
        says(&project, "serial vm", "one\r\ntwo\nlogin: ");
        says(&project, "serial vm -n all", "one\r\ntwo\nlogin: ");
        says(&project, "serial vm -n 2", "two\nlogin: ");
        says(&project, "serial -n1 vm", "login: ");
        says(&project, "serial --lines=0 vm", "");
        says(&project, "serial vm --boot 0 --lines 99", "one\r\ntwo\nlogin: ");
        qqmgr(&project, "stop vm");
    }
    // Nothing to follow.
    says(&project, "serial vm -f -n 1", "login: ");
    fs::write(project.vm_path("vm", "qemu.log"), "warning: x\nwarning: y\n").unwrap();
    says(&project, "log vm", "warning: x\nwarning: y\n");
    says(&project, "log vm -n 1 --follow", "warning: y\n");
}

#[test]
fn bytes_go_through_a_pipe_untouched() {
    let project = started("");
    let all: Vec<u8> = (0..=255).cycle().take(200_000).chain(HARMFUL.iter().copied()).collect();
    fs::write(project.vm_path("vm", "serial"), &all).unwrap();
    project.sh("\"$QQMGR\" serial vm | cmp - .qqmgr/vm.vm/serial").run().success();
    project.sh("\"$QQMGR\" serial vm >out && cmp out .qqmgr/vm.vm/serial").run().success();
    // A reader that has enough is no error.
    let script = "{ \"$QQMGR\" serial vm; echo $? >&2; } | head -c 1 | od -An -c";
    project.sh(script).run().stdout("  \\0\n").stderr("0\n").success();
}

#[test]
fn as_json() {
    let project = started("one\r\n\u{1b}[1mtwo");
    append(&project, "qemu.log", "warning\n");
    let serial = r#"{
  "name": "vm",
  "boot": 0,
  "file": "[ROOT]/.qqmgr/vm.vm/serial",
  "text": "one\r\n\u001b[1mtwo"
}
"#;
    says(&project, "--json serial vm", serial);
    let log = r#"{
  "name": "vm",
  "file": "[ROOT]/.qqmgr/vm.vm/qemu.log",
  "text": "warning\n"
}
"#;
    says(&project, "log vm --json -n 1", log);
    qqmgr(&project, "restart vm");
    let before = serial.replace("\"boot\": 0", "\"boot\": -1").replace("/serial\"", "/serial.1\"");
    says(&project, "--json serial vm --boot=-1", &before);
    let refused = project.qqmgr(&["--json", "serial", "vm", "-f"]).run();
    let message = "`--follow` cannot be used with `--json`, whose document has an end";
    refused
        .stdout(format!(
            "{{\n  \"error\": {{\n    \"kind\": \"usage\",\n    \"message\": \"{message}\",\n    \
             \"hint\": \"usage: qqmgr serial [OPTIONS] VM\"\n  }}\n}}\n"
        ))
        .stderr(format!("qqmgr: error: {message}\nqqmgr: hint: usage: qqmgr serial [OPTIONS] VM\n"))
        .code(2);
}

#[test]
fn what_is_not_there() {
    let project = Project::new();
    project.fake_vm("normal");
    let fails = |line: &str, code, stderr: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let _ = project.qqmgr(&words).run().stderr(stderr).code(code);
    };
    let started = "qqmgr: hint: `qqmgr start vm` starts it\n";
    for command in ["serial vm", "serial -f vm"] {
        let error = "qqmgr: error: there is no serial output of VM `vm` yet\n";
        fails(command, 1, &format!("{error}{started}"));
    }
    fails("log vm", 1, &format!("qqmgr: error: there is no log of VM `vm` yet\n{started}"));
    let boot = "qqmgr: error: the serial output of boot -2 of VM `vm` is not there\n";
    let none = "qqmgr: hint: no output of an earlier boot is kept\n";
    fails("serial vm --boot -2", 1, &format!("{boot}{none}"));
    for line in ["start vm", "restart vm"] {
        qqmgr(&project, line);
    }
    let hint = "qqmgr: hint: `--boot` goes down to -1\n";
    fails("serial vm --boot -2", 1, &format!("{boot}{hint}"));
    let unknown = "qqmgr: error: no such VM in `qqmgr.toml`: `vn`; did you mean `vm`?\n";
    fails("serial vn", 5, unknown);

    let help = "qqmgr: hint: `qqmgr help serial` shows how it is used\n";
    for value in ["1", "-", "-x", "--1", "-1.5", "-99999999999999999999"] {
        let error = format!(
            "qqmgr: error: invalid value `{value}` for `--boot`: 0 is the last boot, -1 the one \
             before, and so on\n"
        );
        fails(&format!("serial vm --boot={value}"), 2, &format!("{error}{help}"));
    }
    for value in ["", "-1", "+1", "x", "99999999999999999999"] {
        let error = format!(
            "qqmgr: error: invalid value `{value}` for `--lines`: it takes a number of lines, or \
             `all`\n"
        );
        fails(&format!("serial vm --lines={value}"), 2, &format!("{error}{help}"));
    }

    // To open it would wait for a writer.
    qqmgr(&project, "stop vm");
    project.sh("cd .qqmgr/vm.vm && rm serial && mkfifo serial").run().success();
    let fifo = "qqmgr: error: cannot read `[ROOT]/.qqmgr/vm.vm/serial`: it is no regular file\n";
    fails("serial vm", 1, fifo);
}

#[test]
fn it_is_followed_until_the_vm_is_gone() {
    let project = started("one\ntwo\n");
    let all = project.qqmgr(&["serial", "vm", "-f"]).start();
    let some = project.qqmgr(&["serial", "vm", "--follow", "-n", "1"]).start();
    let log = project.qqmgr(&["log", "vm", "-f"]).start();
    all.says("two\n");
    some.says("two\n");
    append(&project, "serial", "three\n");
    append(&project, "qemu.log", "warning\n");
    all.says("three\n");
    some.says("three\n");
    log.says("warning\n");
    append(&project, "serial", "the ");
    some.says("three\nthe ");
    let pid = project.pid("vm");
    // The last words of a QEMU that is killed.
    signal(pid, "STOP");
    append(&project, "serial", "end");
    signal(pid, "KILL");
    all.end().stdout("one\ntwo\nthree\nthe end").success();
    some.end().stdout("two\nthree\nthe end").success();
    log.end().stdout("warning\n").success();
}

#[test]
fn a_new_start_is_another_boot() {
    let project = started("old\n");
    let followed = project.qqmgr(&["serial", "vm", "-f"]).start();
    followed.says("old\n");
    qqmgr(&project, "restart vm");
    append(&project, "serial", "new\n");
    followed.end().stdout("old\n").success();
    says(&project, "serial vm", "fake boot\nnew\n");
    says(&project, "serial vm --boot -1", "old\n");
}

/// The boot before the crash is the one that is wanted.
#[test]
fn five_boots_are_kept() {
    let project = started("boot 0\n");
    for boot in 1..=7 {
        qqmgr(&project, "restart vm --force");
        fs::write(project.vm_path("vm", "serial"), format!("boot {boot}\n")).unwrap();
    }
    let names = || {
        let mut names = project.files(".qqmgr/vm.vm");
        names.retain(|name| name.starts_with("serial"));
        names.join(" ")
    };
    assert_eq!(names(), "serial serial.1 serial.2 serial.3 serial.4 serial.5");
    for ago in 1..=5 {
        says(&project, &format!("serial vm --boot -{ago}"), &format!("boot {}\n", 7 - ago));
    }
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let mode = |file: &str| fs::metadata(project.vm_path("vm", file)).unwrap().permissions().mode();
    assert_eq!(mode("serial.1"), mode("serial"));

    project.config(&format!("{config}boots = 2\n"));
    qqmgr(&project, "restart vm");
    assert_eq!(names(), "serial serial.1 serial.2");
    says(&project, "serial vm --boot -2", "boot 6\n");
    // One that takes it over, and one that says otherwise.
    project.config(&format!("{config}boots = 0\n[vm.b]\nextends = 'vm'\nssh.port = 'auto'\n"));
    qqmgr(&project, "restart vm");
    assert_eq!(names(), "serial");
    for _ in 0..2 {
        qqmgr(&project, "restart b");
    }
    assert!(!project.vm_path("b", "serial.1").exists());
    for (boots, error) in [
        ("100", "`boots` is 100, and must be 0 to 99"),
        ("-1", "`boots` is -1, and must be 0 to 99"),
        ("'5'", "`boots` is a string, and must be an integer"),
    ] {
        project.config(&format!("{config}boots = {boots}\n"));
        let output = project.qqmgr(&["list"]).run();
        assert_eq!(output.status, Some(5));
        assert!(
            output.stderr.starts_with(&format!("qqmgr: error: {error}\n")),
            "{}",
            output.stderr
        );
    }
}

/// What a failed start has not said takes nobody's place.
#[test]
fn a_start_that_fails_moves_nothing() {
    let project = started("good\n");
    qqmgr(&project, "restart vm");
    fs::write(project.vm_path("vm", "serial"), "better\n").unwrap();
    qqmgr(&project, "stop vm");
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let unchanged = || {
        says(&project, "serial vm", "better\n");
        says(&project, "serial vm --boot -1", "good\n");
        assert!(!project.vm_path("vm", "serial.2").exists());
    };
    // It cannot be run; it ends; it makes its file, and cannot have the port, again and again.
    project.write("qemu", "");
    project.config(&format!("{config}qemu = './qemu'\n"));
    assert_eq!(project.qqmgr(&["start", "vm"]).run().status, Some(1));
    unchanged();
    project.config(&config.replace("fake=normal", "fake=exits-with-error"));
    assert_eq!(project.qqmgr(&["start", "vm"]).run().status, Some(1));
    unchanged();
    let auto = format!(
        "[qemu]\nbin = '{}'\n[vm.vm]\ncmd = '-name fake=ports-refused,ms=3 -nic \
         user,hostfwd=tcp:127.0.0.1:{{{{.vm.ssh.port}}}}-:22'\nssh.port = 'auto'\n",
        fake_qemu().display()
    );
    project.config(&auto.replace("ms=3", "ms=99"));
    assert_eq!(project.qqmgr(&["start", "vm"]).run().status, Some(1));
    unchanged();
    // One that works after some tries is one boot.
    let tries = project.vm_path("vm", "fake.refused");
    let _ = fs::remove_file(tries);
    project.config(&auto);
    qqmgr(&project, "start vm");
    append(&project, "serial", "best\n");
    qqmgr(&project, "stop vm");
    says(&project, "serial vm --boot -1", "better\n");
    says(&project, "serial vm --boot -2", "good\n");
}

/// As a real QEMU has it, which opens the file at its own time, and says the last words itself.
#[test]
fn boots_of_a_real_qemu() {
    // It says its last word when the power button is pressed.
    let guest = [BUTTON, SAYS_READY, WAITS, SAYS_READY, OFF];
    let Some((project, _)) = real_qemu::guest(&guest, "") else { return };
    let followed = project.qqmgr(&["serial", "vm", "-f"]).start();
    followed.says("!");
    qqmgr(&project, "powerdown vm");
    followed.end().stdout("!!").success();
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    // A port that is taken is found after the serial line was opened.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let forward = format!("cmd = \"-nic user,hostfwd=tcp:127.0.0.1:{port}-:22 ");
    project.config(&config.replace("cmd = \"", &forward));
    assert_eq!(project.qqmgr(&["start", "vm"]).run().status, Some(1));
    says(&project, "serial vm", "!!");
    project.config(&config.replace(real_qemu::PC, NO_MACHINE));
    qqmgr(&project, "start vm");
    says(&project, "serial vm", "");
    says(&project, "serial vm --boot -1", "!!");
    // It has said nothing.
    qqmgr(&project, "restart vm --force");
    says(&project, "serial vm --boot -1", "!!");
    assert!(!project.vm_path("vm", "serial.2").exists());
    says(&project, "log vm", "");
}

#[test]
fn a_terminal_is_kept_from_harm() {
    if !has_tool("script") {
        return;
    }
    let project = started("");
    fs::write(project.vm_path("vm", "serial"), HARMFUL).unwrap();
    // The terminal makes a carriage return and a line end of each line end.
    let on_terminal = |line: &str| {
        let script = format!("script -qec '\"$QQMGR\" {line}' /dev/null </dev/null");
        project.sh(&script).run()
    };
    on_terminal("serial vm").stdout("abcd\u{1b}[31mred\u{fffd}\r\r\n\u{1b}[0m").success();
    let raw = on_terminal("serial --raw vm");
    raw.stdout("a\u{1b}[6nb\u{1b}]0;title\u{7}c\u{1b}[2Jd\u{1b}[31mred\u{fffd}\r\r\n").success();
    let lines: Vec<String> = (1..=100).map(|number| format!("{number}\n")).collect();
    fs::write(project.vm_path("vm", "serial"), lines.concat()).unwrap();
    let shown = lines[60..].concat().replace('\n', "\r\n");
    on_terminal("serial vm").stdout(shown).success();
    on_terminal("serial vm -n 1").stdout("100\r\n").success();
}

/// Ports are of no use here, but a VM needs one.
#[test]
fn a_vm_that_is_not_configured_any_more() {
    let project = started("here\n");
    project.config(&format!("[vm.other]\nssh.port = {}\n", free_port()));
    says(&project, "serial vm", "here\n");
    qqmgr(&project, "stop vm");
    assert_eq!(project.qqmgr(&["serial", "vm"]).run().status, Some(5));
}
