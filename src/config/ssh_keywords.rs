//! How ssh reads the values of each keyword of ssh_config(5). Pure.
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

use crate::text::nearest;
use Form::{Command, Commas, Lines, LinesOfWords, Value, Words};

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
pub(super) fn one_value(keyword: &str) -> Option<&'static str> {
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
