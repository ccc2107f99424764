//! A `run` is killed, and its project is removed at once, as by a script whose trap does both. No
//! VM is left, and nothing is made again where the project was.
//!
//! The guest of the real QEMU does not run, or is a boot sector that powers off when it is asked;
//! an sshd on this host stands for the guest's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Project, Running, free_port, real_qemu, wait_until};
use crate::real_qemu::{BUTTON, NO_MACHINE, OFF, PC, WAITS, image};
use crate::run::{nothing_is_left, signal_group};
use crate::surroundings::Sshd;

const SOON: Duration = Duration::from_secs(20);
/// A guest that does not run, and is ended without being asked.
const HELD: &str = "-nodefaults -machine none -display none -S";

/// A job that says `on`. This host's sshd lets it live until the project is gone. It waits for a
/// guest that is held.
fn job<'p>(project: &'p Project, dir: &Path) -> Running<'p> {
    let root = project.path("").display().to_string();
    let line = format!("echo on; while [ -d {root} ]; do sleep 0.1; done");
    let run = project.group(&["run", "vm", "--wait=60", "--", &line]).cwd(dir);
    run.env("XDG_RUNTIME_DIR", project.path("home")).start()
}

/// The directory of a script, `job` in the project. At a port without a server, `run` waits.
fn job_dir(project: &Project, name: &str, qemu: &str, port: u16, machine: &str) -> PathBuf {
    let root = project.path("").display().to_string();
    project.write(format!("{name}/guest.img"), image(&[BUTTON, WAITS, OFF]));
    project.write(
        format!("{name}/qqmgr.toml"),
        format!(
            "[qemu]\nbin = {qemu:?}\n[ssh]\nHostName = \"localhost\"\n\
             IdentityFile = \"{root}/user_key\"\nIdentitiesOnly = true\n\
             UserKnownHostsFile = \"/dev/null\"\nStrictHostKeyChecking = false\n\
             ControlMaster = false\n[vm.vm]\ncmd = \"{machine}\"\nssh.port = {port}\n"
        ),
    );
    project.path(name)
}

/// Kills the job and its ssh, as Ctrl-C does, and removes the directory.
#[track_caller]
fn is_killed(job: Running, name: &str, dir: &PathBuf, project: &Project) {
    signal_group(job.pid, name);
    // QEMU may make files there meanwhile.
    wait_until("the directory is removed", SOON, || {
        let _ = fs::remove_dir_all(dir);
        !dir.exists()
    });
    let _ = job.end();
    nothing_is_left(project);
    assert!(!dir.exists(), "{:?}", project.files(""));
}

/// The moments are from before there is a QEMU until `run` waits for ssh.
#[test]
fn at_any_moment_of_the_start() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let points = 30;
    // How long the start takes, measured by the first one.
    let mut whole = Duration::ZERO;
    for point in 0..=points {
        // A deep directory has a short link elsewhere.
        let name = format!("job/{}", ["a", &"deep".repeat(30)][point as usize % 2]);
        let dir = job_dir(&project, &name, qemu, free_port(), HELD);
        let begin = Instant::now();
        let job = job(&project, &dir);
        let pid = dir.join(".qqmgr/vm.vm/pid");
        wait_until("it is time", SOON, || {
            if point == 0 { pid.exists() } else { begin.elapsed() >= whole * point / points }
        });
        whole = whole.max(begin.elapsed()).min(Duration::from_secs(1));
        is_killed(job, ["KILL", "TERM", "INT"][point as usize % 3], &dir, &project);
        assert_eq!(project.files("home/qqmgr"), Vec::<String>::new());
    }
}

#[test]
fn while_it_waits_and_while_the_command_runs() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    for name in ["INT", "TERM", "KILL"] {
        let dir = job_dir(&project, "job", qemu, free_port(), HELD);
        let job = job(&project, &dir);
        let record = dir.join(".qqmgr/vm.vm/instance.json");
        wait_until("QEMU answers", SOON, || {
            fs::read_to_string(&record).is_ok_and(|text| text.contains("\"ready\": true"))
        });
        is_killed(job, name, &dir, &project);

        let dir = job_dir(&project, "job", qemu, sshd.port, PC);
        let job = self::job(&project, &dir);
        job.says("on\n");
        is_killed(job, name, &dir, &project);
    }
}

/// No process is killed here.
#[test]
fn a_directory_that_is_lost_under_the_command() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    let dir = job_dir(&project, "job", qemu, sshd.port, NO_MACHINE);
    let line = format!("rm -r {}; echo off", dir.display());
    let job = project.qqmgr(&["run", "vm", "--", &line]).cwd(&dir).run();
    job.stdout("off\n").success();
    nothing_is_left(&project);
    assert!(!dir.exists());
}

/// A VM that ran before the job is not the job's to stop.
#[test]
fn a_vm_that_stays_is_not_stopped() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    let dir = job_dir(&project, "job", qemu, sshd.port, NO_MACHINE);
    let started = project.qqmgr(&["start", "vm"]).cwd(&dir).run();
    started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
    let pid: u32 =
        fs::read_to_string(dir.join(".qqmgr/vm.vm/pid")).unwrap().trim().parse().unwrap();
    let job = job(&project, &dir);
    job.says("on\n");
    signal_group(job.pid, "KILL");
    fs::remove_dir_all(&dir).unwrap();
    let _ = job.end();
    assert!(project.runs(pid));
    // Its directory and configuration are made again, and the VM is found.
    job_dir(&project, "job", qemu, sshd.port, NO_MACHINE);
    let stopped = project.qqmgr(&["stop", "vm"]).cwd(&dir).run();
    stopped.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    nothing_is_left(&project);
}

/// A script can use the commands that `run` relies on.
#[test]
fn stop_at_the_end_of_input() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let dir = job_dir(&project, "job", qemu, free_port(), HELD);
    let start = project.qqmgr(&["start", "vm"]).cwd(&dir).run();
    let note = crate::real_qemu::HELD;
    start.stdout("vm started: prelaunch, pid [PID], ssh port [PORT]\n").stderr(note).success();
    let waiting = "qqmgr: waiting for the end of standard input\n";
    let unused = project.qqmgr(&["stop", "--unused", "--at-eof", "vm"]).cwd(&dir).stdin("x\n");
    unused.run().stderr(waiting).stdout("vm is left running\n").success();
    let stops = project.sh(
        "{ \"$QQMGR\" list --running -q; } | { \"$QQMGR\" stop --at-eof vm && \"$QQMGR\" list; }",
    );
    stops
        .cwd(&dir)
        .run()
        .stderr(waiting)
        .stdout("vm ended by SIGTERM in [SECONDS] s\nNAME  [..]\nvm    stopped  [..]\n")
        .success();
    nothing_is_left(&project);
}
