//! The man pages are the reference, so they are compared with the program in both directions:
//! commands, flags, operands, JSON, exit codes, files, keys and defaults are those that the binary
//! shows, and the examples run as printed.
//!
//! For that, the pages keep to a few forms. In qqmgr(1), a `.Ss` of COMMANDS names one or more
//! commands and begins with a `.D1` of the synopsis of each; a flag is `.It Fl -name`. In
//! qqmgr-json(5), a paragraph of COMMANDS begins with `.Cm command , ... : Va member , ...`, and a
//! member is `.It Va name Ta type Ta meaning`. An example is a `.Bd -literal` block, of `sh` in
//! qqmgr(1) and qqmgr(7), and of TOML in qqmgr.toml(5).

mod config;
mod examples;
mod json;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use self::json::{members_are_listed, with_ssh_server, write_images};
use crate::harness::{Project, fake_qemu, free_port, has_tool};

const QQMGR_1: &str = include_str!("../../man/qqmgr.1");
const QQMGR_7: &str = include_str!("../../man/qqmgr.7");
const QQMGR_JSON_5: &str = include_str!("../../man/qqmgr-json.5");
const QQMGR_TOML_5: &str = include_str!("../../man/qqmgr.toml.5");
/// Each page with the most lines that it may print at 80 columns.
const PAGES: [(&str, usize); 4] =
    [("qqmgr.1", 900), ("qqmgr-json.5", 300), ("qqmgr.toml.5", 650), ("qqmgr.7", 900)];

/// The only command that needs a flag, and that flag.
const NEEDED_FLAG: (&str, &str) = ("wait", "for");

/// A fake ssh: makes the files that ssh leaves in a VM's directory, and records its words.
const FAKE_SSH: &str = r#"#!/bin/sh
umask 077
case $2 in
*/ssh.conf) : >"${2%/*}/known_hosts" && : >"${2%/*}/ssh.$(printf '%040d' 0)" ;;
esac
printf '%s\n' "$*" >>ssh-calls
cat >/dev/null
"#;

// ---- the pages ----

/// The page with the characters that roff escapes as they are printed.
fn printed(page: &str) -> String {
    let escapes = [(r"\-", "-"), (r"\(aq", "'"), (r"\(ga", "`"), (r"\(ha", "^"), (r"\(ti", "~")];
    let more = [(r"\(dq", "\""), (r"\&", ""), (r"\e", "\\")];
    escapes.iter().chain(&more).fold(page.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Title and content of each part that begins with the macro. The content begins with a newline, so
/// that it can be divided in the same way.
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

/// The rest of each line that begins with `prefix`.
fn lines_after<'p>(text: &'p str, prefix: &str) -> Vec<&'p str> {
    text.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// The printed text of a line of macros, for the macros that matter here.
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

    /// The flag as in a synopsis.
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
         helpers.NAME = 'sleep 600'\n\
         [vm.idle]\ncmd = '-name fake=no-qmp'\nssh.port = {}\n\
         [vm.fails]\ncmd = '-name fake=exits-with-error'\nssh.port = {0}\n\
         [vm.chosen]\ncmd = '-nic user,id=usernet'\nssh.port = 'auto'\n",
        free_port()
    ));
    project.write("tests/run", "true\n");
    for (name, script) in [("ssh", FAKE_SSH), ("scp", "#!/bin/sh\n")] {
        project.write(format!("bin/{name}.sh"), script);
    }
    make_programs(&project);
    (project, port)
}

/// Makes a program of each `bin/NAME.sh`. Another process does that: this one must not hold them
/// open for writing when they are run.
fn make_programs(project: &Project) {
    let copy = "cd bin && for f in *.sh; do cat $f >${f%.sh} && chmod 755 ${f%.sh} || exit; done";
    let made = Command::new("sh").args(["-c", copy]).current_dir(project.path("")).status();
    assert!(made.expect("there is a sh").success());
}

/// Writes the event that shows why the VM's QEMU, a silent fake, ends.
fn reports_its_end(project: &Project, vm: &str, by_guest: bool, reason: &str) {
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
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let names = sections.iter().flat_map(|(names, _)| names.iter().map(|name| (*name).into()));
    let known = commands.iter().map(|command| command.name.clone());
    assert_eq!(sorted(names.collect()), sorted(known.collect()));
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
            let is_documented =
                item.is_some_and(|item| item.contains(&format!("(default {default}")));
            assert!(is_documented, "the default of {names:?} --{} is not {default}", flag.long);
        }
        all.extend(allowed);
    }
    assert_eq!(common_found, common_rows.into_iter().collect(), "in COMMON OPTIONS");
    // Configurations, units and scripts have options of other programs.
    let of_others = [(".Ss", "Configurations"), (".Sh", "SYSTEMD")];
    let of_others = of_others.map(|(header, title)| part(QQMGR_7, header, title));
    let page_7 = of_others.iter().fold(QQMGR_7.to_owned(), |page, part| page.replace(part, ""));
    for page in [QQMGR_1, &page_7, QQMGR_JSON_5, QQMGR_TOML_5].map(printed) {
        for flag in long_flags(&page) {
            assert!(all.contains(flag), "no command has `--{flag}`");
        }
    }
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
    let bad = "[vm.dev]\ncmd = 1\nunknown = 1\nssh = { port = 0 }\n";
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
        "255 run",
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
    if !["qemu-img", "ssh"].iter().all(|name| has_tool(name)) {
        return;
    }
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
