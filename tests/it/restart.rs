//! Restart: stop and start as one, by what is configured now.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::harness::{Project, fake_qemu, given, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A project with one VM, `vm`, on the fake QEMU, started; its port and pid.
#[track_caller]
fn started(scenario: &str) -> (Project, u16, u32) {
    let project = Project::new();
    let port = project.fake_vm(scenario);
    let stdout = format!("vm started: running, pid [PID], ssh port {port}\n");
    project.qqmgr(&["start", "vm"]).run().stdout(stdout).success();
    let pid = project.pid("vm");
    (project, port, pid)
}

/// Replaces in the configuration.
#[track_caller]
fn reconfigure(project: &Project, from: &str, to: &str) {
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    project.config(&text.replace(from, to));
}

/// `restart` fails, and the VM runs on as it was.
#[track_caller]
fn refused(project: &Project, pid: u32, arguments: &[&str], code: i32, stderr: &str) {
    let before = project.vm_file("vm", "instance.json");
    let arguments = [&["restart", "vm"], arguments].concat();
    project.qqmgr(&arguments).run().stderr(stderr).code(code);
    assert!(project.runs(pid));
    assert_eq!(project.pid("vm"), pid);
    assert_eq!(project.vm_file("vm", "instance.json"), before);
}

#[test]
fn restart_of_a_running_vm() {
    let (project, port, pid) = started("normal");
    let stdout =
        format!("vm powered off in [SECONDS] s\nvm started: running, pid [PID], ssh port {port}\n");
    project.qqmgr(&["restart", "vm"]).run().stdout(stdout).success();
    assert!(!project.runs(pid));
    assert!(project.runs(project.pid("vm")));
    assert_ne!(project.pid("vm"), pid);
}

#[test]
fn restart_of_a_stopped_vm_starts_it() {
    let project = Project::new();
    let port = project.fake_vm("normal");
    let stdout = format!("vm started: running, pid [PID], ssh port {port}\n");
    project.qqmgr(&["restart", "vm"]).run().stdout(stdout.as_str()).success();
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    project.qqmgr(&["restart", "vm"]).run().stdout(stdout).success();
    assert!(project.runs(project.pid("vm")));
}

#[test]
fn restart_as_json() {
    let (project, port, pid) = started("normal");
    let expected = |stopped: &str, method: &str| {
        format!(
            r#"{{
  "name": "vm",
  "pid": {},
  "state": "running",
  "ssh": {{
    "port": {port}
  }},
  "already_running": false,
  "built": [],
  "stopped": {{
    "pid": {stopped},
    "method": "{method}",
    "reason": {},
    "seconds": [SECONDS]
  }}
}}
"#,
            project.pid("vm"),
            if method == "powerdown" { "\"guest-shutdown\"" } else { "null" }
        )
    };
    let run = project.qqmgr(&["restart", "vm", "--json"]).run();
    run.stdout(expected(&pid.to_string(), "powerdown")).success();
    let pid = project.pid("vm");
    let run = project.qqmgr(&["restart", "vm", "--json", "--force"]).run();
    run.stdout(expected(&pid.to_string(), "sigterm")).success();
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    let run = project.qqmgr(&["restart", "vm", "--json"]).run();
    run.stdout(expected("null", "none")).success();
}

#[test]
fn restart_takes_what_is_configured_now() {
    let (project, port, _) = started("normal");
    reconfigure(&project, "fake=normal", "fake=paused -m 7");
    let other = crate::harness::free_port();
    reconfigure(&project, &format!("port = {port}"), &format!("port = {other}"));
    let stdout =
        format!("vm powered off in [SECONDS] s\nvm started: paused, pid [PID], ssh port {other}\n");
    project.qqmgr(&["restart", "vm"]).run().stdout(stdout).success();
    let fake = fake_qemu().display().to_string();
    assert_eq!(given(&project, "vm").0, [&*fake, "-name", "fake=paused", "-m", "7"]);
    let conf = project.vm_file("vm", "ssh.conf");
    assert!(conf.contains(&format!("    Port {other}\n")), "{conf}");
    let run = project.qqmgr(&["status", "vm"]).run();
    assert!(!run.stdout.contains("note:"), "{}", run.stdout);
}

#[test]
fn restart_takes_what_start_takes() {
    let (project, port, _) = started("normal");
    reconfigure(&project, "-name fake=normal", "-name fake=normal -m {{.memory}}");
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&format!("vars.memory = 1\n{text}"));
    let stdout =
        format!("vm powered off in [SECONDS] s\nvm started: running, pid [PID], ssh port {port}\n");
    let restart = ["restart", "vm", "--set", "memory=9", "--", "-S"];
    project.qqmgr(&restart).run().stdout(stdout.as_str()).success();
    assert_eq!(given(&project, "vm").0[3..], ["-m", "9", "-S"]);
    // They are for that start only.
    project.qqmgr(&["restart", "vm"]).run().stdout(stdout).success();
    assert_eq!(given(&project, "vm").0[3..], ["-m", "1"]);
}

#[test]
fn what_is_wrong_is_found_before_the_vm_is_stopped() {
    let (project, port, pid) = started("normal");
    let good = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let reserved = "qqmgr: hint: qqmgr adds its own, by which it knows the VM's process\n";
    refused(
        &project,
        pid,
        &["--", "-pidfile", "x"],
        2,
        &format!("qqmgr: error: `-pidfile` cannot be used behind `--`\n{reserved}"),
    );
    let unknown = "qqmgr: error: VM `vm` has no variable `memory`\n\
                   qqmgr: hint: the configuration neither sets it nor uses it in a placeholder of \
                   this VM\n";
    refused(&project, pid, &["--set", "memory=1"], 2, unknown);
    let contradiction = "qqmgr: error: `--force` and `--no-kill` contradict each other\n";
    refused(&project, pid, &["--force", "--no-kill"], 2, contradiction);

    reconfigure(&project, "fake=normal", "fake=normal -m {{.memory}}");
    let stderr = "\
qqmgr: error: there is no variable `memory`
 --> qqmgr.toml:5:29
  |
5 | cmd = \"-name fake=normal -m {{.memory}}\"
  |                             ^^^^^^^^^^^
qqmgr: hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`
";
    refused(&project, pid, &[], 5, stderr);

    project.config(&good.replace("fake=normal", "fake=normal -daemonize"));
    let stderr = "qqmgr: error: `-daemonize` cannot be used in `cmd`\n...\n";
    refused(&project, pid, &[], 5, stderr);

    project.config(&good.replace(&format!("{port}"), "\"x\""));
    refused(&project, pid, &[], 5, "qqmgr: error: [..]\n...\n");

    project.config(&good.replace(&fake_qemu().display().to_string(), "no-such-qemu"));
    let stderr = "qqmgr: error: there is no program `no-such-qemu`\nqqmgr: hint: [..]\n";
    refused(&project, pid, &[], 1, stderr);

    project.config(&format!("{good}ssh.User = \"a\\nb\"\n"));
    refused(
        &project,
        pid,
        &[],
        5,
        "qqmgr: error: an ssh option cannot contain a line break\n...\n",
    );

    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = listener.local_addr().unwrap().port();
    project.config(&good.replace(&format!("{port}"), &taken.to_string()));
    let stderr = format!(
        "qqmgr: error: ssh port {taken} is taken by [..]\n\
         qqmgr: hint: give the VM another `port`, and its `hostfwd` too\n"
    );
    refused(&project, pid, &[], 1, &stderr);

    project.config(&good);
    let stdout =
        format!("vm powered off in [SECONDS] s\nvm started: running, pid [PID], ssh port {port}\n");
    project.qqmgr(&["restart", "vm"]).run().stdout(stdout).success();
}

/// What only QEMU itself finds wrong comes too late; the error is that of the start, and says so.
#[test]
fn a_qemu_that_does_not_start_leaves_the_vm_stopped() {
    let (project, _, pid) = started("normal");
    reconfigure(&project, "fake=normal", "fake=exits-with-error");
    let error = "QEMU exited with status 1 before it was ready:\n...\n";
    let stopped = "VM `vm` was stopped, and does not start again: ";
    let stderr = format!("qqmgr: error: {stopped}{error}");
    project.qqmgr(&["restart", "vm"]).run().stderr(stderr).code(1);
    assert!(!project.runs(pid));
    // It was stopped before.
    let stderr = format!("qqmgr: error: {error}");
    project.qqmgr(&["restart", "vm"]).run().stderr(stderr).code(1);
    assert_eq!(project.vm_files("vm"), "events.out lock qemu.log serial");
}

#[test]
fn restart_that_may_not_kill_leaves_the_vm_running() {
    let (project, _, pid) = started("ignores-powerdown");
    let stderr = format!(
        "qqmgr: error: the guest did not power off within 0.3 s; QEMU (pid {pid}) still runs\n\
         qqmgr: hint: without `--no-kill` QEMU would be ended now\n"
    );
    refused(&project, pid, &["--no-kill", "--timeout", "0.3"], 4, &stderr);
    let stdout = "vm ended by SIGTERM in [SECONDS] s\n\
                  vm started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["restart", "vm", "--timeout", "0.3"]).run().stdout(stdout).success();
    assert!(!project.runs(pid));
}

/// A `start` that comes meanwhile gets the new VM, and starts none of its own.
#[test]
fn nobody_comes_between() {
    let (project, port, pid) = started("normal");
    let client = UnixStream::connect(project.vm_path("vm", "ctl.socket")).unwrap();
    BufReader::new(&client).read_line(&mut String::new()).unwrap();
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

#[test]
fn restart_of_several() {
    let project = Project::new();
    project.fake_vms([("a", "normal"), ("b", "normal"), ("c", "exits-with-error")]);
    project.sorted("start a b").run().stdout("a [..]\nb [..]\n").success();
    let pids = ["a", "b"].map(|name| project.pid(name));
    // Both lines of one VM come together.
    let run = project.qqmgr(&["restart", "--all"]).run();
    let names: Vec<&str> = run.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names == ["a", "a", "b", "b"] || names == ["b", "b", "a", "a"], "{}", run.stdout);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.starts_with("qqmgr: error: c: QEMU exited"), "{}", run.stderr);
    assert!(pids.iter().all(|pid| !project.runs(*pid)));
    assert!(["a", "b"].iter().all(|name| project.runs(project.pid(name))));
    assert_eq!(project.vm_files("c"), "events.out lock qemu.log");
}
