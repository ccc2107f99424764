//! The man pages are the reference, so they are held to the program, both ways: commands, flags,
//! operands, JSON, exit codes, files, keys and defaults are those that the binary shows, and the
//! examples run as printed.
//!
//! For that the pages keep to a few forms. In qqmgr(1), a `.Ss` of COMMANDS names one or more
//! commands and begins with a `.D1` of the synopsis of each; a flag is `.It Fl -name`. In
//! qqmgr-json(5), a paragraph of COMMANDS begins with `.Cm command , ... : Va member , ...`, and a
//! member is `.It Va name Ta type Ta meaning`. An example is a `.Bd -literal` block, of `sh` in
//! qqmgr(1) and qqmgr(7), and of TOML in qqmgr.toml(5).

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::harness::{
    Project, fake_qemu, free_port, guest_dir, has_program, has_tool, program, real_qemu,
    wait_until, with_default_signals,
};

const QQMGR_1: &str = include_str!("../../man/qqmgr.1");
const README: &str = include_str!("../../README.md");
const QQMGR_7: &str = include_str!("../../man/qqmgr.7");
const QQMGR_JSON_5: &str = include_str!("../../man/qqmgr-json.5");
const QQMGR_TOML_5: &str = include_str!("../../man/qqmgr.toml.5");
/// Each page with the most lines that it may print at 80 columns.
const PAGES: [(&str, usize); 4] =
    [("qqmgr.1", 900), ("qqmgr-json.5", 300), ("qqmgr.toml.5", 650), ("qqmgr.7", 900)];
const SCRIPT_DURATION_MAX: Duration = Duration::from_secs(200);

/// The one command that cannot do without a flag of its own, and that flag.
const NEEDED_FLAG: (&str, &str) = ("wait", "for");

/// Of 512 zeros.
const SUM: &str = "076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560";

/// Leaves what ssh leaves in a VM's directory, notes its words, and does nothing else.
const FAKE_SSH: &str = r#"#!/bin/sh
umask 077
case $2 in
*/ssh.conf) : >"${2%/*}/known_hosts" && : >"${2%/*}/ssh.$(printf '%040d' 0)" ;;
esac
printf '%s\n' "$*" >>ssh-calls
cat >/dev/null
"#;

/// Tells whether what would reach the guest does; see rsync(1) for `-a -e SSH FROM HOST:TO`.
const FAKE_RSYNC: &str = r#"#!/bin/sh
[ "$1 $2" = '-a -e' ] && exec $3 "${5%%:*}" true </dev/null
exit 1
"#;

// ---- the pages ----

/// The page with the characters that roff escapes as they are printed.
fn printed(page: &str) -> String {
    let escapes = [(r"\-", "-"), (r"\(aq", "'"), (r"\(ga", "`"), (r"\(ha", "^"), (r"\(ti", "~")];
    let more = [(r"\(dq", "\""), (r"\&", ""), (r"\e", "\\")];
    escapes.iter().chain(&more).fold(page.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Title and content of each part that begins with the macro; the content with the newline before
/// it, so that it can be taken apart in the same way.
fn parts<'p>(text: &'p str, header: &str) -> Vec<(&'p str, &'p str)> {
    let pattern = format!("\n{header} ");
    let part = |part: &'p str| part.split_at(part.find('\n').unwrap_or(part.len()));
    text.split(pattern.as_str()).skip(1).map(part).collect()
}

#[track_caller]
fn part<'p>(text: &'p str, header: &str, title: &str) -> &'p str {
    let found = parts(text, header).into_iter().find(|(name, _)| *name == title);
    found.unwrap_or_else(|| panic!("there is no `{header} {title}`")).1
}

/// What the lines that begin with `prefix` have behind it.
fn lines_after<'p>(text: &'p str, prefix: &str) -> Vec<&'p str> {
    text.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// What a reader sees of a line of macros, of those that the pages use where it matters.
fn rendered(line: &str) -> String {
    let mut out = String::new();
    let (mut glue, mut optional) = (true, 0);
    for word in line.trim_start_matches('.').split(' ') {
        let (text, then_glue) = match word {
            "Ar" | "Cm" | "D1" | "Ic" | "It" | "No" | "Va" => continue,
            "Ns" => {
                glue = true;
                continue;
            }
            "Nm" => ("qqmgr", false),
            "Fl" => ("-", true),
            "Op" => {
                optional += 1;
                ("[", true)
            }
            "Oo" => ("[", true),
            "Oc" | "..." | "," => {
                glue = true;
                (if word == "Oc" { "]" } else { word }, false)
            }
            word => (word, false),
        };
        out.push_str(if glue { "" } else { " " });
        out.push_str(text);
        glue = then_glue;
    }
    out + &"]".repeat(optional)
}

/// All long flags that a text names, by macro or in an example.
fn long_flags(text: &str) -> BTreeSet<&str> {
    let by_macro = text
        .lines()
        .filter(|line| line.starts_with('.'))
        .flat_map(|line| line.split("Fl -").skip(1).filter_map(|rest| rest.split(' ').next()));
    let plain = text.split("--").skip(1);
    let name_of = |rest: &str| rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
    plain
        .chain(by_macro)
        .map(|rest| &rest[..name_of(rest).unwrap_or(rest.len())])
        .filter(|name| !name.is_empty())
        .collect()
}

/// The blocks between `.Bd -literal` and `.Ed`.
fn literal_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("\n.Bd -literal").skip(1);
    blocks
        .map(|block| {
            let (_, content) = block.split_once('\n').expect("a block has lines");
            content.split_once("\n.Ed").expect("a block has an end").0.to_owned() + "\n"
        })
        .collect()
}

// ---- what the binary shows ----

/// The members of a document as `--json` lays it out, by path, with their values as written: `a.b`
/// in an object, `a[]` in an array; those of a document that is an array as of its elements.
fn members(json: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    for line in json.lines() {
        let line = line.trim_start().trim_end_matches(',');
        let prefix = prefixes.last().cloned().unwrap_or_default();
        let (path, value) = match line.split_once("\": ") {
            Some((name, value)) if name.starts_with('"') => {
                let dot = if prefix.is_empty() { "" } else { "." };
                (format!("{prefix}{dot}{}", &name[1..]), value)
            }
            _ => (prefix, line),
        };
        match value {
            "{" => prefixes.push(path),
            "[" if prefixes.is_empty() => prefixes.push(path),
            "[" => prefixes.push(path + "[]"),
            "}" | "]" => drop(prefixes.pop()),
            value => found.push((path, value.to_owned())),
        }
    }
    found
}

fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

#[derive(Default)]
struct Flag {
    long: String,
    short: Option<String>,
    value: Option<String>,
    value_required: bool,
    repeatable: bool,
    help: String,
}

impl Flag {
    /// `--timeout SECONDS`, `--wait[=SECONDS]`
    fn usage(&self) -> String {
        let value = match &self.value {
            Some(name) if self.value_required => format!(" {name}"),
            Some(name) => format!("[={name}]"),
            None => String::new(),
        };
        format!("--{}{value}", self.long)
    }

    /// The same as in a synopsis.
    fn optional(&self, command: &str) -> String {
        let (usage, more) = (self.usage(), if self.repeatable { "..." } else { "" });
        if (command, self.long.as_str()) == NEEDED_FLAG {
            usage
        } else {
            format!("[{usage}]{more}")
        }
    }

    /// As in a list of flags: `-c FILE, --config FILE`.
    fn row(&self) -> String {
        let value = self.value.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let short = self.short.as_ref().map(|letter| format!("-{letter}{value}, "));
        short.unwrap_or_default() + &self.usage()
    }
}

struct Cmd {
    name: String,
    usage: String,
    flags: Vec<Flag>,
}

impl Cmd {
    /// The usage with the flags that it has.
    fn synopsis(&self) -> String {
        let flags = self.flags.iter().map(|flag| format!(" {}", flag.optional(&self.name)));
        self.usage.replace(" [OPTIONS]", &flags.collect::<String>())
    }
}

/// The table of commands and the global flags.
fn help(project: &Project) -> (Vec<Cmd>, Vec<Flag>) {
    let (mut commands, mut global) = (Vec::<Cmd>::new(), Vec::<Flag>::new());
    for (path, value) in members(&json(project, &["help"])) {
        let text = Some(value.trim_matches('"').to_owned()).filter(|_| value != "null");
        let (flags, member) = match path.split_once("flags[].") {
            Some(("", member)) => (&mut global, member),
            Some((_, member)) => (&mut commands.last_mut().expect("a command").flags, member),
            None => {
                let text = text.unwrap_or_default();
                match path.as_str() {
                    "commands[].name" => {
                        let (usage, flags) = (String::new(), Vec::new());
                        commands.push(Cmd { name: text, usage, flags });
                    }
                    "commands[].usage" => commands.last_mut().expect("a command").usage = text,
                    _ => {}
                }
                continue;
            }
        };
        if member == "long" {
            let long = text.clone().unwrap_or_default();
            flags.push(Flag { long, ..Flag::default() });
        }
        let flag = flags.last_mut().expect("`long` is the first member");
        match member {
            "short" => flag.short = text,
            "value" => flag.value = text,
            "value_required" => flag.value_required = value == "true",
            "repeatable" => flag.repeatable = value == "true",
            "help" => flag.help = text.unwrap_or_default(),
            _ => {}
        }
    }
    assert!(!commands.is_empty() && !global.is_empty(), "`help --json` shows nothing");
    (commands, global)
}

/// Standard output of a command with `--json` before it.
#[track_caller]
fn json(project: &Project, arguments: &[&str]) -> String {
    run(project, &[&["--json"], arguments].concat()).1
}

/// Exit code and standard output, with the fake ssh and scp.
#[track_caller]
fn run(project: &Project, arguments: &[&str]) -> (i32, String) {
    let output = project.qqmgr(arguments).env("PATH", path_with_fakes(project)).run();
    (output.status.expect("an exit code"), output.stdout)
}

// ---- a project ----

/// VMs on fake QEMUs, and what `put` needs.
fn project() -> (Project, u16) {
    let project = Project::new();
    let port = free_port();
    let qemu = fake_qemu();
    let qemu = qemu.display();
    project.config(&format!(
        "[qemu]\nbin = '{qemu}'\n[vm.dev]\ncmd = ''\nssh.port = {port}\n\
         [vm.idle]\ncmd = '-name fake=no-qmp'\nssh.port = {}\n\
         [vm.fails]\ncmd = '-name fake=exits-with-error'\nssh.port = {0}\n\
         [vm.chosen]\ncmd = ''\nssh.port = 'auto'\n",
        free_port()
    ));
    project.write("tests/run", "true\n");
    for (name, script) in [("ssh", FAKE_SSH), ("scp", "#!/bin/sh\n")] {
        project.write(format!("bin/{name}.sh"), script);
    }
    make_programs(&project);
    (project, port)
}

/// Makes a program of each `bin/NAME.sh`. By another process: nothing of this one may hold them
/// open for writing when they are run.
fn make_programs(project: &Project) {
    let copy = "cd bin && for f in *.sh; do cat $f >${f%.sh} && chmod 755 ${f%.sh} || exit; done";
    let made = Command::new("sh").args(["-c", copy]).current_dir(project.path("")).status();
    assert!(made.expect("there is a sh").success());
}

/// Lets the VM's QEMU, a fake that tells nothing, have told why it ends.
fn told(project: &Project, vm: &str, by_guest: bool, reason: &str) {
    let data = format!("{{\"guest\": {by_guest}, \"reason\": \"{reason}\"}}");
    let event = format!("{{\"event\": \"SHUTDOWN\", \"data\": {data}}}\n");
    fs::write(project.vm_path(vm, "events.out"), event).expect("there is a file");
}

/// qqmgr, then the fakes, then the system's.
fn path_with_fakes(project: &Project) -> String {
    let qqmgr = Path::new(env!("CARGO_BIN_EXE_qqmgr")).parent().expect("a file has a parent");
    let system = env::var("PATH").unwrap_or_default();
    format!("{}:{}:{system}", qqmgr.display(), project.path("bin").display())
}

// ---- the tests ----

#[test]
fn pages_are_clean_mdoc_and_short_enough_to_read() {
    if !has_tool("mandoc") {
        return;
    }
    for (page, lines_max) in PAGES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(page);
        let mandoc = |arguments: &[&str]| {
            let output = Command::new("mandoc").args(arguments).arg(&file).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        assert_eq!(mandoc(&["-T", "lint", "-W", "warning"]), (true, String::new()), "{page}");
        let lines = mandoc(&["-T", "utf8", "-O", "width=80"]).1.lines().count();
        assert!(lines > 200 && lines <= lines_max, "{page} prints {lines} lines");
    }
}

/// The sections of COMMANDS in qqmgr(1): the commands that each is about, and its text.
fn command_sections(page: &str) -> Vec<(Vec<&str>, &str)> {
    let sections = parts(part(page, ".Sh", "COMMANDS"), ".Ss").into_iter();
    sections.map(|(names, text)| (names.split(", ").collect(), text)).collect()
}

#[track_caller]
fn command_section<'p>(page: &'p str, command: &str) -> &'p str {
    let mut sections = command_sections(page).into_iter();
    sections.find(|(names, _)| names.contains(&command)).expect("every command has a section").1
}

#[test]
fn synopses_are_those_of_the_commands() {
    let (commands, _) = help(&Project::new());
    let page = printed(QQMGR_1);
    let sections = command_sections(&page);
    let names = sections.iter().flat_map(|(names, _)| names.clone());
    assert_eq!(names.collect::<Vec<_>>(), commands.iter().map(|c| &c.name).collect::<Vec<_>>());
    for (names, text) in sections {
        let of_section = commands.iter().filter(|command| names.contains(&command.name.as_str()));
        let shown: Vec<String> = lines_after(text, ".D1 ").into_iter().map(rendered).collect();
        assert_eq!(shown, of_section.map(Cmd::synopsis).collect::<Vec<_>>());
    }
}

#[test]
fn flags_are_those_of_the_commands() {
    let project = Project::new();
    project.config("");
    assert_eq!(run(&project, &["wait", "--all"]).0, 2, "`wait` needs no `--{}`", NEEDED_FLAG.1);
    let (commands, global) = help(&project);
    let page = printed(QQMGR_1);
    let listed = |text| -> Vec<String> {
        let items = lines_after(text, ".It Fl ");
        items.iter().map(|item| rendered(&format!("Fl {item}"))).collect()
    };
    assert_eq!(
        listed(part(&page, ".Sh", "GLOBAL OPTIONS")),
        global.iter().map(Flag::row).collect::<Vec<_>>()
    );
    let common = part(&page, ".Sh", "COMMON OPTIONS");
    let common_rows = listed(common);
    let mut all: BTreeSet<&str> = global.iter().map(|flag| flag.long.as_str()).collect();
    let global_names = all.clone();
    let mut common_found = BTreeSet::new();
    for (names, text) in command_sections(&page) {
        let of_section = commands.iter().filter(|command| names.contains(&command.name.as_str()));
        let flags: Vec<&Flag> = of_section.flat_map(|command| &command.flags).collect();
        let rows = unique(flags.iter().map(|flag| flag.row()));
        let (shared, own): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| common_rows.contains(row));
        common_found.extend(shared);
        assert_eq!(listed(text), own, "of {names:?}");
        let allowed: BTreeSet<&str> = flags.iter().map(|flag| flag.long.as_str()).collect();
        for flag in long_flags(text) {
            let is_allowed = allowed.contains(flag) || global_names.contains(flag);
            assert!(is_allowed, "{names:?} has no `--{flag}`");
        }
        for flag in flags {
            let Some((_, default)) = flag.help.split_once("(default ") else { continue };
            let is_its = |item: &&str| {
                let title = item.lines().next().unwrap_or_default();
                title.contains(&format!("-{} ", flag.long))
            };
            let item = [text, common]
                .into_iter()
                .find_map(|text| text.split("\n.It ").skip(1).find(is_its));
            let told = item.is_some_and(|item| item.contains(&format!("(default {default}")));
            assert!(told, "the default of {names:?} --{} is not {default}", flag.long);
        }
        all.extend(allowed);
    }
    assert_eq!(common_found, common_rows.into_iter().collect(), "in COMMON OPTIONS");
    for page in [QQMGR_1, QQMGR_7, QQMGR_JSON_5, QQMGR_TOML_5].map(printed) {
        for flag in long_flags(&page) {
            assert!(all.contains(flag), "no command has `--{flag}`");
        }
    }
}

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

/// Holds qqmgr-json(5) to the documents of a command: the same members in the same order, and of
/// the documented types, each of which occurs. Returns what was found of the common members.
#[track_caller]
fn members_are_documented(command: &str, documents: &[String]) -> Vec<(String, &'static str)> {
    let page = printed(QQMGR_JSON_5);
    let (first, text) = json_section(&page, command);
    members_are_listed(command, &first, text, documents)
}

#[track_caller]
fn members_are_listed(
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
    // Its elements are what is documented.
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

/// Does `work` while somebody introduces himself on the port as an ssh server does.
fn with_ssh_server<T>(port: u16, work: impl FnOnce() -> T) -> T {
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
        run(&["-c", "image.toml", "img", "rm", "b"]);
        done
    });
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
    let with_image = run(&["-c", "other.toml", "init", "--image", "disk", "--checksum", SUM]);
    check("init", &[run(&["-c", "first.toml", "init"]), with_image]);
    images_are_documented(&project, &mut check);
    let ends = [run(&["wait", "dev", "--for", "running"])];
    told(&project, "dev", true, "guest-shutdown");
    let restarted = [run(&["restart", "dev"]), run(&["restart", "chosen"])];
    check("start", &[&started[..], &builds, &restarted].concat());
    told(&project, "chosen", true, "guest-shutdown");
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
    // A VM that nothing is known of but that it runs.
    project.config("");
    fs::remove_file(project.vm_path("dev", "instance.json")).unwrap();
    check("list", &[configured[0].clone(), ended[0].clone(), run(&["list"])]);
    let statuses = [&[stopped[0].clone(), run(&["status", "dev"])], &changed[..], &configured[1..]];
    check("status", &[&statuses.concat(), &ended[1..]].concat());
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

    let mut documented = BTreeSet::new();
    for (name, kind) in listed_members(part(&page, ".Sh", "COMMON MEMBERS")) {
        documented.extend(types_of(kind).into_iter().map(|kind| (name.to_owned(), kind)));
    }
    assert_eq!(types_of_common, documented);
}

/// Two images, one of them of a VM.
fn write_images(project: &Project) {
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

/// Of a real QEMU, and of one of which nothing is known but that it runs.
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

    // A `ps` that shows only what all of them show.
    let ps = "case $* in *time=*) exit 1 ;; esac\nPATH=${PATH#*:*:} exec ps \"$@\"\n";
    project.write("bin/ps.sh", format!("#!/bin/sh\n{ps}"));
    make_programs(&project);
    assert_eq!(run(&project, &["start", "dev"]).0, 0);
    fs::remove_file(project.vm_path("dev", "instance.json")).unwrap();
    let unknown = project.qqmgr(&["stats", "dev", "--json"]).env("PATH", path_with_fakes(&project));
    let unknown = unknown.env("QQMGR_TEST_PROC", "/nowhere").run().stdout;
    members_are_documented("stats", &[known, unknown]);
}

/// With a PC: no machine takes an NMI.
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
        let document = json(&project, &[&[command, "dev"], keys].concat());
        if command == "pause" {
            let example = literal_blocks(&printed(QQMGR_JSON_5)).concat().replace("4711", &pid);
            assert_eq!(format!("$ qqmgr pause dev --json\n{document}"), example);
        }
        members_are_documented(command, &[document]);
    }
}

/// Of a real QEMU, which has one.
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

/// Of a VM without a guest, whose disk keeps them.
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
    told(&project, "dev", false, "host-qmp-quit");
    holds("stop", "method", &["stop", "dev"], "died");

    let reasons = lines_after(part(common, ".Ss", "reason"), ".It Dv ");
    assert!(reasons.len() > 5, "the reasons are not found");
    for reason in reasons {
        told(&project, "dev", false, reason);
        let said = run(&project, &["wait", "dev", "--for", "stopped"]).1;
        assert!(!said.contains(reason), "there are no words for {reason}: {said}");
    }
    let page = printed(QQMGR_1);
    let conditions = lines_after(command_section(&page, "wait"), ".It Ql ");
    let conditions: BTreeSet<String> = conditions.into_iter().map(rendered).collect();
    let refused = json(&project, &["wait", "dev", "--for", "x"]);
    let (_, known) = refused.split_once(": it is `").expect("the conditions are told");
    let known = known.split('\"').next().unwrap_or_default().split('`').step_by(2);
    assert_eq!(conditions, known.map(str::to_owned).filter(|word| !word.is_empty()).collect());
}

#[test]
fn patterns_mean_what_the_page_says() {
    let project = Project::new();
    let vms = ["a", "ab", "ba", "c"];
    let configuration = vms.map(|vm| format!("[vm.{vm}]\nssh.port = 1\n"));
    project.config(&configuration.concat());
    let page = printed(QQMGR_1);
    let items = lines_after(part(&page, ".Sh", "SEVERAL VMS"), ".It Ql ");
    assert_eq!(items, ["*", "?", "[ab] , [a-c]", "[!ab] , [!a-c]"]);
    for (pattern, expected) in [
        ("*", "a ab ba c"),
        ("?", "a c"),
        ("[ab]", "a"),
        ("[a-c]", "a c"),
        ("[!ab]", "c"),
        ("[!a-c]*", ""),
        ("[!b-c]*", "a ab"),
        ("b", ""),
    ] {
        let (code, document) = run(&project, &["--json", "ssh-config", pattern]);
        let names = members(&document).into_iter().filter(|(path, _)| path == "name");
        let names: Vec<String> = names.map(|(_, name)| name.trim_matches('"').to_owned()).collect();
        if expected.is_empty() {
            assert_eq!(code, 5, "{pattern}");
        } else {
            assert_eq!(names.join(" "), expected, "{pattern}");
        }
    }
}

#[test]
fn errors_and_exit_codes_are_documented() {
    let (project, _) = project();
    let page = printed(QQMGR_1);
    let json_page = printed(QQMGR_JSON_5);
    let errors = part(&json_page, ".Sh", "ERROR DOCUMENTS");
    let bad = "[vm.dev]\ncmd = 1\nports = 1\nssh = { port = 0 }\n";
    project.write("bad.toml", bad);

    let runs: [(&[&str], &str); 6] = [
        (&["start", "fails"], "failed"),
        (&["stopp", "dev"], "usage"),
        (&["put", "dev", "tests", "."], "not-running"),
        (&["start", "idle", "--timeout", "0.1"], "timed-out"),
        (&["-c", "bad.toml", "list"], "config"),
        (&["status", "det"], "unknown-vm"),
    ];
    let mut table = Vec::new();
    let mut documents = Vec::new();
    for (arguments, kind) in runs {
        let (code, document) = run(&project, &[&["--json"], arguments].concat());
        let shown = members(&document).into_iter().find(|(path, _)| path == "error.kind");
        assert_eq!(shown, Some(("error.kind".into(), format!("\"{kind}\""))));
        table.push(format!("{kind} {code}"));
        documents.push(document);
    }
    assert_eq!(run(&project, &["start", "dev"]).0, 0);
    let (code, refused) = run(&project, &["--json", "qmp", "dev", "nope"]);
    assert_eq!(code, 1);
    documents.push(refused);
    assert_eq!(run(&project, &["stop", "dev"]).0, 0);
    members_are_listed("error", &[], errors, &documents);
    let rows = lines_after(errors, ".It Dv ");
    let row = |row: &&str| {
        let cells: Vec<&str> = row.split(" Ta ").collect();
        format!("{} {}", cells[0], cells[1])
    };
    assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), table, "kinds of errors");

    let statuses = lines_after(part(&page, ".Sh", "EXIT STATUS"), ".It ");
    assert_eq!(statuses, ["0", "1", "2", "3", "4", "5", "124", "255"]);
    let lines = [
        "0 status dev",
        "3 status -q dev",
        "3 wait dev --for ssh",
        "4 wait dev --for running --timeout 0",
        "4 start fails idle --timeout 0",
        "5 status dev det",
        "5 status x*",
        "124 run idle --timeout 0.1 -- true",
        "255 run dev",
        "255 run det -- true",
        "255 run fails -- true",
        "255 ssh dev true",
        "255 ssh det",
        "255 -c bad.toml ssh a",
        "255 -c bad.toml run a -- true",
    ];
    for line in lines {
        let (code, arguments) = line.split_once(' ').expect("there are arguments");
        let arguments: Vec<&str> = arguments.split(' ').collect();
        assert_eq!(run(&project, &arguments).0.to_string(), code, "{line}");
    }
}

#[test]
fn files_are_documented_with_their_modes() {
    let (project, port) = project();
    for arguments in [
        &["start", "dev"][..],
        &["restart", "dev"],
        &["ssh", "dev", "true"],
        &["put", "dev", "tests", "."],
    ] {
        assert_eq!(run(&project, arguments).0, 0, "{arguments:?}");
    }
    assert_eq!(with_ssh_server(port, || run(&project, &["run", "dev", "--", "true"])).0, 0);
    let page = printed(QQMGR_1);
    let (of_vm, of_image) =
        part(&page, ".Sh", "FILES").split_once("The directory of an image").unwrap();
    write_images(&project);
    assert_eq!(run(&project, &["-c", "image.toml", "img", "build", "a"]).0, 0);
    let found = |dir: &str, fakes: bool| -> BTreeSet<String> {
        let entries = fs::read_dir(project.path(dir)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = names.map(|name| name.replace(&"0".repeat(40), "HASH"));
        names.filter(|name| name.starts_with("fake.") == fakes).collect()
    };
    assert!(!found(".qqmgr/vm.dev", true).is_empty(), "the fake QEMU has files of its own");
    for (dir, files) in [(".qqmgr/vm.dev", of_vm), ("img.a", of_image)] {
        let items = lines_after(files, ".It Pa ");
        let listed: Vec<_> = items.iter().filter_map(|item| item.split_once(" Ta ")).collect();
        let named = listed.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(found(dir, false), named);
        for (name, rest) in &listed {
            let mode = rest.split(" Ta ").next().expect("a mode");
            let name = name.replace("HASH", &"0".repeat(40));
            let metadata = project.path(dir).join(&name).metadata().unwrap();
            let actual = format!("{:04o}", metadata.permissions().mode() & 0o777);
            assert!(mode == "umask" || mode == actual, "{name}: {actual}");
        }
    }
    for dir in [".qqmgr", ".qqmgr/vm.dev", "img.a"] {
        let mode = project.path(dir).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }

    assert_eq!(run(&project, &["stop", "dev"]).0, 0);
    let (_, kept) = of_vm.split_once("remove everything but\n").expect("FILES says what stays");
    let (kept, _) = kept.split_once("which are kept").expect("FILES says what stays");
    let kept: BTreeSet<String> =
        lines_after(kept, ".Pa ").iter().map(|name| name.replace(" ,", "")).collect();
    assert_eq!(found(".qqmgr/vm.dev", false), kept);
    let guarantees = printed(QQMGR_7);
    let left = lines_after(part(&guarantees, ".Sh", "GUARANTEES"), ".It stop Ta Pa ");
    assert_eq!(left.concat().split(" , ").map(str::to_owned).collect::<BTreeSet<_>>(), kept);
}

/// VMs on the real guest, as the examples have them; programs that use ssh and are not here.
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
    project.write("bin/rsync.sh", FAKE_RSYNC);
    make_programs(&project);
    Some(project)
}

#[test]
fn examples_run_as_printed() {
    let pages = [QQMGR_1, QQMGR_7].map(printed);
    let parts = [(&pages[0], "DESCRIPTION"), (&pages[0], "EXAMPLES"), (&pages[1], "RECIPES")];
    let scripts = parts.map(|(page, title)| literal_blocks(part(page, ".Sh", title))).concat();
    assert!(scripts.len() > 40, "the examples are not found");
    let (commands, _) = help(&Project::new());
    for command in commands.iter().filter(|command| command.name != "help") {
        let call = format!("qqmgr {} ", command.name);
        let is_called = |script: &String| script.replace('\n', " ").contains(&call);
        assert!(scripts.iter().any(is_called), "no example has `{call}`");
    }
    let Some(project) = guest_project() else { return };
    let stop_all = || assert_eq!(run(&project, &["stop", "--all", "--force"]).0, 0);
    for (number, script) in scripts.iter().enumerate() {
        let name = format!("example-{number}");
        project.write(&name, script);
        let shell = |arguments: &[&str]| sh(&project, &[arguments, &[name.as_str()]].concat());
        let syntax = shell(&["-n"]);
        assert!(syntax.0 == 0 && syntax.2.is_empty(), "{name}: {}\n{script}", syntax.2);
        let missing = ["jq", "socat"].into_iter().find(|tool| {
            let uses_it = script.split_ascii_whitespace().any(|word| word == *tool);
            uses_it && !has_program(tool)
        });
        if let Some(tool) = missing {
            eprintln!("skipped: no {tool}, for an example of the man pages");
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

/// What an example must have said or done.
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
    if script.contains("free -m") {
        assert_eq!(lines_with("Mem:"), 2, "{script}\n{stdout}");
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
        assert!(answer.starts_with("status 0"), "{script}\n{stdout}");
    }
    if script.contains("diff now") {
        assert_eq!(lines_with("<") + lines_with(">"), 3, "{script}\n{stdout}");
    }
    if script.contains("qqmgr qmp dev <<") {
        let shown = ["{\"return\": {}}", "paused", "CommandNotFound", "not all of that worked"];
        assert!(shown.iter().all(|text| stdout.contains(text)), "{script}\n{stdout}");
    }
    if script.contains("qqmgr sendkey") {
        assert_eq!(last, "Hello, World!", "{script}\n{stdout}");
    }
    if script.contains("info usernet") {
        assert_eq!(lines_with("TCP[HOST_FORWARD]"), 2, "{script}\n{stdout}");
    }
    if script.contains("jq -r .event") {
        assert_eq!(last, "RESET", "{script}\n{stdout}");
    }
    if script.contains("list --running") {
        assert_eq!(lines_with(" running "), 2, "{script}\n{stdout}");
    }
}

/// The sessions of README.md, with its configuration. Numbers in what is said may be others, and
/// so may the order of VMs.
#[test]
fn readme_runs_as_printed() {
    let Some(project) = guest_project() else { return };
    let (_, configuration) = README.split_once("```toml\n").expect("README.md has one");
    project.config(configuration.split("```").next().unwrap_or_default());
    project.write("notes.txt", "a few notes\n");
    let sessions = README.split("\n\n").filter(|block| block.starts_with("    $ "));
    let mut count = 0;
    for session in sessions {
        for step in session.replace("\n    ", "\n").trim_start().split("$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
            project.write("step", command);
            let (_, stdout, stderr) = sh(&project, &["step"]);
            assert_eq!(roughly(&(stdout + &stderr)), roughly(expected), "{command}");
            count += 1;
        }
    }
    assert!(count > 7, "the sessions are not found");
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

/// That something takes long is said on a busy host.
fn is_note(line: &str) -> bool {
    line.starts_with("qqmgr: ") && line.contains("waiting for ")
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

#[test]
fn configurations_are_accepted() {
    let project = Project::new();
    let blocks = literal_blocks(&printed(QQMGR_TOML_5));
    assert!(blocks.len() > 3, "the examples are not found");
    for (number, block) in blocks.iter().enumerate() {
        let file = format!("{number}/qqmgr.toml");
        project.write(&file, block);
        let (code, listed) = run(&project, &["-c", &file, "list"]);
        assert_eq!(code, 0, "{block}");
        assert!(listed.lines().count() > 1, "no VM in\n{block}");
        // That placeholders, words and options are right shows when all of them are used.
        let qemu = fake_qemu();
        let (bin, fake_file) =
            (format!("bin = '{}'\n", qemu.display()), format!("{number}/fake.toml"));
        let lines: String =
            block.lines().filter(|line| !is_program(line)).map(with_free_port).collect();
        let lines = match lines.split_once("[qemu]\n") {
            Some((before, after)) => format!("{before}[qemu]\n{bin}{after}"),
            None => format!("{lines}\n[qemu]\n{bin}"),
        };
        project.write(&fake_file, &lines);
        project.write(format!("{number}/downloads/debian-12-generic-amd64.qcow2"), [0; 512]);
        let vms = listed.lines().skip(1).filter_map(|line| line.split(' ').next());
        for vm in vms {
            let (code, _) = run(&project, &["-c", &fake_file, "start", vm]);
            assert_eq!(code, 0, "start {vm}\n{lines}");
        }
    }
}

fn is_program(line: &str) -> bool {
    ["bin = ", "qemu = "].iter().any(|key| line.starts_with(key))
}

/// The line with a newline, and an ssh port in it replaced by one that is free here.
fn with_free_port(line: &str) -> String {
    match line.split_once("port = ") {
        Some((before, after)) if before.is_empty() || before.ends_with(['.', ' ']) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            let port = if rest == after { String::new() } else { free_port().to_string() };
            format!("{before}port = {port}{rest}\n")
        }
        _ => format!("{line}\n"),
    }
}

#[test]
fn words_are_split_as_the_page_says() {
    let block = literal_blocks(part(&printed(QQMGR_TOML_5), ".Sh", "WORDS"));
    let [block] = block.as_slice() else { panic!("WORDS has not one example") };
    let expected: Vec<&str> = block
        .lines()
        .filter_map(|line| line.split_once(" # [")?.1.strip_suffix(']'))
        .flat_map(|words| words.split("] ["))
        .collect();
    assert!(expected.len() > 10, "the words are not found");

    let project = Project::new();
    let lines: String = block.lines().map(with_free_port).collect();
    project.config(&format!("{lines}\n[qemu]\nbin = '{}'\n", fake_qemu().display()));
    let (argv, dir) = started(&project, "words");
    let (own, added) = argv[1..].split_at(expected.len());
    assert_eq!(own, expected);

    let page = printed(QQMGR_TOML_5);
    let text = part(part(&page, ".Sh", "WORDS"), ".Ss", "What is added");
    let documented: Vec<String> = lines_after(text, ".Fl ")
        .iter()
        .map(|line| rendered(&format!("Fl {line}")).replace("DIR", &dir))
        .collect();
    let added: Vec<String> = added.chunks(2).map(|two| two.join(" ")).collect();
    assert_eq!(added, documented);
}

/// Starts a VM: the command line of its QEMU, and its directory.
#[track_caller]
fn started(project: &Project, vm: &str) -> (Vec<String>, String) {
    assert_eq!(run(project, &["start", vm]).0, 0);
    let record = members(&project.vm_file(vm, "instance.json"));
    let words = record.into_iter().filter(|(path, _)| path == "argv[]");
    let unquoted =
        |word: String| word[1..word.len() - 1].replace("\\\"", "\"").replace("\\\\", "\\");
    let dir = project.vm_path(vm, "");
    let dir = dir.to_string_lossy().trim_end_matches('/').to_owned();
    (words.map(|(_, word)| unquoted(word)).collect(), dir)
}

#[test]
fn refused_arguments_are_those_of_the_page() {
    let page = printed(QQMGR_TOML_5);
    let text = part(part(&page, ".Sh", "WORDS"), ".Ss", "What is refused");
    let refused = lines_after(text, ".It Fl ");
    assert_eq!(refused.len(), 4);
    let project = Project::new();
    let qemu: PathBuf = fake_qemu();
    let config = |argument: &str| {
        let qemu = qemu.display();
        let port = free_port();
        format!("[qemu]\nbin = '{qemu}'\n[vm.a]\ncmd = '{argument} x'\nssh.port = {port}\n")
    };
    for option in refused {
        for dashes in ["-", "--"] {
            project.config(&config(&format!("{dashes}{option}")));
            assert_eq!(run(&project, &["start", "a"]).0, 5, "{dashes}{option}");
        }
    }
    project.config(&config("-serial"));
    assert_eq!(run(&project, &["start", "a"]).0, 0);
}

#[test]
fn keys_and_ssh_options_are_those_of_the_page() {
    let page = printed(QQMGR_TOML_5);
    let tables = part(&page, ".Sh", "TABLES");
    let keys = |table: &str| -> Vec<String> {
        let items = lines_after(part(tables, ".Ss", table), ".It Cm ");
        items.iter().map(|item| item.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    let top = parts(tables, ".Ss").into_iter().map(|(title, _)| {
        title.trim_matches(['[', ']']).split('.').next().unwrap_or_default().to_owned()
    });
    let documented = [unique(top), keys("[qemu]"), keys("[vm.NAME]")];

    let project = Project::new();
    let vm = "cmd = ''\nssh = { port = 1 }\n";
    for (header, documented) in ["", "[qemu]\n", "[vm.a]\n"].into_iter().zip(documented) {
        let rest = if header == "[vm.a]\n" { vm } else { "" };
        project.config(&format!("{header}zzzzzzzzz = 1\n{rest}"));
        let error = members(&json(&project, &["list"]));
        let hint = error.iter().find(|(path, _)| path == "error.hint").expect("a hint");
        let (_, known) = hint.1.split_once("are `").expect("the hint has the keys");
        let known = known.trim_end_matches(['`', '"']);
        assert_eq!(known.split("`, `").collect::<Vec<_>>(), documented, "{header}");
    }
    assert_eq!(keys("[vm.NAME.ssh]"), ["port", "vm_port"]);

    project.config(&format!(
        "[qemu]\nbin = '{}'\n[ssh]\nUserKnownHostsFile = '/dev/null'\n\
         [vm.a]\ncmd = ''\nssh.port = {}\n",
        fake_qemu().display(),
        free_port()
    ));
    let (_, dir) = started(&project, "a");
    let written = project.vm_file("a", "ssh.conf");
    let added: Vec<&str> = written
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("Port ") && !line.starts_with("UserKnownHostsFile /dev"))
        .collect();
    let options = part(&page, ".Sh", "SSH OPTIONS");
    let documented: Vec<String> = lines_after(options, ".It Ic ")
        .iter()
        .map(|item| rendered(item).replace("DIR", &dir).replace("NAME", "a"))
        .collect();
    assert_eq!(added, documented);
}
