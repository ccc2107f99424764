//! VMs that are much alike: what one takes over from another, its own QEMU, a port that is chosen
//! at start.

use std::fmt::Write as _;

use crate::config_errors::refused;
use crate::config_files::{given, words_of};
use crate::harness::{Project, fake_qemu};

const LIST: &[&str] = &["list"];

// --- a port that is chosen at start

#[test]
fn a_port_to_be_chosen_is_shown_as_that() {
    let project = Project::new();
    project.config("[vm.vm]\ncmd = \"-S\"\nssh.port = \"auto\"\n[vm.b]\nssh.port = 1\n");
    let listed = "\
NAME  STATE              PID  SSH PORT
vm    stopped              -      auto
b     stopped              -         1
";
    project.qqmgr(&["list"]).run().stdout(listed).success();
    let json = "[
  {
...
    \"ssh\": {
      \"port\": null
    },
...
    \"ssh\": {
      \"port\": 1
    },
...
";
    project.qqmgr(&["list", "--json"]).run().stdout(json).success();
    let status = "...\nssh port:   auto\n...\n";
    project.qqmgr(&["status", "vm"]).run().stdout(status).success();
    let json = "{
...
  \"ssh\": {
    \"port\": null,
    \"vm_port\": 22,
...
";
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(json).success();
}

// --- extends

const FAMILY: &str = r#"
[qemu]
bin = "@BIN"

[ssh]
User = "root"
Compression = true

# Below the one that extends it: the order does not matter.
[vm.vm]
extends = "middle"
cmd_append = ["-last '{{.vm.memory}}'", "-it {{.vm.images.new}}"]
vars.memory = 2
vars.images.new = "n"
ssh = { port = @PORT, user = "{{.vm.name}}", SendEnv = [] }

[vm.middle]
extends = "oldest"
cmd_append = "-disk {{.vm.images.dir}}/{{.vm.images.base}}"
vars.images.base = "m-<<.vm.own>>"
vars.own = "of {{.vm.name}}"

[vm.oldest]
cmd = ["-m {{.vm.memory}}", "-name {{.vm.name}}"]
[vm.oldest.vars]
memory = 1
images = { dir = "d", base = "b" }
[vm.oldest.ssh]
port = 1
vm_port = 2200
SendEnv = "LANG"
IdentityFile = "{{.vm.images.base}}"
"#;

#[test]
fn a_vm_takes_over_what_it_does_not_say_itself() {
    let project = Project::new();
    let words = words_of(&project, FAMILY);
    assert_eq!(
        words,
        ["-m", "2", "-name", "vm", "-disk", "d/m-of", "vm", "-last", "2", "-it", "n"]
    );
    let conf = "\
# Written by qqmgr for the VM vm; changes are lost.
Host vm
    Port [PORT]
    HostName 127.0.0.1
    HostKeyAlias vm
    ConnectTimeout 30
    IdentitiesOnly yes
    UserKnownHostsFile [ROOT]/.qqmgr/vm.vm/known_hosts
    StrictHostKeyChecking accept-new
    user vm
    Compression yes
    IdentityFile \"[ROOT]/m-of vm\"
";
    project.sh("cat .qqmgr/vm.vm/ssh.conf").run().stdout(conf).success();
    let ports = "{\n...\n    \"vm_port\": 2200,\n...\n";
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(ports).success();
    let listed = "\
NAME[..]
vm      running [..]
middle  stopped              -         1
oldest  stopped              -         1
";
    project.qqmgr(LIST).run().stdout(listed).success();
}

#[test]
fn a_cmd_of_its_own_replaces_all_that_it_would_take_over() {
    let project = Project::new();
    let config = FAMILY.replace("extends = \"middle\"", "extends = \"middle\"\ncmd = '-own'");
    assert_eq!(words_of(&project, &config), ["-own", "-last", "2", "-it", "n"]);
}

#[test]
fn cmd_append_needs_nobody_to_extend() {
    for (cmd, expected) in [
        ("cmd = \"-a 'b c'\"\ncmd_append = \"-d\"", &["-a", "b c", "-d"][..]),
        ("cmd = []\ncmd_append = [\"-d\", \"-e f\"]", &["-d", "-e", "f"]),
        ("cmd_append = \"-d\"", &["-d"]),
    ] {
        let project = Project::new();
        let config = format!("[qemu]\nbin = \"@BIN\"\n[vm.vm]\n{cmd}\nssh.port = @PORT\n");
        assert_eq!(words_of(&project, &config), expected, "{cmd}");
    }
}

/// A string for a table and the other way round: what the own table says counts alone.
#[test]
fn a_variable_of_another_kind_replaces_the_whole() {
    let project = Project::new();
    let config = r#"
[qemu]
bin = "@BIN"
[vm.base]
cmd = "{{.vm.a}} {{.vm.b.c}}"
vars = { a = { x = 1 }, b = "s" }
ssh.port = 1
[vm.vm]
extends = "base"
vars = { a = "string", b.c = "table" }
ssh.port = @PORT
"#;
    assert_eq!(words_of(&project, config), ["string", "table"]);
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    project.config(
        &config
            .replace("{{.vm.a}} {{.vm.b.c}}", "{{.vm.a.x}}")
            .replace("@PORT", "2")
            .replace("@BIN", "x"),
    );
    let stderr = "\
qqmgr: error: there is no variable `vm.a.x`, did you mean `vm.a`?
 --> qqmgr.toml:5:8
  |
5 | cmd = \"{{.vm.a.x}}\"
  |        ^^^^^^^^^^^
";
    project.qqmgr(&["start", "vm"]).run().stderr(stderr).code(5);
}

/// An error shows where the string is, whoever uses it; and with whose variables it is wrong.
#[test]
fn an_error_in_what_is_taken_over_has_its_place() {
    refused(
        "[vm.base]\ncmd = \"-m {{.vm.memory}}\"\nssh.port = 1\n\
         [vm.vm]\nextends = \"base\"\nvars.memroy = 1\ncmd_append = \"it's\"\n",
        &["start", "vm"],
        "\
qqmgr: error: there is no variable `vm.memory`, did you mean `vm.memroy`?
 --> qqmgr.toml:2:11
  |
2 | cmd = \"-m {{.vm.memory}}\"
  |           ^^^^^^^^^^^^^^
qqmgr: error: unclosed single quote
 --> qqmgr.toml:7:17
  |
7 | cmd_append = \"it's\"
  |                 ^^
",
    );
}

#[test]
fn many_vms_in_a_row_extend_each_other() {
    let project = Project::new();
    let mut config = String::from("[vm.v0]\ncmd = \"{{.no}}\"\nssh.port = 7\n");
    for number in 1..2000 {
        let _ =
            writeln!(config, "[vm.v{number}]\nextends = \"v{}\"\nvars.v{number} = 1", number - 1);
    }
    project.config(&config);
    let listed = "...\nv1999  stopped              -         7\n";
    project.qqmgr(LIST).run().stdout(listed).success();
    let stderr = "qqmgr: error: there is no variable `no`\n...\n";
    project.qqmgr(&["start", "v1999"]).run().stderr(stderr).code(5);
}

#[test]
fn an_unknown_vm_to_extend() {
    let base = "[vm.base]\ncmd = \"\"\nssh.port = 1\n[vm.vm]\n";
    refused(
        format!("{base}extends = \"bsae\"\n"),
        &["status", "vm"],
        "\
qqmgr: error: there is no VM `bsae` to extend, did you mean `base`?
 --> qqmgr.toml:5:11
  |
5 | extends = \"bsae\"
  |           ^^^^^^
",
    );
    // Not even itself is near.
    refused(
        format!("{base}extends = \"vn\"\n"),
        &["status", "vm"],
        "\
qqmgr: error: there is no VM `vn` to extend
 --> qqmgr.toml:5:11
  |
5 | extends = \"vn\"
  |           ^^^^
qqmgr: hint: `extends` has the NAME of another `[vm.NAME]`
",
    );
}

#[test]
fn vms_that_extend_each_other_in_a_ring() {
    refused(
        "[vm.vm]\nextends = \"vm\"\n",
        &["status", "vm"],
        "\
qqmgr: error: VMs extend each other in a ring: `vm` -> `vm`
 --> qqmgr.toml:2:11
  |
2 | extends = \"vm\"
  |           ^^^^
",
    );
    // The first leads into the ring and is not of it; another ring is told as well.
    let project = Project::new();
    project.config(
        "[vm.in]\nextends = \"a\"\n[vm.c]\nextends = \"a\"\n[vm.a]\nextends = \"b\"\n\
         [vm.b]\nextends = \"c\"\nssh.port = 1\n[vm.fine]\nssh.port = 1\n\
         [vm.d]\nextends = \"e\"\n[vm.e]\nextends = \"d\"\n[vm.too]\nextends = \"fine\"\n",
    );
    let told = project.qqmgr(LIST).run().stdout("...\n").stderr(
        "\
qqmgr: error: VMs extend each other in a ring: `a` -> `b` -> `c` -> `a`
 --> qqmgr.toml:4:11
  |
4 | extends = \"a\"
  |           ^^^
qqmgr: error: VMs extend each other in a ring: `d` -> `e` -> `d`
  --> qqmgr.toml:15:11
   |
15 | extends = \"d\"
   |           ^^^
",
    );
    told.code(5);
}

/// What is wrong with the one that is extended is told once.
#[test]
fn errors_of_the_one_that_is_extended() {
    refused(
        "[vm.base]\ncmd = \"\"\n[vm.a]\nextends = \"base\"\n[vm.b]\nextends = \"a\"\nssh.vm_port = 1\n\
         [vm]\nc.extends = \"d\"\nd = 1\n",
        LIST,
        "\
qqmgr: error: `[vm.base]` has no ssh port
 --> qqmgr.toml:1:5
  |
1 | [vm.base]
  |     ^^^^
qqmgr: hint: add `[vm.base.ssh]` with `port = 2222`, or another free port
qqmgr: error: `[vm.d]` is an integer, and must be a table
  --> qqmgr.toml:10:5
   |
10 | d = 1
   |     ^
",
    );
}

#[test]
fn keys_of_the_wrong_type() {
    for (key, value, stderr) in [
        ("extends", "[\"base\"]", "`extends` is an array, and must be a string"),
        ("qemu", "{ bin = 1 }", "`qemu` is a table, and must be a string"),
        (
            "cmd_append",
            "1",
            "`cmd_append` is an integer, and must be a string or an array of strings",
        ),
    ] {
        let column = key.len() + 4;
        let carets = "^".repeat(value.len());
        refused(
            format!("[vm.vm]\n{key} = {value}\ncmd = \"\"\nssh.port = 1\n"),
            LIST,
            &format!(
                "\
qqmgr: error: {stderr}
 --> qqmgr.toml:2:{column}
  |
2 | {key} = {value}
  | {}{carets}
",
                " ".repeat(column - 1)
            ),
        );
    }
    refused(
        "[vm.vm]\ncmd_append = [\"-m\", 1]\nssh.port = 1\n",
        LIST,
        "\
qqmgr: error: an element of `cmd_append` is an integer, and must be a string
 --> qqmgr.toml:2:21
  |
2 | cmd_append = [\"-m\", 1]
  |                     ^
",
    );
}

// --- a QEMU of its own

#[test]
fn a_vm_may_have_its_own_qemu() {
    for (own, more) in [
        ("qemu = \"{{.vm.tools}}/fake-qemu\"\nvars.tools = \"@DIR\"", ""),
        ("extends = \"base\"", "[vm.base]\nqemu = \"@BIN\"\nssh.port = 1\n"),
    ] {
        let project = Project::new();
        let bin = fake_qemu();
        let dir = bin.parent().unwrap().to_string_lossy().into_owned();
        // That of all is not used, so that nothing can be wrong with it.
        let config = format!(
            "[qemu]\nbin = \"{{{{.vm.arch}}}}\"\n[vm.vm]\ncmd = \"-S\"\nssh.port = @PORT\n{own}\n{more}"
        );
        words_of(&project, &config.replace("@DIR", &dir));
        assert_eq!(given(&project, "vm").0, [&*bin.to_string_lossy(), "-S"]);
    }
}

#[test]
fn an_error_in_a_qemu_of_its_own() {
    refused(
        "[vm.vm]\ncmd = \"\"\nqemu = \"{{.vm.no}}\"\nssh.port = 1\n",
        &["start", "vm"],
        "\
qqmgr: error: there is no variable `vm.no`
 --> qqmgr.toml:3:9
  |
3 | qemu = \"{{.vm.no}}\"
  |         ^^^^^^^^^^
qqmgr: hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`
",
    );
}
