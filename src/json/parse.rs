//! Parses bytes to a value, strictly by RFC 8259. Never panics; the recursion is bounded.

use super::Value;
use std::fmt;

/// The limit of arrays and objects inside each other. QEMU's own limit is 1024; its replies stay
/// below 20.
const DEPTH_MAX: usize = 128;

/// A syntax error, and the offset of its byte, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) offset: usize,
    pub(crate) message: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.message, self.offset)
    }
}

/// Parses one JSON text with nothing but white space around it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    let text = str::from_utf8(bytes)
        .map_err(|error| Error { offset: error.valid_up_to(), message: "invalid UTF-8" })?;
    let mut parser = Parser { text, at: 0 };
    parser.skip_blanks();
    let value = parser.value(0)?;
    parser.skip_blanks();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.error("unexpected text after the value")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, message: &'static str) -> Error {
        Error { offset: self.at, message }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        match self.peek() {
            Some(b'{') => {
                let members = self.list(b'}', "expected `,` or `}`", |it| it.member(depth + 1));
                members.map(Value::Object)
            }
            Some(b'[') => {
                self.list(b']', "expected `,` or `]`", |it| it.value(depth + 1)).map(Value::Array)
            }
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("the text ends where a value is expected")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Error> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// Reads items with commas between, up to the byte `close`. The cursor is on the opening byte.
    fn list<T>(
        &mut self,
        close: u8,
        expected: &'static str,
        item: impl Fn(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_blanks();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            self.skip_blanks();
            items.push(item(self)?);
            self.skip_blanks();
            if self.eat(close) {
                return Ok(items);
            }
            if !self.eat(b',') {
                return Err(self.error(expected));
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<(String, Value), Error> {
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a name in double quotes"));
        }
        let name = self.string()?;
        self.skip_blanks();
        if !self.eat(b':') {
            return Err(self.error("expected `:`"));
        }
        self.skip_blanks();
        Ok((name, self.value(depth)?))
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _signed = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].to_string()))
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("expected a digit")) } else { Ok(()) }
    }

    /// Reads a string. The cursor is on the opening quote.
    fn string(&mut self) -> Result<String, Error> {
        self.at += 1;
        let mut value = String::new();
        loop {
            let plain = self.text[self.at..]
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .ok_or_else(|| self.error("unclosed string"))?;
            value.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => value.push(self.escape()?),
                _ => return Err(self.error("control character in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return Err(self.error("invalid escape")),
        };
        self.at += 1;
        Ok(c)
    }

    /// Reads the digits of a `\u` escape. A lone surrogate is legal JSON but not text; it becomes
    /// U+FFFD, since the RFC leaves its meaning open.
    fn unicode_escape(&mut self) -> Result<char, Error> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let after_first = self.at;
        if self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let scalar = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after_first;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Result<u32, Error> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|four| four.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|four| str::from_utf8(four).ok());
        let Some(number) = digits.and_then(|four| u32::from_str_radix(four, 16).ok()) else {
            return Err(self.error("expected four hexadecimal digits"));
        };
        self.at += 4;
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Result<String, String> {
        parse(json.as_bytes()).map(|value| value.compact()).map_err(|error| error.to_string())
    }

    #[test]
    fn accepted() {
        for (json, expected) in [
            (" null ", "null"),
            ("[ ]", "[]"),
            ("{ }", "{}"),
            ("[1,\t-0,\n0.5,\r1e3,1E+3,-1.5e-10]", "[1, -0, 0.5, 1e3, 1E+3, -1.5e-10]"),
            ("18446744073709551615", "18446744073709551615"),
            (r#"{"a":{"b":[true,false]},"":0}"#, r#"{"a": {"b": [true, false]}, "": 0}"#),
            (r#""\"\\\/\b\f\n\r\t\u00e9""#, "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\té\""),
            (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
            (r#""\ud83d""#, "\"\u{fffd}\""),
            (r#""\ud83dx\ude00\ud83d\u0041""#, "\"\u{fffd}x\u{fffd}\u{fffd}A\""),
        ] {
            assert_eq!(text(json), Ok(expected.to_string()), "{json}");
        }
    }

    #[test]
    fn refused() {
        for (json, expected) in [
            ("", "the text ends where a value is expected at byte 0"),
            ("nul", "expected a value at byte 0"),
            ("1 2", "unexpected text after the value at byte 2"),
            ("01", "unexpected text after the value at byte 1"),
            ("+1", "expected a value at byte 0"),
            ("-", "expected a digit at byte 1"),
            ("1.", "expected a digit at byte 2"),
            (".5", "expected a value at byte 0"),
            ("1e", "expected a digit at byte 2"),
            ("[1,]", "expected a value at byte 3"),
            ("[1 2]", "expected `,` or `]` at byte 3"),
            ("[", "the text ends where a value is expected at byte 1"),
            ("{\"a\"}", "expected `:` at byte 4"),
            ("{a:1}", "expected a name in double quotes at byte 1"),
            ("{\"a\":1,}", "expected a name in double quotes at byte 7"),
            ("{\"a\":1", "expected `,` or `}` at byte 6"),
            ("\"a", "unclosed string at byte 1"),
            ("\"\n\"", "control character in a string at byte 1"),
            (r#""\x""#, "invalid escape at byte 2"),
            (r#""\u12""#, "expected four hexadecimal digits at byte 3"),
            (r#""\u+123""#, "expected four hexadecimal digits at byte 3"),
            ("'a'", "expected a value at byte 0"),
            ("NaN", "expected a value at byte 0"),
            ("\u{feff}1", "expected a value at byte 0"),
        ] {
            assert_eq!(text(json), Err(expected.to_string()), "{json}");
        }
        let not_utf8 = parse(b"\"\xff\"").unwrap_err();
        assert_eq!(not_utf8, Error { offset: 1, message: "invalid UTF-8" });
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        let error = parse(nested(1_000_000).as_bytes()).unwrap_err();
        assert_eq!(error.message, "nested too deeply");
    }

    /// Every text of up to five fragments: no panic, errors lie within the text, and what is
    /// accepted reads back the same after it was written.
    #[test]
    fn every_short_text() {
        const WORDS: &[&str] =
            &["{", "}", "[", "]", ",", ":", "\"", "a", "\\", "u00e9", "1", "-", ".", "e", " ", "é"];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts.iter().flat_map(|t| WORDS.iter().map(move |w| t.clone() + w)).collect();
            for text in &texts {
                match parse(text.as_bytes()) {
                    Ok(value) => assert_eq!(parse(value.pretty().as_bytes()), Ok(value), "{text}"),
                    Err(error) => assert!(error.offset <= text.len(), "{text}: {error}"),
                }
            }
        }
    }
}
