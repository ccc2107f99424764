//! Compares a program's output with what a test expects, exactly but for these patterns:
//!
//! - `[..]` is anything within a line, `...` alone on a line is any lines, or none;
//! - `[PID]` and `[PORT]` are digits, `[SECONDS]` is a number such as `3` or `0.25`;
//! - `[ROOT]` is the directory of the test's project.
//!
//! A final newline counts: `"a\n"` does not match `"a"`.

use std::fmt::Write;
use std::path::Path;

/// Ok when `actual` is as expected, else a list of lines that shows where it is not.
pub(crate) fn compare(expected: &str, actual: &str, root: &Path) -> Result<(), String> {
    let expected = expected.replace("[ROOT]", &root.to_string_lossy());
    let expected: Vec<&str> = expected.split('\n').collect();
    let actual: Vec<&str> = actual.split('\n').collect();
    if lines_match(&expected, &actual) { Ok(()) } else { Err(difference(&expected, &actual)) }
}

fn lines_match(mut expected: &[&str], mut actual: &[&str]) -> bool {
    while let [pattern, rest @ ..] = expected {
        expected = rest;
        if *pattern == "..." {
            return (0..=actual.len()).any(|skipped| lines_match(expected, &actual[skipped..]));
        }
        match actual {
            [line, rest @ ..] if line_matches(pattern, line) => actual = rest,
            _ => return false,
        }
    }
    actual.is_empty()
}

fn line_matches(mut pattern: &str, mut line: &str) -> bool {
    loop {
        let after = |name| pattern.strip_prefix(name);
        let (rest, matched) = if let Some(rest) = after("[..]") {
            let mut ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            return ends.any(|at| line_matches(rest, &line[at..]));
        } else if let Some(rest) = after("[PID]").or_else(|| after("[PORT]")) {
            (rest, after_digits(line))
        } else if let Some(rest) = after("[SECONDS]") {
            (rest, after_number(line))
        } else if let Some(expected) = pattern.chars().next() {
            (&pattern[expected.len_utf8()..], line.strip_prefix(expected))
        } else {
            return line.is_empty();
        };
        match matched {
            Some(matched) => (pattern, line) = (rest, matched),
            None => return false,
        }
    }
}

/// The text after the digits, and perhaps the fraction, that `text` must begin with.
fn after_number(text: &str) -> Option<&str> {
    let rest = after_digits(text)?;
    Some(rest.strip_prefix('.').and_then(after_digits).unwrap_or(rest))
}

/// The text after the digits that `text` must begin with.
fn after_digits(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

/// The lines in which the texts differ: `-` is expected, `+` is actual.
fn difference(expected: &[&str], actual: &[&str]) -> String {
    let same = |(pattern, line): &(&&str, &&str)| *pattern != &"..." && line_matches(pattern, line);
    let head = expected.iter().zip(actual).take_while(same).count();
    let rest = (&expected[head..], &actual[head..]);
    let tail = rest.0.iter().rev().zip(rest.1.iter().rev()).take_while(same).count();
    let mut text = String::new();
    let mut list = |mark: char, lines: &[&str]| {
        for line in lines {
            // Such a difference is often an invisible character.
            let _ = writeln!(text, "  {mark} {}", visible(line));
        }
    };
    list(' ', &actual[..head]);
    list('-', &expected[head..expected.len() - tail]);
    list('+', &actual[head..actual.len() - tail]);
    list(' ', &actual[actual.len() - tail..]);
    text
}

/// The line with control characters escaped and blanks at its end as `\x20`.
fn visible(line: &str) -> String {
    let body = line.trim_end_matches(' ');
    let mut text = String::new();
    for c in body.chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text + &"\\x20".repeat(line.len() - body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expected: &str, actual: &str) -> bool {
        compare(expected, actual, Path::new("/tmp/qq-1")).is_ok()
    }

    #[test]
    fn plain_text_is_compared_exactly() {
        assert!(matches("", ""));
        assert!(matches("a\nb\n", "a\nb\n"));
        for other in ["", "a\nb", "a\nb\n\n", "a\n b\n", "a\nb \n", "b\na\n", "A\nb\n"] {
            assert!(!matches("a\nb\n", other), "{other:?}");
            assert!(!matches(other, "a\nb\n"), "{other:?}");
        }
    }

    #[test]
    fn patterns_match_within_a_line() {
        assert!(matches("[..]\n", "\n"));
        assert!(matches("x [..] y\n", "x é y y\n"));
        assert!(matches("[..]b[..]", "abc"));
        assert!(matches("pid [PID], port [PORT]", "pid 4711, port 2089"));
        assert!(matches("[SECONDS] s, [SECONDS] s.", "3 s, 0.25 s."));
        assert!(matches("[SECONDS].", "3."));
        assert!(matches("[ROOT]/.qqmgr", "/tmp/qq-1/.qqmgr"));
        assert!(matches("[OTHER] [[..]]", "[OTHER] [x]"));
        for (pattern, line) in [
            ("[..]", "a\nb"),
            ("a[..]c", "abd"),
            ("[PID]", ""),
            ("[PID]", "-1"),
            ("[PORT]", "22x"),
            ("[SECONDS]", ".5"),
            ("[SECONDS]", "1.2.3"),
            ("[ROOT]", "/tmp/qq-11"),
        ] {
            assert!(!matches(pattern, line), "{pattern} {line}");
        }
    }

    #[test]
    fn three_dots_match_whole_lines() {
        assert!(matches("...", "any\nthing"));
        assert!(matches("...\n", "\n"));
        assert!(matches("a\n...\nz\n", "a\nz\n"));
        assert!(matches("a\n...\nz\n", "a\nb\nz\nz\n"));
        assert!(matches("...\nm\n...\n", "a\nm\nz\n"));
        assert!(!matches("a\n...\nz\n", "a\nb\n"));
        assert!(!matches("...\n", "no newline"));
        assert!(!matches("a...\n", "abc\n"));
    }

    #[test]
    fn a_difference_shows_both_sides_between_the_common_lines() {
        let shown = compare("a\n[PID]\nb\nz\n", "a\n1\nc\td \nz\n", Path::new("/")).unwrap_err();
        assert_eq!(shown, "    a\n    1\n  - b\n  + c\\td\\x20\n    z\n    \n");
    }
}
