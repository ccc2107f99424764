//! What a command is: one row of a table, from which parsing, help and the man page's test come.

use crate::error::Error;
use crate::log::Log;
use crate::report::Report;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer waits than a year are typing errors.
const SECONDS_MAX: f64 = 366.0 * 24.0 * 3600.0;

pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line for the overview.
    pub(crate) about: &'static str,
    /// What `--help` of the command says beyond that, one paragraph, wrapped.
    pub(crate) details: &'static str,
    pub(crate) operands: &'static [Operand],
    pub(crate) flags: &'static [&'static Flag],
    /// Exit code of every failure of our own, for a command that passes on somebody else's codes.
    pub(crate) failure_code: Option<u8>,
    pub(crate) run: fn(&Args) -> Result<Box<dyn Report>, Error>,
}

pub(crate) struct Operand {
    pub(crate) name: &'static str,
    pub(crate) count: Count,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    One,
    Optional,
    /// One or more; at most one operand of a command.
    Many,
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
    /// `set` gives only the reason why a value is refused; the parser adds the flag's name.
    Value {
        name: &'static str,
        set: fn(&mut Args, &OsStr) -> Result<(), String>,
    },
}

/// What was typed, typed: nothing here has been looked up yet.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Args {
    pub(crate) config: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) verbose: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) force: bool,
    pub(crate) no_kill: bool,
    /// In order; the counts of the command's operands hold.
    pub(crate) operands: Vec<OsString>,
}

impl Args {
    /// The operand [`VM`], first of every command that has it. A name that is not UTF-8 is none
    /// of a configuration's, and is shown as well as it can be.
    pub(crate) fn vm(&self) -> std::borrow::Cow<'_, str> {
        self.operands[0].to_string_lossy()
    }

    pub(crate) fn log(&self) -> Log {
        Log { verbose: self.verbose }
    }
}

pub(crate) const VM: Operand = Operand { name: "VM", count: Count::One };

/// Of a `--timeout`, whose help text says what it is a timeout of.
pub(crate) const TIMEOUT: FlagKind = FlagKind::Value {
    name: "SECONDS",
    set: |args, value| {
        args.timeout = Some(seconds(value)?);
        Ok(())
    },
};

/// The flags that every command has, in help order.
pub(crate) static GLOBAL_FLAGS: &[&Flag] = &[&CONFIG, &JSON, &VERBOSE, &HELP, &VERSION];

static CONFIG: Flag = Flag {
    long: "config",
    short: Some('c'),
    kind: FlagKind::Value {
        name: "FILE",
        set: |args, value| {
            args.config = Some(Path::new(value).to_path_buf());
            if value.is_empty() { Err("the name is empty".into()) } else { Ok(()) }
        },
    },
    help: "Read this configuration instead of searching for one",
};
pub(super) static JSON: Flag = Flag {
    long: "json",
    short: None,
    kind: FlagKind::Switch(|args| args.json = true),
    help: "Print the result, or the error, as JSON on standard output",
};
static VERBOSE: Flag = Flag {
    long: "verbose",
    short: Some('v'),
    kind: FlagKind::Switch(|args| args.verbose = true),
    help: "Say on standard error what is executed and what QMP says",
};
/// [`HELP`] and [`VERSION`] end the parsing and set nothing.
pub(super) static HELP: Flag = Flag {
    long: "help",
    short: Some('h'),
    kind: FlagKind::Switch(|_| ()),
    help: "Show help, of the command if there is one",
};
pub(super) static VERSION: Flag = Flag {
    long: "version",
    short: Some('V'),
    kind: FlagKind::Switch(|_| ()),
    help: "Show the version",
};

/// Seconds, a fraction allowed, as `sleep` and `timeout` take them.
fn seconds(value: &OsStr) -> Result<Duration, String> {
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
