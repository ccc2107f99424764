//! `gdb`: the debugger's words, with `echo` in its place, and its effects, with the real one.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::guest;
use crate::harness::{
    Project, Run, free_port, has_program, has_tool, left_out, real_qemu, wait_until,
    with_default_signals,
};
use crate::real_qemu::NO_MACHINE;

const SOON: Duration = Duration::from_secs(30);
/// A machine with a CPU, which runs the firmware for ever.
const MACHINE: &str = "-nodefaults -machine pc -accel tcg -m 32 -display none";
const LEFT: &str = "events.out lock qemu.log serial";
/// A project with the VM `vm` on a real QEMU, if there is one and a gdb.
#[track_caller]
fn project(cmd: &str, more: &str) -> Option<Project> {
    let (project, qemu) = (Project::new(), real_qemu()?);
    project.config(&config(qemu, cmd, more));
    has_tool("gdb").then_some(project)
}

fn config(qemu: &str, cmd: &str, more: &str) -> String {
    let port = free_port();
    format!("[qemu]\nbin = \"{qemu}\"\n[vm.vm]\ncmd = \"{cmd}\"\nssh.port = {port}\n{more}\n")
}

/// gdb without a terminal, with these commands in this order.
fn gdb<'p>(project: &'p Project, words: &[&str], commands: &[&str]) -> Run<'p> {
    let commands = commands.iter().flat_map(|command| ["-ex", command]);
    let words = ["gdb"].iter().chain(words).chain(&["--", "-nx", "-batch"]).copied();
    project.qqmgr(&words.chain(commands).collect::<Vec<_>>())
}

#[track_caller]
fn start(project: &Project) {
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
}

#[track_caller]
fn stop(project: &Project) {
    let stopped = project.qqmgr(&["stop", "--force", "vm"]).run();
    stopped.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
}

/// Waits until QEMU says that the guest is in this state.
#[track_caller]
fn await_state(project: &Project, state: &str) {
    let line = format!("\nstate:      {state}\n");
    wait_until(&format!("the VM is {state}"), SOON, || {
        project.qqmgr(&["status", "vm"]).run().stdout.contains(&line)
    });
}

/// A pipe that a command of gdb, `shell cat gate`, waits at until [`open_gate`].
fn gate(project: &Project) {
    project.sh("mkfifo gate").run().success();
}

fn open_gate(project: &Project) {
    project.sh("echo >gate").run().success();
}

/// A debugger that has QEMU's words is not taken for the VM, and is never signalled.
#[test]
fn a_gdb_that_has_not_started_qemu_is_no_vm() {
    let Some(project) = project(NO_MACHINE, "") else { return };
    gate(&project);
    let debugger = gdb(&project, &["vm"], &["shell echo waiting", "shell cat gate", "run"]).start();
    debugger.says("waiting");
    project.qqmgr(&["status", "-q", "vm"]).run().code(3);
    // The same where `ps` does not show where words begin.
    let by_ps = |words: &[&str]| project.qqmgr(words).env("QQMGR_TEST_PROC", "/nowhere").run();
    by_ps(&["status", "-q", "vm"]).code(3);
    by_ps(&["stop", "--force", "vm"]).stdout("vm was not running\n").success();
    project.qqmgr(&["stop", "--force", "vm"]).run().stdout("vm was not running\n").success();
    // The VM is free for a start; QEMU itself keeps a second one out.
    start(&project);
    let events = project.vm_file("vm", "events.out");
    project.write(".qqmgr/vm.vm/serial", "said");
    open_gate(&project);
    let ended = debugger.end();
    // The files of the running VM stay.
    assert_eq!(project.vm_file("vm", "events.out"), events);
    assert_eq!(project.vm_file("vm", "serial"), "said");
    assert!(ended.stdout.contains("exited with code 01"), "{}", ended.stdout);
    assert!(ended.stderr.contains("Cannot lock pid file"), "{}", ended.stderr);
    assert_eq!(ended.status, Some(0));
    project.qqmgr(&["status", "-q", "vm"]).run().success();
    stop(&project);
    assert_eq!(project.vm_files("vm"), LEFT);
}

/// A second `run` in gdb is a start of its own, with a new event log.
#[test]
fn qemu_in_gdb_is_the_vm() {
    let Some(project) = project(NO_MACHINE, "boots = 2") else { return };
    gate(&project);
    project.write(".qqmgr/vm.vm/serial.1", "boot 1");
    project.write(".qqmgr/vm.vm/serial.2", "boot 0");
    let commands = ["run", "shell cat gate"].repeat(3);
    let debugger = gdb(&project, &["vm"], &commands).start();
    for boot in ["boot 2", "", "boot 3"] {
        await_state(&project, "running");
        let (pid, status) = (project.pid("vm"), project.qqmgr(&["status", "vm"]).run());
        assert_ne!(pid, debugger.pid);
        assert!(status.stdout.contains(&format!("\npid:        {pid}\n")), "{}", status.stdout);
        let again = project.qqmgr(&["start", "vm"]).run();
        again
            .stdout(format!("vm is already running: running, pid {pid}, ssh port [PORT]\n"))
            .success();
        let events = project.vm_file("vm", "events.out");
        assert_eq!(events.lines().count(), 3, "{events}");
        stop(&project);
        let events = project.vm_file("vm", "events.out");
        assert!(events.contains("\"reason\": \"host-signal\""), "{events}");
        // As if the guest had said it, and QEMU had crashed then.
        project.write(".qqmgr/vm.vm/serial", boot);
        project.write(".qqmgr/vm.vm/pid", format!("{pid}\n"));
        open_gate(&project);
    }
    let ended = debugger.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.matches("exited normally").count(), 3, "{}", ended.stdout);
    // A boot without output is not kept.
    let three = ["serial", "serial.1", "serial.2"];
    assert!(project.files(".qqmgr/vm.vm").ends_with(&three.map(String::from)));
    for (boot, said) in [("0", "boot 3"), ("-1", "boot 2"), ("-2", "boot 1")] {
        project.qqmgr(&["serial", "vm", "--boot", boot]).run().stdout(said).success();
    }
}

/// The terminal belongs to gdb: Ctrl-C stops QEMU in gdb instead of ending it.
#[test]
fn control_c_stops_qemu_in_gdb() {
    let Some(project) = project(NO_MACHINE, "") else { return };
    if !has_tool("script") {
        return;
    }
    let line = "exec \"$QQMGR\" gdb vm -- -nx -q";
    let mut script = with_default_signals("script");
    script.args(["-q", "-f", "-c", line, "said"]).env("QQMGR", env!("CARGO_BIN_EXE_qqmgr"));
    script.current_dir(project.path("")).env("HOME", project.path("home")).env("TERM", "dumb");
    let quiet = script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut terminal = quiet.spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let said = || fs::read(project.path("said")).unwrap_or_default();
    let says = |text: &str, count: usize| {
        wait_until(&format!("gdb says {text}"), SOON, || {
            String::from_utf8_lossy(&said()).matches(text).count() >= count
        });
    };
    says("(gdb) ", 1);
    keyboard.write_all(b"run\n").unwrap();
    await_state(&project, "running");
    let pid = project.pid("vm");
    keyboard.write_all(b"\x03").unwrap();
    says("received signal SIGINT", 1);
    says("(gdb) ", 2);
    await_state(&project, "unresponsive");
    let paused = project.qqmgr(&["pause", "vm"]).run();
    paused
        .stderr(
            "qqmgr: error: VM `vm` does not answer: QEMU is frozen\nqqmgr: hint: `gdb` (pid \
             [PID]) has it; `continue` or `detach` there lets it go on\n",
        )
        .code(4);
    keyboard.write_all(b"continue\n").unwrap();
    await_state(&project, "running");
    assert_eq!(project.pid("vm"), pid);
    stop(&project);
    says("exited normally", 1);
    keyboard.write_all(b"quit\n").unwrap();
    wait_until("gdb ends", SOON, || terminal.try_wait().unwrap().is_some());
}

/// The words arrive as they are, in the configuration's directory, wherever gdb is.
#[test]
fn qemu_in_gdb_has_the_words_of_the_configuration() {
    let name = r"it's \\\\ a $HOME;*";
    let cmd = format!("{NO_MACHINE} -name \\\"guest={name}\\\"");
    let Some(project) = project(&cmd, "") else { return };
    project.write("elsewhere/commands", "run\n");
    let words = ["-c", "../qqmgr.toml", "gdb", "vm", "--", "-nx", "-batch", "-x", "commands"];
    let debugger = project.qqmgr(&words).cwd("elsewhere").start();
    await_state(&project, "running");
    let pid = project.pid("vm");
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let cmdline = project.qqmgr(&["cmdline", "vm", "--json"]).run().stdout;
    let mut words = line.trim_end_matches('\0').split('\0');
    assert!(words.next().is_some_and(|program| program.ends_with("/qemu-system-x86_64")));
    for (word, shown) in words.zip(cmdline.lines().skip(2)) {
        let word = word.replace('\\', "\\\\");
        assert_eq!(shown.trim().trim_end_matches(','), format!("\"{word}\""));
    }
    assert!(line.contains(r"guest=it's \ a $HOME;*"), "{line}");
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd, project.path(""));
    stop(&project);
    debugger.end().status.expect("gdb ends by itself");
}

#[test]
fn a_qemu_that_runs_is_attached_to_and_lives_on() {
    let Some(project) = project(NO_MACHINE, "") else { return };
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if !["", "0"].contains(&scope.trim()) {
        left_out(&format!("kernel.yama.ptrace_scope is {}", scope.trim()));
        return;
    }
    start(&project);
    let pid = project.pid("vm");
    let said = gdb(&project, &["vm"], &["info inferiors", "info signals SIGUSR1"]).run();
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains(&format!("process {pid} ")), "{}", said.stdout);
    assert!(said.stdout.contains("SIGUSR1       No\tNo\tYes"), "{}", said.stdout);
    await_state(&project, "running");
    assert_eq!(project.pid("vm"), pid);
    stop(&project);
}

/// Asks gdb for a register. Only its value and the guest's place are on standard output.
#[track_caller]
fn reads_a_register(run: Run) {
    let said = run.run();
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let lines = said.stdout.lines().filter(|line| line.starts_with("rip            0x"));
    assert_eq!(lines.count(), 1, "{}", said.stdout);
}

/// Tries a socket from the start (`gdb = true`), and one that is made on demand.
#[test]
fn the_guest_stops_for_one_debugger_and_goes_on() {
    for more in ["gdb = true", ""] {
        let Some(project) = project(MACHINE, more) else { return };
        gate(&project);
        start(&project);
        assert_eq!(project.vm_path("vm", "gdb.socket").exists(), !more.is_empty());
        let commands = ["shell echo waiting", "shell cat gate"];
        let debugger = gdb(&project, &["--guest", "vm"], &commands).start();
        debugger.says("waiting");
        await_state(&project, "paused");
        let second = gdb(&project, &["--guest", "vm"], &[]).run();
        second
            .stderr(
                "qqmgr: error: another debugger has the guest\nqqmgr: hint: QEMU serves one at a \
                 time; `detach` or `quit` there lets the guest go on\n",
            )
            .code(1);
        open_gate(&project);
        assert_eq!(debugger.end().status, Some(0));
        await_state(&project, "running");
        reads_a_register(gdb(&project, &["--guest", "vm"], &["info registers rip"]));
        await_state(&project, "running");
        stop(&project);
        assert_eq!(project.vm_files("vm"), LEFT);
    }
}

/// gdb would take the first path for a host and a port, and the second is too long to connect to.
#[test]
fn sockets_are_reached_wherever_they_are() {
    let Some(project) = project(MACHINE, "") else { return };
    for dir in ["a: b,c 'd".to_owned(), "deep/".repeat(30)] {
        for more in ["gdb = true", ""] {
            let file = Path::new(&dir).join("qqmgr.toml");
            project.write(&file, config("qemu-system-x86_64", MACHINE, more));
            let qqmgr = |words: &[&str]| project.qqmgr(words).cwd(&dir);
            let started = qqmgr(&["start", "vm"]).run();
            started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
            let words =
                ["gdb", "--guest", "vm", "--", "-nx", "-batch", "-ex", "info registers rip"];
            reads_a_register(qqmgr(&words));
            let stopped = qqmgr(&["stop", "--force", "vm"]).run();
            stopped.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
        }
    }
}

#[test]
fn listeners_of_the_user_are_used_and_those_that_cannot_be_are_reported() {
    let port = free_port();
    let Some(project) = project(&format!("{MACHINE} -gdb tcp:127.0.0.1:{port}"), "") else {
        return;
    };
    start(&project);
    reads_a_register(gdb(&project, &["--guest", "vm"], &["info registers rip"]));
    let words = project.qqmgr(&["gdb", "--guest", "vm"]).env("QQMGR_GDB", "echo").run();
    words.stdout(format!("-ex target remote tcp:127.0.0.1:{port}\n")).success();
    stop(&project);

    project.config(&config("qemu-system-x86_64", &format!("{MACHINE} -gdb pty"), ""));
    start(&project);
    let refused = project.qqmgr(&["gdb", "--guest", "vm"]).env("QQMGR_GDB", "echo").run();
    refused
        .stderr(
            "qqmgr: error: gdb cannot reach `[..]`, where QEMU listens for it\nqqmgr: hint: take \
             `-gdb` out of the VM's `cmd`: `qqmgr gdb --guest` needs none\n",
        )
        .code(1);
    stop(&project);

    project.config(&config("qemu-system-x86_64", NO_MACHINE, ""));
    start(&project);
    let refused = project.qqmgr(&["gdb", "--guest", "vm"]).env("QQMGR_GDB", "echo").run();
    refused
        .stderr(
            "qqmgr: error: QEMU does not listen for a debugger:\n[..]without any CPU.\n\
             Could not open gdbserver on device [..]\n",
        )
        .code(1);
    stop(&project);
}

/// The kernel of the real guest, which has no support for a debugger.
#[test]
fn a_register_of_the_guest_is_read() {
    if !has_program("gdb") && !has_tool("gdb") {
        return;
    }
    let Some(project) = guest::booted("") else { return };
    let said = gdb(&project, &["--guest", "vm"], &["info registers cs"]).run();
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let line = said.stdout.lines().find(|line| line.starts_with("cs "));
    // The code segments of a 64-bit Linux: of the kernel and of programs (asm/segment.h).
    let segment = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    assert!(matches!(segment, Some("0x10" | "0x33" | "0x23")), "{}", said.stdout);
    // The guest goes on.
    project.qqmgr(&["ssh", "vm", "hostname"]).run().stdout("vm\n").success();
    let stopped = project.qqmgr(&["stop", "vm"]).run();
    stopped.stdout("vm powered off in [SECONDS] s\n").success();
}
