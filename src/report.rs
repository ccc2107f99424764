//! The result of a command: the same facts as text for people and as JSON for scripts.

use crate::colour::{Colour, Stream};
use crate::error::Error;
use crate::json::Value;
use crate::text::on_a_line;
use std::fmt::{Display, Write as _};

/// The width of the label of a field, with its colon and the blanks after it.
const LABEL_WIDTH: usize = 12;

/// The result of a command for one of the things that it was asked to do.
pub(crate) type Outcome = Result<Report, Error>;

#[derive(Debug)]
pub(crate) struct Report {
    /// The text for standard output, with a newline at the end; empty when there is nothing to say.
    pub(crate) text: String,
    /// The document for `--json`; `None` if the command has written its output itself.
    pub(crate) json: Option<Value>,
    /// The exit code: 0, or that of another program, which is passed on.
    pub(crate) exit_code: u8,
}

impl Report {
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json: Some(json), exit_code: 0 }
    }

    /// Makes a report whose JSON is an object of these members.
    pub(crate) fn of<'a>(
        text: impl Into<String>,
        members: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Self {
        Self::new(text, Value::object(members))
    }

    /// Makes a report of names alone: one a line, or an array.
    pub(crate) fn names(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let text = names.iter().flat_map(|name| [name, "\n"]).collect::<String>();
        Self::new(text, names.into_iter().collect())
    }

    /// Makes the report of a command that has written its output itself.
    pub(crate) fn written(exit_code: u8) -> Self {
        Self { text: String::new(), json: None, exit_code }
    }

    /// Adds a member to the object.
    pub(crate) fn with_member(mut self, name: &str, value: Value) -> Self {
        if let Some(Value::Object(members)) = &mut self.json {
            members.push((name.to_string(), value));
        }
        self
    }

    pub(crate) fn with_exit_code(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }
}

/// The facts about one thing: lines `label: value` for people, members of an object for scripts.
#[derive(Default)]
pub(crate) struct Fields {
    /// The label of each line, and the line.
    lines: Vec<(&'static str, String)>,
    members: Vec<(&'static str, Value)>,
}

impl Fields {
    /// Adds a line for people, if there is something to show, and a member for scripts.
    pub(crate) fn fact(
        &mut self,
        label: &'static str,
        shown: Option<impl Display>,
        key: &'static str,
        value: impl Into<Value>,
    ) {
        self.line_if(label, shown);
        self.member(key, value);
    }

    /// Adds a line for people only.
    pub(crate) fn line(&mut self, label: &'static str, value: impl Display) {
        let line = format!("{:LABEL_WIDTH$}{value}\n", format!("{label}:"));
        self.lines.push((label, line));
    }

    /// Adds a line for people only, if there is a value.
    pub(crate) fn line_if(&mut self, label: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.line(label, value);
        }
    }

    /// Adds a member for scripts only.
    pub(crate) fn member(&mut self, key: &'static str, value: impl Into<Value>) {
        self.members.push((key, value.into()));
    }

    /// Makes the report. Lines with these labels, which commas separate, come first, in this order.
    pub(crate) fn report(mut self, labels: &str) -> Report {
        let place = |label| labels.split(", ").position(|one| one == label).unwrap_or(usize::MAX);
        self.lines.sort_by_key(|(label, _)| place(*label));
        Report::of(self.lines.into_iter().map(|(_, line)| line).collect::<String>(), self.members)
    }
}

/// The alignment of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// The cells of a row, and the column that has a colour.
type Row = (Vec<String>, Option<(usize, Colour)>);

/// A list: a row of cells for each element for people, an array of documents for scripts.
#[derive(Default)]
pub(crate) struct Table {
    /// The heading of each column and its smallest width.
    columns: Vec<(&'static str, Align, usize)>,
    rows: Vec<Row>,
    documents: Vec<Value>,
}

impl Table {
    /// Takes the heading of each column and its smallest width. The last column is never padded.
    pub(crate) fn new(columns: &[(&'static str, Align, usize)]) -> Self {
        Self { columns: columns.to_vec(), ..Self::default() }
    }

    /// Adds an element: a cell for each column, and its document. A name from outside cannot end
    /// a cell.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>, document: Value) {
        self.line(cells, None);
        self.documents.push(document);
    }

    /// Adds a row for people only; the cell in the column `painted` has a colour.
    pub(crate) fn line(&mut self, cells: impl Into<Vec<String>>, painted: Option<(usize, Colour)>) {
        let cells = cells.into().iter().map(|cell| on_a_line(cell)).collect();
        self.rows.push((cells, painted));
    }

    pub(crate) fn report(self) -> Report {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let (heading, _, least) = self.columns[at];
                let cells = self.rows.iter().map(|(row, _)| row[at].chars().count());
                cells.chain([heading.chars().count(), least]).max().unwrap_or_default()
            })
            .collect();
        let heading = (self.columns.iter().map(|column| column.0.into()).collect(), None);
        let mut text = String::new();
        for (row, painted) in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let blanks = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                let painted = painted.filter(|(painted, _)| *painted == column);
                let painted = painted.map(|(_, colour)| colour.paint(Stream::Stdout, cell));
                let cell = painted.as_ref().unwrap_or(cell);
                let _ = match self.columns[column].1 {
                    Align::Left => write!(line, "{cell}{blanks}  "),
                    Align::Right => write!(line, "{blanks}{cell}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        Report::new(text, Value::Array(self.documents))
    }
}
