//! A cursor that moves forward through the source, over what occurs everywhere in TOML: blanks,
//! line ends, comments. All other files here read the source through it.

use crate::source::{Problem, Span};

#[derive(Clone)]
pub(super) struct Cursor<'s> {
    pub(super) source: &'s str,
    /// A byte offset, always between two characters.
    pub(super) position: usize,
}

/// Whether TOML bans the byte from comments and strings. Line ends count as banned.
pub(super) fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

impl<'s> Cursor<'s> {
    /// A cursor at the first character, after a byte order mark if there is one.
    pub(super) fn new(source: &'s str) -> Cursor<'s> {
        let mut cursor = Cursor { source, position: 0 };
        cursor.eat("\u{feff}");
        cursor
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.position).copied()
    }

    pub(super) fn rest(&self) -> &'s str {
        &self.source[self.position..]
    }

    pub(super) fn at_end(&self) -> bool {
        self.position >= self.source.len()
    }

    /// Steps over `text` if it is next, and says whether it was.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.position += text.len();
        }
        is_next
    }

    /// Steps over the bytes that `wanted` accepts; it must take all non-ASCII bytes or none.
    pub(super) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> Span {
        let start = self.position;
        let bytes = &self.source.as_bytes()[start..];
        let taken = bytes.iter().position(|&byte| !wanted(byte));
        self.position += taken.unwrap_or(bytes.len());
        self.span_from(start)
    }

    pub(super) fn span_from(&self, start: usize) -> Span {
        Span { start, end: self.position }
    }

    /// The span of the next character; empty at the end of a line or of the source.
    pub(super) fn here(&self) -> Span {
        let length = match self.rest().chars().next() {
            None | Some('\r' | '\n') => 0,
            Some(character) => character.len_utf8(),
        };
        Span { start: self.position, end: self.position + length }
    }

    pub(super) fn skip_blanks(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    pub(super) fn at_newline(&self) -> bool {
        self.rest().starts_with('\n') || self.rest().starts_with("\r\n")
    }

    pub(super) fn eat_newline(&mut self) -> bool {
        self.eat("\n") || self.eat("\r\n")
    }

    /// Steps over blanks, line ends and comments.
    pub(super) fn skip_lines(&mut self) -> Result<(), Problem> {
        loop {
            self.skip_blanks();
            self.skip_comment()?;
            if !self.eat_newline() {
                return Ok(());
            }
        }
    }

    /// Steps to the start of the next line; only blanks and a comment may lie before it.
    pub(super) fn end_line(&mut self, after: &str) -> Result<(), Problem> {
        self.skip_blanks();
        self.skip_comment()?;
        if self.at_end() || self.eat_newline() {
            return Ok(());
        }
        Err(self.expected(&format!("the end of the line after {after}")))
    }

    fn skip_comment(&mut self) -> Result<(), Problem> {
        if self.peek() != Some(b'#') {
            return Ok(());
        }
        self.take_while(|byte| !is_control(byte));
        self.control_character().map_or(Ok(()), Err)
    }

    /// The problem that `what` is missing here, unless the next character is allowed nowhere.
    pub(super) fn expected(&self, what: &str) -> Problem {
        self.control_character()
            .unwrap_or_else(|| Problem::new(self.here(), format!("expected {what}")))
    }

    /// The problem with the next character if it is a control character and no line end.
    pub(super) fn control_character(&self) -> Option<Problem> {
        let byte = self.peek().filter(|&byte| is_control(byte))?;
        if self.at_newline() {
            return None;
        }
        let span = Span { start: self.position, end: self.position + 1 };
        if byte == b'\r' {
            let hint = "end lines with a newline, or a carriage return and a newline";
            let message = "a carriage return without a newline is not allowed";
            return Some(Problem::new(span, message).hint(hint));
        }
        let message = format!("control character U+{byte:04X} is not allowed");
        let hint = format!("in a string with double quotes, write it as `\\u{byte:04X}`");
        Some(Problem::new(span, message).hint(hint))
    }
}
