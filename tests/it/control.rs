//! `pause`, `resume`, `reset`, `powerdown` and `nmi` on a real QEMU, and the state that each is
//! said to leave a VM in.

use crate::harness::{Project, freeze, real_qemu, signal, wait_until};
use crate::real_qemu::{
    BUTTON, NO_MACHINE, OFF, PANICS, SAYS_READY, SUSPENDS, WAITS, await_ready, config, guest,
    project,
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
/// Does nothing for ever.
const HALTS: &[u8] = &[0xf4, 0xeb, 0xfd];

/// Starts the VMs of the project.
#[track_caller]
fn start(project: &Project, vms: &[&str]) {
    let started = project.qqmgr(&[&["start"], vms].concat()).run();
    assert_eq!(started.status, Some(0), "{}", started.stderr);
}

/// What the command says, which succeeds.
#[track_caller]
fn says(project: &Project, command: &str, expected: &str) {
    project.qqmgr(&[command, "vm"]).run().stdout(expected).success();
}

fn status_is(project: &Project, state: &str) -> bool {
    let status = project.qqmgr(&["status", "vm"]).run();
    status.stdout.contains(&format!("state:      {state}\n"))
}

#[test]
fn each_tells_the_state() {
    let Some(project) = project(NO_MACHINE) else { return };
    start(&project, &["vm"]);
    says(&project, "pause", "vm is paused\n");
    assert!(status_is(&project, "paused"));
    says(&project, "pause", "vm is paused\n");
    says(&project, "reset", "vm: reset, prelaunch\n");
    says(&project, "powerdown", "vm: power button pressed, prelaunch\n");
    says(&project, "resume", "vm is running\n");
    assert!(status_is(&project, "running"));
    says(&project, "resume", "vm is running\n");
    says(&project, "reset", "vm: reset, running\n");
    says(&project, "powerdown", "vm: power button pressed, running\n");
    let pid = project.pid("vm");
    for (command, state) in
        [("pause", "paused"), ("resume", "running"), ("reset", "running"), ("powerdown", "running")]
    {
        let expected =
            format!("{{\n  \"name\": \"vm\",\n  \"pid\": {pid},\n  \"state\": \"{state}\"\n}}\n");
        project.qqmgr(&["--json", command, "vm"]).run().stdout(expected).success();
    }
    let events = project.vm_file("vm", "events.out");
    for (event, times) in [("\"STOP\"", 2), ("\"RESUME\"", 2), ("\"RESET\"", 3)] {
        assert_eq!(events.matches(event).count(), times, "{event} in {events}");
    }
    assert_eq!(events.matches("\"POWERDOWN\"").count(), 3);
}

#[test]
fn a_vm_that_was_started_with_s_is_resumed() {
    let Some(project) = project(&format!("{NO_MACHINE} -S")) else { return };
    start(&project, &["vm"]);
    says(&project, "pause", "vm is prelaunch\n");
    says(&project, "resume", "vm is running\n");
}

#[test]
fn several_at_once() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let vms = ["node-1", "node-2", "other"].map(|name| (name, NO_MACHINE));
    project.config(&config(qemu, &vms));
    start(&project, &["node-1", "other"]);
    // One that does not run keeps no other from being paused.
    project
        .sorted("pause node-1 node-2")
        .run()
        .stdout("node-1 is paused\n")
        .stderr(
            "qqmgr: error: node-2: VM `node-2` is not running\n\
             qqmgr: hint: `qqmgr start node-2` starts it\n",
        )
        .code(3);
    project
        .sorted("resume node-1 other")
        .run()
        .stdout("node-1 is running\nother is running\n")
        .success();
    start(&project, &["node-2"]);
    project
        .sorted("reset --all")
        .run()
        .stdout("node-1: reset, running\nnode-2: reset, running\nother: reset, running\n")
        .success();
    project
        .qqmgr(&["pause"])
        .run()
        .stderr(
            "qqmgr: error: `pause` needs a VM, or `--all`\n\
         qqmgr: hint: usage: qqmgr pause [OPTIONS] [VM...]\n",
        )
        .code(2);
    let unknown = project.qqmgr(&["nmi", "nope"]).run();
    assert_eq!(unknown.status, Some(5), "{}", unknown.stderr);
}

/// No machine has no CPU that could take it; a PC has.
#[test]
fn an_nmi_needs_a_machine_that_takes_it() {
    let Some(project) = project(NO_MACHINE) else { return };
    start(&project, &["vm"]);
    // In words that changed after 7.2.
    let message = "QEMU refuses `inject-nmi`: [..]";
    let hint = "not every machine type takes an NMI: `pc` and `q35` do";
    let refused = project.qqmgr(&["nmi", "vm"]).run();
    refused.stderr(format!("qqmgr: error: {message}\nqqmgr: hint: {hint}\n")).code(1);
    let json = project.qqmgr(&["--json", "nmi", "vm"]).run();
    json.stdout(format!(
        "{{\n  \"name\": \"vm\",\n  \"error\": {{\n    \"kind\": \"failed\",\n    \
         \"message\": \"{message}\",\n    \"hint\": \"{hint}\"\n  }}\n}}\n"
    ))
    .stderr("...\n")
    .code(1);
    let Some((pc, _)) = guest(&[SAYS_READY, HALTS], "") else { return };
    await_ready(&pc);
    says(&pc, "nmi", "vm: NMI sent, running\n");
}

#[test]
fn a_suspended_guest_wakes_up() {
    let Some((project, _)) = guest(&[SUSPENDS], "") else { return };
    wait_until("it is suspended", SOON, || status_is(&project, "suspended"));
    // Nothing of it runs, so that there is nothing to stop; QEMU 9 and later do all the same.
    let paused = project.qqmgr(&["pause", "vm"]).run();
    if paused.stdout == "vm is paused\n" {
        says(&project, "resume", "vm is suspended\n");
    } else {
        assert_eq!(paused.stdout, "vm is suspended\n");
    }
    says(&project, "resume", "vm is running\n");
    let events = project.vm_file("vm", "events.out");
    assert!(events.contains("\"SUSPEND\"") && events.contains("\"WAKEUP\""), "{events}");
}

#[test]
fn a_guest_that_has_shut_down_needs_a_reset() {
    let Some((project, _)) = guest(&[SAYS_READY, OFF], "-no-shutdown") else { return };
    wait_until("it has shut down", SOON, || status_is(&project, "shutdown"));
    project
        .qqmgr(&["resume", "vm"])
        .run()
        .stderr(
            "qqmgr: error: QEMU refuses `cont`: Resetting the Virtual Machine is required\n\
             qqmgr: hint: a guest that has shut down needs `qqmgr reset vm` first\n",
        )
        .code(1);
    says(&project, "reset", "vm: reset, prelaunch\n");
    assert_eq!(project.vm_file("vm", "serial"), "!");
    project.qqmgr(&["resume", "vm"]).run().stdout("vm is [..]\n").success();
    wait_until("it has booted again", SOON, || project.vm_file("vm", "serial") == "!!");
}

#[test]
fn a_guest_that_has_panicked_goes_on() {
    let panics = "-device pvpanic -action panic=pause";
    let Some((project, _)) = guest(&[SAYS_READY, PANICS], panics) else { return };
    wait_until("it has panicked", SOON, || status_is(&project, "guest-panicked"));
    says(&project, "pause", "vm is guest-panicked\n");
    says(&project, "resume", "vm is running\n");
}

/// The answer is not given before it is true: QEMU agrees first, and ends then.
#[test]
fn a_reset_may_end_qemu() {
    let Some(project) = project(&format!("{NO_MACHINE} -no-reboot")) else { return };
    for _ in 0..5 {
        start(&project, &["vm"]);
        let pid = project.pid("vm");
        says(&project, "reset", "vm: reset, stopped\n");
        assert!(!project.runs(pid));
    }
    let Some(stays) = self::project(&format!("{NO_MACHINE} -no-reboot -no-shutdown")) else {
        return;
    };
    start(&stays, &["vm"]);
    says(&stays, "reset", "vm: reset, shutdown\n");
}

#[test]
fn the_power_button_reaches_the_guest() {
    let Some((project, pid)) = guest(&[BUTTON, SAYS_READY, WAITS, OFF], "") else { return };
    await_ready(&project);
    let pressed = project.qqmgr(&["powerdown", "vm"]).run();
    // A guest of a few bytes powers off in a moment.
    let state = pressed.stdout.strip_prefix("vm: power button pressed, ").unwrap_or_default();
    assert!(["running\n", "shutdown\n", "stopped\n"].contains(&state), "{}", pressed.stdout);
    wait_until("it has powered off", SOON, || !project.runs(pid));
}

#[test]
fn who_does_not_answer_is_named() {
    let Some(project) = project(NO_MACHINE) else { return };
    project
        .qqmgr(&["reset", "vm"])
        .run()
        .stderr("qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n")
        .code(3);
    start(&project, &["vm"]);
    let pid = project.pid("vm");
    freeze(pid);
    project
        .qqmgr(&["pause", "vm"])
        .run()
        .stderr(format!(
            "qqmgr: error: VM `vm` does not answer: QEMU is frozen\n\
             qqmgr: hint: a signal stopped it; `kill -CONT {pid}` lets it go on\n"
        ))
        .code(4);
    signal(pid, "CONT");
    // Somebody who has our socket.
    let holder = crate::real_qemu::Qmp::connect(&project.vm_path("vm", "ctl.socket"));
    project
        .qqmgr(&["pause", "vm"])
        .run()
        .stderr(
            "qqmgr: error: VM `vm` does not answer on its QMP socket\n\
             qqmgr: hint: QEMU is busy or still starting, or serves another `qqmgr`; try again\n",
        )
        .code(4);
    drop(holder);
    says(&project, "pause", "vm is paused\n");
}
