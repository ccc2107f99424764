//! Which process is a VM's, and that only proof counts as "not running". The cases are too few
//! files, another PID namespace, a record of another host or of a newer program, removed files, a
//! file system that became read-only, and a command that keeps the lock.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Project, free_port, has_tool, is_root, left_out, signal, wait_until};
use crate::real_qemu;

const NO_MACHINE: &str = "-nodefaults -machine none -display none";
const SOON: Duration = Duration::from_secs(20);
const FORCED: &str = "vm ended by SIGTERM in [SECONDS] s\n";
const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]\n";

/// A project whose VM `vm` runs in a real QEMU, and its pid.
fn running() -> Option<(Project, u32)> {
    let project = real_qemu::project(NO_MACHINE)?;
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let pid = project.pid("vm");
    Some((project, pid))
}

/// The files in the VM's directory and its record, which no command may change.
fn shown(project: &Project) -> (String, String) {
    (project.vm_files("vm"), project.vm_file("vm", "instance.json"))
}

/// Under every limit of open files, a command either succeeds or is an error.
#[test]
fn too_few_files_prove_nothing() {
    let Some((project, pid)) = running() else { return };
    let before = shown(&project);
    let limited = |files: u32, command: &str| {
        project.sh(&format!("ulimit -n {files}; exec \"$QQMGR\" {command}")).run()
    };
    let (mut failed, mut shows) = (0, 0);
    for files in 3..=16 {
        for command in ["status vm", "list", "start vm", "cmdline vm"] {
            let run = limited(files, command);
            let all = format!("ulimit -n {files}; {command}: {}{}", run.stdout, run.stderr);
            assert!(!all.contains("stopped") && !all.contains("not running"), "{all}");
            failed += u32::from(run.status != Some(0));
            shows += u32::from(run.stdout.contains(&pid.to_string()));
            assert!(project.runs(pid), "{all}");
            assert_eq!(shown(&project), before, "{all}");
        }
    }
    assert!(failed > 0 && shows > 0, "{failed} failed, {shows} did not");
    for files in 4..=16 {
        let run = limited(files, "stop vm --force");
        let all = format!("ulimit -n {files}: {}{}", run.stdout, run.stderr);
        if run.status == Some(0) {
            assert!(run.stdout.starts_with("vm ended by SIGTERM in "), "{all}");
            assert!(!project.runs(pid), "{all}");
            return;
        }
        assert!(run.stderr.contains("too many open files"), "{all}");
        assert!(!project.runs(pid) || shown(&project) == before, "{all}");
    }
    panic!("no stop was done");
}

/// With few files, fewer VMs are handled at the same time, and all are handled.
#[test]
fn few_files_are_enough_for_many_vms() {
    let project = Project::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    project.fake_vms(names.map(|name| (name, "normal")));
    let all = |command: &str| {
        let script = format!("ulimit -n 24; exec \"$QQMGR\" {command} --all");
        let run = project.sh(&script).run();
        assert_eq!(run.status, Some(0), "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.lines().count(), names.len());
    };
    all("start");
    all("stop");
}

/// `unshare` with a `/proc` of its own, which shows no process outside of it.
fn elsewhere<'p>(
    project: &'p Project,
    options: &str,
    command: &str,
) -> Option<crate::harness::Output<'p>> {
    if !has_tool("unshare") || !is_root() {
        return None;
    }
    let script = format!("exec unshare {options} \"$QQMGR\" {command}");
    Some(project.sh(&script).run())
}

const UNSEEN: &str = "qqmgr: error: the VM runs in a QEMU that cannot be seen from here\n\
                      qqmgr: hint: it is in another container: use qqmgr in there\n";

#[test]
fn a_vm_in_another_pid_namespace_is_left_alone() {
    let Some((project, pid)) = running() else { return };
    let before = shown(&project);
    for command in ["start vm", "stop vm", "stop vm --force", "restart vm", "ssh vm true"] {
        let run = elsewhere(&project, "-pf --mount-proc", command);
        let Some(run) = run else { return };
        let code = if command.starts_with("ssh") { 255 } else { 1 };
        run.stderr(UNSEEN).code(code);
        assert_eq!(shown(&project), before, "{command}");
        assert!(project.runs(pid));
    }
    let status = elsewhere(&project, "-pf --mount-proc", "status vm").unwrap();
    let said = &status.stdout;
    assert!(said.contains("state:      running\n") && !said.contains("pid: "), "{said}");
    assert!(said.contains("note:       it runs where its process cannot be seen"), "{said}");
    let list = elsewhere(&project, "-pf --mount-proc", "list").unwrap();
    let row: Vec<&str> = list.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["vm", "running", "-"]);
    elsewhere(&project, "-pf --mount-proc", "status -q vm").unwrap().success();
    // The same without a record.
    fs::remove_file(project.vm_path("vm", "instance.json")).unwrap();
    let run = elsewhere(&project, "-pf --mount-proc", "stop vm --force").unwrap();
    run.stderr(UNSEEN).code(1);
    assert!(project.vm_path("vm", "pid").exists());
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout(FORCED).success();
}

/// In the `/proc` of another namespace, the same pids belong to other processes.
#[test]
fn the_proc_of_another_pid_namespace_is_refused() {
    let Some((project, pid)) = running() else { return };
    for command in ["stop vm --force", "start vm", "status vm"] {
        let Some(run) = elsewhere(&project, "-pf", command) else { return };
        run.stderr(
            "qqmgr: error: cannot see which processes run: `/proc` is of another PID namespace\n\
             qqmgr: hint: mount one of this namespace on /proc (`unshare --mount-proc`)\n",
        )
        .code(1);
    }
    assert!(project.runs(pid));
}

/// Changes fields of the VM's record; the values are JSON.
fn edit(project: &Project, fields: &[(&str, &str)]) {
    let record = project.vm_file("vm", "instance.json");
    let lines = record.lines().map(|line| {
        let name = line.trim().split('"').nth(1).unwrap_or_default();
        match fields.iter().find(|(field, _)| *field == name) {
            Some((field, value)) => format!("  \"{field}\": {value},\n"),
            None => format!("{line}\n"),
        }
    });
    fs::write(project.vm_path("vm", "instance.json"), lines.collect::<String>()).unwrap();
}

/// Kills QEMU, and waits for its end: its first thread may be gone while others still hold the
/// socket.
fn kill(project: &Project, pid: u32) {
    signal(pid, "KILL");
    let ctl = project.vm_path("vm", "ctl.socket");
    wait_until("QEMU is gone", SOON, || !project.runs(pid) && UnixStream::connect(&ctl).is_err());
}

#[test]
fn a_vm_of_another_host_is_left_to_that_host() {
    let Some((project, pid)) = running() else { return };
    kill(&project, pid);
    edit(&project, &[("boot_id", "\"5a1b\""), ("host", "\"far-away\"")]);
    let before = shown(&project);
    for command in [&["start", "vm"][..], &["stop", "vm"], &["status", "vm"], &["restart", "vm"]] {
        let run = project.qqmgr(command).run();
        run.stderr(
            "qqmgr: error: the VM was started on the host `far-away`, and may run there\n\
             qqmgr: hint: stop it there; if it is gone, `qqmgr stop --force` clears its record\n",
        )
        .code(1);
        assert_eq!(shown(&project), before);
    }
    let list = project.qqmgr(&["list", "--json"]).run();
    assert!(list.stdout.contains("\"running\": null"), "{}", list.stdout);
    assert!(list.stdout.contains("\"state\": \"unknown\""), "{}", list.stdout);
    project
        .qqmgr(&["stop", "vm", "--force"])
        .run()
        .stdout("vm was not running\n")
        .stderr("qqmgr: clearing the record of a start on the host `far-away`\n")
        .success();
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    // After a reboot of the same host, its processes are gone.
    kill(&project, project.pid("vm"));
    edit(&project, &[("boot_id", "\"5a1b\"")]);
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout(FORCED).success();
}

/// Another process with the VM's pid has another start time.
#[test]
fn a_pid_that_was_given_away_is_not_signalled() {
    let Some((project, pid)) = running() else { return };
    kill(&project, pid);
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    edit(&project, &[("pid", &other.id().to_string())]);
    fs::write(project.vm_path("vm", "pid"), other.id().to_string()).unwrap();
    project.qqmgr(&["status", "-q", "vm"]).run().code(3);
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("vm was not running\n").success();
    assert!(other.try_wait().unwrap().is_none());
    other.kill().and_then(|()| other.wait()).unwrap();
}

#[test]
fn a_record_of_a_newer_program_is_an_error() {
    let Some((project, pid)) = running() else { return };
    let record = project.vm_file("vm", "instance.json");
    edit(&project, &[("format", "2")]);
    let before = shown(&project);
    for command in [&["start", "vm"][..], &["stop", "vm"], &["stop", "vm", "--force"]] {
        let run = project.qqmgr(command).run();
        run.stderr(
            "qqmgr: error: `[ROOT]/.qqmgr/vm.vm/instance.json` was written by a newer qqmgr than \
             this one\nqqmgr: hint: use the newer one here\n",
        )
        .code(1);
        assert_eq!(shown(&project), before);
    }
    assert!(project.runs(pid));
    fs::write(project.vm_path("vm", "instance.json"), record).unwrap();
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout(FORCED).success();
}

/// `git clean -fdx` or a script has removed the files of a running VM.
#[test]
fn a_vm_whose_files_were_removed_is_reported() {
    let Some((project, pid)) = running() else { return };
    fs::remove_dir_all(project.path(".qqmgr")).unwrap();
    let dir = project.vm_path("vm", "").display().to_string();
    let dir = dir.trim_end_matches('/');
    let lost = format!(
        "qqmgr: error: VM `vm` runs (pid {pid}), but its files in `{dir}` were removed\n\
         qqmgr: hint: `qqmgr stop vm` ends it, by SIGTERM\n"
    );
    for (command, code) in [
        (&["start", "vm"][..], 1),
        (&["ssh", "vm", "true"], 255),
        (&["wait", "vm", "--for", "ssh"], 1),
        (&["put", "vm", "qqmgr.toml", "x"], 1),
        (&["qmp", "vm", "query-status"], 1),
        (&["run", "vm", "--", "true"], 255),
    ] {
        let run = project.qqmgr(command).run();
        assert_eq!(run.stderr, lost, "{command:?}");
        run.stderr(&lost).code(code);
    }
    let status = project.qqmgr(&["status", "vm"]).run();
    assert!(status.stdout.contains("state:      unresponsive\n"), "{}", status.stdout);
    let note = "note:       its files were removed; `stop` ends it\n";
    assert!(status.stdout.contains(note), "{}", status.stdout);
    let list = project.qqmgr(&["list"]).run();
    assert!(list.stdout.contains(&format!("unresponsive  {pid:>8}")), "{}", list.stdout);
    project.qqmgr(&["stop", "vm"]).run().stdout(FORCED).success();
    assert!(!project.runs(pid));
}

/// Another user's process has a command line like root's QEMU that gave up its rights.
#[test]
fn a_process_of_another_user_is_nobodys_vm() {
    if !is_root() || !has_tool("setpriv") {
        return;
    }
    let project = Project::new();
    project.fake_vm("normal");
    fs::create_dir_all(project.vm_path("vm", "")).unwrap();
    let mut other = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "sh", "-c", "read line", "sh"])
        .args(["-runas", "x", "-pidfile"])
        .arg(project.vm_path("vm", "pid"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let is_other = || fs::metadata(format!("/proc/{}", other.id())).is_ok_and(|m| m.uid() == 65534);
    wait_until("it is another user's", SOON, is_other);
    fs::write(project.vm_path("vm", "pid"), other.id().to_string()).unwrap();
    project.qqmgr(&["status", "-q", "vm"]).run().code(3);
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("vm was not running\n").success();
    drop(other.stdin.take());
    other.wait().unwrap();
}

/// `errors=remount-ro` of ext4 does this; here, a mount over the project does.
#[test]
fn a_vm_is_stopped_on_a_file_system_that_became_read_only() {
    if !is_root() || !has_tool("unshare") {
        return;
    }
    for command in ["stop vm", "stop vm --force", "stop --unused --at-eof --force vm"] {
        let Some((project, pid)) = running() else { return };
        let on_demand = [("on_demand", "true")];
        if command.contains("--unused") {
            edit(&project, &on_demand);
            let record = project.vm_file("vm", "instance.json");
            // The last field has no comma.
            let record = record.replace("\"on_demand\": true,", "\"on_demand\": true");
            fs::write(project.vm_path("vm", "instance.json"), record).unwrap();
        }
        let script = format!(
            "mount --bind . . && mount -o remount,ro,bind . . && cd \"$PWD\" || exit 77\n\
             exec \"$QQMGR\" {command} --timeout 0.1"
        );
        let run = project.sh(&format!("exec unshare -m sh -c '{script}'")).run();
        if run.status == Some(77) {
            left_out("no mount");
            return;
        }
        assert!(!project.runs(pid), "{command}: {}", run.stderr);
        let is_reported = run.stderr.contains("vm ended by SIGTERM in ")
            && run.stderr.contains(": cannot remove `")
            && run.stderr.contains("read-only file system");
        assert!(is_reported, "{command}: {}", run.stderr);
        assert_eq!(run.status, Some(1), "{command}");
    }
}

#[test]
fn a_start_in_a_project_that_became_read_only_is_told_of_another_directory() {
    if !is_root() || !has_tool("unshare") {
        return;
    }
    let Some((project, _)) = running() else { return };
    assert_eq!(project.qqmgr(&["stop", "vm", "--force"]).run().status, Some(0));
    for removes_lock in [false, true] {
        if removes_lock {
            fs::remove_file(project.vm_path("vm", "lock")).unwrap();
        }
        let script = "mount --bind . . && mount -o remount,ro,bind . . && cd \"$PWD\" || exit 77\n\
                      exec \"$QQMGR\" start vm";
        let run = project.sh(&format!("exec unshare -m sh -c '{script}'")).run();
        if run.status == Some(77) {
            left_out("no mount");
            return;
        }
        let hint = "hint: QQMGR_RUNTIME_DIR names another directory";
        assert!(run.stderr.contains(hint), "{}", run.stderr);
        assert_eq!(run.status, Some(1), "{}", run.stderr);
    }
}

/// The lock of the VM, taken by this process.
fn lock(project: &Project) -> fs::File {
    let path = project.vm_path("vm", "lock");
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.lock().unwrap();
    file
}

/// The holder of the lock never gives it back, like a frozen process.
#[test]
fn force_does_its_work_under_a_command_that_hangs() {
    let Some((project, pid)) = running() else { return };
    fs::write(project.vm_path("vm", "lock"), "`start` (pid 1)\n").unwrap();
    let lock = lock(&project);
    project
        .qqmgr(&["stop", "vm", "--force"])
        .run()
        .stdout(FORCED)
        .stderr(
            "qqmgr: waiting for `start` (pid 1) of VM `vm` to finish\n\
             qqmgr: waiting for `start` (pid 1) of VM `vm` to finish\n\
             qqmgr: `start` (pid 1) still has the VM's lock; its files stay\n",
        )
        .success();
    assert!(!project.runs(pid));
    drop(lock);
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
}

/// Another command, such as a long `snapshot save`, keeps the lock when a `run` is killed.
#[test]
fn a_guard_does_not_give_up() {
    let Some((project, pid)) = running() else { return };
    fs::write(project.vm_path("vm", "lock"), "`snapshot` (pid 1)\n").unwrap();
    let record = project.vm_file("vm", "instance.json");
    let record = record.replace("\"on_demand\": false", "\"on_demand\": true");
    fs::write(project.vm_path("vm", "instance.json"), record).unwrap();
    let lock = lock(&project);
    let guard = project.qqmgr(&["stop", "--unused", "--at-eof", "--force", "vm"]).start();
    let gave_up = "`snapshot` (pid 1) of VM `vm` did not finish in time\n";
    wait_until("it was told twice that it cannot", SOON, || {
        guard.said().matches(gave_up).count() >= 2
    });
    assert!(project.runs(pid));
    drop(lock);
    let ended = guard.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(!project.runs(pid));
}

/// Another user has made the directory of short links, before the start or after it.
#[test]
fn a_squatted_short_directory_does_no_harm() {
    const USER: u32 = 54_321;
    if !is_root() || !has_tool("setpriv") {
        return;
    }
    let project = Project::new();
    let deep = project.path("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let qemu = crate::harness::fake_qemu();
    fs::copy(&qemu, project.path("qemu")).unwrap();
    fs::write(
        deep.join("qqmgr.toml"),
        format!(
            "[qemu]\nbin = {:?}\n[vm.vm]\ncmd = \"-name fake=normal\"\nssh.port = {}\n",
            project.path("qemu"),
            free_port()
        ),
    )
    .unwrap();
    let copied =
        Command::new("cp").arg(env!("CARGO_BIN_EXE_qqmgr")).arg(project.path("q")).status();
    assert!(copied.unwrap().success());
    let chown =
        Command::new("chown").args(["-R", &USER.to_string()]).arg(project.path("")).status();
    assert!(chown.unwrap().success());
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let usual = format!("/tmp/qqmgr-{USER}");
    let _ = fs::remove_dir_all(&usual);
    fs::create_dir(&usual).unwrap();
    let user = |script: &str| {
        let words = "setpriv --reuid 54321 --clear-groups env -u XDG_RUNTIME_DIR";
        let q = project.path("q").display().to_string();
        project.sh(&format!("cd {} && {words} {q} {script}", deep.display())).run()
    };
    user("start vm").stdout(STARTED).success();
    user("stop vm").stdout("vm powered off in [SECONDS] s\n").success();
    // The directory existed at the start, and belongs to another user since.
    fs::remove_dir(&usual).unwrap();
    user("start vm").stdout(STARTED).success();
    fs::remove_dir_all(&usual).unwrap();
    fs::create_dir(&usual).unwrap();
    user("stop vm").stdout("vm powered off in [SECONDS] s\n").success();
    fs::remove_dir_all(&usual).unwrap();
    let names = fs::read_dir("/tmp").unwrap().flatten();
    for entry in names.filter(|e| e.file_name().to_string_lossy().starts_with("qqmgr-54321.")) {
        fs::remove_dir_all(entry.path()).unwrap();
    }
}
