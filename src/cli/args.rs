//! The words of a command line. No name in them has been looked up.

use super::flag::{AnyFlag as _, CONFIG, Flag, JSON, VERBOSE};
use crate::log::Log;
use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Default)]
pub(crate) struct Args {
    /// The long name and the value of each flag; the value of a switch is empty. The parser has
    /// checked all values.
    pub(super) flags: Vec<(&'static str, OsString)>,
    /// The operands in order; their number is what the command allows.
    pub(crate) operands: Vec<OsString>,
    /// The words after `--`.
    pub(crate) words: Vec<OsString>,
    pub(crate) detached: Option<Detached>,
    /// The hint for an operand that is not a VM: the command line that was probably meant.
    pub(crate) right_form: Option<String>,
}

/// A word that follows a flag which takes a value only as `--flag=VALUE`. It would be a valid
/// value, so the user may have meant it as one.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) flag: &'static str,
    pub(crate) word: OsString,
}

impl Args {
    pub(crate) fn has<T>(&self, flag: &Flag<T>) -> bool {
        self.flags.iter().any(|(long, _)| *long == flag.info().long)
    }

    /// The value of a flag, if the flag was given.
    pub(crate) fn value<T>(&self, flag: &Flag<T>) -> Option<T> {
        self.all(flag).pop()
    }

    /// The values of a flag that may be given several times, in order.
    pub(crate) fn all<T>(&self, flag: &Flag<T>) -> Vec<T> {
        let given = self.flags.iter().filter(|(long, _)| *long == flag.info().long);
        given.filter_map(|(_, value)| flag.read(value)).collect()
    }

    /// The operand VM, which comes first in every command that has it. A name that is not UTF-8
    /// cannot be in a configuration, so a lossy copy is enough to show it.
    pub(crate) fn vm(&self) -> Cow<'_, str> {
        self.operands[0].to_string_lossy()
    }

    /// The FILE of `--config`.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        self.value(&CONFIG).map(PathBuf::from)
    }

    pub(crate) fn json(&self) -> bool {
        self.has(&JSON)
    }

    pub(crate) fn log(&self) -> Log {
        Log::new(self.has(&VERBOSE))
    }
}

impl Detached {
    pub(crate) fn hint(&self) -> String {
        let (flag, word) = (self.flag, self.word.display());
        format!("`--{flag}` takes its value in the same word: `--{flag}={word}`")
    }
}
