//! QEMU 4.2, the oldest that will do, played by the fake one: what came later is looked up in what
//! it says, and done without. That its newer features are used where they are there is shown by the
//! tests on a real QEMU, which may be any: whichever is first in `PATH`.

use crate::harness::Project;

#[test]
fn a_life_on_qemu_4_2() {
    let project = Project::new();
    project.fake_vm("qemu-4.2");
    let qqmgr = |arguments: &[&str]| project.qqmgr(arguments).run();
    qqmgr(&["start", "vm"]).stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
    let version = qqmgr(&["qmp", "vm", "query-version"]);
    let version = version.stdout.split_whitespace().collect::<String>();
    assert_eq!(version, r#"{"qemu":{"micro":1,"minor":2,"major":4},"package":""}"#);
    qqmgr(&["pause", "vm"]).stdout("vm is paused\n").success();
    qqmgr(&["resume", "vm"]).stdout("vm is running\n").success();

    // It has no PNG, and its PPM is converted.
    qqmgr(&["screenshot", "vm", "screen.png"]).stdout("[..]screen.png[..]\n").success();
    assert!(std::fs::read(project.path("screen.png")).unwrap().starts_with(b"\x89PNG"));

    let waiting = project.qqmgr(&["wait", "vm", "--for", "stopped"]).start();
    qqmgr(&["stop", "vm"]).stdout("vm powered off in [SECONDS] s\n").success();
    waiting.end().stdout("vm is stopped: the guest powered off\n").success();
}
