//! Several VMs at once: when each result is printed, and many VMs. `tests/cases/fleet.txt` has the
//! rest.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::harness::{Project, free_port, real_qemu, signal, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A project with these VMs, all of scenario `normal`.
fn normal<const N: usize>(names: [&str; N]) -> Project {
    let project = Project::new();
    project.fake_vms(names.map(|name| (name, "normal")));
    project
}

/// `qqmgr ARGUMENTS` prints these lines about VMs in any order.
#[track_caller]
fn says(project: &Project, arguments: &str, stdout: &str) {
    project.sorted(arguments).run().stdout(stdout).success();
}

#[track_caller]
fn running(project: &Project, names: &str) {
    project.qqmgr(&["list", "-q", "--running"]).run().stdout(names).success();
}

/// A client that keeps `stop` from asking the VM, until it is dropped.
#[track_caller]
fn occupy(project: &Project, vm: &str) -> UnixStream {
    let client = UnixStream::connect(project.vm_path(vm, "ctl.socket")).unwrap();
    let mut greeting = String::new();
    BufReader::new(&client).read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("{\"QMP\""), "{greeting}");
    client
}

// --- when results are printed

/// The first VM named is stopped last, when the test lets it.
#[test]
fn results_are_printed_as_they_come() {
    let project = normal(["slow", "fast", "other"]);
    project.sorted("start --all").run().stdout("...\n").success();
    let (reader, writer) = io::pipe().unwrap();
    let client = occupy(&project, "slow");
    thread::scope(|scope| {
        let stop = scope.spawn(|| {
            project.qqmgr(&["stop", "slow", "fast", "other"]).stdout_to(writer).run().success();
        });
        let mut lines = BufReader::new(reader).lines();
        let mut next = || lines.next().unwrap().unwrap();
        let first: BTreeSet<String> = [next(), next()].iter().map(|line| vm_of(line)).collect();
        assert_eq!(first, ["fast", "other"].map(str::to_owned).into());
        running(&project, "slow\n");
        drop(client);
        assert_eq!(vm_of(&next()), "slow");
        stop.join().unwrap();
    });
}

fn vm_of(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_slow_start_keeps_no_other_waiting() {
    let project = Project::new();
    project.fake_vms([("slow", "late-greeting,ms=1500"), ("fast", "normal")]);
    let (reader, writer) = io::pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| project.qqmgr(&["start", "--all"]).stdout_to(writer).run().success());
        let mut lines = BufReader::new(reader).lines();
        let mut next = || vm_of(&lines.next().unwrap().unwrap());
        assert_eq!([next(), next()], ["fast", "slow"]);
    });
}

#[test]
fn ends_are_reported_as_they_come() {
    let project = normal(["a", "b", "c"]);
    project.sorted("start --all").run().stdout("...\n").success();
    let (reader, writer) = io::pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let wait = project.qqmgr(&["wait", "--all", "--for", "stopped"]);
            wait.stdout_to(writer).run().success();
        });
        let mut lines = BufReader::new(reader).lines();
        for name in ["b", "c", "a"] {
            signal(project.pid(name), "KILL");
            let why = "QEMU gave no reason: killed, crashed, or a debug exit of the guest";
            assert_eq!(lines.next().unwrap().unwrap(), format!("{name} is stopped: {why}"));
        }
    });
}

#[test]
fn a_line_about_a_wait_names_its_vm() {
    let project = Project::new();
    project.fake_vms([("a", "early-powerdown-lost"), ("b", "normal"), ("c", "normal")]);
    project.sorted("start --all").run().stdout("...\n").success();
    let (client, mut said) = (occupy(&project, "b"), String::new());
    thread::scope(|scope| {
        let script = "\"$QQMGR\" stop b";
        let other = scope.spawn(|| project.sh(script).run());
        wait_until("`stop` has the lock", SOON, || {
            project.vm_file("b", "lock").starts_with("`stop` (pid ")
        });
        let script = "\"$QQMGR\" stop --all 2>said | sort";
        let all = scope.spawn(|| project.sh(script).run());
        wait_until("both lines are there", SOON, || {
            said = fs::read_to_string(project.path("said")).unwrap_or_default();
            said.lines().count() == 2
        });
        drop(client);
        other.join().unwrap().stdout("b powered off in [SECONDS] s\n").success();
        let stdout = "a powered off in [SECONDS] s\nb was not running\n\
                      c powered off in [SECONDS] s\n";
        all.join().unwrap().stdout(stdout).success();
    });
    let expected = "qqmgr: a: waiting for the guest to power off\n\
                    qqmgr: b: waiting for `stop` (pid [PID]) of VM `b` to finish\n";
    project.sh("sort said").run().stdout(expected).success();
}

// --- with a real QEMU

#[test]
fn twenty_vms_start_and_stop_at_once() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let mut config = format!("[qemu]\nbin = \"{qemu}\"\n");
    let forwarding = "hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22";
    for number in 10..30 {
        let _ = writeln!(
            config,
            "[vm.n{number}]\ncmd = \"-nodefaults -machine none -display none \
             -netdev user,id=n,{forwarding}\"\nssh.port = \"auto\""
        );
    }
    project.config(&config);
    let names: Vec<String> = (10..30).map(|number| format!("n{number}")).collect();
    let each =
        |text: &str| names.iter().flat_map(|name| [name.as_str(), text, "\n"]).collect::<String>();
    let run = project.sorted("start --all").run();
    let ports: BTreeSet<String> =
        run.stdout.lines().filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect();
    assert_eq!(ports.len(), 20, "{}", run.stdout);
    run.stdout(each(" started: running, pid [PID], ssh port [PORT]")).success();
    running(&project, &each(""));
    for port in &ports {
        let port: u16 = port.parse().unwrap();
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err(), "{port}");
    }
    let status = project.sorted("status --all").run();
    assert_eq!(status.stdout.matches("state:      running\n").count(), 20, "{}", status.stdout);
    says(&project, "stop --all --force", &each(" ended by SIGTERM in [SECONDS] s"));
    running(&project, "");
}

/// All VMs are watched at once, since the first ones never end.
#[test]
fn wait_watches_more_vms_than_are_started_at_once() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let names: Vec<String> = (1..=40).map(|number| format!("vm-{number}")).collect();
    let mut config = format!("[qemu]\nbin = {qemu:?}\n");
    for name in &names {
        let cmd = "-nodefaults -machine none -display none";
        let _ = writeln!(config, "[vm.{name}]\ncmd = \"{cmd}\"\nssh.port = {}", free_port());
    }
    project.config(&config);
    // `wait` waits for a start of any VM; only the last one is started.
    let running = ["wait", "vm-*", "--for", "running", "--timeout", "200"];
    let wait = project.qqmgr(&running).start();
    let started = "vm-40 started: running, pid [PID], ssh port [PORT]\n";
    project.sh("\"$QQMGR\" start vm-40 2>/dev/null").run().stdout(started).success();
    wait.says("vm-40 is running after ");
    signal(wait.pid, "KILL");
    let _ = wait.end();
}
