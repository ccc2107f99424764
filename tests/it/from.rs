//! `--from TAG`: the content of disks is never lost, whatever is killed, except the writes of
//! killed jobs.

use std::time::{Duration, Instant};

use crate::faults::factor;
use crate::harness::{Project, has_tool, real_qemu, signal};
use crate::run::nothing_is_left;

/// A job that does nothing, until it is killed.
const JOB: &[&str] = &["run", "vm", "--from", "booted"];
const DISCARDING: &[&str] = &["run", "vm", "--from", "booted", "--discard"];

/// Ends the command at this point; `whole` also ends its guard and its QEMU.
fn kill_at(project: &Project, command: &[&str], delay: Duration, whole: bool) {
    let (command, begin) = (project.group(command).start(), Instant::now());
    while begin.elapsed() < delay {
        std::hint::spin_loop();
    }
    signal(command.pid, "KILL");
    if whole {
        project.processes().into_iter().for_each(|pid| signal(pid, "KILL"));
    }
    let _ = command.end();
    nothing_is_left(project);
    // A process that was killed is seen until all of its threads have ended.
    let _ = project.qqmgr(&["wait", "vm", "--for", "stopped", "--timeout", "20"]).run();
}

/// Three commands are killed at each point, at 35 points under `scripts/test`.
#[test]
fn killed_at_any_point_no_disk_is_lost() {
    if real_qemu().is_none() || !has_tool("qemu-img") {
        return;
    }
    let project = Project::new();
    project.config(
        "[vm.vm]\nssh.port = \"none\"\n\
         cmd = \"-nodefaults -machine pc -m 32 -display none -drive file=a.qcow2,if=virtio\"\n",
    );
    let commands = |lines: &str| {
        let lines = lines.replace("qqmgr", "\"$QQMGR\" >out 2>notes");
        project.sh(&lines).run().success();
    };
    let holds = |byte| {
        let read = format!("qemu-io -c 'read -P {byte} 0 4k' a.qcow2 | head -n 1");
        project.sh(&read).run().stdout("read 4096/4096 bytes at offset 0\n").success();
    };
    commands("qemu-img create -q -f qcow2 a.qcow2 4M && qqmgr start vm");
    commands("qqmgr snapshot save vm booted && qqmgr stop --force vm");
    commands("qqmgr snapshot load vm booted");
    let from = "qqmgr start vm --from booted --no-set-clock && qqmgr stop --force vm";
    let begin = Instant::now();
    commands(from);
    let (whole, points) = (begin.elapsed(), 7 * factor());
    for point in 0..points {
        let (delay, byte) = (whole * point / points, point % 255 + 1);
        commands("qqmgr snapshot load vm booted");
        // Writes of a killed job do not count.
        kill_at(&project, JOB, delay, point % 3 == 2);
        commands(from);
        // All other writes count.
        commands(&format!("qemu-io -c 'write -P {byte} 0 4k' a.qcow2 >out"));
        kill_at(&project, JOB, delay, point % 3 == 1);
        holds(byte);
        let refused = project.qqmgr(JOB).run();
        refused.stderr("qqmgr: error: `--from` would lose [..] `a.qcow2` [..]\n...\n").code(255);
        holds(byte);
        kill_at(&project, DISCARDING, delay, point % 3 == 0);
    }
}
