//! A command waits for another one on the same VM, and says so. The other command is the
//! test itself, which has the VM's lock.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::time::Duration;

use crate::harness::{Project, wait_until};

const SOON: Duration = Duration::from_secs(20);
const FORCED: &str = "vm ended by SIGTERM in [SECONDS] s\n";

/// The lock of a VM that runs.
fn locked(project: &Project) -> File {
    project.fake_vm("normal");
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    let file = OpenOptions::new().write(true).open(project.vm_path("vm", "lock")).unwrap();
    file.lock().unwrap();
    file
}

fn is_of(mut lock: &File, holder: &str) {
    lock.set_len(0).and_then(|()| lock.rewind()).unwrap();
    lock.write_all(holder.as_bytes()).unwrap();
}

/// A holder that finishes soon is not reported. A busy machine may need a second try.
#[test]
fn a_short_wait_is_not_reported() {
    let is_quiet = || {
        let project = Project::new();
        let lock = locked(&project);
        let waits = project.qqmgr(&["stop", "--force", "vm"]).start();
        let files = format!("/proc/{}/fd", waits.pid);
        let path = project.vm_path("vm", "lock");
        wait_until("it waits for the lock", SOON, || {
            let mut files = fs::read_dir(&files).into_iter().flatten().flatten();
            files.any(|file| fs::read_link(file.path()).is_ok_and(|to| to == path))
        });
        drop(lock);
        let ended = waits.end();
        assert_eq!(ended.status, Some(0));
        ended.stderr.is_empty()
    };
    assert!((0..10).any(|_| is_quiet()));
}

/// `--force` ends QEMU under a command that keeps the lock for too long, but not under commands
/// that take turns.
#[test]
fn force_waits_for_who_takes_turns() {
    let project = Project::new();
    let lock = locked(&project);
    let pid = project.pid("vm");
    is_of(&lock, "`start` (pid 1)\n");
    let stop = project.qqmgr(&["-v", "stop", "--force", "vm"]).start();
    stop.says("qqmgr: waiting for `start` (pid 1) of VM `vm` to finish\n");
    is_of(&lock, "`stop` (pid 2)\n");
    let second = "qqmgr: waiting for `stop` (pid 2) of VM `vm` to finish\n";
    stop.says(second);
    // This command keeps the lock.
    wait_until("QEMU is ended", SOON, || !project.runs(pid));
    drop(lock);
    let stop = stop.end();
    let killed = format!("qqmgr: kill -TERM {pid}\n");
    let [second, killed] = [second, &killed].map(|line| stop.stderr.find(line));
    assert!(second.is_some() && second < killed, "{}", stop.stderr);
    let expected = stop.stderr.clone();
    stop.stdout(FORCED).stderr(expected).success();
}
