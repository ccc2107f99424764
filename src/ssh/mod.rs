//! The guest over ssh: the configuration file of a VM ([`config`]), the commands that use it
//! ([`run`]), and copying ([`copy`]), also where the guest has no sftp server ([`stream`]).
//! It takes OpenSSH's client.

pub(crate) mod cloud_init;
pub(crate) mod config;
mod control_sockets;
pub(crate) mod copy;
mod defaults;
mod departures;
mod guest;
pub(crate) mod limits;
pub(crate) mod login;
mod method;
pub(crate) mod run;
mod seats;
mod share;
mod stream;
mod unshare;
mod words;
mod written;

use crate::config::resolve::SshSetting;
pub(crate) use defaults::THIS_HOST;
pub(crate) use guest::{FAILURE_CODE, Guest, choices};
use std::ffi::{OsStr, OsString};
pub(crate) use unshare::{end_shared_connection, forget_guest};
pub(crate) use written::{config_text, write_config};

/// Keywords by which ssh reaches a guest through another host or program.
const PROXIES: &[&str] = &["ProxyCommand", "ProxyJump"];

/// Makes a command line for the guest's shell: a single word is the whole line; several words are
/// quoted one by one.
pub(crate) fn remote_command(words: &[OsString]) -> OsString {
    match words {
        [line] => line.clone(),
        words => {
            let words: Vec<OsString> =
                words.iter().map(|word| stream::quoted(word, false)).collect();
            words.join(OsStr::new(" "))
        }
    }
}

/// The host that the options name instead of this one.
pub(crate) fn host(options: &[SshSetting]) -> Option<&str> {
    let (_, values) = options.iter().find(|(name, _)| name.eq_ignore_ascii_case("HostName"))?;
    values.first().map(String::as_str)
}

/// Whether ssh reaches the guest by way of another host or program.
pub(crate) fn is_proxied(options: &[SshSetting]) -> bool {
    let set = |value: &String| !value.eq_ignore_ascii_case("none");
    options.iter().any(|(name, values)| {
        let is_proxy = |keyword: &&str| name.eq_ignore_ascii_case(keyword);
        PROXIES.iter().any(is_proxy) && values.first().is_some_and(set)
    })
}

/// Whether ssh reaches the guest by a port of this host.
pub(crate) fn is_by_port(options: &[SshSetting]) -> bool {
    host(options).is_none() && !is_proxied(options)
}
