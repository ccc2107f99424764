//! Splits argv into tokens: `--long`, `--long=value`, `-abc`, `-cvalue`, `--` and words.
//!
//! Arguments stay bytes; only names of flags must be text. The caller knows whether a flag takes a
//! value, and asks for it with [`Lexer::value`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `--long` or `-c`; invalid UTF-8 becomes U+FFFD, which no flag has.
    Flag(String),
    Word(OsString),
    /// The first `--`: everything after it is a word.
    End,
}

pub(super) struct Lexer {
    argv: std::vec::IntoIter<OsString>,
    /// The rest of `-abc` after a letter has been taken.
    pub(super) cluster: Option<OsString>,
    /// The `value` of `--long=value`, until it is taken.
    attached: Option<OsString>,
    only_words: bool,
}

impl Lexer {
    pub(super) fn new(argv: Vec<OsString>) -> Self {
        Self { argv: argv.into_iter(), cluster: None, attached: None, only_words: false }
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        if let Some(rest) = self.cluster.take() {
            return Some(self.short(&rest));
        }
        let argument = self.argv.next()?;
        let bytes = argument.as_bytes();
        if self.only_words || bytes.len() < 2 || bytes[0] != b'-' {
            return Some(Token::Word(argument));
        }
        if bytes == b"--" {
            self.only_words = true;
            return Some(Token::End);
        }
        match bytes.strip_prefix(b"--") {
            Some(long) => Some(self.long(long)),
            None => Some(self.short(OsStr::from_bytes(&bytes[1..]))),
        }
    }

    fn long(&mut self, text: &[u8]) -> Token {
        let equals = text.iter().position(|byte| *byte == b'=');
        let name = &text[..equals.unwrap_or(text.len())];
        self.attached = equals.map(|at| OsString::from_vec(text[at + 1..].to_vec()));
        Token::Flag(format!("--{}", String::from_utf8_lossy(name)))
    }

    fn short(&mut self, cluster: &OsStr) -> Token {
        let text = cluster.to_string_lossy();
        let letter = text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
        let rest = cluster.as_bytes().get(letter.len_utf8()..).unwrap_or_default();
        if letter != char::REPLACEMENT_CHARACTER && !rest.is_empty() {
            self.cluster = Some(OsString::from_vec(rest.to_vec()));
        }
        Token::Flag(format!("-{letter}"))
    }

    /// The value of the flag just returned: attached to it, or the next argument.
    pub(super) fn value(&mut self) -> Option<OsString> {
        self.attached.take().or_else(|| self.cluster.take()).or_else(|| self.argv.next())
    }

    /// The value of the flag just returned, if it is attached as `=value`. It is also returned for
    /// a flag that takes no value.
    pub(super) fn attached_value(&mut self) -> Option<OsString> {
        self.attached.take()
    }

    /// How many arguments have not been read.
    pub(super) fn left(&self) -> usize {
        self.argv.len()
    }

    /// The next argument, without taking it.
    pub(super) fn peek(&self) -> Option<&OsStr> {
        self.argv.as_slice().first().map(OsString::as_os_str)
    }

    /// Everything that has not been read, unchanged.
    pub(super) fn rest(&mut self) -> Vec<OsString> {
        self.argv.by_ref().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(words: &[&str]) -> Vec<Token> {
        let mut lexer = Lexer::new(words.iter().map(OsString::from).collect());
        std::iter::from_fn(|| lexer.next()).collect()
    }

    #[test]
    fn every_form() {
        let (word, flag) = (|it: &str| Token::Word(it.into()), |it: &str| Token::Flag(it.into()));
        assert_eq!(
            tokens(&["a", "-", "", "--long", "-xy", "--", "--z", "--"]),
            [
                word("a"),
                word("-"),
                word(""),
                flag("--long"),
                flag("-x"),
                flag("-y"),
                Token::End,
                word("--z"),
                word("--"),
            ]
        );
    }

    #[test]
    fn values() {
        let mut lexer =
            Lexer::new(["--a=b=c", "-xv", "-x", "--", "rest"].map(OsString::from).into());
        assert_eq!(lexer.next(), Some(Token::Flag("--a".into())));
        assert_eq!(lexer.value(), Some("b=c".into()));
        assert_eq!(lexer.next(), Some(Token::Flag("-x".into())));
        assert_eq!(lexer.value(), Some("v".into()));
        assert_eq!(lexer.next(), Some(Token::Flag("-x".into())));
        assert_eq!(lexer.value(), Some("--".into()));
        assert_eq!(lexer.rest(), ["rest"]);
    }

    #[test]
    fn bytes_that_are_no_text() {
        let mut lexer = Lexer::new(vec![
            OsString::from_vec(b"-\xff".to_vec()),
            OsString::from_vec(b"--\xff".to_vec()),
            OsString::from_vec(b"\xff".to_vec()),
        ]);
        assert_eq!(lexer.next(), Some(Token::Flag("-\u{fffd}".into())));
        assert_eq!(lexer.next(), Some(Token::Flag("--\u{fffd}".into())));
        assert_eq!(lexer.next(), Some(Token::Word(OsString::from_vec(b"\xff".to_vec()))));
        assert_eq!(lexer.next(), None);
    }
}
