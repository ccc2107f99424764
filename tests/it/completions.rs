//! `completions SHELL`, in the real shells: what each offers for a line, as a set.
//!
//! bash is given the words that readline makes of a line, and calls the function that is
//! registered for qqmgr. fish completes a line by itself. zsh can only do so in its line editor, so
//! one runs in a pseudo-terminal, and what its completion adds is written down.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;

use crate::harness::{Project, has_tool};

/// Each reads lines from standard input and prints `LINE|WORD|WORD...` for it.
const DRIVERS: &[(&str, &str)] = &[
    (
        "bash",
        r#"eval "$(qqmgr completions bash)"
called=$(complete -p qqmgr)
called=${called#*-F }
called=${called%% *}
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE} COMP_WORDS=()
    IFS=' ' read -ra words <<<"$COMP_LINE"
    [[ $COMP_LINE != *' ' ]] || words+=('')
    for word in "${words[@]}"; do
        [[ -n $word ]] || COMP_WORDS+=('')
        while [[ $word == *=* ]]; do
            [[ -z ${word%%=*} ]] || COMP_WORDS+=("${word%%=*}")
            COMP_WORDS+=('=') word=${word#*=}
        done
        [[ -z $word ]] || COMP_WORDS+=("$word")
    done
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    "$called" qqmgr "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s' "$COMP_LINE" "${COMPREPLY[@]/#/|}"
    echo
done
"#,
    ),
    (
        "fish",
        r#"qqmgr completions fish | source
while read -l line
    string join '|' -- $line (complete -C "$line" | string replace -r '\t.*' '')
end
true
"#,
    ),
    (
        "zsh",
        r"qqmgr completions zsh >_qqmgr
cat >lines
zmodload zsh/zpty
zpty inner 'exec zsh -f -i 2>errors'
zpty -w inner 'source ./inner.zsh'
while zpty -r inner ignored; do :; done
cat errors >&2
cat offered
",
    ),
];

/// In the pseudo-terminal: all lines at the first key.
const ZSH_INNER: &str = r#"
fpath=($PWD $fpath)
autoload -Uz compinit
compinit -D -u
compadd() {
    local -a found
    if (( ${@[1,(i)-(|-)][(I)-[OAD]]} )); then
        builtin compadd "$@"
        return
    fi
    builtin compadd -O found "$@"
    offered+=($found)
    builtin compadd "$@"
}
zle -C offer list-choices _main_complete
run() {
    local line
    local -a offered
    for line in "${(@f)$(<lines)}"; do
        offered=()
        BUFFER=$line CURSOR=$#line
        zle offer
        print -r -- "$line${(j::)${(@)offered/#/|}}"
    done >offered
    exit
}
zle -N zle-line-init run
"#;

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

/// Holds what each shell offers for each line to the words expected, in any order. The words of a
/// value are given without what the line has of it up to `=`, files without a slash at the end.
#[track_caller]
fn check(project: &Project, expected: &[(&str, &str)]) {
    let lines: String = expected.iter().flat_map(|(line, _)| [line, "\n"]).collect();
    project.write("inner.zsh", ZSH_INNER);
    let directory = Path::new(env!("CARGO_BIN_EXE_qqmgr")).parent().expect("a file has a parent");
    let path = env::var("PATH").unwrap_or_default();
    for (shell, driver) in DRIVERS {
        if !has_tool(shell) {
            continue;
        }
        project.write("driver", driver);
        let options = match *shell {
            "bash" => "--norc",
            "fish" => "--no-config",
            _ => "-f",
        };
        let run = project
            .sh(&format!("exec {shell} {options} driver"))
            .env("PATH", format!("{}:{path}", directory.display()))
            .stdin(&lines)
            .run();
        let offered = run.stdout.clone();
        // Nothing on standard error.
        run.stdout(offered.as_str()).success();
        let offered: Vec<&str> = offered.lines().collect();
        assert_eq!(offered.len(), expected.len(), "{shell}: {offered:?}");
        for ((line, words), offered) in expected.iter().zip(offered) {
            let offered =
                offered.strip_prefix(line).unwrap_or_else(|| panic!("{shell}: {offered}"));
            let current = line.rsplit(' ').next().unwrap_or_default();
            let before = current.rfind('=').map_or("", |at| &current[..=at]);
            let typed = &current[before.len()..];
            let offered: BTreeSet<&str> = offered
                .split('|')
                .skip(1)
                // fish offers a pattern itself.
                .filter(|word| *word != current || !word.contains('*'))
                .map(|word| word.strip_prefix(before).unwrap_or(word).trim_end_matches('/'))
                // fish 4 also offers words that have the typed text in their middle.
                .filter(|word| *shell != "fish" || word.starts_with(typed) || !word.contains(typed))
                .collect();
            let words: BTreeSet<&str> = words.split_ascii_whitespace().collect();
            assert_eq!(offered, words, "{shell}: {line}");
        }
    }
}

/// What `help --json` has as values of a member, in a command's page or in the overview's part
/// for all commands.
fn named(text: &str, member: &str) -> Vec<String> {
    let start = format!("\"{member}\": \"");
    let values = text.lines().filter_map(|line| line.trim_start().strip_prefix(&start));
    values.map(|value| value.trim_end_matches(['"', ',']).to_owned()).collect()
}

#[test]
fn commands_and_flags_are_those_of_the_table() {
    let project = project();
    let help = |arguments: &[&str]| {
        let output = project.qqmgr(arguments).run();
        let text = output.stdout.clone();
        output.stdout(text.as_str()).success();
        text
    };
    let overview = help(&["help", "--json"]);
    let commands = named(&overview, "name");
    let (_, global) = overview.rsplit_once("\n  \"flags\"").expect("options of every command");
    let mut expected = vec![("qqmgr ".to_owned(), commands.join(" "))];
    let with_dashes = |text: &str| -> Vec<String> {
        named(text, "long").iter().map(|name| format!("--{name}")).collect()
    };
    for command in &commands {
        let page = help(&["help", "--json", command]);
        let flags = [with_dashes(&page), with_dashes(global)].concat();
        expected.push((format!("qqmgr {command} --"), flags.join(" ")));
    }
    assert!(expected.len() > 8, "the table is not found");
    expected.push(("qqmgr --".into(), with_dashes(global).join(" ")));
    let expected: Vec<(&str, &str)> =
        expected.iter().map(|(line, words)| (line.as_str(), words.as_str())).collect();
    check(&project, &expected);
}

#[test]
fn words_go_on_with_what_is_there() {
    check(
        &project(),
        &[
            ("qqmgr sto", "stop"),
            ("qqmgr --json sto", "stop"),
            ("qqmgr -c else/where.toml -v --json sto", "stop"),
            ("qqmgr --config=else/where.toml sto", "stop"),
            ("qqmgr stop --f", "--force"),
            ("qqmgr --json stop web --no", "--no-kill"),
            ("qqmgr stop --timeout 5 --f", "--force"),
            ("qqmgr nonsense ", ""),
            ("qqmgr help hel", "help"),
            ("qqmgr completions ", "bash zsh fish"),
        ],
    );
}

#[test]
fn names_of_vms_are_live() {
    let project = project();
    let all = "web web-2 db.main";
    check(
        &project,
        &[
            ("qqmgr start ", all),
            ("qqmgr status w", "web web-2"),
            ("qqmgr status web", "web web-2"),
            ("qqmgr ssh web-", "web-2"),
            ("qqmgr put db.", "db.main"),
            ("qqmgr get x", ""),
            ("qqmgr stop web*", ""),
            // Several, each once.
            ("qqmgr stop web ", "web-2 db.main"),
            ("qqmgr stop web w", "web-2"),
            ("qqmgr stop web web-2 --timeout 5 -v ", "db.main"),
            ("qqmgr stop web web-2 db.main ", ""),
            // What only looks like one.
            ("qqmgr wait --for web ", all),
            ("qqmgr --timeout 5 stop --set web ", all),
            ("qqmgr start --wait ", all),
            ("qqmgr start --wait=5 d", "db.main"),
            ("qqmgr list w", ""),
        ],
    );
    project.config("[vm.new]\ncmd = ''\nssh.port = 1\n");
    check(&project, &[("qqmgr start ", "new")]);
}

#[test]
fn names_of_images_are_live() {
    let project = project();
    let images = "[img.disk]\nsize = 1\n[img.data]\nsize = 1\n";
    project.config(&format!("{CONFIG}{images}"));
    check(
        &project,
        &[
            ("qqmgr img ", "build list path reset rm"),
            ("qqmgr img b", "build"),
            ("qqmgr img build ", "disk data"),
            ("qqmgr img build d", "disk data"),
            ("qqmgr img reset disk ", "data"),
            ("qqmgr img -q path di", "disk"),
            ("qqmgr -c else/where.toml img rm ", ""),
            ("qqmgr start d", "db.main"),
        ],
    );
}

#[test]
fn names_are_those_of_the_configuration_on_the_line() {
    let other = "other other-2 db.main";
    check(
        &project(),
        &[
            ("qqmgr -c else/where.toml stop ", other),
            ("qqmgr -celse/where.toml stop ", other),
            ("qqmgr -vc else/where.toml stop ", other),
            ("qqmgr --config else/where.toml --json stop ", other),
            ("qqmgr --config=else/where.toml stop ", other),
            ("qqmgr stop -c else/where.toml ", other),
            ("qqmgr stop --config=else/where.toml o", "other other-2"),
            ("qqmgr stop other -c else/where.toml ", "other-2 db.main"),
            ("qqmgr -c ~/home.toml stop ", "mine mine-2 db.main"),
            ("qqmgr --config=~/home.toml stop ", "mine mine-2 db.main"),
            ("qqmgr -c none.toml stop ", ""),
        ],
    );
}

#[test]
fn values_and_files() {
    let project = Project::new();
    project.config(CONFIG);
    project.write("dir/inside", "");
    let conditions = "ssh stopped running serial=";
    check(
        &project,
        &[
            ("qqmgr wait --for ", conditions),
            ("qqmgr wait --for=", conditions),
            ("qqmgr wait --for s", "ssh stopped serial="),
            ("qqmgr wait --for=se", "serial="),
            ("qqmgr wait web --for ru", "running"),
            ("qqmgr serial -n ", "all"),
            ("qqmgr serial --lines=", "all"),
            ("qqmgr serial --boot ", "-1 -2 -3 -4 -5"),
            ("qqmgr serial --boot=-1", "-1"),
            ("qqmgr log -f w", "web web-2"),
            ("qqmgr qmp w", "web web-2"),
            ("qqmgr sendkey w", "web web-2"),
            ("qqmgr sendkey web --text ", ""),
            ("qqmgr qmp web ", ""),
            ("qqmgr monitor w", "web web-2"),
            ("qqmgr monitor web ", ""),
            ("qqmgr qmp web --events --for ", ""),
            ("qqmgr qmp --for=", ""),
            ("qqmgr stop --timeout ", ""),
            ("qqmgr stop --timeout=", ""),
            ("qqmgr --timeout ", ""),
            ("qqmgr -c qq", "qqmgr.toml"),
            ("qqmgr --config qq", "qqmgr.toml"),
            ("qqmgr --config=qq", "qqmgr.toml"),
            ("qqmgr --config=di", "dir"),
            ("qqmgr put w", "web web-2"),
            ("qqmgr put web di", "dir"),
            ("qqmgr put web dir qq", "qqmgr.toml"),
            ("qqmgr get web di", ""),
            ("qqmgr get web dir di", "dir"),
            ("qqmgr snapshot ", "save load delete list"),
            ("qqmgr snapshot save w", "web web-2"),
            ("qqmgr snapshot load web ", ""),
            ("qqmgr screenshot w", "web web-2"),
            ("qqmgr screenshot web qq", "qqmgr.toml"),
            ("qqmgr screenshot --device ", ""),
            ("qqmgr start qq", ""),
            ("qqmgr run web --put qq", "qqmgr.toml"),
            ("qqmgr run web --get qq", ""),
            ("qqmgr run --set a=b --put=qq", "qqmgr.toml"),
        ],
    );
}

/// Where one is needed that is there.
#[test]
fn tags_of_snapshots_are_live() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = Project::new();
    let configuration = CONFIG.replacen("cmd = \"\"", "cmd = '-hda disk.qcow2'", 1);
    project.config(&configuration);
    project.sh("qemu-img create -q -f qcow2 disk.qcow2 1M").run().success();
    for tag in ["first", "second", "fi"] {
        let saved = format!("web snapshot `{tag}` saved, the disks alone: stopped\n");
        project.qqmgr(&["snapshot", "save", "web", tag]).run().stdout(saved).success();
    }
    check(
        &project,
        &[
            ("qqmgr snapshot load web ", "first second fi"),
            ("qqmgr snapshot delete web f", "first fi"),
            ("qqmgr snapshot -v --json load web s", "second"),
            ("qqmgr snapshot save web ", ""),
            ("qqmgr snapshot list web ", ""),
            ("qqmgr snapshot load web-2 ", ""),
        ],
    );
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    check(
        &project(),
        &[
            ("qqmgr ssh --w", "--wait"),
            ("qqmgr ssh web ", ""),
            ("qqmgr ssh web -", ""),
            ("qqmgr ssh web --js", ""),
            ("qqmgr ssh web ls --js", ""),
            ("qqmgr ssh -- we", "web web-2"),
            ("qqmgr ssh -- web --js", ""),
            ("qqmgr start web -- ", ""),
            ("qqmgr start web -- w", ""),
            ("qqmgr restart -- --js", ""),
            ("qqmgr start --set a=b web -- -drive no", ""),
            ("qqmgr run web -- no", ""),
            // Behind the `--` of others, the operands of the command.
            ("qqmgr stop -- ", "web web-2 db.main"),
            ("qqmgr stop -- web --f", ""),
            ("qqmgr put -- web n", "notes.txt"),
        ],
    );
}

/// The program that the configuration names is somebody's; tags are read without it.
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
    // Whatever is wrong, nothing is said and nothing fails; what is right is offered.
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
fn without_a_configuration_nothing_is_said() {
    check(
        &Project::new(),
        &[
            ("qqmgr stop ", ""),
            ("qqmgr -c none stop ", ""),
            ("qqmgr ssh x", ""),
            ("qqmgr sto", "stop"),
        ],
    );
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

/// Where somebody took `=` out of COMP_WORDBREAKS, and where a blank parts what readline parts.
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

/// What the shells insert at the end of a line, told by the words that they run it with: names with
/// all that a shell reads as something else.
#[test]
fn what_is_inserted_is_one_word_and_runs_nothing() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = Project::new();
    project.config("[vm.vm]\ncmd = '-hda disk.qcow2'\nssh.port = 1\n");
    let other = "[vm.other]\ncmd = ''\nssh.port = 1\n";
    for directory in ["my dir", "$(touch PWNED)", "it's"] {
        project.write(format!("{directory}/x.toml"), other);
    }
    project.write("a file", "");
    project.sh("qemu-img create -q -f qcow2 disk.qcow2 1M").run().success();
    for (_, tag) in TAGS {
        project.command("qemu-img", &["snapshot", "-c", tag, "disk.qcow2"]).run().success();
    }
    let of_tag = |typed: &str, tag: &str| {
        (format!("snapshot load vm {typed}"), format!("<snapshot><load><vm><{tag}>"))
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    lines.extend(TAGS.iter().map(|(typed, tag)| of_tag(typed, tag)));
    let of_all = lines.len();
    // Half a word in quotes, or a backslash that ends it. fish has other rules, and no `complete`
    // of it goes on within a word.
    lines.extend([
        of_tag(r"a\ ", "a b"),
        of_tag("\"a ", "a b"),
        of_tag("'a ", "a b"),
        of_tag(r"t\;", "t;touch PWNED"),
        of_tag(r#"q\""#, "q\"x"),
        of_tag("\"s'", "s'y"),
        of_tag("'`", "`id`"),
    ]);
    for (typed, expected) in [
        (r"-c my\ dir/x.toml stop o", "<-c><my dir/x.toml><stop><other>"),
        ("-c 'my dir/x.toml' stop o", "<-c><my dir/x.toml><stop><other>"),
        ("--config='my dir'/x.toml stop o", "<--config=my dir/x.toml><stop><other>"),
        (r"-c \$\(touch\ PWNED\)/x.toml stop o", "<-c><$(touch PWNED)/x.toml><stop><other>"),
        (r"-c it\'s/x.toml stop o", "<-c><it's/x.toml><stop><other>"),
        ("snapshot load 'vm' pl", "<snapshot><load><vm><plain>"),
        ("snapshot load \"vm\" pl", "<snapshot><load><vm><plain>"),
        (r"-c my\ d", "<-c><my dir/>"),
        (r"--config=my\ d", "<--config=my dir/>"),
        ("put vm 'a f", "<put><vm><a file>"),
    ] {
        lines.push((typed.into(), expected.into()));
    }
    for (shell, driver, count) in [
        ("bash", BASH_INSERTS, lines.len()),
        ("zsh", ZSH_INSERTS, lines.len()),
        ("fish", FISH_INSERTS, of_all),
    ] {
        if !has_tool(shell) {
            continue;
        }
        let lines = &lines[..count];
        let typed: String = lines.iter().flat_map(|(typed, _)| ["qqmgr ", typed, "\n"]).collect();
        let words: String = lines.iter().flat_map(|(_, words)| [words, "\n"]).collect();
        project.write("lines", typed);
        project.write("driver", driver);
        project.write("inner.zsh", ZSH_INSERTS_INNER);
        let script = "PATH=${QQMGR%/*}:$PATH; export PATH; . ./driver; cat out";
        project.sh(script).run().stdout(words).success();
        assert!(!project.path("PWNED").exists(), "{shell}");
    }
}

/// What is typed of a snapshot's tag, and the tag.
const TAGS: &[(&str, &str)] = &[
    ("zz", "zz$(touch${IFS}PWNED)"),
    ("a", "a b"),
    ("q", "q\"x"),
    ("s", "s'y"),
    ("bs", r"bs\z"),
    ("gl", "gl*?[x]"),
    ("ex", "ex!y"),
    ("co", "co:lon"),
    ("e=", "e=q"),
    ("t", "t;touch PWNED"),
    ("br", "br{1,2}>PWNED"),
    ("pl", "plain"),
    (r"\`", "`id`"),
    (r"\#", "#h"),
    (r"\~", "~t"),
    ("n", "nö€"),
];

/// An interactive bash at a pipe has readline, and takes a tab for the key.
const BASH_INSERTS: &str = r#"
cat >rc <<'END'
eval "$(command qqmgr completions bash)"
qqmgr() { printf '<%s>' "$@" >&3; echo >&3; }
END
sed "s/\$/$(printf '\t')/" lines >keys
bash --rcfile rc -i <keys 3>out >/dev/null 2>errors
"#;

const ZSH_INSERTS: &str = r#"
command "$QQMGR" completions zsh >_qqmgr
cat >outer <<'END'
zmodload zsh/zpty
zpty inner 'exec zsh -f -i 2>errors'
zpty -w inner 'source ./inner.zsh'
while zpty -r inner ignored; do :; done
END
zsh -f outer
"#;

const ZSH_INSERTS_INNER: &str = r#"
fpath=($PWD $fpath)
autoload -Uz compinit
compinit -D -u
qqmgr() { print -r -- ${(j::)${(@)@/#/<}/%/>} }
zle -C finish complete-word _main_complete
run() {
    local line
    for line in "${(@f)$(<lines)}"; do
        BUFFER=$line CURSOR=$#line
        zle finish
        eval "$BUFFER"
    done >out 2>>errors
    exit
}
zle -N zle-line-init run
"#;

const FISH_INSERTS: &str = r#"
command "$QQMGR" completions fish >qqmgr.fish
cat >inner <<'END'
source qqmgr.fish
function qqmgr
    printf '<%s>' $argv
    echo
end
while read -l line
    set -l inserted (complete --escape -C "$line" | string replace -r '	.*' '')
    eval (string replace -r '[^ ]*$' '' -- $line) $inserted[1]
end <lines >out
END
fish --no-config inner
"#;

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

/// What is offered for `--for` is what `wait` takes.
#[test]
fn conditions_are_those_of_wait() {
    let project = project();
    for condition in ["ssh", "running", "serial=x", "stopped"] {
        // Refused for the VM, not for the condition.
        let run = project.qqmgr(&["wait", "--for", condition, "nobody"]).run();
        run.stderr("qqmgr: error: no such VM in [..]\n...\n").code(5);
    }
}
