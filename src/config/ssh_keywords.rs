//! The options of ssh_config(5) in the ssh tables: how ssh reads the values of each keyword, which
//! may be set, and how tables are merged. Pure.
//!
//! From the manual of OpenSSH 9.2 and 10.0, and `ssh -G` of 9.2 where the manual does not say.

/// The form of a keyword's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One value; ssh ignores or refuses a second one.
    Value,
    /// One value that is itself a list with commas; ssh ignores a second line.
    Commas,
    /// A command for a shell: the rest of the line, whose quotes are the shell's.
    Command,
    /// Several words on one line; ssh ignores a second line.
    Words,
    /// One line for each value, and each counts.
    Lines,
    /// Several words on a line, and each line counts.
    LinesOfWords,
}

use super::values::wrong_type;
use crate::source::Problem;
use crate::text::nearest;
use crate::toml::{self, Key, Kind, Table};
use Form::{Command, Commas, Lines, LinesOfWords, Value, Words};

/// Keywords that would begin another block of the generated file.
const BLOCKS: &[&str] = &["Host", "Match"];

/// Every keyword but `Host` and `Match`, which begin a block, and `Port`, which is qqmgr's own.
#[rustfmt::skip]
const KEYWORDS: &[(Form, &[&str])] = &[
    (Value, &[
        "AddressFamily", "BatchMode", "BindAddress", "BindInterface", "CanonicalizeFallbackLocal",
        "CanonicalizeHostname", "CanonicalizeMaxDots", "CheckHostIP", "ClearAllForwardings",
        "Compression", "ConnectionAttempts", "ConnectTimeout", "ControlMaster", "ControlPath",
        "ControlPersist", "EnableEscapeCommandline", "EnableSSHKeysign", "EscapeChar",
        "ExitOnForwardFailure", "FingerprintHash", "ForkAfterAuthentication", "ForwardAgent",
        "ForwardX11", "ForwardX11Timeout", "ForwardX11Trusted", "GatewayPorts",
        "GSSAPIAuthentication", "GSSAPIClientIdentity", "GSSAPIDelegateCredentials",
        "GSSAPIKeyExchange", "GSSAPIRenewalForcesRekey", "GSSAPIServerIdentity", "GSSAPITrustDns",
        "HashKnownHosts", "HostbasedAuthentication", "HostKeyAlias", "HostName", "IdentitiesOnly",
        "IdentityAgent", "KbdInteractiveAuthentication", "LogLevel",
        "NoHostAuthenticationForLocalhost", "NumberOfPasswordPrompts", "ObscureKeystrokeTiming",
        "PasswordAuthentication", "PermitLocalCommand", "PKCS11Provider", "ProxyUseFdpass",
        "PubkeyAuthentication", "RequestTTY", "RequiredRSASize", "RevokedHostKeys",
        "SecurityKeyProvider", "ServerAliveCountMax", "ServerAliveInterval", "SessionType",
        "StdinNull", "StreamLocalBindMask", "StreamLocalBindUnlink", "StrictHostKeyChecking",
        "SyslogFacility", "Tag", "TCPKeepAlive", "Tunnel", "TunnelDevice", "UpdateHostKeys", "User",
        "VerifyHostKeyDNS", "VersionAddendum", "VisualHostKey", "WarnWeakCrypto", "XAuthLocation",
    ]),
    (Commas, &[
        "CASignatureAlgorithms", "Ciphers", "GSSAPIKexAlgorithms", "HostbasedAcceptedAlgorithms",
        "HostbasedKeyTypes", "HostKeyAlgorithms", "IgnoreUnknown", "KbdInteractiveDevices",
        "KexAlgorithms", "LogVerbose", "MACs", "PreferredAuthentications",
        "PubkeyAcceptedAlgorithms", "PubkeyAcceptedKeyTypes",
    ]),
    (Command, &[
        "KnownHostsCommand", "LocalCommand", "ProxyCommand", "ProxyJump", "RefuseConnection",
        "RemoteCommand",
    ]),
    (Words, &[
        "AddKeysToAgent", "CanonicalDomains", "CanonicalizePermittedCNAMEs", "ChannelTimeout",
        "GlobalKnownHostsFile", "IPQoS", "PermitRemoteOpen", "RekeyLimit", "SetEnv",
        "UserKnownHostsFile",
    ]),
    (Lines, &["CertificateFile", "DynamicForward", "IdentityFile"]),
    (LinesOfWords, &["Include", "LocalForward", "RemoteForward", "SendEnv"]),
];

/// The form of a keyword; `None` for one that neither version has, which is left to ssh.
pub(crate) fn form(keyword: &str) -> Option<Form> {
    let mut forms = KEYWORDS.iter();
    forms.find(|(_, keywords)| is_in(keywords, keyword)).map(|(form, _)| *form)
}

/// The keyword that was probably meant by a name that is none.
pub(super) fn near(name: &str) -> Option<&'static str> {
    nearest(name, KEYWORDS.iter().flat_map(|(_, keywords)| keywords.iter().copied()))
}

/// Whether the list has the keyword; case does not matter.
pub(crate) fn is_in(list: &[&str], keyword: &str) -> bool {
    list.iter().any(|other| other.eq_ignore_ascii_case(keyword))
}

/// The hint for a keyword if ssh would read only the first of a list of values.
fn one_value(keyword: &str) -> Option<&'static str> {
    match form(keyword)? {
        Commas => Some("write one string with commas between"),
        Command if keyword.eq_ignore_ascii_case("ProxyJump") => {
            Some("write one string with commas between")
        }
        Command => Some("write one string: a command is the rest of its line"),
        Value => Some("write one string"),
        Words | Lines | LinesOfWords => None,
    }
}

/// Checks the options in the table with the header `shown`: all its keys but `own`.
pub(super) fn check(table: &Table, own: &[&str], shown: &str) -> Vec<Problem> {
    let mut seen: Vec<&str> = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in table.iter().filter(|(key, _)| !own.contains(&key.name.as_str())) {
        let problem = name_problem(key, own, &seen, shown);
        if problem.is_none() {
            seen.push(&key.name);
        }
        problems.extend(problem.or_else(|| value_problem(&key.name, value)));
    }
    problems
}

/// The problem with the name of an option; `seen` are the names before it.
fn name_problem(key: &Key, own: &[&str], seen: &[&str], shown: &str) -> Option<Problem> {
    let name = key.name.as_str();
    let problem = |message: String| Problem::new(key.span, message);
    if is_in(&["port", "vm_port", "vmport"], name) {
        let hint = "the port is `port` in `[vm.NAME.ssh]`, in lower case";
        Some(problem(format!("`{name}` does not belong in `{shown}`")).hint(hint))
    } else if is_in(BLOCKS, name) {
        let hint = "the generated file has one `Host` block, which the options go into";
        Some(problem(format!("`{name}` cannot be set in `{shown}`")).hint(hint))
    } else if let Some(near) = nearest(name, own.iter().copied()) {
        // No option of ssh has a name this near to one of qqmgr's own.
        Some(problem(format!("unknown key `{name}`")).did_you_mean(Some(near)))
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric()) || name.is_empty() {
        let problem = problem(format!("ssh has no option `{}`", name.escape_debug()));
        Some(problem.did_you_mean(near(&name.replace(['_', '-'], ""))))
    } else if is_in(seen, name) {
        Some(problem(format!("`{name}` is set twice: ssh ignores case in the names of options")))
    } else {
        None
    }
}

/// The problem with the value of an option.
fn value_problem(name: &str, value: &toml::Value) -> Option<Problem> {
    let items = value.items();
    if let (Some(hint), [_, second, ..]) = (one_value(name), items) {
        let message = format!("ssh takes one value for `{name}`");
        return Some(Problem::new(second.span, message).hint(hint));
    }
    let is_wrong =
        |item: &&toml::Value| matches!(item.kind, Kind::Float | Kind::Array(_) | Kind::Table(_));
    let expected = "a string, an integer, a boolean or a list of them";
    items.iter().find(is_wrong).map(|item| wrong_type(item, name, expected))
}

/// The options of several tables and their values, without the keys `own`: in the order of first
/// appearance, the last table winning. Names compare without case.
pub(super) fn merged<'a>(
    tables: impl Iterator<Item = &'a Table>,
    own: &[&str],
) -> Vec<(&'a str, &'a toml::Value)> {
    let mut merged: Vec<(&str, &toml::Value)> = Vec::new();
    for (key, value) in tables.flat_map(Table::iter) {
        let name = key.name.as_str();
        match merged.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            Some(other) => *other = (name, value),
            None if own.contains(&name) => {}
            None => merged.push((name, value)),
        }
    }
    merged
}
