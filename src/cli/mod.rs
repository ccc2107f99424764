//! The command line: a table of commands in ([`spec`]), typed arguments out ([`parse()`]), and the
//! help that the same table gives ([`help`]). Touches no file and no environment.

pub(crate) mod completions;
pub(crate) mod help;
mod lex;
mod parse;
pub(crate) mod spec;
#[cfg(test)]
mod tests;

pub(crate) use parse::{Parsed, Refused, find_command, parse, usage_of};
pub(crate) use spec::{Args, Command, Outcome, Run};
