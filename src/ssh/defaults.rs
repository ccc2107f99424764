//! The options in a VM's `ssh.conf` that qqmgr adds to those of the user. Pure.

use crate::config::resolve::SshSetting;
use crate::config::ssh_keywords::is_in;
use std::path::Path;

/// The address at which a guest is reached, unless the options say otherwise.
pub(crate) const THIS_HOST: &str = "127.0.0.1";
/// How long ssh waits for a connection and for the server's keys, in seconds. A guest that emulates
/// its CPU on a busy host needs several; a guest that is stopped in a debugger never answers.
const CONNECT_TIMEOUT: &str = "30";
/// Keywords by which users choose themselves which host keys to trust.
const HOST_KEYS: &[&str] =
    &["GlobalKnownHostsFile", "KnownHostsCommand", "UserKnownHostsFile", "VerifyHostKeyDNS"];
/// Keywords by which ssh reaches a guest through another host or program.
const PROXIES: &[&str] = &["ProxyCommand", "ProxyJump"];

/// The values of a keyword, in the order of the options.
fn values<'a>(options: &'a [SshSetting], keyword: &str) -> &'a [String] {
    let found = options.iter().find(|(name, _)| name.eq_ignore_ascii_case(keyword));
    found.map_or(&[], |(_, values)| values)
}

/// The host that the options name instead of this one.
pub(crate) fn host(options: &[SshSetting]) -> Option<&str> {
    values(options, "HostName").first().map(String::as_str)
}

/// Whether ssh reaches the guest by way of another host or program.
pub(crate) fn is_proxied(options: &[SshSetting]) -> bool {
    let mut proxies = PROXIES.iter().filter_map(|keyword| values(options, keyword).first());
    proxies.any(|value| !value.eq_ignore_ascii_case("none"))
}

/// Whether ssh reaches the guest by a port of this host.
pub(crate) fn is_by_port(options: &[SshSetting]) -> bool {
    host(options).is_none() && !is_proxied(options)
}

/// The options that qqmgr adds, each unless the user sets something of the kind.
pub(super) fn defaults(
    options: &[SshSetting],
    name: &str,
    known_hosts: &Path,
) -> Vec<(&'static str, String)> {
    let has = |keyword: &str| !values(options, keyword).is_empty();
    let mut ours =
        vec![("HostName", THIS_HOST.to_string()), ("HostKeyAlias", host_key_alias(name))];
    ours.push(("ConnectTimeout", CONNECT_TIMEOUT.into()));
    let identity = values(options, "IdentityFile").first();
    if identity.is_some_and(|file| !file.eq_ignore_ascii_case("none")) {
        // An agent with many keys would use up the attempts that the guest allows.
        ours.push(("IdentitiesOnly", "yes".into()));
    }
    // With `yes`, the user fills the known hosts.
    let strict = values(options, "StrictHostKeyChecking").first();
    if is_by_port(options)
        && !HOST_KEYS.iter().any(|keyword| has(keyword))
        && !strict.is_some_and(|strict| is_in(&["yes", "true"], strict))
    {
        let known_hosts = known_hosts.display().to_string();
        ours.push(("UserKnownHostsFile", quoted(&known_hosts.replace('%', "%%"))));
        ours.push(("StrictHostKeyChecking", "accept-new".into()));
    }
    let files = values(options, "UserKnownHostsFile");
    if !files.is_empty() && files.iter().all(|file| file == "/dev/null") {
        // Every connection would say that it adds the key "permanently".
        ours.push(("LogLevel", "ERROR".into()));
    }
    ours.retain(|(keyword, _)| !has(keyword));
    ours
}

/// The VM's name in known hosts, where ssh ignores case: a `+`, which no VM's name has, marks a
/// capital.
fn host_key_alias(name: &str) -> String {
    let mut alias = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            alias.push('+');
        }
        alias.push(c.to_ascii_lowercase());
    }
    alias
}

/// Quotes a value if it would otherwise be read as several words, as a comment or as nothing
/// (`argv_split` of OpenSSH's misc.c: quotes, and backslash before a quote or a backslash).
pub(super) fn quoted(value: &str) -> String {
    let special = |c: char| c.is_whitespace() || "\"'\\#=".contains(c);
    if !(value.is_empty() || value.contains(special)) {
        return value.to_string();
    }
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
}
