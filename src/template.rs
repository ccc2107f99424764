//! Replaces placeholders: `{{.a.b}}`, or `<<.a.b>>` with the same meaning. Blanks are allowed
//! inside.
//!
//! Pure: finds placeholders and replaces them by the values that a lookup gives. Inserted values
//! are not searched for placeholders.

use crate::source::{Problem, Span};
use std::rc::Rc;

/// The size limit of a rendered text. Two dozen lines can double a value two dozen times.
const RENDERED_BYTES_MAX: usize = 1024 * 1024;

/// A text with placeholders, and where it comes from.
pub(crate) struct Template<'a> {
    pub(crate) text: &'a str,
    /// Maps a range of bytes of `text` to the span that an error points at.
    pub(crate) place: &'a dyn Fn(Span) -> Span,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placeholder {
    /// The dotted name without the first dot.
    pub(crate) name: String,
    /// The span that an error about the placeholder points at.
    pub(crate) span: Span,
    /// Its length in bytes of the template, delimiters included.
    pub(crate) len: usize,
}

impl Placeholder {
    /// Refuses a text that has become too long by the placeholder's value.
    pub(crate) fn check_length(&self, bytes: usize) -> Result<(), Problem> {
        if bytes <= RENDERED_BYTES_MAX {
            return Ok(());
        }
        let message = format!("this gets longer than {} MiB", RENDERED_BYTES_MAX >> 20);
        Err(Problem::new(self.span, message))
    }
}

/// Gives the value of a placeholder, or says why there is none.
pub(crate) type Lookup<'a> = &'a mut dyn FnMut(&Placeholder) -> Result<Rc<str>, Problem>;

/// The text with every placeholder replaced.
pub(crate) fn render(template: &Template, lookup: Lookup) -> Result<String, Problem> {
    render_where(template, lookup, |_| true)
}

/// Renders a text in which the delimiters may mean something else, as in a here-document: an
/// opening delimiter that no dot follows stays as it is.
pub(crate) fn render_dotted(template: &Template, lookup: Lookup) -> Result<String, Problem> {
    render_where(template, lookup, |inside| inside.trim_start_matches([' ', '\t']).starts_with('.'))
}

/// Renders the placeholders for which `is_ours` accepts the text after the opening delimiter.
fn render_where(
    template: &Template,
    lookup: Lookup,
    is_ours: fn(&str) -> bool,
) -> Result<String, Problem> {
    let mut out = String::new();
    let mut at = 0;
    while let Some(found) = template.text[at..].find(['{', '<']) {
        out.push_str(&template.text[at..at + found]);
        at += found;
        let inside = template.text.get(at + 2..).unwrap_or_default();
        let placeholder = if is_ours(inside) { placeholder_at(template, at)? } else { None };
        if let Some(placeholder) = placeholder {
            out.push_str(&lookup(&placeholder)?);
            placeholder.check_length(out.len())?;
            at += placeholder.len;
        } else {
            out.push_str(&template.text[at..=at]);
            at += 1;
        }
    }
    out.push_str(&template.text[at..]);
    Ok(out)
}

/// The placeholder that starts at byte `at`, if there is one. An opening delimiter must be followed
/// by a name and the closing delimiter; otherwise it is an error, never plain text.
pub(crate) fn placeholder_at(
    template: &Template,
    at: usize,
) -> Result<Option<Placeholder>, Problem> {
    let rest = &template.text[at..];
    let close = match rest.as_bytes() {
        [b'{', b'{', ..] => "}}",
        [b'<', b'<', ..] => ">>",
        _ => return Ok(None),
    };
    let open = &rest[..2];
    let inside = &rest[2..];
    let Some(length) = inside.find(close) else {
        let line = rest.find('\n').unwrap_or(rest.len());
        let span = (template.place)(Span { start: at, end: at + line });
        return Err(Problem::new(span, format!("`{open}` is not closed by `{close}`")));
    };
    let len = length + 4;
    let span = (template.place)(Span { start: at, end: at + len });
    match name(inside[..length].trim_matches([' ', '\t'])) {
        Ok(name) => Ok(Some(Placeholder { name: name.to_string(), span, len })),
        Err(hint) => {
            let shown = rest[..len].escape_debug();
            let hint = format!("{hint}, like `{open}.name{close}` or `{open}.vm.name{close}`");
            Err(Problem::new(span, format!("`{shown}` is not a placeholder")).hint(hint))
        }
    }
}

/// Turns `.a.b` into `a.b`, where each part is a bare key of TOML; otherwise says what is wrong.
fn name(text: &str) -> Result<&str, &'static str> {
    let name = text.strip_prefix('.').ok_or("a name starts with a dot")?;
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.split('.').all(|part| !part.is_empty() && part.chars().all(bare)) {
        Ok(name)
    } else {
        Err("a name has letters, digits, `_` and `-` between dots")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, Problem> {
        let template = Template { text, place: &|span| span };
        render(&template, &mut |placeholder| match placeholder.name.as_str() {
            "missing" => Err(Problem::new(placeholder.span, "missing")),
            name => Ok(format!("[{name}{{{{.x}}}}]").into()),
        })
    }

    #[test]
    fn replaced() {
        for (text, expected) in [
            ("", ""),
            ("{<}>", "{<}>"),
            ("{{.a}}", "[a{{.x}}]"),
            ("<<.a.b-c>>", "[a.b-c{{.x}}]"),
            ("x{{ .a\t}}y<< .b >>z", "x[a{{.x}}]y[b{{.x}}]z"),
            ("{ {{.a}} }}", "{ [a{{.x}}] }}"),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refused() {
        for (text, message, start, end) in [
            ("a{{.b", "`{{` is not closed by `}}`", 1, 5),
            ("<<.b}}\nc", "`<<` is not closed by `>>`", 0, 6),
            ("{{b}}", "`{{b}}` is not a placeholder", 0, 5),
            ("{{.}}", "`{{.}}` is not a placeholder", 0, 5),
            ("{{.a..b}}", "`{{.a..b}}` is not a placeholder", 0, 9),
            ("{{.a b}}", "`{{.a b}}` is not a placeholder", 0, 8),
            ("{{{.a}}}", "`{{{.a}}` is not a placeholder", 0, 7),
            ("{{.a\n}}", "`{{.a\\n}}` is not a placeholder", 0, 7),
            ("ä{{.missing}}", "missing", 2, 14),
        ] {
            let problem = rendered(text).unwrap_err();
            assert_eq!(problem.message, message, "{text}");
            assert_eq!(problem.span, Span { start, end }, "{text}");
        }
    }

    #[test]
    fn every_short_text() {
        const WORDS: &[&str] =
            &["{", "}", "{{", "}}", "<<", ">>", "<", ".", "a", "missing", " ", "\n", "é", "-"];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts.iter().flat_map(|t| WORDS.iter().map(move |w| t.clone() + w)).collect();
            for text in &texts {
                match rendered(text) {
                    Ok(out) => assert!(out == *text || out.contains("{{.x}}]"), "{text}"),
                    Err(problem) => {
                        assert!(text.get(problem.span.start..problem.span.end).is_some());
                    }
                }
            }
        }
    }
}
