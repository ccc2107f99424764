//! `monitor` on a terminal. The rest is in `tests/cases/monitor.txt`.

use crate::harness::has_tool;
use crate::qmp::start;
use crate::real_qemu::{NO_MACHINE, project};

/// On a terminal there is a prompt; Ctrl-D and the end of the VM leave it.
#[test]
fn a_prompt_for_people() {
    let Some(project) = project(NO_MACHINE) else { return };
    start(&project);
    if !has_tool("script") {
        return;
    }
    std::process::Command::new("mkfifo")
        .args([project.path("typed"), project.path("again")])
        .status()
        .expect("there is a mkfifo");
    // `script` gives what it reads to its terminal, whose line discipline makes an end of file of
    // Ctrl-D.
    let typed = |fifo: &str| {
        project.sh(&format!("exec 3<>{fifo}; script -qec '\"$QQMGR\" monitor vm' /dev/null <&3"))
    };
    let run = typed("typed").start();
    run.says("(qemu) ");
    project.write("typed", "info status\n");
    run.says("VM status: running\r\n(qemu) ");
    project.write("typed", "\u{4}");
    let left = run.end();
    assert_eq!((left.status, left.stderr.as_str()), (Some(0), ""), "{}", left.stdout);

    let run = typed("again").start();
    run.says("(qemu) ");
    assert_eq!(project.qqmgr(&["stop", "vm", "--force"]).run().status, Some(0));
    run.says("The VM has ended.\r\n");
    assert_eq!(run.end().status, Some(0));
}
