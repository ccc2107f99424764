//! Configurations that are refused: the whole message, carets included, exit code 5, and nothing
//! created.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{Project, fake_qemu, free_port};

const LIST: &[&str] = &["list"];
const START: &[&str] = &["start", "vm"];

/// The command refuses this `qqmgr.toml` in these words, and creates nothing.
#[track_caller]
pub(crate) fn refused(config: impl AsRef<[u8]>, command: &[&str], stderr: &str) {
    let project = Project::new();
    project.write("qqmgr.toml", config);
    project.qqmgr(command).run().stderr(stderr).code(5);
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

/// As [`refused`] for each `VALUE` in place of `@`, with what is said about it.
#[track_caller]
fn refused_values(template: &str, cases: &[(&str, &str)]) {
    for (value, stderr) in cases {
        refused(template.replace('@', value), LIST, stderr);
    }
}

// --- finding and reading

#[test]
fn without_a_configuration_every_place_is_named() {
    let project = Project::new();
    let hint = "qqmgr: hint: `qqmgr init` writes a first one; one elsewhere is named with \
                `-c FILE`\n";
    for (xdg, home, places) in [
        (None, Some("[ROOT]/home"), " and no `[ROOT]/home/.config/qqmgr/conf.toml`"),
        (Some("/no/xdg"), Some("[ROOT]/home"), " and no `/no/xdg/qqmgr/conf.toml`"),
        // The XDG specification: what is not absolute is to be ignored.
        (Some("xdg"), Some("[ROOT]/home"), " and no `[ROOT]/home/.config/qqmgr/conf.toml`"),
        (Some(""), Some("/no/home"), " and no `/no/home/.config/qqmgr/conf.toml`"),
        (None, Some(""), ", and neither XDG_CONFIG_HOME nor HOME is set"),
        (None, None, ", and neither XDG_CONFIG_HOME nor HOME is set"),
    ] {
        let script = if home.is_some() { "" } else { "unset HOME\n" };
        let mut run = project.sh(&format!("{script}\"$QQMGR\" list"));
        if let Some(xdg) = xdg {
            run = run.env("XDG_CONFIG_HOME", xdg);
        }
        if let Some(home) = home {
            run = run.env("HOME", home.replace("[ROOT]", &project.path("").to_string_lossy()));
        }
        run.run()
            .stderr(format!(
                "qqmgr: error: found no configuration: no `qqmgr.toml` in `[ROOT]` or above it{places}\n{hint}"
            ))
            .code(5);
    }
    assert_eq!(project.files(""), ["home"]);
}

#[test]
fn without_a_configuration_as_json() {
    let project = Project::new();
    let message = "found no configuration: no `qqmgr.toml` in `[ROOT]` or above it and no \
                   `[ROOT]/home/.config/qqmgr/conf.toml`";
    let hint = "`qqmgr init` writes a first one; one elsewhere is named with `-c FILE`";
    project
        .qqmgr(&["start", "vm", "--json"])
        .run()
        .stdout(format!(
            r#"{{
  "error": {{
    "kind": "config",
    "message": "{message}",
    "hint": "{hint}"
  }}
}}
"#
        ))
        .stderr(format!("qqmgr: error: {message}\nqqmgr: hint: {hint}\n"))
        .code(5);
    assert_eq!(project.files(""), ["home"]);
}

/// Passing over it to the next place would silently mean other VMs.
#[test]
fn an_unreadable_configuration_is_not_passed_over() {
    let other = "[vm.other]\ncmd = \"\"\nssh.port = 2222\n";
    let refuse = |project: &Project, reason: &str| {
        project.write("home/.config/qqmgr/conf.toml", other);
        for arguments in [&["list"][..], &["-c", "qqmgr.toml", "list"]] {
            project
                .qqmgr(arguments)
                .run()
                .stderr(format!("qqmgr: error: cannot read `[ROOT]/qqmgr.toml`: {reason}\n"))
                .code(5);
        }
    };
    let project = Project::new();
    fs::create_dir(project.path("qqmgr.toml")).unwrap();
    refuse(&project, "is a directory");

    let project = Project::new();
    symlink("nowhere", project.path("qqmgr.toml")).unwrap();
    refuse(&project, "no such file or directory");

    let project = Project::new();
    symlink("qqmgr.toml", project.path("qqmgr.toml")).unwrap();
    refuse(&project, "too many levels of symbolic links");
}

#[test]
fn a_named_configuration_that_cannot_be_read() {
    let project = Project::new();
    project.config("");
    for (file, stderr) in [
        ("no.toml", "cannot read `[..]no.toml`: no such file or directory"),
        ("no/no.toml", "cannot read `[..]no/no.toml`: no such file or directory"),
        ("home", "cannot read `[..]home`: is a directory"),
        ("qqmgr.toml/x", "cannot read `[..]qqmgr.toml/x`: not a directory"),
        ("..", "`..` is not a file"),
        ("/", "`/` is not a file"),
    ] {
        let stderr = format!("qqmgr: error: {stderr}\n");
        project.qqmgr(&["-c", file, "list"]).run().stderr(stderr).code(5);
    }
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

#[test]
fn invalid_utf_8() {
    refused(
        b"# in a comment \xff\n",
        LIST,
        "\
qqmgr: error: invalid UTF-8
 --> qqmgr.toml:1:16
  |
1 | # in a comment \u{fffd}
  |                ^
",
    );
    refused(
        b"[vm.vm]\ncmd = \"\xc3\xa9\xc3\"\n",
        LIST,
        "\
qqmgr: error: invalid UTF-8
 --> qqmgr.toml:2:9
  |
2 | cmd = \"é\u{fffd}\"
  |         ^
",
    );
}

#[test]
fn ten_megabytes() {
    refused(
        "# a comment\n".repeat(900_000),
        LIST,
        "qqmgr: error: `qqmgr.toml` is larger than 4 MiB\n\
         qqmgr: hint: is it the right file? a configuration of 1,000 VMs takes less than 1 MiB\n",
    );
}

#[test]
fn a_line_of_megabytes_is_shown_in_part() {
    let stderr = format!(
        "\
qqmgr: error: expected `=` after the key `{}...`
 --> qqmgr.toml:1:3000001
  |
1 | ...{}
  |    {}^
",
        "x".repeat(60),
        "x".repeat(50),
        " ".repeat(50),
    );
    refused("x".repeat(3_000_000), LIST, &stderr);
}

// --- TOML

#[test]
fn syntax_errors() {
    for (config, stderr) in [
        (
            "[vm.vm]\ncmd =\n",
            "\
qqmgr: error: expected a value
 --> qqmgr.toml:2:6
  |
2 | cmd =
  |      ^
",
        ),
        (
            "[vm.vm\n",
            "\
qqmgr: error: expected `]` after the name in a header
 --> qqmgr.toml:1:7
  |
1 | [vm.vm
  |       ^
",
        ),
        (
            "[qemu]\nbin = \"a\nimg = \"b\"\n",
            "\
qqmgr: error: unclosed string
 --> qqmgr.toml:2:7
  |
2 | bin = \"a
  |       ^^
",
        ),
        (
            "[qemu]\r\nbin = \"a\"\r\nbin = \"b\"\r\n",
            "\
qqmgr: error: key `bin` is defined twice
 --> qqmgr.toml:3:1
  |
3 | bin = \"b\"
  | ^^^
qqmgr: hint: first defined on line 2, as a string
",
        ),
        (
            "[vars]\nday = 1979-05-27\n",
            "\
qqmgr: error: date-times are not supported
 --> qqmgr.toml:2:7
  |
2 | day = 1979-05-27
  |       ^^^^^^^^^^
qqmgr: hint: write it as a string: \"1979-05-27\"
",
        ),
        (
            "[vars]\nü = \"a\x1b[31m\"\n",
            "\
qqmgr: error: `ü` (U+00FC) is not allowed in a key without quotes
 --> qqmgr.toml:2:1
  |
2 | ü = \"a\u{fffd}[31m\"
  | ^
qqmgr: hint: put quotes around the key
",
        ),
    ] {
        refused(config, LIST, stderr);
    }
}

// --- keys

#[test]
fn unknown_keys_have_a_near_name_at_every_level() {
    for (config, stderr) in [
        (
            "[vms.vm]\n",
            "\
qqmgr: error: unknown key `vms`, did you mean `vm`?
 --> qqmgr.toml:1:2
  |
1 | [vms.vm]
  |  ^^^
",
        ),
        (
            "[qemu]\nbni = \"x\"\n",
            "\
qqmgr: error: unknown key `bni`, did you mean `bin`?
 --> qqmgr.toml:2:1
  |
2 | bni = \"x\"
  | ^^^
",
        ),
        (
            "[vm.vm]\ncmd = \"\"\nssh.port = 2222\nvar.x = 1\n",
            "\
qqmgr: error: unknown key `var`, did you mean `vars`?
 --> qqmgr.toml:4:1
  |
4 | var.x = 1
  | ^^^
",
        ),
        (
            "[vm.vm]\ncmd = \"\"\n[vm.vm.ssh]\nport = 2222\nvm_prot = 22\n",
            "\
qqmgr: error: unknown key `vm_prot`, did you mean `vm_port`?
 --> qqmgr.toml:5:1
  |
5 | vm_prot = 22
  | ^^^^^^^
",
        ),
        (
            "[vm.vm]\ncmd = \"\"\nssh = { port = 2222, prot = 22 }\n",
            "\
qqmgr: error: unknown key `prot`, did you mean `port`?
 --> qqmgr.toml:3:22
  |
3 | ssh = { port = 2222, prot = 22 }
  |                      ^^^^
",
        ),
    ] {
        refused(config, LIST, stderr);
    }
}

#[test]
fn unknown_keys_that_are_near_nothing_show_what_there_is() {
    for (config, stderr) in [
        (
            "port = 1\n",
            "\
qqmgr: error: unknown key `port`
 --> qqmgr.toml:1:1
  |
1 | port = 1
  | ^^^^
qqmgr: hint: the keys at the top level are `qemu`, `vars`, `ssh`, `img`, `vm`
",
        ),
        (
            "[qemu]\narguments = \"x\"\n",
            "\
qqmgr: error: unknown key `arguments`
 --> qqmgr.toml:2:1
  |
2 | arguments = \"x\"
  | ^^^^^^^^^
qqmgr: hint: the keys in `[qemu]` are `bin`, `img`
",
        ),
        (
            "[vm.vm]\ncmd = \"\"\nssh.port = 2222\nmemory = 1\n",
            "\
qqmgr: error: unknown key `memory`
 --> qqmgr.toml:4:1
  |
4 | memory = 1
  | ^^^^^^
qqmgr: hint: the keys in `[vm.vm]` are `extends`, `qemu`, `cmd`, `cmd_append`, \
`console`, `gdb`, `boots`, `vars`, `ssh`
",
        ),
    ] {
        refused(config, LIST, stderr);
    }
}

// --- types

#[test]
fn tables_that_are_none() {
    for (config, stderr) in [
        (
            "qemu = \"x\"\n",
            "\
qqmgr: error: `[qemu]` is a string, and must be a table
 --> qqmgr.toml:1:8
  |
1 | qemu = \"x\"
  |        ^^^
",
        ),
        (
            "vars = []\n",
            "\
qqmgr: error: `[vars]` is an array, and must be a table
 --> qqmgr.toml:1:8
  |
1 | vars = []
  |        ^^
",
        ),
        (
            "ssh = true\n",
            "\
qqmgr: error: `[ssh]` is a boolean, and must be a table
 --> qqmgr.toml:1:7
  |
1 | ssh = true
  |       ^^^^
",
        ),
        (
            "vm = 1.5\n",
            "\
qqmgr: error: `[vm]` is a float, and must be a table
 --> qqmgr.toml:1:6
  |
1 | vm = 1.5
  |      ^^^
",
        ),
        (
            "[vm]\nvm = 1\n",
            "\
qqmgr: error: `[vm.vm]` is an integer, and must be a table
 --> qqmgr.toml:2:6
  |
2 | vm = 1
  |      ^
",
        ),
        (
            "[[vm.vm]]\ncmd = \"\"\n",
            "\
qqmgr: error: `[vm.vm]` is an array, and must be a table
 --> qqmgr.toml:1:3
  |
1 | [[vm.vm]]
  |   ^^^^^
",
        ),
        (
            "[vm.vm]\ncmd = \"\"\nssh.port = 2222\nvars = \"x\"\n",
            "\
qqmgr: error: `[vm.vm.vars]` is a string, and must be a table
 --> qqmgr.toml:4:8
  |
4 | vars = \"x\"
  |        ^^^
",
        ),
        (
            "[vm.vm]\ncmd = \"\"\nssh = 2222\n",
            "\
qqmgr: error: `[vm.vm.ssh]` is an integer, and must be a table
 --> qqmgr.toml:3:7
  |
3 | ssh = 2222
  |       ^^^^
",
        ),
    ] {
        refused(config, LIST, stderr);
    }
}

#[test]
fn qemu_programs_that_are_no_strings() {
    for name in ["bin", "img"] {
        let stderr = format!(
            "\
qqmgr: error: `{name}` is an integer, and must be a string
 --> qqmgr.toml:2:7
  |
2 | {name} = 1
  |       ^
"
        );
        refused(format!("[qemu]\n{name} = 1\n"), LIST, &stderr);
    }
}

#[test]
fn a_command_that_is_missing_or_no_command() {
    refused(
        "[vm.vm]\nssh.port = 2222\n",
        START,
        "\
qqmgr: error: VM `vm` has no `cmd`
 --> qqmgr.toml:1:5
  |
1 | [vm.vm]
  |     ^^
qqmgr: hint: `cmd` has QEMU's arguments: a list of strings, or one string
",
    );
    refused_values(
        "[vm.vm]\ncmd = @\nssh.port = 2222\n",
        &[
            (
                "1",
                "\
qqmgr: error: `cmd` is an integer, and must be a string or an array of strings
 --> qqmgr.toml:2:7
  |
2 | cmd = 1
  |       ^
",
            ),
            (
                "{ m = 1 }",
                "\
qqmgr: error: `cmd` is a table, and must be a string or an array of strings
 --> qqmgr.toml:2:7
  |
2 | cmd = { m = 1 }
  |       ^^^^^^^^^
",
            ),
            (
                "[\"-m\", 1]",
                "\
qqmgr: error: an element of `cmd` is an integer, and must be a string
 --> qqmgr.toml:2:14
  |
2 | cmd = [\"-m\", 1]
  |              ^
",
            ),
            (
                "[[\"-m\"]]",
                "\
qqmgr: error: an element of `cmd` is an array, and must be a string
 --> qqmgr.toml:2:8
  |
2 | cmd = [[\"-m\"]]
  |        ^^^^^^
",
            ),
        ],
    );
}

// --- ports

#[test]
fn ports_that_are_none() {
    refused_values(
        "[vm.vm]\ncmd = \"\"\nssh.port = @\n",
        &[
            (
                "0",
                "\
qqmgr: error: `port` is 0, and a port is 1 to 65535
 --> qqmgr.toml:3:12
  |
3 | ssh.port = 0
  |            ^
",
            ),
            (
                "70000",
                "\
qqmgr: error: `port` is 70000, and a port is 1 to 65535
 --> qqmgr.toml:3:12
  |
3 | ssh.port = 70000
  |            ^^^^^
",
            ),
            (
                "-1",
                "\
qqmgr: error: `port` is -1, and a port is 1 to 65535
 --> qqmgr.toml:3:12
  |
3 | ssh.port = -1
  |            ^^
",
            ),
            (
                "\"22\"",
                "\
qqmgr: error: `port` is a string, and must be an integer
 --> qqmgr.toml:3:12
  |
3 | ssh.port = \"22\"
  |            ^^^^
qqmgr: hint: a number has no quotes; `port = \"auto\"` takes a free one
",
            ),
            (
                "22.0",
                "\
qqmgr: error: `port` is a float, and must be an integer or \"auto\"
 --> qqmgr.toml:3:12
  |
3 | ssh.port = 22.0
  |            ^^^^
",
            ),
            (
                "\"Auto\"",
                "\
qqmgr: error: `port` is a string, and must be an integer
 --> qqmgr.toml:3:12
  |
3 | ssh.port = \"Auto\"
  |            ^^^^^^
qqmgr: hint: a number has no quotes; `port = \"auto\"` takes a free one
",
            ),
            (
                "2222\nssh.vm_port = \"auto\"",
                "\
qqmgr: error: `vm_port` is a string, and must be an integer
 --> qqmgr.toml:4:15
  |
4 | ssh.vm_port = \"auto\"
  |               ^^^^^^
",
            ),
            (
                "2222\nssh.vm_port = 65536",
                "\
qqmgr: error: `vm_port` is 65536, and a port is 1 to 65535
 --> qqmgr.toml:4:15
  |
4 | ssh.vm_port = 65536
  |               ^^^^^
",
            ),
            (
                "2222\nssh.vm_port = \"ssh\"",
                "\
qqmgr: error: `vm_port` is a string, and must be an integer
 --> qqmgr.toml:4:15
  |
4 | ssh.vm_port = \"ssh\"
  |               ^^^^^
",
            ),
        ],
    );
}

#[test]
fn the_smallest_and_the_largest_port_are_fine() {
    let project = Project::new();
    project.config("[vm.a]\ncmd = \"\"\nssh.port = 1\n[vm.b]\ncmd = \"\"\nssh.port = 65535\n");
    let stdout = "\
NAME  STATE              PID  SSH PORT
a     stopped              -         1
b     stopped              -     65535
";
    project.qqmgr(LIST).run().stdout(stdout).success();
}

#[test]
fn ssh_without_a_port() {
    refused(
        "[vm.vm]\ncmd = \"\"\n\n[vm.vm.ssh]\nvm_port = 22\n",
        LIST,
        "\
qqmgr: error: `[vm.vm.ssh]` has no `port`
 --> qqmgr.toml:4:2
  |
4 | [vm.vm.ssh]
  |  ^^^^^^^^^
qqmgr: hint: the port on this host that leads to the guest's ssh
",
    );
}

#[test]
fn a_vm_without_ssh() {
    refused(
        "[vm.vm]\ncmd = \"\"\n",
        LIST,
        "\
qqmgr: error: `[vm.vm]` has no ssh port
 --> qqmgr.toml:1:5
  |
1 | [vm.vm]
  |     ^^
qqmgr: hint: add `[vm.vm.ssh]` with `port = 2222`, or another free port
",
    );
}

// --- names

/// Names become paths, and `Host` of an ssh configuration.
#[test]
fn names_that_no_vm_can_have() {
    for name in
        ["../../etc", "..", ".", ".hidden", "-vm", "_vm", "a b", "a/b", "", "é", "a*", "a,b"]
    {
        let carets = "^".repeat(name.chars().count() + 2);
        refused(
            format!("[vm.\"{name}\"]\ncmd = \"\"\nssh.port = 2222\n"),
            LIST,
            &format!(
                "\
qqmgr: error: `{name}` cannot be the name of a VM
 --> qqmgr.toml:1:5
  |
1 | [vm.\"{name}\"]
  |     {carets}
qqmgr: hint: up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first
"
            ),
        );
    }
}

/// Nothing of it reaches the terminal as it is.
#[test]
fn a_name_with_control_characters_is_shown_escaped() {
    refused(
        "[vm.\"a\\n\\u001b[31m\"]\ncmd = \"\"\nssh.port = 2222\n",
        LIST,
        "\
qqmgr: error: `a\\n\\u{1b}[31m` cannot be the name of a VM
 --> qqmgr.toml:1:5
  |
1 | [vm.\"a\\n\\u001b[31m\"]
  |     ^^^^^^^^^^^^^^^
qqmgr: hint: up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first
",
    );
}

#[test]
fn a_name_that_is_too_long() {
    let vm = |length| format!("[vm.{}]\ncmd = \"\"\nssh.port = 2222\n", "x".repeat(length));
    let stderr = format!(
        "\
qqmgr: error: `{}` cannot be the name of a VM
 --> qqmgr.toml:1:5
  |
1 | [vm.{}]
  |     {}
qqmgr: hint: up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first
",
        "x".repeat(65),
        "x".repeat(65),
        "^".repeat(50),
    );
    refused(vm(65), LIST, &stderr);
    let project = Project::new();
    project.config(&vm(64));
    project.qqmgr(LIST).run().stdout("NAME[..]\nx[..]\n").success();
}

#[test]
fn unknown_vms() {
    let three: String = ["one", "two", "three"]
        .map(|name| format!("[vm.{name}]\ncmd = \"\"\nssh.port = 1\n"))
        .concat();
    let mut many = String::new();
    for number in 0..9 {
        let _ = writeln!(many, "[vm.v{number}]\ncmd = \"\"\nssh.port = 1");
    }
    for (config, name, stderr) in [
        (
            "",
            "vm",
            "qqmgr: error: there is no VM `vm` in `qqmgr.toml`\n\
             qqmgr: hint: it has no `[vm.NAME]` at all\n",
        ),
        (
            &three,
            "tow",
            "qqmgr: error: there is no VM `tow` in `qqmgr.toml`, did you mean `two`?\n",
        ),
        (
            &three,
            "../one",
            "qqmgr: error: there is no VM `../one` in `qqmgr.toml`\n\
             qqmgr: hint: it has `one`, `two`, `three`\n",
        ),
        (
            &many,
            "other",
            "qqmgr: error: there is no VM `other` in `qqmgr.toml`\n\
             qqmgr: hint: `qqmgr list` shows the VMs that it has\n",
        ),
    ] {
        for command in ["start", "stop", "status"] {
            refused(config, &[command, name], stderr);
        }
        let project = Project::new();
        project.config(config);
        project.qqmgr(&["ssh", name]).run().stderr(stderr).code(255);
    }
}

#[test]
fn an_unknown_vm_as_json() {
    let project = Project::new();
    project.config("[vm.one]\ncmd = \"\"\nssh.port = 1\n");
    project
        .qqmgr(&["status", "other", "--json"])
        .run()
        .stdout(
            r#"{
  "name": "other",
  "error": {
    "kind": "unknown-vm",
    "message": "there is no VM `other` in `qqmgr.toml`",
    "hint": "it has `one`"
  }
}
"#,
        )
        .stderr("qqmgr: error: there is no VM `other` in `qqmgr.toml`\nqqmgr: hint: it has `one`\n")
        .code(5);
}

// --- several at once

#[test]
fn several_errors_are_told_at_once() {
    refused(
        "prots = 1\n[qemu]\nbin = 1\n[vm.\"..\"]\ncmd = 1\nssh.port = 0\n[vm.vm]\ncmd = \"\"\n",
        LIST,
        "\
qqmgr: error: unknown key `prots`
 --> qqmgr.toml:1:1
  |
1 | prots = 1
  | ^^^^^
qqmgr: hint: the keys at the top level are `qemu`, `vars`, `ssh`, `img`, `vm`
qqmgr: error: `bin` is an integer, and must be a string
 --> qqmgr.toml:3:7
  |
3 | bin = 1
  |       ^
qqmgr: error: `..` cannot be the name of a VM
 --> qqmgr.toml:4:5
  |
4 | [vm.\"..\"]
  |     ^^^^
qqmgr: hint: up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first
qqmgr: error: `cmd` is an integer, and must be a string or an array of strings
 --> qqmgr.toml:5:7
  |
5 | cmd = 1
  |       ^
qqmgr: error: `port` is 0, and a port is 1 to 65535
 --> qqmgr.toml:6:12
  |
6 | ssh.port = 0
  |            ^
qqmgr: error: `[vm.vm]` has no ssh port
 --> qqmgr.toml:7:5
  |
7 | [vm.vm]
  |     ^^
qqmgr: hint: add `[vm.vm.ssh]` with `port = 2222`, or another free port
",
    );
}

#[test]
fn twenty_errors_are_shown_and_the_others_counted() {
    let mut config = String::new();
    for number in 1..=30 {
        let _ = writeln!(config, "key{number} = 1");
    }
    let mut stderr = String::new();
    for number in 1..=20 {
        let margin = " ".repeat(number.to_string().len());
        let _ = writeln!(
            stderr,
            "qqmgr: error: unknown key `key{number}`\n\
             {margin}--> qqmgr.toml:{number}:1\n\
             {margin} |\n\
             {number} | key{number} = 1\n\
             {margin} | ^^^{}\n\
             qqmgr: hint: the keys at the top level are `qemu`, `vars`, `ssh`, `img`, `vm`",
            "^".repeat(margin.len())
        );
    }
    stderr.push_str("qqmgr: hint: 10 more errors not shown\n");
    refused(config, LIST, &stderr);
}

#[test]
fn an_error_with_its_place_as_json() {
    let project = Project::new();
    project.config("[vm.vm]\ncmd = \"\"\nssh.port = 0\n");
    project
        .qqmgr(&["--json", "list"])
        .run()
        .stdout(
            r#"{
  "error": {
    "kind": "config",
    "message": "qqmgr.toml:3:12: `port` is 0, and a port is 1 to 65535",
    "hint": null,
    "problems": [
      {
        "file": "qqmgr.toml",
        "line": 3,
        "column": 12,
        "message": "`port` is 0, and a port is 1 to 65535",
        "hint": null
      }
    ]
  }
}
"#,
        )
        .stderr(
            "\
qqmgr: error: `port` is 0, and a port is 1 to 65535
 --> qqmgr.toml:3:12
  |
3 | ssh.port = 0
  |            ^
",
        )
        .code(5);
    assert_eq!(project.files(""), ["home", "qqmgr.toml"]);
}

#[test]
fn several_errors_as_json() {
    let project = Project::new();
    project.config("a = \"é\"\n[qemu]\nbin = 1\n");
    project
        .qqmgr(&["start", "vm", "--json"])
        .run()
        .stdout(
            r#"{
  "error": {
    "kind": "config",
    "message": "qqmgr.toml:1:1: unknown key `a`; qqmgr.toml:3:7: `bin` is an integer, and must be a string",
    "hint": "the keys at the top level are `qemu`, `vars`, `ssh`, `img`, `vm`",
    "problems": [
      {
        "file": "qqmgr.toml",
        "line": 1,
        "column": 1,
        "message": "unknown key `a`",
        "hint": "the keys at the top level are `qemu`, `vars`, `ssh`, `img`, `vm`"
      },
      {
        "file": "qqmgr.toml",
        "line": 3,
        "column": 7,
        "message": "`bin` is an integer, and must be a string",
        "hint": null
      }
    ]
  }
}
"#,
        )
        .stderr(
            "\
qqmgr: error: unknown key `a`
 --> qqmgr.toml:1:1
  |
1 | a = \"é\"
  | ^
qqmgr: hint: the keys at the top level are `qemu`, `vars`, `ssh`, `img`, `vm`
qqmgr: error: `bin` is an integer, and must be a string
 --> qqmgr.toml:3:7
  |
3 | bin = 1
  |       ^
",
        )
        .code(5);
}

/// It would shadow, or be shadowed by, what `[vm.NAME.vars]` holds.
#[test]
fn vm_among_the_global_variables() {
    refused(
        "[vars.vm]\nx = 1\n",
        LIST,
        "\
qqmgr: error: `vm` in `[vars]` is taken
 --> qqmgr.toml:1:7
  |
1 | [vars.vm]
  |       ^^
qqmgr: hint: `{{.vm.…}}` is what `[vm.NAME.vars]` holds
",
    );
}

// --- ssh options

/// A line break would be a second option: `ProxyCommand` runs a program.
#[test]
fn an_ssh_option_with_a_line_break() {
    refused(
        "[ssh]\nUser = \"dev\\nProxyCommand evil\"\n[vm.vm]\ncmd = \"\"\nssh.port = 2222\n",
        START,
        "\
qqmgr: error: an ssh option cannot contain a line break
 --> qqmgr.toml:2:8
  |
2 | User = \"dev\\nProxyCommand evil\"
  |        ^^^^^^^^^^^^^^^^^^^^^^^^
",
    );
    refused(
        "[vars]\nx = \"a\\rb\"\n[vm.vm]\ncmd = \"\"\nssh.port = 2222\nssh.SetEnv = [\"a\", \"{{.x}}\"]\n",
        START,
        "\
qqmgr: error: an ssh option cannot contain a line break
 --> qqmgr.toml:6:20
  |
6 | ssh.SetEnv = [\"a\", \"{{.x}}\"]
  |                    ^^^^^^^^
",
    );
}

#[test]
fn ssh_options_that_begin_another_block() {
    for name in ["Host", "match"] {
        refused(
            format!("[ssh]\n\"{name}\" = \"all\"\n"),
            LIST,
            &format!(
                "\
qqmgr: error: `{name}` cannot be set in `[ssh]`
 --> qqmgr.toml:2:1
  |
2 | \"{name}\" = \"all\"
  | {}
qqmgr: hint: the generated file has one `Host` block, which the options go into
",
                "^".repeat(name.len() + 2)
            ),
        );
    }
}

#[test]
fn ports_where_they_do_not_belong() {
    for name in ["Port", "port", "PORT", "vm_port"] {
        refused(
            format!("[ssh]\n{name} = 22\n"),
            LIST,
            &format!(
                "\
qqmgr: error: `{name}` does not belong in `[ssh]`
 --> qqmgr.toml:2:1
  |
2 | {name} = 22
  | {}
qqmgr: hint: the port is `port` in `[vm.NAME.ssh]`, in lower case
",
                "^".repeat(name.len())
            ),
        );
    }
    refused(
        "[vm.vm]\ncmd = \"\"\n[vm.vm.ssh]\nport = 2222\nPort = 22\n",
        LIST,
        "\
qqmgr: error: `Port` does not belong in `[vm.vm.ssh]`
 --> qqmgr.toml:5:1
  |
5 | Port = 22
  | ^^^^
qqmgr: hint: the port is `port` in `[vm.NAME.ssh]`, in lower case
",
    );
}

#[test]
fn an_ssh_option_twice_in_different_case() {
    refused(
        "[ssh]\nUser = \"a\"\nuser = \"b\"\n",
        LIST,
        "\
qqmgr: error: `user` is set twice; ssh's options have no case
 --> qqmgr.toml:3:1
  |
3 | user = \"b\"
  | ^^^^
",
    );
}

#[test]
fn names_that_no_ssh_option_has() {
    refused(
        "[ssh]\n\"User root\\nHost *\" = \"x\"\n",
        LIST,
        "\
qqmgr: error: `User root\\nHost *` is no option of ssh_config(5)
 --> qqmgr.toml:2:1
  |
2 | \"User root\\nHost *\" = \"x\"
  | ^^^^^^^^^^^^^^^^^^^
",
    );
}

#[test]
fn ssh_options_of_the_wrong_type() {
    refused_values(
        "[ssh]\nSetEnv = @\n",
        &[
            (
                "1.5",
                "\
qqmgr: error: `SetEnv` is a float, and must be a string, an integer, a boolean or a list of them
 --> qqmgr.toml:2:10
  |
2 | SetEnv = 1.5
  |          ^^^
",
            ),
            (
                "{ a = 1 }",
                "\
qqmgr: error: `SetEnv` is a table, and must be a string, an integer, a boolean or a list of them
 --> qqmgr.toml:2:10
  |
2 | SetEnv = { a = 1 }
  |          ^^^^^^^^^
",
            ),
            (
                "[\"a\", []]",
                "\
qqmgr: error: `SetEnv` is an array, and must be a string, an integer, a boolean or a list of them
 --> qqmgr.toml:2:16
  |
2 | SetEnv = [\"a\", []]
  |                ^^
",
            ),
        ],
    );
}

// --- templates

/// A VM with this `cmd`, a TOML literal, after `before`.
fn vm(before: &str, cmd: &str) -> String {
    format!("{before}[vm.vm]\ncmd = {cmd}\nssh.port = 2222\n")
}

#[test]
fn a_ring_of_variables_is_shown_whole() {
    refused(
        vm(
            "[vars]\nstart = \"{{.a}}\"\na = \"{{.b}}\"\nb = \"<<.c.d>>\"\nc.d = \"x{{ .a }}\"\n",
            "'-m {{.start}}'",
        ),
        START,
        "\
qqmgr: error: variables use each other in a ring: `a` -> `b` -> `c.d` -> `a`
 --> qqmgr.toml:5:9
  |
5 | c.d = \"x{{ .a }}\"
  |         ^^^^^^^^
",
    );
    refused(
        vm("[vars]\na = \"{{.a}}\"\n", "'{{.a}}'"),
        START,
        "\
qqmgr: error: variables use each other in a ring: `a` -> `a`
 --> qqmgr.toml:2:6
  |
2 | a = \"{{.a}}\"
  |      ^^^^^^
",
    );
}

#[test]
fn missing_variables_have_a_near_name() {
    refused(
        vm("[vars]\nhome = \"x\"\n", "['-m 1', '-drive file={{.hmoe}}/a']"),
        START,
        "\
qqmgr: error: there is no variable `hmoe`, did you mean `home`?
 --> qqmgr.toml:4:29
  |
4 | cmd = ['-m 1', '-drive file={{.hmoe}}/a']
  |                             ^^^^^^^^^
",
    );
    refused(
        vm("", "'{{.vm.nmae}}'"),
        START,
        "\
qqmgr: error: there is no variable `vm.nmae`, did you mean `vm.name`?
 --> qqmgr.toml:2:8
  |
2 | cmd = '{{.vm.nmae}}'
  |        ^^^^^^^^^^^^
",
    );
    refused(
        vm("", "'{{.nothing.like.that}}'"),
        START,
        "\
qqmgr: error: there is no variable `nothing.like.that`
 --> qqmgr.toml:2:8
  |
2 | cmd = '{{.nothing.like.that}}'
  |        ^^^^^^^^^^^^^^^^^^^^^^
qqmgr: hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`
",
    );
}

/// Escapes and line ends of a string before it do not move the place.
#[test]
fn a_placeholder_in_a_multi_line_string_has_its_place() {
    refused(
        vm("", "\"\"\"\n-m 1 \\\n  -name \\u00e9 {{.no}}\n\"\"\""),
        START,
        "\
qqmgr: error: there is no variable `no`
 --> qqmgr.toml:4:16
  |
4 |   -name \\u00e9 {{.no}}
  |                ^^^^^^^
qqmgr: hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`
",
    );
}

#[test]
fn unclosed_quotes_and_placeholders() {
    for (cmd, stderr) in [
        (
            "'-m \"a b'",
            "\
qqmgr: error: unclosed double quote
 --> qqmgr.toml:2:11
  |
2 | cmd = '-m \"a b'
  |           ^^^^
",
        ),
        (
            "[\"-m 1\", \"-name 'a\", \"b'\"]",
            "\
qqmgr: error: unclosed single quote
 --> qqmgr.toml:2:23
  |
2 | cmd = [\"-m 1\", \"-name 'a\", \"b'\"]
  |                       ^^
qqmgr: error: unclosed single quote
 --> qqmgr.toml:2:30
  |
2 | cmd = [\"-m 1\", \"-name 'a\", \"b'\"]
  |                              ^
",
        ),
        (
            "'-m 1 \\'",
            "\
qqmgr: error: there is nothing after the backslash
 --> qqmgr.toml:2:13
  |
2 | cmd = '-m 1 \\'
  |             ^
",
        ),
        (
            "'-m {{.a }'",
            "\
qqmgr: error: `{{` is not closed by `}}`
 --> qqmgr.toml:2:11
  |
2 | cmd = '-m {{.a }'
  |           ^^^^^^
",
        ),
        (
            "'-m <<.a}}'",
            "\
qqmgr: error: `<<` is not closed by `>>`
 --> qqmgr.toml:2:11
  |
2 | cmd = '-m <<.a}}'
  |           ^^^^^^
",
        ),
        (
            "'-m {{a}}'",
            "\
qqmgr: error: `{{a}}` is no placeholder
 --> qqmgr.toml:2:11
  |
2 | cmd = '-m {{a}}'
  |           ^^^^^
qqmgr: hint: a name starts with a dot, like `{{.name}}` or `{{.vm.name}}`
",
        ),
    ] {
        refused(vm("", cmd), START, stderr);
    }
}

#[test]
fn a_value_that_is_split_and_has_an_unclosed_quote() {
    refused(
        vm("[vars]\nq = \"it's\"\n", "'-name {{.q}}'"),
        START,
        "\
qqmgr: error: in the value of `q`: unclosed single quote
 --> qqmgr.toml:4:14
  |
4 | cmd = '-name {{.q}}'
  |              ^^^^^^
qqmgr: hint: inside quotes a placeholder's value is taken literally
",
    );
}

#[test]
fn an_environment_variable_that_is_not_set() {
    refused(
        vm("", "'-m {{.env.QQ_NOT_SET}}'"),
        START,
        "\
qqmgr: error: the environment variable `QQ_NOT_SET` is not set
 --> qqmgr.toml:2:11
  |
2 | cmd = '-m {{.env.QQ_NOT_SET}}'
  |           ^^^^^^^^^^^^^^^^^^^
qqmgr: hint: set it, or `QQ_NOT_SET` in `[vars.env]`, which goes before it
",
    );
}

#[test]
fn arrays_and_tables_are_no_values_of_placeholders() {
    for (name, what) in [("list", "an array"), ("tab", "a table")] {
        let carets = "^".repeat(name.len() + 5);
        refused(
            vm("[vars]\nlist = [1]\ntab.x = 1\n", &format!("'{{{{.{name}}}}}'")),
            START,
            &format!(
                "\
qqmgr: error: `{name}` is {what}
 --> qqmgr.toml:5:8
  |
5 | cmd = '{{{{.{name}}}}}'
  |        {carets}
qqmgr: hint: a placeholder stands for a string, a number or a boolean
"
            ),
        );
    }
}

/// Two dozen lines that double a value would otherwise fill the memory.
#[test]
fn values_that_grow_without_limit() {
    let mut vars = String::from("[vars]\nv0 = \"xxxxxxxxxxxxxxxx\"\n");
    for number in 1..40 {
        let half = number - 1;
        let _ = writeln!(vars, "v{number} = \"{{{{.v{half}}}}}{{{{.v{half}}}}}\"");
    }
    refused(
        vm(&vars, "'{{.v39}}'"),
        START,
        "\
qqmgr: error: this gets longer than 1 MiB
  --> qqmgr.toml:19:16
   |
19 | v17 = \"{{.v16}}{{.v16}}\"
   |                ^^^^^^^^
",
    );
}

#[test]
fn arguments_that_qqmgr_needs_for_itself() {
    for (option, why) in [
        ("-pidfile", "qqmgr adds its own, by which it knows the VM's process"),
        ("-qmp", "qqmgr adds its own; for a second one use `-chardev socket,...` and `-mon`"),
        ("-monitor", "qqmgr adds its own, `monitor.socket` in the VM's directory"),
        ("-daemonize", "qqmgr detaches QEMU itself, and waits until it is ready"),
    ] {
        for option in [option, &format!("-{option}")] {
            let carets = "^".repeat(option.len());
            refused(
                vm("", &format!("['-m 1', '-S {option} x']")),
                START,
                &format!(
                    "\
qqmgr: error: `{option}` cannot be used in `cmd`
 --> qqmgr.toml:2:20
  |
2 | cmd = ['-m 1', '-S {option} x']
  |                    {carets}
qqmgr: hint: {why}
"
                ),
            );
        }
    }
}

/// Not even by way of a variable.
#[test]
fn arguments_that_qqmgr_needs_for_itself_in_a_value() {
    refused(
        vm("[vars]\nextra = \"-S -qmp stdio\"\n", "'-m 1 {{.extra}}'"),
        START,
        "\
qqmgr: error: `-qmp` cannot be used in `cmd`
 --> qqmgr.toml:4:13
  |
4 | cmd = '-m 1 {{.extra}}'
  |             ^^^^^^^^^^
qqmgr: hint: qqmgr adds its own; for a second one use `-chardev socket,...` and `-mon`
",
    );
}

#[test]
fn an_argument_with_a_nul() {
    refused(
        vm("", "\"-name a\\u0000b\""),
        START,
        "\
qqmgr: error: an argument cannot contain a NUL character
 --> qqmgr.toml:2:14
  |
2 | cmd = \"-name a\\u0000b\"
  |              ^^^^^^^^
",
    );
}

#[test]
fn all_placeholders_of_a_vm_that_are_wrong_are_told_at_once() {
    refused(
        "[qemu]\nbin = \"{{.gone}}\"\n[vm.vm]\ncmd = [\"{{.away}}\", \"'x\"]\nssh.port = 2222\n",
        START,
        "\
qqmgr: error: there is no variable `gone`
 --> qqmgr.toml:2:8
  |
2 | bin = \"{{.gone}}\"
  |        ^^^^^^^^^
qqmgr: hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`
qqmgr: error: there is no variable `away`
 --> qqmgr.toml:4:9
  |
4 | cmd = [\"{{.away}}\", \"'x\"]
  |         ^^^^^^^^^
qqmgr: hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`
qqmgr: error: unclosed single quote
 --> qqmgr.toml:4:22
  |
4 | cmd = [\"{{.away}}\", \"'x\"]
  |                      ^^
",
    );
}

/// A mistake in one VM's placeholders keeps nobody from using another.
#[test]
fn a_mistake_in_one_vm_leaves_the_others_alone() {
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n[vm.bad]\ncmd = \"{{{{.no}}}}\"\nssh.port = 1\n\
         [vm.good]\ncmd = \"\"\nssh.port = {}\n",
        fake_qemu().display(),
        free_port()
    ));
    let stdout = "good started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "good"]).run().stdout(stdout).success();
    project.qqmgr(&["stop", "bad"]).run().stdout("bad was not running\n").success();
}

/// To open it would wait for somebody to write to it.
#[test]
fn a_fifo_in_place_of_the_configuration() {
    let project = Project::new();
    project.sh("mkfifo qqmgr.toml").run().success();
    project
        .qqmgr(&["list"])
        .run()
        .stderr("qqmgr: error: `qqmgr.toml` is a FIFO, and must be a file\n")
        .code(5);
}
