//! Reads values of a single word: booleans, integers and floats. Reports other words.

use super::cursor::{Cursor, is_control};
use super::{Kind, Value, shown};
use crate::source::{Problem, Span};

/// Reads the boolean, integer or float at the cursor.
///
/// Fails on any other word, on integers that do not fit 64 bits, and on date-times.
pub(super) fn scalar(cursor: &mut Cursor) -> Result<Value, Problem> {
    let span = cursor.take_while(|byte| !is_control(byte) && !b" \t,]}#=".contains(&byte));
    let word = &cursor.source[span.start..span.end];
    let kind = match word {
        "" => return Err(cursor.expected("a value")),
        "true" => Kind::Boolean(true),
        "false" => Kind::Boolean(false),
        _ => number(word).ok_or_else(|| invalid(word, span, &shown(cursor.source, span)))?,
    };
    Ok(Value { kind, span })
}

/// The number that the word is, by the rules of TOML.
fn number(word: &str) -> Option<Kind> {
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = word.strip_prefix(prefix) {
            return integer(digits, radix);
        }
    }
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    if ["inf", "nan"].contains(&unsigned) {
        return Some(Kind::Float);
    }
    let (mantissa, exponent) = split(unsigned, &['e', 'E']);
    let (whole, fraction) = split(mantissa, &['.']);
    let exponent = exponent.map(|digits| digits.strip_prefix(['+', '-']).unwrap_or(digits));
    let parts = [Some(whole), fraction, exponent];
    let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
    if has_leading_zero || !parts.iter().flatten().all(|digits| are_digits(digits, 10)) {
        return None;
    }
    if fraction.is_some() || exponent.is_some() {
        return Some(Kind::Float);
    }
    word.replace('_', "").parse().ok().map(Kind::Integer)
}

fn integer(digits: &str, radix: u32) -> Option<Kind> {
    let plain = are_digits(digits, radix).then(|| digits.replace('_', ""))?;
    i64::from_str_radix(&plain, radix).ok().map(Kind::Integer)
}

fn split<'t>(text: &'t str, separators: &[char]) -> (&'t str, Option<&'t str>) {
    text.split_once(separators).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Whether the text has digits only, with single underscores between them.
fn are_digits(text: &str, radix: u32) -> bool {
    text.split('_').all(|part| !part.is_empty() && part.chars().all(|c| c.is_digit(radix)))
}

/// The problem with a word that is not a value; `shown` is the word for messages.
fn invalid(word: &str, span: Span, shown: &str) -> Problem {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    // `1979-05-27` or `07:32:00`
    if matches!((digits, word.as_bytes().get(digits)), (4, Some(b'-')) | (2, Some(b':'))) {
        let hint = format!("write it as a string: \"{shown}\"");
        return Problem::new(span, "date-times are not supported").hint(hint);
    }
    let hint = match word.to_ascii_lowercase().as_str() {
        "true" | "false" | "yes" | "no" | "on" | "off" => "booleans are `true` and `false`",
        _ => "a string needs `\"` or `'` around it; a number has digits, and no zero before them",
    };
    Problem::new(span, format!("invalid value `{shown}`")).hint(hint)
}
