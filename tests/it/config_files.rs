//! Which configuration is used, where its VMs run, and what QEMU and ssh are given by it.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::harness::{Project, fake_qemu, free_port};

/// The first example of the design document, byte for byte.
const SEED_VM: &str = r#"[qemu]
bin = "qemu-system-x86_64"
img = "qemu-img"

[vars]
home = "/home/user"
data_dir = "/data"

[vm.test-vm]
cmd = [
    "-nodefaults -machine q35,accel=kvm,kernel-irqchip=split",
    "-cpu host -smp 2 -m 4096",
    "-netdev user,id=net0,hostfwd=tcp::{{.vm.ssh_host}}-:{{.vm.ssh_vm}}",
    "-device virtio-net-pci,netdev=net0",
    "-drive id=boot,file={{.vm.boot_img}},format=qcow2,if=virtio",
]

[vm.test-vm.vars]
ssh_host = 2089
ssh_vm = 22
boot_img = "{{.home}}/path/to/disk.img"

[vm.test-vm.ssh]
port = 2089
vm_port = 22
"#;
/// The second one.
const SEED_SSH: &str = r#"[ssh]
ServerAliveInterval = 300
ServerAliveCountMax = 3
UserKnownHostsFile = "/dev/null"
StrictHostKeyChecking = "no"

[vm.test-vm.ssh]
port = 2089
vm_port = 22
ServerAliveInterval = 60  # Override global setting
"#;
const SEED_PORT: u16 = 2089;

const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]\n";

/// `vm`, never started; its ssh port tells the files apart.
pub(crate) fn vm(port: u16) -> String {
    format!("[vm.vm]\ncmd = \"\"\nssh.port = {port}\n")
}

/// `status --json`, run in `cwd`, shows the VM of this file and port in this runtime directory.
#[track_caller]
pub(crate) fn found(
    project: &Project,
    cwd: &str,
    arguments: &[&str],
    file: &str,
    port: u16,
    runtime: &str,
) {
    let expected = format!(
        r#"{{
  "name": "vm",
  "pid": null,
  "pid_file": "{runtime}/vm.vm/pid",
  "ssh": {{
    "port": {port},
    "vm_port": 22,
    "config_file": "{runtime}/vm.vm/ssh.conf"
  }},
  "serial_file": "{runtime}/vm.vm/serial",
  "qmp_file": "{runtime}/vm.vm/qmp.socket",
  "monitor_file": "{runtime}/vm.vm/monitor.socket",
  "running": false,
  "state": "stopped",
  "uptime_seconds": null,
  "log_file": "{runtime}/vm.vm/qemu.log",
  "console_file": null,
  "config_file": "{file}",
...
}}
"#
    );
    let arguments = [arguments, &["status", "vm", "--json"]].concat();
    project.qqmgr(&arguments).cwd(cwd).run().stdout(expected).success();
}

// --- which file, and which runtime directory

#[test]
fn in_the_current_directory_first() {
    let project = Project::new();
    project.write("qqmgr.toml", vm(1));
    project.write("home/.config/qqmgr/conf.toml", vm(2));
    found(&project, "", &[], "[ROOT]/qqmgr.toml", 1, "[ROOT]/.qqmgr");
}

#[test]
fn then_the_users_own() {
    let project = Project::new();
    project.write("sub/x", "");
    project.write("home/.config/qqmgr/conf.toml", vm(2));
    let (file, runtime) = ("[ROOT]/home/.config/qqmgr/conf.toml", "[ROOT]/home/.config/qqmgr");
    found(&project, "sub", &[], file, 2, runtime);
    // Under whatever way it is named.
    found(&project, "", &["-c", "home/.config/qqmgr/conf.toml"], file, 2, runtime);
}

#[test]
fn xdg_config_home_takes_the_place_of_dot_config() {
    let project = Project::new();
    project.write("xdg/qqmgr/conf.toml", vm(1));
    project.write("home/.config/qqmgr/conf.toml", vm(2));
    let list = |xdg: &str, port| {
        let stdout = format!(
            "NAME  STATE              PID  SSH PORT\nvm    stopped              -  {port:>8}\n"
        );
        project.qqmgr(&["list"]).env("XDG_CONFIG_HOME", xdg).run().stdout(stdout).success();
    };
    list(&project.path("xdg").to_string_lossy(), 1);
    // The XDG specification: what is not absolute is to be ignored.
    list("xdg", 2);
    list("", 2);
    let stdout = "...\npid file:   [ROOT]/xdg/qqmgr/vm.vm/pid\n...\n";
    let status = project.qqmgr(&["status", "vm"]).env("XDG_CONFIG_HOME", project.path("xdg"));
    status.run().stdout(stdout).success();
}

#[test]
fn a_named_file_has_its_vms_beside_it() {
    let project = Project::new();
    project.write("qqmgr.toml", vm(1));
    project.write("other.toml", vm(2));
    project.write("sub/other.toml", vm(3));
    found(&project, "", &["-c", "other.toml"], "[ROOT]/other.toml", 2, "[ROOT]");
    found(&project, "", &["-c", "sub/other.toml"], "[ROOT]/sub/other.toml", 3, "[ROOT]/sub");
    found(&project, "sub", &["-c", "../other.toml"], "[ROOT]/other.toml", 2, "[ROOT]");
}

/// However it was named: `start vm` and `-c qqmgr.toml stop vm` mean the same VM.
#[test]
fn a_qqmgr_toml_always_has_its_dot_qqmgr() {
    let project = Project::new();
    project.write("sub/qqmgr.toml", vm(1));
    let (file, runtime) = ("[ROOT]/sub/qqmgr.toml", "[ROOT]/sub/.qqmgr");
    found(&project, "sub", &[], file, 1, runtime);
    found(&project, "sub", &["-c", "qqmgr.toml"], file, 1, runtime);
    found(&project, "", &["-c", "sub/qqmgr.toml"], file, 1, runtime);
    found(&project, "", &["-c", "sub/../sub/./qqmgr.toml"], file, 1, runtime);
    let absolute = project.path("sub/qqmgr.toml");
    found(&project, "home", &["-c", &absolute.to_string_lossy()], file, 1, runtime);
}

#[test]
fn a_vm_is_the_same_however_its_configuration_is_named() {
    let project = Project::new();
    project.fake_vm("normal");
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let pid = project.pid("vm");
    project
        .qqmgr(&["-c", "../qqmgr.toml", "stop", "vm"])
        .cwd("home")
        .run()
        .stdout("vm powered off in [SECONDS] s\n")
        .success();
    assert!(!project.runs(pid));
}

/// A VM is known by its paths.
#[test]
fn a_symlinked_directory_gives_the_same_paths() {
    let project = Project::new();
    project.write("real/qqmgr.toml", vm(1));
    project.write("real/other.toml", vm(2));
    symlink("real", project.path("link")).unwrap();
    let (file, runtime) = ("[ROOT]/real/qqmgr.toml", "[ROOT]/real/.qqmgr");
    found(&project, "link", &[], file, 1, runtime);
    found(&project, "", &["-c", "link/qqmgr.toml"], file, 1, runtime);
    let file = "[ROOT]/real/other.toml";
    found(&project, "", &["-c", "link/other.toml"], file, 2, "[ROOT]/real");
}

// --- the examples of the design document

/// Byte for byte, but with another port when another program has that one just now.
fn seed(text: &str) -> (String, u16) {
    if TcpListener::bind(("127.0.0.1", SEED_PORT)).is_ok() {
        return (text.into(), SEED_PORT);
    }
    let port = free_port();
    (text.replace(&SEED_PORT.to_string(), &port.to_string()), port)
}

#[test]
fn the_first_example_starts_as_printed() {
    let project = Project::new();
    let (config, port) = seed(SEED_VM);
    project.config(&config);
    let listed = format!(
        "NAME     STATE              PID  SSH PORT\n\
         test-vm  stopped              -  {port:>8}\n"
    );
    project.qqmgr(&["list"]).run().stdout(listed).success();

    fs::create_dir(project.path("bin")).unwrap();
    symlink(fake_qemu(), project.path("bin/qemu-system-x86_64")).unwrap();
    let path = format!("{}:{}", project.path("bin").display(), env::var("PATH").unwrap());
    let arguments = format!(
        "-nodefaults -machine q35,accel=kvm,kernel-irqchip=split -cpu host -smp 2 -m 4096 \
         -netdev user,id=net0,hostfwd=tcp::{port}-:22 -device virtio-net-pci,netdev=net0 \
         -drive id=boot,file=/home/user/path/to/disk.img,format=qcow2,if=virtio"
    );
    let injected = "-pidfile [ROOT]/.qqmgr/vm.test-vm/pid \
                    -monitor unix:[ROOT]/.qqmgr/vm.test-vm/monitor.socket,server,nowait \
                    -serial file:[ROOT]/.qqmgr/vm.test-vm/serial \
                    -qmp unix:[ROOT]/.qqmgr/vm.test-vm/qmp.socket,server,nowait \
                    -qmp unix:[ROOT]/.qqmgr/vm.test-vm/ctl.socket,server,nowait \
                    -qmp pipe:[ROOT]/.qqmgr/vm.test-vm/events";
    project
        .qqmgr(&["-v", "start", "test-vm"])
        .env("PATH", path)
        .run()
        .stdout(format!("test-vm started: running, pid [PID], ssh port {port}\n"))
        .stderr(format!(
            "qqmgr: exec qemu-system-x86_64 {arguments} {injected}\n...\nqqmgr: qmp <- [..]\n"
        ))
        .success();
    let (argv, _) = given(&project, "test-vm");
    assert_eq!(argv.join(" "), format!("qemu-system-x86_64 {arguments}"));
}

/// It has no `cmd`, so that there is nothing to start.
#[test]
fn the_second_example_loads_as_printed() {
    let project = Project::new();
    project.config(SEED_SSH);
    let listed = "NAME     STATE              PID  SSH PORT\n\
                  test-vm  stopped              -      2089\n";
    project.qqmgr(&["list"]).run().stdout(listed).success();
}

#[test]
fn the_second_example_makes_this_ssh_conf() {
    let project = Project::new();
    let (config, port) = seed(SEED_SSH);
    project.config(&format!(
        "{config}\n[vm.test-vm]\ncmd = \"\"\n[qemu]\nbin = \"{}\"\n",
        fake_qemu().display()
    ));
    let stdout = "test-vm started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "test-vm"]).run().stdout(stdout).success();
    let expected = format!(
        "\
# Written by qqmgr for the VM test-vm; changes are lost.
Host test-vm
    Port {port}
    HostName 127.0.0.1
    HostKeyAlias test-vm
    ConnectTimeout 30
    LogLevel ERROR
    ServerAliveInterval 60
    ServerAliveCountMax 3
    UserKnownHostsFile /dev/null
    StrictHostKeyChecking no
"
    );
    project.sh("cat .qqmgr/vm.test-vm/ssh.conf").run().stdout(expected).success();
    let Some(options) = read_by_ssh(&project, "test-vm") else { return };
    for option in [
        &format!("port {port}"),
        "hostname 127.0.0.1",
        "hostkeyalias test-vm",
        "serveraliveinterval 60",
        "serveralivecountmax 3",
        "userknownhostsfile /dev/null",
        "stricthostkeychecking false",
        "loglevel ERROR",
    ] {
        assert!(options.iter().any(|line| line == option), "no {option} in {options:?}");
    }
}

/// The options of a VM as ssh itself understands its `ssh.conf`.
fn read_by_ssh(project: &Project, vm: &str) -> Option<Vec<String>> {
    let file = project.vm_path(vm, "ssh.conf");
    let Ok(output) = Command::new("ssh").args(["-G", "-F"]).arg(file).arg(vm).output() else {
        eprintln!("skipped: no ssh");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

// --- what QEMU is given

/// The command line of a running VM: the program and the user's words, and what is injected.
#[track_caller]
pub(crate) fn given(project: &Project, vm: &str) -> (Vec<String>, Vec<String>) {
    let line = fs::read(format!("/proc/{}/cmdline", project.pid(vm))).unwrap();
    let line = String::from_utf8(line).unwrap();
    let mut words: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
    let injected = words.split_off(words.len() - 12);
    (words, injected)
}

/// Starts `vm` with this configuration, `@BIN` and `@PORT` filled in; gives the user's words.
#[track_caller]
pub(crate) fn words_of(project: &Project, config: &str) -> Vec<String> {
    let bin = fake_qemu();
    let config =
        config.replace("@BIN", &bin.to_string_lossy()).replace("@PORT", &free_port().to_string());
    project.config(&config);
    let run = project.qqmgr(&["start", "vm"]).env("QQ_TEST", "from outside");
    run.run().stdout(STARTED).success();
    given(project, "vm").0.split_off(1)
}

#[test]
fn the_injected_arguments() {
    let project = Project::new();
    words_of(&project, "[qemu]\nbin = \"@BIN\"\n[vm.vm]\ncmd = \"\"\nssh.port = @PORT\n");
    let dir = project.path(".qqmgr/vm.vm").to_string_lossy().into_owned();
    assert_eq!(
        given(&project, "vm").1,
        [
            "-pidfile",
            &format!("{dir}/pid"),
            "-monitor",
            &format!("unix:{dir}/monitor.socket,server,nowait"),
            "-serial",
            &format!("file:{dir}/serial"),
            "-qmp",
            &format!("unix:{dir}/qmp.socket,server,nowait"),
            "-qmp",
            &format!("unix:{dir}/ctl.socket,server,nowait"),
            "-qmp",
            &format!("pipe:{dir}/events"),
        ]
    );
}

#[test]
fn a_command_is_a_list_of_strings_or_one_string() {
    let expected = ["-m", "1", "-name", "a b", "", "-S", "it's", "x"];
    for cmd in [
        r#"["-m 1", "-name 'a b' ''", "-S it\\'s x"]"#,
        r#""-m 1 -name 'a b' '' -S it\\'s x""#,
        "\"\"\"\n  -m   1\n\t-name 'a b'\n  \\\n  '' -S \\\\\nit\\\\'s x\"\"\"",
    ] {
        let project = Project::new();
        let config = format!("[qemu]\nbin = \"@BIN\"\n[vm.vm]\nssh.port = @PORT\ncmd = {cmd}\n");
        assert_eq!(words_of(&project, &config), expected, "{cmd}");
    }
}

#[test]
fn placeholders_work_in_all_places_and_with_both_delimiters() {
    let project = Project::new();
    let bin = fake_qemu();
    let (dir, name) = (bin.parent().unwrap(), bin.file_name().unwrap());
    let config = r#"
[qemu]
bin = "{{.tools.dir}}/<<.tools.name>>"
img = "<<.tools.dir>>/qemu-img"
[vars]
number = 0x10
float = 1.50
yes = true
text = "a b"
nested = "{{.number}}-<< .foo.bar >>-{{ .foo.deep.er	}}"
[vars.tools]
dir = "@DIR"
name = "@NAME"
[vars.foo]
bar = "{{.text}}"
deep.er = "x"
[vm.vm]
cmd = [
    "-number {{.number}} -float <<.float>> -yes={{.yes}}",
    "-split {{.text}} -quoted '{{.text}}' -double \"{{.text}}\"x",
    "'{{.nested}}' {{.vm.own}} <<.vm.table.x>>",
    "{{.vm.name}} {{.vm.dir}} {{.vm.ssh.port}} {{.vm.ssh.vm_port}}",
    "'{{.env.QQ_TEST}}' {{.config_dir}}",
]
[vm.vm.vars]
own = "own-{{.vm.name}}-{{.number}}"
table = { x = "<<.vm.own>>" }
[vm.vm.ssh]
port = @PORT
vm_port = 2200
"#
    .replace("@DIR", &dir.to_string_lossy())
    .replace("@NAME", &name.to_string_lossy());
    let words = words_of(&project, &config);
    let root = project.path("").to_string_lossy().into_owned();
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let port = text.split("port = ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(
        words,
        [
            "-number",
            "0x10",
            "-float",
            "1.50",
            "-yes=true",
            "-split",
            "a",
            "b",
            "-quoted",
            "a b",
            "-double",
            "a bx",
            "0x10-a b-x",
            "own-vm-0x10",
            "own-vm-0x10",
            "vm",
            &format!("{root}/.qqmgr/vm.vm"),
            port,
            "2200",
            "from outside",
            &root,
        ]
    );
}

#[test]
fn a_value_may_hold_many_arguments() {
    let project = Project::new();
    let words = words_of(
        &project,
        r#"
[qemu]
bin = "@BIN"
[vars]
base = "-machine q35 -name 'a b'"
none = ""
image = "/a b/it's,1.img"
[vm.vm]
cmd = ["{{.base}}", "{{.none}} '{{.none}}'", "-drive file='{{.image}}',if=virtio"]
ssh.port = @PORT
"#,
    );
    assert_eq!(
        words,
        ["-machine", "q35", "-name", "a b", "", "-drive", "file=/a b/it's,1.img,if=virtio"]
    );
}

/// What is put in is never read again: neither as a placeholder nor, inside quotes, as quotes.
#[test]
fn values_are_not_read_again() {
    let project = Project::new();
    let config = r#"
[qemu]
bin = "@BIN"
[vm.vm]
cmd = "'{{.env.QQ_BRACES}}' {{.env.QQ_BRACES}}"
ssh.port = @PORT
"#
    .replace("@BIN", &fake_qemu().to_string_lossy())
    .replace("@PORT", &free_port().to_string());
    project.config(&config);
    let run = project.qqmgr(&["start", "vm"]).env("QQ_BRACES", "{{.vm.name}} <<.no>>");
    run.run().stdout(STARTED).success();
    let words = given(&project, "vm").0.split_off(1);
    assert_eq!(words, ["{{.vm.name}} <<.no>>", "{{.vm.name}}", "<<.no>>"]);
}

#[test]
fn what_the_user_sets_wins_over_what_is_built_in() {
    let project = Project::new();
    let words = words_of(
        &project,
        r#"
[qemu]
bin = "@BIN"
[vars]
config_dir = "mine"
[vars.env]
QQ_TEST = "set"
QQ_NOT_SET = "default"
[vm.vm]
cmd = [
    "{{.config_dir}} {{.env.QQ_TEST}} {{.env.QQ_NOT_SET}}",
    "{{.vm.name}} {{.vm.dir}} {{.vm.ssh.port}} {{.vm.ssh.vm_port}}",
]
[vm.vm.vars]
name = "other"
dir = "elsewhere"
ssh.port = "none"
[vm.vm.ssh]
port = @PORT
"#,
    );
    assert_eq!(words, ["mine", "set", "default", "other", "elsewhere", "none", "22"]);
}

/// The variables of one VM are not those of another.
#[test]
fn each_vm_has_its_own_variables() {
    let project = Project::new();
    let words = words_of(
        &project,
        r#"
[qemu]
bin = "@BIN"
[vars]
shared = "{{.vm.own}}"
[vm.other]
cmd = ""
ssh.port = 1
vars.own = "of other"
[vm.vm]
cmd = "'{{.shared}}'"
ssh.port = @PORT
vars.own = "of vm"
"#,
    );
    assert_eq!(words, ["of vm"]);
}

/// QEMU numbers it before the injected one.
#[test]
fn a_serial_port_of_the_users_own_is_allowed() {
    let project = Project::new();
    let words = words_of(
        &project,
        "[qemu]\nbin = \"@BIN\"\n[vm.vm]\ncmd = \"-serial null\"\nssh.port = @PORT\n",
    );
    assert_eq!(words, ["-serial", "null"]);
}

/// Sockets are in option lists, so they go by the short link; `-pidfile` and `file:` take any path.
#[test]
fn a_directory_with_commas_blanks_and_quotes() {
    let project = Project::new();
    let dir = "a, b'c\"d";
    let port = free_port();
    project.write(
        format!("{dir}/qqmgr.toml"),
        format!(
            "[qemu]\nbin = \"{}\"\n[vm.vm]\ncmd = \"'{{{{.vm.dir}}}}'\"\nssh.port = {port}\n",
            fake_qemu().display()
        ),
    );
    project.qqmgr(&["start", "vm"]).cwd(dir).run().stdout(STARTED).success();
    let runtime = project.path(dir).join(".qqmgr/vm.vm");
    let pid = fs::read_to_string(runtime.join("pid")).unwrap();
    let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap();
    let words: Vec<&str> = line.split_terminator('\0').skip(1).collect();
    let plain: &str = &runtime.to_string_lossy();
    let monitor = words[4].strip_prefix("unix:").and_then(|rest| rest.split_once(','));
    let short = Path::new(monitor.unwrap().0).parent().unwrap();
    assert_eq!(short.canonicalize().unwrap(), runtime);
    let short = short.display();
    assert_eq!(
        words,
        [
            plain,
            "-pidfile",
            &format!("{plain}/pid"),
            "-monitor",
            &format!("unix:{short}/monitor.socket,server,nowait"),
            "-serial",
            &format!("file:{plain}/serial"),
            "-qmp",
            &format!("unix:{short}/qmp.socket,server,nowait"),
            "-qmp",
            &format!("unix:{short}/ctl.socket,server,nowait"),
            "-qmp",
            &format!("pipe:{plain}/events"),
        ]
    );
    let stopped = "vm powered off in [SECONDS] s\n";
    project.qqmgr(&["stop", "vm"]).cwd(dir).run().stdout(stopped).success();
}

// --- what ssh is given

#[test]
fn ssh_options_are_merged_and_the_vms_win() {
    let project = Project::new();
    let config = format!(
        r#"
[qemu]
bin = "{}"
[vars]
user = "dev"
[ssh]
User = "nobody"
IdentityFile = "~/.ssh/global"
ForwardAgent = true
Compression = false
ConnectTimeout = 0x10
UserKnownHostsFile = "/dev/null"
ProxyCommand = "nc 'a b' %h %p"
[vm.vm]
cmd = ""
[vm.vm.ssh]
port = @PORT
user = "{{{{.user}}}}-<<.vm.name>>"
IdentityFile = ["{{{{.config_dir}}}}/a key", "/b"]
SendEnv = ["LANG LC_*", "TERM"]
LogLevel = "INFO"
ControlPath = "mux"
"#,
        fake_qemu().display()
    );
    words_of(&project, &config);
    let expected = "\
# Written by qqmgr for the VM vm; changes are lost.
Host vm
    Port [PORT]
    HostName 127.0.0.1
    HostKeyAlias vm
    IdentitiesOnly yes
    user dev-vm
    IdentityFile \"[ROOT]/a key\"
    IdentityFile /b
    ForwardAgent yes
    Compression no
    ConnectTimeout 0x10
    UserKnownHostsFile /dev/null
    ProxyCommand nc 'a b' %h %p
    SendEnv LANG LC_*
    SendEnv TERM
    LogLevel INFO
    ControlPath [ROOT]/.qqmgr/vm.vm/mux
";
    project.sh("cat .qqmgr/vm.vm/ssh.conf").run().stdout(expected).success();
}

/// Blanks, quotes, backslashes and `#` arrive at ssh as they were written.
#[test]
fn ssh_reads_the_values_as_they_were_written() {
    let project = Project::new();
    let config = format!(
        r#"
[qemu]
bin = "{}"
[ssh]
User = 'a "b" c\d'
IdentityFile = ["/a b/key", "/it's #1"]
ForwardAgent = true
ConnectTimeout = 7
SendEnv = ["LANG LC_*", "TERM"]
[vm.vm]
cmd = ""
ssh = {{ port = @PORT, forwardagent = false }}
"#,
        fake_qemu().display()
    );
    words_of(&project, &config);
    let Some(options) = read_by_ssh(&project, "vm") else { return };
    for option in [
        "user a \"b\" c\\d",
        "identityfile /a b/key",
        "identityfile /it's #1",
        "forwardagent no",
        "connecttimeout 7",
        "sendenv LANG",
        "sendenv LC_*",
        "sendenv TERM",
    ] {
        assert!(options.iter().any(|line| line == option), "no {option} in {options:?}");
    }
}
