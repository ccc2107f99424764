//! `wait`, and `--wait` of other commands: which events meet a condition, the errors when it cannot
//! be met any more, and the cost of waiting.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::guest;
use crate::harness::{
    Project, Running, fake_qemu, free_port, freeze, has_tool, real_qemu, signal, wait_until,
    with_default_signals,
};
use crate::real_qemu::{BUTTON, HELD, NO_MACHINE, OFF, PANICS, Qmp, SAYS_READY, WAITS};
use crate::real_qemu::{await_ready, guest as boot_sector, project};

const SOON: Duration = Duration::from_secs(20);
/// A network, so that a wait for ssh does not fail at once.
const FORWARDS: &str = "-netdev user,id=net0,hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22";
const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]\n";

/// A project whose VM `vm` runs on a real QEMU without a machine.
#[track_caller]
fn started() -> Option<Project> {
    let project = project(NO_MACHINE)?;
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    Some(project)
}

/// A started VM with a network on which no guest answers.
#[track_caller]
fn started_with_network() -> Option<Project> {
    let project = project(&format!("{NO_MACHINE} {FORWARDS}"))?;
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    Some(project)
}

/// A running `qqmgr wait vm --for CONDITION` that has begun to look.
#[track_caller]
fn waiting<'p>(project: &'p Project, words: &[&str]) -> Running<'p> {
    let wait = project.qqmgr(&[&["wait", "vm", "--for"], words].concat()).start();
    looks_again(&wait);
    wait
}

/// Waits until the command has looked since this call, and found nothing: it sleeps between looks.
#[track_caller]
fn looks_again(wait: &Running) {
    let status = format!("/proc/{}/status", wait.pid);
    let sleeps = || {
        let status = fs::read_to_string(&status).unwrap();
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        count.trim().parse::<u32>().unwrap()
    };
    let before = sleeps();
    wait_until("it looks again", SOON, || sleeps() > before + 4);
    assert_eq!(wait.said(), "");
}

fn qmp(project: &Project) -> Qmp {
    Qmp::connect(&project.vm_path("vm", "qmp.socket"))
}

// --- ssh

/// A guest's ssh port: accepts connections, and gives them to the test.
struct Port(Receiver<TcpStream>);

impl Port {
    fn new(project: &Project) -> Self {
        let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
        let port = config.split("ssh.port = ").nth(1).unwrap().trim().parse().unwrap();
        // QEMU would have this port, but these VMs have no network.
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (sender, connections) = mpsc::channel();
        thread::spawn(move || {
            let mut connections = listener.incoming().flatten();
            connections.try_for_each(|connection: TcpStream| sender.send(connection))
        });
        Self(connections)
    }

    #[track_caller]
    fn next(&self) -> TcpStream {
        self.0.recv_timeout(SOON).expect("it connects")
    }
}

/// QEMU accepts the connection long before the guest can.
#[test]
fn a_connection_is_no_answer() {
    let Some(project) = started() else { return };
    let port = Port::new(&project);
    let wait = project.qqmgr(&["wait", "vm", "--for", "ssh"]).start();
    let mut first = port.next();
    let mut second = port.next();
    let _last = port.next();
    // The first and the last connection are kept; the second is closed.
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    assert_eq!(wait.said(), "");
    // ssh servers may send other lines first.
    first.write_all(b"welcome\r\nthis is no SSH-2.0-server\r\nSSH").unwrap();
    let _last = port.next();
    assert_eq!(wait.said(), "");
    first.write_all(b"-2.0-x\r\n").unwrap();
    wait.end().stdout("vm answers ssh after [SECONDS] s\n").success();
}

/// A refusal is news of the guest's network. With pauses that grow this would take minutes.
#[test]
fn a_connection_that_is_refused_is_followed_by_another_at_once() {
    let Some(project) = started() else { return };
    let port = Port::new(&project);
    let wait = project.qqmgr(&["wait", "vm", "--for", "ssh"]).start();
    for _ in 0..30 {
        drop(port.next());
    }
    port.next().write_all(b"SSH-2.0-x\r\n").unwrap();
    wait.end().stdout("vm answers ssh after [SECONDS] s\n").success();
}

/// QEMU keeps a connection to a guest that does not answer, even if it was closed here.
#[test]
fn a_silent_guest_is_not_flooded() {
    let Some(project) = project(NO_MACHINE) else { return };
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let config = config.replace(NO_MACHINE, &format!("{NO_MACHINE} {FORWARDS}"));
    let held = config.replace("-display none", "-S -display none");
    for (config, seconds, most) in [(&config, "5", 4), (&held, "2", 0)] {
        project.config(config);
        let note = if config == &held { HELD } else { "" };
        let started = project.qqmgr(&["start", "vm"]).run();
        started.stdout("vm started: [..]\n").stderr(note).success();
        let wait = project.qqmgr(&["wait", "vm", "--for", "ssh", "--timeout", seconds]).run();
        assert_eq!(wait.status, Some(4), "{}", wait.stderr);
        let error = format!("error: waited {seconds} s for the ssh server of VM `vm`");
        assert!(wait.stderr.contains(&error), "{}", wait.stderr);
        let network = project.qqmgr(&["monitor", "vm", "info usernet"]).run().stdout;
        let unanswered = network.matches("SYN_SENT").count();
        assert!(network.contains("HOST_FORWARD") && unanswered <= most, "{seconds} s: {network}");
        let ended = project.qqmgr(&["stop", "vm", "--force"]).run();
        ended.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    }
}

/// The state is reported once, and no connection is made until the guest continues.
#[test]
fn a_guest_that_is_held_is_reported_and_waited_for() {
    let Some(project) = project(&format!("{NO_MACHINE} -S")) else { return };
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout(STARTED.replace("running", "prelaunch")).stderr(HELD).success();
    let port = Port::new(&project);
    let wait = project.qqmgr(&["wait", "vm", "--for", "ssh", "--timeout", "200"]).start();
    let note = "qqmgr: VM `vm` is prelaunch: `qqmgr resume vm` lets it go on\n";
    wait.says(note);
    assert!(port.0.try_recv().is_err());
    project.qqmgr(&["resume", "vm"]).run().stdout("vm is running\n").success();
    port.next().write_all(b"SSH-2.0-x\r\n").unwrap();
    wait.end().stdout("vm answers ssh after [SECONDS] s\n").stderr(note).success();
}

/// A guest that already runs is asked once.
#[test]
fn an_answer_at_once_needs_one_connection() {
    let Some(project) = started() else { return };
    let port = Port::new(&project);
    let wait = project.qqmgr(&["wait", "vm", "--for", "ssh", "--json"]).start();
    port.next().write_all(b"SSH-2.0-x\r\n").unwrap();
    let pid = project.pid("vm");
    let expected = format!(
        "{{\n  \"name\": \"vm\",\n  \"for\": \"ssh\",\n  \"pid\": {pid},\n  \"reason\": null,\n  \
         \"exit_status\": null,\n  \"seconds\": [SECONDS]\n}}\n"
    );
    wait.end().stdout(expected).success();
    assert!(port.0.try_recv().is_err());
}

const RUNNING: &str = "vm is running after [SECONDS] s\n";

/// A guest after a panic or a shutdown needs more than `resume`.
#[test]
fn ssh_to_a_guest_that_has_panicked_or_shut_down() {
    for (code, more, state) in [
        (
            &[BUTTON, SAYS_READY, WAITS, PANICS],
            "-device pvpanic -action panic=pause",
            "guest-panicked",
        ),
        (&[BUTTON, SAYS_READY, WAITS, OFF], "-no-shutdown", "shutdown"),
    ] {
        let Some((project, _)) = boot_sector(code, more) else { return };
        await_ready(&project);
        qmp(&project).execute("system_powerdown");
        let shown = format!("state:      {state}");
        wait_until(state, SOON, || project.qqmgr(&["status", "vm"]).run().stdout.contains(&shown));
        for (words, code) in [(&["ssh", "vm", "true"][..], 255), (&["get", "vm", "a", "."], 1)] {
            let error = format!(
                "qqmgr: error: VM `vm` is {state}: its guest does not run\nqqmgr: hint: `qqmgr reset \
                 vm` and then `qqmgr resume vm` start it again\n"
            );
            project.qqmgr(words).run().stderr(error).code(code);
        }
        project.qqmgr(&["reset", "vm"]).run().stdout("vm: reset, prelaunch\n").success();
        project.qqmgr(&["resume", "vm"]).run().stdout("vm is running\n").success();
    }
}

// --- why it ended

/// The QEMU of such a guest does not end, and sends no more events.
#[test]
fn a_guest_that_panicked_and_was_paused_is_not_waited_for() {
    let code = &[BUTTON, SAYS_READY, WAITS, PANICS];
    let Some((project, _)) =
        boot_sector(code, &format!("-device pvpanic -action panic=pause {FORWARDS}"))
    else {
        return;
    };
    await_ready(&project);
    let (ssh, stopped) = (waiting(&project, &["ssh"]), waiting(&project, &["stopped"]));
    qmp(&project).execute("system_powerdown");
    let expected = "qqmgr: error: the guest panicked while waiting for the ssh server of VM `vm`; \
         the end of its serial output:\n!\n\
         qqmgr: hint: `qqmgr reset vm` and then `qqmgr resume vm` start it again\n";
    ssh.end().stderr(expected).code(3);
    // A wait that begins after the panic.
    let ssh = project.qqmgr(&["wait", "vm", "--for", "ssh"]).run();
    ssh.stderr(expected).code(3);
    qmp(&project).execute("quit");
    stopped.end().stdout("vm is stopped: QEMU was told to quit\n").success();
}

// --- running

/// QEMU reports the change in the event log, so no command has to ask it repeatedly.
#[test]
fn running_is_reported_at_once_when_the_guest_continues() {
    let Some((project, _)) = boot_sector(&[BUTTON, SAYS_READY, WAITS, OFF], "-S") else { return };
    for command in ["cont", "stop", "cont"] {
        let wait = (command == "cont").then(|| waiting(&project, &["running"]));
        let begin = Instant::now();
        qmp(&project).execute(command);
        if let Some(wait) = wait {
            wait.end().stdout(RUNNING).success();
            assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
        }
    }
}

/// Events may be lost, as on a full disk, so QEMU is asked, too, but seldom.
#[test]
fn a_qemu_without_events_is_asked_now_and_then() {
    let project = Project::new();
    project.fake_vm("prelaunch");
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: prelaunch, pid [PID], ssh port [PORT]\n").stderr(HELD).success();
    let log = project.vm_path("vm", "fake.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let asked = || said().matches("query-status").count();
    fs::remove_file(project.vm_path("vm", "events.out")).unwrap();
    let before = asked();
    let wait = waiting(&project, &["running"]);
    wait_until("it asks twice more", SOON, || asked() >= before + 2);
    let mut other = UnixStream::connect(project.vm_path("vm", "qmp.socket")).unwrap();
    other.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"cont\"}\n").unwrap();
    wait.end().stdout(RUNNING).success();
    assert!(asked() <= before + 5, "it asked {} times", asked() - before);
}

// --- serial

/// Writes serial output in place of a guest, which this VM does not have.
#[track_caller]
fn serial(project: &Project, text: &[u8]) {
    let file = OpenOptions::new().append(true).open(project.vm_path("vm", "serial"));
    file.unwrap().write_all(text).unwrap();
}

#[test]
fn serial_text_that_comes_in_pieces_or_was_there_before() {
    let Some(project) = started() else { return };
    let said = |text: &str| format!("vm said `{text}` after [SECONDS] s\n");
    let wait = waiting(&project, &["serial=dev login: "]);
    for piece in [&b"Debian\r\ndev lo"[..], b"dev log", b"in:"] {
        serial(&project, piece);
        looks_again(&wait);
    }
    serial(&project, b" ");
    wait.end().stdout(said("dev login: ")).success();

    for text in ["Debian", "dev lodev log", "g", "Grüße, 世界", "  "] {
        serial(&project, "\nGrüße, 世界!  \n".as_bytes());
        let wait = project.qqmgr(&["wait", "vm", "--for", &format!("serial={text}")]).run();
        wait.stdout(said(text)).success();
    }
    // Bytes that are not text, and control characters.
    serial(&project, b"\xff\xfe\x1b[2J");
    let script = r#"exec "$QQMGR" wait vm --json --for "$(printf 'serial=\376\033[2')""#;
    project
        .sh(script)
        .run()
        .stdout(
            "{\n  \"name\": \"vm\",\n  \"for\": \"serial=\u{fffd}\\u001b[2\",\n  \"pid\": [PID],\n  \
             \"reason\": null,\n  \"exit_status\": null,\n  \"seconds\": [SECONDS]\n}\n",
        )
        .success();
    let script = r#""$QQMGR" wait vm --for "$(printf 'serial=\033[2J')"
        "$QQMGR" wait vm --timeout 0 --for "$(printf 'serial=a\033b')" 2>&1 | head -n 1"#;
    let expected = "vm said `\u{fffd}[2J` after [SECONDS] s\nqqmgr: error: waited 0 s for \
                    `a\u{fffd}b` on the serial output of VM `vm`; the end of its serial output:\n";
    project.sh(script).run().stdout(expected).success();
}

/// QEMU's process exists before QEMU has emptied the file.
#[test]
fn serial_text_of_an_earlier_start_does_not_count() {
    let Some(project) = project(NO_MACHINE) else { return };
    let qemu = real_qemu().unwrap();
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.write("slow", format!("#!/bin/sh\n: >late\nread -r go <go\nexec {qemu} \"$@\"\n"));
    project.sh("chmod +x slow; mkfifo go").run().success();
    project.config(&config.replace(&format!("bin = \"{qemu}\""), "bin = \"./slow\""));
    let start = project.qqmgr(&["start", "vm"]).start();
    fs::write(project.path("go"), "\n").unwrap();
    start.end().stdout(STARTED).success();
    serial(&project, b"login: ");
    project
        .qqmgr(&["wait", "vm", "--for", "serial=login: "])
        .run()
        .stdout("vm said [..]\n")
        .success();
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("vm ended [..]\n").success();
    assert_eq!(project.vm_file("vm", "serial"), "login: ");

    fs::remove_file(project.path("late")).unwrap();
    let start = project.qqmgr(&["start", "vm"]).start();
    wait_until("QEMU can be seen", SOON, || project.path("late").exists());
    let wait = waiting(&project, &["serial=login: "]);
    fs::write(project.path("go"), "\n").unwrap();
    start.end().stdout(STARTED).success();
    assert_eq!(wait.said(), "");
    serial(&project, b"login: ");
    wait.end().stdout("vm said `login: ` after [SECONDS] s\n").success();
}

// --- what a person sees, and what it costs

/// The output of a terminal in which this runs.
fn on_a_terminal(project: &Project, command: &str) -> String {
    let mut script = with_default_signals("script");
    script.args(["-q", "-e", "-c", command, "/dev/null"]).env("QQMGR", env!("CARGO_BIN_EXE_qqmgr"));
    script.current_dir(project.path("")).env("HOME", project.path("home")).env("NO_COLOR", "1");
    let output = script.stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The text that is left on the screen after the two control sequences in use.
fn screen(said: &str) -> String {
    let lines = said.split('\n').map(|line| line.trim_end_matches('\r'));
    let shown = |line: &str| line.rsplit("\r\x1b[K").next().unwrap().to_owned();
    lines.map(shown).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_person_sees_a_line_of_progress_that_goes_away() {
    if !has_tool("script") {
        return;
    }
    let Some(project) = started_with_network() else { return };
    serial(&project, b"first\n\x07\x1b[31mBooting a kernel with a very long name\r\n\n");
    let wait = "stty rows 24 cols 70; exec \"$QQMGR\" wait vm --for ssh --timeout 1.5";
    let said = on_a_terminal(&project, wait);
    // The line is cut to the terminal, in whose last column it could wrap. U+FFFD may be wide.
    let line = |seconds| {
        let text = format!(
            "\r\x1b[Kqqmgr: waiting for the ssh server of VM `vm` ({seconds} s) \u{fffd}Booting \
             a kernel with a very long name"
        );
        text.chars().take("\r\x1b[K".len() + 68).collect::<String>()
    };
    assert!(said.starts_with(&format!("{}{}\r\x1b[Kqqmgr: error: ", line(0), line(1))), "{said:?}");
    assert!(screen(&said).starts_with("qqmgr: error: waited 1.5 s for "), "{said:?}");

    let running = "exec \"$QQMGR\" wait vm --for running";
    let said = screen(&on_a_terminal(&project, running));
    assert!(said.starts_with("vm is running after "), "{said:?}");
    // An interrupted `start` cannot say that the VM stays, so the line says it in advance.
    let said = on_a_terminal(&project, "exec \"$QQMGR\" start vm --wait=0.1");
    assert!(said.contains("; Ctrl-C leaves the VM running\r\x1b[K"), "{said:?}");
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("vm ended [..]\n").success();
    let said = on_a_terminal(&project, "exec \"$QQMGR\" wait vm --for running --timeout 0.1");
    let expected = "\r\x1b[Kqqmgr: waiting for VM `vm` to be started (0 s)\r\x1b[K\
                    qqmgr: error: waited 0.1 s for VM `vm` to be started\r\n";
    assert_eq!(said, expected);
}

#[test]
fn a_person_who_waits_for_several_vms_is_told_that_they_stay() {
    if !has_tool("script") {
        return;
    }
    let project = Project::new();
    let vm = |name| {
        let port = free_port();
        let nic = format!("-nic user,hostfwd=tcp:127.0.0.1:{port}-:22");
        format!("[vm.{name}]\nssh.port = {port}\ncmd = \"{nic}\"\n")
    };
    let qemu = format!("[qemu]\nbin = \"{}\"\n", fake_qemu().display());
    project.config(&(qemu + &vm("a") + &vm("b")));
    let said = on_a_terminal(&project, "exec \"$QQMGR\" start --all --wait=2");
    let line = "waiting for 2 of 2 VMs (1 s); Ctrl-C leaves the VMs running\r\x1b[K";
    assert!(said.contains(line), "{said:?}");
}

/// A pipe gets no progress; its output is compared in full.
#[test]
fn a_pipe_sees_no_progress_and_waiting_costs_no_cpu_time() {
    let Some(project) = started() else { return };
    let _port = Port::new(&project);
    let script = "for what in ssh stopped serial=x; do\n\
                  \"$QQMGR\" wait vm --for $what --timeout 3 >/dev/null 2>>said &\n\
                  done; wait; times";
    let output = project.sh(script).run();
    let times = output.stdout.lines().nth(1).unwrap().to_owned();
    let seconds = |time: &str| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    };
    let cpu: f64 = times.split(' ').map(seconds).sum();
    // Allows 5 % of each, since this build is not optimized.
    assert!(cpu < 3.0 * 3.0 * 0.05, "{times}");
    println!("three waits of 3 s took {cpu} s of CPU time");
    let said = fs::read_to_string(project.path("said")).unwrap();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let silent = "and its serial output is empty";
    assert_eq!(
        lines,
        [
            &format!("qqmgr: error: waited 3 s for VM `vm` to stop, {silent}")[..],
            &format!("qqmgr: error: waited 3 s for `x` on the serial output of VM `vm`, {silent}"),
            &format!("qqmgr: error: waited 3 s for the ssh server of VM `vm`, {silent}"),
            "qqmgr: hint: VM `vm` still runs",
            "qqmgr: hint: VM `vm` still runs",
            "qqmgr: hint: VM `vm` still runs",
        ]
    );
}

// --- a guest

#[test]
fn the_commands_that_wait_for_a_guest() {
    let Some(project) = guest::project("") else { return };
    // ssh complains when two calls make a connection to be shared at the same time.
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&config.replace("[ssh]\n", "[ssh]\nControlPath = \"none\"\n"));
    let late = project.qqmgr(&["start", "--wait=0.2", "vm"]).run();
    late.stderr(
        "qqmgr: error: waited 0.2 s for the ssh server of VM `vm`[..]\n...\n\
         qqmgr: hint: VM `vm` still runs\n",
    )
    .code(4);
    let pid = project.pid("vm");
    assert!(project.runs(pid));
    project.write("file", "content");
    // All commands wait at the same time, while the guest boots.
    let ssh = project.qqmgr(&["ssh", "--wait", "vm", "hostname"]).start();
    let put = project.qqmgr(&["put", "--wait=200", "vm", "file", "/tmp/put"]).start();
    let get = project.qqmgr(&["get", "--wait", "vm", "/etc/passwd", "got"]).start();
    let serial = project.qqmgr(&["wait", "vm", "--for", "serial=starting sshd"]).start();
    ssh.end().stdout("vm\n").success();
    put.end().success();
    get.end().success();
    serial.end().stdout("vm said `starting sshd` after [SECONDS] s\n").success();
    project.qqmgr(&["ssh", "vm", "cat /tmp/put"]).run().stdout("content").success();
    assert!(fs::read_to_string(project.path("got")).unwrap().starts_with("root:"));
    let already = format!("vm is already running: running, pid {pid}, ssh port [PORT]\n");
    project.qqmgr(&["start", "--wait", "vm"]).run().stdout(already).success();
    // A VM that is not running is not waited for.
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    let stopped = "qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n";
    project.qqmgr(&["ssh", "--wait", "vm", "true"]).run().stderr(stopped).code(255);
    project.qqmgr(&["put", "--wait", "vm", "file", "/"]).run().stderr(stopped).code(3);
    let ending = project.qqmgr(&["wait", "vm", "--for", "stopped"]).run();
    ending.stdout("vm is stopped: the guest powered off\n").success();
}

/// QEMU does nothing for a while, and passes no connection on.
#[test]
fn a_guest_that_boots_slowly() {
    let Some(project) = guest::project("") else { return };
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let wait = project.qqmgr(&["wait", "vm", "--for", "ssh", "--timeout", "200"]).start();
    for text in ["Linux version", "Freeing unused kernel image"] {
        let serial = ["wait", "vm", "--for", &format!("serial={text}"), "--timeout", "200"];
        project
            .qqmgr(&serial)
            .run()
            .stdout(format!("vm said `{text}` after [SECONDS] s\n"))
            .success();
        freeze(project.pid("vm"));
        let late = project.qqmgr(&["wait", "vm", "--for", "ssh", "--timeout", "1"]).run();
        late.stderr("qqmgr: error: waited 1 s for [..]\n...\nqqmgr: hint: [..]\n").code(4);
        assert_eq!(wait.said(), "");
        signal(project.pid("vm"), "CONT");
    }
    wait.end().stdout("vm answers ssh after [SECONDS] s\n").success();
    project.qqmgr(&["ssh", "vm", "hostname"]).run().stdout("vm\n").success();
}
