//! Start, stop, restart and status while another command has the lock, QEMU serves another client,
//! or another program has the port. The rest is in `tests/cases`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Project, fake_qemu, free_port, wait_until};

/// The files of a running VM, and those that are left of a stopped one.
const RUNNING: &str = "ctl.socket events.in events.out instance.json lock monitor.socket pid \
                       qemu.log qmp.socket serial ssh.conf";
const STOPPED: &str = "events.out lock qemu.log serial";
const SOON: Duration = Duration::from_secs(10);

/// A project with one VM, `vm`, on the fake QEMU, and its ssh port.
fn fake(scenario: &str) -> (Project, u16) {
    let project = Project::new();
    let port = project.fake_vm(scenario);
    (project, port)
}

/// Such a project with its VM started, and the VM's pid.
#[track_caller]
fn started(scenario: &str, state: &str) -> (Project, u16, u32) {
    let (project, port) = fake(scenario);
    let pid = start(&project, port, state);
    (project, port, pid)
}

#[track_caller]
fn start(project: &Project, port: u16, state: &str) -> u32 {
    let output = project.qqmgr(&["start", "vm"]).run();
    let pid = project.pid("vm");
    output.stdout(format!("vm started: {state}, pid {pid}, ssh port {port}\n")).success();
    assert!(project.runs(pid));
    pid
}

/// `stop --json` ends the VM by this method, and leaves nothing but logs.
#[track_caller]
fn stop_ends_by(method: &str, project: &Project, pid: u32, arguments: &[&str]) {
    let arguments = [&["stop", "vm", "--json"], arguments].concat();
    project.qqmgr(&arguments).run().stdout(stopped(pid, method)).success();
    assert!(!project.runs(pid));
    assert_eq!(project.vm_files("vm"), STOPPED);
}

fn stopped(pid: u32, method: &str) -> String {
    let reason = if method == "powerdown" { "\"guest-shutdown\"" } else { "null" };
    format!(
        r#"{{
  "name": "vm",
  "pid": {pid},
  "method": "{method}",
  "reason": {reason},
  "exit_status": null,
  "seconds": [SECONDS]
}}
"#
    )
}

fn listed(state: &str, pid: u32, port: u16) -> String {
    format!(
        r#"[
  {{
    "name": "vm",
    "running": true,
    "state": "{state}",
    "pid": {pid},
    "ssh": {{
      "port": {port}
    }},
    "configured": true,
    "ended": null,
    "ended_reason": null,
    "ended_at": null,
    "exit_status": null
  }}
]
"#
    )
}

/// All of `status --json`, of a VM that runs if there is a pid.
fn status(pid: Option<u32>, port: u16, state: &str, config_changed: &str) -> String {
    let running = pid.is_some();
    let (pid, uptime) = match pid {
        Some(pid) => (pid.to_string(), "[SECONDS]"),
        None => ("null".into(), "null"),
    };
    format!(
        r#"{{
  "name": "vm",
  "pid": {pid},
  "pid_file": "[ROOT]/.qqmgr/vm.vm/pid",
  "ssh": {{
    "port": {port},
    "vm_port": 22,
    "config_file": "[ROOT]/.qqmgr/vm.vm/ssh.conf"
  }},
  "serial_file": "[ROOT]/.qqmgr/vm.vm/serial",
  "qmp_file": "[ROOT]/.qqmgr/vm.vm/qmp.socket",
  "monitor_file": "[ROOT]/.qqmgr/vm.vm/monitor.socket",
  "running": {running},
  "state": "{state}",
  "uptime_seconds": {uptime},
  "log_file": "[ROOT]/.qqmgr/vm.vm/qemu.log",
  "console_file": null,
  "config_file": "[ROOT]/qqmgr.toml",
  "configured": true,
  "config_changed": {config_changed},
  "ended": null,
  "ended_reason": null,
  "ended_at": null,
  "exit_status": null,
  "helpers": [],
  "changes": [],
  "ports": []
}}
"#
    )
}

// --- start

#[test]
fn start_of_a_running_vm_says_so_and_changes_nothing() {
    let (project, port, pid) = started("paused", "paused");
    let expected = format!("vm is already running: paused, pid {pid}, ssh port {port}\n");
    // The VM itself has its port, as a real QEMU does.
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    project.qqmgr(&["start", "vm"]).run().stdout(expected).success();
    assert_eq!(project.pid("vm"), pid);
    assert!(project.runs(pid));
    assert_eq!(project.vm_files("vm"), RUNNING);
}

#[test]
fn start_names_the_vm_that_has_the_ssh_port() {
    let project = Project::new();
    let port = free_port();
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n\
         [vm.one]\ncmd = \"\"\nssh.port = {}\n\
         [vm.two]\ncmd = \"\"\nssh.port = {port}\n\
         [vm.three]\ncmd = \"\"\nssh.port = {port}\n",
        fake_qemu().display(),
        free_port()
    ));
    for vm in ["one", "two"] {
        let stdout = format!("{vm} started: running, pid [PID], ssh port [PORT]\n");
        project.qqmgr(&["start", vm]).run().stdout(stdout).success();
    }
    // The fake forwards no port.
    let _forwarded = TcpListener::bind(("127.0.0.1", port)).unwrap();
    project
        .qqmgr(&["start", "three"])
        .run()
        .stderr(format!(
            "qqmgr: error: ssh port {port} is taken by VM `two`\n\
             qqmgr: hint: stop that one, or give this one another port\n"
        ))
        .code(1);
    assert_eq!(project.vm_files("three"), "");
    assert!(project.runs(project.pid("two")));
}

#[test]
fn start_refuses_an_ssh_port_that_another_program_has() {
    for address in ["127.0.0.1", "0.0.0.0"] {
        let (project, port) = fake("normal");
        let _listener = TcpListener::bind((address, port)).unwrap();
        let begin = format!("qqmgr: error: ssh port {port} is taken by `");
        let end = format!(
            "` (pid {})\nqqmgr: hint: give the VM another `port`, and its `hostfwd` too\n",
            process::id()
        );
        // A child that another test forks has the listener as well, until it is another program.
        wait_until("the holder is named", SOON, || {
            let run = project.qqmgr(&["start", "vm"]).run();
            assert!(run.stderr.starts_with(&begin) && run.status == Some(1), "{}", run.stderr);
            run.stderr.ends_with(&end)
        });
        assert_eq!(project.vm_files("vm"), "");
    }
}

/// A `stop` holds the lock until the test lets its QMP client go.
#[test]
fn start_waits_for_a_stop_in_progress() {
    let (project, port, pid) = started("normal", "running");
    let client = greeted(&project, "ctl.socket");
    thread::scope(|scope| {
        let stop = scope.spawn(|| stop_then_gone(&project, pid));
        wait_until("`stop` has the lock", SOON, || {
            project.vm_file("vm", "lock").starts_with("`stop` (pid ")
        });
        let start = scope.spawn(|| project.sh("\"$QQMGR\" start vm 2> said").run());
        let said = project.path("said");
        let expected = "of VM `vm` to finish\n";
        wait_until("`start` says that it waits", SOON, || {
            fs::read_to_string(&said).is_ok_and(|text| text.ends_with(expected))
        });
        drop(client);
        stop.join().unwrap();
        let stdout = format!("vm started: running, pid [PID], ssh port {port}\n");
        start.join().unwrap().stdout(stdout).success();
    });
    assert_ne!(project.pid("vm"), pid);
    project
        .sh("cat said")
        .run()
        .stdout("qqmgr: waiting for `stop` (pid [PID]) of VM `vm` to finish\n")
        .success();
}

/// A `start` during a `restart` finds the new VM, and starts no other.
#[test]
fn a_start_does_not_come_between_the_halves_of_a_restart() {
    let (project, port, pid) = started("normal", "running");
    let client = greeted(&project, "ctl.socket");
    let run = thread::scope(|scope| {
        let restart = scope.spawn(|| project.qqmgr(&["restart", "vm"]).run());
        wait_until("`restart` has the lock", SOON, || {
            project.vm_file("vm", "lock").starts_with("`restart` (pid ")
        });
        let start = scope.spawn(|| project.sh("\"$QQMGR\" start vm 2>said").run());
        let said = project.path("said");
        wait_until("`start` waits", SOON, || {
            fs::read_to_string(&said).is_ok_and(|text| text.ends_with(" to finish\n"))
        });
        drop(client);
        let stdout = format!(
            "vm powered off in [SECONDS] s\nvm started: running, pid [PID], ssh port {port}\n"
        );
        restart.join().unwrap().stdout(stdout).success();
        start.join().unwrap()
    });
    let new = project.pid("vm");
    assert_ne!(new, pid);
    run.stdout(format!("vm is already running: running, pid {new}, ssh port {port}\n")).success();
    let said = "qqmgr: waiting for `restart` (pid [PID]) of VM `vm` to finish\n";
    project.sh("cat said").run().stdout(said).success();
}

fn stop_then_gone(project: &Project, pid: u32) {
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    assert!(!project.runs(pid));
}

/// A client that keeps QEMU from serving others.
fn greeted(project: &Project, socket: &str) -> UnixStream {
    let client = UnixStream::connect(project.vm_path("vm", socket)).unwrap();
    let mut greeting = String::new();
    BufReader::new(&client).read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("{\"QMP\""), "{greeting}");
    client
}

// --- stop

#[test]
fn another_client_on_our_socket_makes_the_vm_unresponsive() {
    let (project, port, pid) = started("normal", "running");
    let client = greeted(&project, "ctl.socket");
    let begin = Instant::now();
    let expected = status(Some(pid), port, "unresponsive", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    assert!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());
    // `list` asks the process only.
    let expected = listed("running", pid, port);
    project.qqmgr(&["list", "--json"]).run().stdout(expected).success();
    drop(client);
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
}

#[test]
fn another_client_on_our_socket_does_not_keep_stop_from_ending_qemu() {
    let (project, _, pid) = started("normal", "running");
    let _client = greeted(&project, "ctl.socket");
    stop_ends_by("sigterm", &project, pid, &["--timeout", "0.2"]);
}

/// `qmp.socket` is for people and their tools.
#[test]
fn another_client_on_the_users_socket_disturbs_nobody() {
    let (project, port, pid) = started("normal", "running");
    let _client = greeted(&project, "qmp.socket");
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    stop_ends_by("powerdown", &project, pid, &[]);
}
