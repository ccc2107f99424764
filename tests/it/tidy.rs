//! Rules for the files of the repository that a reviewer would otherwise have to check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::audit::imports;

const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 320;
const FUNCTION_LINES_MAX: usize = 70;
/// The limit of `src/` without tests, while its parts move to the layout that needs 15,000.
const SOURCE_LINES_MAX: usize = 29_780;

/// The limit of the tests, their scenarios aside.
const TEST_LINES_MAX: usize = 16_000;

/// Which other modules a module may use. Data flows one way: nothing here points up.
const LAYERS: &[(&str, &[&str])] = &[
    ("text", &[]),
    ("source", &["text"]),
    ("terminal", &[]),
    ("glob", &[]),
    ("clock", &[]),
    ("colour", &[]),
    ("log", &["colour", "hint"]),
    ("progress", &["log"]),
    ("json", &[]),
    ("toml", &["source"]),
    ("template", &["source"]),
    ("words", &["source", "template"]),
    ("pasted", &["source", "words"]),
    ("hint", &["text"]),
    ("error", &["colour", "hint", "json", "source", "text"]),
    ("command_line", &[]),
    ("linux", &["command_line"]),
    ("ps", &["command_line", "linux"]),
    ("left_out", &[]),
    ("descriptors", &[]),
    ("reading", &["error"]),
    ("destination", &["error", "reading", "text"]),
    ("lookup", &["error"]),
    ("access", &["error", "text"]),
    ("wait", &[]),
    ("report", &["colour", "error", "json", "text"]),
    ("answers", &["error", "json", "out", "report"]),
    ("out", &["error"]),
    (
        "system",
        &[
            "access",
            "descriptors",
            "destination",
            "error",
            "left_out",
            "linux",
            "log",
            "lookup",
            "ps",
            "reading",
            "text",
            "wait",
        ],
    ),
    ("redraw", &["error", "out", "system"]),
    ("png", &[]),
    ("cli", &["error", "json", "log", "text"]),
    (
        "config",
        &["cli", "error", "log", "pasted", "source", "system", "template", "text", "toml", "words"],
    ),
    (
        "vm",
        &[
            "clock",
            "colour",
            "command_line",
            "error",
            "json",
            "linux",
            "log",
            "pasted",
            "progress",
            "ps",
            "source",
            "system",
            "text",
            "wait",
            "words",
        ],
    ),
    ("image", &["config", "error", "json", "log", "source", "system", "text", "vm"]),
    (
        "ssh",
        &["config", "destination", "error", "left_out", "linux", "log", "system", "text", "vm"],
    ),
    (
        "commands",
        &[
            "answers", "cli", "clock", "colour", "config", "error", "glob", "hint", "image",
            "json", "linux", "log", "out", "pasted", "png", "progress", "redraw", "report",
            "source", "ssh", "system", "terminal", "text", "toml", "vm", "words",
        ],
    ),
    ("main", &["answers", "cli", "commands", "error", "hint", "report"]),
];

const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "an error is reported, not a panic"),
    (".expect(", "an error is reported, not a panic"),
    ("panic!(", "an error is reported, not a panic"),
    ("unreachable!(", "make it a type that cannot be wrong"),
    ("todo!(", "finish it"),
    ("dbg!(", "left from debugging"),
    ("println!(", "only main prints, and it can fail"),
    ("process::exit", "main ends, nobody else"),
    ("macro_rules!", "macros hide things"),
];

/// Files with several small types that belong together.
const SEVERAL_TYPES: &[&str] = &[
    "src/cli/args.rs",
    "src/cli/flag.rs",
    "src/cli/spec.rs",
    "src/commands/check/findings.rs",
    "src/commands/start/plan.rs",
    "src/config/locate.rs",
    "src/error/mod.rs",
    "src/report.rs",
    "src/source.rs",
    "src/system/sockets.rs",
    "src/toml/mod.rs",
    "src/vm/look.rs",
];

pub(crate) struct Source {
    pub(crate) name: String,
    /// The code without the tests at its end.
    pub(crate) code: String,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, found),
            path => found.push(path),
        }
    }
}

/// The Rust files below a directory of the repository.
pub(crate) fn rust_files(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    files_below(&repository().join(directory), &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found.sort();
    let name = |path: &Path| path.strip_prefix(repository()).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The files of `src/` except files of tests, without the tests in them.
pub(crate) fn sources() -> Vec<Source> {
    let files = rust_files("src").into_iter().filter(|(name, _)| !name.contains("tests"));
    files
        .map(|(name, text)| {
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string();
            Source { name, code }
        })
        .collect()
}

/// The module at the top level that a file belongs to.
fn module(name: &str) -> &str {
    let inside = name.strip_prefix("src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for source in sources() {
        let module = module(&source.name);
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == module).unwrap();
        for used in source.code.split("crate::").skip(1) {
            let used = used.split(|c: char| !c.is_ascii_lowercase()).next().unwrap();
            let is_module = LAYERS.iter().any(|(name, _)| *name == used);
            if is_module && used != module && !allowed.contains(&used) {
                wrong.push(format!("{} uses {used}", source.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The files of `src/` by the paths of their modules: `src/vm/mod.rs` is `vm`.
fn modules() -> BTreeMap<String, Source> {
    let path = |source: &Source| {
        let inside = source.name.strip_prefix("src/").unwrap().trim_end_matches(".rs");
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        if inside == "main" { String::new() } else { inside.replace('/', "::") }
    };
    sources().into_iter().map(|source| (path(&source), source)).collect()
}

/// The paths that a module uses, as the crate's root sees them: those that it imports, and
/// those that it exports under its own name.
fn used(module: &str, code: &str) -> [Vec<String>; 2] {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let [mut used, mut exported] = [Vec::new(), Vec::new()];
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for statement in code.split(';') {
        let (before, tree) = match statement.rsplit_once("use ") {
            Some((before, tree)) if !tree.contains(['(', '"', '`']) => (before, tree),
            _ => (statement, ""),
        };
        let spelled = before.split(|c| !is_path(c)).filter(|word| word.contains("::"));
        used.extend(spelled.map(str::to_string));
        let mut found = Vec::new();
        imports(tree, "", &mut found);
        let paths = found.into_iter().map(|(path, _)| path);
        let is_exported = before.trim_end().ends_with("pub(crate)");
        if is_exported { exported.extend(paths) } else { used.extend(paths) }
    }
    let absolute = |path: &String| {
        let (mut above, mut rest) = (module, path.as_str());
        while let Some(inner) = rest.strip_prefix("super::") {
            (above, rest) = (above.rsplit_once("::").map_or("", |(above, _)| above), inner);
        }
        let rest =
            rest.strip_prefix("crate::").map_or_else(|| format!("{above}::{rest}"), Into::into);
        rest.trim_start_matches("::").to_string()
    };
    [used, exported].map(|paths| paths.iter().map(absolute).collect())
}

/// The module whose file a path leads to, through what modules export.
fn leads_to(
    path: &str,
    exports: &BTreeMap<String, String>,
    all: &BTreeSet<&str>,
) -> Option<String> {
    let mut part = path;
    while !all.contains(part) {
        if let Some(exported) = exports.get(part) {
            return leads_to(exported, exports, all);
        }
        part = part.rsplit_once("::")?.0;
    }
    let rest = path[part.len()..].trim_start_matches("::");
    let item = format!("{part}::{}", rest.split("::").next().unwrap());
    match exports.get(&item) {
        Some(exported) => leads_to(exported, exports, all),
        None => Some(part.to_string()),
    }
}

/// Each file can be read with only those that it uses.
#[test]
fn no_circle_between_files() {
    let modules = modules();
    let all: BTreeSet<&str> = modules.keys().map(String::as_str).collect();
    let mut exports = BTreeMap::new();
    for (module, source) in &modules {
        let [_, exported] = used(module, &source.code);
        let name = |path: &str| format!("{module}::{}", path.rsplit("::").next().unwrap());
        exports.extend(exported.into_iter().map(|path| (name(&path), path)));
    }
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, source) in &modules {
        let [paths, _] = used(module, &source.code);
        let found = paths.iter().filter_map(|path| leads_to(path, &exports, &all));
        uses.insert(module.clone(), found.filter(|found| found != module).collect());
    }
    assert!(uses[""].contains("commands"), "paths are resolved: {:?}", uses[""]);
    let reaches = |from: &str| {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![from.to_string()]);
        while let Some(module) = ahead.pop() {
            ahead.extend(uses[&module].iter().filter(|used| seen.insert((*used).clone())).cloned());
        }
        seen
    };
    let circles: Vec<String> = uses
        .keys()
        .filter(|module| reaches(module).contains(*module))
        .map(|module| {
            let back = uses[module].iter().filter(|used| reaches(used).contains(module));
            format!("{module} uses {}", back.cloned().collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert_eq!(circles, Vec::<String>::new());
}

/// A type has a file of its own, with its methods. Only data may stand beside it.
#[test]
fn a_file_has_the_methods_of_one_type() {
    let mut several = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.code.lines().collect();
        let has_methods = |name: &str| {
            let is_impl = |line: &&str| {
                let rest = line.strip_prefix("impl").map(|rest| rest.trim_end_matches(" {"));
                rest.and_then(|rest| rest.rsplit(' ').next())
                    .is_some_and(|of| !line.contains(" for ") && of.split('<').next() == Some(name))
            };
            lines.iter().any(is_impl)
        };
        let public = lines.iter().filter_map(|line| {
            let words = line.strip_prefix("pub")?.split_once(' ')?.1;
            let name = words.strip_prefix("struct ").or(words.strip_prefix("enum "))?;
            name.split(|c: char| !c.is_alphanumeric()).next()
        });
        let types: Vec<&str> = public.filter(|name| has_methods(name)).collect();
        if types.len() > 1 && !SEVERAL_TYPES.contains(&source.name.as_str()) {
            several.push(format!("{}: {}", source.name, types.join(", ")));
        }
    }
    assert_eq!(several, Vec::<String>::new());
}

#[test]
fn one_place_sleeps() {
    let sleeping: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.code.contains("sleep("))
        .map(|source| source.name)
        .collect();
    assert_eq!(sleeping, ["src/wait.rs"]);
}

/// The time of day moves when it is set, so it is only for records.
#[test]
fn timeouts_go_by_the_monotonic_clock() {
    let telling: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.code.contains("SystemTime"))
        .map(|source| source.name)
        .collect();
    assert_eq!(telling, ["src/clock.rs"]);
}

#[test]
fn no_banned_calls() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (call, why) in BANNED {
            if source.code.contains(call) {
                wrong.push(format!("{} has {call}: {why}", source.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A doc comment stands alone: it says first what the item is or does.
#[test]
fn doc_comments_begin_with_their_subject() {
    const BANNED: &[&str] = &["The same", "Of", "Those of", "So many", "Who", "Whoever", "What"];
    let mut wrong = Vec::new();
    for (name, text) in ["src", "tests"].iter().flat_map(|directory| rust_files(directory)) {
        let mut before = "";
        for (line, number) in text.lines().map(str::trim_start).zip(1..) {
            let is_doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
            let opens = |word: &&&str| {
                let rest = line[3..].trim_start().strip_prefix(**word);
                rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
            };
            if is_doc(line)
                && !is_doc(before)
                && let Some(word) = BANNED.iter().find(opens)
            {
                wrong.push(format!("{name}:{number} begins with `{word}`"));
            }
            before = line;
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.code.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{} has {lines} lines", source.name));
        }
        wrong.extend(long_functions(&source));
    }
    for (name, text) in rust_files("src").iter().filter(|(name, _)| name.contains("tests")) {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{name} has {lines} lines"));
        }
    }
    for (name, text) in ["src", "tests"].iter().flat_map(|directory| rust_files(directory)) {
        for (number, line) in text.lines().enumerate() {
            // Tables of inputs and outputs may be long.
            if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
                wrong.push(format!("{name}:{} is too long", number + 1));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A function ends at the first closing brace in the column where it began.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if !line.contains("fn ") || line.trim_start().starts_with("//") || line.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| *line == end).unwrap_or(0);
        if length > FUNCTION_LINES_MAX {
            long.push(format!("{}:{}: {length} lines", source.name, start + 1));
        }
    }
    long
}

#[test]
fn the_program_stays_small() {
    let lines: usize = sources().iter().map(|source| source.code.lines().count()).sum();
    assert!(lines < SOURCE_LINES_MAX, "{lines} lines");
}

/// Counts Rust and shell below `tests/`, with the fixtures. Scenarios are text and have no limit.
#[test]
fn the_tests_stay_readable() {
    let (mut found, mut lines) = (Vec::new(), 0);
    files_below(&repository().join("tests"), &mut found);
    for path in found {
        let is_code = ["rs", "sh"].iter().any(|one| path.extension() == Some(one.as_ref()));
        if is_code || path.starts_with(repository().join("tests/fixtures")) {
            lines += String::from_utf8_lossy(&fs::read(&path).unwrap()).lines().count();
        }
    }
    assert!(lines <= TEST_LINES_MAX, "{lines} lines: tell it as scenarios in tests/cases");
}

#[test]
fn nothing_but_std() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let sections: Vec<&str> = manifest.split("\n[").collect();
    let dependencies = sections.iter().filter(|section| section.contains("dependencies]"));
    for section in dependencies {
        let entries: Vec<&str> = section.lines().skip(1).filter(|line| !line.is_empty()).collect();
        assert_eq!(entries, Vec::<&str>::new());
    }
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    assert_eq!(lock.matches("[[package]]").count(), 1);
    assert!(!repository().join("build.rs").exists());
}
