//! TOML 1.0 (<https://toml.io/en/v1.0.0>) without date-times: a source text in, a table whose
//! every key and value knows its place out.
//!
//! What is accepted means what TOML says; everything else is a problem with its place. Date-times
//! are refused by name. Pure; knows nothing of VMs or files.

mod cursor;
mod define;
mod number;
mod parse;
mod string;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::text::Span;

pub(crate) use parse::parse;
pub(crate) use string::offset_in_string;

/// How many keys and `[` may lie around a value, whether the keys come from headers, dotted keys
/// or inline tables; the arrays that `[[headers]]` make come on top. Bounds the recursion here and
/// in whoever walks the result.
const DEPTH_MAX: usize = 64;

/// Tables up to this many entries are searched one by one; most are, and need no index.
const UNINDEXED_ENTRIES_MAX: usize = 8;

/// How many characters of the source a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A value and the bytes it was written as: a string's include its quotes, and a table or array
/// made by a header or by dotted keys has the part of that key that names it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    String(String),
    Integer(i64),
    #[cfg_attr(not(test), expect(dead_code, reason = "a number is shown as it was written"))]
    Float(f64),
    Boolean(bool),
    Array(Vec<Value>),
    Table(Table),
}

impl Kind {
    /// The type with its article, for messages such as "expected a string, found an array".
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Kind::String(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a float",
            Kind::Boolean(_) => "a boolean",
            Kind::Array(_) => "an array",
            Kind::Table(_) => "a table",
        }
    }
}

/// A key without quotes and escapes, and the bytes it was written as, with them.
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

/// How a table came to be, which decides what may still be added to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    /// Only named on the way to another table, as `a` in `[a.b]`; may still be defined, once.
    Implicit,
    /// By a `[header]` or `[[header]]` of its own.
    Header,
    /// As `a` in `a.b = 1`: open to more dotted keys, and to headers of tables below it.
    Dotted,
    /// As `{ a = 1 }`: closed.
    Inline,
}

impl Table {
    fn new(origin: Origin) -> Table {
        Table { entries: Vec::new(), index: BTreeMap::new(), origin }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.entry(name).map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Adds the entries of `over`, which win; a table in both is merged in the same way.
    pub(crate) fn merge(&mut self, over: &Table) {
        for (key, value) in over.iter() {
            let Some(position) = self.position(&key.name) else {
                self.insert(key.clone(), value.clone());
                continue;
            };
            let (old_key, old) = &mut self.entries[position];
            if let (Kind::Table(old), Kind::Table(new)) = (&mut old.kind, &value.kind) {
                old.merge(new);
            } else {
                (*old_key, *old) = (key.clone(), value.clone());
            }
        }
    }

    fn entry(&self, name: &str) -> Option<&(Key, Value)> {
        self.entries.get(self.position(name)?)
    }

    fn position(&self, name: &str) -> Option<usize> {
        if self.entries.len() <= UNINDEXED_ENTRIES_MAX {
            return self.entries.iter().position(|(key, _)| key.name == name);
        }
        self.index.get(name).copied()
    }

    /// The entry of that name, which is appended if there is none yet.
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
        if position == 0 {
            // Most have no more than two; a vector that grows begins with four.
            self.entries.reserve_exact(2);
        }
        if position == UNINDEXED_ENTRIES_MAX {
            let names = self.entries.iter().map(|(key, _)| key.name.clone());
            self.index = names.zip(0..).collect();
        }
        if position >= UNINDEXED_ENTRIES_MAX {
            self.index.insert(key.name.clone(), position);
        }
        self.entries.push((key, value));
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
