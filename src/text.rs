//! Text for people: near names, words quoted for a shell, amounts and dates, and what is safe to
//! show. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

/// The length limit for [`nearest`], whose cost is quadratic in the length of the name.
const NEAREST_CHARS_MAX: usize = 64;
/// The number of names that [`listed`] shows at most.
const LISTED_MAX: usize = 8;

/// The words as text; what is not UTF-8 in them is replaced.
pub(crate) fn texts(words: &[OsString]) -> Vec<String> {
    words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Replaces a character that a terminal would obey; the result takes one column.
pub(crate) fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Makes a name from outside safe for one line of a terminal.
pub(crate) fn on_a_line(name: &str) -> String {
    name.chars().map(printable).collect()
}

/// Makes text from outside safe for a terminal: colours and other sequences of a terminal (ECMA-48,
/// CSI) are left out, and control characters except newline and tab are replaced. A carriage return
/// counts as a line end or part of one, as serial lines and ssh write them.
pub(crate) fn sanitized(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_string();
    let text = pieces.fold(first, |text, piece| {
        let rest = piece.trim_start_matches(|c| (' '..='?').contains(&c));
        text + rest.strip_prefix(|c| ('@'..='~').contains(&c)).unwrap_or(rest)
    });
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r').replace('\r', "\n"));
    let lines = lines.collect::<Vec<_>>().join("\n");
    lines.chars().map(|c| if c == '\n' || c == '\t' { c } else { printable(c) }).collect()
}

/// The candidate nearest to `word` by edit distance, if it is near enough to be a likely typo.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.chars().count() > NEAREST_CHARS_MAX {
        return None;
    }
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        // Of two equally near names, prefer the one that starts with `word`.
        .min_by_key(|(distance, candidate)| (*distance, !candidate.starts_with(word)))
        .map(|(_, candidate)| candidate)
}

/// Adds the near name to the message, if there is one.
pub(crate) fn did_you_mean(message: &str, near: Option<&str>) -> String {
    let question = near.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    format!("{message}{question}")
}

/// The names in backquotes: "`a`, `b` and `c`" if the `joint` is "and". Of many, the first ones.
pub(crate) fn listed(names: &[impl AsRef<str>], joint: &str) -> String {
    let shown = names.iter().take(LISTED_MAX).map(|name| format!("`{}`", name.as_ref()));
    let shown: Vec<String> = shown.collect();
    match (names.len() - shown.len(), shown.as_slice()) {
        (0, [most @ .., last]) if !most.is_empty() => format!("{} {joint} {last}", most.join(", ")),
        (0, _) => shown.concat(),
        (more, _) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Edit distance without case, swaps of neighbours counted once (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.to_lowercase().chars().collect::<Vec<char>>());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Quotes `word` for a POSIX shell; leaves it unquoted where that is safe.
pub(crate) fn shell_quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Quotes each word for a program that reads them as a shell does, byte by byte, and so that no
/// shell takes one for an alias or a keyword. Backslashes stand outside the quotes, since old
/// versions of gdb obey those in them.
pub(crate) fn quoted<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> OsString {
    let quoted = |word: S| {
        let bytes = word.as_ref().as_bytes().iter().flat_map(|byte| match byte {
            b'\'' | b'\\' => vec![b'\'', b'\\', *byte, b'\''],
            byte => vec![*byte],
        });
        [vec![b'\''], bytes.collect(), vec![b'\'']].concat()
    };
    OsString::from_vec(words.into_iter().map(quoted).collect::<Vec<_>>().join(&b' '))
}

/// A command line that can be pasted into a shell.
pub(crate) fn command_line<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    words.into_iter().map(|word| shell_quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// The units of [`amount`].
const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];

/// A number of bytes for people, `4.1M`: rounded up, in the largest unit of 1024 that leaves a
/// whole number or one digit after the point.
pub(crate) fn amount(bytes: u64) -> String {
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths = tenths.div_ceil(1024);
        unit += 1;
    }
    let point =
        if tenths % 10 == 0 || unit == 0 { String::new() } else { format!(".{}", tenths % 10) };
    format!("{}{point}{}", tenths / 10, UNITS[unit])
}

/// Formats a size: `17 B`, `1.5 KiB`, `12.0 MiB`, with units of 1024, as QEMU's own options have
/// them.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, bits)| bytes >> bits > 0) {
        Some((unit, bits)) => {
            let tenths = ((bytes >> (bits - 10)) * 10) >> 10;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// Formats a duration: `2 d 3 h`, `3 h 4 min`, `4 min 5 s`, `5 s`. Two units are enough.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A moment for people, given in seconds since 1970: `2026-11-25 18:10:19`, in UTC.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is the last day of its year. Such a year
    // began 719,468 days before 1970. An era has 400 of these years, which is 146,097 days.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The 64-bit FNV-1a hash in hexadecimal. It names a path or a configuration and stays the same
/// from one version of this program to the next, which std's hasher does not promise.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    format!("{:016x}", hash(bytes))
}

/// Computes the 64-bit FNV-1a hash.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriage_returns_are_line_ends() {
        for (text, expected) in [
            ("Host key verification failed.\r\n", "Host key verification failed.\n"),
            ("a\r\r\nb\r", "a\nb"),
            ("10 %\r20 %", "10 %\n20 %"),
            ("\u{7}a", "\u{fffd}a"),
            ("\x1b[0;32m  OK  \x1b[0m\x1b[2J up\x1b[", "  OK   up"),
        ] {
            assert_eq!(sanitized(text), expected, "{text:?}");
        }
    }

    #[test]
    fn nearest_names() {
        assert_eq!(nearest("prot", ["port", "vm_port"]), Some("port"));
        assert_eq!(nearest("strat", ["start", "status"]), Some("start"));
        assert_eq!(nearest("query-statu", ["query-stats", "query-status"]), Some("query-status"));
        assert_eq!(nearest("x", ["port"]), None);
        assert_eq!(nearest("", ["a"]), Some("a"));
        assert_eq!(nearest(&"x".repeat(65), ["x"]), None);
        assert_eq!(
            (edit_distance("ab", ""), edit_distance("", "ab"), edit_distance("ab", "ba")),
            (2, 2, 1)
        );
    }

    #[test]
    fn quoting_for_a_shell() {
        let words = ["qemu", "", "a b", "it's", "-m", "file=x,id=0"];
        assert_eq!(command_line(words), r"qemu '' 'a b' 'it'\''s' -m file=x,id=0");
    }

    #[test]
    fn amounts_and_moments_for_people() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (200_704, "196K"),
            (1 << 30, "1G"),
            ((1 << 30) + 1, "1.1G"),
            (20 << 30, "20G"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(amount(bytes), expected);
        }
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_795_630_219, "2026-11-25 18:10:19"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    #[test]
    fn durations_have_two_units() {
        let shown = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(
            [5, 65, 3600 * 3 + 61, 86400 * 2 + 3600].map(shown),
            ["5 s", "1 min 5 s", "3 h 1 min", "2 d 1 h"]
        );
    }

    #[test]
    fn sizes_have_one_digit_after_the_point() {
        let gib = 1 << 30;
        assert_eq!(
            [0, 1023, 1024, 1536, (1 << 20) - 1, 3 << 20, gib * 5 / 2, gib << 10, u64::MAX]
                .map(size),
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "1023.9 KiB",
                "3.0 MiB",
                "2.5 GiB",
                "1024.0 GiB",
                "17179869183.9 GiB"
            ]
        );
    }

    #[test]
    fn fingerprint_is_fnv_1a() {
        assert_eq!(fingerprint(b""), "cbf29ce484222325");
        assert_eq!(fingerprint(b"a"), "af63dc4c8601ec8c");
    }
}
