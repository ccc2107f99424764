//! QEMU's human monitor (HMP): how an output shows that a command failed.

/// An output that means that the command failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure<'a> {
    /// The problem in QEMU's words.
    pub(crate) what: String,
    pub(crate) is_unknown: bool,
    /// The argument for `help`.
    pub(crate) help: Option<&'a str>,
}

impl<'a> Failure<'a> {
    /// Recognizes a failure by how `monitor/hmp.c` and `hmp_handle_error` of QEMU begin and end
    /// such a text. The failure of a command with its own wording cannot be recognized.
    pub(crate) fn of(output: &'a str) -> Option<Self> {
        let begins = |begin: &str| output.lines().any(|line| line.starts_with(begin));
        let (last, (before, after)) = (output.lines().last()?, ("Try \"help ", "\" for more "));
        let help = last.strip_prefix(before).and_then(|rest| Some(rest.split_once(after)?.0));
        let is_unknown = begins("unknown command: ");
        if !is_unknown && !begins("Error: ") && help.is_none() {
            return None;
        }
        let lines = output.lines().filter(|line| !line.starts_with(before));
        let lines = lines.map(|line| line.strip_prefix("Error: ").unwrap_or(line));
        Some(Self { what: lines.collect::<Vec<_>>().join("\n"), is_unknown, help })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of QEMU 7.2.
    #[test]
    fn failures_are_recognized_by_their_text() {
        let failure = |what: &str, is_unknown, help| {
            Some(Failure { what: what.to_string(), is_unknown, help })
        };
        for (output, expected) in [
            ("", None),
            ("VM status: running\n", None),
            ("No CPU available\n", None),
            ("unknown command: 'nope'\n", failure("unknown command: 'nope'", true, None)),
            ("Error: Device 'x' not found\n", failure("Device 'x' not found", false, None)),
            (
                "block: extraneous characters at the end of line\n\
                 Try \"help info block\" for more information\n",
                failure(
                    "block: extraneous characters at the end of line",
                    false,
                    Some("info block"),
                ),
            ),
            ("warning\nError: a\nb\n", failure("warning\na\nb", false, None)),
        ] {
            assert_eq!(Failure::of(output), expected, "{output}");
        }
    }
}
