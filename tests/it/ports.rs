//! `port = "auto"`: which port a VM gets, that no other VM gets it, and which commands use it.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::thread;

use crate::harness::{Project, fake_qemu};

/// The argument of QEMU that takes the port.
const FORWARDS: &str = "hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:{{.vm.ssh.vm_port}}";

/// A VM's table with a port to be chosen, on the fake QEMU.
fn auto(name: &str, scenario: &str) -> String {
    format!(
        "[vm.{name}]\ncmd = \"-name fake={scenario} -nic user,{FORWARDS}\"\nssh.port = \"auto\"\n"
    )
}

/// A project with these tables of VMs on the fake QEMU.
#[track_caller]
fn project(vms: &[String]) -> Project {
    let project = Project::new();
    project.config(&format!("[qemu]\nbin = \"{}\"\n{}", fake_qemu().display(), vms.concat()));
    project
}

/// Starts the VM; the port that `start` names, which is where QEMU forwards it.
#[track_caller]
fn start(project: &Project, vm: &str) -> u16 {
    let output = project.qqmgr(&["start", vm]).run();
    let port = number_after("ssh port ", &output.stdout);
    output.stdout(format!("{vm} started: running, pid [PID], ssh port {port}\n")).success();
    assert_eq!(number_after("hostfwd=tcp:127.0.0.1:", &command_line(project, vm)), port);
    port
}

fn command_line(project: &Project, vm: &str) -> String {
    fs::read_to_string(format!("/proc/{}/cmdline", project.pid(vm))).unwrap()
}

#[track_caller]
fn number_after(text: &str, whole: &str) -> u16 {
    let rest = whole.split(text).nth(1).unwrap_or_else(|| panic!("no `{text}` in {whole}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[track_caller]
fn stop(project: &Project, vm: &str) {
    let stdout = format!("{vm} powered off in [SECONDS] s\n");
    project.qqmgr(&["stop", vm]).run().stdout(stdout).success();
}

/// The port that the VM would get, by `cmdline`.
#[track_caller]
fn likely(project: &Project, vm: &str) -> u16 {
    let output = project.qqmgr(&["cmdline", vm]).run();
    number_after("hostfwd=tcp:127.0.0.1:", &output.stdout)
}

/// As many names of VMs of this project that all want one port: the program takes the hash
/// (64-bit FNV-1a) of a VM's directory.
fn rivals(project: &Project, count: usize) -> Vec<String> {
    let wanted = |name: &String| {
        let dir = project.path(format!(".qqmgr/vm.{name}"));
        let bytes = dir.as_os_str().as_encoded_bytes();
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash % 10_000
    };
    let first = wanted(&"r0".to_owned());
    let names = (0..10_000_000).map(|number| format!("r{number}"));
    names.filter(|name| wanted(name) == first).take(count).collect()
}

#[test]
fn the_same_port_again_as_long_as_it_is_free() {
    let project = project(&[auto("vm", "normal"), auto("other", "normal")]);
    let port = likely(&project, "vm");
    assert_eq!(start(&project, "vm"), port);
    assert_eq!(likely(&project, "vm"), port);
    stop(&project, "vm");
    assert_eq!(start(&project, "vm"), port);
    let restarted =
        format!("vm powered off [..]\nvm started: running, pid [PID], ssh port {port}\n");
    project.qqmgr(&["restart", "vm"]).run().stdout(restarted).success();
    stop(&project, "vm");

    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let instead = start(&project, "vm");
    assert_ne!(instead, port);
    assert!((20_000..30_000).contains(&instead), "{instead}");
    drop(listener);
    // A running VM keeps its port.
    let stdout = format!("vm is already running: running, pid [PID], ssh port {instead}\n");
    project.qqmgr(&["start", "vm"]).run().stdout(stdout).success();
    stop(&project, "vm");
    assert_eq!(start(&project, "vm"), port);
}

#[test]
fn every_command_uses_the_port_of_a_running_vm() {
    let project = project(&[auto("vm", "normal")]);
    // The VM does not have its first choice.
    let _listener = TcpListener::bind(("127.0.0.1", likely(&project, "vm"))).unwrap();
    let port = start(&project, "vm");
    let listed = format!(
        "NAME  STATE              PID  SSH PORT\nvm    running       {:>8}  {port:>8}\n",
        project.pid("vm")
    );
    project.qqmgr(&["list"]).run().stdout(listed).success();
    let status = format!("...\nssh port:   {port}\n...\n");
    project.qqmgr(&["status", "vm"]).run().stdout(status.as_str()).success();
    let json = format!("{{\n...\n  \"ssh\": {{\n    \"port\": {port},\n...\n");
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(json).success();
    let conf = format!("...\nHost vm\n    Port {port}\n...\n");
    project.sh("cat .qqmgr/vm.vm/ssh.conf").run().stdout(conf.as_str()).success();
    project.qqmgr(&["ssh-config", "vm"]).run().stdout(conf).success();
    assert_eq!(likely(&project, "vm"), port);
    // A chosen port does not count as a change of the configuration.
    let run = project.qqmgr(&["status", "vm"]).run();
    assert!(!run.stdout.contains("note:"), "{}", run.stdout);
}

/// All VMs want the same port at the same time, and it is free when they choose, since the fake
/// QEMU forwards nothing.
#[test]
fn vms_that_want_the_same_port_at_once() {
    let project = project(&[]);
    let names = rivals(&project, 20);
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let vms: String = names.iter().map(|name| auto(name, "normal")).collect();
    project.config(&format!("{text}{vms}"));
    let wanted: BTreeSet<u16> = names.iter().map(|name| likely(&project, name)).collect();
    assert_eq!(wanted.len(), 1, "{wanted:?}");
    // One command starts all of them, and then one command each.
    project.sorted("start --all").run().stdout("...\n").success();
    all_differ(&project, &names);
    project.sorted("stop --all").run().stdout("...\n").success();
    thread::scope(|scope| {
        for name in &names {
            let project = &project;
            scope.spawn(move || start(project, name));
        }
    });
    all_differ(&project, &names);
}

#[track_caller]
fn all_differ(project: &Project, names: &[String]) {
    let port = |name: &String| number_after("hostfwd=tcp:127.0.0.1:", &command_line(project, name));
    let ports: BTreeSet<u16> = names.iter().map(port).collect();
    assert_eq!(ports.len(), names.len(), "{ports:?}");
}
