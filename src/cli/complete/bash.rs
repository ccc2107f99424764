//! A line of bash as readline sees it: its words without their quotes, and which part of the
//! current one a completion replaces. Nothing of the line is expanded.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// A command line up to the cursor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// The words before the current one.
    pub(crate) before: Vec<OsString>,
    /// The word at the cursor as far as it is typed.
    pub(crate) current: Vec<u8>,
    /// How much of the current word readline leaves as it is.
    pub(crate) kept: usize,
    /// The quote that is open at the cursor.
    quote: Option<u8>,
}

impl Line {
    /// `breaks` is `COMP_WORDBREAKS`: where a word has one of these unquoted, readline replaces
    /// only what follows it. Where a quote is open, it replaces what follows the quote.
    pub(crate) fn read(line: &[u8], breaks: &[u8]) -> Self {
        let mut read = Self::default();
        // The part that is kept once the quote is closed.
        let (mut in_word, mut kept_outside) = (false, 0);
        let mut bytes = line.iter().copied();
        while let Some(byte) = bytes.next() {
            match (read.quote, byte) {
                (None, b' ' | b'\t' | b'\n') => {
                    if in_word {
                        read.before.push(OsString::from_vec(std::mem::take(&mut read.current)));
                    }
                    (in_word, read.kept) = (false, 0);
                    continue;
                }
                (None, b'\'' | b'"') => {
                    read.quote = Some(byte);
                    (kept_outside, read.kept) = (read.kept, read.current.len());
                }
                (Some(open), _) if open == byte => {
                    (read.quote, read.kept) = (None, kept_outside);
                }
                (None | Some(b'"'), b'\\') => read.escaped(bytes.next()),
                (None, _) if breaks.contains(&byte) => {
                    read.current.push(byte);
                    read.kept = read.current.len();
                }
                _ => read.current.push(byte),
            }
            in_word = true;
        }
        read
    }

    /// Takes the byte after a backslash. A backslash at the end of the line adds nothing.
    fn escaped(&mut self, next: Option<u8>) {
        let Some(next) = next.filter(|next| *next != b'\n') else { return };
        if self.quote.is_some() && !b"$`\"\\".contains(&next) {
            self.current.push(b'\\');
        }
        self.current.push(next);
    }

    /// Returns what readline has to insert for that word, if the word begins with what is typed.
    pub(crate) fn insert(&self, word: &[u8]) -> Option<Vec<u8>> {
        word.starts_with(&self.current).then(|| quoted(&word[self.kept..], self.quote))
    }
}

/// Quotes the text so that bash reads it unchanged inside that open quote. Between double quotes,
/// bash would look up an `!` in the history even after a backslash.
fn quoted(text: &[u8], quote: Option<u8>) -> Vec<u8> {
    let mut quoted = Vec::new();
    for byte in text {
        let escape: &[u8] = match (quote, byte) {
            (Some(b'\''), b'\'') => br"'\'",
            (Some(b'"'), b'!') => {
                quoted.extend_from_slice(br#""'!'""#);
                continue;
            }
            (Some(b'"'), b'$' | b'`' | b'"' | b'\\') => br"\",
            (None, _) if byte.is_ascii() && !is_plain(*byte) => br"\",
            _ => b"",
        };
        quoted.extend_from_slice(escape);
        quoted.push(*byte);
    }
    quoted
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKS: &[u8] = b" \t\n\"'@><=;|&(:";

    /// Shows a line as `BEFORE...|KEPT|REST`, and what is inserted for a word.
    fn read(line: &str, word: &str) -> (String, String) {
        let line = Line::read(line.as_bytes(), BREAKS);
        let (kept, rest) = line.current.split_at(line.kept);
        let before: Vec<String> = line.before.iter().map(|w| w.display().to_string()).collect();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let inserted = line.insert(word.as_bytes()).map_or("-".into(), |bytes| text(&bytes));
        (format!("{}|{}|{}", before.join("/"), text(kept), text(rest)), inserted)
    }

    #[test]
    fn words_are_taken_apart_as_readline_does() {
        for (line, word, read_as, inserted) in [
            ("q stop ", "a b", "q/stop||", r"a\ b"),
            ("q stop a", "a;b", "q/stop||a", r"a\;b"),
            (r"q stop a\ ", "a b", "q/stop||a ", r"a\ b"),
            (r"q stop a\", "a*b", "q/stop||a", r"a\*b"),
            ("q 'my dir'/x", "my dir/xy", "q||my dir/x", r"my\ dir/xy"),
            ("q --for=s", "--for=ssh", "q|--for=|s", "ssh"),
            (r#"q --for="s"#, "--for=ssh", "q|--for=|s", "ssh"),
            ("q a:", "a:$(b)", "q|a:|", r"\$\(b\)"),
            (r"q a\:", "a:b", "q||a:", "a:b"),
            (r#"q "a"#, "a\"$`\\!'b", "q||a", r#"a\"\$\`\\"'!'"'b"#),
            ("q 'a", "a'b\\", "q||a", r"a'\''b\"),
            ("q x'a", "xa b", "q|x|a", "a b"),
            (r#""q" "" 'a' "#, "é~", "q//a||", r"é\~"),
            ("q b", "a", "q||b", "-"),
        ] {
            assert_eq!(read(line, word), (read_as.into(), inserted.into()), "{line}");
        }
    }

    /// A backslash that is itself the last byte of what readline replaces stays one word.
    #[test]
    fn nothing_is_expanded() {
        let (read_as, _) = read("q $(touch x) `y` $HOME ~/z ", "");
        assert_eq!(read_as, "q/$(touch/x)/`y`/$HOME/~/z||");
    }
}
