//! A source text, places in it, and problems found there, shown with the line and carets.
//!
//! Pure; knows nothing of TOML, VMs or terminals.

use crate::text::{did_you_mean, printable};

/// The number of characters that an excerpt of a long source line shows around the carets.
const EXCERPT_CHARS_MAX: usize = 100;

/// A range of bytes in a source text; `start` is included and `end` is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// An error at a place in a source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The hint of an error that this may have caused.
    pub(crate) fn doubt(&self) -> String {
        format!("perhaps because {}", self.message)
    }

    /// Adds "did you mean" to the message and drops the hint, when there is a near name.
    pub(crate) fn did_you_mean(mut self, near: Option<&str>) -> Self {
        if near.is_some() {
            self.message = did_you_mean(&self.message, near);
            self.hint = None;
        }
        self
    }
}

/// A text and the name that messages use for it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Line and column, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    const FIRST: Self = Self { line: 1, column: 1 };

    fn after(self, text: &str) -> Self {
        match text.rfind('\n') {
            Some(last) => Self {
                line: self.line + text.matches('\n').count(),
                column: text[last + 1..].chars().count() + 1,
            },
            None => Self { column: self.column + text.chars().count(), ..self },
        }
    }
}

impl Source {
    /// The text at a span.
    pub(crate) fn at(&self, span: Span) -> &str {
        &self.text[span.start..span.end]
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        Position::FIRST.after(&self.text[..offset])
    }

    /// The positions of ascending offsets. The text is read once.
    pub(crate) fn positions(
        &self,
        offsets: impl Iterator<Item = usize>,
    ) -> impl Iterator<Item = Position> {
        offsets.scan((0, Position::FIRST), |(at, position), offset| {
            *position = position.after(&self.text[*at..offset]);
            *at = offset;
            Some(*position)
        })
    }

    /// The place of `text` inside the span if it occurs there exactly once, and otherwise the span.
    pub(crate) fn within(&self, span: Span, text: &str) -> Span {
        let mut found = self.text[span.start..span.end].match_indices(text);
        match (found.next(), found.next()) {
            (Some((at, _)), None) if !text.is_empty() => {
                Span { start: span.start + at, end: span.start + at + text.len() }
            }
            _ => span,
        }
    }

    /// ` --> file:line:column`, the line, and carets under the span's part of that line.
    /// `position` is that of the span.
    pub(crate) fn excerpt(&self, span: Span, position: Position) -> String {
        let line_start = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let line_end =
            self.text[span.start..].find('\n').map_or(self.text.len(), |at| span.start + at);
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        let marked =
            self.text[span.start..span.end.clamp(span.start, line_end)].chars().count().max(1);

        let skipped = (position.column - 1).saturating_sub(EXCERPT_CHARS_MAX / 2);
        let shown: String =
            line.chars().skip(skipped).take(EXCERPT_CHARS_MAX).map(printable).collect();
        let (indent, marked) = (position.column - 1 - skipped, marked.min(EXCERPT_CHARS_MAX / 2));
        let (left, right) = (
            if skipped > 0 { "..." } else { "" },
            if line.chars().nth(skipped + EXCERPT_CHARS_MAX).is_some() { "..." } else { "" },
        );
        let number = position.line.to_string();
        let margin = " ".repeat(number.len());
        format!(
            "{margin}--> {}:{}:{}\n{margin} |\n{number} | {left}{shown}{right}\n{margin} | {}{}",
            self.name,
            position.line,
            position.column,
            " ".repeat(left.len() + indent),
            "^".repeat(marked),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(source: &Source, span: Span) -> String {
        source.excerpt(span, source.position(span.start))
    }

    #[test]
    fn positions_one_by_one_and_at_once() {
        let source = Source { name: "f".into(), text: "é\n\nb = ü\n".into() };
        let offsets: Vec<usize> = source.text.char_indices().map(|(at, _)| at).collect();
        let one_by_one = offsets.iter().map(|at| source.position(*at));
        let shown: Vec<_> = one_by_one.clone().map(|at| (at.line, at.column)).collect();
        assert_eq!(shown, [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (3, 6)]);
        assert!(source.positions(offsets.iter().copied()).eq(one_by_one));
    }

    #[test]
    fn excerpt_points_under_the_span() {
        let source = Source { name: "f.toml".into(), text: "a = 1\n\tport = \"x\"\r\n".into() };
        assert_eq!(
            excerpt(&source, Span { start: 7, end: 11 }),
            " --> f.toml:2:2\n  |\n2 |  port = \"x\"\n  |  ^^^^"
        );
        let end = Span { start: source.text.len(), end: source.text.len() };
        assert_eq!(excerpt(&source, end), " --> f.toml:3:1\n  |\n3 | \n  | ^");
    }

    #[test]
    fn excerpt_of_a_long_line_is_short() {
        let source = Source { name: "f".into(), text: "x".repeat(1_000_000) };
        let shown = excerpt(&source, Span { start: 500_000, end: 900_000 });
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], " --> f:1:500001");
        assert_eq!(lines[2], format!("1 | ...{}...", "x".repeat(100)));
        assert_eq!(lines[3], format!("  | {}{}", " ".repeat(53), "^".repeat(50)));
    }

    #[test]
    fn excerpt_shows_no_control_characters() {
        let source = Source { name: "f".into(), text: "a\u{1b}[31m".into() };
        assert!(excerpt(&source, Span { start: 0, end: 1 }).contains("a\u{fffd}[31m"));
    }
}
