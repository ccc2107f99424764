//! Several VMs at once: which ones are meant, what is told of each and when, and the exit code.

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

/// `qqmgr ARGUMENTS` says this of VMs in any order.
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

// --- which ones are meant

#[test]
fn names_patterns_and_all() {
    let project = normal(["a", "b-1", "b-2", "c"]);
    let started = |name| format!("{name} started: running, pid [PID], ssh port [PORT]\n");
    let already =
        |name| format!("{name} is already running: running, pid [PID], ssh port [PORT]\n");
    says(&project, "start b-1 a", &(started("a") + &started("b-1")));
    running(&project, "a\nb-1\n");
    let expected = [already("a"), already("b-1"), started("b-2")].concat();
    says(&project, "start 'b-*' a", &expected);
    running(&project, "a\nb-1\nb-2\n");
    let off = |name| format!("{name} powered off in [SECONDS] s\n");
    says(&project, "stop '[ab]*[!2-9]' '?'", &(off("a") + &off("b-1") + "c was not running\n"));
    running(&project, "b-2\n");
    let expected = [started("a"), started("b-1"), already("b-2"), started("c")].concat();
    says(&project, "start --all", &expected);
    let waited = |name| format!("{name} is running after [SECONDS] s\n");
    says(&project, "wait '*' --for running", &["a", "b-1", "b-2", "c"].map(waited).concat());
    says(&project, "stop --all", &["a", "b-1", "b-2", "c"].map(off).concat());
    running(&project, "");
    let status = project.qqmgr(&["status", "b-?"]).run();
    assert_eq!(status.stdout.matches("name:       b-").count(), 2, "{}", status.stdout);
    assert_eq!(status.stdout.matches("name: ").count(), 2, "{}", status.stdout);
}

/// However often and by whatever it is named.
#[test]
fn each_vm_is_meant_once() {
    let project = normal(["a", "b"]);
    let started = "a started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "a", "a", "[a]", "a"]).run().stdout(started).success();
    let run = project.qqmgr(&["status", "-q", "--json", "a", "*", "b", "b"]).run();
    assert_eq!(run.stdout.matches("\"name\": \"a\"").count(), 1, "{}", run.stdout);
    assert_eq!(run.stdout.matches("\"name\": \"b\"").count(), 1, "{}", run.stdout);
}

/// Nothing is done then: who meant something else must not find half of it done.
#[test]
fn a_pattern_that_matches_nothing_is_an_error() {
    let project = normal(["a", "b"]);
    let stderr = "qqmgr: error: no VM matches `x*`\n\
                  qqmgr: hint: `qqmgr list` shows the VMs that there are\n";
    for command in ["start", "stop", "restart", "status", "wait --for running", "ssh-config"] {
        let script = format!("\"$QQMGR\" {command} a 'x*' b");
        project.sh(&script).run().stderr(stderr).code(5);
    }
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
    let json = r#"{
  "error": {
    "kind": "unknown-vm",
    "message": "no VM matches `x*`",
    "hint": "`qqmgr list` shows the VMs that there are"
  }
}
"#;
    project.qqmgr(&["start", "x*", "--json"]).run().stdout(json).stderr(stderr).code(5);
    // One without an end stands for itself.
    let stderr = "qqmgr: error: no VM matches `[a`\n\
                  qqmgr: hint: `qqmgr list` shows the VMs that there are\n";
    project.qqmgr(&["start", "[a"]).run().stderr(stderr).code(5);
}

#[test]
fn all_of_none_is_nothing_to_do() {
    let project = Project::new();
    project.config("");
    for command in ["start", "stop", "restart", "status"] {
        project.qqmgr(&[command, "--all"]).run().success();
        project.qqmgr(&[command, "--all", "--json"]).run().success();
    }
    let stderr = "qqmgr: error: no VM matches `*`\n\
                  qqmgr: hint: `qqmgr list` shows the VMs that there are\n";
    project.qqmgr(&["stop", "*"]).run().stderr(stderr).code(5);
}

/// There are no more workers than that, and each has more than one VM.
#[test]
fn more_vms_than_are_worked_on_at_once() {
    let project = Project::new();
    let mut config = String::new();
    for number in 100..200 {
        let _ = writeln!(config, "[vm.v{number}]\ncmd = \"\"\nssh.port = {number}");
    }
    project.config(&config);
    let expected: String =
        (100..200).flat_map(|n| ["v".into(), n.to_string(), " was not running\n".into()]).collect();
    says(&project, "stop --all", &expected);
}

/// Also one whose VM has gone from the configuration, by name, by pattern and by `--all`; but not
/// to be started.
#[test]
fn a_vm_that_is_not_configured_any_more() {
    let project = normal(["a", "gone-1", "gone-2", "gone-3"]);
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.sorted("start --all").run().stdout("...\n").success();
    project.config(config.split("[vm.gone-1]").next().unwrap());
    let stdout = "name:       gone-1\nstate:      running\n...\n\
                  note:       the configuration has no such VM any more\n";
    project.qqmgr(&["status", "gone-1"]).run().stdout(stdout).success();
    let status = project.sorted("status --all").run();
    assert_eq!(status.stdout.matches("note: ").count(), 3, "{}", status.stdout);
    assert_eq!(status.stdout.matches("name: ").count(), 4, "{}", status.stdout);
    says(&project, "stop gone-1", "gone-1 powered off in [SECONDS] s\n");
    says(
        &project,
        "stop 'gone-*'",
        "gone-2 powered off in [SECONDS] s\ngone-3 powered off in [SECONDS] s\n",
    );
    project.config(&config);
    project.sorted("start --all").run().stdout("...\n").success();
    project.config(config.split("[vm.gone-1]").next().unwrap());
    let already = "a is already running: running, pid [PID], ssh port [PORT]\n";
    says(&project, "start --all", already);
    let stderr = "qqmgr: error: no VM matches `gone*`\n\
                  qqmgr: hint: `qqmgr list` shows the VMs that there are\n";
    project.qqmgr(&["restart", "gone*"]).run().stderr(stderr).code(5);
    let expected = ["a", "gone-1", "gone-2", "gone-3"];
    let expected = expected.map(|name| format!("{name} powered off in [SECONDS] s\n")).concat();
    says(&project, "stop --all", &expected);
    running(&project, "");
}

// --- when it is told

/// The first VM named is stopped last, when the test lets it.
#[test]
fn results_come_as_they_are() {
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
fn ends_are_told_as_they_come() {
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

// --- what went wrong

/// One VM for each code, and what it gives.
fn troubles() -> Project {
    let project = Project::new();
    project.fake_vms([
        ("fine", "normal"),
        ("fails", "exits-with-error"),
        ("silent", "silent-qmp"),
        ("also-fine", "normal"),
    ]);
    project
}

#[test]
fn the_worst_exit_code_wins_and_the_others_go_on() {
    for (vms, code) in
        [("fine fails also-fine", 1), ("fails fine silent also-fine", 4), ("fine also-fine", 0)]
    {
        let project = troubles();
        let run = project.sorted(&format!("start --timeout 2 {vms}")).run();
        assert_eq!(run.status, Some(code), "{vms}\n{}", run.stderr);
        let stdout = "also-fine started: running, pid [PID], ssh port [PORT]\n\
                      fine started: running, pid [PID], ssh port [PORT]\n";
        let stderr = run.stderr.clone();
        run.stdout(stdout).stderr(stderr).code(code);
        running(&project, "fine\nalso-fine\n");
    }
    let project = troubles();
    project.sorted("start fine nosuch also-fine").run().stderr("...\n").code(5);
    running(&project, "");
    let project = normal(["a", "b"]);
    project.sorted("start a").run().stdout("...\n").success();
    project.sorted("status -q a b").run().code(3);
    project.sorted("status -q a b nosuch").run().stderr("...\n").code(5);
}

#[test]
fn an_error_names_its_vm_among_several() {
    let project = troubles();
    let missing = "qqmgr: error: no such VM in `qqmgr.toml`: `nosuch`\n\
                   qqmgr: hint: it has `fine`, `fails`, `silent`, `also-fine`\n";
    project.qqmgr(&["start", "nosuch"]).run().stderr(missing).code(5);
    project.qqmgr(&["start", "nosuch", "nosuch"]).run().stderr(missing).code(5);
    let failed = "qqmgr: error: QEMU exited with status 1 before it was ready:\n\
                  qemu-system-x86_64: -drive file=nope.img: Could not open 'nope.img': \
                  No such file or directory\n\
                  qqmgr: hint: relative paths in `cmd` start from `[ROOT]`\n";
    project.qqmgr(&["start", "fails"]).run().stderr(failed).code(1);
    project.qqmgr(&["start", "fail[s]"]).run().stderr(failed).code(1);
    // Sorted by line: what QEMU said comes first.
    let both = "\
qemu-system-x86_64: -drive file=nope.img: Could not open 'nope.img': No such file or directory
qqmgr: error: fails: QEMU exited with status 1 before it was ready:
qqmgr: hint: relative paths in `cmd` start from `[ROOT]`
";
    project.sorted("start fails fine").run().stdout("...\n").stderr(sorted(both)).code(1);
    let missing = missing.replace("error:", "error: nosuch:");
    project.sorted("start fails nosuch").run().stdout("").stderr(missing).code(5);
}

/// The lines as `sort` has them.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// The place in the file is that of them all; whose it is, is not.
#[test]
fn an_error_in_the_configuration_names_its_vm_among_several() {
    let project = Project::new();
    project.config(
        "[vm.base]\ncmd = \"-m {{.vm.memory}}\"\nssh.port = 1\n\
         [vm.a]\nextends = \"base\"\n[vm.b]\nextends = \"base\"\nvars.memory = 2\n",
    );
    let stderr = |vm: &str| {
        format!(
            "\
qqmgr: error: {vm}there is no variable `vm.memory`
 --> qqmgr.toml:2:11
  |
2 | cmd = \"-m {{{{.vm.memory}}}}\"
  |           ^^^^^^^^^^^^^^
qqmgr: hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`
"
        )
    };
    project.qqmgr(&["restart", "a"]).run().stderr(stderr("")).code(5);
    let both = sorted(&[stderr("a: "), stderr("base: ")].concat());
    project.sorted("restart a base").run().stderr(both).code(5);
}

/// A document for each VM: one after the other, in any order.
#[test]
fn a_json_document_for_each_vm() {
    let project = troubles();
    let failed = r#"{
  "name": "fails",
  "error": {
    "kind": "failed",
    "message": "QEMU exited with status 1 before it was ready:[..]",
    "hint": "relative paths in `cmd` start from `[ROOT]`"
  }
}
"#;
    let fine = |name: &str| {
        format!(
            r#"{{
  "name": "{name}",
  "pid": [PID],
  "state": "running",
  "ssh": {{
    "port": [PORT]
  }},
  "already_running": false,
  "built": []
}}
"#
        )
    };
    let text = "qqmgr: error: fails: QEMU exited with status 1 before it was ready:\n\
                ...\n\
                qqmgr: hint: relative paths in `cmd` start from `[ROOT]`\n";
    let run = project.qqmgr(&["start", "fails", "fine", "also-fine", "--json"]).run();
    // Each begins and ends with a brace in the first column.
    let mut documents: Vec<String> =
        run.stdout.split_inclusive("\n}\n").map(str::to_owned).collect();
    documents.sort_by_key(|document| document.lines().nth(1).map(str::to_owned));
    assert_eq!(documents.len(), 3, "{}", run.stdout);
    let stdout = [fine("also-fine"), failed.to_owned(), fine("fine")].concat();
    project.write("documents", documents.concat());
    run.stdout("...\n").stderr(text).code(1);
    project.sh("cat documents").run().stdout(stdout).success();
}

#[test]
fn verbose_and_other_lines_name_their_vm() {
    let project = Project::new();
    project.fake_vms([("a", "normal"), ("b", "normal")]);
    let run = project.sorted("-v start a b").run();
    for (vm, other) in [("a", "b"), ("b", "a")] {
        let begin = format!("qqmgr: {vm}: ");
        let own: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with(&begin)).collect();
        assert_eq!(own.len(), 1, "{}", run.stderr);
        assert!(own.iter().any(|line| line.starts_with(&format!("{begin}exec "))), "{own:?}");
        let other = format!("vm.{other}/");
        assert!(own.iter().all(|line| !line.contains(&other)), "{own:?}");
    }
    assert_eq!(run.stderr.lines().count(), 2, "{}", run.stderr);
    let stderr = run.stderr.clone();
    run.stdout("a [..]\nb [..]\n").stderr(stderr).success();
    // With one VM there is nobody else whom they could be about.
    let run = project.qqmgr(&["-v", "stop", "a"]).run();
    assert!(run.stderr.lines().all(|line| line.starts_with("qqmgr: qmp ")), "{}", run.stderr);
    assert_eq!(run.status, Some(0));
}

#[test]
fn what_is_waited_for_names_its_vm() {
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

/// However many there are, each is watched: the first ones do not end.
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
    // None runs, and a start is waited for; the last one is started.
    let running = ["wait", "vm-*", "--for", "running", "--timeout", "50"];
    let wait = project.qqmgr(&running).start();
    let started = "vm-40 started: running, pid [PID], ssh port [PORT]\n";
    project.sh("\"$QQMGR\" start vm-40 2>/dev/null").run().stdout(started).success();
    wait.says("vm-40 is running after ");
    signal(wait.pid, "KILL");
    let _ = wait.end();
}
