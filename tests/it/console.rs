//! `console`: a script and a terminal at the serial line of a real guest, and of a boot sector that
//! gives back what it hears.
//!
//! The terminal is one of script(1), whose keys come from a FIFO.

use crate::guest;
use crate::harness::{Project, Running, free_port, freeze, has_tool, signal, wait_until};
use crate::real_qemu::{self, OFF, PC, SAYS_READY};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// Echoes each character (port 0x3f8, when 0x3fd says that one has come and that the last one has
/// been sent), up to a `q`.
const ECHOES: &[u8] = &[
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0xba, 0xf8, 0x03, 0xec, 0x88, 0xc4, 0xba, 0xfd,
    0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0x3c, 0x71, 0x75, 0xe0,
];
/// Runs `console` on a terminal, and says whether the terminal is then as it was before.
const SESSION: &str = r#"
before=$(stty -g)
"$QQMGR" console vm
echo "code $?"
tries=0
until [ "$(stty -g)" = "$before" ] || [ $tries = 200 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
[ "$(stty -g)" != "$before" ] || echo restored
"#;

/// A started VM whose guest says `!`, echoes everything, and powers off after a `q`.
fn echoing() -> Option<Project> {
    let project = real_qemu::project(PC)?;
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&format!("{config}console = true\n"));
    project.write("guest.img", real_qemu::image(&[SAYS_READY, ECHOES, OFF]));
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
    real_qemu::await_ready(&project);
    Some(project)
}

/// The user of the console, as its lock says: pid and terminal.
fn holder(project: &Project) -> Option<(u32, String)> {
    let text = fs::read_to_string(project.vm_path("vm", "console.lock")).ok()?;
    let (_, rest) = text.split_once("(pid ")?;
    let (pid, rest) = rest.split_once(" on ").or_else(|| rest.split_once(')'))?;
    Some((pid.parse().ok()?, rest.split(')').next()?.to_string()))
}

/// Waits until a `console` has the VM's console.
fn await_console(project: &Project) -> (u32, String) {
    let mut found = None;
    wait_until("somebody has the console", SOON, || {
        found = holder(project).filter(|(pid, _)| runs_console(*pid));
        found.is_some()
    });
    found.unwrap()
}

fn runs_console(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("console")
}

#[test]
fn a_script_is_answered() {
    let Some(project) = echoing() else { return };
    let talk = |arguments: &[&str], input: &str| {
        project.qqmgr(&[&["console", "vm"], arguments].concat()).stdin(input).run()
    };
    talk(&[], "hello\r\n\u{3}\u{1d}").stdout("hello\r\n\u{3}\u{1d}").success();
    talk(&["--idle", "0.2"], "").success();
    talk(&["--until", "lo world"], "hello world").stdout("hello world").success();
    // Everything goes through, and no byte is another.
    let many = "0123456789abcdefghijklmnop\n".repeat(300);
    talk(&["--until", "\nend"], &format!("{many}\nend")).stdout(format!("{many}\nend")).success();

    talk(&["--until", "nobody says that", "--timeout", "0.5"], "x")
        .stdout("x")
        .stderr("qqmgr: error: waited 0.5 s for `nobody says that` on the console of VM `vm`\n")
        .code(4);
    talk(&["--idle", "60", "--timeout", "0.5"], "y")
        .stdout("y")
        .stderr("qqmgr: error: waited 0.5 s for the console of VM `vm` to be idle\n")
        .code(4);
    // The error still has the output that was read.
    talk(&["--json", "--until", "never", "--timeout", "0.5"], "r\n")
        .stdout(
            "{\n  \"name\": \"vm\",\n  \"text\": \"r\\n\",\n  \"error\": {\n    \
             \"kind\": \"timed-out\",\n    \"message\": \"waited 0.5 s for `never` on the \
             console of VM `vm`\",\n    \"hint\": null\n  }\n}\n",
        )
        .stderr("qqmgr: error: waited 0.5 s for `never` on the console of VM `vm`\n")
        .code(4);
    talk(&["--json", "--until", "z"], "x\u{1b}z")
        .stdout(
            "{\n  \"name\": \"vm\",\n  \"text\": \"x\\u001bz\",\n  \"end\": \"text\",\n  \
             \"reason\": null\n}\n",
        )
        .success();
    // A reader that has enough is no error.
    let endless = "while echo a; do :; done 2>/dev/null";
    let head = format!("{endless} | {{ \"$QQMGR\" console vm; echo $? >&2; }} | head -n 1");
    project.sh(&head).run().stdout("a\n").stderr("0\n").success();

    // `serial` has all of the output.
    assert!(project.vm_file("vm", "serial").starts_with("!hello\r\n"));
    let wait = ["wait", "vm", "--for", "serial=!hello", "--timeout", "20"];
    project.qqmgr(&wait).run().stdout("vm said `!hello` after [SECONDS] s\n").success();
    talk(&["--json"], "q")
        .stdout(
            "{\n  \"name\": \"vm\",\n  \"text\": \"q\",\n  \"end\": \"stopped\",\n  \
             \"reason\": \"guest-shutdown\"\n}\n",
        )
        .stderr("qqmgr: VM `vm` has ended: the guest powered off\n")
        .success();
    talk(&[], "x")
        .stderr("qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n")
        .code(3);
    project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
    assert_eq!(project.vm_files("vm"), "events.out lock qemu.log serial");
}

#[test]
fn it_ends_when_the_vm_does() {
    let Some(project) = echoing() else { return };
    let keys = project.path("keys");
    project.sh("mkfifo keys").run().success();
    // Its input never ends.
    let until = project.sh("exec \"$QQMGR\" console vm --until end <keys").start();
    let mut keys = OpenOptions::new().write(true).open(keys).unwrap();
    keys.write_all(b"abc").unwrap();
    until.says("abc");
    keys.write_all(b"q").unwrap();
    until
        .end()
        .stdout("abcq")
        .stderr(
            "qqmgr: error: QEMU ended while waiting for `end` on the console of VM `vm`: the guest \
             powered off\n",
        )
        .code(3);
    drop(keys);

    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    real_qemu::await_ready(&project);
    let killed = project.sh("exec \"$QQMGR\" console vm <keys").start();
    let mut keys = OpenOptions::new().write(true).open(project.path("keys")).unwrap();
    keys.write_all(b"abc").unwrap();
    killed.says("abc");
    signal(project.pid("vm"), "KILL");
    killed
        .end()
        .stdout("abc")
        .stderr("qqmgr: error: VM `vm` has ended: QEMU gave no reason: killed, crashed, or a debug exit of the guest\n")
        .code(3);
}

#[test]
fn one_at_a_time() {
    let Some(project) = echoing() else { return };
    let hint = "qqmgr: hint: `qqmgr serial vm -f` shows what the guest says meanwhile\n";
    let refused = |who: &str| {
        let output = project.qqmgr(&["console", "vm"]).stdin("x").run();
        let error = format!("qqmgr: error: {who} has the console of VM `vm`\n{hint}");
        let _ = output.stderr(error).code(1);
    };
    project.sh("mkfifo keys").run().success();
    let first = project.sh("exec \"$QQMGR\" console vm <keys").start();
    let keys = OpenOptions::new().write(true).open(project.path("keys")).unwrap();
    await_console(&project);
    refused("`console` (pid [PID])");
    refused("`console` (pid [PID])");
    drop(keys);
    first.end().success();

    // Another program has the socket, which QEMU reports.
    let mut other = UnixStream::connect(project.vm_path("vm", "console.socket")).unwrap();
    other.write_all(b"other").unwrap();
    let mut heard = [0; 5];
    other.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"other");
    refused("another program");
    drop(other);
    // That program has just left.
    let free = project.qqmgr(&["console", "vm", "--until", "x"]).stdin("x").run();
    free.stdout("x").success();

    freeze(project.pid("vm"));
    let output = project.qqmgr(&["console", "vm"]).run();
    output
        .stderr(
            "qqmgr: error: VM `vm` does not answer: QEMU is frozen\n\
             qqmgr: hint: a signal stopped it; `kill -CONT [PID]` lets it go on\n",
        )
        .code(4);
    signal(project.pid("vm"), "CONT");
}

/// Keys, and what the terminal shows.
struct Terminal<'p> {
    project: &'p Project,
    screen: Running<'p>,
    keys: File,
}

impl<'p> Terminal<'p> {
    /// A terminal that runs [`SESSION`]. `None` without script(1).
    #[track_caller]
    fn new(project: &'p Project) -> Option<Self> {
        if !has_tool("script") {
            return None;
        }
        project.write("session", SESSION);
        let script = "rm -f keys; mkfifo keys; exec script -qec 'sh session' /dev/null <keys";
        let keys = project.path("keys");
        let _ = fs::remove_file(&keys);
        let screen = project.sh(script).start();
        wait_until("there is a FIFO", SOON, || keys.exists());
        let keys = OpenOptions::new().write(true).open(keys).unwrap();
        Some(Self { project, screen, keys })
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        self.screen.says(text);
    }

    /// Waits for the raw mode; gives the pid of `console`.
    fn is_raw(&self) -> u32 {
        let (pid, name) = await_console(self.project);
        wait_until("the terminal is in raw mode", SOON, || {
            let shown = Command::new("stty").args(["-a", "-F", &name]).output().unwrap();
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            ["-icanon", "-isig", "-echo ", "-ixon"].iter().all(|mode| shown.contains(mode))
        });
        pid
    }

    #[track_caller]
    fn ends(self, shown: &str) {
        let Self { screen, keys, .. } = self;
        // Before that, script(1) would type the end of its input into another program.
        screen.says("restored");
        drop(keys);
        screen.end().stdout(shown).success();
    }
}

#[test]
fn a_terminal_is_raw_and_then_as_it_was() {
    let Some(project) = echoing() else { return };
    fs::write(project.vm_path("vm", "serial"), "before\n!\u{1b}[6n").unwrap();
    let Some(mut terminal) = Terminal::new(&project) else { return };
    terminal.is_raw();
    terminal.shows("before\r\n!");
    terminal.types("abc");
    terminal.shows("!abc");
    // Ctrl-C, Ctrl-Z, Ctrl-\ and Ctrl-D are the guest's.
    terminal.types("\u{3}\u{1a}\u{1c}\u{4}\rdef");
    terminal.shows("\u{3}\u{1a}\u{1c}\u{4}\rdef");
    terminal.types("\u{1d}");
    terminal.ends(
        "\r\u{1b}[Kqqmgr: this is the console of VM `vm`; Ctrl-] leaves it\r\n\
         before\r\n\
         !abc\u{3}\u{1a}\u{1c}\u{4}\rdef\r\n\
         \r\u{1b}[Kqqmgr: left the console; VM `vm` keeps running\r\n\
         code 0\r\n\
         restored\r\n",
    );
    project.qqmgr(&["status", "-q", "vm"]).run().success();
}

/// All ways in which `console` can end; in the released program, a panic aborts.
#[test]
fn a_terminal_is_restored_after_every_end() {
    let Some(project) = echoing() else { return };
    let begin = "\r\u{1b}[Kqqmgr: this is the console of VM `vm`; Ctrl-] leaves it\r\n...\n";
    for (name, status) in [("TERM", 143), ("KILL", 137), ("HUP", 129), ("ABRT", 134)] {
        let Some(terminal) = Terminal::new(&project) else { return };
        let pid = terminal.is_raw();
        signal(pid, name);
        // The shell may report the signal while the terminal is still in raw mode.
        terminal.ends(&format!("{begin}[..]code {status}[..]\nrestored\r\n"));
    }
    // A second `console` names the first one, and leaves the terminal alone.
    let Some(mut first) = Terminal::new(&project) else { return };
    first.is_raw();
    let second = project.qqmgr(&["console", "vm"]).run();
    second
        .stderr(
            "qqmgr: error: `console` (pid [PID] on /dev/[..]) has the console of VM `vm`\n\
             qqmgr: hint: `qqmgr serial vm -f` shows what the guest says meanwhile\n",
        )
        .code(1);
    first.types("q");
    first.ends(&format!(
        "{begin}\r\u{1b}[Kqqmgr: VM `vm` has ended: the guest powered off\r\ncode 0\r\nrestored\r\n"
    ));
}

/// A login, by a script and by a person at a terminal.
#[test]
fn a_login_on_a_real_guest() {
    let project = Project::new();
    // The kernel would write between what the shell writes.
    let config = guest::config("loglevel=1", &free_port().to_string(), "");
    let Some(config) = config else { return };
    project.config(
        &format!("{config}[vm.base]\nssh.port = 1\n")
            .replace("[vm.vm]\n", "[vm.vm]\nconsole = true\n"),
    );
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    let wait = ["wait", "vm", "--for", "serial=login: ", "--timeout", "200"];
    project.qqmgr(&wait).run().stdout("vm said `login: ` after [SECONDS] s\n").success();
    let talk = |input: &str, until: &str| {
        let arguments = ["console", "vm", "--timeout", "200", "--until", until];
        project.qqmgr(&arguments).stdin(input).run().stdout("...\n[..]").success();
    };
    talk("root\n", "~ # ");
    talk("echo $((6 * 7))-$(uname -n)-$(tty)\n", "\n42-vm-/dev/ttyS0\r");

    let Some(mut terminal) = Terminal::new(&project) else { return };
    terminal.is_raw();
    // Ctrl-C reaches the shell that answers.
    terminal.types("sh -c 'echo a$((1 + 1))b; exec sleep 1000'\r");
    terminal.shows("\na2b\r");
    terminal.types("\u{3}");
    terminal.types("echo c$((1 + 2))d\r");
    terminal.shows("\nc3d\r");
    terminal.types("\u{1d}");
    terminal.ends(
        "...\nqqmgr: left the console; VM `vm` keeps running\r\ncode 0\r\nrestored\r\n"
            .replace("qqmgr: left", "[..]qqmgr: left")
            .as_str(),
    );

    let off = project.qqmgr(&["console", "vm", "--idle", "50"]).stdin("poweroff\n").run();
    off.stdout("...\n[..]").stderr("qqmgr: VM `vm` has ended: the guest powered off\n").success();
}
