//! A parser for TOML 1.0 (<https://toml.io/en/v1.0.0>) without date-times and arrays of tables. It
//! turns a source text into a table in which every key and value knows its place.
//!
//! Every document that is accepted means what TOML says; everything else is a problem with its
//! place. Date-times and arrays of tables are refused by name. Pure; knows nothing of VMs or files.

mod cursor;
mod define;
mod number;
mod parse;
mod string;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::source::Span;

pub(crate) use parse::parse;

/// The limit of keys and `[` around a value, whether the keys come from headers, dotted keys or
/// inline tables. It bounds the recursion here and in code that walks the result.
const DEPTH_MAX: usize = 64;

/// The size up to which a table is searched entry by entry. Most tables are that small and need no
/// index.
const UNINDEXED_ENTRIES_MAX: usize = 8;

/// The number of entries from which on a table grows by more than it needs.
const GROWN_ENTRIES_MIN: usize = 4;

/// The number of characters of the source that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A value and the span it was written in. A string's span includes its quotes. A table made by
/// a header or by dotted keys has the span of the part of that key that names it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    String(String),
    Integer(i64),
    /// A float is only shown as it is written, so its value is not kept.
    Float,
    Boolean(bool),
    Array(Vec<Value>),
    Table(Table),
}

impl Value {
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self.kind {
            Kind::Integer(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn as_table(&self) -> Option<&Table> {
        match &self.kind {
            Kind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The value of a key, if this is a table that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.as_table()?.get(key)
    }

    /// Maps ranges of bytes of a string's text to their places in the source that it was read from.
    pub(crate) fn places(&self, source: &str) -> impl Fn(Span) -> Span {
        string::places(source, self.span)
    }

    /// The elements of an array; any other value counts as an array of itself.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Array(items) => items,
            _ => std::slice::from_ref(self),
        }
    }
}

impl Kind {
    /// The type with its article, for messages such as "expected a string, found an array".
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Kind::String(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float => "a float",
            Kind::Boolean(_) => "a boolean",
            Kind::Array(_) => "an array",
            Kind::Table(_) => "a table",
        }
    }
}

/// A key without quotes and escapes, and the span it was written in, with them.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) span: Span,
}

/// Keys and values in the order in which the keys first appear in the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: Vec<(Key, Value)>,
    /// Positions by name; empty while the table is small.
    index: BTreeMap<String, usize>,
    origin: Origin,
}

/// How a table was made, which decides what may still be added to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    /// It was only named on the way to another table, as `a` in `[a.b]`, and may still be defined
    /// once.
    Implicit,
    /// It was made by a `[header]` of its own.
    Header,
    /// It was made as `a` in `a.b = 1`, and is open to more dotted keys and to headers of tables
    /// below it.
    Dotted,
    /// It was made as `{ a = 1 }`, and is closed.
    Inline,
}

impl Table {
    fn new(origin: Origin) -> Table {
        Table { origin, ..Table::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.entry(name).map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The key of that name, with its place, and its value.
    pub(crate) fn entry(&self, name: &str) -> Option<(&Key, &Value)> {
        self.entries.get(self.position(name)?).map(|(key, value)| (key, value))
    }

    /// The index of a key among all keys.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        if self.index.is_empty() {
            return self.entries.iter().position(|(key, _)| key.name == name);
        }
        self.index.get(name).copied()
    }

    /// The entry of that name, which is appended if it is missing.
    fn entry_or_insert(&mut self, key: &Key, kind: Kind, span: Span) -> &mut (Key, Value) {
        let position = self.position(&key.name).unwrap_or_else(|| {
            self.insert(key.clone(), Value { kind, span });
            self.entries.len() - 1
        });
        &mut self.entries[position]
    }

    /// Appends an entry, whose name must be new.
    fn insert(&mut self, key: Key, value: Value) {
        let position = self.entries.len();
        if position < GROWN_ENTRIES_MIN {
            // Most tables have one or two entries; a vector that grows by itself begins with four.
            self.entries.reserve_exact(1);
        }
        self.entries.push((key, value));
        if self.entries.len() > UNINDEXED_ENTRIES_MAX {
            // The first time, this adds all entries, and then the last one.
            let new = self.entries.iter().enumerate().skip(self.index.len());
            self.index.extend(new.map(|(position, (key, _))| (key.name.clone(), position)));
        }
    }
}

/// The text at `span` for a message, cut short if it is long.
fn shown(source: &str, span: Span) -> String {
    let text = source.get(span.start..span.end).unwrap_or_default();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.to_owned(),
    }
}
