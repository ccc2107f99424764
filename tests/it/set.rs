//! What is asked of one start: variables by `--set`, arguments behind `--`; and what `status` tells
//! of them and of a configuration that has changed since.

use std::fs;

use crate::harness::{Project, fake_qemu, free_port, given};

const CONFIG: &str = r#"
[qemu]
bin = "@BIN"

[vars]
memory = "2G"
images = { dir = "/images", base = "{{.images.dir}}/base.img" }

[ssh]
User = "{{.vm.user}}"

[vm.vm]
cmd = ["-name fake=normal -m {{.memory}}", "-drive file='{{.images.base}}' -smp {{.vm.cpus}}"]
ssh.port = @PORT

[vm.vm.vars]
cpus = 1
user = "root"
"#;

/// A project with this configuration, and the VM's ssh port.
#[track_caller]
fn project() -> (Project, u16) {
    let (project, port) = (Project::new(), free_port());
    let bin = fake_qemu().display().to_string();
    project.config(&CONFIG.replace("@BIN", &bin).replace("@PORT", &port.to_string()));
    (project, port)
}

/// The VM starts with these arguments of `start`, and QEMU has these of its own behind its name.
#[track_caller]
fn starts_with(arguments: &[&str], expected: &[&str]) -> Project {
    let (project, port) = project();
    let arguments = [&["start", "vm"], arguments].concat();
    let stdout = format!("vm started: running, pid [PID], ssh port {port}\n");
    project.qqmgr(&arguments).run().stdout(stdout).success();
    assert_eq!(given(&project, "vm").0[3..], *expected);
    project
}

#[track_caller]
fn refused(arguments: &[&str], stderr: &str) {
    let (project, _) = project();
    let arguments = [&["start", "vm"], arguments].concat();
    project.qqmgr(&arguments).run().stderr(stderr).code(2);
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

// --- variables

#[test]
fn variables_of_all_and_of_the_vm() {
    let file = |file: &'static str| ["-drive", file, "-smp"];
    let base = file("file=/images/base.img");
    starts_with(&[], &["-m", "2G", base[0], base[1], base[2], "1"]);
    starts_with(
        &["--set", "memory=4G", "--set=vm.cpus=8"],
        &["-m", "4G", base[0], base[1], base[2], "8"],
    );
    // One that others use.
    let dir = file("file=/tmp/base.img");
    starts_with(&["--set", "images.dir=/tmp"], &["-m", "2G", dir[0], dir[1], dir[2], "1"]);
    // The last one counts.
    starts_with(
        &["--set", "memory=1", "--set", "memory=3"],
        &["-m", "3", base[0], base[1], base[2], "1"],
    );
}

/// Nothing in it is a placeholder, and as always a placeholder in quotes is one piece.
#[test]
fn a_value_is_taken_as_it_is() {
    starts_with(
        &["--set", "images.base={{.memory}} $HOME 'x' \\=,é", "--set", "memory="],
        &["-m", "-drive", "file={{.memory}} $HOME 'x' \\=,é", "-smp", "1"],
    );
    // Outside of quotes it is words, as one of the file is.
    starts_with(
        &["--set", "memory=1 -S", "--set", "images.base=i"],
        &["-m", "1", "-S", "-drive", "file=i", "-smp", "1"],
    );
}

#[test]
fn variables_that_there_are_not() {
    let near = |name: &str, near: &str| {
        format!("qqmgr: error: VM `vm` has no variable `{name}`; did you mean `{near}`?\n")
    };
    refused(&["--set", "memroy=1"], &near("memroy", "memory"));
    refused(&["--set", "cpus=1"], &near("cpus", "vm.cpus"));
    refused(&["--set", "vm.memory=1"], &near("vm.memory", "memory"));
    refused(&["--set", "images.bas=1"], &near("images.bas", "images.base"));
    let hint = "qqmgr: hint: the configuration neither sets it nor uses it in a placeholder of \
                this VM\n";
    for name in ["images", "nosuch", "vm", "env.HOME"] {
        let stderr = format!("qqmgr: error: VM `vm` has no variable `{name}`\n{hint}");
        refused(&["--set", &format!("{name}=1")], &stderr);
    }
    // The one that is right does not help.
    refused(&["--set", "memory=1", "--set", "memroy=1"], &near("memroy", "memory"));
}

#[test]
fn names_that_are_no_variables() {
    for (name, hint) in [
        ("vm.name", "a VM's name is that of its table, `[vm.NAME]`"),
        ("vm.dir", "a VM's directory follows from its name and from where the configuration is"),
        ("vm.ssh.port", "the port is `port` in `[vm.NAME.ssh]`"),
        ("vm.ssh.vm_port", "the guest's port is `vm_port` in `[vm.NAME.ssh]`"),
    ] {
        let stderr = format!(
            "qqmgr: error: `{name}` cannot be set: it is no variable\nqqmgr: hint: {hint}\n"
        );
        refused(&["--set", &format!("{name}=1")], &stderr);
    }
    let hint = "qqmgr: hint: `qqmgr help start` shows how it is used\n";
    for (value, reason) in [
        ("memory", "it takes NAME=VALUE"),
        ("", "it takes NAME=VALUE"),
        ("=1", "a name has letters, digits, `_` and `-` between dots"),
        (".memory=1", "a name has letters, digits, `_` and `-` between dots"),
        ("a..b=1", "a name has letters, digits, `_` and `-` between dots"),
        ("{{.memory}}=1", "a name has letters, digits, `_` and `-` between dots"),
    ] {
        let message = format!("invalid value `{value}` for `--set`: {reason}");
        refused(&["--set", value], &format!("qqmgr: error: {message}\n{hint}"));
    }
}

// --- arguments

#[test]
fn arguments_go_behind_those_of_the_vm() {
    let base = ["-m", "2G", "-drive", "file=/images/base.img", "-smp", "1"];
    let expected = [&base[..], &["-append", "a  'b' {{.memory}}", "--", "", "-all"]].concat();
    starts_with(&["--", "-append", "a  'b' {{.memory}}", "--", "", "-all"], &expected);
    starts_with(&["--"], &base);
}

#[test]
fn arguments_that_are_qqmgrs_own() {
    let pid_file = "qqmgr adds its own, by which it knows the VM's process";
    let qmp = "qqmgr adds its own; for a second one use `-chardev socket,...` and `-mon`";
    let monitor = "qqmgr adds its own, `monitor.socket` in the VM's directory";
    let daemonize = "qqmgr detaches QEMU itself, and waits until it is ready";
    for (word, why) in
        [("-pidfile", pid_file), ("--qmp", qmp), ("-monitor", monitor), ("-daemonize", daemonize)]
    {
        let stderr =
            format!("qqmgr: error: `{word}` cannot be used behind `--`\nqqmgr: hint: {why}\n");
        refused(&["--", "-S", word, "x"], &stderr);
    }
}

// --- one that runs already

#[test]
fn what_was_asked_for_must_be_what_runs() {
    let (project, port) = project();
    let asked = ["start", "vm", "--set", "memory=4G", "--set", "vm.user=dev", "--", "-S"];
    let stdout = format!("vm started: running, pid [PID], ssh port {port}\n");
    project.qqmgr(&asked).run().stdout(stdout).success();
    let pid = project.pid("vm");
    let already = format!("vm is already running: running, pid {pid}, ssh port {port}\n");
    let stderr = "qqmgr: error: VM `vm` runs already, with other arguments\n\
                  qqmgr: hint: `qqmgr restart vm` takes the same options\n";
    // Who asks for nothing in particular gets what there is.
    for arguments in [&asked[..], &["start", "vm"]] {
        project.qqmgr(arguments).run().stdout(already.as_str()).success();
    }
    for arguments in [
        &["start", "vm", "--set", "memory=4G"][..],
        &["start", "vm", "--", "-S"],
        &["start", "vm", "--set", "memory=5G", "--", "-S"],
        &["start", "vm", "--set", "memory=4G", "--", "-S", "-no-reboot"],
    ] {
        project.qqmgr(arguments).run().stderr(stderr).code(1);
    }
    let unknown = ["start", "vm", "--set", "memroy=4G"];
    let message = "qqmgr: error: VM `vm` has no variable `memroy`; did you mean `memory`?\n";
    project.qqmgr(&unknown).run().stderr(message).code(2);
    assert_eq!(project.pid("vm"), pid);
    assert!(project.runs(pid));
}

/// ssh goes by what the VM was started with, whatever is configured now.
#[test]
fn ssh_knows_what_was_set() {
    let project = starts_with(
        &["--set", "vm.user=dev", "--", "-S"],
        &["-m", "2G", "-drive", "file=/images/base.img", "-smp", "1", "-S"],
    );
    let conf = project.vm_file("vm", "ssh.conf");
    assert!(conf.contains("    User dev\n"), "{conf}");
    let printed = project.qqmgr(&["ssh-config", "vm"]).run();
    assert!(printed.stdout.contains("    User dev\n"), "{}", printed.stdout);
    project.qqmgr(&["restart", "vm"]).run().stdout("vm [..]\nvm [..]\n").success();
    let printed = project.qqmgr(&["ssh-config", "vm"]).run();
    assert!(printed.stdout.contains("    User root\n"), "{}", printed.stdout);
}

/// It cannot be set any more then; that it was does no harm.
#[test]
fn a_variable_that_was_set_may_go_from_the_configuration() {
    let project = starts_with(
        &["--set", "vm.user=dev"],
        &["-m", "2G", "-drive", "file=/images/base.img", "-smp", "1"],
    );
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&text.replace("user = \"root\"\n", "").replace("{{.vm.user}}", "admin"));
    let printed = project.qqmgr(&["ssh-config", "vm"]).run();
    assert!(printed.stdout.contains("    User admin\n"), "{}", printed.stdout);
    assert_eq!(notes(&project), [""; 0]);
}

// --- what a restart would change

/// The notes of `status`.
#[track_caller]
fn notes(project: &Project) -> Vec<String> {
    let run = project.qqmgr(&["status", "vm"]).run();
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let notes = run.stdout.lines().filter_map(|line| line.strip_prefix("note:       "));
    notes.map(str::to_owned).collect()
}

#[test]
fn what_was_asked_for_one_start_is_a_change() {
    let project = starts_with(
        &["--set", "memory=4G", "--", "-snapshot", "-append", "a b"],
        &[
            "-m",
            "4G",
            "-drive",
            "file=/images/base.img",
            "-smp",
            "1",
            "-snapshot",
            "-append",
            "a b",
        ],
    );
    assert_eq!(
        notes(&project),
        [
            "running with `-m 4G`, configured `-m 2G`: restart to apply",
            "running with `-snapshot`, which is not configured: restart to apply",
            "running with `-append 'a b'`, which is not configured: restart to apply",
        ]
    );
    let json = r#"{
...
  "config_changed": true,
...
  "changes": [
    {
      "running": "-m 4G",
      "configured": "-m 2G"
    },
    {
      "running": "-snapshot",
      "configured": null
    },
    {
      "running": "-append 'a b'",
      "configured": null
    }
  ]
}
"#;
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(json).success();
    project.qqmgr(&["restart", "vm"]).run().stdout("vm [..]\nvm [..]\n").success();
    assert_eq!(notes(&project), [""; 0]);
}

#[test]
fn every_change_of_the_configuration_is_told() {
    let base = ["-m", "2G", "-drive", "file=/images/base.img", "-smp", "1"];
    let project = starts_with(&[], &base);
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let port = text.split("port = ").nth(1).unwrap().lines().next().unwrap();
    let bin = fake_qemu().display().to_string();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        project.config(&text.replace(from, to));
        notes(&project)
    };
    let other = |running: &str, configured: &str| {
        vec![format!("running with `{running}`, configured `{configured}`: restart to apply")]
    };
    assert_eq!(changed("2G", "8G"), other("-m 2G", "-m 8G"));
    assert_eq!(changed(port, "2"), other(&format!("ssh port {port}"), "ssh port 2"));
    assert_eq!(
        changed("/images\"", "/i\""),
        other("-drive file=/images/base.img", "-drive file=/i/base.img")
    );
    assert_eq!(changed(&bin, "/bin/sh"), other(&bin, "/bin/sh"));
    assert_eq!(
        changed("-smp {{.vm.cpus}}", ""),
        ["running with `-smp 1`, which is not configured: restart to apply"]
    );
    assert_eq!(
        changed("-smp ", "-no-reboot 'a b.img' -smp "),
        [
            "running without `-no-reboot`, which is configured: restart to apply",
            "running without `'a b.img'`, which is configured: restart to apply",
        ]
    );
    // Neither the order of options nor what only ssh reads.
    assert_eq!(
        changed("-name fake=normal -m {{.memory}}", "-m {{.memory}} -name fake=normal"),
        [""; 0]
    );
    assert_eq!(changed("\"root\"", "\"dev\""), [""; 0]);
    // A port that is chosen would be chosen again.
    assert_eq!(changed(&format!("port = {port}"), "port = \"auto\""), [""; 0]);
}

/// What is unknown is not called unchanged.
#[test]
fn a_configuration_that_is_wrong_now() {
    let project = starts_with(&[], &["-m", "2G", "-drive", "file=/images/base.img", "-smp", "1"]);
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&text.replace("{{.vm.cpus}}", "{{.vm.nosuch}}"));
    assert_eq!(notes(&project), ["it is not known what a restart would change"]);
    let json = "{\n...\n  \"config_changed\": null,\n...\n  \"changes\": []\n}\n";
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(json).success();
}
