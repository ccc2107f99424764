//! `check` of a file that has errors of several kinds: all are told at once, and none that is only
//! a consequence of another.

use crate::harness::{Project, fake_qemu};

const WRONG: &str = r#"nonsense = 1
[vm.a]
extends = "b"
[vm.b]
extends = "a"
[vm.c]
extends = "a"
cmd = "{{.nope}}"
[vm.d]
extends = "nosuch"
cmd = "{{.nope}}"
[vm.e]
cmd = "{{.nope}}"
ssh.port = 0
[vm.f]
cmd = "-m {{.mem}}"
ssh = { port = "auto", User = "{{.user}}" }
[vm.g]
extends = "f"
cmd = "-name 'open"
[vm.h]
cmd = "-kernel nope -monitor stdio"
ssh.port = 2222
"#;

fn check(project: &Project, config: &str, expected: &[&str]) {
    project.config(&format!("{config}[qemu]\nbin = \"{}\"\n", fake_qemu().display()));
    let run = project.qqmgr(&["check"]).run();
    let errors: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors, expected, "{}", run.stdout);
    let all = run.stdout.clone();
    let count =
        if expected.len() == 1 { "1 error\n" } else { &format!("{} errors\n", errors.len()) };
    assert!(all.ends_with(count), "{all}");
    run.stdout(all).code(5);
    // Whoever needs one of them is told the same of the file itself.
    let run = project.qqmgr(&["status", "h"]).run();
    assert_eq!(run.status, Some(5), "{}", run.stderr);
}

#[test]
fn all_errors_of_a_file_at_once() {
    let project = Project::new();
    check(
        &project,
        WRONG,
        &[
            "error: unknown key `nonsense`",
            "error: VMs extend each other in a ring: `a` -> `b` -> `a`",
            "error: there is no VM `nosuch` to extend",
            "error: `port` is 0, and a port is 1 to 65535",
            "error: `f`: there is no variable `mem`",
            "error: `f` and `g`: there is no variable `user`",
            "error: `g`: unclosed single quote",
            "error: `h`: `-monitor` cannot be used in `cmd`",
        ],
    );
}

/// Without `[vars]` every placeholder would seem to be wrong.
#[test]
fn no_error_that_follows_from_another() {
    let project = Project::new();
    let config = "vars = 3\n[vm.h]\ncmd = \"-m {{.mem}}\"\nssh.port = 2222\n";
    check(&project, config, &["error: `[vars]` is an integer, and must be a table"]);
    let config = "[vm.h]\ncmd = 3\nssh.port = 2222\n[vm.i]\nextends = \"h\"\n";
    check(
        &project,
        config,
        &["error: `cmd` is an integer, and must be a string or an array of strings"],
    );
}
