//! Filters untrusted output for a terminal: only text and colours pass.
//!
//! A terminal obeys what it receives: it answers questions as if the answer had been typed, sets
//! titles and clipboards, moves text on the screen, changes its character set (ECMA-48; xterm's
//! "Control Sequences"). A guest must not do that to a user who looks at its output. Pure.

/// The length limit of a sequence's parameters. No sequence that sets a colour is longer.
const PARAMETERS_MAX: usize = 64;
pub(crate) const ESCAPE: u8 = 0x1b;
/// CAN, which ends any sequence, as SUB does.
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;
const BELL: u8 = 0x07;
/// The replacement for bytes that are not UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
pub(crate) const RESET_COLOURS: &[u8] = b"\x1b[0m";

/// The state after the bytes so far, which decides how the next byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// Inside a character of several bytes.
    Character,
    Escape,
    /// Behind `ESC [`.
    Sequence,
    /// The text of a command of the terminal (OSC, DCS, SOS, PM, APC), which ends with `ESC \`.
    Command,
}

/// Filters output that arrives in pieces, which may end anywhere.
#[derive(Debug)]
pub(crate) struct Filter {
    state: State,
    /// The beginning of a sequence or character, held back until the rest comes.
    held: Vec<u8>,
    coloured: bool,
    /// Whether the last line that was shown has no end.
    is_open: bool,
}

impl Filter {
    pub(crate) fn new() -> Self {
        Self { state: State::Text, held: Vec::new(), coloured: false, is_open: false }
    }

    /// Gives the bytes that may be shown, including bytes that were held back before.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.byte(*byte, &mut out);
        }
        out
    }

    /// The bytes to write before a prompt or message: they reset colours and end an open line.
    pub(crate) fn end_line(&self) -> Vec<u8> {
        let line_end: &[u8] = if self.is_open { b"\n" } else { b"" };
        [self.end(), line_end].concat()
    }

    /// The bytes that reset the terminal's colours at the end, if any were set.
    pub(crate) fn end(&self) -> &'static [u8] {
        if self.coloured { RESET_COLOURS } else { b"" }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, out),
            State::Character => self.character(byte, out),
            State::Escape => self.escape(byte, out),
            State::Sequence => self.sequence(byte, out),
            State::Command => self.command(byte, out),
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            ESCAPE => self.state = State::Escape,
            b'\n' | b'\t' | b'\r' | 0x08 | b' '..=b'~' => {
                self.is_open = byte != b'\n';
                out.push(byte);
            }
            // The first byte of two, three or four (RFC 3629).
            0xc2..=0xf4 => {
                self.state = State::Character;
                self.held = vec![byte];
            }
            0x80..=0xff => out.extend_from_slice(REPLACEMENT),
            _ => {}
        }
    }

    fn character(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push(byte);
        match str::from_utf8(&self.held) {
            Ok(character) => {
                // U+0080 to U+009F are control characters, U+009B is `ESC [`.
                if !character.chars().any(char::is_control) {
                    out.extend_from_slice(&self.held);
                }
                self.state = State::Text;
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                out.extend_from_slice(REPLACEMENT);
                self.state = State::Text;
                // This byte belongs to the next character.
                self.text(byte, out);
            }
        }
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'[' => {
                self.state = State::Sequence;
                self.held.clear();
            }
            b']' | b'P' | b'X' | b'^' | b'_' => self.state = State::Command,
            // `ESC ( B` and the like have one or more bytes after this one.
            b' '..=b'/' => {}
            0x30..=0x7e => self.state = State::Text,
            _ => self.again(byte, out),
        }
    }

    fn sequence(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x20..=0x3f => {
                if self.held.len() <= PARAMETERS_MAX {
                    self.held.push(byte);
                }
            }
            0x40..=0x7e => {
                if byte == b'm' {
                    self.colour(out);
                }
                self.state = State::Text;
            }
            _ => self.again(byte, out),
        }
    }

    /// Passes on an SGR sequence. With a `>` or a `?` before its parameters it is another sequence.
    fn colour(&mut self, out: &mut Vec<u8>) {
        let is_parameter = |byte: &u8| byte.is_ascii_digit() || b";:".contains(byte);
        if self.held.len() <= PARAMETERS_MAX && self.held.iter().all(is_parameter) {
            self.coloured = !self.held.iter().all(|byte| *byte == b'0');
            out.extend_from_slice(b"\x1b[");
            out.extend_from_slice(&self.held);
            out.push(b'm');
        }
    }

    /// Drops a byte of a terminal command. A line end also ends the command, so one that is cut off
    /// or never ends hides no more than a line.
    fn command(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            BELL => self.state = State::Text,
            ESCAPE | CANCEL | SUBSTITUTE | b'\n' => self.again(byte, out),
            _ => {}
        }
    }

    /// Reads a byte that ends the sequence before it without being part of it.
    fn again(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = State::Text;
        self.text(byte, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bytes: &[u8]) -> String {
        let whole = Filter::new().pass(bytes);
        // The result is the same however the bytes are cut into pieces.
        let mut filter = Filter::new();
        let pieces: Vec<u8> = bytes.iter().flat_map(|byte| filter.pass(&[*byte])).collect();
        assert_eq!(whole, pieces);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn text_and_colours_pass() {
        for text in [
            "plain\r\n\ttext\x08 ~\n",
            "äöü € 🦀 \u{a0}",
            "\x1b[m\x1b[0m\x1b[1;31mred\x1b[0m",
            "\x1b[38;5;208m\x1b[38:2::1:2:3m",
        ] {
            assert_eq!(passed(text.as_bytes()), text);
        }
    }

    #[test]
    fn everything_else_that_a_terminal_obeys_is_dropped() {
        for (bytes, expected) in [
            // Other control characters: NUL, bell, shift out, form feed, DEL.
            (&b"a\0\x07\x0e\x0f\x0b\x0c\x7fb"[..], "ab"),
            // Cursor position query; device query; clear; scroll; alternate screen; modifiers.
            (b"a\x1b[6n\x1b[c\x1b[2J\x1b[1;5r\x1b[?1049h\x1b[>4;1mb", "ab"),
            // Sequences that end in `m` with private or odd parameters.
            (b"\x1b[?1m\x1b[1 m\x1b[<1m\x1b[1;$m.", "."),
            // Title, clipboard, hyperlink, with both ends.
            (b"a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c", "abc"),
            (b"a\x1bPq#0;2;0\x1b\\b\x1bXx\x1b\\c\x1b^x\x1b\\d\x1b_x\x1b\\e", "abcde"),
            // Reset, charset, index, keypad; a sequence that is cut by a line end.
            (b"a\x1bc\x1b(B\x1b#8\x1bD\x1b=b\x1b[12\nc\x1b\nd", "ab\nc\nd"),
            // A command that never ends hides one line only; a sequence inside another.
            (b"a\x1b]0;x\nb\x1bPx\x1b[31mc\x1b\x1b[6nd\x1b[1\x18e", "a\nb\x1b[31mcde"),
            // Control characters in Latin-1 and in UTF-8.
            (b"\x9b6n|\xc2\x9b6n|\xc2\x9d0;x", "\u{fffd}6n|6n|0;x"),
            // Invalid UTF-8: a lone byte, a cut character, an overlong one, a surrogate.
            (b"\xff\xe2\x82x\xe2\x1b[6n\xc0\xafy\xed\xa0\x80", "��x���y���"),
        ] {
            assert_eq!(passed(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn long_parameters_are_dropped() {
        let fits = format!("\x1b[{}m", "1;".repeat(PARAMETERS_MAX / 2));
        assert_eq!(passed(fits.as_bytes()), fits);
        let long = format!("\x1b[{}mx", "1;".repeat(1_000_000));
        let mut filter = Filter::new();
        assert_eq!(filter.pass(long.as_bytes()), b"x");
        assert!(filter.held.len() <= PARAMETERS_MAX + 1);
    }

    #[test]
    fn colours_are_taken_back_at_the_end() {
        for (text, expected) in [
            ("", ""),
            ("\x1b[31mred", "\x1b[0m"),
            ("\x1b[31mred\x1b[m", ""),
            ("\x1b[1m\x1b[0m", ""),
            ("one\nred", ""),
            ("one\n\x1b[31m", "\x1b[0m"),
        ] {
            let mut filter = Filter::new();
            filter.pass(text.as_bytes());
            assert_eq!(filter.end(), expected.as_bytes(), "{text:?}");
            let line_end = if text.contains("red") { "\n" } else { "" };
            assert_eq!(filter.end_line(), format!("{expected}{line_end}").as_bytes(), "{text:?}");
        }
    }
}
