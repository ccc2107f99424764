//! `completions SHELL`, apart from what the shells offer and insert, which
//! `tests/cases/completion` tells.

use crate::harness::{Project, has_tool};

const CONFIG: &str = r#"
[vm.web]
cmd = ""
ssh.port = 1
[vm.web-2]
cmd = ""
ssh.port = 2
[vm."db.main"]
cmd = ""
ssh.port = 3
"#;

fn project() -> Project {
    let project = Project::new();
    project.config(CONFIG);
    project.write("else/where.toml", CONFIG.replace("web", "other"));
    project.write("home/home.toml", CONFIG.replace("web", "mine"));
    project.write("notes.txt", "");
    project
}

/// The values of a member of `help --json`, in a command's page or in the overview's part
/// for all commands.
fn named(text: &str, member: &str) -> Vec<String> {
    let start = format!("\"{member}\": \"");
    let values = text.lines().filter_map(|line| line.trim_start().strip_prefix(&start));
    values.map(|value| value.trim_end_matches(['"', ',']).to_owned()).collect()
}

/// A configuration from elsewhere may name any program, so completion must not run it.
#[test]
fn completion_runs_no_program_and_says_nothing() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = Project::new();
    project.write("evil", "#!/bin/sh\ntouch PWNED\n");
    project.sh("chmod +x evil; qemu-img create -q -f qcow2 disk.qcow2 1M").run().success();
    project.sh("qemu-img snapshot -c saved disk.qcow2; mkfifo fifo").run().success();
    let vm = |name: &str, cmd: &str| format!("[vm.{name}]\ncmd = '{cmd}'\nssh.port = 1\n");
    project.config(&format!(
        "[qemu]\nbin = './evil'\nimg = './evil'\n{}{}{}{}",
        vm("vm", "-hda disk.qcow2"),
        vm("fifo", "-hda fifo"),
        vm("none", "-hda none"),
        vm("wrong", "{{.none}}"),
    ));
    let asked = |words: &[&str]| project.qqmgr(&[&["complete", "zsh"], words].concat()).run();
    asked(&["snapshot", "load", "vm", ""]).stdout("saved\tsnapshot\n").success();
    for name in ["fifo", "none", "wrong", "nobody", "../x", ""] {
        asked(&["snapshot", "load", name, ""]).stdout("").success();
    }
    assert!(!project.path("PWNED").exists());
    // Errors print nothing and fail nothing; valid words are still offered.
    for words in
        [&[][..], &["-c", "none", "stop", ""], &["-c"], &["--no-such=", ""], &["stop", "--="]]
    {
        let run = asked(words);
        let offered = run.stdout.clone();
        run.stdout(offered).success();
    }
    for words in [&["complete"][..], &["complete", "bash"], &["complete", "bash", "", ""]] {
        project.qqmgr(words).run().stdout("").success();
    }
    project.config(&format!("{}{}", vm("right", ""), "[vm.wrong]\ncmd = 1\n"));
    assert!(asked(&["stop", ""]).stdout.contains("right\tVM\n"));
    project.config("[");
    asked(&["stop", ""]).stdout("").success();
}

#[test]
fn descriptions_are_those_of_the_table() {
    let project = project();
    let page = project.qqmgr(&["help", "stop", "--json"]).run().stdout;
    let stop = named(&page, "about").remove(0);
    let flags = named(&page, "long").into_iter().zip(named(&page, "help"));
    let (_, force) = flags.into_iter().find(|(name, _)| name == "force").expect("it is there");
    let asked = |words: &[&str]| project.qqmgr(&[&["complete", "zsh"], words].concat()).run();
    let offered = asked(&["sto"]).stdout;
    assert!(offered.contains(&format!("\nstop\t{stop}\n")), "{offered}");
    let offered = asked(&["stop", "--"]).stdout;
    assert!(offered.contains(&format!("\n--force\t{force}\n")), "{offered}");
    if has_tool("fish") {
        let script = "PATH=${QQMGR%/*}:$PATH; qqmgr completions fish >qqmgr.fish && exec fish --no-config -c \
                      'source qqmgr.fish; complete -C \"qqmgr sto\"; complete -C \"qqmgr stop --fo\"'";
        let expected = format!("stop\t{stop}\n--force\t{force}\n");
        project.sh(script).run().stdout(expected).success();
    }
}

/// COMP_WORDBREAKS without `=`, and a word that readline splits at a blank.
#[test]
fn bash_puts_words_together_as_they_were() {
    if !has_tool("bash") {
        return;
    }
    let script = r#"eval "$("$QQMGR" completions bash)"
try() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
    _qqmgr qqmgr "${!#}"
    echo "$1: ${COMPREPLY[*]}"
}
PATH=${QQMGR%/*}:$PATH
try 'qqmgr wait --for=s' qqmgr wait --for=s
try 'qqmgr --config=else/where.toml stop ot' qqmgr --config=else/where.toml stop ot
try 'qqmgr stop  --config=else/where.toml  ot' qqmgr stop --config = else/where.toml ot
try 'qqmgr stop -c ~/home.toml mi' qqmgr stop -c '~/home.toml' mi
try 'qqmgr stop -c "with blank.toml" ot' qqmgr stop -c '"with blank.toml"' ot
try 'qqmgr stop -c with\ blank.toml ot' qqmgr stop -c 'with\ blank.toml' ot
try 'qqmgr stop "we' qqmgr stop '"we'
try 'qqmgr put web with' qqmgr put web with
"#;
    let project = project();
    project.write("with blank.toml", CONFIG.replace("web", "other"));
    project.write("script", script);
    project
        .sh("exec bash --norc script")
        .run()
        .stdout(
            "qqmgr wait --for=s: --for=ssh --for=stopped --for=serial=\n\
             qqmgr --config=else/where.toml stop ot: other other-2\n\
             qqmgr stop  --config=else/where.toml  ot: other other-2\n\
             qqmgr stop -c ~/home.toml mi: mine mine-2\n\
             qqmgr stop -c \"with blank.toml\" ot: other other-2\n\
             qqmgr stop -c with\\ blank.toml ot: other other-2\n\
             qqmgr stop \"we: web web-2\n\
             qqmgr put web with: with blank.toml\n",
        )
        .success();
}

#[test]
fn the_program_on_the_line_is_asked() {
    if !has_tool("bash") {
        return;
    }
    let project = project();
    let script = r#"eval "$("$QQMGR" completions bash)"
COMP_LINE="$QQMGR stop w" COMP_WORDS=("$QQMGR" stop w) COMP_CWORD=2
_qqmgr "$QQMGR" w stop
echo "${COMPREPLY[*]}"
"#;
    project.write("script", script);
    let run = project.sh("exec bash --norc script").env("PATH", "/usr/bin:/bin").run();
    run.stdout("web web-2\n").success();
}

#[test]
fn shells() {
    let project = Project::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = project.qqmgr(&["completions", shell]).run();
        assert!(text.stdout.contains(&format!("made by `qqmgr completions {shell}`\n")));
        let json = project.qqmgr(&["--json", "completions", shell]).run();
        let head = format!("{{\n  \"shell\": \"{shell}\",\n  \"script\": \"#");
        assert!(json.stdout.starts_with(&head), "{}", json.stdout);
        // Syntax, as the shell itself sees it.
        if has_tool(shell) {
            let check = format!("\"$QQMGR\" completions {shell} >script && {shell} -n script");
            project.sh(&check).run().success();
        }
    }
    // In the other of the two ways to load it.
    if has_tool("zsh") {
        let check = "PATH=${QQMGR%/*}:$PATH; exec zsh -f -c 'autoload -Uz compinit; compinit -D -u; \
                     eval \"$(qqmgr completions zsh)\"; echo $_comps[qqmgr]'";
        project.sh(check).run().stdout("_qqmgr\n").success();
    }
    let near = "qqmgr: error: unknown SHELL `bahs` of `completions`; did you mean `bash`?\n";
    project.qqmgr(&["completions", "bahs"]).run().stderr(near).code(2);
    let unknown = "qqmgr: error: unknown SHELL `powershell` of `completions`\n\
                   qqmgr: hint: SHELL is `bash`, `zsh` or `fish`\n";
    project.qqmgr(&["completions", "powershell"]).run().stderr(unknown).code(2);
    let missing = "qqmgr: error: `completions` needs the operand SHELL\n\
                   qqmgr: hint: usage: qqmgr completions [OPTIONS] SHELL\n";
    project.qqmgr(&["completions"]).run().stderr(missing).code(2);
}

/// Every word that is offered for `--for` is one that `wait` takes.
#[test]
fn conditions_are_those_of_wait() {
    let project = project();
    for condition in ["ssh", "running", "serial=x", "stopped"] {
        // Refused for the VM, not for the condition.
        let run = project.qqmgr(&["wait", "--for", condition, "nobody"]).run();
        run.stderr("qqmgr: error: no such VM in [..]\n...\n").code(5);
    }
}
