//! Variables in the tables of the file, by their dotted names.

use crate::toml::{self, Table, Value};

/// The value at a dotted name in tables that are merged key by key, the first one winning.
pub(super) fn lookup<'t>(tables: &[&'t Table], name: &str) -> Option<&'t Value> {
    let (key, rest) = name.split_once('.').map_or((name, None), |(key, rest)| (key, Some(rest)));
    let mut found = tables.iter().filter_map(|table| table.get(key));
    match rest {
        None => found.next(),
        Some(rest) => lookup(&found.map_while(Value::as_table).collect::<Vec<_>>(), rest),
    }
}

/// Collects the dotted names of all values that are not tables.
pub(super) fn names(table: &Table, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in table.iter() {
        match &value.kind {
            toml::Kind::Table(inner) => names(inner, &format!("{prefix}{}.", key.name), out),
            // No placeholder leads to a key that has a dot in it.
            _ if key.name.contains('.') => {}
            _ => out.push(format!("{prefix}{}", key.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first table wins key by key. A value that is not a table hides a table in a later one,
    /// and is hidden by a table in an earlier one.
    #[test]
    fn tables_are_merged_key_by_key() {
        let parsed = ["t.y.z = 'own'\na = 'own'\nu.x = 1\nv = 'own'\n", "u = 1\nt.y.n = 1\n"]
            .into_iter()
            .chain(["a = 1\nt.x = 1\nt.y.z = 1\nu.old = 1\nv.w = 1\nk = 1\n"])
            .map(|text| toml::parse(text).unwrap())
            .collect::<Vec<Table>>();
        let tables: Vec<&Table> = parsed.iter().collect();
        for (name, expected) in [
            ("a", Some("a string")),
            ("k", Some("an integer")),
            ("t", Some("a table")),
            ("t.x", Some("an integer")),
            ("t.y.z", Some("a string")),
            ("t.y.n", Some("an integer")),
            ("u.x", Some("an integer")),
            ("u.old", None),
            ("v", Some("a string")),
            ("v.w", None),
            ("n", None),
            ("a.b", None),
        ] {
            let found = lookup(&tables, name).map(|value| value.kind.type_name());
            assert_eq!(found, expected, "{name}");
        }
    }
}
