//! The life cycle with a real QEMU: without a machine, which answers in a moment, and with guests
//! of a few bytes that heed the power button, panic and power off as large ones do.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Project, free_port, real_qemu, wait_until};

/// A QEMU that needs no image, no firmware and no KVM.
pub(crate) const NO_MACHINE: &str = "-nodefaults -machine none -display none";
/// A PC that starts the boot sector in `guest.img`.
pub(crate) const PC: &str = "-machine q35 -accel tcg -drive file=guest.img,format=raw,if=virtio \
                  -display none -nodefaults";
/// A floppy disk of 1.44 MB.
const IMAGE_BYTES: usize = 1_474_560;
const STOPPED: &str = "events.out lock qemu.log serial";
const SOON: Duration = Duration::from_secs(20);

/// Enables the power button (PM1 enable, port 0x602).
pub(crate) const BUTTON: &[u8] = &[0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef];
/// Reports on the serial line that the guest is ready (port 0x3f8).
pub(crate) const SAYS_READY: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'!', 0xee];
/// Waits until the button is pressed (PM1 status, 0x600).
pub(crate) const WAITS: &[u8] = &[0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa];
/// Powers off (PM1 control, 0x604).
pub(crate) const OFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd];
/// Reports a panic to `pvpanic` (port 0x505).
pub(crate) const PANICS: &[u8] = &[0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd];
/// Suspends to memory at once.
pub(crate) const SUSPENDS: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef, 0xf4, 0xeb, 0xfd];

/// A project with one VM, `vm`, on a real QEMU, if there is one.
#[track_caller]
pub(crate) fn project(cmd: &str) -> Option<Project> {
    let project = Project::new();
    project.config(&config(real_qemu()?, &[("vm", cmd)]));
    Some(project)
}

pub(crate) fn config(qemu: &str, vms: &[(&str, &str)]) -> String {
    let mut text = format!("[qemu]\nbin = \"{qemu}\"\n");
    for (name, cmd) in vms {
        let _ = writeln!(text, "[vm.{name}]\ncmd = {cmd:?}\nssh.port = {}", free_port());
    }
    text
}

/// Such a project with a PC that boots this code, started, and its pid.
#[track_caller]
pub(crate) fn guest(code: &[&[u8]], more: &str) -> Option<(Project, u32)> {
    let project = project(&format!("{PC} {more}"))?;
    project.write("guest.img", image(code));
    let pid = start(&project);
    Some((project, pid))
}

/// The message about a guest that does not run yet.
pub(crate) const HELD: &str = "qqmgr: VM `vm` is prelaunch: `qqmgr resume vm` lets it go on\n";

#[track_caller]
fn start(project: &Project) -> u32 {
    let started = project.qqmgr(&["start", "vm"]).run();
    let note = if started.stdout.contains("prelaunch") { HELD } else { "" };
    started.stdout("vm started: [..], pid [PID], ssh port [PORT]\n").stderr(note).success();
    project.pid("vm")
}

/// Waits for a guest of [`SAYS_READY`], so that it does not miss the first press.
#[track_caller]
pub(crate) fn await_ready(project: &Project) {
    wait_until("the guest has booted", SOON, || project.vm_file("vm", "serial") == "!");
}

/// A disk whose boot sector is this code.
pub(crate) fn image(code: &[&[u8]]) -> Vec<u8> {
    let mut image = code.concat();
    image.resize(IMAGE_BYTES, 0);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

#[track_caller]
fn stop_ends_by(method: &str, project: &Project, pid: u32) {
    stop_says("", method, project, pid);
}

#[track_caller]
fn stop_says(stderr: &str, method: &str, project: &Project, pid: u32) {
    let reason = match method {
        "powerdown" => "\"guest-shutdown\"",
        "sigterm" => "\"host-signal\"",
        _ => "null",
    };
    let expected = format!(
        r#"{{
  "name": "vm",
  "pid": {pid},
  "method": "{method}",
  "reason": {reason},
  "exit_status": null,
  "seconds": [SECONDS]
}}
"#
    );
    project.qqmgr(&["stop", "vm", "--json"]).run().stdout(expected).stderr(stderr).success();
    assert!(!project.runs(pid));
    assert_eq!(project.vm_files("vm"), STOPPED);
}

/// The state of the VM, by `status`.
fn state(project: &Project) -> String {
    let output = project.qqmgr(&["status", "vm"]).run();
    let state = output.stdout.lines().find_map(|line| line.strip_prefix("state:      "));
    state.unwrap_or_default().to_owned()
}

/// A client of `qmp.socket`, as people use it.
pub(crate) struct Qmp(BufReader<UnixStream>);

impl Qmp {
    #[track_caller]
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut qmp = Self(BufReader::new(stream));
        assert!(qmp.line().starts_with("{\"QMP\""));
        qmp.execute("qmp_capabilities");
        qmp
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// Runs a command and gives its reply, after all events that come before.
    #[track_caller]
    pub(crate) fn execute(&mut self, command: &str) -> String {
        writeln!(self.0.get_mut(), "{{\"execute\": \"{command}\"}}").unwrap();
        loop {
            let line = self.line();
            assert!(!line.is_empty() && !line.starts_with("{\"error\""), "{line}");
            if line.starts_with("{\"return\"") {
                return line;
            }
        }
    }
}

// --- without a machine

#[test]
fn the_users_qmp_socket_is_theirs() {
    let Some(project) = project(NO_MACHINE) else { return };
    project
        .qqmgr(&["start", "vm"])
        .run()
        .stdout("vm started: running, pid [PID], ssh port [PORT]\n")
        .success();
    let mut qmp = Qmp::connect(&project.vm_path("vm", "qmp.socket"));
    let begin = Instant::now();
    assert_eq!(state(&project), "running");
    assert!(begin.elapsed() < Duration::from_secs(1), "it took {:?}", begin.elapsed());
    qmp.execute("stop");
    assert_eq!(state(&project), "paused");
    project
        .qqmgr(&["stop", "vm", "--force"])
        .run()
        .stdout("vm ended by SIGTERM in [SECONDS] s\n")
        .success();
}

// --- paths

/// Characters of a path that have a meaning in an option list, in ssh.conf, in a shell or in a URL.
const HOSTILE: &str = "a =,b!\"#$%&'()*+-.0:;<>?@A[\\]^_`{|}~ ${HOME} %h $(x) caf\u{e9}\u{1f600}";

/// Runs all commands that use paths on a VM in the directory `dir` of the project.
fn works_in(project: &Project, dir: &str) {
    let qqmgr = |arguments: &[&str]| project.qqmgr(arguments).cwd(dir).run();
    let started = "vm started: prelaunch, pid [PID], ssh port [PORT]\n";
    qqmgr(&["start", "vm"]).stderr("...\n").stdout(started).success();
    qqmgr(&["status", "vm"]).stdout("...\nstate:      prelaunch\n...\n").success();
    qqmgr(&["qmp", "vm", "query-status"]).stdout("...\n").success();
    qqmgr(&["snapshot", "save", "vm", "one"]).stdout("...\n").success();
    qqmgr(&["ssh-config", "vm"]).stdout("...\n").success();
    let read_by_ssh = project.command("ssh", &["-G", "-F", ".qqmgr/vm.vm/ssh.conf", "vm"]).cwd(dir);
    read_by_ssh.run().stdout("...\nuser [..]\n...\n").stderr("...\n").success();
    qqmgr(&["stop", "vm", "--force"]).stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    qqmgr(&["snapshot", "list", "vm"]).stdout("...\none [..]\n").success();
    qqmgr(&["img", "reset", "disk", "--yes"]).stdout("...\n").success();
}

#[test]
fn a_directory_with_every_character() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let vm = format!(
        "[qemu]\nbin = \"{qemu}\"\n[img.disk]\nsize = \"1M\"\n[vm.vm]\nconsole = true\ngdb = true\n\
         cmd = \"-nodefaults -display none -machine pc -accel tcg -S -drive file={{{{.img.disk}}}},if=virtio\"\n\
         ssh.port = {}\nssh.IdentityFile = \"key\"\n",
        free_port()
    );
    project.write(format!("{HOSTILE}/qqmgr.toml"), &vm);
    works_in(&project, HOSTILE);
}

/// Tests each character by itself, since one may undo the effect of another.
#[test]
fn directories_with_one_special_character_each() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    for special in ['=', ',', ' ', ':', '%', '\'', '"', '\\', '{', '\n'] {
        let dir = format!("x{special}y");
        project.write(format!("{dir}/qqmgr.toml"), config(qemu, &[("vm", NO_MACHINE)]));
        let started = "vm started: running, pid [PID], ssh port [PORT]\n";
        project.qqmgr(&["start", "vm"]).cwd(&dir).run().stdout(started).success();
        let runtime = project.path(&dir).join(".qqmgr/vm.vm");
        let mut qmp = Qmp::connect(&runtime.join("qmp.socket"));
        assert!(qmp.execute("query-status").contains("running"));
        for file in ["pid", "serial", "monitor.socket", "ctl.socket"] {
            assert!(runtime.join(file).exists(), "{file}");
        }
        let stop = ["stop", "vm", "--timeout", "0.2"];
        let stopped = "vm ended by SIGTERM in [SECONDS] s\n";
        project.qqmgr(&stop).cwd(&dir).run().stdout(stopped).success();
        assert_eq!(
            project.files(&dir),
            [
                ".qqmgr",
                ".qqmgr/vm.vm",
                ".qqmgr/vm.vm/events.out",
                ".qqmgr/vm.vm/lock",
                ".qqmgr/vm.vm/qemu.log",
                ".qqmgr/vm.vm/serial",
                "qqmgr.toml",
            ]
        );
    }
}

// --- with a guest

/// The first press comes before the guest has booted, and is missed: the firmware waits for a key.
#[test]
fn a_guest_that_still_boots_is_asked_again() {
    let slowly = "-boot menu=on,splash-time=2500";
    let Some((project, pid)) = guest(&[BUTTON, WAITS, OFF], slowly) else { return };
    let begin = Instant::now();
    stop_says("qqmgr: waiting for the guest to power off\n", "powerdown", &project, pid);
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
}

/// QEMU flushes its images before `stop` returns, so the next start can use them.
#[test]
fn a_guest_powers_off_and_starts_again() {
    let Some((project, mut pid)) = guest(&[BUTTON, SAYS_READY, WAITS, OFF], "") else { return };
    for _ in 0..3 {
        await_ready(&project);
        let begin = Instant::now();
        stop_ends_by("powerdown", &project, pid);
        assert!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());
        pid = start(&project);
    }
}

#[test]
fn a_paused_guest_is_continued_and_powers_off() {
    let Some((project, pid)) = guest(&[BUTTON, SAYS_READY, WAITS, OFF], "") else { return };
    await_ready(&project);
    Qmp::connect(&project.vm_path("vm", "qmp.socket")).execute("stop");
    assert_eq!(state(&project), "paused");
    stop_ends_by("powerdown", &project, pid);
}

/// With `-no-shutdown`, QEMU stays after the guest's end, and waiting cannot help.
#[test]
fn a_guest_that_does_nothing_more_is_not_waited_for() {
    const PVPANIC: &str = "-device pvpanic -action panic=pause";
    let asked_to_end = &[BUTTON, SAYS_READY, WAITS, OFF];
    let asked_to_panic = &[BUTTON, SAYS_READY, WAITS, PANICS];
    for (code, words, held, how) in [
        (&asked_to_end[..], "-no-shutdown", None, "powerdown"),
        (&[OFF], "-S", Some("prelaunch"), "sigterm"),
        (&[PANICS], PVPANIC, Some("guest-panicked"), "sigterm"),
        (asked_to_panic, PVPANIC, None, "sigterm"),
    ] {
        let Some((project, pid)) = guest(code, words) else { return };
        match held {
            Some(held) => wait_until(held, SOON, || state(&project) == held),
            None => await_ready(&project),
        }
        let begin = Instant::now();
        stop_ends_by(how, &project, pid);
        assert!(begin.elapsed() < Duration::from_secs(10), "{words}: {:?}", begin.elapsed());
    }
}

/// QEMU reports the panic as the guest's, and ends; a 7.2 may hang then, and needs SIGTERM.
#[test]
fn a_guest_that_panics_when_asked_did_not_power_off() {
    let code = &[BUTTON, SAYS_READY, WAITS, PANICS];
    let Some((project, pid)) = guest(code, "-device pvpanic") else { return };
    await_ready(&project);
    let stopped = project.qqmgr(&["stop", "vm", "--json"]).run();
    assert!(stopped.stdout.contains("\"reason\": \"guest-panic\""), "{}", stopped.stdout);
    assert!(!stopped.stdout.contains("\"powerdown\""), "{}", stopped.stdout);
    assert!(!project.runs(pid));
    let status = project.qqmgr(&["status", "vm"]).run().stdout;
    assert!(status.contains("ended:      the guest panicked, "), "{status}");
}

/// The guest wakes up in the firmware, which boots it again, so it suspends once more.
#[test]
fn a_suspended_guest_is_shown_and_ended() {
    let Some((project, pid)) = guest(&[SUSPENDS], "") else { return };
    wait_until("the guest is suspended", SOON, || state(&project) == "suspended");
    project
        .qqmgr(&["stop", "vm", "--timeout", "0.5"])
        .run()
        .stdout("vm ended by SIGTERM in [SECONDS] s\n")
        .success();
    assert!(!project.runs(pid));
    assert_eq!(project.vm_files("vm"), STOPPED);
}
