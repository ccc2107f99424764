//! Decides which definitions may stand beside each other: finds the table that a header or the dots
//! of a key lead to, making tables on the way, and refuses what TOML counts as defined twice.
//!
//! See the sections Keys, Table, Inline Table and Array of Tables of the specification.

use super::{Key, Kind, Origin, Table, Value, shown};
use crate::source::{Problem, Span};

/// A dotted key, or one without dots.
pub(super) struct Path {
    pub(super) parents: Vec<Key>,
    pub(super) last: Key,
}

impl Path {
    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.parents.len() + 1
    }

    pub(super) fn span(&self) -> Span {
        self.up_to(&self.last)
    }

    fn up_to(&self, key: &Key) -> Span {
        let first = self.parents.first().unwrap_or(&self.last);
        Span { start: first.span.start, end: key.span.end }
    }
}

/// Whether a header is a `[table]` or adds to an `[[array]]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    Table,
    Array,
}

/// The table that the lines below a header fill.
pub(super) fn by_header<'t>(
    source: &str,
    root: &'t mut Table,
    path: &Path,
    header: Header,
) -> Result<&'t mut Table, Problem> {
    let mut table = root;
    for key in &path.parents {
        let span = path.up_to(key);
        let made = Kind::Table(Table::new(Origin::Implicit));
        let (first, value) = table.entry_or_insert(key, made, span);
        let (first, what) = (first.span, describe(value));
        table = open_table(value).ok_or_else(|| closed(source, span, what, "a header", first))?;
    }
    let (name, span) = (&path.last.name, path.span());
    if let Some((first, value)) = table.entry(name)
        && !may_be_defined(value, header)
    {
        let written = match header {
            Header::Table => format!("`[{}]`", shown(source, span)),
            Header::Array => format!("`[[{}]]`", shown(source, span)),
        };
        return Err(twice(source, span, &written, first.span, describe(value)));
    }
    let made = match header {
        Header::Table => Kind::Table(Table::new(Origin::Implicit)),
        Header::Array => Kind::Array(Vec::new()),
    };
    let (key, value) = table.entry_or_insert(&path.last, made, span);
    let (first, what) = (key.span, describe(value));
    match &mut value.kind {
        Kind::Array(elements) => {
            elements.push(Value { kind: Kind::Table(Table::new(Origin::Header)), span });
        }
        Kind::Table(table) => {
            // The table may only have been named in another header before; this header defines it.
            table.origin = Origin::Header;
            value.span = span;
            key.span = path.last.span;
        }
        _ => {}
    }
    open_table(value).ok_or_else(|| closed(source, span, what, "a header", first))
}

/// The table that holds the last key of `path`, which is new there.
pub(super) fn by_dots<'t>(
    source: &str,
    table: &'t mut Table,
    path: &Path,
) -> Result<&'t mut Table, Problem> {
    let mut table = table;
    for key in &path.parents {
        let span = path.up_to(key);
        let made = Kind::Table(Table::new(Origin::Dotted));
        let (first, value) = table.entry_or_insert(key, made, span);
        let (first, what) = (first.span, describe(value));
        table = match &mut value.kind {
            Kind::Table(next) if matches!(next.origin, Origin::Implicit | Origin::Dotted) => next,
            _ => return Err(closed(source, span, what, "a dotted key", first)),
        };
        table.origin = Origin::Dotted;
    }
    if let Some((first, value)) = table.entry(&path.last.name) {
        let span = path.span();
        let written = format!("key `{}`", shown(source, span));
        return Err(twice(source, span, &written, first.span, describe(value)));
    }
    Ok(table)
}

fn may_be_defined(value: &Value, header: Header) -> bool {
    match (&value.kind, header) {
        (Kind::Table(table), Header::Table) => table.origin == Origin::Implicit,
        (Kind::Array(elements), Header::Array) => is_array_of_tables(elements),
        _ => false,
    }
}

/// Whether the array was made by `[[headers]]`; in other arrays, all tables are inline tables.
fn is_array_of_tables(elements: &[Value]) -> bool {
    let last = elements.last().map(|element| &element.kind);
    matches!(last, Some(Kind::Table(table)) if table.origin != Origin::Inline)
}

/// The table that a header adds to when it names `value`: in an array of tables, the last one.
fn open_table(value: &mut Value) -> Option<&mut Table> {
    let kind = match &mut value.kind {
        Kind::Array(elements) => &mut elements.last_mut()?.kind,
        kind => kind,
    };
    match kind {
        Kind::Table(table) if table.origin != Origin::Inline => Some(table),
        _ => None,
    }
}

fn describe(value: &Value) -> &'static str {
    match &value.kind {
        Kind::Array(elements) if is_array_of_tables(elements) => "an array of tables",
        Kind::Table(table) => match table.origin {
            Origin::Implicit => "a table",
            Origin::Header => "a table with a header of its own",
            Origin::Dotted => "a table made by dotted keys",
            Origin::Inline => "an inline table",
        },
        kind => kind.type_name(),
    }
}

fn twice(source: &str, span: Span, written: &str, first: Span, what: &str) -> Problem {
    let line = line_of(source, first.start);
    let hint = format!("first defined on line {line}, as {what}");
    Problem::new(span, format!("{written} is defined twice")).hint(hint)
}

fn closed(source: &str, span: Span, what: &str, to: &str, first: Span) -> Problem {
    let name = shown(source, span);
    let message = format!("`{name}` is {what} and cannot be extended by {to}");
    let line = line_of(source, first.start);
    Problem::new(span, message).hint(format!("first defined on line {line}"))
}

/// The line number of an offset, counted from 1. It reads the source up to there, so it is for
/// errors only.
fn line_of(source: &str, offset: usize) -> usize {
    1 + source[..offset].matches('\n').count()
}
