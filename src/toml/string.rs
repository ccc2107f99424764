//! Reads the four kinds of strings piece by piece, so that the same code can read a string and
//! trace a place in its value back to the source.

use super::cursor::{Cursor, is_control};
use crate::source::{Problem, Span};

const ESCAPES: &str = "the escapes are \\b \\t \\n \\f \\r \\\" \\\\ \\uXXXX \\UXXXXXXXX; \
                       in single quotes a backslash is only a backslash";

/// Reads the string at the cursor, which must be at a quote.
pub(super) fn string(cursor: &mut Cursor) -> Result<(String, Span), Problem> {
    let mut decoder = Decoder::new(cursor.clone());
    let mut value = String::new();
    while let Some(piece) = decoder.next()? {
        match piece {
            Piece::Text(span) => value.push_str(&cursor.source[span.start..span.end]),
            Piece::Character(character, _) => value.push(character),
        }
    }
    let start = cursor.position;
    cursor.position = decoder.cursor.position;
    Ok((value, cursor.span_from(start)))
}

/// Maps ranges of bytes of the value of the string literal at `span` to their places in the source,
/// past escapes, trimmed line ends and line-ending backslashes. An escape is a place as a whole; an
/// index at or past the end of the value is the place of the closing quotes.
pub(super) fn places(source: &str, span: Span) -> impl Fn(Span) -> Span {
    let mut decoder = Decoder::new(Cursor { source, position: span.start });
    // For each piece, its index in the value and its offset in the source.
    let (mut pieces, mut index) = (Vec::new(), 0);
    while let Ok(Some(piece)) = decoder.next() {
        let (offset, length) = match piece {
            Piece::Text(text) => (text.start, text.end - text.start),
            Piece::Character(character, offset) => (offset, character.len_utf8()),
        };
        pieces.push((index, offset));
        index += length;
    }
    let end = span.end.saturating_sub(decoder.delimiter.len());
    pieces.push((index, end));
    let place = move |index: usize| {
        let next = pieces.partition_point(|(start, _)| *start <= index);
        let (start, offset) = pieces.get(next.wrapping_sub(1)).copied().unwrap_or((index, end));
        offset.saturating_add(index - start).min(end)
    };
    move |span| Span { start: place(span.start), end: place(span.end) }
}

/// A part of a string's value.
enum Piece {
    /// Text that stands in the source as it is.
    Text(Span),
    /// A character that is written differently in the source, from this offset on.
    Character(char, usize),
}

struct Decoder<'s> {
    cursor: Cursor<'s>,
    opening: Span,
    delimiter: &'static str,
}

impl<'s> Decoder<'s> {
    fn new(mut cursor: Cursor<'s>) -> Decoder<'s> {
        let delimiters = ["\"\"\"", "'''", "\"", "'"];
        let start = cursor.position;
        let delimiter = delimiters.into_iter().find(|text| cursor.eat(text));
        let opening = cursor.span_from(start);
        let delimiter = delimiter.unwrap_or("\"");
        if delimiter.len() == 3 {
            cursor.eat_newline();
        }
        Decoder { cursor, opening, delimiter }
    }

    fn is_multi_line(&self) -> bool {
        self.delimiter.len() == 3
    }

    /// The next piece; `None` once the closing quotes are passed.
    fn next(&mut self) -> Result<Option<Piece>, Problem> {
        let quote = self.delimiter.as_bytes()[0];
        let has_escapes = quote == b'"';
        loop {
            let start = self.cursor.position;
            let text = self.cursor.take_while(|byte| {
                byte != quote && !is_control(byte) && !(has_escapes && byte == b'\\')
            });
            if text.start < text.end {
                return Ok(Some(Piece::Text(text)));
            }
            if self.cursor.peek() == Some(quote) {
                return self.quotes(quote);
            }
            if self.cursor.peek() == Some(b'\\') {
                match self.escape()? {
                    Some(character) => return Ok(Some(Piece::Character(character, start))),
                    None => continue,
                }
            }
            if let Some(problem) = self.cursor.control_character() {
                return Err(problem);
            }
            if !self.is_multi_line() || !self.cursor.eat_newline() {
                return Err(self.unclosed());
            }
            return Ok(Some(Piece::Character('\n', start)));
        }
    }

    /// Reads the quotes at the cursor: they are text, or the closing quotes, before which up to two
    /// may be text.
    fn quotes(&mut self, quote: u8) -> Result<Option<Piece>, Problem> {
        if !self.is_multi_line() {
            self.cursor.position += 1;
            return Ok(None);
        }
        let run = self.cursor.take_while(|byte| byte == quote);
        match run.end - run.start {
            1 | 2 => Ok(Some(Piece::Text(run))),
            3 => Ok(None),
            4 | 5 => {
                self.cursor.position = run.end - 3;
                Ok(Some(Piece::Text(self.cursor.span_from(run.start))))
            }
            _ => {
                let hint = "at most two quotes may stand before the closing three";
                Err(Problem::new(run, "too many quotes at the end of a string").hint(hint))
            }
        }
    }

    /// Reads the escape at the cursor and gives its character; `None` for a line-ending backslash.
    fn escape(&mut self) -> Result<Option<char>, Problem> {
        let start = self.cursor.position;
        self.cursor.position += 1;
        let character = match self.cursor.rest().chars().next() {
            Some('b') => '\u{8}',
            Some('t') => '\t',
            Some('n') => '\n',
            Some('f') => '\u{c}',
            Some('r') => '\r',
            Some('"') => '"',
            Some('\\') => '\\',
            Some('u') => return self.unicode(start, 4).map(Some),
            Some('U') => return self.unicode(start, 8).map(Some),
            _ if self.is_multi_line() && self.skip_line_end() => return Ok(None),
            _ => return Err(self.bad_escape(start)),
        };
        self.cursor.position += 1;
        Ok(Some(character))
    }

    /// Steps over a line end, the blanks before it, and all blanks and line ends after it.
    fn skip_line_end(&mut self) -> bool {
        let mut ahead = self.cursor.clone();
        ahead.skip_blanks();
        if !ahead.eat_newline() {
            return false;
        }
        ahead.skip_blanks();
        while ahead.eat_newline() {
            ahead.skip_blanks();
        }
        self.cursor = ahead;
        true
    }

    fn unicode(&mut self, start: usize, length: usize) -> Result<char, Problem> {
        self.cursor.position += 1;
        let digits = self.cursor.rest().bytes().take(length);
        let count = digits.take_while(u8::is_ascii_hexdigit).count();
        let digits = &self.cursor.rest()[..count];
        self.cursor.position += count;
        let written = &self.cursor.source[start..self.cursor.position];
        let span = self.cursor.span_from(start);
        if count < length {
            let hint = format!("`{}` takes {length} hexadecimal digits", &written[..2]);
            let message = format!("invalid escape `{written}`");
            return Err(Problem::new(span, message).hint(hint));
        }
        let code = u32::from_str_radix(digits, 16).ok();
        code.and_then(char::from_u32).ok_or_else(|| {
            let message = format!("`{written}` is not a Unicode scalar value");
            let hint = "code points end at U+10FFFF, and U+D800 to U+DFFF are none";
            Problem::new(span, message).hint(hint)
        })
    }

    /// The problem with the backslash at `start`. The cursor is right after it.
    fn bad_escape(&self, start: usize) -> Problem {
        if let Some(problem) = self.cursor.control_character() {
            return problem;
        }
        if self.cursor.at_end() || self.cursor.at_newline() {
            return self.unclosed();
        }
        let span = Span { start, end: self.cursor.here().end };
        let written = &self.cursor.source[span.start..span.end];
        Problem::new(span, format!("invalid escape `{written}`")).hint(ESCAPES)
    }

    /// The problem of an unclosed string. It points at the string up to the end of the line, or at
    /// the opening quotes if the string may span lines.
    fn unclosed(&self) -> Problem {
        let end = if self.is_multi_line() { self.opening.end } else { self.cursor.position };
        let start = self.opening.start;
        let hint = "`\"\"\"` or `'''` stands on both sides of a string of several lines";
        Problem::new(Span { start, end }, "unclosed string").hint(hint)
    }
}
