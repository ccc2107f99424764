//! `monitor` on a real QEMU: one command, several lines, a prompt.

use crate::harness::{Project, has_tool};
use crate::qmp::start;
use crate::real_qemu::{NO_MACHINE, project};

/// A project with the VM `vm`, which runs.
#[track_caller]
fn started() -> Option<Project> {
    let project = project(NO_MACHINE)?;
    start(&project);
    Some(project)
}

#[test]
fn one_command_and_its_output() {
    let Some(project) = started() else { return };
    let monitor = |words: &[&str]| project.qqmgr(&[&["monitor", "vm"], words].concat()).run();
    monitor(&["info", "status"]).stdout("VM status: running\n").success();
    monitor(&["stop"]).success();
    // In one word, and with flags that are the command's own.
    monitor(&["info status"]).stdout("VM status: paused\n").success();
    monitor(&["info", "block", "-v", "-n"]).success();
    monitor(&["help", "info", "status"])
        .stdout("info status  -- show the current VM status (running|paused)\n")
        .success();
    monitor(&[""]).success();
    project
        .qqmgr(&["--json", "monitor", "vm", "info", "status"])
        .run()
        .stdout(
            "{\n  \"name\": \"vm\",\n  \"command\": \"info status\",\n  \
             \"output\": \"VM status: paused\\n\"\n}\n",
        )
        .success();
}

/// The monitor says it as an output that is as good as any other.
#[test]
fn what_failed_is_an_error() {
    let Some(project) = started() else { return };
    for (command, expected) in [
        ("nope", "`nope`: unknown command: 'nope'"),
        ("inf status", "`inf status`: unknown command: 'inf', did you mean `info`?"),
        ("info blok", "`info blok`: unknown command: 'info blok', did you mean `info block`?"),
        ("device_del x", "`device_del x`: Device 'x' not found"),
        (
            "eject",
            "`eject`: eject: block device name expected\n\
             qqmgr: hint: `qqmgr monitor vm help eject` tells more",
        ),
        (
            "info block a b",
            "`info block a b`: block: extraneous characters at the end of line\n\
             qqmgr: hint: `qqmgr monitor vm help info block` tells more",
        ),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let failed = project.qqmgr(&[&["monitor", "vm"], &words[..]].concat()).run();
        failed.stderr(format!("qqmgr: error: QEMU refuses {expected}\n")).code(1);
    }
    project
        .qqmgr(&["--json", "monitor", "vm", "device_del", "x"])
        .run()
        .stdout(
            "{\n  \"error\": {\n    \"kind\": \"failed\",\n    \"message\": \
             \"QEMU refuses `device_del x`: Device 'x' not found\",\n    \"hint\": null\n  }\n}\n",
        )
        .stderr("...\n")
        .code(1);
}

#[test]
fn lines_are_commands() {
    let Some(project) = started() else { return };
    let monitor = |input: &str| project.qqmgr(&["monitor", "vm"]).stdin(input).run();
    monitor("stop\n\n  \r\ninfo status\r\nnope\ninfo name\ncont\ninfo status")
        .stdout("VM status: paused\nVM status: running\n")
        .stderr("qqmgr: error: QEMU refuses `nope`: unknown command: 'nope'\n")
        .code(1);
    monitor("").success();
    let json = project.qqmgr(&["--json", "monitor", "vm"]).stdin("stop\nx\n").run();
    json.stdout(
        "{\n  \"name\": \"vm\",\n  \"command\": \"stop\",\n  \"output\": \"\"\n}\n\
         {\n  \"error\": {\n...\n  }\n}\n",
    )
    .stderr("qqmgr: error: QEMU refuses `x`: [..]\n...\n")
    .code(1);
    monitor("quit\n").success();
    start(&project);
    monitor("quit\ninfo status\n").stderr("qqmgr: error: VM `vm` has just ended\n").code(3);
    monitor("info status\n")
        .stderr("qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n")
        .code(3);
}

/// On a terminal there is a prompt; Ctrl-D and the end of the VM leave it.
#[test]
fn a_prompt_for_people() {
    let Some(project) = started() else { return };
    if !has_tool("script") {
        return;
    }
    std::process::Command::new("mkfifo")
        .args([project.path("typed"), project.path("again")])
        .status()
        .expect("there is a mkfifo");
    // `script` gives what it reads to its terminal, whose line discipline makes an end of file of
    // Ctrl-D.
    let typed = |fifo: &str| {
        project.sh(&format!("exec 3<>{fifo}; script -qec '\"$QQMGR\" monitor vm' /dev/null <&3"))
    };
    let run = typed("typed").start();
    run.says("(qemu) ");
    project.write("typed", "info status\n");
    run.says("VM status: running\r\n(qemu) ");
    project.write("typed", "\u{4}");
    let left = run.end();
    assert_eq!((left.status, left.stderr.as_str()), (Some(0), ""), "{}", left.stdout);

    let run = typed("again").start();
    run.says("(qemu) ");
    assert_eq!(project.qqmgr(&["stop", "vm", "--force"]).run().status, Some(0));
    run.says("The VM has ended.\r\n");
    assert_eq!(run.end().status, Some(0));
}
