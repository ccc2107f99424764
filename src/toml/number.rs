//! Reads values of a single word: booleans, integers and floats, and reports words that are none of
//! them.

use super::cursor::{Cursor, is_control};
use super::{Kind, Value, shown};
use crate::source::{Problem, Span};

/// Reads the boolean, integer or float at the cursor.
///
/// Fails on any other word, on numbers that do not fit 64 bits, and on date-times.
pub(super) fn scalar(cursor: &mut Cursor) -> Result<Value, Problem> {
    let span = cursor.take_while(|byte| !is_control(byte) && !b" \t,]}#=".contains(&byte));
    let word = &cursor.source[span.start..span.end];
    let kind = match word {
        "" => return Err(cursor.expected("a value")),
        "true" => Kind::Boolean(true),
        "false" => Kind::Boolean(false),
        _ if is_date_or_time(word) => return Err(date_time(cursor.source, span)),
        _ => match number(word) {
            Ok(kind) => kind,
            Err(Fault::NotANumber) => return Err(not_a_value(cursor.source, span)),
            Err(Fault::BadNumber(rule)) => return Err(Problem::new(span, rule)),
        },
    };
    Ok(Value { kind, span })
}

enum Fault {
    NotANumber,
    /// Close enough to a number to name the rule it breaks.
    BadNumber(&'static str),
}

const OUT_OF_RANGE: Fault = Fault::BadNumber("integer out of range (64 bits)");

fn number(word: &str) -> Result<Kind, Fault> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let sign = if word.starts_with('-') { -1.0 } else { 1.0 };
    if unsigned == "inf" {
        return Ok(Kind::Float(sign * f64::INFINITY));
    }
    if unsigned == "nan" {
        return Ok(Kind::Float(f64::NAN.copysign(sign)));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            check_digits(digits, radix)?;
            if unsigned != word {
                let rule = "a sign is not allowed before `0x`, `0o` or `0b`";
                return Err(Fault::BadNumber(rule));
            }
            let value = i64::from_str_radix(&digits.replace('_', ""), radix);
            return value.map(Kind::Integer).map_err(|_| OUT_OF_RANGE);
        }
    }
    decimal(word, unsigned)
}

fn decimal(word: &str, unsigned: &str) -> Result<Kind, Fault> {
    let (mantissa, exponent) = split(unsigned, &['e', 'E']);
    let (whole, fraction) = split(mantissa, &['.']);
    if fraction.is_some() && (whole.is_empty() || fraction == Some("")) {
        check_digits(mantissa.trim_matches('.'), 10)?;
        return Err(Fault::BadNumber("a float needs digits on both sides of the `.`"));
    }
    check_digits(whole, 10)?;
    if let Some(fraction) = fraction {
        check_digits(fraction, 10)?;
    }
    if let Some(exponent) = exponent {
        check_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), 10)?;
    }
    if whole.len() > 1 && whole.starts_with('0') {
        return Err(Fault::BadNumber("leading zeros are not allowed"));
    }
    let plain = word.replace('_', "");
    if fraction.is_none() && exponent.is_none() {
        return plain.parse().map(Kind::Integer).map_err(|_| OUT_OF_RANGE);
    }
    // Rust reads every TOML float. A float that is too large becomes infinite, which is not what
    // was written.
    match plain.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Kind::Float(value)),
        _ => Err(Fault::BadNumber("float out of range (64 bits)")),
    }
}

fn split<'t>(text: &'t str, separators: &[char]) -> (&'t str, Option<&'t str>) {
    match text.split_once(separators) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn check_digits(text: &str, radix: u32) -> Result<(), Fault> {
    if text.is_empty() || !text.chars().all(|c| c == '_' || c.is_digit(radix)) {
        return Err(Fault::NotANumber);
    }
    if text.split('_').any(str::is_empty) {
        let rule = "an underscore in a number must have a digit on both sides";
        return Err(Fault::BadNumber(rule));
    }
    Ok(())
}

/// Whether the word starts like `1979-05-27` or `07:32:00`.
fn is_date_or_time(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    matches!((digits, word.as_bytes().get(digits)), (4, Some(b'-')) | (2, Some(b':')))
}

fn date_time(source: &str, span: Span) -> Problem {
    let hint = format!("write it as a string: \"{}\"", shown(source, span));
    Problem::new(span, "date-times are not supported").hint(hint)
}

fn not_a_value(source: &str, span: Span) -> Problem {
    let word = shown(source, span);
    let hint = match word.to_ascii_lowercase().as_str() {
        "true" | "false" => "booleans are `true` and `false`, in lower case",
        _ => "a string needs quotes around it",
    };
    Problem::new(span, format!("invalid value `{word}`")).hint(hint)
}
