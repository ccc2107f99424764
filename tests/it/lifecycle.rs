//! Start, stop, status and list against the fake QEMU, which plays what a real one does not do on
//! demand. Each scenario: what is said, what is left in the VM's directory, and who lives.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Project, fake_qemu, free_port, freeze, signal, wait_until};

/// What the directory of a running VM holds, and what is left of a stopped one.
const RUNNING: &str = "ctl.socket events.in events.out instance.json lock monitor.socket pid \
                       qemu.log qmp.socket serial ssh.conf";
const STOPPED: &str = "events.out lock qemu.log serial";
const SOON: Duration = Duration::from_secs(10);
/// What `stop` says when the button was pressed in vain.
const WAITING: &str = "qqmgr: waiting for the guest to power off\n";

/// What `stop` says to QMP when the guest cannot power off, and when it runs.
const ASKED_FOR_STATE: &str = r#"{"execute": "qmp_capabilities", "id": 1}
{"execute": "query-status", "id": 2}
"#;
const ASKED_BY_STOP: &str = r#"{"execute": "qmp_capabilities", "id": 1}
{"execute": "query-status", "id": 2}
{"execute": "system_powerdown", "id": 3}
"#;

/// What the fake was asked, the ids counted from 1; each process begins at its pid times 1000.
#[track_caller]
fn asked_for(project: &Project) -> String {
    let log = project.vm_file("vm", "fake.log");
    let renumbered = |line: &str| {
        let (command, id) = line.split_once("\"id\": ").expect("a command has an id");
        let id: u64 = id.trim_end_matches('}').parse().expect("an id is a number");
        format!("{command}\"id\": {}}}\n", id % 1000)
    };
    log.lines().map(renumbered).collect()
}

/// A project with one VM, `vm`, on the fake QEMU, and its ssh port.
fn fake(scenario: &str) -> (Project, u16) {
    let project = Project::new();
    let port = project.fake_vm(scenario);
    (project, port)
}

/// Such a VM, started; its pid, too.
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

/// `start` fails, leaves `files` and no process, and the next command knows that.
#[track_caller]
fn start_fails(scenario: &str, arguments: &[&str], code: i32, stderr: &str, files: &str) {
    let (project, _) = fake(scenario);
    let arguments = [&["start", "vm"], arguments].concat();
    project.qqmgr(&arguments).run().stderr(stderr).code(code);
    assert!(!project.runs(true_pid(&project)));
    assert_eq!(project.vm_files("vm"), files);
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
}

/// The pid of a fake, which may have ended.
fn true_pid(project: &Project) -> u32 {
    project.vm_file("vm", "fake.pid").trim().parse().expect("the fake writes its pid")
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
    "ended_at": null
  }}
]
"#
    )
}

/// All of `status --json`, of a VM that runs if there is a pid.
fn status(pid: Option<u32>, port: u16, state: &str, config_changed: &str) -> String {
    status_with(pid, port, state, config_changed, "[]")
}

/// The same with what a restart would change.
fn status_with(
    pid: Option<u32>,
    port: u16,
    state: &str,
    config_changed: &str,
    changes: &str,
) -> String {
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
  "changes": {changes}
}}
"#
    )
}

/// A process of the test's own that lives until it is dropped. `words` end its command line.
struct Bystander(Child);

impl Bystander {
    fn new(words: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "sh"]).args(words).stdin(Stdio::piped());
        Self(command.spawn().expect("there is a shell"))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether nobody has signalled it. Ending it by the end of its input leaves no doubt.
    fn was_left_alone(mut self) -> bool {
        drop(self.0.stdin.take());
        self.0.wait().is_ok_and(|status| status.code().is_some())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// --- start

#[test]
fn start_waits_for_qmp_and_says_what_runs() {
    let (project, port) = fake("normal");
    let pid = start(&project, port, "running");
    assert_eq!(project.vm_files("vm"), RUNNING);
    // Its own session answers: nobody connects to a QEMU that is starting.
    assert!(!project.vm_path("vm", "fake.log").exists());
    assert_eq!(project.vm_file("vm", "fake.pid"), format!("{pid}\n"));
}

#[test]
fn start_as_json() {
    let (project, port) = fake("normal");
    let output = project.qqmgr(&["start", "vm", "--json"]).run();
    let expected = |already| {
        let pid = project.pid("vm");
        format!(
            r#"{{
  "name": "vm",
  "pid": {pid},
  "state": "running",
  "ssh": {{
    "port": {port}
  }},
  "already_running": {already},
  "built": []
}}
"#
        )
    };
    output.stdout(expected(false)).success();
    project.qqmgr(&["--json", "start", "vm"]).run().stdout(expected(true)).success();
}

#[test]
fn start_of_a_running_vm_says_so_and_changes_nothing() {
    let (project, port, pid) = started("paused", "paused");
    let expected = format!("vm is already running: paused, pid {pid}, ssh port {port}\n");
    // Its own port is taken by itself, as a real one's is.
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    project.qqmgr(&["start", "vm"]).run().stdout(expected).success();
    assert_eq!(project.pid("vm"), pid);
    assert!(project.runs(pid));
    assert_eq!(project.vm_files("vm"), RUNNING);
}

/// The sockets give full control of the VM.
#[test]
fn what_start_makes_is_private() {
    let (project, ..) = started("normal", "running");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(project.path(".qqmgr")), 0o700);
    assert_eq!(mode(project.path(".qqmgr/vm.vm")), 0o700);
    for file in ["events.in", "events.out", "instance.json", "lock", "pid", "qemu.log", "ssh.conf"]
    {
        assert_eq!(mode(project.vm_path("vm", file)), 0o600, "{file}");
    }
}

#[test]
fn start_makes_an_open_directory_private() {
    let (project, port) = fake("normal");
    let directory = project.path(".qqmgr/vm.vm");
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    start(&project, port, "running");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn start_records_what_it_started() {
    let (project, port, pid) = started("normal", "running");
    let fake = fake_qemu();
    let expected = format!(
        r#"{{
  "format": 1,
  "pid": {pid},
  "start": "[..]",
  "boot_id": "[..]",
  "host": "[..]",
  "pid_namespace": "pid:[..]",
  "ready": true,
  "ssh_port": {port},
  "config_name": "qqmgr.toml",
  "started_at": [SECONDS],
  "set": {{}},
  "argv": [
    "{}",
    "-name",
    "fake=normal",
    "-pidfile",
    "[ROOT]/.qqmgr/vm.vm/pid",
    "-monitor",
    "unix:[ROOT]/.qqmgr/vm.vm/monitor.socket,server,nowait",
    "-serial",
    "file:[ROOT]/.qqmgr/vm.vm/serial",
    "-qmp",
    "unix:[ROOT]/.qqmgr/vm.vm/qmp.socket,server,nowait",
    "-qmp",
    "unix:[ROOT]/.qqmgr/vm.vm/ctl.socket,server,nowait",
    "-qmp",
    "pipe:[ROOT]/.qqmgr/vm.vm/events"
  ],
  "own_words": 3,
  "on_demand": false
}}
"#,
        fake.display()
    );
    let instance = project.vm_path("vm", "instance.json");
    project.sh(&format!("cat '{}'", instance.display())).run().stdout(expected).success();
}

/// Neither Ctrl-C nor a closed terminal may end a VM, and it reads nobody's input.
#[test]
fn qemu_has_a_process_group_of_its_own_and_no_input() {
    let (project, _, pid) = started("normal", "running");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    assert_eq!(after_name.split(' ').nth(2), Some(pid.to_string().as_str()));
    let target = |fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    assert_eq!(target(0), Path::new("/dev/null"));
    assert_eq!(target(1), project.vm_path("vm", "qemu.log"));
    assert_eq!(target(2), project.vm_path("vm", "qemu.log"));
}

#[test]
fn qemu_runs_in_the_directory_of_the_configuration() {
    let (project, _) = fake("normal");
    fs::create_dir(project.path("sub")).unwrap();
    project
        .qqmgr(&["-c", "../qqmgr.toml", "start", "vm"])
        .cwd("sub")
        .run()
        .stdout("vm started: running, pid [PID], ssh port [PORT]\n")
        .success();
    let directory = fs::read_link(format!("/proc/{}/cwd", project.pid("vm"))).unwrap();
    assert_eq!(directory, project.path(""));
}

#[test]
fn verbose_start_says_what_is_executed_and_what_qmp_says() {
    let (project, port) = fake("normal");
    let output = project.qqmgr(&["-v", "start", "vm"]).run();
    let stderr = format!(
        r"qqmgr: exec {} -name fake=normal -pidfile [ROOT]/.qqmgr/vm.vm/pid -monitor unix:[ROOT]/.qqmgr/vm.vm/monitor.socket,server,nowait -serial file:[ROOT]/.qqmgr/vm.vm/serial -qmp unix:[ROOT]/.qqmgr/vm.vm/qmp.socket,server,nowait -qmp unix:[ROOT]/.qqmgr/vm.vm/ctl.socket,server,nowait -qmp pipe:[ROOT]/.qqmgr/vm.vm/events
",
        fake_qemu().display()
    );
    let stdout = format!("vm started: running, pid [PID], ssh port {port}\n");
    output.stdout(stdout).stderr(stderr).success();
}

#[test]
fn start_shows_what_qemu_said_with_a_hint() {
    start_fails(
        "exits-with-error",
        &[],
        1,
        "qqmgr: error: QEMU exited with status 1 before it was ready:\n\
         qemu-system-x86_64: -drive file=nope.img: Could not open 'nope.img': \
         No such file or directory\n\
         qqmgr: hint: relative paths in `cmd` start from `[ROOT]`\n",
        "events.out lock qemu.log",
    );
}

#[test]
fn failed_start_as_json_keeps_the_text_on_stderr() {
    let (project, _) = fake("exits-with-error");
    project
        .qqmgr(&["start", "vm", "--json"])
        .run()
        .stdout(
            r#"{
  "name": "vm",
  "error": {
    "kind": "failed",
    "message": "QEMU exited with status 1 before it was ready:\nqemu-system-x86_64: -drive file=nope.img: Could not open 'nope.img': No such file or directory",
    "hint": "relative paths in `cmd` start from `[ROOT]`"
  }
}
"#,
        )
        .stderr(
            "qqmgr: error: QEMU exited with status 1 before it was ready:\n\
             qemu-system-x86_64: -drive file=nope.img: Could not open 'nope.img': \
             No such file or directory\n\
             qqmgr: hint: relative paths in `cmd` start from `[ROOT]`\n",
        )
        .code(1);
    assert_eq!(
        project.vm_file("vm", "qemu.log"),
        "qemu-system-x86_64: -drive file=nope.img: Could not open 'nope.img': \
         No such file or directory\n"
    );
}

#[test]
fn start_of_a_qemu_that_exits_with_success_fails() {
    start_fails(
        "exits-with-success",
        &[],
        1,
        "qqmgr: error: QEMU exited with status 0 before it was ready, and said nothing\n",
        "events.out lock qemu.log",
    );
}

#[test]
fn start_explains_a_forwarded_port_that_is_taken() {
    start_fails(
        "port-taken",
        &[],
        1,
        "qqmgr: error: QEMU exited with status 1 before it was ready:\n\
         qemu-system-x86_64: -netdev user,id=net0,hostfwd=tcp:127.0.0.1:2089-:22: \
         Could not set up host forwarding rule 'tcp:127.0.0.1:2089-:22'\n\
         qqmgr: hint: port 2089 is taken: choose another one in this `hostfwd`\n",
        "events.out lock qemu.log",
    );
}

#[test]
fn start_gives_up_on_a_qemu_without_qmp() {
    start_fails(
        "no-qmp",
        &["--timeout", "0.3"],
        4,
        "qqmgr: error: QEMU was not ready within 0.3 s, and said nothing\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        "events.out lock qemu.log",
    );
}

#[test]
fn start_that_timed_out_as_json() {
    let (project, _) = fake("no-qmp");
    project
        .qqmgr(&["start", "vm", "--json", "--timeout=0.1"])
        .run()
        .stdout(
            r#"{
  "name": "vm",
  "error": {
    "kind": "timed-out",
    "message": "QEMU was not ready within 0.1 s, and said nothing",
    "hint": "its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`"
  }
}
"#,
        )
        .stderr(
            "qqmgr: error: QEMU was not ready within 0.1 s, and said nothing\n\
             qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        )
        .code(4);
}

/// That it waits for the greeting is said after some seconds, not when the wait is over.
#[test]
fn start_gives_up_on_a_silent_qmp() {
    start_fails(
        "silent-qmp",
        &["--timeout", "0.3"],
        4,
        "qqmgr: error: QEMU was not ready within 0.3 s, and said nothing\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
}

#[test]
fn start_gives_up_on_a_reply_that_stops_halfway() {
    start_fails(
        "half-reply",
        &["--timeout", "0.3"],
        4,
        "qqmgr: error: QEMU was not ready within 0.3 s, and said nothing\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
}

#[test]
fn start_of_a_qemu_that_exits_within_its_greeting_fails() {
    start_fails(
        "half-line",
        &[],
        1,
        "qqmgr: error: QEMU exited with status 1 before it was ready; the end of its serial output:\n\
         fake boot\n\
         qqmgr: hint: its serial output is `[ROOT]/.qqmgr/vm.vm/serial`\n",
        STOPPED,
    );
}

/// It must neither read for ever nor hold it all.
#[test]
fn start_refuses_an_endless_greeting() {
    start_fails(
        "huge-line",
        &[],
        1,
        "qqmgr: error: cannot manage this QEMU: its QMP session speaks no QMP: \
         no answer in 64 KiB[..]\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
}

#[test]
fn start_refuses_garbage_in_place_of_a_greeting() {
    start_fails(
        "garbage",
        &[],
        1,
        "qqmgr: error: cannot manage this QEMU: its QMP session speaks no QMP: \
         unexpected text after the value at byte 4: 220 ready[..]\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
}

#[test]
fn start_refuses_a_reply_that_is_nested_too_deeply() {
    start_fails(
        "deep-nesting",
        &[],
        1,
        "qqmgr: error: cannot manage this QEMU: its QMP session speaks no QMP: \
         nested too deeply at byte [PID]: {\"return\": [[..]\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
}

#[test]
fn start_tells_of_an_error_reply() {
    start_fails(
        "error-reply",
        &[],
        1,
        "qqmgr: error: cannot manage this QEMU: `query-status`: fake-qemu was told to fail[..]\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
}

/// The 3,000 events before each reply are neither taken for it nor kept without limit.
#[test]
fn a_flood_of_events_hides_no_reply() {
    let (project, port, pid) = started("event-flood", "running");
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    stop_ends_by("powerdown", &project, pid, &[]);
}

#[test]
fn a_reply_to_another_command_is_no_reply() {
    let (project, port, pid) = started("stale-reply", "running");
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
}

/// Events that come before a reply are not lost: stop does not wait for more of them.
#[test]
fn stop_knows_what_happened_before_the_reply() {
    let (project, _, pid) = started("stop-before-reply", "running");
    let begin = Instant::now();
    stop_ends_by("powerdown", &project, pid, &[]);
    assert!(begin.elapsed() < Duration::from_secs(2));
}

/// A socket that is there says nothing.
#[test]
fn start_waits_for_a_late_greeting() {
    let begin = Instant::now();
    started("late-greeting,ms=300", "running");
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[test]
fn start_does_not_wait_past_its_timeout_for_a_late_greeting() {
    start_fails(
        "late-greeting,ms=30000",
        &["--timeout", "0.3"],
        4,
        "qqmgr: error: QEMU was not ready within 0.3 s, and said nothing\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
}

#[test]
fn start_that_takes_long_says_what_it_waits_for() {
    let (project, port) = fake("late-greeting,ms=3300");
    project
        .qqmgr(&["start", "vm"])
        .run()
        .stdout(format!("vm started: running, pid [PID], ssh port {port}\n"))
        .stderr("qqmgr: waiting for QEMU to answer\n")
        .success();
}

#[test]
fn start_has_one_attempt_in_progress_and_status_calls_it_starting() {
    let (project, port) = fake("late-greeting,ms=2500");
    thread::scope(|scope| {
        // Whether it has to say that it waits depends on who of the two is served first.
        let start = scope.spawn(|| {
            let run = project.qqmgr(&["start", "vm"]).run();
            assert!(run.stdout.starts_with("vm started: running, pid "), "{}", run.stderr);
            assert_eq!(run.status, Some(0));
        });
        let socket = project.vm_path("vm", "ctl.socket");
        wait_until("QEMU has its socket", SOON, || socket.exists());
        let pid = project.pid("vm");
        let expected = listed("starting", pid, port);
        project.qqmgr(&["list", "--json"]).run().stdout(expected).success();
        let expected = status(Some(pid), port, "starting", "false");
        project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
        start.join().unwrap();
    });
}

/// The QEMU that a killed `start` leaves behind is taken over.
#[test]
fn start_continues_a_start_that_was_killed() {
    let (project, port) = fake("late-greeting,ms=400");
    let script = "\"$QQMGR\" start vm & start=$!\n\
                  until [ -S .qqmgr/vm.vm/ctl.socket ]; do :; done\n\
                  kill -KILL $start\nwait $start 2>&-; :";
    project.sh(script).run().success();
    let pid = project.pid("vm");
    let expected = format!("vm is already running: running, pid {pid}, ssh port {port}\n");
    project.qqmgr(&["start", "vm"]).run().stdout(expected).success();
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
}

#[test]
fn start_shows_the_end_of_a_long_log_without_what_a_terminal_would_obey() {
    let project = Project::new();
    project
        .write("qemu.sh", "for i in $(seq 500); do printf 'line\\033[31m %s\\n' $i; done; exit 3");
    project.config(&format!(
        "[qemu]\nbin = \"sh\"\n[vm.vm]\ncmd = \"qemu.sh\"\nssh.port = {}\n",
        free_port()
    ));
    let mut said = String::new();
    for number in 481..=500 {
        let _ = writeln!(said, "line\u{fffd}[31m {number}");
    }
    project
        .qqmgr(&["start", "vm"])
        .run()
        .stderr(format!(
            "qqmgr: error: QEMU exited with status 3 before it was ready:\n{said}\
             qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n"
        ))
        .code(1);
}

#[test]
fn start_knows_the_usual_causes() {
    for (said, hint) in [
        (
            "could not set up host forwarding rule 'tcp::2089-:22'",
            "port 2089 is taken: choose another one in this `hostfwd`",
        ),
        (
            "Could not access KVM kernel module: Permission denied",
            "you may not open /dev/kvm: let your user, or use `-accel tcg`, which is slower",
        ),
        (
            "-drive file=a.img: Failed to get \"write\" lock",
            "an image is in use: stop the QEMU that has it, and use it in one drive",
        ),
        ("-kernel k: Could not open 'k'", "relative paths in `cmd` start from `[ROOT]`"),
        ("-foo: invalid option", "its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`"),
    ] {
        let project = Project::new();
        project.write("said", format!("qemu: {said}\n"));
        project.config(&format!(
            "[qemu]\nbin = \"sh\"\n[vm.vm]\ncmd = \"-c 'cat said >&2; exit 1'\"\nssh.port = {}\n",
            free_port()
        ));
        project
            .qqmgr(&["start", "vm"])
            .run()
            .stderr(format!(
                "qqmgr: error: QEMU exited with status 1 before it was ready:\nqemu: {said}\n\
                 qqmgr: hint: {hint}\n"
            ))
            .code(1);
    }
}

#[test]
fn start_says_by_which_signal_qemu_was_ended() {
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = \"sh\"\n[vm.vm]\ncmd = \"-c 'kill -ABRT $$'\"\nssh.port = {}\n",
        free_port()
    ));
    project
        .qqmgr(&["start", "vm"])
        .run()
        .stderr("qqmgr: error: QEMU was ended by signal 6 before it was ready, and said nothing\n")
        .code(1);
    assert_eq!(project.vm_files("vm"), "events.out lock qemu.log");
}

/// The pid file names somebody else's process: that is never signalled, and QEMU is ended all the
/// same, without waiting for an end that nobody has asked for.
#[test]
fn start_ends_a_qemu_that_writes_another_pid_and_nobody_else() {
    let bystander = Bystander::new(&[]);
    let begin = Instant::now();
    start_fails(
        &format!("wrong-pid,ms={}", bystander.id()),
        &[],
        1,
        "qqmgr: error: QEMU did not write its pid file, and said nothing\n\
         qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        STOPPED,
    );
    assert!(begin.elapsed() < Duration::from_secs(4), "it took {:?}", begin.elapsed());
    assert!(bystander.was_left_alone());
}

/// Nothing of `bin` says that it is a QEMU: neither a pid file nor a socket.
#[test]
fn a_program_that_is_no_qemu_is_ended() {
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = \"sh\"\n[vm.vm]\n\
         cmd = \"-c 'echo $$ > pid-of-sh; read line < fifo'\"\nssh.port = {}\n",
        free_port()
    ));
    project.sh("mkfifo fifo").run().success();
    let begin = Instant::now();
    project
        .qqmgr(&["start", "vm", "--timeout", "0.3"])
        .run()
        .stderr(
            "qqmgr: error: QEMU was not ready within 0.3 s, and said nothing\n\
             qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        )
        .code(4);
    assert!(begin.elapsed() < Duration::from_secs(4), "it took {:?}", begin.elapsed());
    let pid = fs::read_to_string(project.path("pid-of-sh")).unwrap();
    assert!(!project.runs(pid.trim().parse().unwrap()));
    assert_eq!(project.vm_files("vm"), "events.out lock qemu.log");
}

#[test]
fn start_of_a_missing_qemu_creates_nothing() {
    for bin in ["no-such-qemu", "./no-such-qemu", "no/such/qemu", "/no/such/qemu"] {
        let project = Project::new();
        project.config(&format!(
            "[qemu]\nbin = \"{bin}\"\n[vm.vm]\ncmd = \"-m 1\"\nssh.port = {}\n",
            free_port()
        ));
        project
            .qqmgr(&["start", "vm"])
            .run()
            .stderr(format!(
                "qqmgr: error: there is no program `{bin}`\n\
                 qqmgr: hint: install QEMU (Debian: qemu-system-x86), or set `bin` in `[qemu]` \
                 to where it is\n"
            ))
            .code(1);
        assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
    }
}

/// As above where the sockets need a short way: not even that is made.
#[test]
fn start_of_a_missing_qemu_in_a_deep_directory_creates_nothing() {
    let project = Project::new();
    let deep = "d".repeat(120);
    project.write(
        format!("{deep}/qqmgr.toml"),
        format!(
            "[qemu]\nbin = \"no-such-qemu\"\n[vm.vm]\ncmd = \"\"\nssh.port = {}\n",
            free_port()
        ),
    );
    fs::create_dir(project.path("run")).unwrap();
    project
        .qqmgr(&["start", "vm"])
        .cwd(&deep)
        .env("XDG_RUNTIME_DIR", project.path("run"))
        .run()
        .stderr(
            "qqmgr: error: there is no program `no-such-qemu`\n\
             qqmgr: hint: install QEMU (Debian: qemu-system-x86), or set `bin` in `[qemu]` \
             to where it is\n",
        )
        .code(1);
    assert_eq!(project.files("run"), [""; 0]);
}

#[test]
fn start_of_a_qemu_that_may_not_be_executed_fails() {
    let project = Project::new();
    project.write("qemu", "no program");
    project.config(&format!(
        "[qemu]\nbin = \"./qemu\"\n[vm.vm]\ncmd = \"-m 1\"\nssh.port = {}\n",
        free_port()
    ));
    project
        .qqmgr(&["start", "vm"])
        .run()
        .stderr(
            "qqmgr: error: cannot run `[ROOT]/./qemu`: permission denied\n\
             qqmgr: hint: `bin` in `[qemu]` says which QEMU is run\n",
        )
        .code(1);
    assert!(!project.path(".qqmgr").exists());
}

#[test]
fn a_relative_bin_starts_from_the_configuration() {
    let project = Project::new();
    fs::create_dir(project.path("tools")).unwrap();
    symlink(fake_qemu(), project.path("tools/qemu")).unwrap();
    let port = free_port();
    project.config(&format!(
        "[qemu]\nbin = \"tools/qemu\"\n[vm.vm]\ncmd = \"-name fake=normal\"\nssh.port = {port}\n"
    ));
    let output = project.qqmgr(&["-c", "../qqmgr.toml", "start", "vm"]).cwd("home").run();
    output.stdout(format!("vm started: running, pid [PID], ssh port {port}\n")).success();
    let command = fs::read(format!("/proc/{}/cmdline", project.pid("vm"))).unwrap();
    let program = command.split(|byte| *byte == 0).next().unwrap();
    assert_eq!(program, project.path("tools/qemu").as_os_str().as_encoded_bytes());
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
        project
            .qqmgr(&["start", "vm"])
            .run()
            .stderr(format!(
                "qqmgr: error: ssh port {port} is taken by `[..]` (pid {})\n\
                 qqmgr: hint: give the VM another `port`, and its `hostfwd` too\n",
                process::id()
            ))
            .code(1);
        assert_eq!(project.vm_files("vm"), "");
    }
}

/// One of them starts it, the others wait and find it running.
#[test]
fn simultaneous_starts_start_one_qemu() {
    let (project, port) = fake("late-greeting,ms=50");
    let outputs: Vec<(Option<i32>, String)> = thread::scope(|scope| {
        let starts: Vec<_> =
            (0..20).map(|_| scope.spawn(|| project.qqmgr(&["start", "vm"]).run())).collect();
        let outputs = starts.into_iter().map(|start| start.join().unwrap());
        outputs.map(|output| (output.status, output.stdout)).collect()
    });
    let pid = project.pid("vm");
    let first = format!("vm started: running, pid {pid}, ssh port {port}\n");
    let later = format!("vm is already running: running, pid {pid}, ssh port {port}\n");
    assert!(outputs.iter().all(|(status, _)| *status == Some(0)), "{outputs:?}");
    assert_eq!(outputs.iter().filter(|(_, stdout)| *stdout == first).count(), 1, "{outputs:?}");
    assert_eq!(outputs.iter().filter(|(_, stdout)| *stdout == later).count(), 19, "{outputs:?}");
}

/// The lock is held by a `stop` that waits for a QMP client of ours to go, which the test decides.
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

fn stop_then_gone(project: &Project, pid: u32) {
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    assert!(!project.runs(pid));
}

/// A client that QEMU serves, so that nobody else is served.
fn greeted(project: &Project, socket: &str) -> UnixStream {
    let client = UnixStream::connect(project.vm_path("vm", socket)).unwrap();
    let mut greeting = String::new();
    BufReader::new(&client).read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("{\"QMP\""), "{greeting}");
    client
}

// --- stop

#[test]
fn stop_presses_the_power_button() {
    let (project, _, pid) = started("normal", "running");
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    assert!(!project.runs(pid));
    assert_eq!(project.vm_files("vm"), STOPPED);
    assert_eq!(asked_for(&project), ASKED_BY_STOP);
    assert_eq!(project.vm_file("vm", "serial"), "fake boot\n");
}

#[test]
fn stop_as_json() {
    let (project, _, pid) = started("normal", "running");
    stop_ends_by("powerdown", &project, pid, &[]);
}

#[test]
fn stop_of_a_stopped_vm_is_success() {
    let (project, _) = fake("normal");
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
    let expected = r#"{
  "name": "vm",
  "pid": null,
  "method": "none",
  "reason": null,
  "seconds": [SECONDS]
}
"#;
    project.qqmgr(&["stop", "vm", "--json"]).run().stdout(expected).success();
}

#[test]
fn a_stopped_vm_starts_again() {
    let (project, port, first) = started("normal", "running");
    stop_ends_by("powerdown", &project, first, &[]);
    project.write(".qqmgr/vm.vm/qemu.log", "of the last start\n");
    let second = start(&project, port, "running");
    assert_ne!(first, second);
    assert_eq!(project.vm_file("vm", "qemu.log"), "");
}

#[test]
fn stop_continues_a_paused_guest_first() {
    let (project, _, pid) = started("paused", "paused");
    stop_ends_by("powerdown", &project, pid, &[]);
    let asked = r#"{"execute": "qmp_capabilities", "id": 1}
{"execute": "query-status", "id": 2}
{"execute": "cont", "id": 3}
{"execute": "system_powerdown", "id": 4}
"#;
    assert_eq!(asked_for(&project), asked);
}

#[test]
fn stop_wakes_a_suspended_guest_first() {
    let (project, _, pid) = started("suspended", "suspended");
    stop_ends_by("powerdown", &project, pid, &[]);
    let asked = r#"{"execute": "qmp_capabilities", "id": 1}
{"execute": "query-status", "id": 2}
{"execute": "system_wakeup", "id": 3}
{"execute": "system_powerdown", "id": 4}
"#;
    assert_eq!(asked_for(&project), asked);
}

/// Nobody is there to hear the power button, so the 20 seconds are not spent: the run would
/// otherwise be killed before it says `sigterm`, or say so 20 seconds late.
#[test]
fn stop_does_not_wait_for_a_guest_that_cannot_power_off() {
    for scenario in ["prelaunch", "guest-panicked", "shutdown"] {
        let (project, _, pid) = started(scenario, scenario);
        let begin = Instant::now();
        let method = if scenario == "shutdown" { "powerdown" } else { "sigterm" };
        stop_ends_by(method, &project, pid, &[]);
        assert!(begin.elapsed() < Duration::from_secs(10), "{scenario}");
        assert_eq!(asked_for(&project), ASKED_FOR_STATE, "{scenario}");
    }
}

/// As above when that becomes so only after the button was pressed.
#[test]
fn stop_notices_a_guest_that_stops_without_the_end_of_qemu() {
    for scenario in ["no-shutdown", "panics-on-powerdown"] {
        let (project, _, pid) = started(scenario, "running");
        let begin = Instant::now();
        let method = if scenario == "no-shutdown" { "powerdown" } else { "sigterm" };
        stop_ends_by(method, &project, pid, &[]);
        assert!(begin.elapsed() < Duration::from_secs(10), "{scenario}");
        let again = "{\"execute\": \"query-status\", \"id\": 4}\n";
        let asked = [ASKED_BY_STOP, again].concat();
        assert_eq!(asked_for(&project), asked, "{scenario}");
    }
}

/// A guest that is still booting misses the power button.
#[test]
fn stop_presses_the_power_button_again() {
    let (project, _, pid) = started("early-powerdown-lost", "running");
    let output = project.qqmgr(&["stop", "vm", "--json"]).run();
    output.stdout(stopped(pid, "powerdown")).stderr(WAITING).success();
    assert!(!project.runs(pid));
    let again = r#"{"execute": "query-status", "id": 4}
{"execute": "system_powerdown", "id": 5}
"#;
    let asked = [ASKED_BY_STOP, again].concat();
    assert_eq!(asked_for(&project), asked);
}

/// After the end of QMP there are images to be flushed; `stop` returns when the process is gone.
#[test]
fn stop_waits_for_the_end_of_the_process() {
    let (project, _, pid) = started("exits-slowly,ms=300", "running");
    let begin = Instant::now();
    stop_ends_by("powerdown", &project, pid, &[]);
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[test]
fn stop_ends_a_qemu_that_takes_too_long_to_exit() {
    let (project, _, pid) = started("exits-slowly,ms=30000", "running");
    // Its guest has powered off.
    let expected = stopped(pid, "sigterm").replace("null", "\"guest-shutdown\"");
    let stop = project.qqmgr(&["stop", "vm", "--json", "--timeout", "0.3"]).run();
    stop.stdout(expected).success();
    assert!(!project.runs(pid));
}

#[test]
fn stop_ends_qemu_when_the_guest_ignores_the_power_button() {
    let (project, _, pid) = started("ignores-powerdown", "running");
    let begin = Instant::now();
    project
        .qqmgr(&["stop", "vm", "--timeout", "0.3"])
        .run()
        .stdout("vm ended by SIGTERM in [SECONDS] s\n")
        .success();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert!(!project.runs(pid));
    assert_eq!(project.vm_files("vm"), STOPPED);
}

#[test]
fn stop_with_no_time_for_the_guest_ends_qemu() {
    let (project, _, pid) = started("normal", "running");
    stop_ends_by("sigterm", &project, pid, &["--timeout=0"]);
}

#[test]
fn stop_by_force_does_not_ask_the_guest() {
    let (project, _, pid) = started("normal", "running");
    stop_ends_by("sigterm", &project, pid, &["--force"]);
    assert!(!project.vm_path("vm", "fake.log").exists());
}

#[test]
fn stop_that_may_not_kill_leaves_the_vm_running() {
    let (project, port, pid) = started("ignores-powerdown", "running");
    project
        .qqmgr(&["stop", "vm", "--no-kill", "--timeout", "0.3"])
        .run()
        .stderr(format!(
            "qqmgr: error: the guest did not power off within 0.3 s; QEMU (pid {pid}) still runs\n\
             qqmgr: hint: without `--no-kill` QEMU would be ended now\n"
        ))
        .code(4);
    assert!(project.runs(pid));
    assert_eq!(project.vm_files("vm"), RUNNING);
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
}

#[test]
fn stop_that_may_not_kill_a_panicked_guest_says_why_it_cannot_power_off() {
    let (project, _, pid) = started("guest-panicked", "guest-panicked");
    let message =
        format!("the guest is `guest-panicked` and cannot power off; QEMU (pid {pid}) still runs");
    project
        .qqmgr(&["stop", "vm", "--no-kill", "--json"])
        .run()
        .stdout(format!(
            r#"{{
  "name": "vm",
  "error": {{
    "kind": "timed-out",
    "message": "{message}",
    "hint": "without `--no-kill` QEMU would be ended now"
  }}
}}
"#
        ))
        .stderr(format!(
            "qqmgr: error: {message}\n\
             qqmgr: hint: without `--no-kill` QEMU would be ended now\n"
        ))
        .code(4);
    assert!(project.runs(pid));
}

#[test]
fn verbose_stop_says_what_it_does() {
    let (project, _, pid) = started("ignores-powerdown", "running");
    project
        .qqmgr(&["stop", "vm", "-v", "--timeout", "0.2"])
        .run()
        .stdout("vm ended by SIGTERM in [SECONDS] s\n")
        .stderr(format!(
            r#"qqmgr: qmp <- {{"QMP": [..]}}
qqmgr: qmp -> {{"execute": "qmp_capabilities", "id": [PID]}}
qqmgr: qmp <- {{"return": {{}}, "id": [PID]}}
qqmgr: qmp -> {{"execute": "query-status", "id": [PID]}}
qqmgr: qmp <- {{"return": {{"status": "running", "singlestep": false, "running": true}}, "id": [PID]}}
qqmgr: qmp -> {{"execute": "system_powerdown", "id": [PID]}}
qqmgr: qmp <- {{"timestamp": {{"seconds": [PID], "microseconds": [PID]}}, "event": "POWERDOWN"}}
qqmgr: qmp <- {{"return": {{}}, "id": [PID]}}
qqmgr: the guest did not power off within 0.2 s
qqmgr: kill -TERM {pid}
"#
        ))
        .success();
}

/// SIGTERM cannot end a process that is stopped; SIGKILL can.
#[test]
fn a_frozen_qemu_is_unresponsive_and_stop_ends_it() {
    let (project, port, pid) = started("normal", "running");
    freeze(pid);
    let begin = Instant::now();
    let expected = listed("unresponsive", pid, port);
    project.qqmgr(&["list", "--json"]).run().stdout(expected).success();
    let expected = status(Some(pid), port, "unresponsive", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    let expected = format!("vm is already running: unresponsive, pid {pid}, ssh port {port}\n");
    project.qqmgr(&["start", "vm"]).run().stdout(expected).success();
    assert!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());
    project
        .qqmgr(&["stop", "vm", "--timeout", "0.2"])
        .run()
        .stdout("vm ended by SIGKILL in [SECONDS] s\n")
        .success();
    assert!(!project.runs(pid));
    assert_eq!(project.vm_files("vm"), STOPPED);
}

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

#[test]
fn stop_ends_a_vm_whose_sockets_are_gone() {
    let (project, _, pid) = started("normal", "running");
    for socket in ["ctl.socket", "qmp.socket", "monitor.socket"] {
        fs::remove_file(project.vm_path("vm", socket)).unwrap();
    }
    stop_ends_by("sigterm", &project, pid, &["--timeout", "0.2"]);
}

/// A mistake in the configuration keeps nobody from stopping a VM.
#[test]
fn stop_needs_no_valid_placeholders() {
    let (project, _, pid) = started("normal", "running");
    project.config(&format!(
        "[qemu]\nbin = \"{{{{.gone}}}}\"\n[vm.vm]\ncmd = \"{{{{.missing}}}} 'unclosed\"\n\
         ssh.port = {}\n",
        free_port()
    ));
    stop_ends_by("powerdown", &project, pid, &[]);
}

// --- what crashes and reboots leave

#[test]
fn a_killed_qemu_is_stopped_and_starts_again() {
    let (project, port, first) = started("normal", "running");
    signal(first, "KILL");
    wait_until("it is gone", SOON, || !project.runs(first));
    assert_eq!(project.vm_files("vm"), RUNNING);
    let why = "QEMU gave no reason: killed, crashed, or a debug exit of the guest";
    let expected = status(None, port, "stopped", "null")
        .replace("\"ended\": null", &format!("\"ended\": \"{why}\""))
        .replace("\"ended_at\": null", "\"ended_at\": [SECONDS]");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    let second = start(&project, port, "running");
    assert_ne!(first, second);
    stop_ends_by("powerdown", &project, second, &[]);
}

#[test]
fn stop_removes_what_a_killed_qemu_leaves() {
    let (project, _, pid) = started("normal", "running");
    signal(pid, "KILL");
    wait_until("it is gone", SOON, || !project.runs(pid));
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
    assert_eq!(project.vm_files("vm"), STOPPED);
}

/// `kill -0` succeeds on a zombie, which a container without an init keeps for ever.
#[test]
fn a_zombie_is_no_vm() {
    let (project, port) = fake("normal");
    fs::create_dir_all(project.path(".qqmgr/vm.vm")).unwrap();
    let pid_file = project.vm_path("vm", "pid");
    let mut child = Command::new(fake_qemu()).arg("-pidfile").arg(&pid_file).spawn().unwrap();
    wait_until("it has a pid file", SOON, || {
        fs::read_to_string(&pid_file).is_ok_and(|text| text == format!("{}\n", child.id()))
    });
    signal(child.id(), "KILL");
    let stat = format!("/proc/{}/stat", child.id());
    wait_until("it is a zombie", SOON, || fs::read_to_string(&stat).unwrap().contains(") Z "));
    let expected = status(None, port, "stopped", "null");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
    start(&project, port, "running");
    child.wait().unwrap();
}

/// Numbers that are nobody's, the test's own process's, init's, and no numbers.
#[test]
fn a_stale_pid_file_is_not_believed() {
    let own = process::id().to_string();
    let texts =
        ["", "\n", "garbage\n", "0\n", "-1\n", "1\n", "4194305\n", "99999999999\n", "1 2\n", &own];
    for text in texts {
        let (project, port) = fake("normal");
        project.write(".qqmgr/vm.vm/pid", text);
        let expected = status(None, port, "stopped", "null");
        project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
        project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
        assert_eq!(project.vm_files("vm"), "lock", "{text:?}");
        project.write(".qqmgr/vm.vm/pid", text);
        start(&project, port, "running");
    }
}

/// Its command line mentions our pid file, as that of an editor or of `tail` might; it is no QEMU.
#[test]
fn a_process_that_only_mentions_the_pid_file_is_not_signalled() {
    let (project, port) = fake("normal");
    let pid_file = project.vm_path("vm", "pid");
    let bystander = Bystander::new(&[&pid_file.display().to_string()]);
    project.write(".qqmgr/vm.vm/pid", format!("{}\n", bystander.id()));
    project.write(
        ".qqmgr/vm.vm/instance.json",
        format!(
            r#"{{"pid": {}, "ssh_port": 1, "started_at": 1, "config_hash": "", "argv": []}}"#,
            bystander.id()
        ),
    );
    let expected = status(None, port, "stopped", "null");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
    assert!(bystander.was_left_alone());
}

/// The VM of another project has the same name and the number that our pid file names.
#[test]
fn a_qemu_of_another_project_is_not_ours() {
    let (other, _, pid) = started("normal", "running");
    let (project, port) = fake("normal");
    project.write(".qqmgr/vm.vm/pid", format!("{pid}\n"));
    let expected = status(None, port, "stopped", "null");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
    assert!(other.runs(pid));
}

/// Whatever happens to its pid file, a live QEMU is found, not started twice, and stopped.
#[test]
fn a_live_qemu_is_found_without_its_pid_file() {
    for text in ["", "garbage\n", "1\n"] {
        let (project, _, pid) = started("normal", "running");
        project.write(".qqmgr/vm.vm/pid", text);
        stop_ends_by("powerdown", &project, pid, &[]);
    }
    let (project, _, pid) = started("normal", "running");
    fs::remove_file(project.vm_path("vm", "pid")).unwrap();
    stop_ends_by("powerdown", &project, pid, &[]);
}

/// Nothing that qqmgr or QEMU made: it is not removed with all that may be in it.
#[test]
fn a_directory_in_place_of_the_pid_file_is_an_error() {
    let (project, port) = fake("normal");
    project.write(".qqmgr/vm.vm/pid/precious", "");
    let expected = status(None, port, "stopped", "null");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    for command in ["stop", "start"] {
        project
            .qqmgr(&[command, "vm"])
            .run()
            .stderr(
                "qqmgr: error: cannot remove `[ROOT]/.qqmgr/vm.vm/pid`: is a directory\n\
                 qqmgr: hint: it is in the place of QEMU's pid file: remove it\n",
            )
            .code(1);
    }
    assert_eq!(project.vm_files("vm"), "pid pid/precious");
}

/// What a stuck `start` waits for can be ended.
#[test]
fn stop_by_force_ends_a_vm_whose_start_is_stuck() {
    let (project, _) = fake("silent-qmp");
    thread::scope(|scope| {
        let start = scope.spawn(|| project.qqmgr(&["start", "vm", "--timeout", "50"]).run());
        wait_until("QEMU has its socket", SOON, || project.vm_path("vm", "ctl.socket").exists());
        let begin = Instant::now();
        let stop = project.qqmgr(&["stop", "vm", "--force"]).run();
        assert_eq!(stop.status, Some(0), "{}", stop.stderr);
        assert!(begin.elapsed() < Duration::from_secs(12));
        assert_eq!(start.join().unwrap().status, Some(1));
    });
    assert_eq!(project.vm_files("vm"), STOPPED);
}

/// Reading it might never end.
#[test]
fn a_fifo_in_place_of_the_pid_file_is_not_read() {
    let (project, port) = fake("normal");
    project.sh("mkdir -p .qqmgr/vm.vm && mkfifo .qqmgr/vm.vm/pid").run().success();
    let expected = status(None, port, "stopped", "null");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    start(&project, port, "running");
}

#[test]
fn a_vm_directory_that_is_a_link_is_refused() {
    let (project, _) = fake("normal");
    fs::create_dir(project.path(".qqmgr")).unwrap();
    fs::create_dir(project.path("elsewhere")).unwrap();
    symlink(project.path("elsewhere"), project.path(".qqmgr/vm.vm")).unwrap();
    for command in ["start", "stop"] {
        project
            .qqmgr(&[command, "vm"])
            .run()
            .stderr(
                "qqmgr: error: `[ROOT]/.qqmgr/vm.vm` is a symbolic link, not a directory\n\
                 qqmgr: hint: remove it: a VM's directory must be the one that its path names\n",
            )
            .code(1);
    }
    assert_eq!(project.files("elsewhere"), [""; 0]);
}

#[test]
fn a_vm_directory_of_somebody_else_is_refused() {
    let (project, _) = fake("normal");
    let directory = project.path(".qqmgr/vm.vm");
    fs::create_dir_all(&directory).unwrap();
    if chown(&directory, Some(4711), None).is_err() {
        eprintln!("skipped: only root can give a directory away");
        return;
    }
    project
        .qqmgr(&["start", "vm"])
        .run()
        .stderr(
            "qqmgr: error: `[ROOT]/.qqmgr/vm.vm` belongs to user 4711, not to [PID]\n\
             qqmgr: hint: who owns the directory controls the VM; use a directory of your own\n",
        )
        .code(1);
    assert_eq!(project.vm_files("vm"), "");
}

// --- status and list

#[test]
fn status_of_a_running_vm() {
    let (project, port, pid) = started("normal", "running");
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    project
        .qqmgr(&["status", "vm"])
        .run()
        .stdout(format!(
            "\
name:       vm
state:      running
pid:        {pid}
uptime:     [SECONDS] s
ssh port:   {port}
ssh config: [ROOT]/.qqmgr/vm.vm/ssh.conf
serial:     [ROOT]/.qqmgr/vm.vm/serial
log:        [ROOT]/.qqmgr/vm.vm/qemu.log
qmp:        [ROOT]/.qqmgr/vm.vm/qmp.socket
monitor:    [ROOT]/.qqmgr/vm.vm/monitor.socket
pid file:   [ROOT]/.qqmgr/vm.vm/pid
config:     [ROOT]/qqmgr.toml
"
        ))
        .success();
}

#[test]
fn status_of_a_stopped_vm_creates_nothing() {
    let (project, port) = fake("normal");
    let expected = status(None, port, "stopped", "null");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    project
        .qqmgr(&["status", "vm"])
        .run()
        .stdout(format!(
            "\
name:       vm
state:      stopped
ssh port:   {port}
ssh config: [ROOT]/.qqmgr/vm.vm/ssh.conf
serial:     [ROOT]/.qqmgr/vm.vm/serial
log:        [ROOT]/.qqmgr/vm.vm/qemu.log
qmp:        [ROOT]/.qqmgr/vm.vm/qmp.socket
monitor:    [ROOT]/.qqmgr/vm.vm/monitor.socket
pid file:   [ROOT]/.qqmgr/vm.vm/pid
config:     [ROOT]/qqmgr.toml
"
        ))
        .success();
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

#[test]
fn status_uses_the_words_of_qemu() {
    for state in ["paused", "prelaunch", "guest-panicked", "shutdown", "suspended"] {
        let (project, port, pid) = started(state, state);
        let expected = status(Some(pid), port, state, "false");
        project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    }
}

/// Commands on a running VM go by what it was started with.
#[test]
fn status_says_that_the_configuration_has_changed() {
    let (project, port, pid) = started("normal", "running");
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let other_port = free_port();
    project.config(&text.replace(&port.to_string(), &other_port.to_string()));
    let changes = format!(
        r#"[
    {{
      "running": "ssh port {port}",
      "configured": "ssh port {other_port}"
    }}
  ]"#
    );
    let expected = status_with(Some(pid), port, "running", "true", &changes);
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
    let expected = listed("running", pid, port);
    project.qqmgr(&["list", "--json"]).run().stdout(expected).success();
    let expected = format!(
        "name:       vm\n...\nssh port:   {port}\n...\nnote:       running with `ssh port {port}`, \
         configured `ssh port {other_port}`: restart to apply\n"
    );
    project.qqmgr(&["status", "vm"]).run().stdout(expected).success();

    project.config(&text.replace("fake=normal", "fake=normal -m 1"));
    let changes = r#"[
    {
      "running": null,
      "configured": "-m 1"
    }
  ]"#;
    let expected = status_with(Some(pid), port, "running", "true", changes);
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();

    // The next `ssh` takes it, without a restart.
    project.config(&format!("{text}ssh.User = \"dev\"\n"));
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();

    project.config(&format!("# a comment\n{text}[vm.other]\ncmd = \"\"\nssh.port = 1\n"));
    let expected = status(Some(pid), port, "running", "false");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(expected).success();
}

#[test]
fn list_shows_every_vm_in_file_order_with_its_real_state() {
    let project = Project::new();
    let ports = [(); 3].map(|()| free_port());
    let mut config = format!("[qemu]\nbin = \"{}\"\n", fake_qemu().display());
    for (name, port) in ["zebra", "a-frozen-one", "m"].iter().zip(ports) {
        let _ = writeln!(config, "[vm.{name}]\ncmd = \"-name fake=paused\"\nssh.port = {port}");
    }
    project.config(&config);
    for name in ["zebra", "a-frozen-one"] {
        let stdout = format!("{name} started: paused, pid [PID], ssh port [PORT]\n");
        project.qqmgr(&["start", name]).run().stdout(stdout).success();
    }
    let pids = ["zebra", "a-frozen-one"].map(|name| project.pid(name));
    freeze(pids[1]);
    let expected = format!(
        "\
NAME          STATE              PID  SSH PORT
zebra         running       {:>8}  {:>8}
a-frozen-one  unresponsive  {:>8}  {:>8}
m             stopped              -  {:>8}
",
        pids[0], ports[0], pids[1], ports[1], ports[2]
    );
    project.qqmgr(&["list"]).run().stdout(expected).success();
    let expected = format!(
        r#"[
  {{
    "name": "zebra",
    "running": true,
    "state": "running",
    "pid": {},
    "ssh": {{
      "port": {}
    }},
    "configured": true,
    "ended": null,
    "ended_reason": null,
    "ended_at": null
  }},
  {{
    "name": "a-frozen-one",
    "running": true,
    "state": "unresponsive",
    "pid": {},
    "ssh": {{
      "port": {}
    }},
    "configured": true,
    "ended": null,
    "ended_reason": null,
    "ended_at": null
  }},
  {{
    "name": "m",
    "running": false,
    "state": "stopped",
    "pid": null,
    "ssh": {{
      "port": {}
    }},
    "configured": true,
    "ended": null,
    "ended_reason": null,
    "ended_at": null
  }}
]
"#,
        pids[0], ports[0], pids[1], ports[1], ports[2]
    );
    project.qqmgr(&["--json", "list"]).run().stdout(expected).success();
}

/// It may have been renamed in the configuration, or deleted from it: it can be seen and stopped.
#[test]
fn a_running_vm_that_is_not_configured_any_more_is_not_lost() {
    let (project, port, pid) = started("normal", "running");
    let other_port = free_port();
    project.config(&format!("[vm.other]\ncmd = \"\"\nssh.port = {other_port}\n"));
    let listed = format!(
        "\
NAME   STATE              PID  SSH PORT
other  stopped              -  {other_port:>8}
vm     running       {pid:>8}  {port:>8}  not configured any more
"
    );
    project.qqmgr(&["list"]).run().stdout(listed).success();
    project
        .qqmgr(&["status", "vm"])
        .run()
        .stdout(format!(
            "name:       vm\nstate:      running\npid:        {pid}\n...\nssh port:   {port}\n...\n\
             note:       the configuration has no such VM any more\n"
        ))
        .success();
    let unknown = "qqmgr: error: no such VM in `qqmgr.toml`: `vm`\n\
                   qqmgr: hint: it has `other`\n";
    project.qqmgr(&["start", "vm"]).run().stderr(unknown).code(5);
    stop_ends_by("powerdown", &project, pid, &[]);
    // What is neither configured nor running is nobody's.
    project.qqmgr(&["stop", "vm"]).run().stderr(unknown).code(5);
    project.qqmgr(&["status", "vm"]).run().stderr(unknown).code(5);
    let listed = format!(
        "NAME   STATE              PID  SSH PORT\n\
         other  stopped              -  {other_port:>8}\n"
    );
    project.qqmgr(&["list"]).run().stdout(listed).success();
}

#[test]
fn list_without_vms_is_empty() {
    let project = Project::new();
    project.config("");
    project.qqmgr(&["list"]).run().stdout("NAME  STATE              PID  SSH PORT\n").success();
    project.qqmgr(&["list", "--json"]).run().stdout("[]\n").success();
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

#[test]
fn a_vm_that_is_not_running_takes_no_ssh() {
    let (project, _) = fake("normal");
    let stderr = "qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n";
    project.qqmgr(&["ssh", "vm", "true"]).run().stderr(stderr).code(255);
    project.qqmgr(&["put", "vm", "a", "b"]).run().stderr(stderr).code(3);
    let stdout = r#"{
  "error": {
    "kind": "not-running",
    "message": "VM `vm` is not running",
    "hint": "`qqmgr start vm` starts it"
  }
}
"#;
    project.qqmgr(&["get", "vm", "a", "b", "--json"]).run().stdout(stdout).stderr(stderr).code(3);
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}
