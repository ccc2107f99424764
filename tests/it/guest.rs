//! ssh, put, get and a gentle stop on the real guest of `tests/fixtures/guest`, under TCG.
//!
//! A boot takes seconds, so each test uses one guest for many checks.

use crate::harness::{Project, free_port, guest_dir, real_qemu};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A project with the VM `vm`, whose kernel gets these arguments. `None` without a guest.
#[track_caller]
pub(crate) fn project(kernel_arguments: &str) -> Option<Project> {
    let (project, port) = (Project::new(), free_port());
    project.config(&config(kernel_arguments, &port.to_string(), "")?);
    Some(project)
}

/// A configuration with such a VM, this ssh port and these further arguments of QEMU. Linux must
/// not check its timer, which is late under emulation on a busy host: it would panic.
#[track_caller]
pub(crate) fn config(kernel_arguments: &str, port: &str, more: &str) -> Option<String> {
    let (qemu, guest) = (real_qemu()?, guest_dir()?);
    Some(format!(
        "[qemu]\nbin = {qemu:?}\n[vars]\nguest = '{}'\n\
         [ssh]\nUser = \"root\"\nIdentityFile = \"{{{{.guest}}}}/id_ed25519\"\n\
         IdentitiesOnly = true\nUserKnownHostsFile = \"/dev/null\"\n\
         StrictHostKeyChecking = false\n\
         [vm.vm]\ncmd = [\n\
         \"-nodefaults -machine pc -accel tcg -cpu max -m 256 -display none\",\n\
         \"-kernel '{{{{.guest}}}}/vmlinuz' -initrd '{{{{.guest}}}}/initrd'\",\n\
         \"-append 'console=ttyS0 no_timer_check guest.hostname={{{{.vm.name}}}} {kernel_arguments}'\",\n\
         \"-netdev user,id=net0,hostfwd=tcp:127.0.0.1:{{{{.vm.ssh.port}}}}-:{{{{.vm.ssh.vm_port}}}}\",\n\
         \"-device virtio-net-pci,netdev=net0\", {more:?},\n]\n\
         [vm.vm.ssh]\nport = {port}\n",
        guest.display(),
    ))
}

/// A project whose guest has booted and accepts our login.
#[track_caller]
pub(crate) fn booted(kernel_arguments: &str) -> Option<Project> {
    let project = project(kernel_arguments)?;
    start(&project);
    Some(project)
}

/// Starts the VM and waits for its ssh server. Two cores may have four guests to boot at once.
#[track_caller]
pub(crate) fn start(project: &Project) {
    let started = project.qqmgr(&["start", "--wait=200", "vm"]).run();
    started.stdout("vm started: running, pid [PID], ssh port [PORT]\n").success();
}

fn powered_off(project: &Project) {
    let stopped = project.qqmgr(&["stop", "vm"]).run();
    stopped.stdout("vm powered off in [SECONDS] s\n").success();
    assert_eq!(project.vm_files("vm"), "events.out lock qemu.log serial");
}

#[test]
fn ssh_passes_words_input_and_exit_codes_on() {
    let Some(project) = booted("") else { return };
    let ssh = |words: &[&str]| project.qqmgr(&[&["ssh", "vm"], words].concat()).run();
    ssh(&["hostname"]).stdout("vm\n").success();
    ssh(&["echo", "'a  b'", "--json", "-h"]).stdout("a  b --json -h\n").success();
    ssh(&["--", "echo", "x"]).stdout("x\n").success();
    ssh(&["echo oops >&2; exit 7"]).stderr("oops\n").code(7);
    let cat = project.qqmgr(&["ssh", "vm", "cat; echo end"]).stdin("in\n").run();
    cat.stdout("in\nend\n").success();
    let piped = project.qqmgr(&["ssh", "vm"]).stdin("hostname\nexit 3\n").run();
    piped.stdout("vm\n").code(3);

    // The master of the shared connection is asked, which proves that there is one.
    ssh(&["-O", "check"]).stderr("Master running (pid=[PID])\r\n").success();
    // Options of ssh before the command, here one that shares no connection.
    ssh(&["-o", "ControlPath=none", "hostname"]).stdout("vm\n").success();

    let json = project.qqmgr(&["--json", "ssh", "vm", "echo out; echo err >&2; exit 3"]).run();
    json.stdout(
        "{\n  \"name\": \"vm\",\n  \"exit_code\": 3,\n  \"stdout\": \"out\\n\",\n  \
         \"stderr\": \"err\\n\"\n}\n",
    )
    .code(3);
    let verbose = project.qqmgr(&["--json", "ssh", "vm", "-v", "true"]).run();
    assert_eq!(verbose.status, Some(0), "{}", verbose.stdout);
    powered_off(&project);
    ssh(&["true"])
        .stderr("qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n")
        .code(255);
}

#[test]
fn put_and_get_with_an_sftp_server() {
    let Some(project) = booted("") else { return };
    copies(&project);
    assert_eq!(project.vm_file("vm", "copy-method"), "sftp");
    let missing = project.qqmgr(&["get", "vm", "/nope", "."]).run();
    missing.stderr("qqmgr: error: scp: /nope: No such file or directory\n").code(1);
    powered_off(&project);
}

#[test]
fn put_and_get_with_a_bare_dropbear() {
    let Some(project) = booted("guest.sftp=no") else { return };
    copies(&project);
    assert_eq!(project.vm_file("vm", "copy-method"), "tar");
    for to in [".", "new"] {
        let missing = project.qqmgr(&["get", "vm", "/nope", to]).run();
        missing
            .stderr("qqmgr: error: the copy failed: `ssh`: /nope: No such file or directory\n")
            .code(1);
    }
    let nowhere = project.qqmgr(&["put", "vm", "tree/a", "tree/sub", "/nope"]).run();
    nowhere.stderr("qqmgr: error: the copy failed: `ssh`: /nope: no such directory\n...").code(1);
    // A file that does not tell its size.
    project.qqmgr(&["get", "vm", "/proc/version", "."]).run().success();
    assert!(fs::read_to_string(project.path("version")).unwrap().starts_with("Linux version "));
    // More than a pipe holds: the sender must notice that the receiver has gone.
    project.write("big", vec![0; 8 << 20]);
    let refused = project.qqmgr(&["put", "vm", "big", "/nope/x"]).run();
    refused
        .stderr("qqmgr: error: the copy failed: `ssh`: mkdir: can't create directory [..]\n...")
        .code(1);
    assert!(!project.files("").iter().any(|name| name.contains(".part.")));
    powered_off(&project);
}

/// Copies behave alike with every method of the guest. Works in the guest's /tmp and home.
fn copies(project: &Project) {
    let qqmgr = |words: &[&str]| project.qqmgr(words).run().success();
    let guest = |script: &str, expected: &str| {
        project.qqmgr(&["ssh", "vm", script]).run().stdout(expected).success();
    };
    project.write("tree/a", "one");
    project.write("tree/sub/b c", [0, 159, 146, 150, 10, 13, 0]);
    let executable = fs::Permissions::from_mode(0o750);
    fs::set_permissions(project.path("tree/a"), executable).unwrap();

    // A directory under a new name, and into an existing directory.
    qqmgr(&["put", "vm", "tree", "/tmp/new"]);
    qqmgr(&["put", "vm", "tree", "/tmp"]);
    guest(
        "cd /tmp && find new tree | sort && stat -c %a new/a && cmp new/a tree/a",
        "new\nnew/a\nnew/sub\nnew/sub/b c\ntree\ntree/a\ntree/sub\ntree/sub/b c\n750\n",
    );
    qqmgr(&["get", "vm", "/tmp/new", "."]);
    qqmgr(&["get", "vm", "/tmp/new", "renamed"]);
    for copy in ["new", "renamed"] {
        assert_eq!(project.files(copy), ["a", "sub", "sub/b c"]);
        let content = fs::read(project.path(copy).join("sub/b c")).unwrap();
        assert_eq!(content, [0, 159, 146, 150, 10, 13, 0]);
        let mode = fs::metadata(project.path(copy).join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
    }

    // Names that a shell, scp or tar could take for something else, several at once.
    let names = ["x:y", "-dash", "q'u\"o te", "$HOME", "ü"];
    for name in names {
        project.write(Path::new("odd").join(name), name);
    }
    project.write("odd/copy", "copy");
    let put = [&["-c", "../qqmgr.toml", "put", "vm", "--"], &names[..], &["/tmp/new/sub"]].concat();
    project.qqmgr(&put).cwd("odd").run().success();
    guest(
        "cd /tmp/new/sub && for f in *; do echo \"$f\"; done",
        "$HOME\n-dash\nb c\nq'u\"o te\nx:y\nü\n",
    );
    qqmgr(&["get", "vm", "/tmp/new/sub", "back"]);
    for name in names {
        assert_eq!(fs::read_to_string(project.path("back").join(name)).unwrap(), name);
    }
    qqmgr(&["put", "vm", "odd/copy", "/tmp/it's new"]);
    guest("cat \"/tmp/it's new\"", "copy");

    // Names from the home directory, and patterns.
    qqmgr(&["put", "vm", "odd/copy", "here"]);
    qqmgr(&["put", "vm", "odd/copy", "~/there"]);
    guest("cat ~/here ~/there", "copycopy");
    qqmgr(&["put", "vm", "--", "odd/copy", "-r"]);
    guest("cat ./-r", "copy");
    qqmgr(&["get", "vm", "--", "-r", "-dashed"]);
    assert_eq!(fs::read_to_string(project.path("-dashed")).unwrap(), "copy");
    project.write("into/keep", "");
    qqmgr(&["get", "vm", "~/*here", "/tmp/tree/[a-b]", "into"]);
    assert_eq!(project.files("into"), ["a", "here", "keep", "there"]);
    // The home directory itself is copied without its name.
    for (remote, local) in [("~", "home-1"), ("~/", "home-2"), ("", "home-3"), (".", "into")] {
        qqmgr(&["get", "vm", remote, local]);
        assert_eq!(fs::read_to_string(project.path(local).join("there")).unwrap(), "copy");
    }

    // A missing local file is an error that changes nothing, with both methods.
    let missing = project.qqmgr(&["put", "vm", "odd/copy", "nope", "/tmp"]).run();
    missing.stderr("qqmgr: error: cannot read `nope`: no such file or directory\n").code(1);
    let json = project.qqmgr(&["put", "vm", "odd/copy", "json", "--json"]).run();
    json.stdout(
        "{\n  \"name\": \"vm\",\n  \"from\": [\n    \"odd/copy\"\n  ],\n  \"to\": \"json\"\n}\n",
    )
    .success();
}

/// The power button is pressed again until the booting guest has learned to listen to it.
#[test]
fn stop_while_the_guest_boots() {
    let Some(project) = project("guest.powerdown=slow") else { return };
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    let serial = ["wait", "vm", "--for", "serial=Linux version", "--timeout", "200"];
    project.qqmgr(&serial).run().stdout("vm said `Linux version` after [SECONDS] s\n").success();
    let stop = project.qqmgr(&["stop", "vm", "--timeout", "200"]).run();
    let stop = stop.stderr("qqmgr: waiting for the guest to power off\n");
    stop.stdout("vm powered off in [SECONDS] s\n").success();
}

#[test]
fn stop_of_a_guest_that_ignores_the_power_button() {
    let Some(project) = booted("guest.powerdown=ignore") else { return };
    let refused = project.qqmgr(&["stop", "vm", "--timeout", "0.5", "--no-kill"]).run();
    refused
        .stderr(
            "qqmgr: error: the guest did not power off within 0.5 s; QEMU (pid [PID]) still runs\n\
             qqmgr: hint: without `--no-kill` QEMU would be ended now\n",
        )
        .code(4);
    project.qqmgr(&["ssh", "vm", "hostname"]).run().stdout("vm\n").success();
    let ended = project.qqmgr(&["stop", "vm", "--timeout", "0.5"]).run();
    ended.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
    assert_eq!(project.vm_files("vm"), "events.out lock qemu.log serial");
}
