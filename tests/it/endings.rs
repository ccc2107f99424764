//! Why a VM ended, by what the real QEMU told of it: in `stop` and in `wait --for stopped`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::harness::{Project, free_port, real_qemu, signal, wait_until};

const SOON: Duration = Duration::from_secs(20);
/// A QEMU whose power button does nothing.
const NO_MACHINE: &str = "-nodefaults -machine none -display none";
/// A PC that starts the boot sector in `guest.img`.
const PC: &str = "-machine q35 -accel tcg -drive file=guest.img,format=raw,if=virtio \
                  -display none -nodefaults -device pvpanic";
/// Says `!` (port 0x3f8) and sleeps, whatever is pressed.
const SLEEPS: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'!', 0xee, 0xfa, 0xf4, 0xeb, 0xfd];
/// Powers off at once (PM1 control, port 0x604).
const POWERS_OFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd];

/// A project with one VM, `vm`, on a real QEMU with these arguments, started.
#[track_caller]
fn started(cmd: &str, boot: &[u8]) -> Option<(Project, u32)> {
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n[vm.vm]\ncmd = \"{cmd}\"\nssh.port = {}\n",
        real_qemu()?,
        free_port()
    ));
    let mut image = boot.to_vec();
    image.resize(512 * 2880, 0);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    project.write("guest.img", image);
    let stdout = "vm started: [..], pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "vm"]).run().stdout(stdout).success();
    let pid = project.pid("vm");
    Some((project, pid))
}

/// What QMP's people's socket is told to do.
#[track_caller]
fn execute(project: &Project, command: &str) {
    let mut stream = UnixStream::connect(project.vm_path("vm", "qmp.socket")).unwrap();
    // In one piece: QEMU that ends at once would not take the rest.
    let lines = format!("{{\"execute\": \"qmp_capabilities\"}}\n{{\"execute\": \"{command}\"}}\n");
    stream.write_all(lines.as_bytes()).unwrap();
    // Until it is done: QEMU ends, or has answered all.
    let answers = BufReader::new(stream).lines().map_while(Result::ok);
    let _ = answers.filter(|line| line.starts_with("{\"return\"")).take(2).count();
}

/// Waits until the button has been pressed.
#[track_caller]
fn await_press(project: &Project) {
    let told = project.vm_path("vm", "events.out");
    wait_until("the power button is pressed", SOON, || {
        fs::read_to_string(&told).is_ok_and(|text| text.contains("\"POWERDOWN\""))
    });
}

fn stopped(pid: u32, method: &str, reason: &str) -> String {
    format!(
        r#"{{
  "name": "vm",
  "pid": {pid},
  "method": "{method}",
  "reason": {reason},
  "seconds": [SECONDS]
}}
"#
    )
}

/// While `stop` waits for the guest in vain, QEMU ends by what `end` does.
#[track_caller]
fn ends_while_stop_waits(cmd: &str, end: fn(&Project, u32), reason: &str, text: &str) {
    for json in [true, false] {
        let Some((project, pid)) = started(cmd, SLEEPS) else { return };
        // That it waits it says after 3 s, which the machine may well take.
        let format = if json { "--json" } else { "" };
        let script = format!("\"$QQMGR\" stop vm --no-kill --timeout 50 {format} 2>/dev/null");
        thread::scope(|scope| {
            let stop = scope.spawn(|| project.sh(&script).run());
            await_press(&project);
            end(&project, pid);
            let stdout = if json {
                stopped(pid, "died", reason)
            } else {
                format!("vm ended in [SECONDS] s: {text}\n")
            };
            stop.join().unwrap().stdout(stdout).success();
        });
        assert!(!project.runs(pid));
        assert_eq!(project.vm_files("vm"), "events.out lock qemu.log serial");
    }
}

#[test]
fn a_qemu_that_is_killed_while_stop_waits() {
    let kill = |_: &Project, pid| signal(pid, "KILL");
    ends_while_stop_waits(
        NO_MACHINE,
        kill,
        "null",
        "QEMU gave no reason: killed, crashed, or a debug exit of the guest",
    );
    ends_while_stop_waits(
        PC,
        kill,
        "null",
        "QEMU gave no reason: killed, crashed, or a debug exit of the guest",
    );
}

#[test]
fn a_qemu_that_somebody_else_ends_while_stop_waits() {
    let terminate = |_: &Project, pid| signal(pid, "TERM");
    ends_while_stop_waits(NO_MACHINE, terminate, "\"host-signal\"", "QEMU was ended by a signal");
    let quit = |project: &Project, _| execute(project, "quit");
    ends_while_stop_waits(NO_MACHINE, quit, "\"host-qmp-quit\"", "QEMU was told to quit");
}

#[test]
fn stop_by_force_has_a_reason_too() {
    let Some((project, pid)) = started(NO_MACHINE, SLEEPS) else { return };
    let expected = stopped(pid, "sigterm", "\"host-signal\"");
    project.qqmgr(&["stop", "vm", "--force", "--json"]).run().stdout(expected).success();
    let stdout = stopped(0, "none", "null").replace("\"pid\": 0", "\"pid\": null");
    project.qqmgr(&["stop", "vm", "--json"]).run().stdout(stdout).success();
}

// --- wait

/// `wait` began before the end, and one after it: both know.
#[track_caller]
fn wait_tells(project: &Project, end: impl FnOnce(), reason: &str, text: &str) {
    let json = |pid: &str| {
        format!(
            r#"{{
  "name": "vm",
  "for": "stopped",
  "pid": {pid},
  "reason": {reason},
  "seconds": [SECONDS]
}}
"#
        )
    };
    let wait = ["wait", "vm", "--for", "stopped", "--json"];
    thread::scope(|scope| {
        let waiting = scope.spawn(|| project.qqmgr(&wait).run());
        end();
        let output = waiting.join().unwrap();
        // Whether it came in time to see the process is up to the system.
        let pid = if output.stdout.contains("\"pid\": null") { "null" } else { "[PID]" };
        output.stdout(json(pid)).success();
    });
    project.qqmgr(&wait).run().stdout(json("null")).success();
    let stdout = format!("vm is stopped: {text}\n");
    project.qqmgr(&["wait", "vm", "--for", "stopped"]).run().stdout(stdout).success();
}

#[test]
fn wait_tells_why_it_ended() {
    let Some((project, pid)) = started(NO_MACHINE, SLEEPS) else { return };
    let terminate = || signal(pid, "TERM");
    wait_tells(&project, terminate, "\"host-signal\"", "QEMU was ended by a signal");
    let Some((project, pid)) = started(NO_MACHINE, SLEEPS) else { return };
    wait_tells(
        &project,
        || signal(pid, "KILL"),
        "null",
        "QEMU gave no reason: killed, crashed, or a debug exit of the guest",
    );
    let Some((project, _)) = started(PC, POWERS_OFF) else { return };
    wait_tells(&project, || {}, "\"guest-shutdown\"", "the guest powered off");
}
