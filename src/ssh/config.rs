//! The text of a VM's `ssh.conf`, by ssh_config(5). Pure.

use crate::config::resolve::SshSetting;
use crate::config::ssh_keywords::{Form, form, is_in};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Keywords that name files: relative names start from the configuration's directory, as in `cmd`.
const FILES: &[&str] = &[
    "CertificateFile",
    "GlobalKnownHostsFile",
    "IdentityAgent",
    "IdentityFile",
    "RevokedHostKeys",
    "UserKnownHostsFile",
];
/// Keywords by which users set up shared connections themselves.
const SHARING: &[&str] = &["ControlMaster", "ControlPath", "ControlPersist"];
/// Keywords that give a connection something of its first call, or a port that only one can have.
const FORWARDING: &[&str] =
    &["DynamicForward", "ForwardAgent", "ForwardX11", "LocalForward", "RemoteForward", "Tunnel"];
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

/// Directories in a spelling that ssh reads back.
pub(crate) struct Places {
    /// The directory that a relative `ControlPath` starts from. Nothing in it is expanded.
    pub(crate) control: PathBuf,
    /// The VM's own file of host keys.
    pub(crate) known_hosts: PathBuf,
    /// The configuration's directory, where other relative names of files start from.
    pub(crate) project: PathBuf,
    /// The configuration's directory as placeholders give it.
    pub(crate) written: PathBuf,
}

/// Renders one `Host` block named after the VM. ssh keeps the first value that it reads of most
/// keywords, so each keyword is written once, or once for each value where every line counts. The
/// user's options replace ours.
pub(crate) fn render(name: &str, port: u16, options: &[SshSetting], places: &Places) -> String {
    let mut text =
        format!("# Written by qqmgr for the VM {name}; changes are lost.\nHost {name}\n");
    let mut line = |keyword: &str, value: &str| {
        let _ = writeln!(text, "    {keyword} {}", argument(keyword, value));
    };
    line("Port", &port.to_string());
    for (keyword, value) in defaults(options, name, &places.known_hosts) {
        line(keyword, &value);
    }
    for (keyword, values) in options {
        let placed = |value: &String| {
            if is_in(&["ControlPath"], keyword) && is_relative(value) {
                places.control.join(value).display().to_string()
            } else if is_in(FILES, keyword) {
                files_in(places, keyword, value)
            } else {
                value.clone()
            }
        };
        let values: Vec<String> = values.iter().map(placed).collect();
        let one_line = form(keyword) == Some(Form::Words) && !values.is_empty();
        for value in if one_line { vec![values.join(" ")] } else { values } {
            line(keyword, &value);
        }
    }
    text
}

/// The keywords and values of a file that [`render`] wrote, in order.
pub(super) fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(' '))
}

/// Whether calls with this file share a connection that qqmgr begins. They do not if users set up
/// sharing themselves, or if a connection does more than carry commands.
pub(super) fn may_share(text: &str) -> bool {
    settings(text).all(|(keyword, value)| {
        let is_off = ["no", "none"].iter().any(|off| value.eq_ignore_ascii_case(off));
        !is_in(SHARING, keyword) && (is_off || !is_in(FORWARDING, keyword))
    })
}

/// Whether ssh reads a path in quotes correctly: it expands `${X}`, and a line break is the end.
pub(super) fn is_spellable(path: &Path) -> bool {
    path.to_str().is_some_and(|text| !text.contains("${") && !text.contains(char::is_control))
}

/// The names of files in a value. Relative names are put into the configuration's directory, in
/// which ssh expands nothing. Where several names are allowed, a value with quotes is left as the
/// user wrote it.
fn files_in(places: &Places, keyword: &str, value: &str) -> String {
    // The only keyword of these whose value is taken literally (TOKENS in ssh_config(5)).
    let is_literal = is_in(&["GlobalKnownHostsFile"], keyword);
    let project = places.project.display().to_string();
    let project = PathBuf::from(if is_literal { project } else { project.replace('%', "%%") });
    let placed = |name: &str| {
        // ssh would misread the path that `{{.config_dir}}` was replaced by.
        let written = places.written.to_str();
        let inside = written.and_then(|dir| name.strip_prefix(dir)?.strip_prefix('/'));
        let relative = inside.or(is_relative(name).then_some(name));
        relative.map(|name| project.join(name).display().to_string())
    };
    if form(keyword) != Some(Form::Words) {
        return placed(value).unwrap_or_else(|| value.to_string());
    }
    if value.contains(['"', '\'', '\\']) {
        return value.to_string();
    }
    // The directory may have blanks, too.
    let written = places.written.display().to_string();
    let value = value.replace(&written, "\0");
    let names = value.split_whitespace().map(|name| name.replace('\0', &written));
    let names = names.map(|name| placed(&name).map_or(name, |path| quoted(&path)));
    names.collect::<Vec<_>>().join(" ")
}

/// Whether a value is a relative file name, and no word with a meaning to ssh, such as `none`.
fn is_relative(value: &str) -> bool {
    let elsewhere = ["/", "~", "%", "$"].iter().any(|start| value.starts_with(start));
    let word = ["none", "SSH_AUTH_SOCK", ""].iter().any(|word| value.eq_ignore_ascii_case(word));
    !elsewhere && !word
}

/// A value in the form that the keyword needs.
fn argument(keyword: &str, value: &str) -> String {
    match form(keyword) {
        Some(Form::Command | Form::Words | Form::LinesOfWords) => value.to_string(),
        Some(Form::Value | Form::Commas | Form::Lines) | None => quoted(value),
    }
}

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
fn defaults(options: &[SshSetting], name: &str, known_hosts: &Path) -> Vec<(&'static str, String)> {
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

/// The VM's name in known hosts, where ssh ignores case: `+`, which no name has, marks a capital.
fn host_key_alias(name: &str) -> String {
    let marked = name.chars().flat_map(|c| [c.is_ascii_uppercase().then_some('+'), Some(c)]);
    marked.flatten().collect::<String>().to_ascii_lowercase()
}

/// Quotes a value if it would otherwise be read as several words, as a comment or as nothing
/// (`argv_split` of OpenSSH's misc.c: quotes, and backslash before a quote or a backslash).
fn quoted(value: &str) -> String {
    let special = |c: char| c.is_whitespace() || "\"'\\#=".contains(c);
    if !(value.is_empty() || value.contains(special)) {
        return value.to_string();
    }
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::may_share;

    #[test]
    fn connections_are_shared_unless_they_carry_more_than_commands() {
        for (option, expected) in [
            ("User x", true),
            ("ControlPath x", false),
            ("ForwardAgent x", false),
            ("LocalForward x", false),
            ("ForwardAgent no", true),
        ] {
            assert_eq!(may_share(&format!("Host dev\n    {option}\n")), expected, "{option}");
        }
    }
}
