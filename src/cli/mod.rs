//! The command line: it takes a table of commands ([`spec`]) with their flags ([`flag`]) and gives
//! arguments ([`args`]), and the help and the completion that come from the same table ([`help`],
//! [`complete`]). It touches no file and no environment.

mod args;
pub(crate) mod complete;
pub(crate) mod flag;
pub(crate) mod help;
mod lex;
mod names;
mod parse;
pub(crate) mod spec;
#[cfg(test)]
mod tests;

pub(crate) use args::{Args, Detached};
pub(crate) use flag::{Flag, Takes};
pub(crate) use names::find_command;
pub(crate) use parse::{Line, Parsed, parse, refuse_if, usage_of};
pub(crate) use spec::{Command, Count, Operand};
