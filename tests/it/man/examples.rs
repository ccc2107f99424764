//! Runs the examples of qqmgr(1), qqmgr(7) and README.md as they are printed; with `RECIPE=TEXT`
//! in the environment, only those with this text.

use std::env;
use std::fs;
use std::process::{self, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{
    QQMGR_1, QQMGR_7, help, json, literal_blocks, make_programs, members, part, path_with_fakes,
    printed, run,
};
use crate::harness::{
    Project, free_port, guest_dir, has_program, has_tool, left_out, program, real_qemu,
    with_default_signals,
};

const README: &str = include_str!("../../../README.md");
const SCRIPT_DURATION_MAX: Duration = Duration::from_secs(200);

/// A fake rsync that checks whether its ssh reaches the guest (`-a -e SSH FROM HOST:TO`, rsync(1)).
const FAKE_RSYNC: &str = r#"#!/bin/sh
[ "$1 $2" = '-a -e' ] && exec $3 "${5%%:*}" true </dev/null
exit 1
"#;

/// A fake `ansible all -i FILE -m raw -a COMMAND` that checks whether the inventory leads to
/// guests.
const FAKE_ANSIBLE: &str = r#"#!/bin/sh -e
hosts='.all.hosts | to_entries[] | .value.ansible_ssh_common_args + " " + .key'
jq -r "$hosts" "$3" | while read -r words; do ssh $words "$7" </dev/null; done
"#;

/// A project with the VMs of the examples on the real guest, and fakes of programs that use ssh.
/// `None` without QEMU and the guest.
fn guest_project() -> Option<Project> {
    let (qemu, guest) = (real_qemu()?, guest_dir()?);
    let project = Project::new();
    std::os::unix::fs::symlink(&guest, project.path("guest")).expect("a new directory is writable");
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[vars]\nguest = '{}'\nmemory = 256\n\
         [ssh]\nUser = 'root'\nIdentityFile = '{{{{.guest}}}}/id_ed25519'\n\
         IdentitiesOnly = true\nUserKnownHostsFile = '/dev/null'\nStrictHostKeyChecking = 'no'\n\
         [vm.dev]\ncmd = [\n\
         '-nodefaults -machine pc -accel tcg -cpu max -m {{{{.memory}}}} -display none',\n\
         '-device VGA -drive file={{{{.vm.name}}}}.qcow2,if=virtio',\n\
         '-kernel \"{{{{.guest}}}}/vmlinuz\" -initrd \"{{{{.guest}}}}/initrd\"',\n\
         '-append \"console=ttyS0 no_timer_check guest.hostname={{{{.vm.name}}}}\"',\n\
         '-netdev user,id=n0,hostfwd=tcp:127.0.0.1:{{{{.vm.ssh.port}}}}-:22',\n\
         '-device virtio-net-pci,netdev=n0',\n]\nssh.port = 'auto'\nconsole = true\n\
         [vm.node-1]\nextends = 'dev'\n[vm.node-2]\nextends = 'dev'\n\
         [img.scratch]\nsize = '64M'\n",
        guest.display(),
    ));
    project.write("tests/run", "uname -n\n");
    project.write("disk.qcow2", "");
    program("qemu-img")?;
    // Examples use copies of the configuration in two directories.
    let disks = "dev node-1 node-2 a/dev b/dev";
    let create = "mkdir a b; for disk in @; do qemu-img create -q -f qcow2 $disk.qcow2 8M; done";
    project.sh(&create.replace('@', disks)).run().success();
    let fakes = [("rsync", FAKE_RSYNC), ("ansible", FAKE_ANSIBLE), ("make", "#!/bin/sh\n")];
    for (name, script) in fakes {
        project.write(format!("bin/{name}.sh"), script);
    }
    make_programs(&project);
    let commit = "git -c user.name=a -c user.email=a commit -q --allow-empty -m a";
    project.sh(&format!("git init -q; {commit}; git tag good; {commit}; {commit}")).run().success();
    Some(project)
}

/// The scripts of qqmgr(1), and those of qqmgr(7).
fn scripts() -> [Vec<String>; 2] {
    let pages = [QQMGR_1, QQMGR_7].map(printed);
    let blocks = |page: &usize, title| literal_blocks(part(&pages[*page], ".Sh", title));
    let recipes = literal_blocks(part(part(&pages[1], ".Sh", "RECIPES"), ".Ss", "Scripts"));
    [[blocks(&0, "DESCRIPTION"), blocks(&0, "EXAMPLES")].concat(), recipes]
}

#[test]
fn every_command_has_an_example() {
    let scripts = scripts().concat();
    assert!(scripts.len() > 30, "the examples are not found");
    let (commands, _) = help(&Project::new());
    for command in commands.iter().filter(|command| command.name != "help") {
        let call = format!("qqmgr {} ", command.name);
        let is_called = |script: &String| script.replace('\n', " ").contains(&call);
        assert!(scripts.iter().any(is_called), "no example has `{call}`");
    }
}

#[test]
fn examples_of_commands_run_as_printed() {
    run_as_printed(&scripts()[0]);
}

#[test]
fn recipes_run_as_printed() {
    run_as_printed(&scripts()[1]);
}

fn run_as_printed(scripts: &[String]) {
    let Some(project) = guest_project() else { return };
    let stop_all = || assert_eq!(run(&project, &["stop", "--all", "--force"]).0, 0);
    let wanted = env::var("RECIPE").unwrap_or_default();
    for (number, script) in scripts.iter().enumerate().filter(|(_, s)| s.contains(&wanted)) {
        // Another program of this host may have the port that is printed.
        let script = &script.replace("28080", &free_port().to_string());
        let name = format!("example-{number}");
        project.write(&name, script);
        let shell = |arguments: &[&str]| sh(&project, &[arguments, &[name.as_str()]].concat());
        let syntax = shell(&["-n"]);
        assert!(syntax.0 == 0 && syntax.2.is_empty(), "{name}: {}\n{script}", syntax.2);
        let missing = ["jq", "git"].into_iter().find(|tool| {
            let uses_it = script.split_ascii_whitespace().any(|word| word == *tool);
            uses_it && !has_program(tool)
        });
        if let Some(tool) = missing {
            left_out(&format!("an example of the man pages needs {tool}"));
            continue;
        }
        let is_job = script.contains("qqmgr run ");
        if is_job {
            stop_all();
        }
        if script.contains(".changes[]") {
            assert_eq!(run(&project, &["restart", "--force", "dev", "--set", "memory=300"]).0, 0);
        }
        let (code, stdout, stderr) = shell(&["-eu"]);
        let errors: Vec<&str> = stderr.lines().filter(|line| !is_note(line)).collect();
        assert!(code == 0 && errors.is_empty(), "{name} exits with {code}: {stderr}\n{script}");
        check_example(&project, script, &stdout);
        if is_job {
            assert_eq!(run(&project, &["list", "-q", "--running"]).1, "", "{script}");
        }
    }
    stop_all();
}

/// The words or deeds that an example must show.
#[track_caller]
fn check_example(project: &Project, script: &str, stdout: &str) {
    let last = stdout.lines().last().unwrap_or_default();
    let lines_with = |text: &str| stdout.lines().filter(|line| line.contains(text)).count();
    if script.contains("report") {
        assert_eq!(fs::read_to_string(project.path("report")).unwrap(), "dev\n", "{script}");
        fs::remove_file(project.path("report")).unwrap();
    } else if script.contains("'cd work && sh run'") {
        assert_eq!(stdout, "dev\n", "{script}");
    }
    if script.contains("dev is process") {
        let status = json(project, &["status", "dev"]);
        let status = members(&status);
        let value = |name: &str| &status.iter().find(|(path, _)| path == name).unwrap().1;
        let expected = format!("dev is process {}, ssh port {}", value("pid"), value("ssh.port"));
        assert_eq!(last, expected, "{script}");
    }
    if script.contains("hostname") {
        assert!(stdout.contains("node-1\n") && stdout.contains("node-2\n"), "{script}\n{stdout}");
    }
    if script.contains(".changes[]") {
        assert_eq!(stdout.lines().next(), Some("-m 300 -> -m 256"), "{script}");
    }
    if script.contains("snapshot load") {
        assert!(stdout.contains("dev snapshot `before` loaded: running\n"), "{script}\n{stdout}");
        assert_eq!(last, "host_key", "{script}");
    }
    if script.contains("qqmgr screenshot") {
        assert_eq!(lines_with("wrote boot-"), 3, "{script}\n{stdout}");
    }
    if script.contains("qqmgr console") {
        let answer = stdout.split_once("\ndev\r\n").expect("the guest says its name").1;
        // The guest's kernel and its servers may write between these texts.
        assert!(answer.lines().any(|line| line.starts_with("status 0")), "{script}\n{stdout}");
    }
    if script.contains("diff now") {
        assert_eq!(lines_with("<") + lines_with(">"), 3, "{script}\n{stdout}");
    }
    if script.contains("qqmgr sendkey") {
        assert_eq!(last, "Hello, World!", "{script}\n{stdout}");
    }
    for (part, shown) in [
        ("git bisect", "is the first bad commit"),
        ("ansible", "load average"),
        ("mcast=", "1 packets received"),
        ("qqmgr gdb --guest", "rip "),
    ] {
        assert!(!script.contains(part) || stdout.contains(shown), "{script}\n{stdout}");
    }
    if script.contains("qqmgr forward") {
        assert_eq!(lines_with(":80"), 3, "{script}\n{stdout}");
    }
    if script.contains("for copy in") {
        assert_eq!(lines_with("dev started: running"), 2, "{script}\n{stdout}");
    }
}

#[test]
fn units_of_systemd_are_right() {
    if !has_tool("systemd-analyze") {
        return;
    }
    let (project, page) = (Project::new(), printed(QQMGR_7));
    let units = literal_blocks(part(&page, ".Sh", "SYSTEMD"));
    let [of_one, differs] = units.as_slice() else { panic!("{units:?}") };
    // Lines that begin with the same word replace each other.
    let with_all = differs.lines().fold(of_one.clone(), |unit, line| {
        let word = line.split_once('=').unwrap().0;
        let is_it = |old: &&str| old.split_once('=').is_some_and(|(key, _)| key == word);
        let old = unit.lines().find(is_it).unwrap_or_else(|| panic!("{word} is new"));
        unit.replace(old, line)
    });
    for (name, unit) in [("qqmgr@dev.service", of_one), ("qqmgr.service", &with_all)] {
        // systemd verifies only programs that exist.
        assert!(unit.contains("=/usr/local/bin/qqmgr "), "{unit}");
        project.write(name, unit.replace("/usr/local/bin/qqmgr", env!("CARGO_BIN_EXE_qqmgr")));
    }
    let verify = "XDG_RUNTIME_DIR=$PWD systemd-analyze --user verify ./*.service";
    project.sh(verify).run().stdout("").success();
}

/// Runs the sessions of README.md with its configuration. Linux must not check its timer, which is
/// late on a busy host. Numbers in the output and the order of VMs may differ.
#[test]
fn readme_runs_as_printed() {
    let Some(project) = guest_project() else { return };
    let (_, rest) = README.split_once("```toml\n").expect("README.md has one");
    let configuration = rest.split("```").next().unwrap_or_default();
    project.config(&configuration.replace("=ttyS0", "=ttyS0 no_timer_check"));
    project.write("notes.txt", "a few notes\n");
    let sessions = README.split("\n\n").filter(|block| block.starts_with("    $ "));
    let sessions: String = sessions.map(|session| session.replace("\n    ", "\n")).collect();
    let steps: Vec<&str> = sessions.split("$ ").skip(1).collect();
    assert!(steps.len() > 7, "the sessions are not found");
    for step in steps {
        let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
        project.write("step", command);
        let (_, stdout, stderr) = sh(&project, &["step"]);
        assert_eq!(roughly(&(stdout + &stderr)), roughly(expected), "{command}");
    }
    for (number, block) in README.split("```toml\n").skip(1).enumerate() {
        let file = format!("{number}.toml");
        project.write(&file, block.split("```").next().unwrap_or_default());
        let name = block.split_once("[vm.").expect("a VM").1.split(']').next().unwrap_or_default();
        assert_eq!(run(&project, &["-c", &file, "cmdline", name]).0, 0, "{block}");
    }
}

/// The lines, sorted, with every number a 0 and with single blanks.
fn roughly(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let mut out = String::new();
        for c in word.chars() {
            match c {
                // Fractions and versions have any number of digits and parts.
                '0'..='9' | '.' if out.ends_with('0') => {}
                '0'..='9' => out.push('0'),
                c => out.push(c),
            }
        }
        out
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    let said = text.lines().filter(|line| !is_note(line)).map(line);
    let mut lines: Vec<String> = said.collect();
    lines.sort();
    lines
}

/// Whether a line of standard error is about a wait on a busy host, or the summary of a job.
fn is_note(line: &str) -> bool {
    line.starts_with("qqmgr: ") && line.contains("waiting for ")
        || line.starts_with("qqmgr: exit status 0: ")
}

/// Runs `sh` in the project: exit code, standard output and standard error.
#[track_caller]
fn sh(project: &Project, arguments: &[&str]) -> (i32, String, String) {
    let mut command = with_default_signals("sh");
    command.args(arguments).current_dir(project.path("")).stdin(Stdio::null());
    command.env("PATH", path_with_fakes(project)).env("HOME", project.path("home"));
    for name in ["XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(command.output()));
    let output: process::Output = receiver
        .recv_timeout(SCRIPT_DURATION_MAX)
        .unwrap_or_else(|_| panic!("sh {arguments:?} takes longer than {SCRIPT_DURATION_MAX:?}"))
        .expect("there is a sh");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
