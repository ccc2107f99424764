//! Colours for people at a terminal, unless they turned colours off.

use std::env;
use std::io::{self, IsTerminal as _};

/// A colour, by the number that ECMA-48's SGR gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// A stream of this process that people may read.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Colour {
    /// The text in this colour if the stream is a terminal that takes colours, else the text. It is
    /// without colours if `NO_COLOR` is not empty (no-color.org), or `TERM` is `dumb` or not set.
    pub(crate) fn paint(self, stream: Stream, text: &str) -> String {
        let is_terminal = match stream {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        };
        let term = env::var_os("TERM").unwrap_or_default();
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if !is_terminal || refused || term.is_empty() || term == "dumb" {
            return text.to_string();
        }
        format!("\x1b[{}m{text}\x1b[0m", self as u8)
    }
}
