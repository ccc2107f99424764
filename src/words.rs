//! Splits a string of a `cmd` into words as a POSIX shell does (XCU 2.2 Quoting): blanks, single
//! and double quotes, backslash; no expansion, no globbing, no comments.
//!
//! Placeholders are replaced in the same pass. Outside quotes the value is split like the rest;
//! inside quotes the whole value is taken literally.

use crate::source::{Problem, Span};
use crate::template::{Lookup, Template, placeholder_at};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// The span that an error about the word points at.
    pub(crate) span: Span,
    /// The places in the text of characters that a shell would not take literally: unquoted ones,
    /// `$` and `` ` `` in double quotes, and a blank that a backslash quotes at the end of a line.
    pub(crate) special: Vec<usize>,
}

impl Word {
    /// A word in which a shell sees nothing special.
    pub(crate) fn plain(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span, special: Vec::new() }
    }
}

/// The characters that have a meaning in a shell and none here, and what web pages show in place of
/// dashes, quotes and blanks.
const UNQUOTED: &str = "#|;&<>$`~*?‐–—−‘’“”„\u{a0}";
const IN_DOUBLE_QUOTES: &str = "$`";

pub(crate) fn split(template: &Template, lookup: Lookup) -> Result<Vec<Word>, Problem> {
    let mut splitter = Splitter::default();
    splitter.read(template, Some(lookup))?;
    splitter.end_word(template, template.text.len());
    Ok(splitter.words)
}

/// The words of a text without placeholders.
pub(crate) fn split_plain(text: &str) -> Result<Vec<String>, Problem> {
    let template = Template { text, place: &|span| span };
    let mut splitter = Splitter::default();
    splitter.read(&template, None)?;
    splitter.end_word(&template, text.len());
    Ok(splitter.words.into_iter().map(|word| word.text).collect())
}

#[derive(Default)]
struct Splitter {
    words: Vec<Word>,
    current: Option<Word>,
    /// Bytes that came from placeholders.
    inserted: usize,
}

impl Splitter {
    /// Reads a whole text; quotes that open in it must close in it. Without a lookup, as for a
    /// value, delimiters of placeholders are plain text.
    fn read(&mut self, template: &Template, mut lookup: Option<Lookup>) -> Result<(), Problem> {
        let mut quote: Option<(char, usize)> = None;
        let mut at = 0;
        while let Some(c) = template.text[at..].chars().next() {
            if let Some(lookup) = &mut lookup
                && let Some(placeholder) = placeholder_at(template, at)?
            {
                let value = lookup(&placeholder)?;
                self.inserted += value.len();
                placeholder.check_length(self.inserted)?;
                if quote.is_some() {
                    self.push(&value, template, at);
                } else {
                    self.read_value(&value, &placeholder.name, placeholder.span)?;
                }
                at += placeholder.len;
                continue;
            }
            let start = at;
            at += c.len_utf8();
            match (quote, c) {
                (None, ' ' | '\t' | '\n') => self.end_word(template, start),
                (None, '\'' | '"') => {
                    quote = Some((c, start));
                    self.push("", template, start);
                }
                (Some((open, _)), _) if open == c => quote = None,
                (None | Some(('"', _)), '\\') => {
                    let next = template.text[at..].chars().next();
                    if next.is_none() && quote.is_none() {
                        let span = (template.place)(Span { start, end: at });
                        return Err(Problem::new(span, "there is nothing after the backslash"));
                    }
                    let (stands_for, taken) = escaped(next, quote.is_some());
                    at += taken;
                    let rest = &template.text[at..];
                    let ends_line = rest.is_empty() || rest.starts_with('\n');
                    match stands_for {
                        Some(blank @ (' ' | '\t')) if ends_line => {
                            self.push_special(blank, template, start);
                        }
                        Some(c) => self.push(c.encode_utf8(&mut [0; 4]), template, start),
                        None => {}
                    }
                }
                (None, _) if UNQUOTED.contains(c) => self.push_special(c, template, start),
                (Some(('"', _)), _) if IN_DOUBLE_QUOTES.contains(c) => {
                    self.push_special(c, template, start);
                }
                _ => self.push(c.encode_utf8(&mut [0; 4]), template, start),
            }
        }
        match quote {
            None => Ok(()),
            Some((mark, start)) => {
                let span = (template.place)(Span { start, end: at });
                let name = if mark == '"' { "double" } else { "single" };
                Err(Problem::new(span, format!("unclosed {name} quote")))
            }
        }
    }

    fn read_value(&mut self, value: &str, name: &str, span: Span) -> Result<(), Problem> {
        self.read(&Template { text: value, place: &|_| span }, None).map_err(|problem| {
            Problem::new(span, format!("in the value of `{name}`: {}", problem.message))
                .hint("inside quotes a placeholder's value is taken literally")
        })
    }

    /// Adds to the current word; if there is none, starts one at byte `at` of the template.
    fn push(&mut self, text: &str, template: &Template, at: usize) {
        let word = self.current.get_or_insert_with(|| {
            let span = (template.place)(Span { start: at, end: at });
            Word { span, ..Word::default() }
        });
        word.text.push_str(text);
    }

    /// Adds a character that means something else to a shell.
    fn push_special(&mut self, c: char, template: &Template, at: usize) {
        self.push("", template, at);
        if let Some(word) = &mut self.current {
            word.special.push(word.text.len());
            word.text.push(c);
        }
    }

    /// Ends the word, if there is one, before byte `at` of the template.
    fn end_word(&mut self, template: &Template, at: usize) {
        if let Some(mut word) = self.current.take() {
            word.span.end = (template.place)(Span { start: at, end: at }).end;
            self.words.push(word);
        }
    }
}

/// Reads a backslash before `next`: gives the character that it stands for, and how many bytes of
/// `next` it uses up. Inside double quotes it only escapes characters that are special there.
fn escaped(next: Option<char>, in_double_quotes: bool) -> (Option<char>, usize) {
    match next {
        Some('\n') => (None, 1),
        Some(c) if !in_double_quotes || "$`\"\\".contains(c) => (Some(c), c.len_utf8()),
        _ => (Some('\\'), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, Problem> {
        let template = Template { text, place: &|span| span };
        let words = split(&template, &mut |placeholder| match placeholder.name.as_str() {
            "empty" => Ok("".into()),
            "path" => Ok("a b".into()),
            "many" => Ok(" -m 1 -append 'x y' \\' ".into()),
            "unclosed" => Ok("'a".into()),
            "braces" => Ok("{{.path}}".into()),
            _ => Err(Problem::new(placeholder.span, "missing")),
        });
        words.map(|words| words.into_iter().map(|word| word.text).collect())
    }

    #[test]
    fn split_as_a_shell_does() {
        for (text, expected) in [
            ("", vec![]),
            (" \t\n ", vec![]),
            ("a  b\tc\nd", vec!["a", "b", "c", "d"]),
            ("'a b'\"c d\"e", vec!["a bc de"]),
            ("'' \"\"", vec!["", ""]),
            (r"a\ b \'", vec!["a b", "'"]),
            (r"'a\b'", vec![r"a\b"]),
            (r#""a\b \" \\ \$ \`""#, vec![r#"a\b " \ $ `"#]),
            ("a\\\nb \"c\\\nd\"", vec!["ab", "cd"]),
            ("a # b", vec!["a", "#", "b"]),
            ("$HOME *", vec!["$HOME", "*"]),
            ("é\\é", vec!["éé"]),
        ] {
            assert_eq!(words(text).as_deref(), Ok(&expected.map_strings()[..]), "{text}");
        }
    }

    #[test]
    fn placeholders() {
        for (text, expected) in [
            ("{{.path}}", vec!["a", "b"]),
            ("'{{.path}}' \"<<.path>>\"", vec!["a b", "a b"]),
            ("file='{{.path}}',if=virtio", vec!["file=a b,if=virtio"]),
            ("x{{.path}}y", vec!["xa", "by"]),
            ("x{{.many}}y", vec!["x", "-m", "1", "-append", "x y", "'", "y"]),
            ("'{{.many}}'", vec![" -m 1 -append 'x y' \\' "]),
            ("'{{.unclosed}}'", vec!["'a"]),
            ("{{.empty}}", vec![]),
            ("'{{.empty}}'", vec![""]),
            ("{{.braces}} '{{.braces}}'", vec!["{{.path}}", "{{.path}}"]),
            (r"\{{.path}}", vec!["{{.path}}"]),
        ] {
            assert_eq!(words(text).as_deref(), Ok(&expected.map_strings()[..]), "{text}");
        }
    }

    #[test]
    fn refused() {
        for (text, message, start, end) in [
            ("a 'b c", "unclosed single quote", 2, 6),
            ("a \"b\\", "unclosed double quote", 2, 5),
            ("a \\", "there is nothing after the backslash", 2, 3),
            ("a {{.unclosed}}", "in the value of `unclosed`: unclosed single quote", 2, 15),
            ("a {{.no}}", "missing", 2, 9),
            ("'{{'", "`{{` is not closed by `}}`", 1, 4),
        ] {
            let problem = words(text).unwrap_err();
            assert_eq!((problem.message.as_str(), problem.span), (message, Span { start, end }));
        }
    }

    #[test]
    fn spans_of_words() {
        let text = "a 'b c' {{.path}}";
        let template = Template { text, place: &|span| span };
        let found = split(&template, &mut |_| Ok("x y".into())).unwrap();
        let spans: Vec<&str> = found.iter().map(|w| &text[w.span.start..w.span.end]).collect();
        assert_eq!(spans, ["a", "'b c'", "{{.path}}", "{{.path}}"]);
    }

    /// Quoting a word and splitting it again gives the word back, for every short word.
    #[test]
    fn every_short_text() {
        const PIECES: &[&str] =
            &["'", "\"", "\\", " ", "\n", "a", "{{.path}}", "<<.empty>>", "{{", "$", "é"];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts.iter().flat_map(|t| PIECES.iter().map(move |p| t.clone() + p)).collect();
            for text in &texts {
                if let Err(problem) = words(text) {
                    assert!(text.get(problem.span.start..problem.span.end).is_some(), "{text}");
                }
                if !text.contains("{{") && !text.contains("<<") {
                    let quoted = crate::text::shell_quoted(text.as_ref());
                    assert_eq!(words(&quoted), Ok(vec![text.clone()]));
                }
            }
        }
    }

    trait MapStrings {
        fn map_strings(&self) -> Vec<String>;
    }

    impl MapStrings for Vec<&str> {
        fn map_strings(&self) -> Vec<String> {
            self.iter().map(ToString::to_string).collect()
        }
    }
}
