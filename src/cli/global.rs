//! The flags that every command has.

use super::flag::{AnyFlag, Flag, Takes, not_empty};
use std::ffi::OsString;

/// In help order.
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
