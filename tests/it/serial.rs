//! The serial output of a real QEMU over several boots.

use crate::harness::Project;
use crate::real_qemu::{self, BUTTON, NO_MACHINE, OFF, SAYS_READY, WAITS};
use std::fs;

fn qqmgr(project: &Project, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = project.qqmgr(&words).run();
    assert_eq!(output.status, Some(0), "{line}: {}", output.stderr);
}

/// The output of a command that succeeds.
#[track_caller]
fn says(project: &Project, line: &str, expected: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    project.qqmgr(&words).run().stdout(expected).success();
}

/// A real QEMU opens the file at its own time, and also writes the last output itself.
#[test]
fn boots_of_a_real_qemu() {
    // The guest writes its last output when the power button is pressed.
    let guest = [BUTTON, SAYS_READY, WAITS, SAYS_READY, OFF];
    let Some((project, _)) = real_qemu::guest(&guest, "") else { return };
    let followed = project.qqmgr(&["serial", "vm", "-f"]).start();
    followed.says("!");
    qqmgr(&project, "powerdown vm");
    followed.end().stdout("!!").success();
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    // A port that is taken is found after the serial line was opened.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let forward = format!("cmd = \"-nic user,hostfwd=tcp:127.0.0.1:{port}-:22 ");
    project.config(&config.replace("cmd = \"", &forward));
    assert_eq!(project.qqmgr(&["start", "vm"]).run().status, Some(1));
    says(&project, "serial vm", "!!");
    project.config(&config.replace(real_qemu::PC, NO_MACHINE));
    qqmgr(&project, "start vm");
    says(&project, "serial vm", "");
    says(&project, "serial vm --boot -1", "!!");
    // That boot has no output.
    qqmgr(&project, "restart vm --force");
    says(&project, "serial vm --boot -1", "!!");
    assert!(!project.vm_path("vm", "serial.2").exists());
    says(&project, "log vm", "");
}
