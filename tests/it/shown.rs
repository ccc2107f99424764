//! What is shown to scripts and to other programs: `status -q`, `list -q`, `cmdline`, `ssh-config`;
//! and the configuration that `init` writes.

use std::fs;

use crate::harness::{Project, fake_qemu, free_port, program, real_qemu};

// --- status -q and list -q

#[test]
fn quiet_status_is_the_exit_code() {
    let project = Project::new();
    project.fake_vms([("a", "normal"), ("b", "normal"), ("gone", "normal")]);
    project.sorted("start a gone").run().stdout("a [..]\ngone [..]\n").success();
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(text.split("[vm.gone]").next().unwrap());
    project.qqmgr(&["status", "-q", "a"]).run().success();
    project.qqmgr(&["status", "--quiet", "gone"]).run().success();
    project.qqmgr(&["status", "-q", "b"]).run().code(3);
    project.qqmgr(&["status", "-q", "a", "gone"]).run().success();
    project.qqmgr(&["status", "-q", "a", "b"]).run().code(3);
    project.qqmgr(&["status", "-q", "--all"]).run().code(3);
    let stderr = "qqmgr: error: no such VM in `qqmgr.toml`: `nosuch`\n\
                  qqmgr: hint: it has `a`, `b`\n";
    project.qqmgr(&["status", "-q", "nosuch"]).run().stderr(stderr).code(5);
    let stderr = stderr.replace("error: ", "error: nosuch: ");
    project.qqmgr(&["status", "-q", "nosuch", "b", "a"]).run().stderr(stderr).code(5);
    let json = |name: &str, running: bool| {
        format!("{{\n  \"name\": \"{name}\",\n  \"running\": {running}\n}}\n")
    };
    project.qqmgr(&["status", "-q", "--json", "a"]).run().stdout(json("a", true)).success();
    project.qqmgr(&["status", "-q", "--json", "b"]).run().stdout(json("b", false)).code(3);
    // Without -q a stopped VM is an answer like any other.
    project.qqmgr(&["status", "b"]).run().stdout("name:       b\n...\n").success();
    project
        .sh("if \"$QQMGR\" status -q b; then echo yes; else echo no; fi")
        .run()
        .stdout("no\n")
        .success();
}

#[test]
fn names_for_scripts() {
    let project = Project::new();
    let ports = project.fake_vms([("b", "normal"), ("a", "normal"), ("gone", "normal")]);
    project.qqmgr(&["list", "-q"]).run().stdout("b\na\ngone\n").success();
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
    let header = "NAME  STATE              PID  SSH PORT\n";
    project.qqmgr(&["list", "--running"]).run().stdout(header).success();
    project.qqmgr(&["list", "--running", "-q"]).run().success();
    project.qqmgr(&["list", "--running", "--json"]).run().stdout("[]\n").success();
    project.qqmgr(&["list", "--running", "-q", "--json"]).run().stdout("[]\n").success();

    project.sorted("start a gone").run().stdout("a [..]\ngone [..]\n").success();
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(text.split("[vm.gone]").next().unwrap());
    project.qqmgr(&["list", "--quiet"]).run().stdout("b\na\n").success();
    project.qqmgr(&["list", "-q", "--running"]).run().stdout("a\ngone\n").success();
    let json = "[\n  \"a\",\n  \"gone\"\n]\n";
    project.qqmgr(&["list", "-q", "--running", "--json"]).run().stdout(json).success();
    project.qqmgr(&["list", "-q", "--json"]).run().stdout("[\n  \"b\",\n  \"a\"\n]\n").success();
    let pids = ["a", "gone"].map(|name| project.pid(name));
    let listed = format!(
        "NAME  STATE              PID  SSH PORT\n\
         a     running       {:>8}  {:>8}\n\
         gone  running       {:>8}  {:>8}  not configured any more\n",
        pids[0], ports[1], pids[1], ports[2]
    );
    project.qqmgr(&["list", "--running"]).run().stdout(listed).success();
    let entry = |name: &str, pid: u32, port: u16, configured: bool| {
        format!(
            r#"  {{
    "name": "{name}",
    "running": true,
    "state": "running",
    "pid": {pid},
    "ssh": {{
      "port": {port}
    }},
    "configured": {configured},
    "ended": null,
    "ended_reason": null,
    "ended_at": null
  }}"#
        )
    };
    let (a, gone) = (entry("a", pids[0], ports[1], true), entry("gone", pids[1], ports[2], false));
    let json = format!("[\n{a},\n{gone}\n]\n");
    project.qqmgr(&["list", "--running", "--json"]).run().stdout(json).success();
    // As a script has it.
    let script = "\"$QQMGR\" list -q --running | xargs -n1 \"$QQMGR\" stop";
    let stdout = "a powered off in [SECONDS] s\ngone powered off in [SECONDS] s\n";
    project.sh(script).run().stdout(stdout).success();
}

// --- cmdline

/// A "QEMU" that prints its words, one a line and in brackets, and what it would be given.
const PRINTS: &str = r#"
[qemu]
bin = "sh"
[vars]
nasty = "a  'b' \"c\" $HOME `d` \\e *"
[vm.vm]
cmd = [
    '''-c 'for word in "$@"; do printf "[%s]\n" "$word"; done' sh''',
    "-append '{{.nasty}}' '' -x~ -é '{{.more}}'",
]
ssh.port = 2222
[vm.vm.vars]
"#;

const PRINTED: &str = "\
[-append]
[a  'b' \"c\" $HOME `d` \\e *]
[]
[-x~]
[-é]
[two
lines]
";

const INJECTED: &str = "\
[-pidfile]
[[ROOT]/.qqmgr/vm.vm/pid]
[-monitor]
[unix:[ROOT]/.qqmgr/vm.vm/monitor.socket,server,nowait]
[-serial]
[file:[ROOT]/.qqmgr/vm.vm/serial]
[-qmp]
[unix:[ROOT]/.qqmgr/vm.vm/qmp.socket,server,nowait]
[-qmp]
[unix:[ROOT]/.qqmgr/vm.vm/ctl.socket,server,nowait]
[-qmp]
[pipe:[ROOT]/.qqmgr/vm.vm/events]
";

#[test]
fn a_command_line_to_paste() {
    let project = Project::new();
    project.config(PRINTS);
    let words = [PRINTED, INJECTED].concat();
    let set = "--set 'more=two\nlines'";
    project.sh(&format!("\"$QQMGR\" cmdline vm {set} | sh")).run().stdout(words).success();
    let script = format!("eval \"$(\"$QQMGR\" cmdline vm {set} -- -S '' 'it'\\''s')\"");
    let words = [PRINTED, "[-S]\n[]\n[it's]\n", INJECTED].concat();
    project.sh(&script).run().stdout(words).success();
    // Nothing was made or started.
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

#[test]
fn a_command_line_to_read() {
    let project = Project::new();
    let port = free_port();
    project.config(&format!(
        "[qemu]\nbin = \"sh\"\n[vm.vm]\ncmd = \"-m 2 -S 'a b.img' -drive file='x y'\"\n\
         ssh.port = {port}\n"
    ));
    let stdout = "\
sh \\
    -m 2 \\
    -S \\
    'a b.img' \\
    -drive 'file=x y' \\
    -pidfile [ROOT]/.qqmgr/vm.vm/pid \\
    -monitor unix:[ROOT]/.qqmgr/vm.vm/monitor.socket,server,nowait \\
    -serial file:[ROOT]/.qqmgr/vm.vm/serial \\
    -qmp unix:[ROOT]/.qqmgr/vm.vm/qmp.socket,server,nowait \\
    -qmp unix:[ROOT]/.qqmgr/vm.vm/ctl.socket,server,nowait \\
    -qmp pipe:[ROOT]/.qqmgr/vm.vm/events
";
    project.qqmgr(&["cmdline", "vm"]).run().stdout(stdout).success();
    let json = r#"[
  "sh",
  "-m",
  "2",
  "-S",
  "a b.img",
  "-drive",
  "file=x y",
  "",
  "-pidfile",
  "[ROOT]/.qqmgr/vm.vm/pid",
  "-monitor",
  "unix:[ROOT]/.qqmgr/vm.vm/monitor.socket,server,nowait",
  "-serial",
  "file:[ROOT]/.qqmgr/vm.vm/serial",
  "-qmp",
  "unix:[ROOT]/.qqmgr/vm.vm/qmp.socket,server,nowait",
  "-qmp",
  "unix:[ROOT]/.qqmgr/vm.vm/ctl.socket,server,nowait",
  "-qmp",
  "pipe:[ROOT]/.qqmgr/vm.vm/events"
]
"#;
    project.qqmgr(&["cmdline", "vm", "--json", "--", ""]).run().stdout(json).success();
}

#[test]
fn a_command_line_that_there_is_not() {
    let project = Project::new();
    project.config("[vm.vm]\ncmd = \"\"\nssh.port = 2222\nqemu = \"no-such-qemu\"\n");
    for (arguments, code, stderr) in [
        (&["cmdline", "nosuch"][..], 5, "no such VM in `qqmgr.toml`: `nosuch`"),
        (&["cmdline", "vm"], 1, "there is no program `no-such-qemu`"),
        (&["cmdline", "vm", "--set", "x=1"], 2, "VM `vm` has no variable `x`"),
        (&["cmdline", "vm", "--", "-qmp", "x"], 2, "`-qmp` cannot be used behind `--`"),
    ] {
        let stderr = format!("qqmgr: error: {stderr}\nqqmgr: hint: [..]\n");
        project.qqmgr(arguments).run().stderr(stderr).code(code);
    }
}

// --- ssh-config

const KEYS: &str = r#"
[qemu]
bin = "@BIN"
[ssh]
User = "root"
IdentityFile = ["keys/id", "/etc/absolute", "~/.ssh/home"]
UserKnownHostsFile = "known_hosts other"
[vm.fixed]
cmd = "-name fake=normal"
ssh = { port = 2222, IdentityFile = "my key" }
[vm.chosen]
cmd = "-name fake=normal"
ssh = { port = "auto", ControlPath = "mux", UserKnownHostsFile = ["a", "/b"] }
"#;

#[track_caller]
fn with_keys() -> Project {
    let project = Project::new();
    project.config(&KEYS.replace("@BIN", &fake_qemu().display().to_string()));
    project
}

const FIXED: &str = "\
# Written by qqmgr for the VM fixed; changes are lost.
Host fixed
    Port 2222
    HostName 127.0.0.1
    HostKeyAlias fixed
    ConnectTimeout 30
    IdentitiesOnly yes
    User root
    IdentityFile \"[ROOT]/my key\"
    UserKnownHostsFile [ROOT]/known_hosts [ROOT]/other
";

const CHOSEN: &str = "\
# Written by qqmgr for the VM chosen; changes are lost.
Host chosen
    Port [PORT]
    HostName 127.0.0.1
    HostKeyAlias chosen
    ConnectTimeout 30
    IdentitiesOnly yes
    User root
    IdentityFile [ROOT]/keys/id
    IdentityFile /etc/absolute
    IdentityFile ~/.ssh/home
    UserKnownHostsFile [ROOT]/a /b
    ControlPath [ROOT]/.qqmgr/vm.chosen/mux
";

#[test]
fn an_ssh_configuration_for_all_or_some() {
    let project = with_keys();
    let unknown = "# The port of the VM chosen is chosen at its start.\n";
    let all = [FIXED, "\n", unknown].concat();
    project.qqmgr(&["ssh-config"]).run().stdout(all.as_str()).success();
    project.qqmgr(&["ssh-config"]).cwd("home").run().stdout(all).success();
    project.qqmgr(&["ssh-config", "f*"]).run().stdout(FIXED).success();
    project
        .qqmgr(&["ssh-config", "chosen", "fixed", "chosen"])
        .run()
        .stdout([unknown, "\n", FIXED].concat())
        .success();
    let stderr = "qqmgr: error: nosuch: no such VM in `qqmgr.toml`: `nosuch`\n\
                  qqmgr: hint: it has `fixed`, `chosen`\n";
    project.qqmgr(&["ssh-config", "fixed", "nosuch"]).run().stderr(stderr).code(5);
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);

    let started = "chosen started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "chosen"]).run().stdout(started).success();
    let all = [FIXED, "\n", CHOSEN].concat();
    project.qqmgr(&["ssh-config"]).run().stdout(all).success();
    // The one that `ssh` uses is the same.
    project.sh("cat .qqmgr/vm.chosen/ssh.conf").run().stdout(CHOSEN).success();
}

#[test]
fn an_ssh_configuration_as_json() {
    let project = with_keys();
    let json = r##"[
  {
    "name": "fixed",
    "port": 2222,
    "config": "# Written by qqmgr for the VM fixed; changes are lost.\nHost fixed\n    Port 2222\n[..]"
  },
  {
    "name": "chosen",
    "port": null,
    "config": null
  }
]
"##;
    project.qqmgr(&["ssh-config", "--json"]).run().stdout(json).success();
    project
        .qqmgr(&["ssh-config", "[d-z]*", "--json"])
        .run()
        .stdout("[\n  {\n...\n  }\n]\n")
        .success();
}

/// As ssh itself reads it: by `-F`, and by `Include` with more before and behind it. The directory
/// has what ssh would take for the end of a word.
#[test]
fn ssh_understands_it_from_everywhere() {
    let Some(ssh) = program("ssh") else { return };
    for directory in ["plain", "with blanks, 'quotes' and #"] {
        let project = Project::new();
        let config = KEYS.replace("@BIN", &fake_qemu().display().to_string());
        project.write(format!("{directory}/qqmgr.toml"), config);
        let output = project.qqmgr(&["ssh-config"]).cwd(directory).run();
        let text = output.stdout.clone();
        output.stdout(text.as_str()).success();
        project.write("printed", &text);
        let include =
            format!("Include {}\nHost *\n    User nobody\n", project.path("printed").display());
        project.write("including", include);
        for file in ["printed", "including"] {
            let script = format!("\"{}\" -F ../{file} -G fixed", ssh.display());
            let output = project.sh(&script).cwd("home").run();
            assert_eq!(output.status, Some(0), "{}\n{text}", output.stderr);
            let root = project.path(directory).display().to_string();
            for line in [
                "user root".to_owned(),
                "hostname 127.0.0.1".into(),
                "port 2222".into(),
                "hostkeyalias fixed".into(),
                format!("identityfile {root}/my key"),
                format!("userknownhostsfile {root}/known_hosts {root}/other"),
            ] {
                assert!(
                    output.stdout.lines().any(|l| l == line),
                    "{line}\n{text}\n{}",
                    output.stdout
                );
            }
        }
    }
}

// --- init

#[test]
fn a_first_configuration() {
    let project = Project::new();
    let stdout = "wrote qqmgr.toml: edit it, then `qqmgr check` and `qqmgr start dev`\n";
    project.qqmgr(&["init"]).run().stdout(stdout).success();
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
    let listed = "NAME  STATE              PID  SSH PORT\n\
                  dev   stopped              -      auto\n";
    project.qqmgr(&["list"]).run().stdout(listed).success();
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    // What is commented out is right, too.
    let whole = text.replace("# extends", "extends").replace("# [vm", "[vm");
    let whole = whole.replace("# cmd_append", "cmd_append").replace("# vm_port", "vm_port");
    project.config(&whole.replace("    # \"-drive", "    \"-drive"));
    project.qqmgr(&["list", "-q"]).run().stdout("dev\ndev-big\n").success();
    project.qqmgr(&["cmdline", "dev-big"]).run().stdout("...\n    -m 16G \\\n...\n").success();
    let drive = "...\n    -drive file=[ROOT]/dev.qcow2,if=virtio \\\n...\n";
    project.qqmgr(&["cmdline", "dev"]).run().stdout(drive).success();
}

#[test]
fn what_is_there_is_never_overwritten() {
    let project = Project::new();
    let there = |file: &str| {
        format!(
            "qqmgr: error: `{file}` exists already\n\
             qqmgr: hint: `qqmgr check` finds mistakes in it\n"
        )
    };
    for content in ["", "mine\n"] {
        project.config(content);
        project.qqmgr(&["init"]).run().stderr(there("qqmgr.toml")).code(1);
        assert_eq!(fs::read_to_string(project.path("qqmgr.toml")).unwrap(), content);
    }
    project.sh("ln -s nowhere dangling; mkdir dir").run().success();
    for file in ["dangling", "dir"] {
        let there = there(file).replace("qqmgr check", &format!("qqmgr -c {file} check"));
        project.qqmgr(&["init", "-c", file]).run().stderr(there).code(1);
    }
    assert!(!project.path("nowhere").exists());
    let stderr = "qqmgr: error: cannot create `no/such.toml`: no such file or directory\n";
    project.qqmgr(&["-c", "no/such.toml", "init"]).run().stderr(stderr).code(1);
}

#[test]
fn a_first_configuration_with_a_name() {
    let project = Project::new();
    let stdout = "wrote home/vms.toml: edit it, then `qqmgr -c home/vms.toml check` and \
                  `qqmgr -c home/vms.toml start dev`\n";
    project.qqmgr(&["init", "-c", "home/vms.toml"]).run().stdout(stdout).success();
    assert_eq!(project.files(""), ["home", "home/vms.toml"]);
    let json = "{\n  \"file\": \"other.toml\",\n  \"base\": null,\n  \"sha256\": null\n}\n";
    project.qqmgr(&["--config=other.toml", "init", "--json"]).run().stdout(json).success();
    project.sh("cmp home/vms.toml other.toml").run().success();
}

#[test]
fn the_first_configuration_starts() {
    if real_qemu().is_none() {
        return;
    }
    let project = Project::new();
    project.qqmgr(&["init"]).run().stdout("wrote [..]\n").success();
    let stdout = "dev started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "dev", "--set", "memory=64M"]).run().stdout(stdout).success();
    let stdout = "dev ended by SIGTERM in [SECONDS] s\n";
    project.qqmgr(&["stop", "dev", "--force"]).run().stdout(stdout).success();
}
