//! `snapshot`: by the jobs of a real QEMU, by qemu-img on the disks of a VM that is stopped, by the
//! human monitor of a QEMU that has no such jobs, and on the real guest.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use crate::guest;
use crate::harness::{
    Project, free_port, freeze, has_tool, program, real_qemu, signal, wait_until,
};

const A_WHILE: Duration = Duration::from_secs(30);
/// A machine without anything but disks.
const NO_MACHINE: &str = "-nodefaults -machine none -display none";
const DISKS: &str = "-drive file=a.qcow2,if=none -drive 'file=b,, c.qcow2,format=qcow2,if=none'";

/// A project with `vm`, on a real QEMU with these arguments behind [`NO_MACHINE`], and two images.
#[track_caller]
fn project(disks: &str) -> Option<Project> {
    let (project, qemu) = (Project::new(), real_qemu()?);
    program("qemu-img")?;
    let cmd = format!("{NO_MACHINE} {disks}");
    let port = free_port();
    project.config(&format!("[qemu]\nbin = {qemu:?}\n[vm.vm]\ncmd = {cmd:?}\nssh.port = {port}\n"));
    image(&project, "a.qcow2", "qcow2");
    image(&project, "b, c.qcow2", "qcow2");
    Some(project)
}

#[track_caller]
fn image(project: &Project, file: &str, format: &str) {
    let create = format!("qemu-img create -q -f {format} '{file}' 1M");
    project.sh(&create).run().success();
}

#[track_caller]
fn start(project: &Project) {
    let stdout = "vm started: [..], pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "vm"]).run().stdout(stdout).success();
}

/// `snapshot` with these words, which succeeds and says that.
#[track_caller]
fn says(project: &Project, words: &[&str], stdout: &str) {
    project.qqmgr(&[&["snapshot"], words].concat()).run().stdout(stdout).success();
}

#[track_caller]
fn fails(project: &Project, words: &[&str], code: i32, stderr: &str) {
    project.qqmgr(&[&["snapshot"], words].concat()).run().stderr(stderr).code(code);
}

/// Fills an image with a byte, or finds that it is full of it.
#[track_caller]
fn io(project: &Project, command: &str, byte: u8, file: &str) {
    let script = format!("qemu-io -c '{command} -P {byte} 0 1M' '{file}' >said || cat said");
    project.sh(&script).run().success();
}

/// What the VM's QMP returns for a command, as it stands on the wire.
#[track_caller]
fn execute(project: &Project, command: &str) -> String {
    let mut stream = UnixStream::connect(project.vm_path("vm", "qmp.socket")).unwrap();
    let lines = format!("{{\"execute\": \"qmp_capabilities\"}}\n{command}\n");
    stream.write_all(lines.as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter(|line| line.contains("\"return\"")).nth(1).expect("an answer")
}

#[test]
fn the_disks_of_a_stopped_vm() {
    let Some(project) = project(DISKS) else { return };
    says(&project, &["list", "vm"], "TAG  SAVED (UTC)             MACHINE  DISKS\n");
    for (file, byte) in [("a.qcow2", 1), ("b, c.qcow2", 2)] {
        io(&project, "write", byte, file);
    }
    // What it leaves is nothing: the VM never ran.
    says(&project, &["save", "vm"], "vm snapshot `snapshot-1` saved, the disks alone: stopped\n");
    assert!(!project.path(".qqmgr").exists());
    let saved = "vm snapshot `it's new` saved, the disks alone: stopped\n";
    says(&project, &["save", "vm", "it's new"], saved);
    for file in ["a.qcow2", "b, c.qcow2"] {
        io(&project, "write", 9, file);
    }
    says(&project, &["save", "vm"], "vm snapshot `snapshot-2` saved, the disks alone: stopped\n");
    says(
        &project,
        &["list", "vm"],
        "TAG         SAVED (UTC)             MACHINE  DISKS\n\
         snapshot-1  [..]-[..]-[..] [..]:[..]:[..]           -  a.qcow2, b, c.qcow2\n\
         it's new    [..]-[..]-[..] [..]:[..]:[..]           -  a.qcow2, b, c.qcow2\n\
         snapshot-2  [..]-[..]-[..] [..]:[..]:[..]           -  a.qcow2, b, c.qcow2\n",
    );
    says(
        &project,
        &["load", "vm", "it's new"],
        "vm snapshot `it's new` loaded, the disks alone: stopped\n",
    );
    for (file, byte) in [("a.qcow2", 1), ("b, c.qcow2", 2)] {
        io(&project, "read", byte, file);
    }
    let deleted = "vm snapshot `snapshot-1` deleted: stopped\n";
    says(&project, &["delete", "vm", "snapshot-1"], deleted);
    says(&project, &["list", "-q", "vm"], "it's new\nsnapshot-2\n");
    says(&project, &["list", "-q", "vm", "--json"], "[\n  \"it's new\",\n  \"snapshot-2\"\n]\n");
    says(&project, &["save", "vm"], "vm snapshot `snapshot-1` saved, the disks alone: stopped\n");
    assert_eq!(project.files("").iter().filter(|name| name.contains("vm.vm")).count(), 0);
}

#[test]
fn the_machine_of_a_vm_that_runs() {
    let Some(project) = project(DISKS) else { return };
    says(&project, &["save", "vm", "old"], "vm snapshot `old` saved, the disks alone: stopped\n");
    start(&project);
    says(&project, &["save", "vm"], "vm snapshot `snapshot-1` saved: running\n");
    // Whatever its name has, and in the state that the guest was in.
    let paused = "vm is paused\n";
    project.qqmgr(&["pause", "vm"]).run().stdout(paused).success();
    says(&project, &["save", "vm", "a \"b\" \\c"], "vm snapshot `a \"b\" \\c` saved: paused\n");
    says(&project, &["load", "vm", "snapshot-1"], "vm snapshot `snapshot-1` loaded: paused\n");
    project.qqmgr(&["resume", "vm"]).run().stdout("vm is running\n").success();
    says(&project, &["load", "vm", "a \"b\" \\c"], "vm snapshot `a \"b\" \\c` loaded: running\n");
    says(
        &project,
        &["list", "vm"],
        "TAG         SAVED (UTC)             MACHINE  DISKS\n\
         old         [..]           -  a.qcow2, b, c.qcow2\n\
         snapshot-1  [..]  a.qcow2, b, c.qcow2\n\
         a \"b\" \\c    [..]  a.qcow2, b, c.qcow2\n",
    );
    fails(
        &project,
        &["load", "vm", "old"],
        1,
        "qqmgr: error: snapshot `old` has no machine, and VM `vm` is running\n\
         qqmgr: hint: it was saved when the VM was stopped; `qqmgr stop vm` first\n",
    );
    says(&project, &["delete", "vm", "old"], "vm snapshot `old` deleted: running\n");
    fails(
        &project,
        &["save", "vm", "snapshot-1"],
        1,
        "qqmgr: error: VM `vm` has a snapshot `snapshot-1` already\n\
         qqmgr: hint: `qqmgr snapshot delete vm snapshot-1` removes it\n",
    );
    // QEMU keeps no job, also none of a qqmgr that was killed.
    let jobs = "{\"execute\": \"query-jobs\"}";
    assert_eq!(execute(&project, jobs), "{\"return\": []}");
    let killed = "{\"execute\": \"snapshot-delete\", \"arguments\": \
                  {\"job-id\": \"qqmgr-snapshot-1\", \"tag\": \"x\", \"devices\": []}}";
    execute(&project, killed);
    wait_until("the job is done", A_WHILE, || execute(&project, jobs).contains("concluded"));
    says(&project, &["save", "vm", "x"], "vm snapshot `x` saved: running\n");
    assert_eq!(execute(&project, jobs), "{\"return\": []}");

    let stopped = "vm ended by SIGTERM in [SECONDS] s\n";
    project.qqmgr(&["stop", "--force", "vm"]).run().stdout(stopped).success();
    let load = project.qqmgr(&["snapshot", "load", "vm", "x"]).run();
    load.stdout("vm snapshot `x` loaded, the disks alone: stopped\n")
        .stderr(
            "qqmgr: the machine of the snapshot was not loaded: \
             `qqmgr start vm -- -loadvm x` starts the VM with it\n",
        )
        .success();
    let started = "vm started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "vm", "--", "-loadvm", "x"]).run().stdout(started).success();
}

#[test]
fn results_in_json() {
    let Some(project) = project("-drive file=a.qcow2,if=none") else { return };
    let done = |machine: bool, state: &str| {
        format!(
            "{{\n  \"name\": \"vm\",\n  \"tag\": \"t\",\n  \"machine\": {machine},\n  \
             \"disks\": [\n    \"[ROOT]/a.qcow2\"\n  ],\n  \"state\": \"{state}\"\n}}\n"
        )
    };
    let list = |machine: &str| {
        format!(
            "[\n  {{\n    \"tag\": \"t\",\n    \"saved_at\": [PID],\n    \
             \"guest_seconds\": 0,\n    \"machine_bytes\": {machine},\n    \
             \"disks\": [\n      \"[ROOT]/a.qcow2\"\n    ]\n  }}\n]\n"
        )
    };
    says(&project, &["save", "vm", "t", "--json"], &done(false, "stopped"));
    says(&project, &["list", "vm", "--json"], &list("0"));
    says(&project, &["delete", "vm", "t", "--json"], &done(false, "stopped"));
    says(&project, &["list", "vm", "--json"], "[]\n");
    start(&project);
    says(&project, &["save", "vm", "t", "--json"], &done(true, "running"));
    says(&project, &["list", "vm", "--json"], &list("[PID]"));
    says(&project, &["load", "vm", "t", "--json"], &done(true, "running"));
    says(&project, &["delete", "vm", "t", "--json"], &done(true, "running"));
}

/// All the ways to name a disk, those that are only read aside: running and stopped take the same.
#[test]
fn the_disks_that_take_part() {
    for (disks, expected) in [
        ("-hda a.qcow2 -drive file='b,, c.qcow2',readonly=on,if=none", "a.qcow2"),
        ("-drive file=a.qcow2,if=none -drive file=raw,if=none,format=raw,readonly", "a.qcow2"),
        (
            "-blockdev driver=file,filename=a.qcow2,node-name=f \
             -blockdev driver=qcow2,file=f,node-name=q -device virtio-blk-pci,drive=q",
            "a.qcow2",
        ),
        (
            "-blockdev driver=qcow2,file.driver=file,file.filename=a.qcow2,node-name=q \
             -device virtio-blk-pci,drive=q -cdrom raw",
            "a.qcow2",
        ),
    ] {
        let Some(project) = project(disks) else { return };
        image(&project, "raw", "raw");
        let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
        project.config(&config.replace("-machine none", "-machine pc -m 16 -S"));
        says(
            &project,
            &["save", "vm"],
            "vm snapshot `snapshot-1` saved, the disks alone: stopped\n",
        );
        start(&project);
        says(&project, &["save", "vm"], "vm snapshot `snapshot-2` saved: prelaunch\n");
        says(
            &project,
            &["list", "vm"],
            &format!(
                "TAG         SAVED (UTC)             MACHINE  DISKS\n\
                 snapshot-1  [..]  {expected}\nsnapshot-2  [..]  {expected}\n"
            ),
        );
    }
}

#[test]
fn what_is_in_the_way() {
    let hint =
        "qqmgr: hint: convert it, `qemu-img convert -O qcow2 OLD NEW`, or make it read-only\n";
    let raw = "-drive file=a.qcow2,if=virtio -drive file=raw,format=raw,if=virtio \
               -drive if=pflash,format=raw,file=flash";
    let none = "qqmgr: error: VM `vm` cannot have snapshots: it has no disk to write to\n\
                qqmgr: hint: they are kept in a qcow2 image: `-drive file=disk.qcow2,if=virtio`, \
                say\n";
    for (disks, stopped, running) in [
        (
            raw,
            "qqmgr: error: VM `vm` cannot have snapshots: the guest writes to `raw` (raw) and \
             `flash` (raw), which cannot hold any\n",
            "qqmgr: error: VM `vm` cannot have snapshots: the guest writes to \
             `raw` (raw, drive `virtio1`) and `flash` (raw, drive `pflash0`), \
             which cannot hold any\n",
        ),
        ("", none, none),
        ("-drive file=a.qcow2,if=virtio,readonly=on", none, none),
    ] {
        let Some(project) = project(disks) else { return };
        image(&project, "raw", "raw");
        image(&project, "flash", "raw");
        let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
        project.config(&config.replace("-machine none", "-machine pc -m 16 -S"));
        let hint = if disks == raw { hint } else { "" };
        fails(&project, &["save", "vm"], 1, &format!("{stopped}{hint}"));
        start(&project);
        fails(&project, &["save", "vm"], 1, &format!("{running}{hint}"));
        let state = project.qqmgr(&["status", "vm"]).run();
        assert!(state.stdout.contains("state:      prelaunch\n"), "{}", state.stdout);
    }
    let Some(project) = project("-drive file=nbd:127.0.0.1:1,if=none") else { return };
    fails(
        &project,
        &["save", "vm"],
        1,
        "qqmgr: error: `nbd:127.0.0.1:1`, which VM `vm` writes to, is no file of this host\n\
         qqmgr: hint: its snapshots need the VM to run\n",
    );
}

/// What QEMU itself says, which its job tells and nothing else.
#[test]
fn the_error_of_a_job() {
    let Some(project) = project("-drive file=a.qcow2,if=none") else { return };
    start(&project);
    says(&project, &["save", "vm", "t"], "vm snapshot `t` saved: running\n");
    let stopped = "vm ended by SIGTERM in [SECONDS] s\n";
    project.qqmgr(&["stop", "--force", "vm"]).run().stdout(stopped).success();
    // Another machine cannot take the state of this one.
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&config.replace("-machine none", "-machine pc -m 16"));
    start(&project);
    let load = project.qqmgr(&["snapshot", "load", "vm", "t"]).run();
    load.stderr(
        "qqmgr: error: QEMU cannot load snapshot `t` of VM `vm`: [..]\n\
         qqmgr: hint: VM `vm` is left `[..]`, perhaps with half of the snapshot; \
         `qqmgr reset vm` begins anew\n",
    )
    .code(1);
    assert_eq!(execute(&project, "{\"execute\": \"query-jobs\"}"), "{\"return\": []}");
}

/// A VM that forgets what it writes has snapshots for as long as it runs.
#[test]
fn temporary_disks() {
    let Some(project) = project("-drive file=a.qcow2,if=none -snapshot") else { return };
    fails(
        &project,
        &["save", "vm"],
        1,
        "qqmgr: error: VM `vm` cannot have snapshots: it has no disk to write to\n\
         qqmgr: hint: they are kept in a qcow2 image: `-drive file=disk.qcow2,if=virtio`, say\n",
    );
    start(&project);
    let save = project.qqmgr(&["snapshot", "save", "vm"]).run();
    save.stdout("vm snapshot `snapshot-1` saved: running\n")
        .stderr(
            "qqmgr: the VM forgets what it writes (`-snapshot`), and this snapshot, too, \
             when it stops\n",
        )
        .success();
    says(&project, &["load", "vm", "snapshot-1"], "vm snapshot `snapshot-1` loaded: running\n");
    let snapshots = Command::new("qemu-img")
        .args(["snapshot", "-U", "-l"])
        .arg(project.path("a.qcow2"))
        .output()
        .unwrap();
    assert!(snapshots.status.success() && snapshots.stdout.is_empty());
}

/// Saved in all disks or in none; what is loaded or deleted in part is finished by doing it again.
#[test]
fn disks_of_which_one_fails() {
    let Some(project) = project(DISKS) else { return };
    says(&project, &["save", "vm", "t"], "vm snapshot `t` saved, the disks alone: stopped\n");
    // Another VM has the second image open.
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&format!(
        "{config}\n[vm.other]\ncmd = \"{NO_MACHINE} -drive 'file=b,, c.qcow2,if=none'\"\n\
         ssh.port = {}\n",
        free_port()
    ));
    let other = "other started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "other"]).run().stdout(other).success();
    let locked = "qqmgr: error: `qemu-img` on `b, c.qcow2`: Could not open 'b, c.qcow2': \
                  Failed to get \"write\" lock; \
                  Is another process using the image [b, c.qcow2]?\n";
    let undone = "qqmgr: hint: the other disks are as they were before\n";
    fails(&project, &["save", "vm", "new"], 1, &format!("{locked}{undone}"));
    says(&project, &["list", "-q", "vm"], "t\n");
    let again = "qqmgr: hint: other disks are done; the same command again does the rest\n";
    fails(&project, &["load", "vm", "t"], 1, &format!("{locked}{again}"));
    let half = "qqmgr: error: the load of snapshot `t` ended half way: the disks of VM `vm` do not match\n\
                qqmgr: hint: `qqmgr snapshot load vm t` does the rest\n";
    fails(&project, &["delete", "vm", "t"], 1, half);
    let stopped = "other ended by SIGTERM in [SECONDS] s\n";
    project.qqmgr(&["stop", "--force", "other"]).run().stdout(stopped).success();
    says(&project, &["load", "vm", "t"], "vm snapshot `t` loaded, the disks alone: stopped\n");
    project.qqmgr(&["start", "other"]).run().stdout(other).success();
    fails(&project, &["delete", "vm", "t"], 1, &format!("{locked}{again}"));
    // Half of it is left: that is told, and the next command deletes it.
    says(
        &project,
        &["list", "vm"],
        "TAG  SAVED (UTC)             MACHINE  DISKS\nt    [..]  b, c.qcow2\n",
    );
    let stopped = "other ended by SIGTERM in [SECONDS] s\n";
    project.qqmgr(&["stop", "--force", "other"]).run().stdout(stopped).success();
    let finished = "qqmgr: finished the `delete` of snapshot `t` of VM `vm`\n\
                    qqmgr: error: VM `vm` has no snapshot `t`\n...\n";
    fails(&project, &["load", "vm", "t"], 1, finished);
    says(&project, &["list", "-q", "vm"], "");
}

#[test]
fn words_that_are_refused() {
    let Some(project) = project("-drive file=a.qcow2,if=none") else { return };
    let refused = |tag: &str, reason: &str| {
        let error = format!("qqmgr: error: `{tag}` is no TAG of a snapshot: {reason}\n");
        fails(&project, &["save", "vm", "--", tag], 2, &error);
    };
    refused("12", "QEMU takes a number for an id");
    refused("", "it is empty");
    refused("-x", "it begins with a dash");
    refused("a\nb", "it has a control character");
    refused(&"x".repeat(256), "it has more than 255 bytes");
    let usage = "qqmgr: hint: usage: qqmgr snapshot [OPTIONS] ACTION VM [TAG]\n";
    let needs = "qqmgr: error: `snapshot load` needs the operand TAG\n";
    fails(&project, &["load", "vm"], 2, &format!("{needs}{usage}"));
    let takes = "qqmgr: error: `snapshot list` takes no TAG\n";
    fails(&project, &["list", "vm", "t"], 2, &format!("{takes}{usage}"));
    let quiet = "qqmgr: error: `--quiet` is not for `snapshot save`\n";
    fails(&project, &["save", "vm", "-q"], 2, &format!("{quiet}{usage}"));
    let action = "qqmgr: error: unknown ACTION `sav` of `snapshot`; did you mean `save`?\n";
    fails(&project, &["sav", "vm"], 2, action);

    let none = "qqmgr: error: VM `vm` has no snapshot `first`\n\
                qqmgr: hint: it has none; `qqmgr snapshot save vm` saves one\n";
    fails(&project, &["load", "vm", "first"], 1, none);
    says(
        &project,
        &["save", "vm", "first"],
        "vm snapshot `first` saved, the disks alone: stopped\n",
    );
    let near = "qqmgr: error: VM `vm` has no snapshot `frist`; did you mean `first`?\n";
    fails(&project, &["delete", "vm", "frist"], 1, near);
    let known = "qqmgr: error: VM `vm` has no snapshot `other`\nqqmgr: hint: it has `first`\n";
    fails(&project, &["delete", "vm", "other"], 1, known);

    fs::remove_file(project.path("a.qcow2")).unwrap();
    let missing = "qqmgr: error: cannot read `[ROOT]/a.qcow2`: no such file or directory\n";
    fails(&project, &["list", "vm"], 1, missing);
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&config.replace("[qemu]\n", "[qemu]\nimg = 'no-qemu-img'\n"));
    let program = "qqmgr: error: there is no program `no-qemu-img`\nqqmgr: hint: install it \
                   (Debian: qemu-utils), or set `img` in `[qemu]` to where it is\n";
    fails(&project, &["list", "vm"], 1, program);
}

/// Nothing starts a VM while qemu-img is at work on its disks: here one that waits to be told.
#[test]
fn a_start_waits_for_a_snapshot() {
    let Some(project) = project("-drive file=a.qcow2,if=none") else { return };
    let script = "#!/bin/sh\n[ \"$1\" != snapshot ] || read -r word <fifo\nexec qemu-img \"$@\"\n";
    project.write("script", script);
    // By another process: nothing of this one may hold it open when it is run.
    project.sh("mkfifo fifo; cat script >slow-img; chmod 755 slow-img").run().success();
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&config.replace("[qemu]\n", "[qemu]\nimg = './slow-img'\n"));
    let save = project.qqmgr(&["snapshot", "save", "vm"]).start();
    wait_until("it is at work", A_WHILE, || {
        fs::read_to_string(project.vm_path("vm", "lock")).is_ok_and(|text| !text.is_empty())
    });
    let start = project.qqmgr(&["start", "vm"]).start();
    start.says("waiting for `snapshot`");
    project.sh("echo >fifo").run().success();
    let saved = "vm snapshot `snapshot-1` saved, the disks alone: stopped\n";
    save.end().stdout(saved).success();
    start
        .end()
        .stdout("vm started: running, pid [PID], ssh port [PORT]\n")
        .stderr("qqmgr: waiting for `snapshot` (pid [PID]) of VM `vm` to finish\n")
        .success();
}

#[test]
fn an_old_qemu_without_jobs() {
    let project = Project::new();
    project.fake_vm("normal");
    start(&project);
    says(&project, &["save", "vm", "a \"b"], "vm snapshot `a \"b` saved: running\n");
    says(&project, &["save", "vm"], "vm snapshot `snapshot-1` saved: running\n");
    says(&project, &["load", "vm", "snapshot-1"], "vm snapshot `snapshot-1` loaded: running\n");
    says(&project, &["delete", "vm", "snapshot-1"], "vm snapshot `snapshot-1` deleted: running\n");
    fails(
        &project,
        &["load", "vm", "refused"],
        1,
        "qqmgr: error: QEMU cannot load snapshot `refused` of VM `vm`: \
         Error -22 while loading VM state\n",
    );
    let log = project.vm_file("vm", "fake.log");
    let commands: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("\"command-line\":")?.1.split('}').next())
        .map(str::trim)
        .collect();
    assert_eq!(
        commands,
        [
            r#""savevm \"a \\\"b\"""#,
            r#""savevm \"snapshot-1\"""#,
            r#""loadvm \"snapshot-1\"""#,
            r#""delvm \"snapshot-1\"""#,
            r#""loadvm \"refused\"""#,
        ]
    );
}

/// However long QEMU takes, and whatever becomes of it.
#[test]
fn qemu_says_nothing_for_long() {
    let project = Project::new();
    project.fake_vm("saves-slowly,ms=2500");
    start(&project);
    if has_tool("script") {
        let save = "script -qec '\"$QQMGR\" snapshot save vm' /dev/null";
        let said = project.sh(save).run();
        assert_eq!(said.status, Some(0), "{}", said.stdout);
        for expected in ["saving snapshot `snapshot-1` of VM `vm` (", "saved: running\r\n"] {
            assert!(said.stdout.contains(expected), "{}", said.stdout);
        }
    }
    says(&project, &["save", "vm", "x"], "vm snapshot `x` saved: running\n");

    let project = Project::new();
    project.fake_vm("freezes-in-savevm");
    start(&project);
    fails(
        &project,
        &["save", "vm"],
        4,
        "qqmgr: error: VM `vm` does not answer: QEMU is frozen\nqqmgr: hint: a signal \
         stopped it; `kill -CONT [PID]` lets it go on\n",
    );
    let pid = project.pid("vm");
    signal(pid, "CONT");
    freeze(pid);
    let save = project.qqmgr(&["snapshot", "list", "vm"]).run();
    save.stderr("qqmgr: error: VM `vm` does not answer: QEMU is frozen\n[..]\n").code(4);
    signal(pid, "KILL");
    wait_until("QEMU is gone", A_WHILE, || !project.runs(pid));
}

/// QEMU is killed while it saves.
#[test]
fn qemu_dies_meanwhile() {
    let project = Project::new();
    project.fake_vm("saves-slowly,ms=600000");
    start(&project);
    let save = project.qqmgr(&["snapshot", "save", "vm"]).start();
    // Nothing is in it, and it need not be there, before QEMU is asked for the first time.
    let log = project.vm_path("vm", "fake.log");
    let is_asked = || fs::read_to_string(&log).is_ok_and(|log| log.contains("savevm"));
    wait_until("it saves", A_WHILE, is_asked);
    let pid = project.pid("vm");
    signal(pid, "KILL");
    save.end().stderr("qqmgr: error: VM `vm` has just ended\n").code(3);
}

/// The guest's memory, its disk and its ssh server are as before.
#[test]
fn the_real_guest_is_as_before() {
    let disk = "-drive file=data.qcow2,if=virtio,format=qcow2";
    let Some(config) = guest::config("", "'auto'", disk) else { return };
    if program("qemu-img").is_none() {
        return;
    }
    let project = Project::new();
    project.config(&config);
    image(&project, "data.qcow2", "qcow2");
    guest::start(&project);
    let guest = |script: &str, stdout: &str| {
        project.qqmgr(&["ssh", "vm", script]).run().stdout(stdout).success();
    };
    let write = |word: &str| {
        guest(&format!("echo {word} >/tmp/file; echo {word} | dd of=/dev/vda conv=fsync 2>&-"), "");
    };
    let holds = |word: &str| {
        let read = "cat /tmp/file; echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/vda";
        guest(read, &format!("{word}\n{word}\n"));
    };
    write("before");
    guest("sleep 1000 & echo $! >/tmp/pid", "");
    says(&project, &["save", "vm", "good"], "vm snapshot `good` saved: running\n");
    write("after");
    guest("kill $(cat /tmp/pid); rm /tmp/pid", "");
    holds("after");
    says(&project, &["load", "vm", "good"], "vm snapshot `good` loaded: running\n");
    holds("before");
    guest("cat /proc/$(cat /tmp/pid)/comm", "sleep\n");
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
}
