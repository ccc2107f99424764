//! `qmp` on a real QEMU: one command, a session, events.

use crate::guest;
use crate::harness::{Project, Running, freeze, signal, wait_until};
use crate::real_qemu::{NO_MACHINE, Qmp, project};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// A project with the VM `vm`, which runs.
#[track_caller]
fn started(more: &str) -> Option<Project> {
    let project = project(&format!("{NO_MACHINE} {more}"))?;
    start(&project);
    Some(project)
}

#[track_caller]
pub(crate) fn start(project: &Project) {
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: [..], pid [PID], ssh port [PORT]\n").success();
}

/// That the command, with these words, gives this.
#[track_caller]
fn returns(project: &Project, words: &[&str], expected: &str) {
    project.qqmgr(&[&["qmp", "vm"], words].concat()).run().stdout(expected).success();
}

#[track_caller]
fn refuses(project: &Project, words: &[&str], expected: &str) {
    let refused = project.qqmgr(&[&["qmp", "vm"], words].concat()).run();
    refused.stderr(format!("qqmgr: error: {expected}\n")).code(1);
}

/// The same with all that is given, as a session.
#[track_caller]
fn answers(project: &Project, input: &str, expected: &str, code: i32) {
    project.qqmgr(&["qmp", "vm"]).stdin(input).run().stdout(expected).code(code);
}

#[test]
fn a_command_and_its_arguments() {
    let Some(project) = started("") else { return };
    let paused = "{\n  \"status\": \"paused\",\n...\n  \"running\": false\n}\n";
    returns(&project, &["stop"], "{}\n");
    returns(&project, &["query-status"], paused);
    // Text, which looks like a number; a number; an object, in two ways; nothing.
    returns(
        &project,
        &["object-add", "qom-type=memory-backend-ram", "id=m", "size:=65536"],
        "{}\n",
    );
    returns(&project, &["qom-get", "path=/objects/m", "property=size"], "65536\n");
    let disk = ["driver=raw", "node-name=d", "file.driver=null-co", "file.size:=4096"];
    returns(&project, &[&["blockdev-add"], &disk[..]].concat(), "{}\n");
    returns(&project, &["blockdev-add", r#"{"driver": "null-co", "node-name": "e"}"#], "{}\n");
    let named = project.qqmgr(&["qmp", "vm", "query-named-block-nodes", "flat:=true"]).run();
    assert_eq!(named.stdout.matches("\"node-name\": \"d\"").count(), 1, "{}", named.stdout);
    assert_eq!(named.stdout.matches("\"virtual-size\": 4096").count(), 2, "{}", named.stdout);
    returns(
        &project,
        &["qom-get", "{\"path\": \"/objects/m\", \"property\": \"type\"}"],
        "\"memory-backend-ram\"\n",
    );
    // The return value is the document, with `--json` and without.
    project.qqmgr(&["--json", "qmp", "vm", "query-status"]).run().stdout(paused).success();
    // A flag behind the command is qqmgr's, and a negative number no flag.
    returns(&project, &["query-status", "--timeout", "30"], paused);
    refuses(
        &project,
        &["qom-set", "path=/objects/m", "property=nope", "value:=-1"],
        "QEMU refuses `qom-set`: Property 'memory-backend-ram.nope' not found (GenericError)",
    );
}

#[test]
fn what_is_refused_and_what_was_meant() {
    let Some(project) = started("") else { return };
    for (words, expected) in [
        (
            &["query-statu"][..],
            "`query-statu`: The command query-statu has not been found (CommandNotFound), \
             did you mean `query-status`?",
        ),
        (&["x"], "`x`: The command x has not been found (CommandNotFound)"),
        (
            &["qmp_capabilities"],
            "`qmp_capabilities`: Capabilities negotiation is already complete, command ignored \
             (CommandNotFound)",
        ),
        (
            &["set-action", "rebot=reset"],
            "`set-action`: Parameter 'rebot' is unexpected (GenericError), did you mean `reboot`?",
        ),
        (
            &["set-action", "reboot=rest"],
            "`set-action`: Parameter 'reboot' does not accept value 'rest' (GenericError), \
             did you mean `reset`?",
        ),
        (
            &["set-action", "reboot=x"],
            "`set-action`: Parameter 'reboot' does not accept value 'x' (GenericError)\n\
             qqmgr: hint: `reboot` is one of reset, shutdown",
        ),
        (
            &["query-status", "x=y"],
            "`query-status`: Parameter 'x' is unexpected (GenericError)\n\
             qqmgr: hint: `query-status` takes no arguments",
        ),
        (
            &["send-key"],
            "`send-key`: Parameter 'keys' is missing (GenericError)\n\
             qqmgr: hint: `send-key` takes keys, [hold-time]",
        ),
        (
            &["balloon", "value=1"],
            "`balloon`: Invalid parameter type for 'value', expected: integer (GenericError)\n\
             qqmgr: hint: `value=TEXT` is text, `value:=JSON` anything else",
        ),
        (
            &["device_add", "driver=x"],
            "`device_add`: 'x' is not a valid device model name (GenericError)",
        ),
        (&["device_del", "id=x"], "`device_del`: Device 'x' not found (DeviceNotFound)"),
    ] {
        refuses(&project, words, &format!("QEMU refuses {expected}"));
    }
    project
        .qqmgr(&["--json", "qmp", "vm", "device_del", "id=x"])
        .run()
        .stdout(
            "{\n  \"error\": {\n    \"kind\": \"failed\",\n    \
             \"message\": \"QEMU refuses `device_del`: Device 'x' not found (DeviceNotFound)\",\n    \
             \"hint\": null,\n    \"class\": \"DeviceNotFound\"\n  }\n}\n",
        )
        .stderr("...\n")
        .code(1);
}

#[test]
fn words_that_are_no_arguments() {
    let Some(project) = project(NO_MACHINE) else { return };
    let usage = "qqmgr: hint: usage: qqmgr qmp [OPTIONS] VM [NAME] [ARGUMENT...]\n";
    for (words, expected) in [
        (&["stop", "x"][..], "`x` is no argument: it is `key=TEXT`, `key:=JSON` or one `{...}`"),
        (&["stop", "{"], "`{` is no JSON: expected a name in double quotes at byte 1"),
        (&["--for", "1"], "`--for` needs `--events`"),
        (&["--events", "--timeout", "1"], "`--timeout` is for commands; `--for` ends `--events`"),
    ] {
        // The VM need not run to say so.
        let refused = project.qqmgr(&[&["qmp", "vm"], words].concat()).run();
        refused.stderr(format!("qqmgr: error: {expected}\n{usage}")).code(2);
    }
    project
        .qqmgr(&["qmp", "vm", "{\"execute\": \"stop\"}"])
        .run()
        .stderr(
            "qqmgr: error: `{\"execute\": \"stop\"}` is no name of a command\nqqmgr: hint: \
             a whole command in JSON is a line of standard input: `qqmgr qmp VM <FILE`\n",
        )
        .code(2);
    let not_running =
        "qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n";
    for words in [&["stop"][..], &[], &["--events"], &["--events", "nope"]] {
        let words = [&["qmp", "vm"], words].concat();
        project.qqmgr(&words).run().stderr(not_running).code(3);
    }
}

#[test]
fn a_session_answers_each_line() {
    let Some(project) = started("") else { return };
    answers(
        &project,
        "{\"execute\": \"stop\", \"id\": {\"a\": [1, null]}}\n\
         query-status\r\n\
         \n  \t\n\
         {\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine\",\"property\":\"type\"},\"id\":\"x\"}\n\
         qom-get path=/machine 'property=type'\n\
         cont",
        "{\"return\": {}, \"id\": {\"a\": [1, null]}}\n\
         {\"return\": {\"status\": \"paused\", [..]\"running\": false}}\n\
         {\"return\": \"none-machine\", \"id\": \"x\"}\n\
         {\"return\": \"none-machine\"}\n\
         {\"return\": {}}\n",
        0,
    );
    // What fails is told, and the rest goes on.
    answers(
        &project,
        "{\"execute\": \"nope\", \"id\": 7}\n\
         {\"execute\": \n\
         {\"execute\": 5, \"id\": 8}\n\
         {\"execute\": \"stop\", \"argument\": {}}\n\
         {\"execute\": \"stop\", \"arguments\": []}\n\
         stop x\n\
         'stop\n\
         set-action reboot=x\n\
         query-name\n",
        "{\"error\": {\"class\": \"CommandNotFound\", \
         \"desc\": \"The command nope has not been found\"}, \"id\": 7}\n\
         {\"error\": {\"class\": \"GenericError\", \"desc\": \"no JSON: [..] at byte 12\"}}\n\
         {\"error\": {\"class\": \"GenericError\", \
         \"desc\": \"`execute` must be there, a string\"}, \"id\": 8}\n\
         {\"error\": {\"class\": \"GenericError\", \
         \"desc\": \"`argument` is none of `execute`, `arguments` and `id`\"}}\n\
         {\"error\": {\"class\": \"GenericError\", \"desc\": \"`arguments` must be an object\"}}\n\
         {\"error\": {\"class\": \"GenericError\", \"desc\": \"`x` is no argument: [..]\"}}\n\
         {\"error\": {\"class\": \"GenericError\", \"desc\": \"unclosed single quote\"}}\n\
         {\"error\": {\"class\": \"GenericError\", \
         \"desc\": \"Parameter 'reboot' does not accept value 'x'\"}}\n\
         {\"return\": {}}\n",
        1,
    );
    answers(&project, "", "", 0);
    let bytes = project.qqmgr(&["qmp", "vm"]).stdin(b"\xff\n").run();
    bytes
        .stdout("{\"error\": {\"class\": \"GenericError\", \"desc\": \"invalid utf-8 [..]\"}}\n")
        .code(1);
}

/// A session that waits for its next line keeps nobody from the VM, and ends with it.
#[test]
fn a_session_holds_nothing_between_its_lines() {
    let Some(project) = started("") else { return };
    let session = project
        .sh("{ echo stop; read line <go; echo query-status; read line <end; } | \"$QQMGR\" qmp vm");
    assert!(
        std::process::Command::new("mkfifo")
            .args([project.path("go"), project.path("end")])
            .status()
            .is_ok_and(|status| status.success())
    );
    let session = session.start();
    session.says("{\"return\": {}}\n");
    project.qqmgr(&["resume", "vm"]).run().stdout("vm is running\n").success();
    project.write("go", "\n");
    session.says("\"running\": true");
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("[..]\n").success();
    // It does not wait for the line that will never come.
    project.write("end", "\n");
    session.end().stdout("{\"return\": {}}\n{\"return\": {[..]}}\n").success();
}

#[test]
fn a_session_ends_with_its_vm() {
    let Some(project) = started("") else { return };
    answers(&project, "quit\n", "{\"return\": {}}\n", 0);
    start(&project);
    // What comes too late was not done, and is not done to the next QEMU of that VM.
    let late = project.qqmgr(&["qmp", "vm"]).stdin("quit\nstop\n").run();
    late.stdout("{\"return\": {}}\n").stderr("qqmgr: error: VM `vm` has just ended\n").code(3);
}

/// Events, once they are followed.
#[track_caller]
fn follow<'p>(project: &'p Project, names: &[&str]) -> Running<'p> {
    let run = project.qqmgr(&[&["qmp", "--events", "vm"], names].concat()).start();
    // What it reads is open before anything else.
    wait_until("it follows", SOON, || {
        let fds = fs::read_dir(format!("/proc/{}/fd", run.pid));
        fds.into_iter()
            .flatten()
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.ends_with("events.out")))
    });
    run
}

fn event(name: &str, data: &str) -> String {
    let time = "{\"seconds\": [PID], \"microseconds\": [PID]}";
    let data = if data.is_empty() { data.into() } else { format!(", \"data\": {data}") };
    format!("{{\"timestamp\": {time}, \"event\": \"{name}\"{data}}}\n")
}

/// A reset by the host, one by the guest itself, and the end.
#[test]
fn events_of_a_guest_that_is_reset() {
    let Some(project) = guest::booted("") else { return };
    let reader = follow(&project, &["RESET", "POWERDOWN", "SHUTDOWN"]);
    project.qqmgr(&["reset", "vm"]).run().stdout("vm: reset, running\n").success();
    let wait = ["wait", "vm", "--for", "ssh", "--timeout", "50"];
    project.qqmgr(&wait).run().stdout("vm answers ssh after [SECONDS] s\n").success();
    // The firmware resets the machine once more by itself, as the guest does now.
    let resets = || reader.said().matches("guest-reset").count();
    let by_firmware = resets();
    // The connection may break before it is told of the end.
    let _ = project.qqmgr(&["ssh", "vm", "reboot"]).run();
    wait_until("the guest has reset itself", SOON, || resets() > by_firmware);
    project.qqmgr(&wait).run().stdout("vm answers ssh after [SECONDS] s\n").success();
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    let first = event("RESET", "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
    let again = event("RESET", "{\"guest\": true, \"reason\": \"guest-reset\"}");
    let off = event("SHUTDOWN", "{\"guest\": true, \"reason\": \"guest-shutdown\"}");
    let told = [&first, "...\n", &again, &event("POWERDOWN", ""), &off];
    reader.end().stdout(told.concat()).success();
}

#[test]
fn events_as_they_come() {
    let Some(project) = started("") else { return };
    let all = follow(&project, &[]);
    let some = follow(&project, &["RESET", "SHUTDOWN"]);
    let reset = event("RESET", "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
    let shutdown = event("SHUTDOWN", "{\"guest\": false, \"reason\": \"host-signal\"}");
    for command in ["pause", "resume", "reset"] {
        assert_eq!(project.qqmgr(&[command, "vm"]).run().status, Some(0));
    }
    all.says("RESET");
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout("[..]\n").success();
    let first = [event("STOP", ""), event("RESUME", "")].concat();
    all.end().stdout(format!("{first}{reset}{shutdown}")).success();
    some.end().stdout(format!("{reset}{shutdown}")).success();
}

#[test]
fn events_for_a_time_and_by_name() {
    let Some(project) = started("") else { return };
    project.qqmgr(&["pause", "vm"]).run().stdout("vm is paused\n").success();
    // What was before is not told.
    project.qqmgr(&["qmp", "vm", "--events", "--for", "0.1"]).run().success();
    project.qqmgr(&["qmp", "vm", "--events", "--for=0", "STOP", "RESUME"]).run().success();
    let unknown = |name: &str| project.qqmgr(&["qmp", "vm", "--events", "STOP", name]).run();
    for (name, near) in [("reset", "RESET"), ("SHUTDOWM", "SHUTDOWN")] {
        unknown(name)
            .stderr(format!("qqmgr: error: QEMU has no event `{name}`, did you mean `{near}`?\n"))
            .code(1);
    }
    let other = unknown("OTHER").stderr(
        "qqmgr: error: QEMU has no event `OTHER`\n\
         qqmgr: hint: it has [..], RESET, RESUME, [..], SHUTDOWN, [..]\n",
    );
    other.code(1);
    // Nobody reads any more: it ends at the next event.
    let run = project.sh("\"$QQMGR\" qmp vm --events | head -n 1").start();
    wait_until("an event was read", SOON, || {
        assert_eq!(project.qqmgr(&["resume", "vm"]).run().status, Some(0));
        assert_eq!(project.qqmgr(&["pause", "vm"]).run().status, Some(0));
        run.said().contains("\"event\"")
    });
    project.qqmgr(&["resume", "vm"]).run().stdout("vm is running\n").success();
    run.end().stdout("{[..]}\n").success();
}

#[test]
fn who_does_not_answer() {
    let Some(project) = started("") else { return };
    let pid = project.pid("vm");
    freeze(pid);
    let frozen = format!(
        "qqmgr: error: VM `vm` does not answer: QEMU is frozen\n\
         qqmgr: hint: a signal stopped it; `kill -CONT {pid}` lets it go on\n"
    );
    project.qqmgr(&["qmp", "vm", "stop"]).run().stderr(frozen.as_str()).code(4);
    project.qqmgr(&["qmp", "vm"]).stdin("stop\ncont\n").run().stderr(frozen.as_str()).code(4);
    // Events need no answer.
    project.qqmgr(&["qmp", "vm", "--events", "--for", "0.1"]).run().success();
    signal(pid, "CONT");
    let holder = Qmp::connect(&project.vm_path("vm", "ctl.socket"));
    project
        .qqmgr(&["qmp", "vm", "stop"])
        .run()
        .stderr(
            "qqmgr: error: VM `vm` does not answer on its QMP socket\n\
             qqmgr: hint: QEMU is busy or still starting, or serves another `qqmgr`; try again\n",
        )
        .code(4);
    drop(holder);
    // Whoever has the people's socket disturbs nobody.
    let _person = Qmp::connect(&project.vm_path("vm", "qmp.socket"));
    returns(&project, &["stop"], "{}\n");
}

/// A disk that takes 30 s to read keeps all of QEMU waiting.
#[test]
fn a_command_may_take_too_long() {
    let Some(project) = started("") else { return };
    let disk = ["blockdev-add", "driver=null-co", "node-name=slow", "latency-ns:=30000000000"];
    returns(&project, &disk, "{}\n");
    let reads = "qemu-io slow \"read 0 512\"";
    let hint = "qqmgr: hint: it may be at it still; `--timeout` gives it longer\n";
    project
        .qqmgr(&["monitor", "--timeout", "0.5", "vm", reads])
        .run()
        .stderr(format!("qqmgr: error: QEMU did not answer `{reads}` within 0.5 s\n{hint}"))
        .code(4);
    // And so does everybody else, who is told within two seconds.
    project
        .qqmgr(&["qmp", "vm", "query-status"])
        .run()
        .stderr(
            "qqmgr: error: VM `vm` does not answer on its QMP socket\n\
             qqmgr: hint: QEMU is busy or still starting, or serves another `qqmgr`; try again\n",
        )
        .code(4);
    let Some(other) = started("") else { return };
    returns(&other, &disk, "{}\n");
    let line = format!("human-monitor-command 'command-line={reads}'\nstop\n");
    other
        .qqmgr(&["qmp", "vm", "--timeout", "0.5"])
        .stdin(line)
        .run()
        .stderr(format!(
            "qqmgr: error: QEMU did not answer `human-monitor-command` within 0.5 s\n{hint}"
        ))
        .code(4);
}
