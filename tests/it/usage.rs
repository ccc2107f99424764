//! The command line: what is refused and how, help, and where output goes.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use crate::harness::Project;

const OVERVIEW: &str = "\
qqmgr - Quick QEMU Manager

Usage: qqmgr [OPTIONS] COMMAND ...

Commands:
  start [VM...] [-- ARGS...]    Start VMs and wait until QEMU answers
  stop [VM...]                  Power VMs off, by force if need be
  restart [VM...] [-- ARGS...]  Stop VMs and start them again
  status [VM...]                Show the state of VMs, their ports and files
  stats [VM...]                 Show what VMs use: CPU, memory, disks, network
  list                          List the VMs
  wait [VM...]                  Wait until something happens to VMs
  serial VM                     Show the guest's serial output
  log VM                        Show what QEMU itself said
  console VM                    Use the guest's serial line
  pause [VM...]                 Stop the CPUs of VMs, until `resume`
  resume [VM...]                Let VMs go on that are paused or suspended
  reset [VM...]                 Press the reset button of VMs
  powerdown [VM...]             Press the power button of VMs once
  nmi [VM...]                   Send VMs a non-maskable interrupt
  sendkey VM [KEYS...]          Press keys on the VM's keyboard, or type a text
  qmp VM [NAME] [ARGUMENT...]   Run QMP commands, or print events
  monitor VM [WORD...]          Run commands of QEMU's human monitor
  snapshot ACTION VM [TAG]      Save a VM as it is, and load it again
  screenshot VM [FILE]          Write what the guest shows to a PNG file
  ssh VM [WORD...]              Open a shell on the guest, or run a command
  put VM LOCAL... REMOTE        Copy files and directories to the guest
  get VM REMOTE... LOCAL        Copy files and directories from the guest
  run VM -- COMMAND...          Run a command on a VM started just for it
  gdb VM [-- ARGS...]           Debug QEMU itself, or the guest's kernel
  check [VM...]                 Find what is wrong, without starting anything
  cmdline VM [-- ARGS...]       Print the command line of QEMU
  ssh-config [VM...]            Print an ssh configuration for VMs
  img ACTION [IMAGE...]         Build, list, reset and remove images
  init                          Write a first qqmgr.toml, with comments
  completions SHELL             Print what completes command lines in a shell
  help [COMMAND]                Show help, of a command or of all

Options of every command:
  -c, --config FILE  Read this configuration instead of searching for one
      --json         Print the result, or the error, as JSON on standard output
  -v, --verbose      Say on standard error what is executed and what QMP says
  -h, --help         Show help, of the command if there is one
  -V, --version      Show the version

`qqmgr help COMMAND` shows the options of a command; qqmgr(1), qqmgr(7),
qqmgr.toml(5) and qqmgr-json(5) are the reference.
";

const STOP_PAGE: &str = "\
Power VMs off, by force if need be

Usage: qqmgr stop [OPTIONS] [VM...]

The guest's power button is pressed. When the guest has not powered off in time,
QEMU gets SIGTERM, which closes its images cleanly, and at last SIGKILL.
Stopping a stopped VM is success, and cleans up what a crash left.

Options:
      --all              Act on every VM
      --timeout SECONDS  Give the guest this long to power off (default 20)
      --force            End QEMU at once, without asking the guest
      --no-kill          Leave QEMU running when the guest does not power off
      --unused           Only what `run` started and no `run` uses any more
      --at-eof           Wait for the end of standard input first

Options of every command:
  -c, --config FILE  Read this configuration instead of searching for one
      --json         Print the result, or the error, as JSON on standard output
  -v, --verbose      Say on standard error what is executed and what QMP says
  -h, --help         Show help, of the command if there is one
  -V, --version      Show the version
";

/// What every page ends with.
const GLOBAL_FLAGS: &str = "
Options of every command:
  -c, --config FILE  Read this configuration instead of searching for one
      --json         Print the result, or the error, as JSON on standard output
  -v, --verbose      Say on standard error what is executed and what QMP says
  -h, --help         Show help, of the command if there is one
  -V, --version      Show the version
";

const VERSION: &str = concat!("qqmgr ", env!("CARGO_PKG_VERSION"), "\n");

/// A configuration with a VM, `vm`, that is never started.
const CONFIG: &str = "[vm.vm]\ncmd = \"\"\nssh.port = 2222\n";
const LISTED: &str = "NAME  STATE              PID  SSH PORT\n\
                      vm    stopped              -      2222\n";

fn project() -> Project {
    let project = Project::new();
    project.config(CONFIG);
    project
}

/// Wrong usage: exit code 2, or 255 for `ssh`, and nothing created.
#[track_caller]
fn refused(arguments: &[impl AsRef<OsStr>], code: i32, message: &str, hint: &str) {
    let project = project();
    let stderr = format!("qqmgr: error: {message}\nqqmgr: hint: {hint}\n");
    project.qqmgr(arguments).run().stderr(stderr).code(code);
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

/// As [`refused`] with a near name in place of a hint.
#[track_caller]
fn refused_with_near_name(arguments: &[&str], message: &str) {
    let project = project();
    project.qqmgr(arguments).run().stderr(format!("qqmgr: error: {message}\n")).code(2);
}

// --- what is refused

const HELP: &str = "`qqmgr help` shows how it is used";

/// The hint about a command that is known.
fn see(command: &str) -> String {
    format!("`qqmgr help {command}` shows how it is used")
}

#[test]
fn no_arguments() {
    refused(&[""; 0], 2, "no command given", "`qqmgr help` lists the commands");
    refused(&["--json=", "list"], 2, "`--json` takes no value", HELP);
    refused(&["-v"], 2, "no command given", "`qqmgr help` lists the commands");
    refused(&["--"], 2, "no command given", "`qqmgr help` lists the commands");
}

#[test]
fn unknown_commands() {
    refused_with_near_name(&["strat", "vm"], "unknown command `strat`; did you mean `start`?");
    refused_with_near_name(&["satus", "vm"], "unknown command `satus`; did you mean `status`?");
    refused_with_near_name(&["help", "lst"], "unknown command `lst`; did you mean `list`?");
    refused(&["frobnicate"], 2, "unknown command `frobnicate`", HELP);
    refused(&["frobnicate", "--help"], 2, "unknown command `frobnicate`", HELP);
    refused(&[""], 2, "unknown command ``", HELP);
    refused(&["help", "frobnicate"], 2, "unknown command `frobnicate`", HELP);
}

#[test]
fn unknown_flags() {
    refused_with_near_name(
        &["list", "--jsno"],
        "`list` has no flag `--jsno`; did you mean `--json`?",
    );
    refused_with_near_name(
        &["--verbos", "list"],
        "unknown flag `--verbos`; did you mean `--verbose`?",
    );
    refused(
        &["start", "vm", "--frobnicate"],
        2,
        "`start` has no flag `--frobnicate`",
        &see("start"),
    );
    refused(&["start", "-x", "vm"], 2, "`start` has no flag `-x`", &see("start"));
    refused(&["list", "-vx"], 2, "`list` has no flag `-x`", &see("list"));
    refused(&["--frobnicate", "list"], 2, "unknown flag `--frobnicate`", HELP);
}

#[test]
fn flags_of_another_command() {
    for arguments in [&["start", "vm", "--force"][..], &["start", "--force", "vm"]] {
        refused(arguments, 2, "`start` has no flag `--force`", &see("start"));
    }
    let hint = "usage: qqmgr start [OPTIONS] [VM...] [-- ARGS...]";
    refused(&["--force", "start", "vm"], 2, "`start` has no flag `--force`", hint);
    let hint = "usage: qqmgr list [OPTIONS]";
    refused(&["--timeout", "5", "list"], 2, "`list` has no flag `--timeout`", hint);
}

#[test]
fn missing_operands() {
    for (arguments, missing, usage) in [
        (&["put"][..], "VM", "[OPTIONS] VM LOCAL... REMOTE"),
        (&["put", "vm"], "LOCAL", "[OPTIONS] VM LOCAL... REMOTE"),
        (&["put", "vm", "a"], "REMOTE", "[OPTIONS] VM LOCAL... REMOTE"),
        (&["get", "vm"], "REMOTE", "[OPTIONS] VM REMOTE... LOCAL"),
        (&["get", "vm", "a"], "LOCAL", "[OPTIONS] VM REMOTE... LOCAL"),
        (&["cmdline"], "VM", "[OPTIONS] VM [-- ARGS...]"),
    ] {
        let command = arguments[0];
        let message = format!("`{command}` needs the operand {missing}");
        refused(arguments, 2, &message, &format!("usage: qqmgr {command} {usage}"));
    }
}

/// Neither none nor too many.
#[test]
fn vms_or_all() {
    for (command, usage) in [
        ("start", "[OPTIONS] [VM...] [-- ARGS...]"),
        ("stop", "[OPTIONS] [VM...]"),
        ("restart", "[OPTIONS] [VM...] [-- ARGS...]"),
        ("status", "[OPTIONS] [VM...]"),
    ] {
        let hint = format!("usage: qqmgr {command} {usage}");
        refused(&[command], 2, &format!("`{command}` needs a VM, or `--all`"), &hint);
        let message = format!("`{command}` takes VMs or `--all`, not both");
        refused(&[command, "--all", "vm"], 2, &message, &hint);
    }
    let hint = "usage: qqmgr wait [OPTIONS] [VM...]";
    refused(&["wait", "--for", "ssh"], 2, "`wait` needs a VM, or `--all`", hint);
    refused(&["wait", "vm"], 2, "`wait` needs `--for`: what to wait for", hint);
    // What stands behind `--` are no VMs.
    let hint = "usage: qqmgr start [OPTIONS] [VM...] [-- ARGS...]";
    refused(&["start", "--", "vm"], 2, "`start` needs a VM, or `--all`", hint);
}

#[test]
fn extra_operands() {
    for (arguments, extra, usage) in [
        (&["list", "vm"][..], "vm", "[OPTIONS]"),
        (&["list", "", "x"], "", "[OPTIONS]"),
        (&["init", "dir"], "dir", "[OPTIONS]"),
        (&["cmdline", "vm", "vm"], "vm", "[OPTIONS] VM [-- ARGS...]"),
        (&["help", "list", "vm"], "vm", "[OPTIONS] [COMMAND]"),
    ] {
        let command = arguments[0];
        let message = format!("unexpected operand `{extra}` of `{command}`");
        refused(arguments, 2, &message, &format!("usage: qqmgr {command} {usage}"));
    }
}

#[test]
fn values_of_flags() {
    let hint = &see("list");
    refused(&["list", "-c"], 2, "`-c` needs a value: `-c FILE`", hint);
    refused(&["list", "--config"], 2, "`--config` needs a value: `--config FILE`", hint);
    refused(&["list", "--config="], 2, "invalid value `` for `--config`: the name is empty", hint);
    refused(&["list", "-c", ""], 2, "invalid value `` for `--config`: the name is empty", hint);
    refused(&["list", "--verbose=1"], 2, "`--verbose` takes no value", hint);
    refused(
        &["stop", "vm", "--timeout"],
        2,
        "`--timeout` needs a value: `--timeout SECONDS`",
        &see("stop"),
    );
    for value in ["", "x", "-1", "+1", "1e3", "1s", " 1", "inf", "nan", ".", "99999999999"] {
        for command in ["start", "stop"] {
            let message = format!(
                "invalid value `{value}` for `--timeout`: it takes a number of seconds, like `20` \
                 or `0.5`"
            );
            refused(&[command, "vm", "--timeout", value], 2, &message, &see(command));
        }
    }
}

/// Which of the two is meant cannot be told.
#[test]
fn flags_with_a_value_are_given_once() {
    let hint = &see("list");
    refused(&["-c", "a", "list", "-c", "b"], 2, "`-c` is given twice", hint);
    refused(&["-cqqmgr.toml", "list", "-cqqmgr.toml"], 2, "`-c` is given twice", hint);
    refused(&["-c", "a", "--config=b", "list"], 2, "`--config` is given twice", HELP);
    let timeout = ["stop", "vm", "--timeout", "1", "--timeout=1"];
    refused(&timeout, 2, "`--timeout` is given twice", &see("stop"));
}

#[test]
fn switches_may_be_repeated() {
    project().qqmgr(&["list", "-vv", "-v", "--verbose"]).run().stdout(LISTED).success();
}

/// Its exit codes below that are those of the command on the guest.
#[test]
fn every_failure_of_ssh_is_255() {
    let usage = "usage: qqmgr ssh [OPTIONS] VM [WORD...]";
    let help = &see("ssh");
    refused(&["ssh"], 255, "`ssh` needs the operand VM", usage);
    refused(&["--verbose", "ssh", "-v"], 255, "`ssh` needs the operand VM", usage);
    refused(&["ssh", "--frobnicate", "vm"], 255, "`ssh` has no flag `--frobnicate`", help);
    refused(&["ssh", "-c"], 255, "`-c` needs a value: `-c FILE`", help);
    refused(&["--force", "ssh", "vm"], 255, "`ssh` has no flag `--force`", usage);
    refused(&["ssh", "vm", "true"], 255, "VM `vm` is not running", "`qqmgr start vm` starts it");
    refused(&["ssh", "other", "true"], 255, "no such VM in `qqmgr.toml`: `other`", "it has `vm`");
    let project = Project::new();
    project.config("x");
    let stderr = "\
qqmgr: error: expected `=` after the key `x`
 --> qqmgr.toml:1:2
  |
1 | x
  |  ^
";
    project.qqmgr(&["ssh", "vm"]).run().stderr(stderr).code(255);
}

/// A shell is no result that could be printed.
#[test]
fn ssh_as_json_needs_a_command() {
    let project = project();
    project
        .qqmgr(&["--json", "ssh", "vm"])
        .run()
        .stdout(
            r#"{
  "error": {
    "kind": "usage",
    "message": "`ssh --json` needs a command",
    "hint": "a shell is for people: its output is no result"
  }
}
"#,
        )
        .stderr(
            "qqmgr: error: `ssh --json` needs a command\n\
             qqmgr: hint: a shell is for people: its output is no result\n",
        )
        .code(255);
}

#[test]
fn wrong_usage_as_json() {
    let project = project();
    let stderr = "qqmgr: error: `put` needs the operand VM\n\
                  qqmgr: hint: usage: qqmgr put [OPTIONS] VM LOCAL... REMOTE\n";
    let stdout = r#"{
  "error": {
    "kind": "usage",
    "message": "`put` needs the operand VM",
    "hint": "usage: qqmgr put [OPTIONS] VM LOCAL... REMOTE"
  }
}
"#;
    for arguments in [["--json", "put"], ["put", "--json"]] {
        project.qqmgr(&arguments).run().stdout(stdout).stderr(stderr).code(2);
    }
    let stdout = r#"{
  "error": {
    "kind": "usage",
    "message": "unknown command `strat`; did you mean `start`?",
    "hint": null
  }
}
"#;
    let stderr = "qqmgr: error: unknown command `strat`; did you mean `start`?\n";
    // What makes the JSON may stand behind the mistake.
    project.qqmgr(&["strat", "vm", "--json"]).run().stdout(stdout).stderr(stderr).code(2);
    // Not so behind the end of flags.
    project.qqmgr(&["strat", "--", "--json"]).run().stderr(stderr).code(2);
}

// --- what is understood

#[test]
fn flags_stand_before_or_after_the_command_and_its_operands() {
    let project = project();
    let stdout = r#"{
  "name": "vm",
  "pid": null,
  "method": "none",
  "reason": null,
  "seconds": [SECONDS]
}
"#;
    for arguments in [
        &["--json", "--timeout", "1", "stop", "vm"][..],
        &["--timeout=1", "stop", "--json", "vm"],
        &["stop", "--json", "--timeout", "1", "vm"],
        &["stop", "vm", "--timeout=1", "--json"],
        &["stop", "vm", "--json", "--"],
        &["--json", "--", "stop", "vm"],
        &["--json", "stop", "--", "vm"],
    ] {
        project.qqmgr(arguments).run().stdout(stdout).success();
    }
}

#[test]
fn flags_end_at_two_dashes() {
    let project = project();
    let stderr = "qqmgr: error: no such VM in `qqmgr.toml`: `--json`\nqqmgr: hint: it has `vm`\n";
    project.qqmgr(&["status", "--", "--json"]).run().stderr(stderr).code(5);
}

#[test]
fn the_configuration_is_named_in_four_ways() {
    let project = project();
    project.write("o=ther.toml", "[vm.other]\ncmd = \"\"\nssh.port = 1\n");
    let stdout = "NAME   STATE              PID  SSH PORT\n\
                  other  stopped              -         1\n";
    for arguments in [
        &["-c", "o=ther.toml", "list"][..],
        &["list", "-co=ther.toml"],
        &["--config", "o=ther.toml", "list"],
        &["list", "--config=o=ther.toml"],
        &["-vco=ther.toml", "list"],
    ] {
        project.qqmgr(arguments).run().stdout(stdout).success();
    }
    project.qqmgr(&["list"]).run().stdout(LISTED).success();
}

#[test]
fn a_configuration_may_have_any_name() {
    let project = project();
    for name in [&b"-c"[..], b"--json", b"a b\n", b"\xff\xfe.toml"] {
        let name = OsStr::from_bytes(name);
        project.write(name, CONFIG);
        let arguments = [OsStr::new("-c"), name, OsStr::new("list")];
        project.qqmgr(&arguments).run().stdout(LISTED).success();
    }
}

/// They are shown as well as they can be, and never taken for something else.
#[test]
fn arguments_that_are_not_utf_8() {
    let project = project();
    let near = "qqmgr: error: unknown command `sta\u{fffd}rt`; did you mean `start`?\n";
    let json = "qqmgr: error: `list` has no flag `--js\u{fffd}on`; did you mean `--json`?\n";
    let short = "qqmgr: error: `list` has no flag `-\u{fffd}`\n\
                 qqmgr: hint: `qqmgr help list` shows how it is used\n";
    let seconds = "qqmgr: error: invalid value `\u{fffd}1` for `--timeout`: it takes a number of \
                   seconds, like `20` or `0.5`\n\
                   qqmgr: hint: `qqmgr help stop` shows how it is used\n";
    let vm = "qqmgr: error: no such VM in `qqmgr.toml`: `v\u{fffd}m`; did you mean `vm`?\n";
    for (arguments, code, stderr) in [
        (&[&b"sta\xffrt"[..], b"vm"][..], 2, near),
        (&[b"list", b"--js\xffon"], 2, json),
        (&[b"list", b"-\xff"], 2, short),
        (&[b"stop", b"vm", b"--timeout", b"\xff1"], 2, seconds),
        (&[b"status", b"v\xffm"], 5, vm),
    ] {
        let arguments: Vec<&OsStr> = arguments.iter().map(|word| OsStr::from_bytes(word)).collect();
        project.qqmgr(&arguments).run().stderr(stderr).code(code);
    }
}

/// Even options: `ssh VM -L 8080:localhost:80` works. That the VM is not running is told before
/// any of them is looked at.
#[test]
fn what_follows_the_vm_of_ssh_is_not_read() {
    let project = project();
    for words in [&["--json"][..], &["-c"], &["--frobnicate", "--"], &["--help"], &["-V"]] {
        let arguments = [&["ssh", "vm"], words].concat();
        project
            .qqmgr(&arguments)
            .run()
            .stderr(
                "qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n",
            )
            .code(255);
    }
}

// --- help and version

#[test]
fn overview() {
    let project = project();
    for arguments in [&["help"][..], &["--help"], &["-h"], &["-vh"]] {
        project.qqmgr(arguments).run().stdout(OVERVIEW).success();
    }
}

#[test]
fn page_of_a_command() {
    let project = project();
    for arguments in [
        &["help", "stop"][..],
        &["stop", "--help"],
        &["stop", "-h", "vm"],
        &["-h", "stop"],
        &["stop", "vm", "x", "y", "--timeout", "-1", "--help"],
    ] {
        project.qqmgr(arguments).run().stdout(STOP_PAGE).success();
    }
}

#[test]
fn every_command_has_a_page() {
    let project = project();
    let commands = OVERVIEW.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(commands.lines().count() > 15, "the commands are not found");
    for line in commands.lines() {
        let (usage, about) = line.trim_start().split_once("  ").unwrap();
        let about = about.trim_start();
        let (name, operands) = usage.split_once(' ').unwrap_or((usage, ""));
        let usage = format!("qqmgr {name} [OPTIONS] {operands}");
        let expected = format!("{about}\n\nUsage: {}\n...\n{GLOBAL_FLAGS}", usage.trim_end());
        project.qqmgr(&["help", name]).run().stdout(expected.as_str()).success();
        project.qqmgr(&[name, "--help"]).run().stdout(expected.as_str()).success();
    }
}

const STOP_JSON: &str = r#"{
  "name": "stop",
  "about": "Power VMs off, by force if need be",
  "usage": "qqmgr stop [OPTIONS] [VM...]",
  "flags": [
    {
      "long": "all",
      "short": null,
      "value": null,
      "value_required": false,
      "repeatable": false,
      "help": "Act on every VM"
    },
    {
      "long": "timeout",
      "short": null,
      "value": "SECONDS",
      "value_required": true,
      "repeatable": false,
      "help": "Give the guest this long to power off (default 20)"
    },
    {
      "long": "force",
      "short": null,
      "value": null,
      "value_required": false,
      "repeatable": false,
      "help": "End QEMU at once, without asking the guest"
    },
    {
      "long": "no-kill",
      "short": null,
      "value": null,
      "value_required": false,
      "repeatable": false,
      "help": "Leave QEMU running when the guest does not power off"
    },
    {
      "long": "unused",
      "short": null,
      "value": null,
      "value_required": false,
      "repeatable": false,
      "help": "Only what `run` started and no `run` uses any more"
    },
    {
      "long": "at-eof",
      "short": null,
      "value": null,
      "value_required": false,
      "repeatable": false,
      "help": "Wait for the end of standard input first"
    }
  ]
}
"#;

#[test]
fn help_as_json() {
    let project = project();
    for arguments in [["help", "stop", "--json"], ["--json", "stop", "--help"]] {
        project.qqmgr(&arguments).run().stdout(STOP_JSON).success();
    }
    let all = r#"{
  "commands": [
    {
      "name": "start",
...
    {
      "name": "list",
      "about": "List the VMs",
      "usage": "qqmgr list [OPTIONS]",
      "flags": [
        {
          "long": "quiet",
          "short": "q",
          "value": null,
          "value_required": false,
          "repeatable": false,
          "help": "Print only the names, one a line"
        },
...
    {
      "name": "wait",
...
        {
          "long": "wait",
          "short": null,
          "value": "SECONDS",
          "value_required": false,
          "repeatable": false,
          "help": "Wait for the guest's ssh server (default 300)"
        },
        {
          "long": "set",
          "short": null,
          "value": "NAME=VALUE",
          "value_required": true,
          "repeatable": true,
          "help": "Give a variable this value, for this start"
        },
...
...
  ],
  "flags": [
    {
      "long": "config",
      "short": "c",
      "value": "FILE",
      "value_required": true,
      "repeatable": false,
      "help": "Read this configuration instead of searching for one"
    },
...
  ]
}
"#;
    project.qqmgr(&["help", "--json"]).run().stdout(all).success();
    project.qqmgr(&["--json", "-h"]).run().stdout(all).success();
}

#[test]
fn version() {
    let project = project();
    for arguments in [&["--version"][..], &["-V"], &["stop", "-V"], &["-vV", "list"]] {
        project.qqmgr(arguments).run().stdout(VERSION).success();
    }
    let expected = format!("{{\n  \"version\": \"{}\"\n}}\n", env!("CARGO_PKG_VERSION"));
    project.qqmgr(&["--json", "--version"]).run().stdout(expected).success();
}

#[test]
fn help_and_version_need_no_configuration() {
    let broken = Project::new();
    broken.config("this is no TOML \u{1b}");
    let none = Project::new();
    for project in [broken, none] {
        project.qqmgr(&["help"]).run().stdout(OVERVIEW).success();
        project.qqmgr(&["-c", "no.toml", "stop", "-h"]).run().stdout(STOP_PAGE).success();
        project.qqmgr(&["help", "stop"]).run().stdout(STOP_PAGE).success();
        project.qqmgr(&["--version"]).run().stdout(VERSION).success();
    }
}

#[test]
fn help_and_version_work_in_a_deleted_directory() {
    let project = project();
    let in_deleted = |arguments: &str| {
        let script =
            format!("mkdir gone && cd gone && rmdir ../gone && exec \"$QQMGR\" {arguments}");
        project.sh(&script).run()
    };
    in_deleted("help").stdout(OVERVIEW).success();
    in_deleted("stop --help").stdout(STOP_PAGE).success();
    in_deleted("--version").stdout(VERSION).success();
    let message = "cannot tell the current directory: no such file or directory";
    in_deleted("list").stderr(format!("qqmgr: error: {message}\n")).code(5);
}

// --- standard output

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let project = project();
    for arguments in [&["help"][..], &["list"], &["list", "--json"], &["--version"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        project
            .qqmgr(arguments)
            .stdout_to(full)
            .run()
            .stderr("qqmgr: error: cannot write to standard output: no space left on device\n")
            .code(1);
    }
}

/// It failed already, and its code says how.
#[test]
fn an_error_whose_json_cannot_be_written_keeps_its_code() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let stderr = "qqmgr: error: `put` needs the operand VM\n\
                  qqmgr: hint: usage: qqmgr put [OPTIONS] VM LOCAL... REMOTE\n";
    project().qqmgr(&["put", "--json"]).stdout_to(full).run().stderr(stderr).code(2);
}

/// `qqmgr list | head -1`
#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let project = project();
    for arguments in [&["help"][..], &["list"], &["list", "--json"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        project.qqmgr(arguments).stdout_to(writer).run().success();
    }
}

#[test]
fn closed_streams_are_no_failure() {
    let project = project();
    project.sh("exec \"$QQMGR\" help >&-").run().success();
    project.sh("exec \"$QQMGR\" help <&-").run().stdout(OVERVIEW).success();
    project.sh("exec \"$QQMGR\" strat 2>&-").run().code(2);
    project.sh("exec \"$QQMGR\" list <&- >&- 2>&-").run().success();
}
