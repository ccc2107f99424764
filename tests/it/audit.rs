//! Holds src/README.md, which is for auditors, to the source. Each failure
//! says which line to write where.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::tidy::{Source, rust_files, sources};

const README: &str = include_str!("../../src/README.md");
/// The file that makes the commands of all programs, and runs none.
const PROGRAMS: &str = "src/system/programs.rs";
/// The file that runs these commands.
const RUN: &str = "src/system/run.rs";
/// The file with everything that is specific to Linux.
const LINUX: &str = "src/linux.rs";

/// The trusted core, and the limit of all lines in its files.
const CORE: &str = "src/system/";
const CORE_LINES_MAX: usize = 2_000;

/// Items of std by which a program acts on the machine, each with its module.
const ACTING: &[(&str, &[&str])] = &[
    ("std::process", &["Command"]),
    ("std::net", &["TcpListener", "TcpStream", "UdpSocket"]),
    ("std::os::unix::net", &["UnixDatagram", "UnixListener", "UnixStream"]),
    (
        "std::fs",
        &[
            "DirBuilder",
            "OpenOptions",
            "copy",
            "create_dir",
            "create_dir_all",
            "hard_link",
            "remove_dir",
            "remove_dir_all",
            "remove_file",
            "rename",
            "set_permissions",
            "soft_link",
            "write",
        ],
    ),
    ("std::os::unix::fs", &["chown", "lchown", "fchown", "symlink"]),
];

/// Calls that act, by names that no import changes.
const ACTING_CALLS: &[&str] =
    &["File::create", "File::options", ".set_len(", ".set_modified(", ".set_permissions("];

/// Kinds of calls that change something outside of the process: the columns of README's table.
const EFFECTS: [(&str, &[&str]); 4] = [
    (
        "starts processes",
        &[".spawn()", ".exec()", ".exec(", ".answer()", ".attached(", ".captured(", ".detached("],
    ),
    ("signals", &[".kill()", "kill \\\"-$1", ".signal(\""]),
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

/// The imports of a `use` tree, in full, each with the name that it gets.
pub(crate) fn imports(tree: &str, before: &str, found: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    if tree.is_empty() {
        return;
    }
    if let (Some(start), Some(end)) = (tree.find('{'), tree.rfind('}')) {
        let (path, group) = (format!("{before}{}", &tree[..start]), &tree[start + 1..end]);
        let (mut depth, mut from) = (0, 0);
        for (at, char) in format!("{group},").char_indices() {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    imports(&group[from..at], &path, found);
                    from = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, name) = tree.split_once(" as ").map_or((tree, None), |(p, n)| (p, Some(n.trim())));
    let path = format!("{before}{}", path.trim());
    let path = path.strip_suffix("::self").unwrap_or(&path).trim_start_matches("::").to_string();
    let last = path.rsplit("::").next().unwrap().to_string();
    found.push((path, name.map_or(last, Into::into)));
}

/// The first place in a source by which it could act, whichever way it imports what it uses.
fn acts(code: &str) -> Option<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let (mut used, mut rest) = (Vec::new(), String::new());
    for part in code.split(';') {
        let tree = part.rsplit_once("use ").filter(|(before, _)| {
            before.is_empty() || before.ends_with(|c: char| c.is_whitespace())
        });
        match tree {
            Some((before, tree)) if !tree.contains(['(', '"']) => {
                rest.push_str(before);
                imports(tree, "", &mut used);
            }
            _ => rest.push_str(part),
        }
        rest.push(';');
    }
    for (path, name) in &used {
        for (module, items) in ACTING {
            let item = path.strip_prefix(module).and_then(|item| item.strip_prefix("::"));
            if item.is_some_and(|item| items.contains(&item)) {
                return Some(format!("imports {path}"));
            }
            let above = path.strip_suffix("::*");
            if above.is_some_and(|above| format!("{module}::").starts_with(&format!("{above}::"))) {
                return Some(format!("imports {path}"));
            }
            let is_module = format!("{module}::").starts_with(&format!("{path}::"));
            let is_file = path == "std::fs::File";
            if (is_module || is_file) && *name != path.rsplit("::").next().unwrap() {
                return Some(format!("imports {path} as {name}"));
            }
        }
    }
    let names = ACTING.iter().flat_map(|(module, items)| {
        let module = module.rsplit("::").next().unwrap();
        items.iter().map(move |item| format!("{module}::{item}"))
    });
    let is_end = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    names.chain(ACTING_CALLS.iter().map(ToString::to_string)).find(|name| {
        rest.match_indices(name.as_str()).any(|(at, _)| {
            let exact = is_end(rest[at + name.len()..].chars().next());
            is_end(rest[..at].chars().next_back()) && exact || ACTING_CALLS.contains(&name.as_str())
        })
    })
}

/// A section of src/README.md by its whole heading, without its subsections.
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
    source.name.starts_with(CORE)
        && EFFECTS.iter().any(|(_, calls)| first_call(source, calls).is_some())
}

fn inside(source: &Source) -> &str {
    source.name.strip_prefix("src/").unwrap()
}

#[test]
fn only_the_trusted_core_acts() {
    let mut wrong = String::new();
    for source in sources().iter().filter(|source| !source.name.starts_with(CORE)) {
        if let Some(place) = acts(&source.code) {
            let _ = writeln!(wrong, "{}: {place}: only {CORE} may", source.name);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_trusted_core_is_small() {
    let lines: usize = rust_files(CORE).iter().map(|(_, text)| text.lines().count()).sum();
    assert!(lines <= CORE_LINES_MAX, "{CORE} has {lines} lines");
}

#[test]
fn every_way_to_import_is_seen() {
    for code in [
        "use std::process::Command;",
        "use std::process::Command as Run;",
        "use std::process::{Child, Command as Run};",
        "use std::{io, process::{Child, Command}};",
        "use std::process::*;",
        "use std::process as p;",
        "use std as s;",
        "use std::{fs as disk, io};",
        "use std::fs::{self as disk};",
        "use std::{\n    fs::{self, write},\n    io,\n};",
        "pub(crate) use std::fs::rename as moved;",
        "use std::fs::File as F;",
        "fn f() { use std::os::unix::fs::symlink; }",
        "use std::os::unix::{fs::symlink as link, ffi::OsStrExt};",
        "use std::net::{Ipv4Addr, TcpStream};",
        "use std::os::unix::net::UnixStream;",
        "fn f() { std::process::Command::new(\"x\"); }",
        "fn f() { fs::write(a, b); }",
        "fn f() { std::fs::remove_dir_all(a) }",
        "fn f() { paths.iter().map(fs::remove_file) }",
        "fn f() { File::create_new(a) }",
        "fn f() { File::options() }",
        "fn f() { file.set_len(0) }",
        "fn f() { net::TcpListener::bind(a) }",
    ] {
        assert!(acts(code).is_some(), "{code}");
    }
    for code in [
        "use std::fs::{self, File, Metadata};\nuse crate::cli::{Args, Command};",
        "use std::net::{Ipv4Addr, SocketAddr};\nuse std::process::{ExitStatus, Stdio};",
        "// fs::write(a, b)\nfn f() { fs::read(a); files::rename(a, b); out::write(c) }",
        "fn f() { fs::metadata(a).permissions() }",
    ] {
        assert_eq!(acts(code), None, "{code}");
    }
}

/// An empty cell means that the file has no such call.
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
    let (before, _) = README.split_once(" lines. Everything else\n").unwrap();
    let documented: usize = before.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert!(
        lines.abs_diff(documented) * 8 < lines,
        "src/README.md says that the trusted core has about {documented} lines; now it has {lines}"
    );
}

/// The reading order names every file, or a directory that the file is in.
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
    for source in all.iter().filter(|source| ![PROGRAMS, RUN].contains(&&*source.name)) {
        if let Some(place) = first_call(source, &["Command::new", "Invocation::new"]) {
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

/// qqmgr(7) says what each program is used by.
#[test]
fn the_man_page_lists_every_program_that_is_executed() {
    let page = include_str!("../../man/qqmgr.7");
    let (_, section) = page.split_once("\n.Sh MINIMAL HOSTS\n").unwrap();
    let (table, _) = section.split_once("\n.El\n").unwrap();
    let rows = rows("## Programs that are executed").into_iter();
    let programs = rows.map(|row| row[0]).filter(|name| !name.contains("[qemu]"));
    let missed: Vec<String> = programs
        .filter_map(|name| name.strip_prefix('`')?.strip_suffix('`'))
        .filter(|name| !table.contains(&format!("\n.It Xr {name} 1 Ta ")))
        .map(|name| format!(".It Xr {name} 1 Ta used by"))
        .collect();
    assert!(missed.is_empty(), "qqmgr(7), MINIMAL HOSTS: add to the table\n{}", missed.join("\n"));
}

/// Checks code that runs on the host; scripts for guests are left out.
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
