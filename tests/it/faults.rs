//! Faults from outside: races, crashes in the middle, terminals that close, full disks, other
//! users. Each test drives the real binary; most of them a real QEMU.
//!
//! `QQMGR_FAULTS=N` makes the tests with random input N times as long.

use crate::harness::{
    Project, fake_qemu, free_port, has_tool, is_root, left_out, real_qemu, wait_until,
    with_default_signals,
};
use crate::model::{Kind, assert_path};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const QQMGR: &str = env!("CARGO_BIN_EXE_qqmgr");
/// The time that a loaded machine may add.
const A_MOMENT: Duration = Duration::from_millis(500);
const A_WHILE: Duration = Duration::from_secs(20);

pub(crate) fn factor() -> u32 {
    std::env::var("QQMGR_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A project with the VM `vm` on a real QEMU without a machine, which is up in milliseconds.
pub(crate) fn real() -> Option<Project> {
    let qemu = real_qemu()?;
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[vm.vm]\n\
         cmd = \"-nodefaults -machine none -display none\"\nssh.port = {}\n",
        free_port()
    ));
    Some(project)
}

/// The live processes whose command line names the VM's pid file.
fn qemus(project: &Project) -> BTreeSet<u32> {
    let mut wanted = b"\0-pidfile\0".to_vec();
    wanted.extend_from_slice(project.vm_path("vm", "pid").as_os_str().as_bytes());
    wanted.push(0);
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(wanted.len()).any(|part| part == wanted)
    })
    .collect()
}

fn is_gone(project: &Project) {
    wait_until("no QEMU is left", A_WHILE, || qemus(project).is_empty());
    assert_eq!(project.vm_files("vm"), "events.out lock qemu.log serial");
}

#[test]
fn twenty_starts_at_once_start_one_qemu() {
    let Some(project) = real() else { return };
    let pids: BTreeSet<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let run = project.qqmgr(&["start", "vm"]).run();
                    assert_eq!(run.status, Some(0), "{}{}", run.stdout, run.stderr);
                    run.stdout.split("pid ").nth(1).unwrap().split(',').next().unwrap().to_string()
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(pids.len(), 1, "{pids:?}");
    assert_eq!(qemus(&project).len(), 1);
    project
        .qqmgr(&["stop", "vm", "--force"])
        .run()
        .stdout("vm ended by SIGTERM in [..]\n")
        .success();
    is_gone(&project);
}

/// Eight processes start and stop one VM as fast as they can, while a ninth counts QEMUs.
#[test]
fn starts_and_stops_exclude_each_other() {
    let Some(project) = real() else { return };
    let (done, starts, stops) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let deadline = Instant::now() + Duration::from_secs(4) * factor();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let (project, starts, stops) = (&project, &starts, &stops);
                scope.spawn(move || {
                    for round in 0.. {
                        if Instant::now() >= deadline {
                            break;
                        }
                        let answers = if round / 4 % 2 == 0 { answers } else { answers_by_steps };
                        match (worker + round) % 4 {
                            0 | 1 => {
                                answers(
                                    project,
                                    &["start", "vm"],
                                    &["vm started: running, pid ", "vm is already running: "],
                                );
                                starts.fetch_add(1, Ordering::Relaxed);
                            }
                            2 => {
                                answers(
                                    project,
                                    &["stop", "vm", "--force"],
                                    &["vm was not running", "vm ended by SIGTERM in "],
                                );
                                stops.fetch_add(1, Ordering::Relaxed);
                            }
                            _ => answers(project, &["status", "vm"], &["name:       vm\n"]),
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let alive = qemus(&project);
                assert!(alive.len() <= 1, "{alive:?}");
            }
        });
        let ends: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok));
    });
    println!("hammer: {} starts, {} stops", starts.into_inner(), stops.into_inner());
    project.qqmgr(&["start", "vm"]).run().stdout("vm [..]: running, pid [PID], [..]\n").success();
    let pid = project.pid("vm");
    assert_eq!(qemus(&project), BTreeSet::from([pid]));
    for socket in ["qmp.socket", "monitor.socket", "ctl.socket"] {
        assert!(UnixStream::connect(project.vm_path("vm", socket)).is_ok(), "{socket}");
    }
    answers(&project, &["stop", "vm", "--force"], &["vm ended by SIGTERM in "]);
    is_gone(&project);
}

/// A command that succeeds, and prints one of these; it may say on stderr that it waits.
#[track_caller]
fn answers(project: &Project, arguments: &[&str], expected: &[&str]) {
    let run = project.qqmgr(arguments).run();
    let is_expected = expected.iter().any(|expected| run.stdout.starts_with(expected));
    let quiet = run.stderr.lines().all(|line| line.starts_with("qqmgr: waiting for "));
    assert!(
        is_expected && quiet && run.status == Some(0),
        "{arguments:?}: {}{}",
        run.stdout,
        run.stderr
    );
}

/// A command under `-v` that succeeds, prints one of these, and takes only steps of the model.
#[track_caller]
fn answers_by_steps(project: &Project, arguments: &[&str], expected: &[&str]) {
    let run = project.qqmgr(&[arguments, &["-v"]].concat()).run();
    let is_expected = expected.iter().any(|expected| run.stdout.starts_with(expected));
    assert!(is_expected && run.status == Some(0), "{arguments:?}: {}{}", run.stdout, run.stderr);
    match arguments {
        ["start", ..] => assert_path(Kind::Start, false, &run.stderr, false),
        ["stop", "vm", "--force"] => assert_path(Kind::StopForce, false, &run.stderr, false),
        _ => {}
    }
}

/// Starts `qqmgr`, and kills it after this delay. Its steps until then are a path of the model.
#[track_caller]
fn killed_after(project: &Project, kind: Kind, arguments: &[&str], delay: Duration) {
    let mut command = Command::new(QQMGR);
    command.args(arguments).arg("-v").current_dir(project.path(""));
    command.env("HOME", project.path("home"));
    let trace = fs::File::create(project.path("trace")).unwrap();
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(trace);
    let (mut child, begin) = (quiet.spawn().unwrap(), Instant::now());
    while begin.elapsed() < delay {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_path(kind, false, &fs::read_to_string(project.path("trace")).unwrap(), true);
}

/// After a `start` that is killed at any point, the VM can still be managed.
#[test]
fn start_killed_at_any_point() {
    let Some(project) = real() else { return };
    let points = 40 * factor();
    for point in 0..points {
        let delay = Duration::from_millis(40) * point / points;
        killed_after(&project, Kind::Start, &["start", "vm"], delay);
        let status = project.qqmgr(&["status", "vm"]).run();
        assert_eq!(status.status, Some(0), "{delay:?}: {}", status.stderr);
        if point % 2 == 0 {
            let start = project.qqmgr(&["start", "vm"]).run();
            assert_eq!(start.status, Some(0), "{delay:?}: {}", start.stderr);
            assert_eq!(qemus(&project), BTreeSet::from([project.pid("vm")]), "{delay:?}");
        }
        let stop = project.qqmgr(&["stop", "vm", "--force"]).run();
        assert_eq!(stop.status, Some(0), "{delay:?}: {}", stop.stderr);
        assert_eq!(qemus(&project), BTreeSet::new(), "{delay:?}: {}", stop.stdout);
    }
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    answers(&project, &["stop", "vm", "--force"], &["vm ended by SIGTERM in "]);
    is_gone(&project);
}

/// Whether any process but QEMU works in the project's directory.
fn has_others(project: &Project) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let mut here = processes.filter(|process| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == project.path(""))
    });
    here.any(|process| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| !name.starts_with("qemu-"))
    })
}

#[test]
fn stop_killed_at_any_point() {
    let Some(project) = real() else { return };
    let points = 30 * factor();
    for point in 0..points {
        let delay = Duration::from_millis(20) * point / points;
        answers(&project, &["start", "vm"], &["vm started: running, pid "]);
        let stop = ["stop", "vm", "--timeout", "0.005"];
        killed_after(&project, Kind::Stop, &stop, delay);
        // The signal that `stop` was about to send may yet arrive, and then the VM starts again.
        wait_until("the signal has been sent", A_WHILE, || !has_others(&project));
        wait_until("the VM runs again", A_WHILE, || {
            let start = project.qqmgr(&["start", "vm"]).run();
            let settled = qemus(&project).len() == 1 && project.vm_path("vm", "pid").exists();
            start.status == Some(0) && settled
        });
        assert_eq!(qemus(&project), BTreeSet::from([project.pid("vm")]), "{delay:?}");
        // QEMU may take a moment to heed that too.
        let ended = ["vm ended by SIGTERM in ", "vm was not running\n"];
        answers(&project, &["stop", "vm", "--force"], &ended);
        is_gone(&project);
    }
}

/// QEMU serves the first client; the second waits in the queue of one; the rest cannot connect.
#[test]
fn every_socket_is_held_by_others() {
    let Some(project) = real() else { return };
    answers(&project, &["start", "vm"], &["vm started: running, pid "]);
    let connect = |socket| {
        let path = project.vm_path("vm", socket);
        std::thread::spawn(move || UnixStream::connect(path))
    };
    let users = connect("qmp.socket").join().unwrap().unwrap();
    let holders: Vec<_> = (0..2).map(|_| connect("ctl.socket").join().unwrap().unwrap()).collect();
    let queued: Vec<_> = (0..2).map(|_| connect("ctl.socket")).collect();
    let begin = Instant::now();
    let status = project.qqmgr(&["status", "vm", "--json"]).run();
    assert!(status.stdout.contains("\"state\": \"unresponsive\""), "{}", status.stdout);
    assert!(begin.elapsed() < Duration::from_secs(2));
    let begin = Instant::now();
    answers(&project, &["start", "vm"], &["vm is already running: unresponsive, pid "]);
    assert!(begin.elapsed() < Duration::from_secs(2) + A_MOMENT);
    answers(&project, &["stop", "vm", "--timeout", "0.3"], &["vm ended by SIGTERM in "]);
    drop((users, holders));
    for connection in queued {
        let _ = connection.join().unwrap();
    }
    is_gone(&project);
}

/// The guest has powered off, and its QEMU takes its time to end.
#[test]
fn start_waits_for_the_last_qemu_to_end() {
    let project = Project::new();
    project.fake_vm("exits-slowly,ms=700");
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    let old = project.pid("vm");
    // As when the guest powers off by itself: QEMU closes its sockets and removes its pid file
    // among the last things that it does.
    let mut monitor = UnixStream::connect(project.vm_path("vm", "qmp.socket")).unwrap();
    monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n").unwrap();
    wait_until("QEMU closes its sockets", A_WHILE, || {
        !project.vm_path("vm", "ctl.socket").exists()
    });
    fs::remove_file(project.vm_path("vm", "pid")).unwrap();
    let start = project.qqmgr(&["start", "vm"]).run();
    start
        .stdout("vm started: running, pid [PID], ssh port [PORT]\n")
        .stderr("qqmgr: waiting for the VM's last QEMU (pid [PID]) to end\n")
        .success();
    assert_ne!(project.pid("vm"), old);
    assert!(!project.runs(old));
}

/// Runs a command line in a terminal of its own, types into it, and closes it.
fn in_a_terminal(project: &Project, line: &str, typed: &[u8], until: impl Fn() -> bool) {
    let mut script = with_default_signals("script");
    script.args(["-q", "-c", line, "/dev/null"]).env("QQMGR", QQMGR);
    script.current_dir(project.path("")).env("HOME", project.path("home"));
    let quiet = script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut terminal = quiet.spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    wait_until("the moment to type has come", A_WHILE, until);
    keyboard.write_all(typed).unwrap();
    wait_until("the terminal is closed", A_WHILE, || {
        if typed.is_empty() {
            terminal.kill().unwrap();
        }
        terminal.try_wait().unwrap().is_some()
    });
}

#[test]
fn a_vm_outlives_its_terminal() {
    let Some(project) = real() else { return };
    if !has_tool("script") {
        return;
    }
    let up = || project.vm_path("vm", "instance.json").exists() && !qemus(&project).is_empty();
    // The shell goes on after `start`, so that the terminal closes under it.
    in_a_terminal(&project, "\"$QQMGR\" start vm; cat", b"", || {
        up() && project.vm_file("vm", "instance.json").contains("\"ready\": true")
    });
    answers(&project, &["status", "vm"], &["name:       vm\nstate:      running\n"]);
    assert_eq!(qemus(&project).len(), 1);
}

#[test]
fn control_c_ends_start_and_not_the_vm() {
    let project = Project::new();
    project.fake_vm("late-greeting,ms=1000");
    if !has_tool("script") {
        return;
    }
    in_a_terminal(&project, "exec \"$QQMGR\" start vm", b"\x03", || {
        project.vm_path("vm", "ctl.socket").exists()
    });
    answers(&project, &["list"], &["NAME  STATE"]);
    answers(&project, &["start", "vm"], &["vm is already running: running, pid "]);
    assert_eq!(qemus(&project).len(), 1);
}

/// `qqmgr` as another user than root, who may only read the project.
fn as_nobody(project: &Project, script: &str) -> Option<std::process::Output> {
    if !has_tool("setpriv") || !is_root() {
        return None;
    }
    let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(project.path(""), open).unwrap();
    // The directory of the build may be closed to other users.
    let program = project.path("qqmgr-of-nobody");
    // Another process writes it: a fork of this one could hold it open for writing.
    let copied = Command::new("cp").arg(QQMGR).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", script]);
    command.current_dir(project.path("")).env("QQMGR", program).env("HOME", "/nonexistent");
    command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_CONFIG_HOME");
    Some(command.stdin(Stdio::null()).output().unwrap())
}

fn status_and_stderr(output: &std::process::Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{:?} {stderr}", output.status.code())
}

#[test]
fn another_user_reaches_nothing() {
    let Some(project) = real() else { return };
    answers(&project, &["start", "vm"], &["vm started: running, pid "]);
    let pid = project.pid("vm");
    let Some(listing) = as_nobody(&project, "ls .qqmgr") else { return };
    assert_ne!(listing.status.code(), Some(0));
    for command in ["stop vm --force", "start vm", "ssh vm true"] {
        let run = as_nobody(&project, &format!("\"$QQMGR\" {command}")).unwrap();
        assert_ne!(run.status.code(), Some(0), "{command}: {}", status_and_stderr(&run));
    }
    assert!(project.runs(pid));
    answers(&project, &["stop", "vm", "--force"], &["vm ended by SIGTERM in "]);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_before_anything_is_started() {
    let project = Project::new();
    project.fake_vm("normal");
    let Some(run) = as_nobody(&project, "\"$QQMGR\" start vm") else { return };
    let dir = project.vm_path("vm", "");
    let dir = dir.display().to_string();
    let dir = dir.trim_end_matches('/');
    assert_eq!(
        status_and_stderr(&run),
        format!(
            "Some(1) qqmgr: error: cannot create `{dir}`: permission denied\n\
             qqmgr: hint: QQMGR_RUNTIME_DIR names another directory for the files of all VMs\n"
        )
    );
    assert!(!project.path(".qqmgr").exists());
}

/// The user is all that is known of another user's process.
#[test]
fn the_error_names_the_user_who_has_the_port() {
    let project = Project::new();
    let port = project.fake_vm("normal");
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let own = fs::create_dir(project.path("own"));
    own.and_then(|()| fs::copy(project.path("qqmgr.toml"), project.path("own/qqmgr.toml")))
        .unwrap();
    std::os::unix::fs::chown(project.path("own"), Some(65534), Some(65534)).unwrap_or_default();
    let Some(run) = as_nobody(&project, "cd own && \"$QQMGR\" start vm") else { return };
    assert_eq!(
        status_and_stderr(&run),
        format!(
            "Some(1) qqmgr: error: ssh port {port} is taken by a program of user 0\n\
             qqmgr: hint: give the VM another `port`, and its `hostfwd` too\n"
        )
    );
    assert!(project.files("own").iter().all(|name| name == "qqmgr.toml"));
}

/// Another user has prepared the directory of short links.
#[test]
fn a_planted_short_directory_is_refused() {
    if !is_root() {
        return;
    }
    let project = Project::new();
    let deep = project.path("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let config = format!(
        "[qemu]\nbin = {:?}\n[vm.vm]\ncmd = \"\"\nssh.port = {}\n",
        fake_qemu(),
        free_port()
    );
    fs::write(deep.join("qqmgr.toml"), config).unwrap();
    let runtime = project.path("run");
    fs::create_dir_all(runtime.join("qqmgr")).unwrap();
    std::os::unix::fs::chown(runtime.join("qqmgr"), Some(65534), Some(65534)).unwrap();
    let run = project.qqmgr(&["start", "vm"]).cwd(&deep).env("XDG_RUNTIME_DIR", &runtime).run();
    run.stderr(
        "qqmgr: error: `[ROOT]/run/qqmgr` belongs to user 65534, not to 0\n\
         qqmgr: hint: who owns the directory controls the VM; use a directory of your own\n",
    )
    .code(1);
    assert!(!deep.join(".qqmgr").exists());
}

/// A tmpfs in a mount namespace of its own, full but for the configuration.
#[test]
fn a_full_disk_is_an_error_that_leaves_no_process() {
    if !has_tool("unshare") || !is_root() {
        return;
    }
    let project = Project::new();
    project.fake_vm("normal");
    fs::create_dir(project.path("full")).unwrap();
    let script = "mount -t tmpfs -o size=32k tmpfs full || { echo skipped: no mount; exit 0; }\n\
                  cp qqmgr.toml full && cd full || exit\n\
                  dd if=/dev/zero of=fill bs=1k 2>/dev/null\n\
                  \"$QQMGR\" start vm; echo \"exit $?\"; ls -A .qqmgr 2>/dev/null; pgrep -f \"$PWD/.qqmgr\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(project.path("")).env("QQMGR", QQMGR);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if stdout.starts_with("skipped") || stderr.contains("unshare failed") {
        left_out("no mount namespace");
        return;
    }
    assert!(stderr.contains("no space left on device"), "{stdout}{stderr}");
    assert!(stderr.starts_with("qqmgr: error: cannot "), "{stderr}");
    assert_eq!(stdout, "exit 1\n");
    assert!(qemus(&project).is_empty());
}
