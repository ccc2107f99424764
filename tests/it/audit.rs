//! What src/README.md tells an auditor is what the source does. Each failure
//! says which line to write where.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::tidy::{Source, sources};

const README: &str = include_str!("../../src/README.md");
const CORE: &str = "//! TRUSTED CORE: ";
/// Makes the commands of all programs, and runs none.
const PROGRAMS: &str = "src/programs.rs";
/// Knows of Linux.
const LINUX: &str = "src/linux.rs";

/// Kinds of calls that change something outside of the process: the columns of the table.
const EFFECTS: [(&str, &[&str]); 4] = [
    ("starts processes", &[".spawn()", ".output()", ".status()", ".exec()"]),
    ("signals", &[".kill()", "kill -s", ".signal(\""]),
    (
        "writes files",
        &[
            "create_dir",
            "DirBuilder",
            "File::create",
            "fs::copy",
            "fs::hard_link",
            "fs::remove",
            "fs::rename",
            "fs::set_permissions",
            "fs::symlink",
            "fs::write",
            "OpenOptions::",
            ".set_len(",
            ".set_permissions(",
        ],
    ),
    (
        "opens sockets",
        &["TcpListener::", "TcpStream::", "UdpSocket::", "UnixListener::", "UnixStream::"],
    ),
];

/// A section of src/README.md by its whole heading, without what has a heading of its own.
fn section(heading: &str) -> &'static str {
    let start = format!("\n{heading}\n");
    let (_, rest) =
        README.split_once(&start).unwrap_or_else(|| panic!("no {heading} in src/README.md"));
    rest.split("\n#").next().unwrap()
}

/// The cells of the rows of a section's table that begin with a name in backticks.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let rows = section(heading).lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Where a call of this kind is: the first line that has one.
fn first_call(source: &Source, calls: &[&str]) -> Option<String> {
    let mut lines = source.code.lines().zip(1..);
    lines.find_map(|(line, number)| {
        let call = calls.iter().find(|call| line.contains(**call))?;
        (!line.trim_start().starts_with("//")).then(|| format!("line {number} has {call}"))
    })
}

fn has_effects(source: &Source) -> bool {
    EFFECTS.iter().any(|(_, calls)| first_call(source, calls).is_some())
}

fn inside(source: &Source) -> &str {
    source.name.strip_prefix("src/").unwrap()
}

#[test]
fn effects_are_only_in_files_that_say_so() {
    let mut wrong = String::new();
    for source in sources() {
        match (has_effects(&source), source.code.starts_with(CORE)) {
            (true, false) => {
                let _ = writeln!(wrong, "{}: its first line must begin with `{CORE}`", source.name);
            }
            (false, true) => {
                let _ =
                    writeln!(wrong, "{}: it is no TRUSTED CORE, say no such thing", source.name);
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A cell that is empty says that the file has no such call.
#[test]
fn readme_says_what_each_file_may_do() {
    const HEADING: &str = "## What each file may do";
    let rows = rows(HEADING);
    let mut wrong = String::new();
    let (core, others): (Vec<Source>, _) = sources().into_iter().partition(has_effects);
    for source in &core {
        let name = format!("`{}`", inside(source));
        let row = rows.iter().find(|row| row[0] == name);
        let found = EFFECTS.map(|(kind, calls)| (kind, first_call(source, calls)));
        let says =
            |column: usize| row.is_some_and(|row| row.get(column).is_some_and(|c| !c.is_empty()));
        if found.iter().zip(1..).all(|((_, call), column)| call.is_some() == says(column)) {
            continue;
        }
        let cells = found.iter().map(|(kind, call)| match call {
            Some(call) => format!(" {kind}: {call} |"),
            None => " |".into(),
        });
        let _ = writeln!(wrong, "| {name} |{}", cells.collect::<String>());
    }
    assert!(
        wrong.is_empty(),
        "\nsrc/README.md, `{HEADING}`: write these rows of the table, in reading order, with a few \
         words on what the call is for in place of each cell's text:\n\n{wrong}"
    );
    let unknown = |row: &&Vec<&str>| core.iter().all(|s| row[0] != format!("`{}`", inside(s)));
    let gone: Vec<&str> = rows.iter().filter(unknown).map(|row| row[0]).collect();
    assert!(gone.is_empty(), "src/README.md, `{HEADING}`: remove the rows of {gone:?}");
    assert!(!others.is_empty());

    let lines: usize = core.iter().map(|source| source.code.lines().count()).sum();
    let (before, _) = README.split_once(" lines; everything else is\n").unwrap();
    let told: usize = before.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert!(
        lines.abs_diff(told) * 8 < lines,
        "src/README.md says that the trusted core has about {told} lines; now it has {lines}"
    );
}

/// Every file is named in it, or a directory that it is in.
#[test]
fn reading_order_leads_to_every_file() {
    const HEADING: &str = "## The order";
    let named: Vec<&str> = section(HEADING).split('`').skip(1).step_by(2).collect();
    let is_named = |file: &str| {
        named.iter().any(|name| *name == file || name.ends_with('/') && file.starts_with(name))
    };
    let missed: Vec<String> = sources()
        .iter()
        .filter(|source| !has_effects(source) && !is_named(inside(source)))
        .map(|source| format!("`{}`", inside(source)))
        .collect();
    assert!(
        missed.is_empty(),
        "src/README.md, `{HEADING}`: name these where they belong: {missed:?}"
    );
}

#[test]
fn readme_lists_every_program_that_is_executed() {
    const HEADING: &str = "## Programs that are executed";
    let all = sources();
    let mut wrong = String::new();
    for source in all.iter().filter(|source| source.name != PROGRAMS) {
        if let Some(place) = first_call(source, &["Command::new"]) {
            let _ = writeln!(
                wrong,
                "{}: {place}: use `programs::NAME.command()`, with a row for it in {PROGRAMS}, or \
                 `programs::configured(path)` for what the configuration names",
                source.name
            );
        }
    }
    let list = all.iter().find(|source| source.name == PROGRAMS).unwrap();
    let mut expected = BTreeSet::new();
    for line in list.code.lines() {
        let Some((before, values)) = line.split_once(": Program = Program(\"") else { continue };
        let constant = before.rsplit(' ').next().unwrap();
        let (name, rest) = values.split_once("\", \"").unwrap();
        let package = rest.split('"').next().unwrap();
        expected.insert((format!("`{name}`"), package.to_string()));
        if !all.iter().any(|source| source.code.contains(&format!("programs::{constant}"))) {
            let _ = writeln!(wrong, "{PROGRAMS}: {constant} is run nowhere, remove it");
        }
    }
    for setting in ["`bin` in `[qemu]`", "`img` in `[qemu]`"] {
        expected.insert((setting.into(), String::new()));
    }
    let rows = rows(HEADING);
    for (name, package) in &expected {
        let is_its = |row: &&Vec<&str>| {
            row[0] == name && (package.is_empty() || row[1] == package) && !row[2].is_empty()
        };
        if rows.iter().filter(is_its).count() != 1 {
            let _ = writeln!(
                wrong,
                "src/README.md, `{HEADING}`: add the row | {name} | {package} | by which commands |"
            );
        }
    }
    for row in rows.iter().filter(|row| expected.iter().all(|(name, _)| row[0] != name)) {
        let _ = writeln!(wrong, "src/README.md, `{HEADING}`: remove the row of {}", row[0]);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// qqmgr(7) says which command needs which program.
#[test]
fn the_man_page_lists_every_program_that_is_executed() {
    let page = include_str!("../../man/qqmgr.7");
    let (_, section) = page.split_once("\n.Sh MINIMAL HOSTS\n").unwrap();
    let (table, _) = section.split_once("\n.El\n").unwrap();
    let rows = rows("## Programs that are executed").into_iter();
    let programs = rows.map(|row| row[0]).filter(|name| !name.contains("[qemu]"));
    let missed: Vec<String> = programs
        .filter_map(|name| name.strip_prefix('`')?.strip_suffix('`'))
        .filter(|name| !table.contains(&format!(" Ta Xr {name} 1 Ta ")))
        .map(|name| format!(".It COMMAND Ta Xr {name} 1 Ta when"))
        .collect();
    assert!(missed.is_empty(), "qqmgr(7), MINIMAL HOSTS: add to the table\n{}", missed.join("\n"));
}

/// Code that runs on the host. What is in a script for guests, those know.
#[test]
fn one_file_knows_linux() {
    const SIGNS: &[&str] = &["/proc/", "/proc\"", "/sys/", "/dev/kvm", "target_os", "os::linux"];
    const FOR_GUESTS: &str = "src/ssh/stream.rs";
    let mut wrong = String::new();
    for source in sources().iter().filter(|s| ![LINUX, FOR_GUESTS].contains(&s.name.as_str())) {
        if let Some(place) = first_call(source, SIGNS) {
            let _ = writeln!(wrong, "{}: {place}: that belongs into {LINUX}", source.name);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
