//! Values as a YAML document that YAML 1.1 and 1.2 read alike. Pure.
//!
//! Every text is in double quotes, so that none is read as a boolean (`no`), a number (`1_000`,
//! `12:30`) or a null, and none begins another construct. Characters that YAML may not contain are
//! escaped.

use crate::json::Value;
use std::fmt::Write as _;

/// The document in block style, with a newline at the end.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => mapping(&mut out, members, 0),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        scalar => {
            push_scalar(&mut out, scalar);
            out.push('\n');
        }
    }
    out
}

fn mapping(out: &mut String, members: &[(String, Value)], depth: usize) {
    for (name, value) in members {
        indent(out, depth);
        push_key(out, name);
        out.push(':');
        push_value(out, value, depth);
    }
}

fn sequence(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push('-');
        push_value(out, item, depth);
    }
}

/// Writes a value behind a `key:` or a `-` at this depth.
fn push_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            mapping(out, members, depth + 1);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            sequence(out, items, depth + 1);
        }
        scalar => {
            out.push(' ');
            push_scalar(out, scalar);
            out.push('\n');
        }
    }
}

fn push_scalar(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(on) => out.push_str(if *on { "true" } else { "false" }),
        Value::Number(text) => out.push_str(text),
        Value::String(text) => push_quoted(out, text),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

/// Writes a key, without quotes if it is a word that means nothing else; it may have underscores
/// and dashes.
fn push_key(out: &mut String, name: &str) {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '-')
        && !RESERVED.contains(&name);
    if is_plain { out.push_str(name) } else { push_quoted(out, name) }
}

/// Lower-case words that YAML 1.1 reads as a boolean or a null.
const RESERVED: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Writes a text in the double-quoted style of YAML 1.1, chapter 5.6. Its escapes `\xNN`, `\uNNNN`
/// and `\UNNNNNNNN` stand for any character.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
}

/// Whether a character needs no escape: `c-printable` of the specification without line breaks (two
/// of which are U+2028 and U+2029), the next-line character and the byte order mark.
fn is_printable(c: char) -> bool {
    match u32::from(c) {
        0x2028 | 0x2029 | 0xfeff => false,
        code => matches!(code, 0x20..=0x7e | 0xa0..=0xfffd | 0x1_0000..),
    }
}

fn indent(out: &mut String, depth: usize) {
    out.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_style() {
        let value = Value::object([
            ("user", Value::object([("name", "dev".into()), ("lock_passwd", true.into())])),
            ("runcmd", ["a b", "c"].map(Value::from).into_iter().collect()),
            ("none", Value::Array(Vec::new())),
            ("on", Value::Null),
            ("Users", [Value::object([("n", 1_u32.into())])].into_iter().collect()),
        ]);
        let expected = "user:\n  name: \"dev\"\n  lock_passwd: true\nruncmd:\n  - \"a b\"\n  - \"c\"\n\
             none: []\n\"on\": null\n\"Users\":\n  -\n    \"n\": 1\n";
        assert_eq!(document(&value), expected);
        assert_eq!(document(&Value::Object(Vec::new())), "{}\n");
    }

    #[test]
    fn every_text_is_quoted() {
        for (text, expected) in [
            ("no", r#""no""#),
            ("", r#""""#),
            ("1_000", r#""1_000""#),
            ("- a: b # c", r#""- a: b # c""#),
            ("{%&*!|>'@`", r#""{%&*!|>'@`""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("a\n\tb\r\n", r#""a\n\tb\r\n""#),
            ("\0\x1b\x7f\u{85}\u{a0}é", "\"\\x00\\x1b\\x7f\\x85\u{a0}é\""),
            ("\u{2028}\u{feff}\u{ffff}\u{1f600}", "\"\\u2028\\ufeff\\uffff\u{1f600}\""),
        ] {
            assert_eq!(document(&text.into()), format!("{expected}\n"), "{text:?}");
        }
    }
}
