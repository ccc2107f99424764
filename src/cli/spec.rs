//! The description of a command: one row of the table that parsing, help, completion and the test
//! of the man page use.

use super::args::Args;
use super::flag::{AnyFlag, Flag, GLOBAL_FLAGS, Takes, assignment, seconds, utf8};
use crate::error::{Error, Kind};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// Commands in help order, each with the title under which help lists it.
pub(crate) type Table<'a> = &'a [(&'static str, &'static Command)];

pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line for the overview.
    pub(crate) about: &'static str,
    /// The further text of the command's `--help`, one paragraph, wrapped.
    pub(crate) details: &'static str,
    pub(crate) operands: &'static [Operand],
    pub(crate) flags: &'static [&'static dyn AnyFlag],
    /// Command lines for the command's `--help`, without the program's name.
    pub(crate) examples: &'static [&'static str],
    /// Takes the words of a wrong command line after the command's name. Gives the command line
    /// that was probably meant, without the program's name.
    pub(crate) right_form: fn(&[OsString]) -> Option<String>,
    /// Finds flags and operands that are right by themselves and wrong together.
    pub(crate) check: fn(&Args) -> Result<(), Error>,
    /// The exit code for qqmgr's own failures: usually that of the error's kind, but different for
    /// a command that passes on another program's codes.
    pub(crate) failure_code: fn(Kind) -> u8,
}

impl Command {
    /// The fields that most commands leave as they are: `..Command::DEFAULT`.
    pub(crate) const DEFAULT: Self = Self {
        name: "",
        about: "",
        details: "",
        operands: &[],
        flags: &[],
        examples: &[],
        right_form: |_| None,
        check: |_| Ok(()),
        failure_code: Kind::exit_code,
    };

    /// Finds the flag of this command, or of every command, whose name satisfies the test.
    pub(super) fn flag(&self, is_meant: impl Fn(&str) -> bool) -> Option<&'static dyn AnyFlag> {
        let mut flags = self.flags.iter().chain(GLOBAL_FLAGS).copied();
        flags.find(|flag| is_meant(flag.info().long))
    }
}

pub(crate) struct Operand {
    pub(crate) name: &'static str,
    pub(crate) count: Count,
    /// The words that are allowed; if empty, any word. Only for an operand of a single word, and
    /// not after an operand that may be several words.
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
    Words,
    /// Everything that follows, flags and `--` included, untouched; last in its command.
    Rest,
}

impl Operand {
    pub(super) fn is_words(&self) -> bool {
        self.count == Count::Words
    }

    pub(crate) const fn new(name: &'static str, count: Count) -> Self {
        Self { name, count, choices: &[] }
    }

    pub(crate) const fn one_of(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }
}

pub(crate) const VM: Operand = Operand::new("VM", Count::One);
/// Names and patterns of VMs, with [`ALL`] for all of them.
pub(crate) const VMS: Operand = Operand::new("VM", Count::Any);

pub(crate) static ALL: Flag = Flag::switch("all", "Act on every VM");
pub(crate) static CONSOLE: Flag = Flag::switch("console", "Attach to the console after the start");
pub(crate) static EVERYWHERE: Flag =
    Flag::switch("everywhere", "The running VMs of all your configurations");
pub(crate) static JOBS: Flag<usize> = Flag::new(
    "jobs",
    Takes::Value("N"),
    |text| {
        let number = text.to_str().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
        number.ok_or_else(|| "it takes a number from 1".into())
    },
    "At most N VMs at the same time (default 32)",
);

/// The value of [`WAIT`].
#[derive(Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) limit: Duration,
    /// Wait for the ssh server alone, also at the first boot of a disk.
    pub(crate) ssh_only: bool,
}

impl Wait {
    /// The limit is long, because an emulated guest boots slowly.
    pub(crate) const DEFAULT: Self = Self { limit: Duration::from_secs(300), ssh_only: false };

    /// Reads `SECONDS`, `ssh` or `ssh,SECONDS`.
    fn read(value: &OsStr) -> Result<Self, String> {
        let text = value.to_string_lossy();
        if text == "ssh" {
            return Ok(Self { ssh_only: true, ..Self::DEFAULT });
        }
        let (ssh_only, limit) = text.strip_prefix("ssh,").map_or((false, &*text), |l| (true, l));
        Ok(Self { limit: seconds(OsStr::new(limit))?, ssh_only })
    }
}

/// Whether to wait until the guest can be used.
pub(crate) static WAIT: Flag<Wait> = Flag::new(
    "wait",
    Takes::Optional { name: "SECONDS", default: "300" },
    Wait::read,
    "Wait until the guest is usable (default 300)",
);
pub(crate) static SET: Flag<(String, String)> = Flag::new(
    "set",
    Takes::Values("NAME=VALUE"),
    assignment,
    "Give a variable this value, for this start",
);

pub(crate) static HELPER: Flag<String> =
    Flag::new("helper", Takes::Value("HELPER"), utf8, "Handle this helper of the VM, and not QEMU");
