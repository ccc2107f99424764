//! The surroundings of qqmgr: an ssh session that ends, a clock that is set. Each test has its own
//! sshd, or a preload library that shows another time of day to its commands.

use crate::faults::real;
use crate::harness::{Project, free_port, program, wait_until, with_default_signals};
use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::iter;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const QQMGR: &str = env!("CARGO_BIN_EXE_qqmgr");
const A_WHILE: Duration = Duration::from_secs(20);
const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]";

// ---- through ssh ----

/// The test's own sshd on 127.0.0.1, which accepts the user who runs it. `client.conf` configures
/// its clients, and its sessions have the project's home.
pub(crate) struct Sshd {
    child: Child,
    pub(crate) port: u16,
}

impl Sshd {
    pub(crate) fn new(project: &Project) -> Option<Self> {
        Self::at(project, free_port(), "")
    }

    /// An sshd whose configuration also has these lines.
    pub(crate) fn with(project: &Project, more: &str) -> Option<Self> {
        Self::at(project, free_port(), more)
    }

    /// An sshd on this port, with the keys of an earlier one.
    pub(crate) fn at(project: &Project, port: u16, more: &str) -> Option<Self> {
        let (sshd, keygen, _) = (program("sshd")?, program("ssh-keygen")?, program("ssh")?);
        let keys = ["host_key", "user_key"].into_iter();
        for key in keys.filter(|key| !project.path(key).exists()) {
            let mut keygen = Command::new(&keygen);
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(project.path(key));
            assert!(keygen.status().unwrap().success());
        }
        let root = project.path("").display().to_string();
        project.write(
            "sshd.conf",
            format!(
                "ListenAddress 127.0.0.1:{port}\nPidFile none\nHostKey {root}/host_key\n\
                 AuthorizedKeysFile {root}/user_key.pub\nStrictModes no\nUsePAM no\n\
                 PermitRootLogin yes\nPasswordAuthentication no\nPermitUserRC no\n\
                 PrintMotd no\nPrintLastLog no\n\
                 SetEnv \"PATH={}\" \"HOME={root}/home\" \"QQMGR={QQMGR}\"\n{more}",
                env::var("PATH").unwrap(),
            ),
        );
        let host_key = fs::read_to_string(project.path("host_key.pub")).unwrap();
        project.write("known_hosts", format!("[127.0.0.1]:{port} {host_key}"));
        project.write(
            "client.conf",
            format!(
                "Host host\nHostName 127.0.0.1\nPort {port}\nBatchMode yes\nLogLevel ERROR\n\
                 IdentityFile {root}/user_key\nIdentitiesOnly yes\nIdentityAgent none\n\
                 UserKnownHostsFile {root}/known_hosts\nGlobalKnownHostsFile /dev/null\n\
                 StrictHostKeyChecking yes\n"
            ),
        );
        // Root's sshd needs this empty directory, which only a started service makes.
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let log = File::create(project.path("sshd.log")).unwrap();
        // It stands for the guests of several VMs, so it must not count their connections without
        // a login, as OpenSSH 9.8 does; older ones do not know the keyword.
        let conf = project.path("sshd.conf");
        let lenient: &[&str] = &["-o", "PerSourcePenalties=no"];
        let check = Command::new(&sshd).args(lenient).args(["-t", "-f"]).arg(&conf).output();
        let words = if check.unwrap().status.success() { lenient } else { &[] };
        let mut command = with_default_signals(sshd);
        command.args(words).args(["-D", "-e", "-f"]).arg(conf);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut sshd = Self { child: command.spawn().unwrap(), port };
        let said = || fs::read_to_string(project.path("sshd.log")).unwrap();
        let mut ended = None;
        wait_until("sshd listens", A_WHILE, || {
            ended = sshd.child.try_wait().unwrap();
            ended.is_some() || said().contains("Server listening on")
        });
        assert!(ended.is_none(), "sshd ended: {}", said());
        Some(sshd)
    }

    /// Waits until no session is left, and the processes in it have got its signals.
    #[track_caller]
    fn sessions_end(&self) {
        let parent = format!("PPid:\t{}", self.child.id());
        wait_until("the session ends", A_WHILE, || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let status = |path: PathBuf| fs::read_to_string(path.join("status"));
            !processes
                .filter_map(|entry| status(entry.path()).ok())
                .any(|status| status.lines().any(|line| line == parent))
        });
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that is killed before its session ends.
struct Client(Child);

impl Client {
    fn new(project: &Project, words: &[&str], command: &str) -> Self {
        let mut ssh = with_default_signals("ssh");
        ssh.arg("-F").arg(project.path("client.conf")).args(words);
        ssh.args(["host", &format!("cd {} && {command}", project.path("").display())]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(ssh.spawn().unwrap())
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `qqmgr` through ssh to its end; `words` are ssh's.
fn through_ssh(project: &Project, words: &str, arguments: &str, expected: &str) {
    let root = project.path("").display().to_string();
    let script =
        format!("exec ssh -F client.conf {words} host 'cd {root} && \"$QQMGR\" {arguments}'");
    project.sh(&script).run().stdout(expected).success();
}

/// Checks that the VM answers, and is still the same process.
#[track_caller]
fn still_runs(project: &Project, pid: u32) {
    let again = format!("vm is already running: running, pid {pid}, ssh port [PORT]\n");
    project.qqmgr(&["start", "vm"]).run().stdout(again).success();
    let status = project.qqmgr(&["status", "vm"]).run();
    let expected = format!("name:       vm\nstate:      running\npid:        {pid}\n...\n");
    status.stdout(expected).success();
    assert!(project.runs(pid));
}

/// Without a terminal, ssh would wait for a QEMU that has the session's output open; with one, the
/// end of the session would end a QEMU in it.
#[test]
fn a_vm_outlives_the_ssh_session_that_started_it() {
    let Some(project) = real() else { return };
    let Some(sshd) = Sshd::new(&project) else { return };
    for (words, line_end) in [("", "\n"), ("-tt", "\r\n")] {
        through_ssh(&project, words, "start vm", &format!("{STARTED}{line_end}"));
        let pid = project.pid("vm");
        sshd.sessions_end();
        still_runs(&project, pid);
        let ended = format!("vm ended by SIGTERM in [SECONDS] s{line_end}");
        through_ssh(&project, words, "stop vm --force", &ended);
        assert!(!project.runs(pid));
    }
}

/// The network fails, or a user closes the window, right after the line is printed.
#[test]
fn a_vm_outlives_an_ssh_client_that_is_killed() {
    let Some(project) = real() else { return };
    let Some(sshd) = Sshd::new(&project) else { return };
    // With a terminal, the shell stays until the terminal is hung up.
    for command in ["\"$QQMGR\" start vm", "\"$QQMGR\" start vm; cat"] {
        let mut client = Client::new(&project, &["-tt"], command);
        let mut line = String::new();
        BufReader::new(client.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        client.kill();
        let pid = project.pid("vm");
        assert!(line.starts_with(&format!("vm started: running, pid {pid}, ")), "{line}");
        sshd.sessions_end();
        still_runs(&project, pid);
        through_ssh(&project, "", "stop vm --force", "vm ended by SIGTERM in [SECONDS] s\n");
        assert!(!project.runs(pid));
    }
}

/// The client is killed during `start`. With a terminal, the hang-up also ends `start`, and the
/// next `start` continues its work.
#[test]
fn start_whose_ssh_client_is_killed_meanwhile() {
    for words in [&[][..], &["-tt"]] {
        let project = Project::new();
        project.fake_vm("late-greeting,ms=500");
        let Some(sshd) = Sshd::new(&project) else { return };
        let command = "{ \"$QQMGR\" start vm; echo $? >code.new; mv code.new code; } 2>said";
        let mut client = Client::new(&project, words, command);
        wait_until("it waits for QEMU", A_WHILE, || project.vm_path("vm", "ctl.socket").exists());
        let pid = project.pid("vm");
        client.kill();
        sshd.sessions_end();
        if words.is_empty() {
            wait_until("`start` ends", A_WHILE, || project.path("code").exists());
            assert_eq!(fs::read_to_string(project.path("code")).unwrap(), "0\n");
        }
        still_runs(&project, pid);
        assert_eq!(fs::read_to_string(project.path("said")).unwrap(), "");
    }
}

// ---- a clock that is set ----

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Each command waits this long, and may take [`SLACK`] more on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(5);

/// The time of day for the commands of a project and their children: the real time plus a number of
/// days that may change at any moment. The monotonic clock stays, as on a real machine whose clock
/// is set.
struct Clock<'p> {
    project: &'p Project,
    /// Ends with its standard input, and then removes its files in /dev/shm.
    keeper: Child,
    /// The environment for the library. Without the names of these files, a process makes its own,
    /// which stay when it is killed; then its pid is a taken name.
    variables: [(&'static str, String); 2],
}

impl<'p> Clock<'p> {
    fn new(project: &'p Project, days: u64) -> Option<Self> {
        let mut wrapper = Command::new(program("faketime")?);
        wrapper.args(["-f", "+0", "sh", "-c", "echo \"$LD_PRELOAD,$FAKETIME_SHARED\"; read end"]);
        wrapper.stdin(Stdio::piped()).stdout(Stdio::piped());
        let keepers = iter::repeat_with(|| {
            let mut keeper = wrapper.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
            (keeper, line)
        });
        // If its pid was a taken name, it has printed nothing; the next process has another pid.
        let spoken = keepers.take(10).find(|(_, line)| !line.is_empty());
        let (keeper, line) = spoken.expect("the wrapper says why not");
        let (library, shared) = line.trim().split_once(',').expect("the wrapper says why not");
        let variables = [("LD_PRELOAD", library.into()), ("FAKETIME_SHARED", shared.into())];
        let clock = Self { project, keeper, variables };
        clock.set(days);
        Some(clock)
    }

    /// Sets the days atomically: a reader meanwhile finds the old or the new number.
    fn set(&self, days: u64) {
        self.project.write("clock.new", format!("+{days}d\n"));
        fs::rename(self.project.path("clock.new"), self.project.path("clock")).unwrap();
    }

    /// Runs `qqmgr` by this clock, and says how long it took.
    fn qqmgr(&self, arguments: &[&str]) -> (crate::harness::Output<'p>, Duration) {
        let run = self.project.qqmgr(arguments);
        let run = self.variables.iter().fold(run, |run, (name, value)| run.env(name, value));
        let run = run.env("FAKETIME_TIMESTAMP_FILE", self.project.path("clock"));
        let run = run.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let begin = Instant::now();
        (run.run(), begin.elapsed())
    }

    /// Checks that qqmgr has seen and recorded this time; otherwise, the test would show nothing.
    #[track_caller]
    fn was_seen_by_start(&self, days: u64) {
        let record = self.project.vm_file("vm", "instance.json");
        let (_, rest) = record.split_once("\"started_at\": ").unwrap();
        let started_at: u64 = rest.split_once(',').unwrap().0.parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let ahead = started_at.abs_diff(now + days * DAY_SECONDS);
        assert!(ahead < 60, "started at {started_at}, now it is {now}");
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        let _ = self.keeper.wait();
    }
}

#[track_caller]
fn took_its_time(duration: Duration) {
    assert!(duration >= TIMEOUT && duration < TIMEOUT + SLACK, "it took {duration:?}");
}

/// Runs `work` while the clock is set from two days ahead to one, and to three.
fn both_ways(test: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for days in [1, 3] {
            let test = &test;
            scope.spawn(move || test(days));
        }
    });
}

#[test]
fn stop_waits_as_long_as_it_should_when_the_clock_jumps() {
    both_ways(|days| {
        let project = Project::new();
        project.fake_vm("ignores-powerdown");
        let Some(clock) = Clock::new(&project, 2) else { return };
        clock.qqmgr(&["start", "vm"]).0.stdout(format!("{STARTED}\n")).success();
        clock.was_seen_by_start(2);
        let (stop, duration) = thread::scope(|scope| {
            let stop = scope.spawn(|| clock.qqmgr(&["stop", "--no-kill", "--timeout", "2", "vm"]));
            wait_until("the power button is pressed", A_WHILE, || {
                project.vm_path("vm", "fake.log").exists()
                    && project.vm_file("vm", "fake.log").contains("system_powerdown")
            });
            clock.set(days);
            // After this event for all clients, `stop` presses again if there is time left.
            let mut other = UnixStream::connect(project.vm_path("vm", "qmp.socket")).unwrap();
            let commands = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"stop\"}\n";
            other.write_all(commands).unwrap();
            stop.join().unwrap()
        });
        stop.stderr(format!(
            "qqmgr: error: the guest did not power off within 2 s; QEMU (pid {}) still runs\n\
             qqmgr: hint: without `--no-kill` QEMU would be ended now\n",
            project.pid("vm")
        ))
        .code(4);
        took_its_time(duration);
        assert!(project.runs(project.pid("vm")));
    });
}

/// One QEMU has sockets and is silent, so `start` waits in the kernel. The other QEMU has none, so
/// `start` polls.
#[test]
fn start_waits_as_long_as_it_should_when_the_clock_jumps() {
    both_ways(|days| {
        thread::scope(|scope| {
            for scenario in ["silent-qmp", "no-qmp"] {
                scope.spawn(move || start_in_vain(scenario, days));
            }
        });
    });
}

fn start_in_vain(scenario: &str, days: u64) {
    let project = Project::new();
    project.fake_vm(scenario);
    let Some(clock) = Clock::new(&project, 2) else { return };
    let (start, duration) = thread::scope(|scope| {
        let start = scope.spawn(|| clock.qqmgr(&["start", "--timeout", "2", "vm"]));
        let begun = project.vm_path("vm", "fake.pid");
        wait_until("QEMU runs", A_WHILE, || begun.exists());
        clock.was_seen_by_start(2);
        clock.set(days);
        start.join().unwrap()
    });
    start
        .stderr(
            "qqmgr: error: QEMU was not ready within 2 s, and said nothing\n\
             qqmgr: hint: its log is `[ROOT]/.qqmgr/vm.vm/qemu.log`\n",
        )
        .code(4);
    took_its_time(duration);
}

#[test]
fn uptime_does_not_follow_a_clock_that_jumps() {
    let project = Project::new();
    project.fake_vm("normal");
    let Some(clock) = Clock::new(&project, 2) else { return };
    clock.qqmgr(&["start", "vm"]).0.stdout(format!("{STARTED}\n")).success();
    clock.was_seen_by_start(2);
    for days in [1, 3] {
        clock.set(days);
        let status = clock.qqmgr(&["status", "vm"]).0;
        status
            .stdout(
                "name:       vm\nstate:      running\npid:        [PID]\n\
                 uptime:     [SECONDS] s\n...\n",
            )
            .success();
    }
}
