//! VMs and images of version 0.1 are found, shown, stopped and used. `tests/fixtures/0.1` has one
//! directory of each kind, as commit 4697bc7 wrote it in `[ROOT]`, with `[PID]` and `[PORT]` for
//! values that differ from one start to the next.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{Project, free_port, has_tool, real_qemu, wait_until};

const SOON: Duration = Duration::from_secs(20);
const CONFIG: &str = "[img.disk]\nsize = \"1M\"\n\
    [vm.vm]\ncmd = \"-nodefaults -machine none -display none\"\nssh.port = [PORT]\n\
    [vm.disk]\ncmd = \"-nodefaults -machine none -display none \
    -drive if=none,file={{.img.disk}},format=qcow2\"\nssh.port = [PORT2]\n";

/// Ends the process at the end of a test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Old {
    project: Project,
    port: u16,
}

impl Old {
    fn new() -> Self {
        let (project, port) = (Project::new(), free_port());
        let config = CONFIG.replace("[PORT2]", &free_port().to_string());
        project.config(&config.replace("[PORT]", &port.to_string()));
        Self { project, port }
    }

    /// A file of the old program for this project.
    fn text(&self, file: &str, pid: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1").join(file);
        let text = fs::read_to_string(path).unwrap();
        let root = self.project.path("").display().to_string();
        text.replace("[ROOT]", &root)
            .replace("[PORT]", &self.port.to_string())
            .replace("[PID]", pid)
    }

    /// Runs QEMU as the old program did, by its record of this kind, with the files that it left.
    /// The record has the pid that `pid` makes from QEMU's.
    fn start(&self, kind: &str, pid: impl Fn(u32) -> String) -> Ended {
        let project = &self.project;
        let dir = project.vm_path("vm", "");
        fs::create_dir_all(&dir).unwrap();
        for file in ["ssh.conf", "events.in"] {
            fs::write(dir.join(file), self.text(&format!("{kind}/{file}"), "")).unwrap();
        }
        fs::write(dir.join("events.out"), "").unwrap();
        fs::write(dir.join("lock"), "`start` (pid 1)\n").unwrap();
        let record = self.text(&format!("{kind}/instance.json"), "1");
        let (_, argv) = record.split_once("\"argv\": [").unwrap();
        let (argv, _) = argv.split_once(']').unwrap();
        let words: Vec<&str> = argv.split('"').skip(1).step_by(2).collect();
        let log = File::create(dir.join("qemu.log")).unwrap();
        let mut qemu = Command::new(words[0]);
        qemu.args(&words[1..]).current_dir(project.path("")).stdin(Stdio::null());
        let qemu = qemu.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let id = qemu.id();
        let ended = Ended(qemu);
        wait_until("QEMU answers", SOON, || {
            let log = fs::read_to_string(dir.join("events.out")).unwrap_or_default();
            log.contains("return") && dir.join("pid").exists()
        });
        let record = self.text(&format!("{kind}/instance.json"), &pid(id));
        fs::write(dir.join("instance.json"), record).unwrap();
        ended
    }
}

#[test]
fn a_vm_of_the_old_program_is_managed() {
    if real_qemu().is_none() {
        return;
    }
    for how in ["stop", "restart"] {
        let old = Old::new();
        let _qemu = old.start("vm", |pid| pid.to_string());
        let (project, port) = (&old.project, old.port);
        let pid = project.pid("vm");
        let list = project.qqmgr(&["list"]).run();
        let row = format!("vm    running       {pid:>8}  {port:>8}\n");
        assert!(list.stdout.contains(&row), "{}", list.stdout);
        let status = project.qqmgr(&["status", "vm"]).run();
        let shown = format!("state:      running\npid:        {pid}\n");
        assert!(status.stdout.contains(&shown), "{}", status.stdout);
        assert!(!status.stdout.contains("note:"), "{}", status.stdout);
        project
            .qqmgr(&["start", "vm"])
            .run()
            .stdout(format!("vm is already running: running, pid {pid}, ssh port {port}\n"))
            .success();
        let schema = project.qqmgr(&["qmp", "vm", "query-name"]).run();
        assert_eq!(schema.status, Some(0), "{}", schema.stderr);
        let done = project.qqmgr(&[how, "vm", "--force"]).run();
        assert!(done.stdout.starts_with("vm ended by SIGTERM in "), "{}", done.stderr);
        wait_until("the old QEMU is gone", SOON, || !project.runs(pid));
        if how == "restart" {
            assert!(project.vm_file("vm", "instance.json").contains("\"format\": 1"));
            project
                .qqmgr(&["stop", "vm", "--force"])
                .run()
                .stdout("vm ended by SIGTERM in [SECONDS] s\n")
                .success();
        }
    }
}

/// The old `start` was killed, or is at work: it recorded the pid only after QEMU had answered.
#[test]
fn a_vm_that_the_old_program_began_is_found() {
    if real_qemu().is_none() {
        return;
    }
    let old = Old::new();
    let _qemu = old.start("vm", |_| "null".into());
    let project = &old.project;
    let pid = project.pid("vm");
    let status = project.qqmgr(&["status", "vm"]).run();
    assert!(status.stdout.contains(&format!("pid:        {pid}\n")), "{}", status.stdout);
    let again = format!("vm is already running: running, pid {pid}, ssh port [PORT]\n");
    project.qqmgr(&["start", "vm"]).run().stdout(again).success();
    // From here on, the record is the new program's.
    let record = project.vm_file("vm", "instance.json");
    assert!(record.contains("\"ready\": true") && record.contains("\"start\": \""), "{record}");
    project
        .qqmgr(&["stop", "vm", "--force"])
        .run()
        .stdout("vm ended by SIGTERM in [SECONDS] s\n")
        .success();
    wait_until("QEMU is gone", SOON, || !project.runs(pid));
}

/// The files that the old program left when the machine crashed do not count as a VM.
#[test]
fn a_stale_record_of_the_old_program_is_cleaned_up() {
    let old = Old::new();
    let project = &old.project;
    let record = old.text("vm/instance.json", &std::process::id().to_string());
    project.write(".qqmgr/vm.vm/instance.json", record);
    project.write(".qqmgr/vm.vm/pid", std::process::id().to_string());
    project.qqmgr(&["status", "-q", "vm"]).run().code(3);
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
    assert_eq!(project.vm_files("vm"), "lock");
}

/// A `run` of the old program was killed with its guard, or is still at work and has `users`
/// locked.
#[test]
fn a_run_of_the_old_program_is_stopped_when_nobody_uses_it() {
    if real_qemu().is_none() {
        return;
    }
    let old = Old::new();
    let _qemu = old.start("run", |pid| pid.to_string());
    let project = &old.project;
    let pid = project.pid("vm");
    let users = File::create(project.vm_path("vm", "users")).unwrap();
    users.lock_shared().unwrap();
    let unused = || project.qqmgr(&["stop", "vm", "--unused", "--force"]).run();
    unused().stdout("vm is left running\n").success();
    assert!(project.runs(pid));
    drop(users);
    unused().stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    wait_until("QEMU is gone", SOON, || !project.runs(pid));
}

/// The disk was made by the old `img build`, and has a snapshot of a VM that ran and one of a VM
/// that did not.
#[test]
fn an_image_and_its_snapshots_are_used() {
    if real_qemu().is_none() || !has_tool("gzip") || !has_tool("qemu-img") {
        return;
    }
    let old = Old::new();
    let project = &old.project;
    project.write(".qqmgr/img.disk/image.json", old.text("img/image.json", ""));
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1/img/disk.qcow2.gz");
    let disk = Command::new("gzip").arg("-dc").arg(fixture).output().unwrap();
    project.write(".qqmgr/img.disk/disk.qcow2", disk.stdout);
    let list = project.qqmgr(&["img", "list", "--json"]).run();
    assert!(list.stdout.contains("\"state\": \"built\""), "{}{}", list.stdout, list.stderr);
    let snapshots = project.qqmgr(&["snapshot", "list", "disk", "-q"]).run();
    snapshots.stdout("first\nsecond\n").success();
    project
        .qqmgr(&["snapshot", "load", "disk", "second"])
        .run()
        .stdout("disk snapshot `second` loaded, the disks alone: stopped\n")
        .success();
    let started = project.qqmgr(&["start", "disk"]).run();
    started.stdout("disk started: running, pid [PID], ssh port [PORT]\n").success();
    let loaded = project.qqmgr(&["snapshot", "load", "disk", "first"]).run();
    loaded.stdout("disk snapshot `first` loaded: running\n").success();
    let saved = project.qqmgr(&["snapshot", "save", "disk", "third"]).run();
    saved.stdout("disk snapshot `third` saved: running\n").success();
    project
        .qqmgr(&["stop", "disk", "--force"])
        .run()
        .stdout("disk ended by SIGTERM in [SECONDS] s\n")
        .success();
}

#[test]
fn an_image_of_a_newer_program_is_an_error() {
    if real_qemu().is_none() {
        return;
    }
    let old = Old::new();
    let project = &old.project;
    let record = old.text("img/image.json", "").replacen('{', "{\n  \"format\": 2,", 1);
    project.write(".qqmgr/img.disk/image.json", record);
    project.write(".qqmgr/img.disk/disk.qcow2", "a newer kind of disk");
    for command in [&["start", "disk"][..], &["img", "reset", "disk"]] {
        let run = project.qqmgr(command).run();
        run.stderr(
            "qqmgr: error: `[ROOT]/.qqmgr/img.disk/image.json` was written by a newer qqmgr than \
             this one\nqqmgr: hint: use the newer one here\n",
        )
        .code(1);
    }
    assert!(project.path(".qqmgr/img.disk/disk.qcow2").exists());
}
