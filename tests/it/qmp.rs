//! `qmp` on a real QEMU, where time or another process matters. `tests/cases/qmp.txt` has the rest.

use crate::guest;
use crate::harness::{Project, Running, wait_until};
use crate::real_qemu::{NO_MACHINE, Qmp, project};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const RESUMED: &str = "vm: was paused for [SECONDS] s, running\n";

/// A project with the VM `vm`, which runs.
#[track_caller]
fn started(more: &str) -> Option<Project> {
    let project = project(&format!("{NO_MACHINE} {more}"))?;
    start(&project);
    Some(project)
}

#[track_caller]
pub(crate) fn start(project: &Project) {
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: [..], pid [PID], ssh port [PORT]\n").success();
}

/// Checks that the command, with these words, prints this.
#[track_caller]
fn returns(project: &Project, words: &[&str], expected: &str) {
    project.qqmgr(&[&["qmp", "vm"], words].concat()).run().stdout(expected).success();
}

/// A session that waits for its next line leaves the VM to other commands, and ends with it.
#[test]
fn a_session_holds_nothing_between_its_lines() {
    let Some(project) = started("") else { return };
    let session = project
        .sh("{ echo stop; read line <go; echo query-status; read line <end; } | \"$QQMGR\" qmp vm");
    assert!(
        std::process::Command::new("mkfifo")
            .args([project.path("go"), project.path("end")])
            .status()
            .is_ok_and(|status| status.success())
    );
    let session = session.start();
    session.says("{\"return\": {}}\n");
    project.qqmgr(&["resume", "vm"]).run().stdout(RESUMED).success();
    project.write("go", "\n");
    session.says("\"running\": true");
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("[..]\n").success();
    // It does not wait for the line that will never come.
    project.write("end", "\n");
    session.end().stdout("{\"return\": {}}\n{\"return\": {[..]}}\n").success();
}

/// A `qmp --events` that follows the events by now.
#[track_caller]
fn follow<'p>(project: &'p Project, names: &[&str]) -> Running<'p> {
    let run = project.qqmgr(&[&["qmp", "--events", "vm"], names].concat()).start();
    // It opens the event log before anything else.
    wait_until("it follows", SOON, || {
        let fds = fs::read_dir(format!("/proc/{}/fd", run.pid));
        fds.into_iter()
            .flatten()
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.ends_with("events.out")))
    });
    run
}

fn event(name: &str, data: &str) -> String {
    let time = "{\"seconds\": [PID], \"microseconds\": [PID]}";
    let data = if data.is_empty() { data.into() } else { format!(", \"data\": {data}") };
    format!("{{\"timestamp\": {time}, \"event\": \"{name}\"{data}}}\n")
}

/// A reset by the host, one by the guest itself, and the end.
#[test]
fn events_of_a_guest_that_is_reset() {
    let Some(project) = guest::booted("") else { return };
    let reader = follow(&project, &["RESET", "POWERDOWN", "SHUTDOWN"]);
    project.qqmgr(&["reset", "vm"]).run().stdout("vm: reset, running\n").success();
    let wait = ["wait", "vm", "--for", "ssh", "--timeout", "200"];
    project.qqmgr(&wait).run().stdout("vm answers ssh after [SECONDS] s\n").success();
    // The firmware resets the machine once more by itself, as the guest does now.
    let resets = || reader.said().matches("guest-reset").count();
    let by_firmware = resets();
    // The connection may break before the event of the end arrives.
    let _ = project.qqmgr(&["ssh", "vm", "reboot"]).run();
    wait_until("the guest has reset itself", SOON, || resets() > by_firmware);
    project.qqmgr(&wait).run().stdout("vm answers ssh after [SECONDS] s\n").success();
    let stop = project.qqmgr(&["stop", "vm", "--timeout", "200"]).run();
    stop.stdout("vm powered off in [SECONDS] s\n").success();
    let first = event("RESET", "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
    let again = event("RESET", "{\"guest\": true, \"reason\": \"guest-reset\"}");
    let off = event("SHUTDOWN", "{\"guest\": true, \"reason\": \"guest-shutdown\"}");
    let expected = [&first, "...\n", &again, &event("POWERDOWN", ""), &off];
    reader.end().stdout(expected.concat()).success();
}

#[test]
fn events_as_they_come() {
    let Some(project) = started("") else { return };
    let all = follow(&project, &[]);
    let some = follow(&project, &["RESET", "SHUTDOWN"]);
    let reset = event("RESET", "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
    let shutdown = event("SHUTDOWN", "{\"guest\": false, \"reason\": \"host-signal\"}");
    for command in ["pause", "resume", "reset"] {
        assert_eq!(project.qqmgr(&[command, "vm"]).run().status, Some(0));
    }
    all.says("RESET");
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("[..]\n").success();
    let first = [event("STOP", ""), event("RESUME", "")].concat();
    all.end().stdout(format!("{first}{reset}{shutdown}")).success();
    some.end().stdout(format!("{reset}{shutdown}")).success();
}

/// The command ends at the next event.
#[test]
fn events_that_nobody_reads_any_more() {
    let Some(project) = started("") else { return };
    let run = project.sh("\"$QQMGR\" qmp vm --events | head -n 1").start();
    wait_until("an event was read", SOON, || {
        assert_eq!(project.qqmgr(&["resume", "vm"]).run().status, Some(0));
        assert_eq!(project.qqmgr(&["pause", "vm"]).run().status, Some(0));
        run.said().contains("\"event\"")
    });
    project.qqmgr(&["resume", "vm"]).run().stdout(RESUMED).success();
    run.end().stdout("{[..]}\n").success();
}

#[test]
fn a_qemu_that_does_not_answer() {
    let Some(project) = started("") else { return };
    let holder = Qmp::connect(&project.vm_path("vm", "ctl.socket"));
    project
        .qqmgr(&["qmp", "vm", "stop"])
        .run()
        .stderr(
            "qqmgr: error: VM `vm` does not answer on its QMP socket\n\
             qqmgr: hint: QEMU is busy or still starting, or serves another `qqmgr`; try again\n",
        )
        .code(4);
    drop(holder);
    // A client of `qmp.socket` disturbs no command.
    let _person = Qmp::connect(&project.vm_path("vm", "qmp.socket"));
    returns(&project, &["stop"], "{}\n");
}
