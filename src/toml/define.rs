//! Decides which definitions may stand beside each other: finds the table that a header or the dots
//! of a key lead to, making tables on the way, and refuses what TOML counts as defined twice.
//!
//! See the sections Keys, Table and Inline Table of the specification.

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

/// The table that the lines below a header fill.
pub(super) fn by_header<'t>(
    source: &str,
    root: &'t mut Table,
    path: &Path,
) -> Result<&'t mut Table, Problem> {
    let mut table = root;
    for key in &path.parents {
        table = descend(source, table, path.up_to(key), key, Origin::Implicit)?;
    }
    let span = path.span();
    let made = Kind::Table(Table::new(Origin::Implicit));
    let (key, value) = table.entry_or_insert(&path.last, made, span);
    let (first, what) = (key.span, describe(value));
    match &mut value.kind {
        // The table may only have been named in another header before; this header defines it.
        Kind::Table(table) if table.origin == Origin::Implicit => {
            (table.origin, value.span, key.span) = (Origin::Header, span, path.last.span);
            Ok(table)
        }
        _ => Err(twice(source, span, &format!("`[{}]`", shown(source, span)), first, what)),
    }
}

/// The table of the key in `table`, which is made with this origin if it is missing. `span` is that
/// of the path up to the key.
fn descend<'t>(
    source: &str,
    table: &'t mut Table,
    span: Span,
    key: &Key,
    origin: Origin,
) -> Result<&'t mut Table, Problem> {
    let made = Kind::Table(Table::new(origin));
    let (first, value) = table.entry_or_insert(key, made, span);
    let (first, what) = (first.span.start, describe(value));
    // A header may go on below a table of any kind but an inline one, a dotted key only into one
    // that no header has defined.
    let is_open = |table: &Table| match origin {
        Origin::Dotted => matches!(table.origin, Origin::Implicit | Origin::Dotted),
        _ => table.origin != Origin::Inline,
    };
    match &mut value.kind {
        Kind::Table(next) if is_open(next) => Ok(next),
        _ => {
            let to = if origin == Origin::Dotted { "a dotted key" } else { "a header" };
            let name = shown(source, span);
            let message = format!("`{name}` is {what} and cannot be extended by {to}");
            let line = line_of(source, first);
            Err(Problem::new(span, message).hint(format!("first defined on line {line}")))
        }
    }
}

/// The table that holds the last key of `path`, which is new there.
pub(super) fn by_dots<'t>(
    source: &str,
    table: &'t mut Table,
    path: &Path,
) -> Result<&'t mut Table, Problem> {
    let mut table = table;
    for key in &path.parents {
        table = descend(source, table, path.up_to(key), key, Origin::Dotted)?;
        table.origin = Origin::Dotted;
    }
    if let Some((first, value)) = table.entry(&path.last.name) {
        let span = path.span();
        let written = format!("key `{}`", shown(source, span));
        return Err(twice(source, span, &written, first.span, describe(value)));
    }
    Ok(table)
}

fn describe(value: &Value) -> &'static str {
    match &value.kind {
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

/// The line number of an offset, counted from 1. It reads the source up to there, so it is for
/// errors only.
fn line_of(source: &str, offset: usize) -> usize {
    1 + source[..offset].matches('\n').count()
}
