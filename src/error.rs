//! What went wrong, what to do next, and which exit code and JSON that makes.
//!
//! The one error type of the layers that know of VMs; `toml`, `json`, `template` and `words` have
//! [`Problem`]s or errors of their own, which become an `Error` where they meet a file or a VM.

use crate::json::Value;
use crate::text::{Problem, Source};
use std::fmt::{self, Display};
use std::io;
use std::path::Path;

/// Of the problems in one file, this many are shown.
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
    located: Vec<Located>,
    /// How many more there were than [`PROBLEMS_MAX`].
    hidden: usize,
    /// The VM that it is about.
    vm: Option<Box<Vm>>,
}

#[derive(Debug)]
struct Vm {
    name: String,
    /// Others were asked for, too: who reads the text must be told which one this is.
    among_others: bool,
}

/// A [`Problem`] together with where its source has it.
#[derive(Debug)]
struct Located {
    file: String,
    line: usize,
    column: usize,
    excerpt: String,
    message: String,
    hint: Option<String>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, hint: None, located: Vec::new(), hidden: 0, vm: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// "cannot VERB `PATH`: REASON", for an operation on a file.
    pub(crate) fn io(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self::failed(format!("cannot {verb} `{}`: {}", path.display(), io_reason(error)))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The VM that it is about, alone or among others that a command acts on.
    pub(crate) fn of_vm(mut self, name: &str, among_others: bool) -> Self {
        self.vm = Some(Box::new(Vm { name: name.to_string(), among_others }));
        self
    }

    /// Configuration errors, all at once. `problems` is not empty.
    pub(crate) fn config(source: &Source, problems: Vec<Problem>) -> Self {
        let hidden = problems.len().saturating_sub(PROBLEMS_MAX);
        let located: Vec<Located> = problems
            .into_iter()
            .take(PROBLEMS_MAX)
            .map(|problem| Located::new(source, problem))
            .collect();
        let messages: Vec<String> =
            located.iter().map(|one| format!("{one}: {}", one.message)).collect();
        let hint = located.iter().find_map(|one| one.hint.clone());
        let message = messages.join("; ");
        Self { kind: Kind::Config, message, hint, located, hidden, vm: None }
    }

    /// What goes to stderr, newline at the end.
    pub(crate) fn text(&self) -> String {
        let vm = self.vm.as_ref().filter(|vm| vm.among_others);
        let vm = vm.map(|vm| format!("{}: ", vm.name)).unwrap_or_default();
        if self.located.is_empty() {
            return paragraph(&format!("{vm}{}", self.message), None, self.hint.as_deref());
        }
        let mut text: String = self
            .located
            .iter()
            .map(|one| {
                let message = format!("{vm}{}", one.message);
                paragraph(&message, Some(&one.excerpt), one.hint.as_deref())
            })
            .collect();
        if self.hidden > 0 {
            text.push_str(&hint_line(Some(&format!("{} more errors not shown", self.hidden))));
        }
        text
    }

    /// What goes to stdout with `--json`.
    pub(crate) fn json(&self) -> Value {
        let mut error = vec![
            ("kind", Value::from(self.kind.name())),
            ("message", Value::from(self.message.as_str())),
            ("hint", self.hint.as_deref().into()),
        ];
        if !self.located.is_empty() {
            error.push(("problems", self.located.iter().map(Located::json).collect()));
        }
        let name = self.vm.as_ref().map(|vm| ("name", Value::from(vm.name.as_str())));
        Value::object(name.into_iter().chain([("error", Value::object(error))]))
    }
}

impl Located {
    fn new(source: &Source, problem: Problem) -> Self {
        let position = source.position(problem.span.start);
        Self {
            file: source.name.clone(),
            line: position.line,
            column: position.column,
            excerpt: source.excerpt(problem.span),
            message: problem.message,
            hint: problem.hint,
        }
    }

    fn json(&self) -> Value {
        Value::object([
            ("file", Value::from(self.file.as_str())),
            ("line", self.line.into()),
            ("column", self.column.into()),
            ("message", self.message.as_str().into()),
            ("hint", self.hint.as_deref().into()),
        ])
    }
}

impl Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

fn paragraph(message: &str, excerpt: Option<&str>, hint: Option<&str>) -> String {
    let excerpt = excerpt.map(|text| format!("{text}\n")).unwrap_or_default();
    format!("qqmgr: error: {message}\n{excerpt}{}", hint_line(hint))
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map(|text| format!("qqmgr: hint: {text}\n")).unwrap_or_default()
}

/// The system's words without std's "(os error N)".
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
