//! Runs the scenarios in the `.txt` files below `tests/cases`: commands and their output as text,
//! as Go's testscript and age's `testdata` do it.
//!
//! A scenario has a title, commands with what they must give, and the files that it starts with:
//!
//! ```text
//! # an unknown key has a near name
//! $ qqmgr list
//! ! exit 5
//! 2> qqmgr: error: unknown key `prot`; did you mean `port`?
//! ...
//! -- qqmgr.toml --
//! [vm.a]
//! ssh.prot = 2222
//! ```
//!
//! - `$ LINE` is a command for `sh`, in a directory of its own; `+ LINE` adds a line to it, and
//!   `< LINE` to its standard input, which is empty otherwise. `qqmgr` is the program under test.
//! - `! exit N` is its exit status, 0 if there is no such line.
//! - `1> LINE` and `2> LINE` are its standard output and standard error, which are empty otherwise,
//!   with the patterns of [`crate::expect`]. `...` stands for any lines of the stream before it.
//!   After `\ no newline` the stream's last line has no end. Lines with `: waiting for `, which
//!   come on a busy host, only count where one is expected.
//! - `# TEXT` explains; `% qemu`, `% guest`, `% tool NAME` and `% chown` (the right to give files
//!   away) say what the scenario needs.
//! - `-- PATH --` begins a file that is there at the start; the lines up to the next file are its
//!   content. It lasts to the end of the scenario.
//! - `======` alone on a line ends a scenario, and another one follows. When there is no command
//!   before the first such line, every scenario begins with the files that are there.
//!
//! In commands, files and expectations `[ROOT]` is the scenario's directory, `[FAKE]` the fake
//! QEMU, `[GUEST]` the directory of the guest, `[PORT1]` to `[PORT9]` are free ports, and `[TAKEN]`
//! is a port of 127.0.0.1 that is taken. `[PID1]` to `[PID9]` stand for any number when they come
//! first, and for the same number from then on. The programs in `tests/cases/bin` are there for the
//! commands; each says what it does.
//!
//! `UPDATE=1 cargo test --test it cases` writes what came in place of what did not match.
//! `CASE=x` runs only the scenarios with `x` in their file's name or title.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::mem;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::expect;
use crate::harness::{
    Output, Project, fake_qemu, files_below, free_port, guest_dir, has_program, has_tool,
    is_required, left_out, real_qemu,
};

const SEPARATOR: &str = "======";
const NO_NEWLINE: &str = "\\ no newline";
/// Most scenarios wait for processes, so there are more threads than processors.
const THREADS: usize = 4;

#[test]
fn every_scenario_holds() {
    hold(|scenario| !needs_qemu(scenario));
}

/// Whether this scenario needs a real QEMU; `cases_on_qemu` has those.
pub(crate) fn needs_qemu(scenario: &str) -> bool {
    scenario.lines().any(|line| line == "% qemu" || line == "% guest")
}

/// Runs the scenarios that are `selected`; fails with all that failed.
pub(crate) fn hold(selected: fn(&str) -> bool) {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let files: Vec<File> = scenario_files(&directory()).map(File::read).collect();
    assert!(!files.is_empty(), "there are scenarios");
    let jobs = files.iter().flat_map(|file| {
        scenarios(&file.text).into_iter().map(move |(line, part)| (file, line, part))
    });
    let jobs: Vec<_> = jobs.filter(|(_, _, part)| selected(part)).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((file, line, part)) = jobs.get(number) else { return };
            if let Err(failed) = file.run(part, *line, &wanted) {
                failures.lock().unwrap().insert(number, failed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        for (number, failed) in &failures {
            let (file, _, part) = jobs[*number];
            file.rewrite(part, failed.rewritten.as_deref());
        }
    }
    let report: Vec<String> = failures.into_values().map(|failed| failed.report).collect();
    assert!(report.is_empty(), "\n\n{}", report.join("\n"));
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn scenario_files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let files = files_below(directory).into_iter();
    files.filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
}

struct File {
    path: PathBuf,
    /// Its path in the repository.
    name: String,
    text: String,
}

impl File {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let name = path.strip_prefix(root).unwrap().display().to_string();
        Self { path, name, text }
    }

    /// Puts a new text in place of a scenario. Other tests may rewrite the file, too.
    fn rewrite(&self, old: &str, new: Option<&str>) {
        static WRITING: Mutex<()> = Mutex::new(());
        let _guard = WRITING.lock();
        let text = fs::read_to_string(&self.path).unwrap();
        fs::write(&self.path, text.replacen(old, new.unwrap_or(old), 1)).unwrap();
    }

    /// Runs one scenario of the file, which begins on this line.
    fn run(&self, part: &str, line: usize, wanted: &str) -> Result<(), Failed> {
        let (name, title) = (&self.name, part.lines().next().unwrap_or_default());
        let shared = shared_files(&self.text);
        let is_shared = line == 1 && !shared.is_empty();
        if is_shared || !format!("{name} {title}").contains(wanted) {
            return Ok(());
        }
        // A failed assertion of the harness must not keep other scenarios from running. A thread of
        // its own gives a scenario that is left out its name.
        let result = thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("{name}: {title}"));
            let run = || match Scenario::parse(part, line, shared).run(name) {
                Err(failed) if lacking(&failed.report).is_some_and(|name| !has_tool(name)) => {
                    Ok(())
                }
                result => result,
            };
            thread.spawn_scoped(scope, run).unwrap().join()
        });
        let result = result.unwrap_or_else(|payload| {
            let report = payload.downcast_ref::<String>().cloned().unwrap_or_default();
            Err(Failed { report: format!("{name}:{line}: {report}"), rewritten: None })
        });
        result.map_err(|failed| Failed { report: format!("{title}\n{}", failed.report), ..failed })
    }
}

/// The program that this host lacks, if that came up where something else was expected.
fn lacking(report: &str) -> Option<&str> {
    let came = report.lines().filter_map(|line| line.strip_prefix("  + "));
    let mut names = came.filter_map(|line| match line.split_once("there is no program `") {
        Some((_, name)) => name.split('`').next(),
        None => line.strip_suffix(": not found")?.rsplit(": ").next(),
    });
    names.find(|name| !is_required() && !has_program(name))
}

/// The part of a file that has files for all its scenarios; empty if there is none.
fn shared_files(text: &str) -> &str {
    let first = scenarios(text)[0].1;
    let has_command = first.lines().any(|line| line.starts_with("$ "));
    if has_command { "" } else { first }
}

/// The scenarios of a file, each with the number of its first line.
fn scenarios(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut begin, mut at, mut first) = (0, 0, 1);
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        if line.trim_end() == SEPARATOR {
            found.push((first, &text[begin..at]));
            begin = at + line.len();
            first = number + 1;
        }
        at += line.len();
    }
    found.push((first, &text[begin..]));
    found
}

struct Scenario<'a> {
    /// Lines before the first command, as they stand.
    head: Vec<&'a str>,
    steps: Vec<Step<'a>>,
    /// The files, as they stand.
    tail: &'a str,
    /// Files that all scenarios of the file begin with, after a head of their own.
    shared: &'a str,
}

/// A command and what it must give.
struct Step<'a> {
    /// The first line of the command, with its mark.
    command: &'a str,
    /// The lines of the command and its standard input, with their marks, and comments.
    lines: Vec<&'a str>,
    expected: Expected<'a>,
    number: usize,
}

#[derive(Default)]
struct Expected<'a> {
    exit_code: i32,
    /// The lines of standard output and standard error, without their marks.
    streams: [Vec<&'a str>; 2],
    /// Whether that stream ends without a newline.
    is_open: [bool; 2],
    /// The stream that the last line belongs to.
    last: usize,
}

struct Failed {
    report: String,
    rewritten: Option<String>,
}

impl<'a> Scenario<'a> {
    fn parse(text: &'a str, first: usize, shared: &'a str) -> Self {
        let is_file = |line: &str| line.starts_with("-- ") && line.trim_end().ends_with(" --");
        let mut scenario = Self { head: Vec::new(), steps: Vec::new(), tail: "", shared };
        let mut comments = Vec::new();
        let mut at = 0;
        for (raw, number) in text.split_inclusive('\n').zip(first..) {
            if is_file(raw) {
                scenario.tail = &text[at..];
                break;
            }
            at += raw.len();
            let line = raw.trim_end_matches('\n');
            if line.starts_with("$ ") {
                let lines = [mem::take(&mut comments), vec![line]].concat();
                let expected = Expected::default();
                scenario.steps.push(Step { command: line, lines, expected, number });
            } else if let Some(step) = scenario.steps.last_mut() {
                if line.starts_with("# ") {
                    // It is about the next command, if there is one.
                    comments.push(line);
                } else {
                    step.lines.append(&mut comments);
                    step.take(line);
                }
            } else {
                assert!(
                    line.is_empty() || line.starts_with("# ") || line.starts_with("% "),
                    "line {number}: `{line}` stands before the first command"
                );
                scenario.head.push(line);
            }
        }
        let last = scenario.steps.last_mut();
        let last = last.unwrap_or_else(|| panic!("line {first}: a scenario has a command"));
        last.lines.append(&mut comments);
        scenario
    }

    /// Runs it; `name` is the file for messages.
    fn run(&self, name: &str) -> Result<(), Failed> {
        if !self.head.iter().filter_map(|line| line.strip_prefix("% ")).all(is_there) {
            return Ok(());
        }
        let project = Project::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut names = Names::new(&project, &taken);
        for (path, content) in files(self.shared).into_iter().chain(files(self.tail)) {
            project.write(&*names.filled(path), names.filled(&content).as_bytes());
        }
        let (mut report, mut rewritten) = (String::new(), self.head.join("\n"));
        rewritten += if self.head.is_empty() { "" } else { "\n" };
        for step in &self.steps {
            let output = step.run(&project, &names);
            names.bind(&step.expected, &output, &project.path(""));
            let difference = step.difference(&output, &project, &names);
            rewritten += &step.shown(&output, difference.is_some(), &names);
            if let Some(difference) = difference {
                let _ = writeln!(report, "{name}:{}: {}\n{difference}", step.number, step.command);
            }
        }
        rewritten += self.tail;
        if report.is_empty() { Ok(()) } else { Err(Failed { report, rewritten: Some(rewritten) }) }
    }
}

impl<'a> Step<'a> {
    fn take(&mut self, line: &'a str) {
        let text = |line: &'a str| line[2..].strip_prefix(' ').unwrap_or(&line[2..]);
        let expected = &mut self.expected;
        if let Some(code) = line.strip_prefix("! exit ") {
            expected.exit_code = code.parse().expect("an exit status is a number");
        } else if line.starts_with("1>") || line.starts_with("2>") {
            expected.last = usize::from(line.starts_with('2'));
            expected.streams[expected.last].push(text(line));
        } else if line == "..." {
            expected.streams[expected.last].push(line);
        } else if line == NO_NEWLINE {
            expected.is_open[expected.last] = true;
        } else {
            assert!(
                line.is_empty() || ["+ ", "< "].iter().any(|mark| line.starts_with(mark)),
                "`{line}` is no line of a scenario"
            );
            self.lines.push(line);
        }
    }

    fn run<'p>(&self, project: &'p Project, names: &Names) -> Output<'p> {
        let marked = |marks: &[&str]| {
            let lines =
                self.lines.iter().filter(|line| marks.contains(&&line[..line.len().min(2)]));
            lines.map(|line| names.filled(&line[2..]) + "\n").collect::<String>()
        };
        let binary = Path::new(env!("CARGO_BIN_EXE_qqmgr")).parent().unwrap().to_path_buf();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = [binary, directory().join("bin")];
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
        let run = project.sh(&marked(&["$ ", "+ "])).env("PATH", path.unwrap());
        run.stdin(marked(&["< "])).run()
    }

    fn difference(&self, output: &Output, project: &Project, names: &Names) -> Option<String> {
        let mut wrong = String::new();
        let code = self.expected.exit_code;
        if output.status != Some(code) {
            let _ = writeln!(wrong, "the exit status is {:?}, not {code}", output.status);
        }
        let streams = [("standard output", &output.stdout), ("standard error", &output.stderr)];
        for (number, (stream, actual)) in streams.into_iter().enumerate() {
            let expected = names.filled(&self.expected.text(number));
            let actual = &without_patience(actual, &expected);
            if let Err(difference) = expect::compare(&expected, actual, &project.path("")) {
                let _ = writeln!(wrong, "{stream} is not as expected (-), but (+)\n{difference}");
            }
        }
        (!wrong.is_empty()).then_some(wrong)
    }

    /// The step as text, with the output in place of the expectation if that is `wrong`.
    fn shown(&self, output: &Output, wrong: bool, names: &Names) -> String {
        let mut text = self.lines.iter().fold(String::new(), |text, line| text + line + "\n");
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_string).collect() };
        let code = if wrong { output.status.unwrap_or(-1) } else { self.expected.exit_code };
        if code != 0 {
            let _ = writeln!(text, "! exit {code}");
        }
        for (number, actual) in [&output.stdout, &output.stderr].into_iter().enumerate() {
            let expected =
                || self.expected.streams[number].iter().map(ToString::to_string).collect();
            let shown = if wrong { lines(&names.hidden(actual)) } else { expected() };
            for line in shown {
                let is_any = line == "..." && !wrong;
                let marked = format!("{}> {line}", number + 1);
                let _ = writeln!(text, "{}", if is_any { "..." } else { marked.trim_end() });
            }
            let is_open = if wrong {
                !actual.is_empty() && !actual.ends_with('\n')
            } else {
                self.expected.is_open[number]
            };
            if is_open {
                let _ = writeln!(text, "{NO_NEWLINE}");
            }
        }
        text
    }
}

impl Expected<'_> {
    fn text(&self, stream: usize) -> String {
        let lines = &self.streams[stream];
        let end = if lines.is_empty() || self.is_open[stream] { "" } else { "\n" };
        lines.join("\n") + end
    }
}

fn is_there(need: &str) -> bool {
    match need.split_once(' ') {
        Some(("tool", name)) => has_tool(name),
        _ if need == "qemu" => real_qemu().is_some(),
        _ if need == "guest" => guest_dir().is_some(),
        _ if need == "chown" => {
            let may = chown(Project::new().path(""), Some(54_321), None).is_ok();
            if !may {
                left_out("files cannot be given away");
            }
            may
        }
        _ => panic!("`% {need}`: there is no such need"),
    }
}

/// The files of a scenario's end, by path.
fn files(tail: &str) -> Vec<(&str, String)> {
    let mut files: Vec<(&str, String)> = Vec::new();
    for line in tail.split_inclusive('\n') {
        let header = line.trim_end().strip_prefix("-- ").and_then(|line| line.strip_suffix(" --"));
        match (header, files.last_mut()) {
            (Some(path), _) => files.push((path, String::new())),
            (None, Some((_, content))) => content.push_str(line),
            (None, None) => {}
        }
    }
    files
}

/// Names for values that differ from run to run, and these values.
struct Names(Vec<(String, String)>);

impl Names {
    fn new(project: &Project, taken: &TcpListener) -> Self {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut names = vec![
            ("[FAKE]".to_string(), path(fake_qemu())),
            ("[ROOT]".to_string(), path(project.path(""))),
        ];
        if let Some(guest) = std::env::var_os("QQMGR_GUEST") {
            names.push(("[GUEST]".into(), path(guest.into())));
        }
        names.extend((1..10).map(|n| (format!("[PORT{n}]"), free_port().to_string())));
        names.push(("[TAKEN]".into(), taken.local_addr().unwrap().port().to_string()));
        Self(names)
    }

    fn filled(&self, text: &str) -> String {
        self.0.iter().fold(text.to_string(), |text, (name, value)| text.replace(name, value))
    }

    /// Finds the values of `[PID1]` to `[PID9]` that a step is the first to have.
    fn bind(&mut self, expected: &Expected, output: &Output, root: &Path) {
        let stderr = without_patience(&output.stderr, &expected.text(1));
        let streams = [(0, &output.stdout), (1, &stderr)];
        for name in (1..10).map(|n| format!("[PID{n}]")) {
            if self.0.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let streams =
                streams.iter().filter(|(number, _)| expected.text(*number).contains(&name));
            let streams: Vec<_> = streams.collect();
            let fits = |value: &&str| {
                streams.iter().all(|(number, actual)| {
                    let text = self.filled(&expected.text(*number)).replace(&name, value);
                    let others = (1..10).map(|n| format!("[PID{n}]"));
                    let text = others.fold(text, |text, other| text.replace(&other, "[PID]"));
                    expect::compare(&text, actual, root).is_ok()
                })
            };
            let mut values = streams.iter().flat_map(|(_, actual)| numbers(actual));
            if let Some(value) = values.find(fits) {
                self.0.push((name, value.to_string()));
            }
        }
    }

    /// Output as an expectation, with names for values that differ from run to run.
    fn hidden(&self, text: &str) -> String {
        let hide = |text: String, (name, value): &(String, String)| {
            let is_pid = name.starts_with("[PID");
            if is_pid { without_number(&text, value, name) } else { text.replace(value, name) }
        };
        let text = self.0.iter().fold(text.to_string(), hide);
        let numbers = [
            ("pid", "[PID]"),
            ("uptime", "[SECONDS]"),
            ("uptime_seconds", "[SECONDS]"),
            (" in", "[SECONDS]"),
        ];
        numbers.into_iter().fold(text, |text, (label, name)| without_numbers(&text, label, name))
    }
}

/// Output without the lines that a command prints when a busy host lets it wait, unless one is
/// expected.
fn without_patience(actual: &str, expected: &str) -> String {
    // The VM's name may be before it.
    const PATIENCE: &str = ": waiting for ";
    let lines = actual.split_inclusive('\n');
    let is_kept = |line: &&str| expected.contains(PATIENCE) || !line.contains(PATIENCE);
    lines.filter(is_kept).collect()
}

/// All runs of digits.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty())
}

/// The text with `name` in place of this number, but not of parts of longer ones.
fn without_number(text: &str, number: &str, name: &str) -> String {
    let mut shown = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        match part.strip_prefix(number) {
            Some(rest) if rest.chars().all(|c| !c.is_ascii_digit()) => {
                shown = shown + name + rest;
            }
            _ => shown += part,
        }
    }
    shown
}

/// The text with `name` in place of every number that follows `label`: in a sentence, after a
/// colon or in JSON.
fn without_numbers(text: &str, label: &str, name: &str) -> String {
    let mut parts = text.split(label);
    let mut shown = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let number = part.trim_start_matches([':', ' ', '"']);
        let between = &part[..part.len() - number.len()];
        let rest = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_number = !between.is_empty() && number.starts_with(|c: char| c.is_ascii_digit());
        let (number, rest) = if is_number { (name, rest) } else { ("", number) };
        shown = shown + label + between + number + rest;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a title

$ printf 'a\\nb'; cat >&2; exit 3
< in
! exit 3
1> a
1> b
\\ no newline
2> in
# The file as it is.
$ cat f
1> x
...
-- f --
x
y
";

    #[test]
    fn a_scenario_that_holds_is_not_rewritten() {
        assert!(Scenario::parse(TEXT, 1, "").run("x.txt").is_ok());
    }

    #[test]
    fn each_part_of_a_scenario_can_fail() {
        for (from, to) in [
            ("! exit 3\n", ""),
            ("1> b", "1> c"),
            ("\\ no newline\n", ""),
            ("2> in\n", ""),
            ("1> x\n...", "1> x"),
            ("-- f --\nx", "-- f --\nz"),
        ] {
            let broken = TEXT.replacen(from, to, 1);
            let failed = Scenario::parse(&broken, 1, "").run("x.txt").expect_err(from);
            if !from.starts_with("--") && !from.ends_with("...") {
                assert_eq!(failed.rewritten.as_deref(), Some(TEXT), "{from}: {}", failed.report);
            }
        }
    }

    #[test]
    fn several_scenarios_have_the_numbers_of_their_lines() {
        assert_eq!(scenarios("a\n======\nb\nc\n======\n"), [(1, "a\n"), (3, "b\nc\n"), (6, "")]);
    }

    #[test]
    fn a_line_about_waiting_counts_where_it_is_expected() {
        let actual = "qqmgr: waiting for x\nqqmgr: vm: waiting for x\na\n";
        assert_eq!(without_patience(actual, "a\n"), "a\n");
        assert_eq!(without_patience(actual, "qqmgr: waiting for y\n"), actual);
    }

    #[test]
    fn a_pid_is_the_same_wherever_it_stands() {
        let text = |second: &str| {
            format!(
                "# pids\n$ echo 12 3; cat f\n1> [PID1] [PID2]\n1> {second}\n$ echo 123 [PID1] 3\n1> 123 [PID1] [PID2]\n-- f --\n"
            )
        };
        let run = |text: &str, shared| Scenario::parse(text, 1, shared).run("x.txt");
        assert!(run(&text("[PID1]"), "-- f --\n12\n").is_err(), "the scenario's own file is empty");
        let text = |second| text(second).replace("-- f --\n", "");
        assert!(run(&text("[PID1]"), "-- f --\n12\n").is_ok());
        assert!(run(&text("[PID2]"), "-- f --\n12\n").is_err());
        let failed = run(&text("x"), "-- f --\n12\n").unwrap_err();
        assert!(failed.rewritten.unwrap().contains("1> 12 3\n1> 12\n"));
        assert_eq!(without_number("12 123 x12, 12", "12", "[PID1]"), "[PID1] 123 x[PID1], [PID1]");
    }

    #[test]
    fn what_differs_from_run_to_run_is_hidden() {
        let names = Names(vec![("[ROOT]".into(), "/tmp/x".into())]);
        let text = "pid 12, pid x in /tmp/x in 2.5 s, \"pid\": 7, \"pid\": null";
        let hidden = "pid [PID], pid x in [ROOT] in [SECONDS] s, \"pid\": [PID], \"pid\": null";
        assert_eq!(names.hidden(text), hidden);
    }
}
