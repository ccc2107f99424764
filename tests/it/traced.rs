//! Compares the program with the model of its life cycle: random commands work on one VM at the
//! same time, and some of them and of the QEMUs are killed. The steps that each command prints
//! under `-v` must be a path of the model.
//!
//! `QQMGR_FAULTS=N` makes the tests N times as long.

use crate::faults::factor;
use crate::harness::{poll, signal, wait_until};
use crate::model::{Kind, assert_path};
use crate::run::{fake, nothing_is_left};
use std::fs;
use std::thread;
use std::time::Duration;

const COMMANDS: &[(Kind, &str)] = &[
    (Kind::Start, "start vm"),
    (Kind::Run, "run vm -- true"),
    (Kind::Stop, "stop vm"),
    (Kind::Run, "run vm -- true"),
    (Kind::Guard, "stop --unused --at-eof vm"),
    (Kind::Restart, "restart vm"),
    (Kind::StopForce, "stop --force vm"),
];
const WORKERS: usize = 4;
const ROUNDS: usize = 14;
/// A command that is to be killed after some lines is killed after this at the latest.
const KILL_WITHIN: Duration = Duration::from_millis(400);

const A_WHILE: Duration = Duration::from_secs(20);
/// A helper. A third of these helpers end within a second.
const HELPER: &str = "[vm.vm.helpers]\nh = \"sh -c 'exec sleep $(($$ % 3 * 500)).$(($$ % 7))'\"\n";

#[test]
fn every_trace_is_a_path_of_the_model() {
    hammer(false);
}

#[test]
fn every_trace_of_a_vm_with_a_helper_is_a_path_of_the_model() {
    hammer(true);
}

fn hammer(helped: bool) {
    let Some((project, _sshd)) = fake("exits-slowly,ms=20") else { return };
    project.qqmgr(&["run", "vm", "--", "true"]).run().success();
    if helped {
        project.config(&(fs::read_to_string(project.path("qqmgr.toml")).unwrap() + HELPER));
    }
    let rounds = ROUNDS * factor() as usize;
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let project = &project;
            scope.spawn(move || {
                for round in 0..rounds {
                    // Every pair of commands runs at the same time at some point.
                    let (kind, words) = COMMANDS[(worker * 3 + round) % COMMANDS.len()];
                    let arguments: Vec<&str> = "-v".split(' ').chain(words.split(' ')).collect();
                    let command = project.group(&arguments).start();
                    let is_killed = round % 3 == worker % 3;
                    if is_killed {
                        let lines = (round * 5 + worker) % 12;
                        poll(KILL_WITHIN, || command.said().lines().count() >= lines);
                        signal(command.pid, "KILL");
                        // A QEMU that dies leaves its helper, which the next command ends.
                        let text = fs::read_to_string(project.vm_path("vm", "pid"));
                        let qemu = text.ok().and_then(|text| text.trim().parse().ok());
                        if let Some(pid) = qemu.filter(|pid| project.runs(*pid)) {
                            signal(pid, "KILL");
                        }
                    }
                    let ended = command.end();
                    assert_path(kind, helped, &ended.stderr, is_killed);
                }
            });
        }
    });
    // The last command ends a VM that was started to stay.
    let stop = project.qqmgr(&["stop", "vm", "--force"]).run();
    assert_eq!(stop.status, Some(0), "{}", stop.stderr);
    nothing_is_left(&project);
    wait_until("no helper is left", A_WHILE, || project.processes().is_empty());
}
