//! The parts of a word that a shell would replace.

use crate::words::Word;

/// A part of a word that a shell would replace.
pub(super) struct Expansion {
    /// Its place in the text of the word.
    pub(super) start: usize,
    pub(super) kind: Expands,
}

/// The thing that an expansion stands for.
pub(super) enum Expands {
    Variable(String),
    /// The arguments of a script.
    Arguments,
    /// The output of a command; the character ends the command.
    Output(char),
    Home,
}

impl Expansion {
    /// The end of the expansion in a text that begins with it; `None` if the text has no end of it.
    pub(super) fn end(&self, text: &str) -> Option<usize> {
        let close = match self.kind {
            Expands::Output('`') => return Some(2 + text[1..].find('`')?),
            Expands::Output(close) => close,
            Expands::Variable(_) | Expands::Arguments if text.starts_with("${") => '}',
            Expands::Variable(ref name) => return Some(1 + name.len()),
            Expands::Arguments | Expands::Home => return Some(2),
        };
        let open = if close == '}' { '{' } else { '(' };
        let mut depth = 0;
        text.char_indices().find_map(|(at, c)| {
            depth += i32::from(c == open) - i32::from(c == close);
            (c == close && depth == 0).then_some(at + 1)
        })
    }
}

/// The expansions of a word, in order; those inside of others count as well.
pub(super) fn expansions(word: &Word) -> Vec<Expansion> {
    let mut expansions: Vec<Expansion> = Vec::new();
    for &start in &word.special {
        let inside = |one: &Expansion| {
            one.end(&word.text[one.start..]).is_none_or(|end| start < one.start + end)
        };
        if expansions.last().is_some_and(inside) {
            continue;
        }
        let kind = match &word.text.as_bytes()[start..] {
            [b'`', ..] => Some(Expands::Output('`')),
            [b'$', b'(', ..] => Some(Expands::Output(')')),
            [b'$', b'{', ..] => {
                Some(variable(word.text[start + 2..].trim_start_matches(['#', '!'])))
            }
            [b'$', next, ..] if next.is_ascii_alphabetic() || *next == b'_' => {
                Some(variable(&word.text[start + 1..]))
            }
            [b'$', next, ..] if next.is_ascii_digit() || b"@*".contains(next) => {
                Some(Expands::Arguments)
            }
            // A path may begin here.
            [b'~', b'/', ..] if start == 0 || word.text[..start].ends_with(['=', ':', ',']) => {
                Some(Expands::Home)
            }
            _ => None,
        };
        expansions.extend(kind.map(|kind| Expansion { start, kind }));
    }
    expansions
}

fn variable(text: &str) -> Expands {
    match name_at(text) {
        "" => Expands::Arguments,
        name => Expands::Variable(name.to_string()),
    }
}

/// The name of a variable at the start of a text.
pub(super) fn name_at(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}
