//! The error type: what went wrong, what to do next, and its exit code and JSON.
//!
//! All layers that know about VMs use this type. `toml`, `json`, `template` and `words` have
//! [`Problem`]s or errors of their own; code that knows the file or VM makes an `Error` of them.

mod kind;

use crate::colour::{Colour, Stream};
use crate::json::Value;
use crate::source::{Position, Problem, Source, Span};
use crate::{hint, text};
pub(crate) use kind::Kind;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// `EMFILE`, the same number on every Unix.
const TOO_MANY_OPEN_FILES: i32 = 24;
/// At most this many problems of one file are shown.
const PROBLEMS_MAX: usize = 20;

#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) kind: Kind,
    message: String,
    hint: Option<String>,
    /// Problems at places in a file. They are shown instead of `message`.
    located: Option<Box<Located>>,
    /// The class of an error that QEMU returned: `GenericError`, ... (`QapiErrorClass` of
    /// `qapi/error.json`).
    class: Option<Box<str>>,
    /// The VM that the error is about.
    vm: Option<Box<Vm>>,
    /// The output that was read before the command failed, by its names in the command's result.
    read: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
struct Vm {
    name: String,
    /// The command acts on several VMs, so the text must name this one.
    among_others: bool,
}

/// [`Problem`]s and the source that contains them.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) source: Arc<Source>,
    pub(crate) problems: Vec<Problem>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, hint: None, located: None, class: None, vm: None, read: Vec::new() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Makes an error of the command line. If it has no hint, the parser adds the command's usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
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

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the hint, if there is one.
    pub(crate) fn hint_if(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Adds the hint if the error is of this kind.
    pub(crate) fn hint_for(self, kind: Kind, hint: impl Into<String>) -> Self {
        if self.kind == kind { self.hint(hint) } else { self }
    }

    /// Adds the hint if the error has none.
    pub(crate) fn or_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: self.hint.or_else(|| Some(hint.into())), ..self }
    }

    /// Adds "did you mean" to the message and drops the hint, when there is a near name.
    pub(crate) fn did_you_mean(mut self, near: Option<&str>) -> Self {
        self.message = text::did_you_mean(&self.message, near);
        self.hint = self.hint.filter(|_| near.is_none());
        self
    }

    /// Puts `done`, what was done before the failure, in front of the message. The kind stays.
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.message.insert_str(0, &format!("{done}: "));
        self
    }

    /// Appends what else happened, after a line with `and`.
    pub(crate) fn before(mut self, next: &str) -> Self {
        self.message = format!("{}\nand {next}", self.message);
        self
    }

    /// Appends the message of the cause and takes over its kind, which decides the exit code.
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

    /// Sets the class that QEMU gave the error, for scripts.
    pub(crate) fn of_class(mut self, class: &str) -> Self {
        self.class = Some(class.into());
        self
    }

    /// Sets the VM that the error is about; `among_others` when the command acts on several VMs.
    pub(crate) fn of_vm(mut self, name: &str, among_others: bool) -> Self {
        self.vm = Some(Box::new(Vm { name: name.to_string(), among_others }));
        self
    }

    /// Adds output that was read before the failure: `--json` prints it beside the error, under its
    /// name in the command's result.
    pub(crate) fn after_reading(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.read.push((name, value.into()));
        self
    }

    /// Makes one error of all problems of a configuration. `problems` is not empty.
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
        let error = Self::new(Kind::Config, messages.join("; "));
        Self { hint, located: Some(Box::new(located)), ..error }
    }

    /// Gives all problems at places in a file, or the error itself if it has none.
    pub(crate) fn into_located(mut self) -> Result<Located, Self> {
        self.located.take().map(|located| *located).ok_or(self)
    }

    /// Makes this error a problem at a place in the file.
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
        let shown = located.shown().iter();
        let shown = shown.map(|one| STDERR.problem("error", &vm, one, located.place(one)));
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
            error.push(("class", class.as_ref().into()));
        }
        let name = self.vm.as_ref().map(|vm| ("name", Value::from(vm.name.as_str())));
        let read = self.read.iter().cloned();
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

/// The source and position of a problem.
type Place<'a> = (&'a Source, Position);

/// The members of a problem in JSON.
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

/// How an error is shown to people: the text in front of each `error:` and `hint:`, and where.
pub(crate) struct Style(&'static str, Stream);

/// The style of stderr, which other programs write to as well.
pub(crate) const STDERR: Style = Style("qqmgr: ", Stream::Stderr);
/// The style of a result that the user asked for: no prefix.
pub(crate) const STDOUT: Style = Style("", Stream::Stdout);

impl Style {
    /// The text of a problem with its place in the source and a newline at the end. The message
    /// begins with `subject`.
    pub(crate) fn problem(
        &self,
        severity: &str,
        subject: &str,
        problem: &Problem,
        (source, position): Place,
    ) -> String {
        let excerpt = source.excerpt(problem.span, position);
        let message = format!("{subject}{}", problem.message);
        self.text(severity, &message, Some(&excerpt), problem.hint.as_deref())
    }

    fn text(
        &self,
        severity: &str,
        message: &str,
        excerpt: Option<&str>,
        hint: Option<&str>,
    ) -> String {
        let excerpt = excerpt.map(|text| format!("{text}\n")).unwrap_or_default();
        let colour = if severity == "error" { Colour::Red } else { Colour::Yellow };
        let severity = colour.paint(self.1, &format!("{severity}:"));
        format!("{}{severity} {message}\n{excerpt}{}", self.0, self.hint(hint))
    }

    fn hint(&self, hint: Option<&str>) -> String {
        hint.map(|text| format!("{}hint: {}\n", self.0, hint::complete(text))).unwrap_or_default()
    }
}

/// Whether an error only reports a shortage in this process or its machine: `ENOMEM`, `ENFILE`,
/// `EMFILE`.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(12 | 23 | TOO_MANY_OPEN_FILES))
}

/// The system's description of an error without std's "(os error N)".
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
