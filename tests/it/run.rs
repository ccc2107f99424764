//! `run`: the streams and the status of the command, the end of the VM whatever happens, and
//! several `run` on one VM.
//!
//! Most tests have a fake QEMU, and an sshd on this host stands for the guest: it boots and powers
//! off in a moment. The other tests have the real guest.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::guest;
use crate::harness::{
    Project, Running, fake_qemu, free_port, has_tool, poll, real_qemu, signal, wait_until,
};
use crate::surroundings::Sshd;

const SOON: Duration = Duration::from_secs(20);
/// A guest that boots is given 20 s to power off before QEMU gets SIGTERM.
const STOP_WAIT: Duration = Duration::from_secs(60);
const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]\n";
const POWERED_OFF: &str = "vm powered off in [SECONDS] s\n";
const STOPPED: &str = "events.out lock qemu.log serial";

/// A project whose VM `vm` is a fake, with the test's own sshd for a guest.
#[track_caller]
pub(crate) fn fake(scenario: &str) -> Option<(Project, Sshd)> {
    let project = Project::new();
    let sshd = Sshd::new(&project)?;
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n[ssh]\nHostName = \"localhost\"\nIdentityFile = \"user_key\"\n\
         IdentitiesOnly = true\nUserKnownHostsFile = \"/dev/null\"\n\
         StrictHostKeyChecking = false\n\
         [vm.vm]\ncmd = \"-name fake={scenario}\"\nssh.port = {}\n",
        fake_qemu().display(),
        sshd.port
    ));
    Some((project, sshd))
}

/// The command lines of all processes of this project, except its sshd.
fn processes(project: &Project) -> Vec<String> {
    let root = format!("{}/", project.path("").display());
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let lines = pids.filter_map(|pid| fs::read(pid.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&root) && !line.contains("sshd"))
        .collect()
}

/// Checks that no QEMU, no ssh and no qqmgr is left.
#[track_caller]
pub(crate) fn nothing_is_left(project: &Project) {
    let mut left = Vec::new();
    let is_nothing = || {
        left = processes(project);
        left.is_empty()
    };
    assert!(poll(STOP_WAIT, is_nothing), "still there: {left:#?}");
}

#[track_caller]
fn stopped(project: &Project) {
    nothing_is_left(project);
    assert_eq!(project.vm_files("vm"), STOPPED);
}

/// A job that prints `on`, goes on until [`Job::end`], and then prints `off`.
struct Job<'p> {
    running: Running<'p>,
    project: &'p Project,
    name: &'static str,
}

impl<'p> Job<'p> {
    #[track_caller]
    fn new(project: &'p Project, name: &'static str, flags: &[&str]) -> Self {
        let root = project.path("").display().to_string();
        let until = format!("while [ -d {root}/home ] && [ ! -e {root}/{name} ]");
        let line = format!("echo on; {until}; do sleep 0.02; done; echo off");
        let running = project.group(&[&["run"], flags, &["vm", "--", &line]].concat()).start();
        running.says("on\n");
        Self { running, project, name }
    }

    #[track_caller]
    fn end(self) {
        self.release();
        self.running.end().stdout("on\noff\n").success();
    }

    fn release(&self) {
        self.project.write(self.name, "");
    }

    /// Checks a job whose VM has ended and runs again. It may have to wait for the stopping
    /// command.
    #[track_caller]
    fn loses_its_vm(self) {
        self.release();
        let output = self.running.end();
        let said = output.stderr.lines().skip_while(|line| is_of_a_wait(line));
        let said = said.collect::<Vec<_>>().join("\n").replace(": the guest powered off;", ";");
        // The job may notice the end only after the next start, which has a new log and output.
        let ended = "qqmgr: error: QEMU exited with status 0 while the command ran";
        let anew = format!("{ended}, and its VM was started again");
        let serial = self.project.vm_path("vm", "serial");
        let own = format!(
            "{ended}; the end of its serial output:\nfake boot\nqqmgr: hint: its serial output is `{}`",
            serial.display()
        );
        assert!(said == own || said == anew, "{said}");
        assert_eq!((output.stdout.as_str(), output.status), ("on\n", Some(255)));
    }

    fn killed(self) {
        signal(self.running.pid, "KILL");
        self.release();
        let _ = self.running.end();
    }
}

/// Whether the output only says that another command has the lock.
fn is_of_a_wait(line: &str) -> bool {
    line.starts_with("qqmgr: waiting for ") && line.ends_with(" of VM `vm` to finish")
}

fn pid_of_guard(project: &Project) -> u32 {
    let guard = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let config = project.path("qqmgr.toml");
        line.contains("\0--at-eof\0") && line.contains(&*config.to_string_lossy())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(guard).expect("there is a guard")
}

// --- which VMs are stopped

#[test]
fn a_vm_that_was_started_is_stopped_and_one_that_ran_is_not() {
    let Some((project, _sshd)) = fake("normal") else { return };
    let run = |words: &[&str]| project.qqmgr(&[&["run", "vm", "--"], words].concat()).run();
    run(&["echo on; exit 3"]).stdout("on\n").code(3);
    stopped(&project);
    let json = |started| {
        format!(
            "{{\n  \"name\": \"vm\",\n  \"exit_code\": 4,\n  \"stdout\": \"out\\n\",\n  \
             \"stderr\": \"err\\n\",\n  \"started\": {started},\n  \"seconds\": [SECONDS]\n}}\n"
        )
    };
    let json_run = ["run", "--json", "vm", "--", "echo out; echo err >&2; exit 4"];
    project.qqmgr(&json_run).run().stdout(json(true)).code(4);
    stopped(&project);

    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let pid = project.pid("vm");
    project.qqmgr(&json_run).run().stdout(json(false)).code(4);
    run(&["exit 255"]).code(255);
    let left = project.qqmgr(&["stop", "--unused", "vm"]).run();
    left.stdout("vm is left running\n").success();
    let fresh = project.qqmgr(&["run", "--fresh", "vm", "--", "true"]).run();
    fresh
        .stderr(
            "qqmgr: error: VM `vm` is already running, and `--fresh` needs its own start\n\
             qqmgr: hint: `qqmgr stop vm` ends it\n",
        )
        .code(255);
    assert_eq!(project.pid("vm"), pid);
    assert!(project.runs(pid));
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();

    project.qqmgr(&["run", "--keep", "vm", "--", "echo on"]).run().stdout("on\n").success();
    let already = "vm is already running: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "vm"]).run().stdout(already).success();
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();
    project.qqmgr(&["stop", "--unused", "vm"]).run().stdout("vm was not running\n").success();
}

/// With `-t`, a command has a terminal, and there is a shell without one.
#[test]
fn a_person_has_a_terminal() {
    let Some((project, _sshd)) = fake("normal") else { return };
    if !has_tool("script") {
        return;
    }
    let is_terminal = "test -t 0 && test -t 1 || exit 8; exit 7";
    project.write("line", format!("exec \"$QQMGR\" run vm \"$@\" -- '{is_terminal}'"));
    for (words, input, code) in [
        ("sh line -t", "", 7),
        ("sh line", "", 8),
        ("\"$QQMGR\" run -t vm", "test -t 0 && exit 9\\n", 9),
    ] {
        let script = format!("printf '{input}' | script -qec '{words}' /dev/null >screen");
        project.sh(&script).run().code(code);
        stopped(&project);
    }
}

/// Ctrl-C and SIGKILL end a job without a command.
#[test]
fn a_boot_that_is_killed_leaves_no_guest() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[vm.vm]\nssh.port = \"none\"\n\
         cmd = \"-nodefaults -machine none -display none\"\n"
    ));
    for (signal, to_group) in [("INT", true), ("KILL", false)] {
        let job = project.group(&["run", "vm", "--fresh"]).start();
        wait_until("the guest runs", SOON, || {
            project.qqmgr(&["status", "vm"]).run().stdout.contains("state:      running")
        });
        kill(&job, signal, to_group);
        assert_eq!(job.end().status, None);
        nothing_is_left(&project);
    }
}

/// The `stop_command` runs before the power button, and again after the next start.
#[test]
fn a_guest_runs_a_command_before_its_power_button() {
    let Some((project, _sshd)) = fake("normal") else { return };
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let said = project.path("said").display().to_string();
    let with = |command: &str| project.config(&format!("{config}stop_command = '{command}'\n"));
    let stop = |stderr: &str| {
        project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
        project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).stderr(stderr).success();
    };
    with(&format!("echo {{{{.vm.name}}}} >>{said}"));
    stop("");
    project.qqmgr(&["run", "vm", "--", &format!("cat {said}")]).run().stdout("vm\n").success();
    project.qqmgr(&["run", "vm", "--", &format!("cat {said}")]).run().stdout("vm\nvm\n").success();
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let restarted = project.qqmgr(&["restart", "vm"]).run();
    restarted.stdout(format!("{POWERED_OFF}{STARTED}")).success();
    project.qqmgr(&["pause", "vm"]).run().stdout("vm is paused\n").success();
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let forced = project.qqmgr(&["stop", "vm", "--force"]).run();
    forced.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    assert_eq!(fs::read_to_string(&said).unwrap(), "vm\n".repeat(4));

    with("echo no >&2; exit 3");
    stop("qqmgr: `stop_command` of VM `vm` exited with status 3: no\n");
    // A failed connection is no error, since a guest that powers off ends it, too.
    with("exit 255");
    stop("");
    with("sleep 1000");
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let stopped = project.qqmgr(&["stop", "vm", "--timeout", "2"]).run();
    stopped.stdout(POWERED_OFF).success();
}

/// Errors are reported before anything is made.
#[test]
fn errors_are_reported_first() {
    let Some((project, _sshd)) = fake("normal") else { return };
    project.write("there", "");
    let refused = |words: &[&str], error: &str| {
        let run = project.qqmgr(&[&["run"], words, &["vm", "--", "true"]].concat()).run();
        run.stderr(format!("qqmgr: error: {error}\n...")).code(255);
        assert!(!project.path(".qqmgr").exists());
    };
    refused(
        &["--put", "there:a", "--put", "nope/x:a"],
        "cannot read `nope/x`: no such file or directory",
    );
    refused(&["--get", "a:nope/x"], "cannot write `nope/x`: no such file or directory");
    for value in ["there", "there:", ":there", ":"] {
        let error = format!(
            "invalid value `{value}` for `--put`: it takes two names with a colon between them, \
             as in `src:/tmp`"
        );
        refused(&["--put", value], &error);
    }
    refused(&["--set", "nope=1"], "VM `vm` has no variable `nope`");
    let nothing = project.qqmgr(&["run", "vm", "--put", "there:a"]).run();
    nothing.stderr("qqmgr: error: `--put` needs a command: `-- COMMAND...`\n...").code(255);
    let unknown = project.qqmgr(&["run", "other", "--", "true"]).run();
    unknown.stderr("qqmgr: error: no such VM in `qqmgr.toml`: `other`\n...").code(255);
    nothing_is_left(&project);
}

/// The exit status is 124, as of timeout(1), whatever took too long.
#[test]
fn a_timeout_ends_all_of_it() {
    let Some((project, _sshd)) = fake("normal") else { return };
    let run = |words: &[&str]| project.qqmgr(&[&["run"], words].concat()).run();
    let long = run(&["--timeout", "8", "vm", "--", "echo on; sleep 1000"]);
    long.stdout("on\n").stderr("qqmgr: error: gave up after 8 s\n").code(124);
    stopped(&project);
    let json = run(&["--timeout", "8", "--json", "vm", "--", "echo on; echo e >&2; sleep 1000"]);
    let expected = "{\n  \"name\": \"vm\",\n  \"stdout\": \"on\\n\",\n  \"stderr\": \"e\\n\",\n  \"error\": {\n    \"kind\": \"timed-out\",\n    \
                    \"message\": \"gave up after 8 s\",\n    \"hint\": null\n  }\n}\n";
    let stderr = "qqmgr: error: gave up after 8 s\n";
    json.stdout(expected).stderr(stderr).code(124);
    stopped(&project);
    // A VM that ran before is left running.
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    run(&["--timeout", "0.5", "vm", "--", "sleep 1000"])
        .stderr("qqmgr: error: gave up after 0.5 s\n")
        .code(124);
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();

    // No program listens on this port.
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let (config, _) = config.split_once("ssh.port").unwrap();
    project.config(&format!("{config}ssh.port = {}\n", free_port()));
    for (flag, seconds) in [("--timeout", "3"), ("--wait=0.3", "0.3")] {
        let words: &[&str] = if flag == "--timeout" { &[flag, seconds] } else { &[flag] };
        let run = run(&[words, &["vm", "--", "true"]].concat());
        run.stderr(format!(
            "qqmgr: error: waited {seconds} s for the ssh server of VM `vm`; the end of its serial \
             output:\nfake boot\n"
        ))
        .code(124);
        stopped(&project);
    }
    project.config(
        &config
            .replace("fake=normal", "fake=silent-qmp")
            .replace("[vm.vm]", "[vm.vm]\nssh.port = 1"),
    );
    let run = run(&["--timeout", "2", "vm", "--", "true"]);
    run.stderr(
        "qqmgr: error: QEMU was not ready within [SECONDS] s, and said nothing\n\
         qqmgr: hint: [..]\n",
    )
    .code(124);
    nothing_is_left(&project);
}

/// The time that was spent waiting for another command is not available to QEMU.
#[test]
fn a_timeout_includes_the_wait_for_a_lock() {
    let Some((project, _sshd)) = fake("silent-qmp") else { return };
    let path = project.vm_path("vm", "lock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for dir in [".qqmgr", ".qqmgr/vm.vm"] {
        fs::set_permissions(project.path(dir), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let lock = File::create(&path).unwrap();
    lock.lock().unwrap();
    let run = project.qqmgr(&["run", "--timeout", "6", "vm", "--", "true"]).start();
    let begin = Instant::now();
    wait_until("the lock was held for long", SOON, || begin.elapsed() > Duration::from_secs(3));
    drop(lock);
    let run = run.end();
    assert_eq!(run.status, Some(124), "{}", run.stderr);
    let (_, within) = run.stderr.split_once("was not ready within ").unwrap();
    let seconds: f64 = within.split_once(" s").unwrap().0.parse().unwrap();
    assert!(seconds < 4.0, "{}", run.stderr);
}

// --- several at once

/// The `run` that started the VM ends first.
#[test]
fn the_last_run_that_uses_a_vm_stops_it() {
    let Some((project, _sshd)) = fake("normal") else { return };
    let one = Job::new(&project, "one", &[]);
    let pid = project.pid("vm");
    let two = Job::new(&project, "two", &[]);
    one.end();
    assert!(project.runs(pid));
    let used = project.qqmgr(&["stop", "--unused", "--json", "vm"]).run();
    used.stdout(format!(
        "{{\n  \"name\": \"vm\",\n  \"pid\": {pid},\n  \"method\": \"none\",\n  \"reason\": null,\n  \
         \"exit_status\": null,\n  \"seconds\": [SECONDS]\n}}\n"
    ))
    .success();
    let three = Job::new(&project, "three", &[]);
    two.end();
    assert!(project.runs(pid));
    three.end();
    stopped(&project);
}

#[test]
fn a_vm_that_somebody_wants_to_stay_is_not_stopped() {
    let Some((project, _sshd)) = fake("normal") else { return };
    // `start` makes the VM stay.
    let job = Job::new(&project, "a", &[]);
    let pid = project.pid("vm");
    let already = format!("vm is already running: running, pid {pid}, ssh port [PORT]\n");
    project.qqmgr(&["start", "vm"]).run().stdout(&already).success();
    job.end();
    project.qqmgr(&["start", "vm"]).run().stdout(already).success();
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();
    // `--keep` makes the VM stay.
    let job = Job::new(&project, "b", &[]);
    let pid = project.pid("vm");
    project.qqmgr(&["run", "--keep", "vm", "--", "echo on"]).run().stdout("on\n").success();
    job.end();
    assert!(project.runs(pid));
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();
    // The VM has another QEMU by now.
    let job = Job::new(&project, "c", &[]);
    let expected = format!("{POWERED_OFF}{STARTED}");
    project.qqmgr(&["restart", "vm"]).run().stdout(expected).success();
    let pid = project.pid("vm");
    job.loses_its_vm();
    assert!(project.runs(pid));
    // A killed `run` does not stop it either.
    Job::new(&project, "d", &[]).killed();
    let is_guard = |line: &String| line.contains(" stop --unused ");
    wait_until("the guard is gone", SOON, || !processes(&project).iter().any(is_guard));
    assert_eq!(project.pid("vm"), pid);
    assert!(project.runs(pid));
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();
    stopped(&project);
}

/// A user's `stop` ends the VM under a job. Another job may then start the VM again.
#[test]
fn a_vm_that_is_stopped_under_a_job() {
    let Some((project, _sshd)) = fake("normal") else { return };
    let one = Job::new(&project, "one", &[]);
    project.qqmgr(&["stop", "vm"]).run().stdout(POWERED_OFF).success();
    let two = Job::new(&project, "two", &[]);
    let pid = project.pid("vm");
    one.loses_its_vm();
    assert!(project.runs(pid));
    two.end();
    stopped(&project);
}

/// Each `run` gets all of its output, and a VM.
#[test]
fn many_at_once() {
    let Some((project, _sshd)) = fake("normal") else { return };
    thread::scope(|scope| {
        for worker in 0..4 {
            let project = &project;
            scope.spawn(move || {
                for round in 0..5 {
                    let line = format!("echo {worker} {round}");
                    let run = project.qqmgr(&["run", "vm", "--", &line]).run();
                    // ssh reports two connections to be shared at once; and a `run` may have to
                    // wait for another one that stops the VM.
                    let quiet = run.stderr.lines().all(|line| {
                        line.contains("already exists, disabling multiplexing")
                            || is_of_a_wait(line)
                    });
                    assert!(quiet, "{}", run.stderr);
                    assert_eq!(run.stdout, format!("{worker} {round}\n"));
                    assert_eq!(run.status, Some(0));
                }
            });
        }
    });
    stopped(&project);
}

/// A VM of `--fresh` would lose the writes of another job, and must not begin with them.
#[test]
fn a_fresh_vm_is_not_shared() {
    let Some((project, _sshd)) = fake("normal") else { return };
    let job = Job::new(&project, "job", &["--fresh"]);
    let run = |flags: &[&str], why: &str| {
        let run = project.qqmgr(&[&["run"], flags, &["vm", "--", "true"]].concat()).run();
        run.stderr(format!(
            "qqmgr: error: VM `vm` is already running, {why}\n\
             qqmgr: hint: `qqmgr wait vm --for stopped` waits for its end\n"
        ))
        .code(255);
    };
    run(&[], "for a `run --fresh`, which forgets what is written");
    run(&["--fresh"], "and `--fresh` needs its own start");
    job.end();
    stopped(&project);
}

// --- when it is killed

#[test]
fn killed_at_any_moment() {
    let Some((project, _sshd)) = fake("exits-slowly,ms=50") else { return };
    // A guest's end would end the shared connection, but this sshd lives on.
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&config.replace("[ssh]\n", "[ssh]\nControlPath = \"none\"\n"));
    let begin = Instant::now();
    project.qqmgr(&["run", "vm", "--", "true"]).run().success();
    let whole = begin.elapsed();
    let points = 30;
    for point in 0..points {
        let (delay, begin) = (whole * point / points, Instant::now());
        let run = project.group(&["run", "vm", "--", "true"]).start();
        while begin.elapsed() < delay {
            std::hint::spin_loop();
        }
        signal(run.pid, ["KILL", "TERM", "INT"][point as usize % 3]);
        let _ = run.end();
        nothing_is_left(&project);
    }
    project.qqmgr(&["run", "vm", "--", "true"]).run().success();
    stopped(&project);
}

/// The next `run` takes over the VM before it is stopped, or starts it again after that. In neither
/// case is the VM stopped while this `run` uses it.
#[test]
fn the_next_run_after_a_killed_one() {
    let Some((project, _sshd)) = fake("normal") else { return };
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let job = Job::new(&project, name, &[]);
        signal(job.running.pid, "KILL");
        let next = project.qqmgr(&["run", "vm", "--", "sleep 0.1; echo on"]).run();
        assert!(next.stderr.lines().all(is_of_a_wait), "{}", next.stderr);
        assert_eq!(next.stdout, "on\n", "{}", next.stderr);
        job.release();
        let _ = job.running.end();
        nothing_is_left(&project);
    }
}

/// The `run` and its guard are killed, as when memory runs out. The VM stays until the next `run`.
#[test]
fn a_vm_that_is_left_is_stopped_by_the_next_one() {
    let Some((project, _sshd)) = fake("normal") else { return };
    let orphan = |name| {
        let job = Job::new(&project, name, &[]);
        let pid = project.pid("vm");
        signal(pid_of_guard(&project), "KILL");
        job.killed();
        assert!(project.runs(pid));
    };
    orphan("a");
    project.qqmgr(&["run", "vm", "--", "echo on"]).run().stdout("on\n").success();
    stopped(&project);
    orphan("b");
    project.qqmgr(&["stop", "--all", "--unused"]).run().stdout(POWERED_OFF).success();
    stopped(&project);
    // If only the guard is killed, the `run` still stops the VM.
    let job = Job::new(&project, "c", &[]);
    signal(pid_of_guard(&project), "KILL");
    job.end();
    stopped(&project);
}

/// A `run` on a VM that stays, and has died, does not use the VM that another `run` then starts.
/// The model of the life cycle found this.
#[test]
fn a_guard_does_not_leave_its_vm_to_a_job_on_an_earlier_one() {
    let Some((project, _sshd)) = fake("normal") else { return };
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let earlier = Job::new(&project, "earlier", &[]);
    signal(earlier.running.pid, "STOP");
    signal(project.pid("vm"), "KILL");
    let job = Job::new(&project, "job", &[]);
    let pid = project.pid("vm");
    job.killed();
    wait_until("the guard has stopped the VM", SOON, || !project.runs(pid));
    signal(earlier.running.pid, "CONT");
    earlier.release();
    let _ = earlier.running.end();
    stopped(&project);
}

// --- on a guest

/// Whether a file arrived complete.
#[track_caller]
fn holds(project: &Project, path: impl AsRef<Path>, expected: &str) {
    let path = project.path(path);
    let content = fs::read_to_string(&path);
    assert_eq!(content.unwrap_or_else(|error| format!("{}: {error}", path.display())), expected);
}

#[test]
fn what_gets_through_to_a_guest_and_back() {
    let Some(project) = guest::booted("") else { return };
    let pid = project.pid("vm");
    let run = |words: &[&str]| project.qqmgr(&[&["run", "vm", "--"], words].concat()).run();
    // The command as words, and as a line for the shell.
    run(&["hostname"]).stdout("vm\n").success();
    run(&["echo $((1 + 1)); echo 'a  b' | tr a c"]).stdout("2\nc  b\n").success();
    run(&["printf", "%s|", "a  b", "$HOME", "it's", "", "*", "-n", "ü"])
        .stdout("a  b|$HOME|it's||*|-n|ü|")
        .success();
    run(&["sh", "-c", "echo $1; exit 7", "sh", "a  b"]).stdout("a b\n").code(7);
    // Streams and exit codes.
    run(&["echo out; echo err >&2; exit 42"]).stdout("out\n").stderr("err\n").code(42);
    run(&["kill -9 $$"]).code(255);
    let cat = project.qqmgr(&["run", "vm", "--", "cat; echo end"]).stdin("in\n").run();
    cat.stdout("in\nend\n").success();
    // Output arrives as soon as it is written.
    let line = "echo one; until rm /tmp/go 2>/dev/null; do sleep 0.05; done; echo two";
    let job = project.qqmgr(&["run", "vm", "--", line]).start();
    job.says("one\n");
    project.qqmgr(&["ssh", "vm", ": >/tmp/go"]).run().success();
    job.end().stdout("one\ntwo\n").success();

    // Copies several files and a directory, and copies back even after a failed command.
    project.write("tree/sub/b c", "deep");
    project.write("a", "one");
    let words = [
        "run",
        "--put",
        "a:/tmp/a",
        "--put",
        "tree:/tmp/tree",
        "--get",
        "/tmp/out:out",
        "--get",
        "/tmp/tree:back",
        "vm",
        "--",
        "cat /tmp/a '/tmp/tree/sub/b c' >/tmp/out; exit 9",
    ];
    project.qqmgr(&words).run().code(9);
    holds(&project, "out", "onedeep");
    holds(&project, "back/sub/b c", "deep");
    let missing = "scp: /tmp/nope: No such file or directory";
    let get = ["run", "--get", "/tmp/nope:x", "vm", "--"];
    let fails = project.qqmgr(&[&get[..], &["exit 3"]].concat()).run();
    fails.stderr(format!("qqmgr: {missing}\n")).code(3);
    let works = project.qqmgr(&[&get[..], &["true"]].concat()).run();
    works.stderr(format!("qqmgr: error: {missing}\n")).code(255);
    let put = project.qqmgr(&["run", "--put", "a:/nope/a", "vm", "--", "echo on"]).run();
    put.stderr("qqmgr: error: scp: dest open \"/nope/a\": No such file or directory[..]\n...")
        .code(255);
    assert_eq!(project.pid("vm"), pid);
    assert!(project.runs(pid));
}

/// ssh itself would not notice the guest's end, or not say why.
#[test]
fn a_guest_that_is_lost_under_the_command() {
    let Some(config) =
        guest::config("", &free_port().to_string(), "-device pvpanic-pci -action panic=pause")
    else {
        return;
    };
    let project = Project::new();
    project.config(&config);
    guest::start(&project);
    let pid = project.pid("vm");
    let run = |line: &str| project.qqmgr(&["run", "vm", "--", line]).run();
    let begin = Instant::now();
    let reset = run("echo b >/proc/sysrq-trigger; sleep 1000");
    reset.stderr("qqmgr: error: the guest was reset; the end of its serial output:\n...").code(255);
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    // The guest boots again, and the next command waits for it.
    run("hostname").stdout("vm\n").success();

    let job = project.qqmgr(&["run", "vm", "--", "echo on; sleep 1000"]).start();
    job.says("on\n");
    signal(pid, "KILL");
    let begin = Instant::now();
    let ended = job.end().stdout("on\n");
    let said = ended.stderr.clone();
    let error = "qqmgr: error: QEMU ended while the command ran: QEMU gave no reason: killed, \
                 crashed, or a debug exit of the guest; the end of its serial output:\n";
    let serial = project.vm_path("vm", "serial");
    let hint = format!("qqmgr: hint: its serial output is `{}`\n", serial.display());
    assert!(said.contains(error) && said.ends_with(&hint), "{said}");
    ended.stderr(said).code(255);
    assert!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());

    // A VM of its own. The guest reports a panic to QEMU, as a kernel with the driver would.
    let panics = "cd /sys/bus/pci/devices; device=$(dirname $(grep -l 0x0011 */device)); \
                  echo 1 >$device/enable; \
                  devmem $(cut -d' ' -f1 $device/resource | head -n 1) 8 1; \
                  sleep 1000";
    let begin = Instant::now();
    let panicked = run(panics);
    panicked
        .stderr("qqmgr: error: the guest panicked; the end of its serial output:\n...")
        .code(255);
    assert!(begin.elapsed() < Duration::from_secs(40), "it took {:?}", begin.elapsed());
    stopped(&project);
    // A VM that stays; no process keeps the streams open.
    guest::start(&project);
    let panicked = run(panics);
    panicked
        .stderr("qqmgr: error: the guest panicked; the end of its serial output:\n...")
        .code(255);
    let waits = project.qqmgr(&["run", "vm", "--", "true"]).run();
    waits
        .stderr(
            "qqmgr: error: the guest panicked while waiting for the ssh server of VM `vm`; \
             the end of its serial output:\n...",
        )
        .code(255);
    project.qqmgr(&["stop", "vm"]).run().stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
}

/// A whole job of a build server in one line.
#[test]
fn a_job_with_a_guest_of_its_own() {
    let Some(project) = guest::project("greeting={{.greeting}}") else { return };
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&config.replace("[vars]\n", "[vars]\ngreeting = \"hello\"\n"));
    project.write("tests/run", "sed 's/.*greeting=//' /proc/cmdline >/tmp/report; exit 7");
    let words = [
        "run",
        "--set",
        "greeting=bye",
        "--wait=200",
        "--put",
        "tests:/tmp/tests",
        "--get",
        "/tmp/report:report",
        "vm",
        "--",
        "echo on; sh /tmp/tests/run",
    ];
    project.qqmgr(&words).run().stdout("on\n").code(7);
    holds(&project, "report", "bye\n");
    stopped(&project);
}

#[test]
fn a_fresh_start_forgets_what_is_written() {
    let more = "-drive file=disk.img,format=raw,if=virtio";
    let Some(config) = guest::config("", &free_port().to_string(), more) else { return };
    let project = Project::new();
    project.config(&config);
    project.write("disk.img", vec![b'.'; 1 << 20]);
    let run = |flags: &[&str], write: &str, expected: &str| {
        let line = format!(
            "head -c 4 /dev/vda; printf {write} | dd of=/dev/vda conv=notrunc 2>/dev/null; sync; \
             echo 3 >/proc/sys/vm/drop_caches; head -c 4 /dev/vda"
        );
        let run = project.qqmgr(&[&["run"], flags, &["vm", "--", &line]].concat()).run();
        run.stdout(expected).success();
        stopped(&project);
    };
    run(&["--fresh"], "one!", "....one!");
    run(&[], "two!", "....two!");
    run(&["--fresh"], "one!", "two!one!");
    assert_eq!(&fs::read(project.path("disk.img")).unwrap()[..5], b"two!.");
}

/// The job ends by Ctrl-C in the terminal, and by SIGKILL, which no program notices.
#[test]
fn a_job_that_is_killed_leaves_no_guest() {
    if guest::project("").is_none() {
        return;
    }
    thread::scope(|scope| {
        for (name, to_group, line) in
            [("INT", true, "echo on; sleep 1000"), ("KILL", false, "echo on; sleep 1000")]
        {
            scope.spawn(move || {
                let project = guest::project("").unwrap();
                // First while the guest boots, and then while the command runs.
                let job = project.group(&["run", "vm", "--", line]).start();
                wait_until("QEMU runs", SOON, || project.vm_path("vm", "serial").exists());
                kill(&job, name, to_group);
                let _ = job.end();
                stopped(&project);
                let job = project.group(&["run", "vm", "--", line]).start();
                job.says("on\n");
                kill(&job, name, to_group);
                assert_eq!(job.end().status, None);
                stopped(&project);
            });
        }
    });
}

fn kill(job: &Running, name: &str, to_group: bool) {
    if to_group { signal_group(job.pid, name) } else { signal(job.pid, name) }
}

/// Sends SIGINT to all processes of a group, as Ctrl-C in a terminal does.
pub(crate) fn signal_group(leader: u32, name: &str) {
    let mut kill = std::process::Command::new("sh");
    let _ =
        kill.args(["-c", "kill -s \"$1\" -- \"-$2\"", "sh", name, &leader.to_string()]).status();
}

/// Three guests from one description, each on a port that was chosen for it.
#[test]
fn three_guests_at_once() {
    let Some(config) = guest::config("", "\"auto\"", "") else { return };
    let project = Project::new();
    let nodes = ["node-a", "node-b", "node-c"];
    let variants = nodes.map(|name| format!("[vm.{name}]\nextends = \"vm\"\n")).concat();
    project.config(&(config + &variants));
    let lines = |line: &str| nodes.map(|name| format!("{name}{line}\n")).concat();
    let started = project.sorted("start --wait 'node-*'").run();
    started.stdout(lines(" started: running, pid [PID], ssh port [PORT]")).success();
    let pids = nodes.map(|name| project.pid(name));
    for name in nodes {
        let hostname = format!("{name}\n");
        project.qqmgr(&["run", name, "--", "hostname"]).run().stdout(&hostname).success();
        project.qqmgr(&["ssh", name, "hostname"]).run().stdout(&hostname).success();
    }
    let already = lines(" is already running: running, pid [PID], ssh port [PORT]");
    project.sorted("start --wait 'node-*'").run().stdout(already).success();
    assert_eq!(nodes.map(|name| project.pid(name)), pids);
    let expected = lines(" powered off in [SECONDS] s") + "vm was not running\n";
    project.sorted("stop --all").run().stdout(expected).success();
    assert!(pids.iter().all(|pid| !project.runs(*pid)));
    let waited = project.sorted("wait --all --for stopped").run();
    waited.stdout(lines(" is stopped: the guest powered off") + "vm is stopped\n").success();
}
