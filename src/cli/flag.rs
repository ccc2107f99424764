//! Flags: one static for each, whose type is that of its value.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// The longest wait: more than a year is a typing error.
const SECONDS_MAX: f64 = 366.0 * 24.0 * 3600.0;

/// A flag as the parser, help and completion need it.
pub(crate) struct Info {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) takes: Takes,
    pub(crate) help: &'static str,
    /// The flag that this one needs, and the end of a sentence that says so.
    pub(super) needs: Option<(&'static str, &'static str)>,
}

/// Whether a flag takes a value, and the value's name as help shows it.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    Nothing,
    Value(&'static str),
    /// A value; the flag may be given several times.
    Values(&'static str),
    /// A value only as `--flag=VALUE` in one word; otherwise the value is `default`.
    Optional {
        name: &'static str,
        default: &'static str,
    },
}

/// A flag whose value is read as a `T`.
pub(crate) struct Flag<T = ()> {
    info: Info,
    /// Reads a value, or gives the reason why it is refused.
    read: fn(&OsStr) -> Result<T, String>,
}

/// A flag of any type, as a row of a command's table has it.
pub(crate) trait AnyFlag: Sync {
    fn info(&self) -> &Info;
    /// Checks a value; the error is the reason why it is refused.
    fn check(&self, value: &OsStr) -> Result<(), String>;
}

impl<T> AnyFlag for Flag<T> {
    fn info(&self) -> &Info {
        &self.info
    }

    fn check(&self, value: &OsStr) -> Result<(), String> {
        (self.read)(value).map(|_| ())
    }
}

impl Flag {
    pub(crate) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Takes::Nothing, |_| Ok(()), help)
    }
}

impl Flag<Duration> {
    /// Makes a flag that takes a number of seconds.
    pub(crate) const fn seconds(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Takes::Value("SECONDS"), seconds, help)
    }
}

impl<T> Flag<T> {
    pub(crate) const fn new(
        long: &'static str,
        takes: Takes,
        read: fn(&OsStr) -> Result<T, String>,
        help: &'static str,
    ) -> Self {
        Self { info: Info { long, short: None, takes, help, needs: None }, read }
    }

    pub(crate) const fn short(self, short: char) -> Self {
        Self { info: Info { short: Some(short), ..self.info }, ..self }
    }

    /// Makes the flag wrong without the flag `other`. The error is the flag and `why`.
    pub(crate) const fn needs(self, other: &'static str, why: &'static str) -> Self {
        Self { info: Info { needs: Some((other, why)), ..self.info }, ..self }
    }

    /// Reads a value that the parser has checked with [`AnyFlag::check`].
    pub(super) fn read(&self, value: &OsStr) -> Option<T> {
        (self.read)(value).ok()
    }
}

impl Info {
    /// Whether `spelled`, dashes included, names this flag.
    pub(super) fn is_spelled(&self, spelled: &str) -> bool {
        spelled.strip_prefix("--").is_some_and(|name| name == self.long)
            || self.short.is_some_and(|letter| spelled == format!("-{letter}"))
    }

    /// The name of its value, as help shows it.
    pub(super) fn value_name(&self) -> Option<&'static str> {
        match self.takes {
            Takes::Nothing => None,
            Takes::Value(name) | Takes::Values(name) | Takes::Optional { name, .. } => Some(name),
        }
    }

    pub(super) fn requires_value(&self) -> bool {
        matches!(self.takes, Takes::Value(_) | Takes::Values(_))
    }
}

/// The flags that every command has, in help order.
pub(crate) static GLOBAL_FLAGS: &[&dyn AnyFlag] = &[&CONFIG, &JSON, &VERBOSE, &HELP, &VERSION];

pub(super) static CONFIG: Flag<OsString> = Flag::new(
    "config",
    Takes::Value("FILE"),
    not_empty,
    "Read this configuration instead of searching for one",
)
.short('c');
pub(super) static JSON: Flag =
    Flag::switch("json", "Print the result, or the error, as JSON on standard output");
pub(super) static VERBOSE: Flag =
    Flag::switch("verbose", "Say on standard error what is executed and what QMP says").short('v');
/// The flags [`HELP`] and [`VERSION`] end the parsing.
pub(super) static HELP: Flag =
    Flag::switch("help", "Show help, for the command if there is one").short('h');
pub(super) static VERSION: Flag = Flag::switch("version", "Show the version").short('V');

/// Reads any value but the empty one.
pub(crate) fn not_empty(value: &OsStr) -> Result<OsString, String> {
    if value.is_empty() { Err("it is empty".into()) } else { Ok(value.to_os_string()) }
}

pub(crate) fn utf8(value: &OsStr) -> Result<String, String> {
    value.to_str().map(str::to_string).ok_or_else(|| "it is not UTF-8".into())
}

/// Reads `NAME=VALUE`, with the name dotted as in a placeholder.
pub(crate) fn assignment(value: &OsStr) -> Result<(String, String), String> {
    let text = utf8(value)?;
    let (name, value) = text.split_once('=').ok_or("it takes NAME=VALUE")?;
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.split('.').any(|part| part.is_empty() || !part.chars().all(bare)) {
        return Err("a name has letters, digits, `_` and `-` between dots".into());
    }
    Ok((name.to_string(), value.to_string()))
}

/// Reads a time in seconds, or with `s`, `m` or `h` after it, as `sleep` and `timeout` take it.
pub(crate) fn seconds(value: &OsStr) -> Result<Duration, String> {
    let text = value.to_string_lossy();
    let (number, unit) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "s")) => (number, 1.0),
        Some((number, "m")) => (number, 60.0),
        Some((number, "h")) => (number, 3600.0),
        _ => (&*text, 1.0),
    };
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let number = Some(number).filter(|number| number.chars().all(digits));
    number
        .and_then(|number| Some(number.parse::<f64>().ok()? * unit))
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "it takes a number of seconds, like `20` or `0.5`, or `5m`, or `1h`".into())
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
        assert_eq!(read("90s"), Some(Duration::from_secs(90)));
        assert_eq!(read("1.5m"), Some(Duration::from_secs(90)));
        assert_eq!(read("1h"), Some(Duration::from_secs(3600)));
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "inf",
            "NaN",
            "s",
            "1d",
            "1 s",
            "1ms",
            " 1",
            "99999999999",
            "9999999h",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
