//! The guest over ssh: the configuration file of a VM ([`config`]), the commands that use it
//! ([`run`]), and copying ([`copy`]), also where the guest has no sftp server ([`stream`]).
//! OpenSSH's client is needed.

pub(crate) mod config;
mod connections;
pub(crate) mod copy;
mod departures;
mod guest;
pub(crate) mod limits;
pub(crate) mod login;
pub(crate) mod run;
mod share;
mod stream;
mod written;

use crate::text::quoted;
pub(crate) use config::{THIS_HOST, host, is_by_port, is_proxied};
pub(crate) use guest::{FAILURE_CODE, Guest, JOB, JOB_ALONE, ON_TERMINAL, UNATTENDED, choices};
pub(crate) use limits::Limits;
pub(crate) use share::is_connected;
use std::ffi::OsString;
pub(crate) use written::{config_text, end_shared_connection, forget_guest, write_config};

/// The command line for the guest's shell: a single word as it is, several each quoted.
pub(crate) fn remote_command(words: &[OsString]) -> OsString {
    match words {
        [line] => line.clone(),
        words => quoted(words),
    }
}
