//! The description of a command: one row of a table, which parsing, help and the man page's test
//! use.

use crate::error::{Error, Kind};
use crate::log::Log;
use crate::report::Report;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags that cannot be given together, in any command.
pub(super) const CONTRADICTIONS: &[(&str, &str)] = &[("force", "no-kill")];

/// The longest wait: more than a year is a typing error.
const SECONDS_MAX: f64 = 366.0 * 24.0 * 3600.0;

pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line for the overview.
    pub(crate) about: &'static str,
    /// The further text of the command's `--help`, one paragraph, wrapped.
    pub(crate) details: &'static str,
    pub(crate) operands: &'static [Operand],
    pub(crate) flags: &'static [&'static Flag],
    /// The exit code for qqmgr's own failures: usually that of the error's kind, but different for
    /// a command that passes on another program's codes.
    pub(crate) failure_code: fn(Kind) -> u8,
    pub(crate) run: Run,
}

/// The result of a command for one of the things that it was asked to do.
pub(crate) type Outcome = Result<Report, Error>;

#[derive(Clone, Copy)]
pub(crate) enum Run {
    Once(fn(&Args) -> Outcome),
    /// Gives an outcome for each of several VMs, as soon as it is there.
    Each(fn(&Args, &mut dyn FnMut(Outcome))),
}

pub(crate) struct Operand {
    pub(crate) name: &'static str,
    pub(crate) count: Count,
    /// The words that are allowed; if empty, any word. Only for an operand that is a single word,
    /// with no operand before it that may be several.
    pub(crate) choices: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    One,
    Optional,
    /// Any number, including none; the last operand of its command except for `Words`.
    Any,
    /// One or more; at most one operand of a command.
    Many,
    /// Everything after `--`, unchanged, into [`Args::words`]; last in its command.
    Words {
        required: bool,
    },
    /// Everything that follows, flags and `--` included, untouched; last in its command.
    Rest,
}

pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: FlagKind,
    pub(crate) help: &'static str,
}

pub(crate) enum FlagKind {
    Switch(fn(&mut Args)),
    /// A flag with a value. `set` gives only the reason why a value is refused; the parser adds the
    /// flag's name.
    Value {
        name: &'static str,
        set: fn(&mut Args, &OsStr) -> Result<(), String>,
    },
    /// A flag with a value that may be given several times.
    List {
        name: &'static str,
        set: fn(&mut Args, &OsStr) -> Result<(), String>,
    },
    /// A flag given as `--flag`, or as `--flag=VALUE` in one word.
    Optional {
        name: &'static str,
        set: fn(&mut Args, Option<&OsStr>) -> Result<(), String>,
    },
}

impl Operand {
    pub(crate) const fn new(name: &'static str, count: Count) -> Self {
        Self { name, count, choices: &[] }
    }

    pub(crate) const fn one_of(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }
}

impl Flag {
    pub(crate) const fn switch(long: &'static str, set: fn(&mut Args), help: &'static str) -> Self {
        Self { long, short: None, kind: FlagKind::Switch(set), help }
    }

    pub(crate) const fn value(
        long: &'static str,
        name: &'static str,
        set: fn(&mut Args, &OsStr) -> Result<(), String>,
        help: &'static str,
    ) -> Self {
        Self { long, short: None, kind: FlagKind::Value { name, set }, help }
    }

    pub(crate) const fn list(
        long: &'static str,
        name: &'static str,
        set: fn(&mut Args, &OsStr) -> Result<(), String>,
        help: &'static str,
    ) -> Self {
        Self { long, short: None, kind: FlagKind::List { name, set }, help }
    }

    pub(crate) const fn optional(
        long: &'static str,
        name: &'static str,
        set: fn(&mut Args, Option<&OsStr>) -> Result<(), String>,
        help: &'static str,
    ) -> Self {
        Self { long, short: None, kind: FlagKind::Optional { name, set }, help }
    }

    pub(crate) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// `--timeout`, whose help says what it is a timeout of.
    pub(crate) const fn timeout(help: &'static str) -> Self {
        let set = |args: &mut Args, value: &OsStr| {
            args.timeout = Some(seconds(value)?);
            Ok(())
        };
        Self::value("timeout", "SECONDS", set, help)
    }
}

impl FlagKind {
    pub(crate) fn requires_value(&self) -> bool {
        matches!(self, Self::Value { .. } | Self::List { .. })
    }

    /// The name of its value, as help shows it.
    pub(crate) fn value_name(&self) -> Option<&'static str> {
        match self {
            Self::Switch(_) => None,
            Self::Value { name, .. } | Self::List { name, .. } | Self::Optional { name, .. } => {
                Some(name)
            }
        }
    }
}

/// The words of a command line as typed values. No name in them has been looked up.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Args {
    pub(crate) config: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) verbose: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) force: bool,
    pub(crate) no_kill: bool,
    pub(crate) yes: bool,
    pub(crate) unused: bool,
    pub(crate) at_eof: bool,
    pub(crate) all: bool,
    pub(crate) quiet: bool,
    pub(crate) keep: bool,
    pub(crate) fresh: bool,
    pub(crate) guest: bool,
    pub(crate) watch: bool,
    pub(crate) running: bool,
    pub(crate) follow: bool,
    pub(crate) raw: bool,
    /// How much of an output is shown, if it was specified.
    pub(crate) lines: Option<Lines>,
    /// Treat the output as finished after this much silence (`--idle`).
    pub(crate) idle: Option<Duration>,
    /// Treat the output as finished at this text; empty if there is none.
    pub(crate) until: Vec<u8>,
    /// The boot to show, counted back from the last one, which is 0.
    pub(crate) boot: u32,
    pub(crate) events: bool,
    /// How long to print events.
    pub(crate) events_for: Option<Duration>,
    /// The text to type.
    pub(crate) text: Option<String>,
    /// How long to hold a key.
    pub(crate) hold: Option<Duration>,
    /// How long to wait for the guest's ssh server, if at all.
    pub(crate) wait: Option<Duration>,
    pub(crate) wait_for: Option<WaitFor>,
    /// A display device, and the number of its head.
    pub(crate) device: Option<String>,
    pub(crate) head: Option<u32>,
    /// The variables of `--set NAME=VALUE`.
    pub(crate) set: Vec<(String, String)>,
    /// The base of an image: a file or a URL.
    pub(crate) image: Option<String>,
    /// The expected SHA-256 in lower case; `None` accepts any content.
    pub(crate) sha256: Option<String>,
    /// The paths of `--put LOCAL:REMOTE` and `--get REMOTE:LOCAL`.
    pub(crate) put: Vec<(OsString, OsString)>,
    pub(crate) get: Vec<(OsString, OsString)>,
    /// The operands in order; their number is what the command allows.
    pub(crate) operands: Vec<OsString>,
    /// The words after `--`.
    pub(crate) words: Vec<OsString>,
    pub(crate) detached: Option<Detached>,
}

/// A word that follows a flag which takes a value only as `--flag=VALUE`. It would be a valid
/// value, so the user may have meant it as one.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) flag: &'static str,
    pub(crate) word: OsString,
}

impl Detached {
    pub(crate) fn hint(&self) -> String {
        let (flag, word) = (self.flag, self.word.display());
        format!("`--{flag}` takes its value in the same word: `--{flag}={word}`")
    }
}

/// How many lines of an output, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    All,
    Last(u64),
}

/// The condition that `wait` waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    Ssh,
    Stopped,
    Running,
    /// These bytes appear on the serial output.
    Serial(Vec<u8>),
}

impl Args {
    /// The operand [`VM`], which comes first in every command that has it. A name that is not UTF-8
    /// cannot be in a configuration, so a lossy copy is enough to show it.
    pub(crate) fn vm(&self) -> std::borrow::Cow<'_, str> {
        self.operands[0].to_string_lossy()
    }

    pub(crate) fn log(&self) -> Log {
        Log::new(self.verbose)
    }
}

pub(crate) const VM: Operand = Operand::new("VM", Count::One);
/// Names and patterns of VMs, with [`ALL`] for all of them.
pub(crate) const VMS: Operand = Operand::new("VM", Count::Any);

/// How long `--wait` waits if it has no value: an emulated guest boots slowly.
pub(crate) const WAIT_DEFAULT: Duration = Duration::from_secs(300);

pub(crate) static ALL: Flag = Flag::switch("all", |args| args.all = true, "Act on every VM");
pub(crate) static WAIT: Flag = Flag::optional(
    "wait",
    "SECONDS",
    |args, value| {
        args.wait = Some(value.map_or(Ok(WAIT_DEFAULT), seconds)?);
        Ok(())
    },
    "Wait for the guest's ssh server (default 300)",
);
pub(crate) static SET: Flag = Flag::list(
    "set",
    "NAME=VALUE",
    |args, value| {
        args.set.push(assignment(value)?);
        Ok(())
    },
    "Give a variable this value, for this start",
);

/// The flags that every command has, in help order.
pub(crate) static GLOBAL_FLAGS: &[&Flag] = &[&CONFIG, &JSON, &VERBOSE, &HELP, &VERSION];

static CONFIG: Flag = Flag::value(
    "config",
    "FILE",
    |args, value| {
        args.config = Some(Path::new(value).to_path_buf());
        if value.is_empty() { Err("the name is empty".into()) } else { Ok(()) }
    },
    "Read this configuration instead of searching for one",
)
.short('c');
pub(super) static JSON: Flag = Flag::switch(
    "json",
    |args| args.json = true,
    "Print the result, or the error, as JSON on standard output",
);
static VERBOSE: Flag = Flag::switch(
    "verbose",
    |args| args.verbose = true,
    "Say on standard error what is executed and what QMP says",
)
.short('v');
/// The flags [`HELP`] and [`VERSION`] end the parsing and set nothing.
pub(super) static HELP: Flag =
    Flag::switch("help", |_| (), "Show help, of the command if there is one").short('h');
pub(super) static VERSION: Flag = Flag::switch("version", |_| (), "Show the version").short('V');

/// Parses `NAME=VALUE`, with the name dotted as in a placeholder.
fn assignment(value: &OsStr) -> Result<(String, String), String> {
    let text = value.to_str().ok_or("it is not UTF-8")?;
    let (name, value) = text.split_once('=').ok_or("it takes NAME=VALUE")?;
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.split('.').any(|part| part.is_empty() || !part.chars().all(bare)) {
        return Err("a name has letters, digits, `_` and `-` between dots".into());
    }
    Ok((name.to_string(), value.to_string()))
}

/// Parses seconds, a fraction allowed, as `sleep` and `timeout` take them.
pub(crate) fn seconds(value: &OsStr) -> Result<Duration, String> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    value
        .to_str()
        .filter(|text| text.chars().all(digits))
        .and_then(|text| text.parse().ok())
        .filter(|seconds: &f64| (0.0..=SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "it takes a number of seconds, like `20` or `0.5`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_decimal_and_bounded() {
        let read = |text: &str| seconds(OsStr::new(text)).ok();
        assert_eq!(read("20"), Some(Duration::from_secs(20)));
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        for text in ["", ".", "-1", "+1", "1e3", "inf", "NaN", "1s", " 1", "99999999999"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
