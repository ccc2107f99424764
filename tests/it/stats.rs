//! `stats` on a real QEMU, whose figures are known only roughly, and on the real guest.

use std::fs;
use std::os::unix::net::UnixStream;

use crate::guest;
use crate::harness::{Project, free_port, freeze, has_tool, real_qemu, signal};
use crate::real_qemu::NO_MACHINE;

/// Runs the firmware for ever, which reads the first sector of the disk.
const MACHINE: &str = "-nodefaults -machine pc -accel tcg -m 64 -smp 2 -display none \
                       -drive file=disk.img,if=virtio,format=raw -netdev user,id=net0 \
                       -device virtio-net,netdev=net0 -device virtio-balloon";
const NOT_RUNNING: &str =
    "qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n";
const NO_MACHINE_USES: &str = "name:       vm\n\
                               state:      running\n\
                               pid:        [PID]\n\
                               uptime:     [..]\n\
                               cpu:        [SECONDS] s, [SECONDS] % of one CPU\n\
                               memory:     [SECONDS] MiB\n\
                               vcpus:      0\n\
                               guest has:  0 B\n";

/// A project with these VMs on a real QEMU, started.
#[track_caller]
fn started(vms: &[(&str, &str)]) -> Option<Project> {
    let project = Project::new();
    let vm = |(name, cmd): &(&str, &str)| {
        format!("[vm.{name}]\ncmd = \"{cmd}\"\nssh.port = {}\n", free_port())
    };
    let vms: String = vms.iter().map(vm).collect();
    project.config(&format!("[qemu]\nbin = \"{}\"\n{vms}", real_qemu()?));
    project.write("disk.img", vec![0; 1 << 20]);
    let started = project.qqmgr(&["start", "--all"]).run();
    assert_eq!((started.status, started.stderr.as_str()), (Some(0), ""));
    Some(project)
}

#[track_caller]
fn stop(project: &Project, vm: &str) {
    let stopped = project.qqmgr(&["stop", "--force", vm]).run();
    assert_eq!(stopped.status, Some(0), "{}", stopped.stderr);
}

/// The number after `"name": ` in a document.
#[track_caller]
fn number(document: &str, name: &str) -> f64 {
    let (_, rest) = document.split_once(&format!("\"{name}\": ")).expect("it has the member");
    let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("{name} of {document}"))
}

#[test]
fn what_a_machine_uses() {
    let Some(project) = started(&[("vm", MACHINE)]) else { return };
    let stats = || project.qqmgr(&["stats", "vm"]).run();
    stats()
        .stdout(
            "name:       vm\n\
             state:      running\n\
             pid:        [PID]\n\
             uptime:     [..]\n\
             cpu:        [SECONDS] s, [SECONDS] % of one CPU\n\
             memory:     [SECONDS] MiB\n\
             vcpus:      2\n\
             guest has:  64.0 MiB, balloon leaves 64.0 MiB\n\
             disk:       virtio0: [..] in [PID] read[..], 0 B in 0 writes, 0 flushes\n\
             network:    net0: 0 connections\n",
        )
        .success();
    let json = project.qqmgr(&["stats", "vm", "--json"]).run();
    let pid = project.pid("vm");
    json.stdout(format!(
        "{{\n  \"name\": \"vm\",\n  \"pid\": {pid},\n  \"state\": \"running\",\n  \
         \"uptime_seconds\": [SECONDS],\n  \"cpu_seconds\": [SECONDS],\n  \
         \"cpu_percent\": [SECONDS],\n  \"rss_bytes\": [PID],\n  \"vcpus\": 2,\n  \
         \"memory_bytes\": 67108864,\n  \"balloon_bytes\": 67108864,\n  \"disks\": [\n    {{\n      \
         \"name\": \"virtio0\",\n      \"rd_bytes\": [PID],\n      \"rd_operations\": [PID],\n      \
         \"wr_bytes\": 0,\n      \"wr_operations\": 0,\n      \"flush_operations\": 0,\n      \
         \"failed_operations\": 0\n    }}\n  ],\n  \"networks\": [\n    {{\n      \
         \"name\": \"net0\",\n      \"connections\": 0,\n      \"from_guest_bytes\": 0,\n      \
         \"to_guest_bytes\": 0\n    }}\n  ]\n}}\n"
    ))
    .success();

    // The guest's state is shown in QEMU's own word.
    project.qqmgr(&["pause", "vm"]).run().stdout("vm is paused\n").success();
    assert!(stats().stdout.contains("\nstate:      paused\n"));
    // Where there is no /proc, `ps` gives the same figures.
    let by_ps = project.qqmgr(&["stats", "vm", "--json"]).env("QQMGR_TEST_PROC", "/nowhere").run();
    let by_proc = project.qqmgr(&["stats", "vm", "--json"]).run();
    for name in ["cpu_seconds", "rss_bytes"] {
        let (ps, proc) = (number(&by_ps.stdout, name), number(&by_proc.stdout, name));
        // The first figure is in whole seconds, rounded up or down.
        assert!(ps > proc / 2.0 - 1.0 && ps < proc * 2.0 + 1.0, "{name}: {ps} and {proc}");
    }
    stop(&project, "vm");
    project.qqmgr(&["stats", "vm"]).run().stderr(NOT_RUNNING).code(3);
}

/// A frozen QEMU, and one whose QMP socket serves somebody else.
#[test]
fn a_qemu_that_does_not_answer_has_the_figures_of_the_host() {
    let Some(project) = started(&[("vm", NO_MACHINE)]) else { return };
    let silent = || {
        let text = NO_MACHINE_USES.split("vcpus").next().unwrap();
        let text = text.replace("running", "unresponsive");
        project.qqmgr(&["stats", "vm"]).run().stdout(text).success();
    };
    let client = UnixStream::connect(project.vm_path("vm", "ctl.socket")).unwrap();
    silent();
    drop(client);
    project.qqmgr(&["stats", "vm"]).run().stdout(NO_MACHINE_USES).success();
    freeze(project.pid("vm"));
    silent();
    let json = project.qqmgr(&["stats", "vm", "--json"]).run().stdout;
    for empty in ["\"vcpus\": null", "\"disks\": [],", "\"networks\": []\n"] {
        assert!(json.contains(empty), "{json}");
    }
    signal(project.pid("vm"), "CONT");
    stop(&project, "vm");
}

#[test]
fn watch_goes_on_as_long_as_the_vms_do() {
    let Some(project) = started(&[("vm", NO_MACHINE), ("other", NO_MACHINE)]) else { return };
    let lines = project.qqmgr(&["stats", "--watch", "--json", "vm", "other"]).start();
    let text = project.qqmgr(&["stats", "-w", "vm"]).start();
    text.says("state:      running\n");
    lines.says("{\"name\": \"vm\", ");
    stop(&project, "other");
    // The VM that still runs is shown again.
    let seen = lines.said().lines().count() + 3;
    crate::harness::wait_until("there are more", std::time::Duration::from_secs(30), || {
        lines.said().lines().count() >= seen && text.said().matches("name:").count() > 1
    });
    stop(&project, "vm");
    let lines = lines.end();
    assert_eq!((lines.status, lines.stderr.as_str()), (Some(0), ""));
    let names: Vec<&str> =
        lines.stdout.lines().map(|line| line.split('"').nth(3).unwrap_or_default()).collect();
    assert_eq!(names[..2], ["vm", "other"]);
    assert_eq!(names[names.len() - 2..], ["vm", "vm"]);
    assert!(lines.stdout.lines().all(|line| line.ends_with("\"networks\": []}")));
    let text = text.end();
    assert_eq!((text.status, text.stderr.as_str()), (Some(0), ""));
    for frame in text.stdout.split_inclusive("\n\n") {
        assert!(frame.starts_with("name:       vm\nstate:"), "{}", text.stdout);
        assert!(frame.ends_with("guest has:  0 B\n\n"), "{}", text.stdout);
    }

    // A VM that is not running at the beginning is an error; a reader that leaves is not.
    project.qqmgr(&["stats", "-w", "vm"]).run().stderr(NOT_RUNNING).code(3);
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
    let left = project.sh("\"$QQMGR\" stats -w vm | head -n 1").run();
    left.stdout("name:       vm\n").success();
}

/// A second VM keeps running, so that the command looks each second and does not end with the
/// first.
#[test]
fn watch_does_not_follow_a_later_start() {
    let Some(project) = started(&[("vm", NO_MACHINE), ("other", NO_MACHINE)]) else { return };
    let pid = project.pid("vm");
    let watch = project.qqmgr(&["stats", "--watch", "--json", "vm", "other"]).start();
    watch.says("{\"name\": \"other\", ");
    let restarted = project.qqmgr(&["restart", "vm", "--force"]).run();
    let lines = "vm ended by SIGTERM in [SECONDS] s\n\
                 vm started: running, pid [PID], ssh port [PORT]\n";
    restarted.stdout(lines).success();
    let others = || watch.said().matches("{\"name\": \"other\", ").count();
    let seen = others() + 3;
    crate::harness::wait_until("there are more", std::time::Duration::from_secs(30), || {
        others() >= seen
    });
    stop(&project, "other");
    let watch = watch.end();
    assert_eq!((watch.status, watch.stderr.as_str()), (Some(0), ""));
    let of_vm = watch.stdout.lines().filter(|line| line.starts_with("{\"name\": \"vm\", "));
    let first = format!("{{\"name\": \"vm\", \"pid\": {pid}, ");
    assert!(of_vm.into_iter().all(|line| line.starts_with(&first)), "{}", watch.stdout);
    stop(&project, "vm");
}

/// Everything is drawn in one place, cut to the screen; Ctrl-C ends the command and not the VM.
#[test]
fn watch_redraws_on_a_terminal() {
    if !has_tool("script") {
        return;
    }
    let Some(project) = started(&[("vm", MACHINE)]) else { return };
    let watch = "stty rows 7 cols 30; echo $$ >pid; exec \"$QQMGR\" stats -w vm";
    project.write("watch", watch);
    let run = project.sh("exec script -qec 'sh watch' /dev/null").start();
    // Six lines up, which is where it began.
    let lines = "\rname:       vm\x1b[K\r\n\
                 state:      running\x1b[K\r\n";
    run.says(&format!("\x1b[J\r\x1b[6A{}", &lines[1..]));
    let pid: u32 = fs::read_to_string(project.path("pid")).unwrap().trim().parse().unwrap();
    signal(pid, "INT");
    let said = run.end().stdout;
    assert!(said.starts_with(lines), "{said:?}");
    assert!(said.contains("\r\n... 5 more lines\x1b[K\r\n\x1b[J"), "{said:?}");
    for line in said.split("\r\n") {
        let shown = line.trim_start_matches(['\r', '\x1b']).trim_end_matches("\x1b[K");
        assert!(shown.trim_start_matches("[J\r\x1b[6A").chars().count() < 30, "{line:?}");
    }
    project.qqmgr(&["status", "-q", "vm"]).run().success();
    stop(&project, "vm");
}

/// A guest at work has an open ssh connection, and has written to no disk.
#[test]
fn a_guest_at_work() {
    let Some(project) = guest::booted("") else { return };
    project.qqmgr(&["ssh", "vm", "hostname"]).run().stdout("vm\n").success();
    let json = project.qqmgr(&["stats", "vm", "--json"]).run().stdout;
    assert!(number(&json, "connections") >= 1.0, "{json}");
    assert!(number(&json, "cpu_seconds") > 0.5 && number(&json, "cpu_percent") > 0.0, "{json}");
    assert!(json.contains("\"memory_bytes\": 268435456,"), "{json}");
    assert!(number(&json, "rss_bytes") > 50_000_000.0, "{json}");
    stop(&project, "vm");
}
