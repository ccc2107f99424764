//! The commands, one file each: a row for the table, what the command does, and what it reports.
//! Shared parts are the choice of VMs ([`fleet`], [`target`]), a VM's images ([`images`]),
//! what it is started with and its start ([`start`]).

mod check;
mod cmdline;
pub(crate) mod complete;
mod completions;
mod confirm;
mod console;
mod control;
mod copy;
mod fleet;
mod gdb;
pub(crate) mod help;
mod images;
mod img;
mod init;
mod input;
mod list;
mod monitor;
mod output;
mod qmp;
mod restart;
mod run;
mod screenshot;
mod sendkey;
mod snapshot;
mod ssh;
mod ssh_config;
mod start;
mod stats;
mod status;
mod stop;
mod target;
mod wait;
mod watching;

use crate::cli::Command;

/// All commands, in help order.
pub(crate) static COMMANDS: &[&Command] = &[
    &start::COMMAND,
    &stop::COMMAND,
    &restart::COMMAND,
    &status::COMMAND,
    &stats::COMMAND,
    &list::COMMAND,
    &wait::COMMAND,
    &output::SERIAL,
    &output::LOG,
    &console::COMMAND,
    &control::PAUSE,
    &control::RESUME,
    &control::RESET,
    &control::POWERDOWN,
    &control::NMI,
    &sendkey::COMMAND,
    &qmp::COMMAND,
    &monitor::COMMAND,
    &snapshot::COMMAND,
    &screenshot::COMMAND,
    &ssh::COMMAND,
    &copy::PUT,
    &copy::GET,
    &run::COMMAND,
    &gdb::COMMAND,
    &check::COMMAND,
    &cmdline::COMMAND,
    &ssh_config::COMMAND,
    &img::COMMAND,
    &init::COMMAND,
    &completions::COMMAND,
    &help::COMMAND,
];
