//! Writes a value as text: one line for the wire, two-space indentation for people and scripts.

use super::Value;
use std::fmt::Write as _;

/// Characters that JSON may contain and YAML 1.1 may not: the data for cloud-init is both.
const NOT_IN_YAML: &[char] = &['\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}', '\u{ffff}'];

impl Value {
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        write_value(&mut out, self, None);
        out
    }

    /// The value as text, indented by two spaces, with a newline at the end.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        write_value(&mut out, self, Some(0));
        out.push('\n');
        out
    }
}

/// Writes a value. `indent` is the depth of the line that it starts on; `None` writes everything on
/// one line.
fn write_value(out: &mut String, value: &Value, indent: Option<usize>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(text) => out.push_str(text),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => write_list(out, ('[', ']'), items, indent, |out, item, indent| {
            write_value(out, item, indent);
        }),
        Value::Object(members) => {
            write_list(out, ('{', '}'), members, indent, |out, (name, value), indent| {
                write_string(out, name);
                out.push_str(": ");
                write_value(out, value, indent);
            });
        }
    }
}

fn write_list<T>(
    out: &mut String,
    (open, close): (char, char),
    items: &[T],
    indent: Option<usize>,
    write_item: impl Fn(&mut String, &T, Option<usize>),
) {
    out.push(open);
    let inner = indent.map(|depth| depth + 1);
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        match inner {
            Some(depth) => new_line(out, depth),
            None if number > 0 => out.push(' '),
            None => {}
        }
        write_item(out, item, inner);
    }
    if let (Some(depth), false) = (indent, items.is_empty()) {
        new_line(out, depth);
    }
    out.push(close);
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // DEL and C1 are legal in JSON, but a terminal would obey them.
            c if c.is_control() || NOT_IN_YAML.contains(&c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts() {
        let value = Value::object([
            ("a", Value::Null),
            ("b", [Value::from(1_u64), Value::from(true)].into_iter().collect()),
            ("c", Value::Object(vec![])),
            ("d", Value::Array(vec![])),
        ]);
        assert_eq!(value.compact(), r#"{"a": null, "b": [1, true], "c": {}, "d": []}"#);
        assert_eq!(
            value.pretty(),
            "{\n  \"a\": null,\n  \"b\": [\n    1,\n    true\n  ],\n  \"c\": {},\n  \"d\": []\n}\n"
        );
    }

    #[test]
    fn strings_are_escaped() {
        let text = Value::from("\"\\/\n\r\t\u{0}\u{7f}\u{9b}é\u{1f600}");
        assert_eq!(text.compact(), "\"\\\"\\\\/\\n\\r\\t\\u0000\\u007f\\u009bé\u{1f600}\"");
        assert_eq!(crate::json::parse(text.compact().as_bytes()), Ok(text));
        let text = Value::from("\u{2028}\u{feff}\u{ffff}");
        assert_eq!(text.compact(), r#""\u2028\ufeff\uffff""#);
    }
}
