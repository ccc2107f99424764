//! The output of ps(1), which shows processes where there is no `/proc`.
//!
//! The columns are those of POSIX with `uid`, `stat` and `lstart`, which every `ps` but BusyBox's
//! has. BusyBox's form cuts lines at 2,047 characters, and a process with a longer one is not
//! recognized.

use crate::command_line::CommandLine;
use crate::linux::Usage;
use std::time::Duration;

/// Options for every column of [`parse`]; the selection of processes follows.
pub(crate) const COLUMNS: &[&str] =
    &["-ww", "-o", "pid=", "-o", "uid=", "-o", "stat=", "-o", "lstart=", "-o", "args="];
/// The number of words in a process's `lstart`: `Sat Nov 28 05:30:19 2026`.
const START_WORDS: usize = 5;
/// Options for BusyBox's `ps`, which has no selection.
pub(crate) const BUSYBOX_COLUMNS: &[&str] = &["-o", "pid,stat,args"];

/// A process as `ps` shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) pid: u32,
    /// The effective user, where that is shown.
    pub(crate) user: Option<u32>,
    pub(crate) state: char,
    /// When it started, where that is shown.
    pub(crate) start: Option<String>,
    pub(crate) line: CommandLine,
}

/// Parses `PID UID STAT LSTART ARGS`, or `PID STAT ARGS` if not `full`. Gives `None` for the header
/// of a table.
pub(crate) fn parse(line: &[u8], full: bool) -> Option<Shown> {
    let mut rest = line;
    let mut field = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        let (field, after) = rest.split_at(end);
        rest = after;
        str::from_utf8(field).ok()
    };
    let pid = field()?.parse().ok()?;
    let user = if full { Some(field()?.parse().ok()?) } else { None };
    let state = field()?.chars().next()?;
    let words: Vec<&str> = (0..START_WORDS).filter_map(|_| full.then(&mut field)?).collect();
    let start = full.then(|| words.join(" "));
    Some(Shown { pid, user, state, start, line: CommandLine::of_ps(rest) })
}

/// Parses `[[DAYS-]HOURS:]MINUTES:SECONDS KIBIBYTES`; on some systems the seconds have a fraction.
pub(crate) fn parse_usage(line: &str) -> Option<Usage> {
    let (time, rss) = line.trim().split_once(' ')?;
    let (days, time) = time.split_once('-').unwrap_or(("0", time));
    let days: f64 = days.parse().ok()?;
    let clock =
        time.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))?;
    let cpu = Duration::try_from_secs_f64(days * 86_400.0 + clock).ok()?;
    Some(Usage { cpu, rss_bytes: rss.trim().parse::<u64>().ok()?.checked_mul(1024)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, full: bool) -> Option<(u32, Option<u32>, char, CommandLine)> {
        let Shown { pid, user, state, line, start } = parse(line.as_bytes(), full)?;
        assert_eq!(start.as_deref(), full.then_some("Sat Nov 8 05:30:19 2026"));
        Some((pid, user, state, line))
    }

    /// Lines as procps 4.0, FreeBSD 14, macOS 14 and BusyBox 1.35 write them; the second and third
    /// are from their manuals.
    #[test]
    fn lines_of_ps() {
        for (line, full, expected) in [
            ("  1234  1000 S    DATE q -x", true, Some((1234, Some(1000), 'S', " q -x "))),
            ("1234 1000 I+J  DATE q -x", true, Some((1234, Some(1000), 'I', " q -x "))),
            ("  812   501 Ss   DATE     q -x", true, Some((812, Some(501), 'S', " q -x "))),
            ("  812 S    q -x", false, Some((812, None, 'S', " q -x "))),
            (" 4194303 T<   [q]", false, Some((4_194_303, None, 'T', " [q] "))),
            ("PID   STAT COMMAND", false, None),
            ("", true, None),
            ("12", true, None),
        ] {
            let line = line.replace("DATE", "Sat Nov  8 05:30:19 2026");
            let expected = expected.map(|(p, u, s, line): (_, _, _, &str)| {
                (p, u, s, CommandLine::of_ps(line.as_bytes()))
            });
            assert_eq!(shown(&line, full), expected, "{line}");
        }
    }

    #[test]
    fn usage_in_every_form() {
        let used = |line| parse_usage(line).map(|usage| (usage.cpu.as_secs_f64(), usage.rss_bytes));
        assert_eq!(used("00:01:02   1024\n"), Some((62.0, 1 << 20)));
        assert_eq!(used("  1-02:00:00 1"), Some((93_600.0, 1024)));
        assert_eq!(used("0:01.25 2"), Some((1.25, 2048)));
        for line in ["", "00:00:01", "TIME RSS", "-1:00 5", "1 x"] {
            assert_eq!(used(line), None, "{line}");
        }
    }
}
