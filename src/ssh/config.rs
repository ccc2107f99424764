//! The text of a VM's `ssh.conf`, by ssh_config(5). Pure.

use super::THIS_HOST;
use crate::config::SshSetting;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where connections are shared unless the user says otherwise.
pub(super) const CONTROL_SOCKET: &str = "ssh.socket";
/// How long a shared connection without a session stays open, in seconds.
const CONTROL_PERSIST: &str = "60";
/// Keywords whose value is the rest of the line, given to a shell; quotes in it are the shell's.
const COMMANDS: &[&str] =
    &["ProxyCommand", "ProxyJump", "LocalCommand", "RemoteCommand", "KnownHostsCommand"];
/// Of the keywords with several words, those of which ssh reads the first line only (`ssh -G` of
/// OpenSSH 9.2): a list is one line of them.
const ONE_LINE: &[&str] = &[
    "CanonicalDomains",
    "GlobalKnownHostsFile",
    "IPQoS",
    "LogVerbose",
    "PermitRemoteOpen",
    "SetEnv",
    "UserKnownHostsFile",
];
/// Keywords whose value names files: a relative one starts from the configuration's directory, as
/// in `cmd`, and not from wherever ssh is run.
const FILES: &[&str] = &[
    "CertificateFile",
    "GlobalKnownHostsFile",
    "IdentityAgent",
    "IdentityFile",
    "RevokedHostKeys",
    "UserKnownHostsFile",
];
/// Keywords that take several words; a value with blanks is those words.
const LISTS: &[&str] = &[
    "AddKeysToAgent",
    "CanonicalDomains",
    "CanonicalizePermittedCNAMEs",
    "ChannelTimeout",
    "GlobalKnownHostsFile",
    "Include",
    "IPQoS",
    "LocalForward",
    "LogVerbose",
    "PermitRemoteOpen",
    "RekeyLimit",
    "RemoteForward",
    "RevokedHostKeys",
    "SendEnv",
    "SetEnv",
    "UserKnownHostsFile",
];

/// One `Host` block named after the VM. ssh keeps the first value that it reads of a keyword, so
/// each is written once, or once a value for a list; what the user sets replaces ours.
/// `control_dir` is where a relative `ControlPath` starts from, in a spelling that nothing expands,
/// and `dir` where other relative names of files do.
pub(crate) fn render(
    name: &str,
    port: u16,
    options: &[SshSetting],
    control_dir: &Path,
    dir: &Path,
) -> String {
    let user = |keyword: &str| {
        options
            .iter()
            .find(|(name, values)| name.eq_ignore_ascii_case(keyword) && !values.is_empty())
    };
    let mut ours: Vec<(&str, String)> =
        vec![("HostName", THIS_HOST.into()), ("HostKeyAlias", name.to_string())];
    let in_dir = |name: &str| control_dir.join(name).display().to_string();
    let forgets_keys = user("UserKnownHostsFile")
        .is_some_and(|(_, files)| files.iter().all(|file| file == "/dev/null"));
    if forgets_keys {
        // Every connection would say that it adds the key "permanently".
        ours.push(("LogLevel", "ERROR".into()));
    }
    if !["ControlMaster", "ControlPath", "ControlPersist"].iter().any(|k| user(k).is_some()) {
        ours.push(("ControlMaster", "auto".into()));
        ours.push(("ControlPath", in_dir(CONTROL_SOCKET)));
        ours.push(("ControlPersist", CONTROL_PERSIST.into()));
    }

    let mut text =
        format!("# Written by qqmgr for the VM {name}; changes are lost.\nHost {name}\n");
    let mut line = |keyword: &str, value: &str| {
        let _ = writeln!(text, "    {keyword} {}", argument(keyword, value));
    };
    line("Port", &port.to_string());
    for (keyword, value) in ours.iter().filter(|(keyword, _)| user(keyword).is_none()) {
        line(keyword, value);
    }
    for (keyword, values) in options {
        let placed = |value: &String| {
            if keyword.eq_ignore_ascii_case("ControlPath") && is_relative(value) {
                in_dir(value)
            } else if is_in(FILES, keyword) {
                files_in(dir, keyword, value)
            } else {
                value.clone()
            }
        };
        let values: Vec<String> = values.iter().map(placed).collect();
        let one_line = is_in(ONE_LINE, keyword) && !values.is_empty();
        for value in if one_line { vec![values.join(" ")] } else { values } {
            line(keyword, &value);
        }
    }
    text
}

fn is_in(list: &[&str], keyword: &str) -> bool {
    list.iter().any(|other| other.eq_ignore_ascii_case(keyword))
}

/// The names of files in a value, relative ones in `dir`, in which ssh expands nothing. Where
/// several may stand, those that are quoted are the user's to write in full.
fn files_in(dir: &Path, keyword: &str, value: &str) -> String {
    // The only one of them that is taken as it is (TOKENS in ssh_config(5)).
    let is_literal = keyword.eq_ignore_ascii_case("GlobalKnownHostsFile");
    let dir = dir.display().to_string();
    let dir = PathBuf::from(if is_literal { dir } else { dir.replace('%', "%%") });
    let placed = |name: &str, write: fn(&str) -> String| {
        if is_relative(name) {
            write(&dir.join(name).display().to_string())
        } else {
            name.to_string()
        }
    };
    if !is_in(LISTS, keyword) {
        return placed(value, str::to_string);
    }
    if value.contains(['"', '\'', '\\']) {
        return value.to_string();
    }
    let names = value.split_whitespace().map(|name| placed(name, quoted));
    names.collect::<Vec<_>>().join(" ")
}

/// Whether a value is the name of a file that would be looked for where ssh is run. Words that
/// stand for no file are ssh's own.
fn is_relative(value: &str) -> bool {
    let elsewhere = ["/", "~", "%", "$"].iter().any(|start| value.starts_with(start));
    let word = ["none", "SSH_AUTH_SOCK", ""].iter().any(|word| value.eq_ignore_ascii_case(word));
    !elsewhere && !word
}

/// A value as the keyword wants it.
fn argument(keyword: &str, value: &str) -> String {
    let is_written = is_in(COMMANDS, keyword) || is_in(LISTS, keyword);
    if is_written { value.to_string() } else { quoted(value) }
}

/// Quoted if it would otherwise be read as several words, as a comment or as nothing
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
    use super::*;

    fn rendered(options: &[(&str, &[&str])]) -> String {
        let options: Vec<SshSetting> = options
            .iter()
            .map(|(name, values)| {
                (name.to_string(), values.iter().map(ToString::to_string).collect())
            })
            .collect();
        let text = render("dev", 2089, &options, Path::new("/r/vm.dev"), Path::new("/p"));
        text.strip_prefix("# Written by qqmgr for the VM dev; changes are lost.\n").unwrap().into()
    }

    #[test]
    fn without_options() {
        assert_eq!(
            rendered(&[]),
            "Host dev\n    Port 2089\n    HostName 127.0.0.1\n    HostKeyAlias dev\n    \
             ControlMaster auto\n    ControlPath /r/vm.dev/ssh.socket\n    ControlPersist 60\n"
        );
    }

    #[test]
    fn what_the_user_sets_replaces_ours() {
        assert_eq!(
            rendered(&[
                ("hostname", &["10.0.0.1"]),
                ("UserKnownHostsFile", &["/dev/null"]),
                ("IdentityFile", &["/a b/key", "~/.ssh/id"]),
                ("ControlPath", &["mux-%h"]),
            ]),
            "Host dev\n    Port 2089\n    HostKeyAlias dev\n    LogLevel ERROR\n    \
             hostname 10.0.0.1\n    UserKnownHostsFile /dev/null\n    \
             IdentityFile \"/a b/key\"\n    IdentityFile ~/.ssh/id\n    \
             ControlPath /r/vm.dev/mux-%h\n"
        );
        assert!(
            rendered(&[("UserKnownHostsFile", &["/dev/null"]), ("loglevel", &["INFO"])])
                .ends_with("UserKnownHostsFile /dev/null\n    loglevel INFO\n")
        );
    }

    /// `ssh -G` of OpenSSH 9.2 reads them back.
    #[test]
    fn relative_names_of_files_start_from_the_configuration() {
        let options = [
            ("IdentityFile", ["key", "my key", "~/key", "/key", "none"].as_slice()),
            ("UserKnownHostsFile", &["a b", "/c", "\"d e\" f"]),
            ("RevokedHostKeys", &["revoked"]),
            ("User", &["key"]),
        ];
        let options = options.map(|(name, values)| {
            (name.to_string(), values.iter().map(ToString::to_string).collect())
        });
        let text = render("dev", 2089, &options, Path::new("/r"), Path::new("/my p"));
        let (_, text) = text.split_once("ControlPersist 60\n").unwrap();
        assert_eq!(
            text,
            "    IdentityFile \"/my p/key\"\n    IdentityFile \"/my p/my key\"\n    \
             IdentityFile ~/key\n    IdentityFile /key\n    IdentityFile none\n    \
             UserKnownHostsFile \"/my p/a\" \"/my p/b\" /c \"d e\" f\n    \
             RevokedHostKeys \"/my p/revoked\"\n    User key\n"
        );
    }

    /// `ssh` ends with an error at a token that it does not know.
    #[test]
    fn a_percent_sign_in_the_directory_is_no_token() {
        for (keyword, expected) in [
            ("IdentityFile", "/50%%/id-%h"),
            ("userknownhostsfile", "/50%%/id-%h"),
            ("GlobalKnownHostsFile", "/50%/id-%h"),
        ] {
            assert_eq!(files_in(Path::new("/50%"), keyword, "id-%h"), expected);
        }
    }

    /// Of some keywords ssh reads the first line only, of others every one.
    #[test]
    fn lists_lose_nothing() {
        let text = rendered(&[
            ("SetEnv", &["A=1", "B=2"]),
            ("SendEnv", &["C", "D"]),
            ("HostName", &[]),
            ("ControlPath", &["NONE"]),
        ]);
        assert!(
            text.ends_with("SetEnv A=1 B=2\n    SendEnv C\n    SendEnv D\n    ControlPath NONE\n")
        );
        assert!(text.contains("    HostName 127.0.0.1\n"));
    }

    #[test]
    fn values_are_quoted_where_ssh_wants_it() {
        for (keyword, value, expected) in [
            ("User", "dev", "dev"),
            ("User", "", "\"\""),
            ("User", "a\"b\\c", "\"a\\\"b\\\\c\""),
            ("User", "#x", "\"#x\""),
            ("ProxyCommand", "nc 'a b' %h", "nc 'a b' %h"),
            ("SendEnv", "LANG LC_*", "LANG LC_*"),
            ("sendenv", "A B", "A B"),
        ] {
            assert_eq!(argument(keyword, value), expected, "{keyword} {value}");
        }
    }
}
