//! Compares qqmgr-json(5) with the documents that the commands print.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{
    QQMGR_1, QQMGR_JSON_5, command_section, json, lines_after, literal_blocks, make_programs,
    members, part, parts, path_with_fakes, printed, project, rendered, reports_its_end, run,
    unique,
};
use crate::harness::{Project, fake_qemu, free_port, has_tool, program, real_qemu, wait_until};

/// The SHA-256 of 512 zeros.
const SUM: &str = "076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560";
/// Their SHA-512.
const SHA512: &str = "df40d4a774e0b453a5b87c00d6f0ef5d753143454e88ee5f7b607134598294c7\
                      905ccbcf94bbc46e474db6eb44e56a6dbb6d9a1be9d4fb5d1b5f2d0c6ed34bfe";

/// Name and type of the members that a text lists, as `.It Va name Ta type Ta meaning`.
fn listed_members(text: &str) -> Vec<(&str, &str)> {
    let rows = lines_after(text, ".It Va ").into_iter().map(|row| row.split(" Ta"));
    rows.map(|mut cells| (cells.next().unwrap(), cells.next().expect("a type").trim())).collect()
}

/// The paragraph of qqmgr-json(5) on a command: the members that it begins with, and its text.
#[track_caller]
fn json_section<'p>(page: &'p str, command: &str) -> (Vec<&'p str>, &'p str) {
    let commands = part(page, ".Sh", "COMMANDS");
    let paragraphs = parts(commands, ".Cm").into_iter().filter_map(|(title, text)| {
        let (commands, members) = title.split_once(" :")?;
        let members = members.strip_prefix(" Va ").map(|list| list.split(" , ").collect());
        commands
            .split(" , ")
            .any(|name| name == command)
            .then(|| (members.unwrap_or_default(), text))
    });
    let mut found: Vec<_> = paragraphs.collect();
    assert_eq!(found.len(), 1, "paragraphs of qqmgr-json(5) on `{command}`");
    found.remove(0)
}

/// Compares qqmgr-json(5) with the documents of a command: they have the same members in the same
/// order with the documented types, and each type occurs. Returns the common members that were
/// found.
#[track_caller]
fn members_are_documented(command: &str, documents: &[String]) -> Vec<(String, &'static str)> {
    let page = printed(QQMGR_JSON_5);
    let (first, text) = json_section(&page, command);
    members_are_listed(command, &first, text, documents)
}

#[track_caller]
pub(super) fn members_are_listed(
    what: &str,
    first: &[&str],
    text: &str,
    documents: &[String],
) -> Vec<(String, &'static str)> {
    let page = printed(QQMGR_JSON_5);
    let common = listed_members(part(&page, ".Sh", "COMMON MEMBERS"));
    let own = listed_members(text);
    let mut found: Vec<(String, String)> =
        documents.iter().flat_map(|document| members(document)).collect();
    // The page documents the elements of the array.
    found.retain(|(_, value)| value != "[]");
    let paths: Vec<&str> = unique(found.iter().map(|(path, _)| path.as_str()));
    let expected = unique(first.iter().copied().chain(own.iter().map(|(name, _)| *name)));
    assert_eq!(paths, expected, "members of `{what}`");
    let mut types_of_common = Vec::new();
    for name in expected {
        let values = found.iter().filter(|(path, _)| path == name);
        let types: BTreeSet<&str> = values.map(|(_, value)| type_of(value)).collect();
        if let Some((_, kind)) = own.iter().find(|(row, _)| *row == name) {
            assert_eq!(types, types_of(kind), "types of `{name}` in `{what}`");
        } else {
            let kind = common.iter().find(|(row, _)| *row == name).expect("a common member").1;
            assert!(types.is_subset(&types_of(kind)), "types of `{name}` in `{what}`");
            types_of_common.extend(types.into_iter().map(|kind| (name.to_owned(), kind)));
        }
    }
    types_of_common
}

/// The types that `string?` and the like stand for.
fn types_of(kind: &str) -> BTreeSet<&str> {
    let null = kind.ends_with('?').then_some("null");
    [kind.trim_end_matches('?')].into_iter().chain(null).collect()
}

fn type_of(value: &str) -> &'static str {
    match value {
        "null" => "null",
        "true" | "false" => "boolean",
        value if value.starts_with('"') => "string",
        value if value.contains('.') => "number",
        _ => "integer",
    }
}

/// Does `work` while a fake ssh server introduces itself on the port.
pub(super) fn with_ssh_server<T>(port: u16, work: impl FnOnce() -> T) -> T {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let has_ended = Arc::new(AtomicBool::new(false));
    let server_ends = Arc::clone(&has_ended);
    let server = thread::spawn(move || {
        for stream in listener.incoming().take_while(|_| !server_ends.load(Ordering::SeqCst)) {
            let _ = stream.and_then(|mut stream| stream.write_all(b"SSH-2.0-test\r\n"));
        }
    });
    let result = work();
    has_ended.store(true, Ordering::SeqCst);
    TcpStream::connect(("127.0.0.1", port)).expect("it still listens");
    server.join().expect("it has ended");
    result
}

#[test]
fn json_of_every_command_is_documented() {
    if !["qemu-img", "ssh"].iter().all(|name| has_tool(name)) {
        return;
    }
    let (project, port) = project();
    let run = |arguments: &[&str]| json(&project, arguments);
    let mut types_of_common = BTreeSet::new();
    let mut check = |command: &str, documents: &[String]| {
        types_of_common.extend(members_are_documented(command, documents));
    };

    // With a hint and without.
    project.write("check.toml", "[vm.a]\ncmd = '-hda ruin'\nssh.port = 1\n");
    project.write("run", "");
    check("check", &[run(&["-c", "check.toml", "check"])]);
    let stopped = [run(&["status", "dev"]), run(&["stop", "dev"])];
    let waited = [run(&["wait", "dev", "--for", "stopped"])];
    write_images(&project);
    let builds = ["start", "restart"].map(|command| {
        let done = run(&["-c", "image.toml", command, "uses"]);
        run(&["-c", "image.toml", "stop", "uses"]);
        // The restart grows what the start has made.
        let text = fs::read_to_string(project.path("image.toml")).unwrap();
        project.write("image.toml", text.replace("size = 1\n", "size = 1024\n"));
        done
    });
    run(&["-c", "image.toml", "img", "rm", "b"]);
    let started = [run(&["start", "dev"]), run(&["start", "dev"])];
    fs::write(project.vm_path("dev", "console.socket"), "").unwrap();
    let configured = [run(&["list"]), run(&["status", "dev"])];
    check("serial", &[run(&["serial", "dev"]), run(&["log", "dev"])]);
    check("put", &[run(&["put", "dev", "tests", "."]), run(&["get", "dev", "a", "."])]);
    check("monitor", &[run(&["monitor", "dev", "info", "status"])]);
    check("screenshot", &[run(&["screenshot", "dev", "screen.png"])]);
    check("completions", &[run(&["completions", "bash"])]);
    let ran = with_ssh_server(port, || run(&["run", "dev", "--", "true"]));
    check("ssh", &[run(&["ssh", "dev", "true"]), ran]);
    check("ssh-config", &[run(&["ssh-config", "dev", "chosen"])]);
    let with_image =
        |file: &str, sum: &str| run(&["-c", file, "init", "--image", "disk", "--checksum", sum]);
    let with_image = [with_image("a.toml", SUM), with_image("b.toml", SHA512)];
    // Its findings are as in `check`.
    let script = run(&["-c", "script.toml", "init", "--", "sudo", "true", "-m", "1"]);
    check("init", &[&with_image[..], &[run(&["-c", "first.toml", "init"]), script]].concat());
    images_are_documented(&project, &mut check);
    let ends = [run(&["wait", "dev", "--for", "running"])];
    reports_its_end(&project, "dev", true, "guest-shutdown");
    let restarted = [run(&["restart", "dev"]), run(&["restart", "chosen"])];
    check("start", &[&started[..], &builds, &restarted].concat());
    check("forward", &[run(&["forward", "chosen"])]);
    let forwards = run(&["status", "chosen"]);
    reports_its_end(&project, "chosen", true, "guest-shutdown");
    let stop = run(&["stop", "chosen"]);
    let ended = [run(&["list"]), run(&["status", "chosen"])];
    check("wait", &[&waited[..], &ends, &[run(&["wait", "chosen", "--for", "stopped"])]].concat());

    let configuration = project.path("qqmgr.toml");
    let changed = fs::read_to_string(&configuration).unwrap();
    let changed = changed.replace("cmd = ''", "cmd = '-m 1 -smp 2'");
    let changes = |before: &str, after: &str| {
        project.config(&changed.replace("-m 1 -smp 2", before));
        assert_eq!(self::run(&project, &["restart", "dev"]).0, 0);
        project.config(&changed.replace("-m 1 -smp 2", after));
        run(&["status", "dev"])
    };
    let changed = [changes("-m 1 -smp 2", "-m 2"), changes("", "-m 1")];
    // A VM of which it is only known that it runs.
    project.config("");
    fs::remove_file(project.vm_path("dev", "instance.json")).unwrap();
    check("list", &[configured[0].clone(), ended[0].clone(), run(&["list"])]);
    let statuses = [&[stopped[0].clone(), run(&["status", "dev"])], &changed[..], &configured[1..]];
    check("status", &[&statuses.concat(), &ended[1..], &[forwards]].concat());
    let quiet = members(&run(&["status", "-q", "dev"]));
    assert_eq!(quiet.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["name", "running"]);
    check("stop", &[stopped[1].clone(), run(&["stop", "dev"]), stop]);

    let page = printed(QQMGR_JSON_5);
    project.write("first.toml", "[vm.a]\ncmd = '-m 1'\nssh.port = 1\n[qemu]\nbin = '/bin/true'\n");
    for arguments in
        [&["-c", "first.toml", "list", "-q"][..], &["-c", "first.toml", "cmdline", "a"]]
    {
        let text = json_section(&page, arguments[2]).1.to_ascii_lowercase();
        assert!(text.contains("\nan array of strings: "), "{arguments:?}");
        let strings = members(&run(arguments));
        assert!(strings.iter().all(|(path, value)| path.is_empty() && type_of(value) == "string"));
        assert!(!strings.is_empty(), "{arguments:?}");
    }

    let overview = run(&["help"]);
    let options_of_all = overview.find("\n  \"flags\"").expect("the options of every command");
    let of_all = format!("{{{}", &overview[options_of_all..]);
    check("help COMMAND", &[run(&["help", "stop"]), of_all]);
    let parts = members(&overview).into_iter();
    let parts =
        parts.map(|(path, _)| path.split_once("[]").expect("two arrays").0.to_owned() + "[]");
    assert_eq!(unique(parts), json_section(&page, "help").0);
    let version = members(&run(&["--version"]));
    assert_eq!(version.len(), 1);
    assert!(page.contains(&format!("prints an object with the member\n.Va {} ,", version[0].0)));

    // Only a QEMU that ends in a `run` has an exit status: see below.
    types_of_common.insert(("exit_status".to_owned(), "integer"));
    let mut documented = BTreeSet::new();
    for (name, kind) in listed_members(part(&page, ".Sh", "COMMON MEMBERS")) {
        documented.extend(types_of(kind).into_iter().map(|kind| (name.to_owned(), kind)));
    }
    assert_eq!(types_of_common, documented);
}

/// Two images, one of them of a VM.
pub(super) fn write_images(project: &Project) {
    project.write("disk", [0; 512]);
    let qemu = fake_qemu();
    let image = format!(
        "[qemu]\nbin = '{}'\n[img.a]\nbase = 'disk'\n[img.a.cloud_init]\n[img.b]\nsize = 1\n\
         [vm.uses]\ncmd = '-hda {{{{.img.b}}}}'\nssh.port = {}\n",
        qemu.display(),
        free_port()
    );
    project.write("image.toml", image);
}

/// The actions of `img`, each of which gives a document of its own kind.
#[track_caller]
fn images_are_documented(project: &Project, check: &mut impl FnMut(&str, &[String])) {
    let run =
        |arguments: &[&str]| json(project, &[&["-c", "image.toml", "img"], arguments].concat());
    let missing = [run(&["list"]), run(&["path", "a"]), run(&["path", "b"]), run(&["build", "a"])];
    self::run(project, &["-c", "image.toml", "start", "uses"]);
    project.write("disk", [0; 1024]);
    let changed = [run(&["list"]), run(&["build"]), run(&["reset", "a"])];
    project.write("image.toml", "");
    let undeclared = run(&["list"]);
    check("img list", &[changed[0].clone(), missing[0].clone(), undeclared]);
    check("img path", &missing[1..3]);
    check("img build", &[missing[3].clone(), changed[1].clone()]);
    check("img reset", &changed[2..]);
    check("img rm", &[run(&["rm", "a"])]);
    let page = printed(QQMGR_JSON_5);
    for state in ["missing", "incomplete", "changed", "built"] {
        assert!(has_word(json_section(&page, "img list").1, state), "{state}");
    }
}

/// Whether a text has a word of the program, as `.Dv word`.
fn has_word(text: &str, word: &str) -> bool {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.windows(2).any(|two| two[1] == word && two[0].ends_with("Dv"))
}

/// A real QEMU, and a QEMU of which it is only known that it runs.
#[test]
fn json_of_stats_is_documented() {
    let Some(qemu) = real_qemu() else { return };
    let (project, _) = project();
    let machine = "-nodefaults -machine pc -accel tcg -m 32 -display none -device virtio-balloon \
                   -drive file=disk,format=raw,if=virtio -netdev user,id=n -device virtio-net,netdev=n";
    let real = format!(
        "[qemu]\nbin = '{qemu}'\n[vm.real]\ncmd = '{machine}'\nssh.port = {}\n",
        free_port()
    );
    project.write("disk", vec![0; 1 << 20]);
    project.write("real.toml", real);
    assert_eq!(run(&project, &["-c", "real.toml", "start", "real"]).0, 0);
    let known = json(&project, &["-c", "real.toml", "stats", "real"]);
    assert_eq!(run(&project, &["-c", "real.toml", "stop", "--force", "real"]).0, 0);

    // A `ps` that shows only the columns of every `ps`.
    let ps = "case $* in *time=*) exit 1 ;; esac\nPATH=${PATH#*:*:} exec ps \"$@\"\n";
    project.write("bin/ps.sh", format!("#!/bin/sh\n{ps}"));
    make_programs(&project);
    assert_eq!(run(&project, &["start", "dev"]).0, 0);
    fs::remove_file(project.vm_path("dev", "instance.json")).unwrap();
    let unknown = project.qqmgr(&["stats", "dev", "--json"]).env("PATH", path_with_fakes(&project));
    let unknown = unknown.env("QQMGR_TEST_PROC", "/nowhere").run().stdout;
    members_are_documented("stats", &[known, unknown]);
}

/// Uses a PC, since QEMU without a machine takes no NMI.
#[test]
fn json_of_keys_and_buttons_is_documented() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n\
         [vm.dev]\ncmd = '-nodefaults -machine pc -accel tcg -display none'\nssh.port = {}\n",
        free_port()
    ));
    assert_eq!(run(&project, &["start", "dev"]).0, 0);
    let mut pid = json(&project, &["status", "dev"]);
    pid = members(&pid).into_iter().find(|(name, _)| name == "pid").expect("a pid").1;
    for command in ["pause", "resume", "reset", "powerdown", "nmi", "sendkey"] {
        let keys = if command == "sendkey" { &["ret"][..] } else { &[] };
        let documents = [(); 2].map(|()| json(&project, &[&[command, "dev"], keys].concat()));
        if command == "pause" {
            let document = &documents[0];
            let example = literal_blocks(&printed(QQMGR_JSON_5)).concat().replace("4711", &pid);
            assert_eq!(format!("$ qqmgr pause dev --json\n{document}"), example);
        }
        members_are_documented(command, &documents);
    }
}

/// Uses a real QEMU, which has a console.
#[test]
fn json_of_the_console_is_documented() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[vm.dev]\nconsole = true\nssh.port = {}\n\
         cmd = '-nodefaults -machine none -display none'\n",
        free_port()
    ));
    assert_eq!(run(&project, &["start", "dev"]).0, 0);
    let idle = json(&project, &["console", "dev", "--idle", "0.1"]);
    let socket = project.vm_path("dev", "console.socket");
    let awaits = project.qqmgr(&["--json", "console", "dev", "--idle", "50"]).start();
    wait_until("it has the console", Duration::from_secs(30), || {
        let chardevs = run(&project, &["qmp", "dev", "query-chardev"]).1;
        chardevs.contains(&format!("\"unix:{}", socket.display()))
    });
    assert_eq!(run(&project, &["stop", "dev", "--force"]).0, 0);
    let ended = "qqmgr: VM `dev` has ended: QEMU was ended by a signal\n";
    let stopped = awaits.end().stdout("{\n...\n}\n").stderr(ended).success().stdout.clone();
    members_are_documented("console", &[idle, stopped]);
}

/// The guest ends QEMU by its exit device.
#[test]
fn json_of_a_boot_is_documented() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[vm.dev]\nssh.port = 'none'\n\
         cmd = '-nodefaults -machine pc -accel tcg -display none -bios fw.bin \
         -device isa-debug-exit,iobase=0xf4,iosize=4'\n"
    ));
    let mut firmware = vec![0; 65536];
    // It writes `x` to the serial port and ends; the processor begins with a jump there.
    let code = b"\xba\xf8\x03\xb0x\xee\xba\xf4\0\xb0\x10\xee\xf4";
    firmware[65280..][..code.len()].copy_from_slice(code);
    firmware[65520..65523].copy_from_slice(b"\xe9\x0d\xff");
    project.write("fw.bin", &firmware);
    let ended = json(&project, &["run", "dev"]);
    let found = json(&project, &["run", "dev", "--until", "x"]);
    members_are_documented("run without COMMAND", &[ended, found]);
}

/// The VM has no guest, and its disk keeps the snapshots.
#[test]
fn json_of_snapshots_is_documented() {
    let (Some(qemu), Some(_)) = (real_qemu(), program("qemu-img")) else { return };
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[vm.dev]\n\
         cmd = '-nodefaults -machine none -display none -drive file=a.qcow2,if=none'\n\
         ssh.port = 'auto'\n"
    ));
    project.sh("qemu-img create -q -f qcow2 a.qcow2 1M").run().success();
    assert_eq!(run(&project, &["start", "dev"]).0, 0);
    let snapshot = |words: &[&str]| json(&project, &[&["snapshot"], words].concat());
    let saved = snapshot(&["save", "dev", "a"]);
    let lists = [snapshot(&["list", "dev"]), snapshot(&["list", "-q", "dev"])];
    let others = [saved, snapshot(&["load", "dev", "a"]), snapshot(&["delete", "dev", "a"])];

    members_are_documented("snapshot", &others);
    members_are_documented("snapshot list", &lists[..1]);
    let page = printed(QQMGR_JSON_5);
    assert!(json_section(&page, "snapshot list").1.contains("\nan array of strings: the tags"));
    assert_eq!(lists[1], "[\n  \"a\"\n]\n");
}

#[test]
fn states_and_methods_are_documented() {
    let (project, _) = project();
    let page = printed(QQMGR_JSON_5);
    let common = part(&page, ".Sh", "COMMON MEMBERS");
    let holds = |command: &str, member: &str, arguments: &[&str], expected: &str| {
        let document = members(&json(&project, arguments));
        let value = document.iter().find(|(path, _)| path == member).map(|(_, v)| v.as_str());
        assert_eq!(value, Some(format!("\"{expected}\"").as_str()), "{arguments:?}");
        let text = match member {
            "state" => part(common, ".Ss", "state"),
            _ => json_section(&page, command).1,
        };
        assert!(has_word(text, expected), "{command}: {expected}");
    };
    holds("status", "state", &["status", "dev"], "stopped");
    holds("stop", "method", &["stop", "dev"], "none");
    holds("status", "state", &["start", "dev"], "running");
    holds("stop", "method", &["stop", "dev"], "powerdown");
    holds("status", "state", &["start", "dev"], "running");
    holds("stop", "method", &["stop", "--force", "dev"], "sigterm");
    holds("status", "state", &["start", "dev"], "running");
    reports_its_end(&project, "dev", false, "host-qmp-quit");
    holds("stop", "method", &["stop", "dev"], "died");

    let reasons = lines_after(part(common, ".Ss", "reason"), ".It Dv ");
    assert!(reasons.len() > 5, "the reasons are not found");
    for reason in reasons {
        reports_its_end(&project, "dev", false, reason);
        let said = run(&project, &["wait", "dev", "--for", "stopped"]).1;
        assert!(!said.contains(reason), "there are no words for {reason}: {said}");
    }
    let page = printed(QQMGR_1);
    let conditions = lines_after(command_section(&page, "wait"), ".It Ql ");
    let conditions: BTreeSet<String> = conditions.into_iter().map(rendered).collect();
    let refused = json(&project, &["wait", "dev", "--for", "x"]);
    let (_, known) = refused.split_once(": it is `").expect("the conditions are named");
    let known = known.split('\"').next().unwrap_or_default().split('`').step_by(2);
    assert_eq!(conditions, known.map(str::to_owned).filter(|word| !word.is_empty()).collect());
}
