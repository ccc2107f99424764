//! The error type: what went wrong, what to do next, and the exit code and JSON of it.
//!
//! The one error type of the layers that know of VMs; `toml`, `json`, `template` and `words` have
//! [`Problem`]s or errors of their own, which become an `Error` where they meet a file or a VM.

use crate::hint;
use crate::json::Value;
use crate::text::{Position, Problem, Source, Span};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// `EMFILE`, the same number on every Unix.
const TOO_MANY_OPEN_FILES: i32 = 24;
/// At most this many problems of one file are shown.
const PROBLEMS_MAX: usize = 20;

/// The kinds that scripts can tell apart, by name in JSON and by exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Failed,
    Usage,
    NotRunning,
    TimedOut,
    Config,
    UnknownVm,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotRunning => "not-running",
            Self::TimedOut => "timed-out",
            Self::Config => "config",
            Self::UnknownVm => "unknown-vm",
        }
    }

    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::TimedOut => 4,
            Self::Config | Self::UnknownVm => 5,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) kind: Kind,
    message: String,
    hint: Option<String>,
    /// Problems at places of a file; they stand in for `message` then.
    located: Option<Box<Located>>,
    /// The class of an error that QEMU gave: `GenericError`, ... (`QapiErrorClass` of
    /// `qapi/error.json`).
    class: Option<String>,
    /// The VM that it is about.
    vm: Option<Box<Vm>>,
    /// What was read before it failed, by the names that it has in the command's result.
    read: Option<Box<Read>>,
}

/// Members of a result, with what was read.
#[derive(Debug, Default)]
struct Read(Vec<(&'static str, Value)>);

#[derive(Debug)]
struct Vm {
    name: String,
    /// Others were asked for, too: who reads the text must be told which one this is.
    among_others: bool,
}

/// [`Problem`]s and the source that has them.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) source: Arc<Source>,
    pub(crate) problems: Vec<Problem>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, hint: None, located: None, class: None, vm: None, read: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// "cannot VERB `PATH`: REASON", for an operation on a file.
    pub(crate) fn io(verb: &str, path: &Path, error: &io::Error) -> Self {
        let failed =
            Self::failed(format!("cannot {verb} `{}`: {}", path.display(), io_reason(error)));
        match error.raw_os_error() {
            Some(TOO_MANY_OPEN_FILES) => failed.hint("`ulimit -n` shows and raises the limit"),
            _ => failed,
        }
    }

    /// That a record of qqmgr's own was written by a newer version.
    pub(crate) fn newer_record(path: &Path) -> Self {
        let message = format!("`{}` was written by a newer qqmgr than this one", path.display());
        Self::failed(message).hint("use the newer one here")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says first what was done before it failed, and stays so.
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.message.insert_str(0, &format!("{done}: "));
        self
    }

    /// Says what it comes from, which decides on the exit code.
    pub(crate) fn because(mut self, cause: &Self) -> Self {
        self.message = format!("{}: {}", self.message, cause.message);
        self.kind = cause.kind;
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The class that QEMU gave it, for scripts.
    pub(crate) fn of_class(mut self, class: &str) -> Self {
        self.class = Some(class.to_string());
        self
    }

    /// The VM that it is about, alone or among others that a command acts on.
    pub(crate) fn of_vm(mut self, name: &str, among_others: bool) -> Self {
        self.vm = Some(Box::new(Vm { name: name.to_string(), among_others }));
        self
    }

    /// A member of the command's result that `--json` gives beside the error, because it was read
    /// before the command failed.
    pub(crate) fn after_reading(mut self, name: &'static str, text: &str) -> Self {
        self.read.get_or_insert_default().0.push((name, Value::from(text)));
        self
    }

    /// Configuration errors, all at once. `problems` is not empty.
    pub(crate) fn config(source: &Arc<Source>, problems: Vec<Problem>) -> Self {
        let hint = problems.iter().take(PROBLEMS_MAX).find_map(|problem| problem.hint.clone());
        let located = Located { source: Arc::clone(source), problems };
        let messages: Vec<String> = located
            .shown()
            .iter()
            .map(|one| {
                let Position { line, column } = source.position(one.span.start);
                format!("{}:{line}:{column}: {}", source.name, one.message)
            })
            .collect();
        let message = messages.join("; ");
        Self {
            kind: Kind::Config,
            message,
            hint,
            located: Some(Box::new(located)),
            class: None,
            vm: None,
            read: None,
        }
    }

    /// The problems at places of a file, however many, or the error if it is no such.
    pub(crate) fn into_located(mut self) -> Result<Located, Self> {
        self.located.take().map(|located| *located).ok_or(self)
    }

    /// Told of a place of the file.
    pub(crate) fn at(self, span: Span) -> Problem {
        Problem { span, message: self.message, hint: self.hint }
    }

    /// The text for stderr, with a newline at the end.
    pub(crate) fn text(&self) -> String {
        let vm = self.vm.as_ref().filter(|vm| vm.among_others);
        let vm = vm.map(|vm| format!("{}: ", vm.name)).unwrap_or_default();
        let Some(located) = &self.located else {
            let message = format!("{vm}{}", self.message);
            return STDERR.text("error", &message, None, self.hint.as_deref());
        };
        let shown = located.shown().iter().map(|problem| {
            let mut named = problem.clone();
            named.message.insert_str(0, &vm);
            STDERR.problem("error", &named, located.place(problem))
        });
        let mut text: String = shown.collect();
        let hidden = located.problems.len() - located.shown().len();
        if hidden > 0 {
            text.push_str(&STDERR.hint(Some(&format!("{hidden} more errors not shown"))));
        }
        text
    }

    /// The object for stdout with `--json`.
    pub(crate) fn json(&self) -> Value {
        let mut error = vec![
            ("kind", Value::from(self.kind.name())),
            ("message", Value::from(self.message.as_str())),
            ("hint", hint_json(self.hint.as_deref())),
        ];
        if let Some(located) = &self.located {
            let problems = located.shown().iter();
            let json = |one: &Problem| Value::object(problem_json(one, located.place(one)));
            error.push(("problems", problems.map(json).collect()));
        }
        if let Some(class) = &self.class {
            error.push(("class", class.as_str().into()));
        }
        let name = self.vm.as_ref().map(|vm| ("name", Value::from(vm.name.as_str())));
        let read = self.read.iter().flat_map(|read| read.0.iter().cloned());
        Value::object(name.into_iter().chain(read).chain([("error", Value::object(error))]))
    }
}

impl Located {
    fn shown(&self) -> &[Problem] {
        &self.problems[..self.problems.len().min(PROBLEMS_MAX)]
    }

    fn place(&self, problem: &Problem) -> Place<'_> {
        (&self.source, self.source.position(problem.span.start))
    }
}

/// Where a problem is.
type Place<'a> = (&'a Source, Position);

/// The members that it has in JSON.
pub(crate) fn problem_json(
    problem: &Problem,
    (source, Position { line, column }): Place,
) -> [(&'static str, Value); 5] {
    [
        ("file", Value::from(source.name.as_str())),
        ("line", line.into()),
        ("column", column.into()),
        ("message", problem.message.as_str().into()),
        ("hint", hint_json(problem.hint.as_deref())),
    ]
}

fn hint_json(hint: Option<&str>) -> Value {
    hint.map(hint::complete).as_deref().into()
}

/// How something wrong is told to people: what stands before each `error:` and `hint:`.
pub(crate) struct Style(&'static str);

/// Other programs write there, too.
const STDERR: Style = Style("qqmgr: ");
/// The style of what the user asked for: none.
pub(crate) const STDOUT: Style = Style("");

impl Style {
    /// With the place in the source; newline at the end.
    pub(crate) fn problem(
        &self,
        severity: &str,
        problem: &Problem,
        (source, position): Place,
    ) -> String {
        let excerpt = source.excerpt(problem.span, position);
        self.text(severity, &problem.message, Some(&excerpt), problem.hint.as_deref())
    }

    fn text(
        &self,
        severity: &str,
        message: &str,
        excerpt: Option<&str>,
        hint: Option<&str>,
    ) -> String {
        let excerpt = excerpt.map(|text| format!("{text}\n")).unwrap_or_default();
        format!("{}{severity}: {message}\n{excerpt}{}", self.0, self.hint(hint))
    }

    fn hint(&self, hint: Option<&str>) -> String {
        hint.map(|text| format!("{}hint: {}\n", self.0, hint::complete(text))).unwrap_or_default()
    }
}

/// Whether an error tells of what this process or its machine has too little of, and so of nothing
/// else: `ENOMEM`, `ENFILE`, `EMFILE`.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(12 | 23 | TOO_MANY_OPEN_FILES))
}

/// The system's words without std's "(os error N)".
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
