//! The command line: a table of commands in ([`spec`]), typed arguments out ([`parse()`]), and the
//! help and the completion that the same table gives ([`help`], [`complete`]). Touches no file and
//! no environment.

pub(crate) mod complete;
pub(crate) mod help;
mod lex;
mod parse;
pub(crate) mod spec;
#[cfg(test)]
mod tests;

pub(crate) use parse::{Parsed, Refused, find_command, parse, usage_of};
pub(crate) use spec::{Args, Command, Outcome, Run};
