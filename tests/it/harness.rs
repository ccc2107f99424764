//! The basis of every test of the real binary: it makes a project directory, runs `qqmgr` in it,
//! compares all output, and ends every VM that was started in the directory.
//!
//! A directory is `/tmp/qq-PID-N`, since a socket's path has at most 107 bytes. It is removed at
//! the end, unless the test fails.
//!
//! Tests wait by blocking, on the end of a process or of a stream. Where only the state of the
//! system shows an event, `wait_until` polls it: only that function sleeps.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::expect;

const QQMGR: &str = env!("CARGO_BIN_EXE_qqmgr");
const QEMU: &str = "qemu-system-x86_64";
/// A command of a test that takes longer than this is killed.
const COMMAND_DURATION_MAX: Duration = Duration::from_secs(240);
const KILL_DURATION_MAX: Duration = Duration::from_secs(5);
/// The most that a failure report shows of one file.
const REPORTED_FILE_BYTES_MAX: usize = 20_000;

/// A fresh directory for one test, with a `home` in it.
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let temp = fs::canonicalize("/tmp").expect("there is a /tmp");
        // A directory may be left from a failed run whose pid was the same.
        let root = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let root = temp.join(format!("qq-{}-{number}", process::id()));
            match fs::create_dir(&root) {
                Ok(()) => break root,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot create {}: {error}", root.display()),
            }
        };
        fs::create_dir(root.join("home")).expect("a new directory is writable");
        Self { root }
    }

    /// A path below the project's directory; `path("")` is the directory itself.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        let relative = relative.as_ref();
        if relative == "" { self.root.clone() } else { self.root.join(relative) }
    }

    /// Writes `qqmgr.toml`.
    #[track_caller]
    pub(crate) fn config(&self, text: &str) {
        self.write("qqmgr.toml", text);
    }

    /// Writes a file, and makes the directories that it needs.
    #[track_caller]
    pub(crate) fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        let parent = path.parent().expect("a file has a parent");
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, content));
        if let Err(error) = written {
            panic!("cannot write {}: {error}", path.display());
        }
    }

    /// Writes a `qqmgr.toml` with one VM, `vm`, on the fake QEMU; gives its ssh port.
    #[track_caller]
    pub(crate) fn fake_vm(&self, scenario: &str) -> u16 {
        let port = free_port();
        self.config(&format!(
            "[qemu]\nbin = \"{}\"\n\n[vm.vm]\ncmd = \"-name fake={scenario}\"\nssh.port = {port}\n",
            fake_qemu().display()
        ));
        port
    }

    /// Writes a `qqmgr.toml` with these VMs, by name and scenario; gives their ssh ports.
    #[track_caller]
    pub(crate) fn fake_vms<const N: usize>(&self, vms: [(&str, &str); N]) -> [u16; N] {
        let mut config = format!("[qemu]\nbin = \"{}\"\n", fake_qemu().display());
        let ports = vms.map(|(name, scenario)| {
            let port = free_port();
            let cmd = format!("cmd = \"-name fake={scenario}\"");
            let _ = writeln!(config, "[vm.{name}]\n{cmd}\nssh.port = {port}");
            port
        });
        self.config(&config);
        ports
    }

    /// `qqmgr` by a shell that sorts the lines of both outputs, for results that come in any order.
    pub(crate) fn sorted(&self, arguments: &str) -> Run<'_> {
        self.sh(&format!(
            "export LC_ALL=C; out=$(mktemp -d) || exit\n\
             \"$QQMGR\" {arguments} >$out/1 2>$out/2; code=$?\n\
             sort $out/1; sort $out/2 >&2; rm -r $out; exit $code"
        ))
    }

    /// `qqmgr` with these arguments, in the project's directory and with its home.
    pub(crate) fn qqmgr(&self, arguments: &[impl AsRef<OsStr>]) -> Run<'_> {
        self.command(QQMGR, arguments)
    }

    /// Runs `qqmgr` as the leader of a process group of its own, as an interactive shell does.
    pub(crate) fn group(&self, arguments: &[impl AsRef<OsStr>]) -> Run<'_> {
        let mut run = self.qqmgr(arguments);
        run.command.process_group(0);
        run
    }

    /// A shell script in the same place, which calls the program as `"$QQMGR"`.
    pub(crate) fn sh(&self, script: &str) -> Run<'_> {
        self.command("sh", &["-c", script]).env("QQMGR", QQMGR)
    }

    pub(crate) fn command(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Run<'_> {
        let mut command = with_default_signals(program);
        for (name, _) in env::vars_os() {
            if is_read_by_qqmgr(&name) {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(&self.root).env("HOME", self.root.join("home"));
        // The output on a terminal is compared without colours.
        command.env("NO_COLOR", "1");
        Run { project: self, command, stdin: None, stdout: None, longest: COMMAND_DURATION_MAX }
    }

    /// Everything below a directory of the project, relative to it, sorted.
    pub(crate) fn files(&self, relative: &str) -> Vec<String> {
        let directory = self.path(relative);
        let files = files_below(&directory);
        let inside = files.iter().filter_map(|path| path.strip_prefix(&directory).ok());
        inside.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    /// The names in a VM's directory, without the fake QEMU's own files and the serial outputs of
    /// earlier boots.
    pub(crate) fn vm_files(&self, vm: &str) -> String {
        let mut names = self.files(&format!(".qqmgr/vm.{vm}"));
        names.retain(|name| !name.starts_with("fake.") && !name.starts_with("serial."));
        names.join(" ")
    }

    /// A file in the runtime directory of a VM that `qqmgr.toml` defines.
    pub(crate) fn vm_path(&self, vm: &str, file: &str) -> PathBuf {
        self.root.join(format!(".qqmgr/vm.{vm}/{file}"))
    }

    /// The content of such a file.
    #[track_caller]
    pub(crate) fn vm_file(&self, vm: &str, file: &str) -> String {
        let path = self.vm_path(vm, file);
        match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => panic!("cannot read {}: {error}\n{}", path.display(), self.report()),
        }
    }

    /// The number in the VM's pid file.
    #[track_caller]
    pub(crate) fn pid(&self, vm: &str) -> u32 {
        let text = self.vm_file(vm, "pid");
        text.trim().parse().unwrap_or_else(|_| panic!("the pid file of {vm} holds {text:?}"))
    }

    /// Whether this is a live process, no zombie, whose command line names a path in the project.
    pub(crate) fn runs(&self, pid: u32) -> bool {
        let inside = [self.root.as_os_str().as_encoded_bytes(), b"/"].concat();
        // A zombie's command line is empty.
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(inside.len()).any(|part| part == inside))
    }

    /// The tree of the project, and the output of QEMU and its fake.
    fn report(&self) -> String {
        let mut text = "--- files\n".to_owned();
        let files = files_below(&self.root);
        for path in &files {
            let _ = writeln!(text, "{}", path.strip_prefix(&self.root).unwrap_or(path).display());
        }
        for path in files {
            if ["qemu.log", "fake.log"].iter().any(|name| path.ends_with(name)) {
                let mut bytes = fs::read(&path).unwrap_or_default();
                bytes.truncate(REPORTED_FILE_BYTES_MAX);
                let content = String::from_utf8_lossy(&bytes);
                let _ = writeln!(text, "--- {}\n{content}", path.display());
            }
        }
        text
    }

    /// Ends all processes of the project. `fake.pid` is for a fake that writes a wrong `pid`.
    fn kill_vms(&self) {
        for path in files_below(&self.root) {
            let directory = path.parent().and_then(Path::file_name).unwrap_or_default();
            let is_vm = directory.as_encoded_bytes().starts_with(b"vm.");
            // Reading a FIFO in its place would never end.
            let is_pid_file = ["pid", "fake.pid"].iter().any(|name| path.ends_with(name));
            if !is_vm || !is_pid_file || !path.is_file() {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            if let Some(pid) = text.trim().parse().ok().filter(|pid| self.runs(*pid)) {
                signal(pid, "KILL");
                poll(KILL_DURATION_MAX, || !self.runs(pid));
            }
        }
        // Helpers have no pid file.
        self.processes().into_iter().for_each(|pid| signal(pid, "KILL"));
    }

    /// The live processes that work in the project's directory.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_here =
            |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.root);
        pids.filter(is_here).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.kill_vms();
        if thread::panicking() {
            eprintln!("the project is kept in {}", self.root.display());
        } else if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("cannot remove {}: {error}", self.root.display());
        }
    }
}

/// Whether a variable of the developer's own environment would change a test's result.
fn is_read_by_qqmgr(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["HOME", "NO_COLOR"].contains(&name.as_ref())
        || ["XDG_", "QQMGR_", "SSH_"].iter().any(|prefix| name.starts_with(prefix))
}

/// One run of `qqmgr`, to be completed and then `run`. Its standard input is empty by default.
pub(crate) struct Run<'p> {
    project: &'p Project,
    command: Command,
    stdin: Option<Vec<u8>>,
    stdout: Option<Stdio>,
    longest: Duration,
}

impl<'p> Run<'p> {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The working directory; a relative one is below the project's.
    pub(crate) fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(self.project.path(directory));
        self
    }

    pub(crate) fn stdin(mut self, text: impl AsRef<[u8]>) -> Self {
        self.stdin = Some(text.as_ref().to_vec());
        self
    }

    /// Sets its longest time, instead of [`COMMAND_DURATION_MAX`].
    pub(crate) fn within(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Sends standard output to a file or pipe, where it is not compared.
    pub(crate) fn stdout_to(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Runs it to its end, and until no process holds its output open any more: a VM that inherited
    /// it would let `$(qqmgr start vm)` hang for as long as the VM lives.
    #[must_use = "ends with `success()` or `code(N)`, which compare the output"]
    #[track_caller]
    pub(crate) fn run(self) -> Output<'p> {
        self.start().end()
    }

    /// Lets it run while the test goes on.
    #[must_use = "ends with `end()`"]
    #[track_caller]
    pub(crate) fn start(mut self) -> Running<'p> {
        let (sender, ends) = mpsc::channel();
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let stdout = self.stdout.take().unwrap_or_else(Stdio::piped);
        self.command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot run {:?}: {error}", self.command),
        };
        let pid = child.id();
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), self.stdin.take()) {
            // The program need not read all of its input.
            thread::spawn(move || pipe.write_all(&text));
        }
        let (stdout, stderr) = (Arc::default(), Arc::default());
        send_all(child.stdout.take(), &stdout, &sender, End::Stdout);
        send_all(child.stderr.take(), &stderr, &sender, End::Stderr);
        thread::spawn(move || sender.send(End::Process(child.wait())));

        let output = Output {
            project: self.project,
            command: self.command,
            longest: self.longest,
            status: None,
            ended: None,
            stdout: String::new(),
            stderr: String::new(),
            expected_stdout: String::new(),
            expected_stderr: String::new(),
        };
        Running { pid, output, ends, stdout, stderr }
    }
}

/// A command that is running.
pub(crate) struct Running<'p> {
    pub(crate) pid: u32,
    output: Output<'p>,
    ends: Receiver<End>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl<'p> Running<'p> {
    /// Its output until now, on both streams.
    pub(crate) fn said(&self) -> String {
        let bytes = [&self.stdout, &self.stderr].map(|bytes| bytes.lock().unwrap().clone());
        String::from_utf8_lossy(&bytes.concat()).into_owned()
    }

    /// Waits until it has printed this; fails when it does not.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        let found = poll(COMMAND_DURATION_MAX, || self.said().contains(text));
        assert!(found, "it does not say {text:?}, but {:?}", self.said());
    }

    /// Waits until it has ended, and no process holds its output open any more.
    #[must_use = "ends with `success()` or `code(N)`, which compare the output"]
    #[track_caller]
    pub(crate) fn end(mut self) -> Output<'p> {
        self.output.await_ends(&self.ends, self.pid);
        self.output
    }
}

/// The three ends of a run, which come in any order.
enum End {
    Process(io::Result<ExitStatus>),
    Stdout(String),
    Stderr(String),
}

/// Collects a stream for readers meanwhile, and sends all of it at its end.
fn send_all(
    stream: Option<impl Read + Send + 'static>,
    said: &Arc<Mutex<Vec<u8>>>,
    sender: &Sender<End>,
    end: fn(String) -> End,
) {
    let (said, sender) = (Arc::clone(said), sender.clone());
    thread::spawn(move || {
        let (mut stream, mut chunk) = (stream, vec![0; 65536]);
        while let Some(count) = stream.as_mut().and_then(|stream| stream.read(&mut chunk).ok())
            && count > 0
        {
            said.lock().unwrap().extend_from_slice(&chunk[..count]);
        }
        let bytes = said.lock().unwrap();
        sender.send(end(String::from_utf8_lossy(&bytes).into_owned()))
    });
}

/// The result of a run. `stdout` and `stderr` set the expected output, by default none; `success`
/// or `code` then compares all three.
pub(crate) struct Output<'p> {
    /// None when a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    project: &'p Project,
    command: Command,
    ended: Option<ExitStatus>,
    longest: Duration,
    expected_stdout: String,
    expected_stderr: String,
}

impl Output<'_> {
    #[must_use = "nothing is compared before `success()` or `code(N)`"]
    pub(crate) fn stdout(mut self, expected: impl Into<String>) -> Self {
        self.expected_stdout = expected.into();
        self
    }

    #[must_use = "nothing is compared before `success()` or `code(N)`"]
    pub(crate) fn stderr(mut self, expected: impl Into<String>) -> Self {
        self.expected_stderr = expected.into();
        self
    }

    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.code(0)
    }

    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        let mut wrong = String::new();
        if self.status != Some(expected) {
            let _ = writeln!(wrong, "the exit code is not {expected}");
        }
        for (name, expected, actual) in [
            ("stdout", &self.expected_stdout, &self.stdout),
            ("stderr", &self.expected_stderr, &self.stderr),
        ] {
            if let Err(difference) = expect::compare(expected, actual, &self.project.root) {
                let _ = writeln!(wrong, "{name} is not as expected (-), but (+)\n{difference}");
            }
        }
        if !wrong.is_empty() {
            self.fail(&wrong);
        }
        self
    }

    /// Waits for all three ends; after the longest time it kills the process and fails.
    #[track_caller]
    fn await_ends(&mut self, ends: &Receiver<End>, pid: u32) {
        let mut deadline = Instant::now() + self.longest;
        let mut failure = None;
        let mut pending = 3;
        while pending > 0 {
            match ends.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(end) => {
                    pending -= 1;
                    match end {
                        End::Stdout(text) => self.stdout = text,
                        End::Stderr(text) => self.stderr = text,
                        End::Process(result) => self.ended = result.ok(),
                    }
                }
                Err(_) if failure.is_some() => break,
                Err(_) => {
                    failure = Some("another process holds its output open");
                    if self.ended.is_none() {
                        signal(pid, "KILL");
                        failure = Some("it ran for too long and was killed");
                    }
                    deadline = Instant::now() + KILL_DURATION_MAX;
                }
            }
        }
        self.status = self.ended.and_then(|ended| ended.code());
        if let Some(reason) = failure {
            self.fail(reason);
        }
    }

    #[track_caller]
    fn fail(&self, reason: &str) -> ! {
        let arguments: Vec<String> =
            self.command.get_args().map(|word| format!("{:?}", word.to_string_lossy())).collect();
        panic!(
            "{}\n--- command\n{} {}\n--- cwd\n{}\n--- ended with\n{}\n\
             --- stdout\n{}\n--- stderr\n{}\n{}",
            reason.trim_end(),
            Path::new(self.command.get_program()).display(),
            arguments.join(" "),
            self.command.get_current_dir().unwrap_or(&self.project.root).display(),
            self.ended.map_or("nothing".to_owned(), |ended| ended.to_string()),
            self.stdout,
            self.stderr,
            self.project.report(),
        );
    }
}

/// A command without ignored signals and with only the standard descriptors. Without this, it would
/// inherit both from a user who runs the tests in the background, by `nohup`, or with files left
/// open.
pub(crate) fn with_default_signals(program: impl AsRef<OsStr>) -> Command {
    const ENV: &str = "/usr/bin/env";
    static CLOSING: OnceLock<String> = OnceLock::new();
    let closing = CLOSING.get_or_init(|| {
        let open = inherited_descriptors().into_iter();
        let words: Vec<String> = open.map(|fd| format!(" {fd}>&-")).collect();
        words.concat()
    });
    let mut command = Command::new(if closing.is_empty() { ENV } else { "/bin/bash" });
    if !closing.is_empty() {
        command.args(["-c", &format!("exec{closing}; exec \"$@\""), "bash", ENV]);
    }
    command.arg("--default-signal").arg(program);
    command
}

fn inherited_descriptors() -> Vec<u32> {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = open.filter_map(|file| file.file_name().to_str()?.parse().ok());
    let stays = |fd: &u32| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        // O_CLOEXEC
        flags.is_some_and(|flags| flags & 0o2_000_000 == 0)
    };
    open.filter(|fd| *fd > 2).filter(stays).collect()
}

/// Everything below a directory, sorted; links are listed and not followed.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The fake QEMU, which tests/fake/qemu.rs describes.
#[track_caller]
pub(crate) fn fake_qemu() -> PathBuf {
    let path = Path::new(QQMGR).with_file_name("examples").join("fake-qemu");
    assert!(
        path.is_file(),
        "there is no {}: run `cargo test`, or `cargo build --example fake-qemu`",
        path.display()
    );
    path
}

/// The name of a real QEMU on PATH. Without one, a test is skipped, or fails where CI requires one.
#[track_caller]
pub(crate) fn real_qemu() -> Option<&'static str> {
    program(QEMU).map(|_| QEMU)
}

/// The path of a system program, on PATH or in an `sbin` directory. Without it, a test is skipped,
/// or fails where CI requires all tools.
#[track_caller]
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut files = directories.map(|directory| directory.join(name));
    files.find(|file| file.is_file()).or_else(|| skip(&format!("there is no {name}")))
}

/// A directory with `vmlinuz`, `initrd` and `id_ed25519` of a guest that boots and takes ssh.
#[track_caller]
pub(crate) fn guest_dir() -> Option<PathBuf> {
    let Some(directory) = env::var_os("QQMGR_GUEST").map(PathBuf::from) else {
        return skip("QQMGR_GUEST names no directory with a guest");
    };
    for file in ["vmlinuz", "initrd", "id_ed25519"] {
        let path = directory.join(file);
        assert!(path.is_file(), "QQMGR_GUEST: there is no {}", path.display());
    }
    Some(directory)
}

/// Whether a tool is on PATH. Without it, a test is skipped, or fails where CI requires all tools.
#[track_caller]
pub(crate) fn has_tool(name: &str) -> bool {
    let found = has_program(name);
    if !found {
        assert!(!is_required(), "QQMGR_REQUIRE_TOOLS=1, but there is no {name}");
        left_out(&format!("there is no {name}"));
    }
    found
}

/// Whether a tool that is missing is an error.
pub(crate) fn is_required() -> bool {
    env::var_os("QQMGR_REQUIRE_TOOLS").is_some_and(|value| value == "1")
}

/// Whether the tests run as root, who may mount and give files away; says so otherwise.
pub(crate) fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !is_root {
        left_out("only root can do it");
    }
    is_root
}

pub(crate) fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

#[track_caller]
fn skip<T>(reason: &str) -> Option<T> {
    let required = env::var_os("QQMGR_REQUIRE_QEMU") == Some(OsString::from("1"));
    assert!(!required, "QQMGR_REQUIRE_QEMU=1, but {reason}");
    left_out(reason);
    None
}

/// Says on standard error that a test, or part of one, is left out, and why. `eprintln` would show
/// it only if the test failed.
pub(crate) fn left_out(reason: &str) {
    let test = thread::current();
    let line = format!("left out: {}: {reason}\n", test.name().unwrap_or_default());
    // If standard error is closed, the message is lost.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// A port that no program listens on. Each is given out once in a run, from below the ports that
/// the system gives out, so that tests do not take each other's ports.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Another run at the same time begins elsewhere.
    let start = process::id().wrapping_mul(211) % COUNT;
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| port.try_into().ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}

/// Polls a condition for at most this long; `what` completes "waited in vain until".
#[track_caller]
pub(crate) fn wait_until(what: &str, longest: Duration, condition: impl FnMut() -> bool) {
    assert!(poll(longest, condition), "waited {longest:?} in vain until {what}");
}

/// Whether a condition holds within this time. The only sleep in the tests: 1 ms at first, 64 ms at
/// most.
pub(crate) fn poll(longest: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + longest;
    let mut pause = Duration::from_millis(1);
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(64));
    }
    true
}

/// Stops a process by SIGSTOP, which takes a moment.
#[track_caller]
pub(crate) fn freeze(pid: u32) {
    signal(pid, "STOP");
    let stat = format!("/proc/{pid}/stat");
    wait_until("the process is stopped", KILL_DURATION_MAX, || {
        fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T "))
    });
}

/// Sends the signal `name`, such as `KILL`, by the shell's builtin: slim images have no `kill`.
pub(crate) fn signal(pid: u32, name: &str) {
    let mut command = Command::new("sh");
    let _ = command
        .args(["-c", "kill -s \"$1\" \"$2\" 2>/dev/null", "sh", name, &pid.to_string()])
        .status();
}
