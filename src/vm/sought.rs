//! Texts on a serial line that decide a job: texts that mean success or failure, and a panic of
//! Linux. Pure.

/// How Linux begins the message of a panic (`kernel/panic.c`).
pub(crate) const PANIC: &str = "Kernel panic - not syncing";
/// Bytes that are kept in front of a possible match: room for the time of a kernel message, and for
/// its caller where `CONFIG_PRINTK_CALLER` is set.
const CONTEXT_BYTES: usize = 96;

/// The texts that are looked for in output that arrives in pieces.
pub(crate) struct Sought {
    texts: Vec<(Vec<u8>, Found)>,
    /// Whether a panic counts.
    pub(crate) panics: bool,
    /// The end of what has arrived: long enough for a match that is not complete, with its context.
    rest: Vec<u8>,
}

/// The text that came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Until,
    Failure(Vec<u8>),
    Panic,
}

impl Sought {
    /// Looks for `until` and `failures`, and for panics. An empty text in `failures` stands for
    /// none: it turns the search for panics off.
    pub(crate) fn new(until: Option<Vec<u8>>, mut failures: Vec<Vec<u8>>) -> Self {
        let panics = failures.iter().all(|text| !text.is_empty());
        failures.retain(|text| !text.is_empty());
        let failures = failures.into_iter().map(|text| (text.clone(), Found::Failure(text)));
        let panic = [(PANIC.into(), Found::Panic)];
        let texts = failures.chain(panic).chain(until.map(|text| (text, Found::Until))).collect();
        Self { texts, panics, rest: Vec::new() }
    }

    /// Adds a piece, and returns the text that is complete first. If two are complete at the same
    /// byte, a failure counts.
    pub(crate) fn found_in(&mut self, piece: &[u8]) -> Option<Found> {
        let known = self.rest.len();
        self.rest.extend_from_slice(piece);
        let all = &self.rest;
        // The end of the first match that is new.
        let end = |text: &[u8], is_panic: bool| {
            let mut starts = (known + 1).saturating_sub(text.len())..all.len();
            let counts = |at| !is_panic || self.panics && begins_message(&all[..at]);
            let start = starts.find(|at| all[*at..].starts_with(text) && counts(*at))?;
            Some(start + text.len())
        };
        let ends = self.texts.iter().filter_map(|(text, found)| {
            let end = end(text, *found == Found::Panic)?;
            Some((end, found.clone()))
        });
        // Of equal keys, the first is taken.
        let first = ends.min_by_key(|(end, _)| *end).map(|(_, found)| found);
        let longest = self.texts.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        self.rest.drain(..self.rest.len().saturating_sub(longest + CONTEXT_BYTES));
        first
    }
}

/// Whether a message of the kernel begins after this text: at the start of a line, or after the
/// time of the message, `[   1.234567] ` or `[   1.234567][   T1] `, even if a program has not
/// ended its line.
fn begins_message(before: &[u8]) -> bool {
    if before.last().is_none_or(|byte| b"\r\n".contains(byte)) {
        return true;
    }
    let Some((rest, last)) = before.strip_suffix(b" ").and_then(bracketed) else { return false };
    // A thread `T1` or a processor `C0`.
    let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let is_caller = matches!(last, [b'T' | b'C', number @ ..] if is_number(number));
    is_time(last) || is_caller && bracketed(rest).is_some_and(|(_, time)| is_time(time))
}

/// The content of the brackets at the end of a text, without leading blanks, and what is before.
fn bracketed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_suffix(b"]")?;
    let open = text.iter().rposition(|byte| *byte == b'[')?;
    Some((&text[..open], text[open + 1..].trim_ascii_start()))
}

/// Whether this is a time in seconds, `1.234567`.
fn is_time(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'.');
    let mut is_number =
        || parts.next().is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    is_number() && is_number() && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(until: &str, failures: &[&str], pieces: &[&str]) -> Option<Found> {
        let until = Some(until.as_bytes().to_vec()).filter(|text| !text.is_empty());
        let failures = failures.iter().map(|text| text.as_bytes().to_vec()).collect();
        let mut sought = Sought::new(until, failures);
        pieces.iter().find_map(|piece| sought.found_in(piece.as_bytes()))
    }

    #[test]
    fn the_first_text_counts_however_the_output_arrives() {
        let failure = |text: &str| Some(Found::Failure(text.as_bytes().to_vec()));
        for (until, failures, text, expected) in [
            ("ok", &[][..], "is ok", Some(Found::Until)),
            ("ok", &[], "is o k", None),
            ("ok", &["bad"], "bad ok", failure("bad")),
            ("ok", &["bad"], "ok bad", Some(Found::Until)),
            ("ok", &["not ok"], "not ok", failure("not ok")),
            ("", &["b", "a"], "a b", failure("a")),
            ("a\nb", &[], "a\nb", Some(Found::Until)),
            ("aab", &[], "aaab", Some(Found::Until)),
            ("login: ", &[], "loglogin: ", Some(Found::Until)),
            ("", &[], "ok", None),
        ] {
            assert_eq!(found(until, failures, &[text]), expected, "{text}");
            let bytes: Vec<String> = text.chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(found(until, failures, &bytes), expected, "{text}");
            let far = [&"x".repeat(70_000), text];
            assert_eq!(found(until, failures, &far), expected, "{text}");
        }
    }

    #[test]
    fn a_panic_is_a_message_of_the_kernel() {
        for (before, expected) in [
            ("", true),
            ("x\n", true),
            ("x\r\n", true),
            ("[    1.234567] ", true),
            ("login: [12345.678901] ", true),
            ("[    1.234567][    T1] ", true),
            ("[    0.000000][   C12] ", true),
            ("# echo ", false),
            (" ", false),
            ("[ok] ", false),
            ("[T1] ", false),
            ("[    1.234567]", false),
            ("[    1.234567]  ", false),
            ("[1.2.3] ", false),
            ("[1] ", false),
            ("guest: ", false),
        ] {
            let text = format!("{before}{PANIC}: no init");
            let expected = expected.then_some(Found::Panic);
            assert_eq!(found("", &[], &[&text]), expected, "{before:?}");
            assert_eq!(found("", &["x y"], &[before, &text[before.len()..]]), expected);
            assert_eq!(found("", &[""], &[&text]), None, "{before:?}");
            let bytes: Vec<String> = text.chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(found("", &[], &bytes), expected, "{before:?}");
        }
        // A mention does not hide the panic after it.
        let both = format!("# echo {PANIC}\n{PANIC}\n");
        assert_eq!(found("", &[], &[&both]), Some(Found::Panic));
    }
}
