//! Hosts that lack something: no `/proc`, BusyBox's `ps`, dropbear's `ssh`, or one of
//! the programs that are run. Each has a `PATH` of its own, and a variable that only tests use
//! says that there is no `/proc`. A whole root of that kind is in `root.rs`.

use crate::harness::{Project, Run, has_tool, program, signal, wait_until};
use crate::real_qemu::{self, NO_MACHINE};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const NO_PROC: &str = "qqmgr: error: cannot see which processes run: there is no `/proc`, and ";

/// Makes a `bin` in the project that has just these programs, by name, each as the program of
/// another name; gives its path.
#[track_caller]
fn bin(project: &Project, programs: &[(&str, &str)]) -> Option<String> {
    let dir = project.path("bin");
    fs::create_dir(&dir).unwrap();
    for (name, of) in programs {
        symlink(program(of)?, dir.join(name)).unwrap();
    }
    Some(dir.display().to_string())
}

/// `qqmgr` where there is no `/proc`.
fn without_proc<'p>(project: &'p Project, arguments: &[&str]) -> Run<'p> {
    project.qqmgr(arguments).env("QQMGR_TEST_PROC", "/nonexistent")
}

/// A life cycle on a real QEMU without `/proc`, with `ps` from this `PATH`.
#[track_caller]
fn lives_without_proc(project: &Project, path: &str) {
    let qqmgr = |arguments: &[&str]| without_proc(project, arguments).env("PATH", path).run();
    let started = qqmgr(&["start", "vm"]);
    started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
    let pid = project.pid("vm");
    let again = qqmgr(&["start", "vm"]);
    again.stdout("vm is already running: running, pid [PID], ssh port [PORT]\n").success();
    qqmgr(&["status", "-q", "vm"]).success();
    let status = qqmgr(&["status", "vm"]);
    assert!(status.stdout.contains(&format!("\npid:        {pid}\nuptime:")), "{}", status.stdout);
    let list = qqmgr(&["list", "--running", "-q"]);
    list.stdout("vm\n").success();

    // It has no power button.
    let stopped = qqmgr(&["stop", "vm", "--timeout", "0.1"]);
    stopped.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    assert!(!project.runs(pid));

    // A stale pid file that names somebody else's process, this one.
    let own = std::process::id();
    fs::write(project.vm_path("vm", "pid"), format!("{own}\n")).unwrap();
    qqmgr(&["status", "-q", "vm"]).code(3);
    qqmgr(&["stop", "vm"]).stdout("vm was not running\n").success();
    qqmgr(&["start", "vm"]).stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
    signal(project.pid("vm"), "KILL");
    qqmgr(&["wait", "vm", "--for", "stopped", "--timeout", "20"])
        .stdout(
            "vm is stopped: QEMU gave no reason: killed, crashed, or a debug exit of the guest\n",
        )
        .success();
    qqmgr(&["status", "-q", "vm"]).code(3);
}

#[test]
fn a_vm_lives_where_there_is_no_proc() {
    if !has_tool("ps") {
        return;
    }
    let Some(project) = real_qemu::project(NO_MACHINE) else { return };
    lives_without_proc(&project, &std::env::var("PATH").unwrap());
}

#[test]
fn a_vm_lives_where_there_is_no_proc_and_ps_is_busybox() {
    if !has_tool("busybox") {
        return;
    }
    let Some(project) = real_qemu::project(NO_MACHINE) else { return };
    let programs = ["ps", "sh", "id"].map(|name| (name, "busybox"));
    let qemu = [("qemu-system-x86_64", "qemu-system-x86_64")];
    let Some(path) = bin(&project, &[&programs[..], &qemu].concat()) else { return };
    lives_without_proc(&project, &path);
}

/// Its `start` was killed before it could write down the pid, and QEMU's pid file is gone.
#[test]
fn a_vm_without_a_record_of_its_pid_is_found_without_proc() {
    if !has_tool("ps") {
        return;
    }
    let Some(project) = real_qemu::project(NO_MACHINE) else { return };
    project.qqmgr(&["start", "vm"]).run().stdout("[..]\n").success();
    let pid = project.pid("vm");
    let record = project.vm_file("vm", "instance.json");
    let record = record.replace(&format!("\"pid\": {pid}"), "\"pid\": null");
    fs::write(project.vm_path("vm", "instance.json"), record).unwrap();
    fs::remove_file(project.vm_path("vm", "pid")).unwrap();
    let list = without_proc(&project, &["list"]).run();
    assert!(list.stdout.contains(&format!(" {pid} ")), "{}", list.stdout);
    let stopped = without_proc(&project, &["stop", "vm", "--force"]).run();
    stopped.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    assert!(!project.runs(pid));
}

/// As on Linux itself, whose `ps` has nothing to show then.
#[test]
fn nothing_is_said_of_processes_that_cannot_be_seen() {
    let project = Project::new();
    project.fake_vm("normal");
    let Some(path) = bin(&project, &[("ps", "true"), ("id", "id"), ("sh", "sh")]) else { return };
    let why = format!(
        "{NO_PROC}`ps` does not show them\n\
         qqmgr: hint: mount /proc, without which that of Linux shows nothing\n"
    );
    for arguments in [
        &["start", "vm"][..],
        &["stop", "vm"],
        &["status", "vm"],
        &["list"],
        &["ssh", "vm"],
        &["wait", "vm", "--for", "stopped"],
    ] {
        let code = if arguments[0] == "ssh" { 255 } else { 1 };
        let run = without_proc(&project, arguments).env("PATH", &path).run();
        run.stderr(&why).code(code);
    }
    fs::remove_file(project.path("bin/ps")).unwrap();
    let run = without_proc(&project, &["start", "vm"]).env("PATH", &path).run();
    run.stderr(format!(
        "{NO_PROC}no `ps`\nqqmgr: hint: mount /proc, or install ps (Debian: procps)\n"
    ))
    .code(1);
    // What needs no processes.
    let check = without_proc(&project, &["check"]).env("PATH", &path).run();
    assert_eq!(check.status, Some(0), "{}", check.stderr);
    without_proc(&project, &["list", "-q"]).env("PATH", &path).run().stdout("vm\n").success();
    assert_eq!(project.files(".qqmgr"), Vec::<String>::new());
}

/// The error names the program, and what to install.
#[track_caller]
fn misses(run: Run, program: &str, package: &str, code: i32) {
    run.run()
        .stderr(format!(
            "qqmgr: error: cannot run `{program}`: no such file or directory\n\
             qqmgr: hint: install it (Debian: {package})\n"
        ))
        .code(code);
}

#[test]
fn a_program_that_is_missing_is_named() {
    let project = Project::new();
    project.fake_vm("ignores-powerdown");
    let Some(path) = bin(&project, &[("ps", "ps")]) else { return };
    let qqmgr = |arguments: &[&str]| project.qqmgr(arguments).env("PATH", &path);
    misses(without_proc(&project, &["start", "vm"]).env("PATH", &path), "id", "coreutils", 1);
    let started = qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
    misses(qqmgr(&["ssh", "vm", "true"]), "ssh", "openssh-client", 255);
    misses(qqmgr(&["put", "vm", "qqmgr.toml", "x"]), "ssh", "openssh-client", 1);
    misses(qqmgr(&["run", "vm", "--", "true"]), "sh", "dash", 255);
    misses(qqmgr(&["stop", "vm", "--force"]), "sh", "dash", 1);
    // The guest takes sftp, and then files as a tar stream.
    fs::write(project.vm_path("vm", "copy-method"), "sftp").unwrap();
    misses(qqmgr(&["get", "vm", "x", "."]), "ssh", "openssh-client", 1);
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&format!("{config}ssh.ControlPath = \"none\"\n"));
    misses(qqmgr(&["put", "vm", "qqmgr.toml", "x"]), "scp", "openssh-client", 1);
    fs::write(project.vm_path("vm", "copy-method"), "tar").unwrap();
    misses(qqmgr(&["put", "vm", "qqmgr.toml", "x"]), "tar", "tar", 1);
    let stopped = project.qqmgr(&["stop", "vm", "--force"]).run();
    stopped.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
}

#[test]
fn the_ssh_of_dropbear_is_refused() {
    let project = Project::new();
    project.fake_vm("normal");
    let Some(path) = bin(&project, &[("sh", "sh")]) else { return };
    project.write("bin/dbclient", "");
    symlink("dbclient", project.path("bin/ssh")).unwrap();
    let qqmgr = |arguments: &[&str]| project.qqmgr(arguments).env("PATH", &path);
    qqmgr(&["start", "vm"]).run().stdout("[..]\n").success();
    for (arguments, code) in [(&["ssh", "vm", "true"][..], 255), (&["put", "vm", "x", "y"], 1)] {
        let refused = qqmgr(arguments).run();
        refused
            .stderr(
                "qqmgr: error: `ssh` is dropbear's client here, which reads no configuration file\n\
                 qqmgr: hint: install that of OpenSSH (Debian: openssh-client)\n",
            )
            .code(code);
    }
    qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
}

/// A QEMU that is gone is gone at once, and not for as long as an answer of `ps` is kept.
#[test]
fn the_end_of_a_vm_is_seen_without_proc() {
    if !has_tool("ps") {
        return;
    }
    let Some(project) = real_qemu::project(NO_MACHINE) else { return };
    project.qqmgr(&["start", "vm"]).run().stdout("[..]\n").success();
    let waiting = without_proc(&project, &["wait", "vm", "--for", "stopped"]).start();
    let pid = project.pid("vm");
    signal(pid, "TERM");
    wait_until("QEMU is gone", SOON, || !project.runs(pid));
    waiting.end().stdout("vm is stopped: QEMU was ended by a signal\n").success();
}
