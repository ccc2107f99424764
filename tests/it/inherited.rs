//! Descriptors that a script has open when it calls qqmgr: a pipe, the lock of flock(1). No process
//! that outlives the command keeps them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::harness::{Project, Run, free_port, has_tool, program, real_qemu, signal, wait_until};
use crate::real_qemu::NO_MACHINE;
use crate::surroundings::Sshd;
use std::time::Duration;

const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]\n";
const SOON: Duration = Duration::from_secs(20);
/// Opens the file `held` of the project as the descriptors that a script might use. First closes
/// all others, since whoever runs the tests may have left some open.
const HOLD: &str = "for fd in /proc/self/fd/*; do fd=${fd##*/}\n\
                    if [ $fd -gt 2 ]; then eval \"exec $fd>&-\"; fi; done\n\
                    exec 3>held 9>held 200>held\n";

/// A project with the VM `vm` on a real QEMU that has no machine.
fn project(more: &str) -> Option<Project> {
    let (qemu, project) = (real_qemu()?, Project::new());
    let qemu = program(qemu)?;
    has_tool("bash").then_some(())?;
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n[vm.vm]\ncmd = \"{NO_MACHINE} {more}\"\nssh.port = {}\n",
        qemu.display(),
        free_port()
    ));
    Some(project)
}

/// A script for bash, since dash opens no descriptor above 9.
fn bash<'p>(project: &'p Project, script: &str) -> Run<'p> {
    project.command("bash", &["-c", script]).env("QQMGR", env!("CARGO_BIN_EXE_qqmgr"))
}

/// The descriptors by which a process has a file of the project open.
fn holds(project: &Project, file: &str, pid: u32) -> Vec<u32> {
    let held = project.path(file);
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut found: Vec<u32> = files
        .filter(|file| fs::read_link(file.path()).is_ok_and(|path| path == held))
        .filter_map(|file| file.file_name().to_str()?.parse().ok())
        .collect();
    found.sort_unstable();
    found
}

/// The run itself ends when no process has its output open any more.
#[test]
fn qemu_keeps_none() {
    let Some(project) = project("") else { return };
    let pipe = "{ \"$QQMGR\" start vm 2>/dev/null; } 3>&1 9>&1 200>&1 | cat";
    bash(&project, pipe).run().stdout(STARTED).success();
    project
        .qqmgr(&["stop", "--force", "vm"])
        .run()
        .stdout("vm ended by SIGTERM in [SECONDS] s\n")
        .success();
    bash(&project, &format!("{HOLD} \"$QQMGR\" start vm 2>/dev/null"))
        .run()
        .stdout(STARTED)
        .success();
    let pid = project.pid("vm");
    assert_eq!(holds(&project, "held", pid), []);
    // The process is QEMU, and not a shell that waits for QEMU.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert!(name.starts_with("qemu"), "{name}");
    project
        .qqmgr(&["stop", "--force", "vm"])
        .run()
        .stdout("vm ended by SIGTERM in [SECONDS] s\n")
        .success();
    if has_tool("flock") {
        let locked = "flock lk \"$QQMGR\" start vm 2>/dev/null; flock -n lk echo free";
        bash(&project, locked).run().stdout(format!("{STARTED}free\n")).success();
    }
}

#[test]
fn those_that_the_vm_names_stay_open() {
    let words = "-add-fd fd=3,set=7 -chardev file,id=a,path=/dev/fd/200";
    let Some(project) = project(words) else { return };
    let start = format!("{HOLD} exec 9>other; \"$QQMGR\" start vm 2>/dev/null");
    bash(&project, &start).run().stdout(STARTED).success();
    let pid = project.pid("vm");
    // QEMU has others of its own that lead to the same file.
    let held = holds(&project, "held", pid);
    assert!(held.len() > 1 && held.contains(&200), "{held:?}");
    assert_eq!(holds(&project, "other", pid), []);
}

/// dash closes descriptors of one digit; bash or BusyBox's sh must be there for others.
#[test]
fn the_shell_that_can_close_them_is_found() {
    let Some(project) = project("") else { return };
    for shell in ["bash", "busybox"] {
        if !has_tool(shell) {
            continue;
        }
        let dir = project.path(shell);
        fs::create_dir(&dir).unwrap();
        symlink(program("dash").unwrap(), dir.join("sh")).unwrap();
        symlink(program(shell).unwrap(), dir.join(shell)).unwrap();
        let start = format!("{HOLD} PATH={} \"$QQMGR\" start vm 2>/dev/null", dir.display());
        bash(&project, &start).run().stdout(STARTED).success();
        assert_eq!(holds(&project, "held", project.pid("vm")), [], "{shell}");
        let _ = project.qqmgr(&["stop", "--force", "vm"]).run();
    }
    // With only dash, descriptors of one digit are closed.
    let dir = project.path("dash");
    fs::create_dir(&dir).unwrap();
    symlink(program("dash").unwrap(), dir.join("sh")).unwrap();
    let start = format!("{HOLD} PATH={} \"$QQMGR\" start vm", dir.display());
    let warned = "qqmgr: warning: descriptor 200 was inherited and stays open in the program, \
                  since no `bash` or `busybox` is here to close it: `200>&-` after this command \
                  does\n";
    bash(&project, &start).run().stdout(STARTED).stderr(warned).success();
    assert_eq!(holds(&project, "held", project.pid("vm")), [200]);
}

/// The only `sh` in `PATH` would report that it was run.
#[test]
fn without_any_no_shell_is_run() {
    let Some(project) = project("") else { return };
    project.write("bin/sh", "#!/bin/sh\n: >called\nexec /bin/sh \"$@\"\n");
    fs::set_permissions(project.path("bin/sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let start = |held: &str| {
        let bin = project.path("bin");
        let start = format!("{HOLD} {held} PATH={} \"$QQMGR\" start vm 2>/dev/null", bin.display());
        bash(&project, &start).run().stdout(STARTED).success();
        let _ = project.qqmgr(&["stop", "--force", "vm"]).run();
        project.path("called").exists()
    };
    assert!(!start("exec 3>&- 9>&- 200>&-;"));
    assert!(start("exec 9>&- 200>&-;"));
}

/// A killed `run` leaves its guard until the VM has ended, and every ssh leaves the master of a
/// shared connection.
#[test]
fn guard_and_ssh_master_keep_none() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    let root = project.path("").display().to_string();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[ssh]\nHostName = \"localhost\"\n\
         IdentityFile = \"{root}/user_key\"\nIdentitiesOnly = true\n\
         UserKnownHostsFile = \"/dev/null\"\nStrictHostKeyChecking = false\n\
         [vm.vm]\ncmd = \"{NO_MACHINE}\"\nssh.port = {}\n",
        sshd.port
    ));
    let run = format!("{HOLD} exec \"$QQMGR\" run --fresh vm -- 'echo on; sleep 600'");
    let run = bash(&project, &run).start();
    run.says("on\n");
    let guards: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("--at-eof") && line.contains(&root)
        })
        .collect();
    assert!(!guards.is_empty());
    let held: Vec<u32> = guards.iter().flat_map(|pid| holds(&project, "held", *pid)).collect();
    assert_eq!(held, []);
    assert_eq!(holds(&project, "held", run.pid), [3, 9, 200]);
    signal(run.pid, "KILL");
    crate::run::nothing_is_left(&project);

    bash(&project, &format!("{HOLD} \"$QQMGR\" start vm 2>/dev/null"))
        .run()
        .stdout(STARTED)
        .success();
    let ssh = format!("{HOLD} \"$QQMGR\" ssh vm true");
    bash(&project, &ssh).stdout_to(std::process::Stdio::null()).run().success();
    let master = project.qqmgr(&["ssh", "vm", "-O", "check"]).run();
    let digits = |c: &char| c.is_ascii_digit();
    let pid: String = master.stderr.chars().skip_while(|c| !digits(c)).take_while(digits).collect();
    assert_eq!(holds(&project, "held", pid.parse().unwrap()), [], "{}", master.stderr);
    wait_until("the VM has stopped", SOON, || {
        project.qqmgr(&["stop", "--force", "vm"]).run().status == Some(0)
    });
}
