//! Dropbear's `dbclient` in place of `ssh`, as on small systems: translates the VM's `ssh.conf`
//! into options, since dbclient reads no such file, and lists what is lost. Pure.

use std::ffi::OsString;
use std::path::Path;

/// The programs that `ssh` links to then: dropbear's client, and those that have all of dropbear in
/// one.
const NAMES: &[&str] = &["dbclient", "dropbear", "dropbearmulti"];
/// Keywords that dbclient can do without: they save connections and time, or messages about them.
const NEEDLESS: &[&str] = &[
    "ConnectTimeout",
    "ControlMaster",
    "ControlPath",
    "ControlPersist",
    "HostKeyAlias",
    "LogLevel",
];

/// Whether the file that `ssh` is, links followed, is dropbear's.
pub(super) fn is_dropbear(ssh: &Path) -> bool {
    NAMES.iter().any(|name| ssh.file_name().is_some_and(|file| file == *name))
}

/// A configuration as options of dbclient.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Translated {
    /// The options, and the host last.
    pub(super) arguments: Vec<OsString>,
    /// The keywords that dbclient has no option for, in order.
    pub(super) lost: Vec<String>,
}

/// Translates an `ssh.conf` that [`super::config`] wrote. `home` is for names that begin with `~/`.
pub(super) fn translate(text: &str, home: Option<&Path>) -> Translated {
    let (mut translated, mut host) = (Translated::default(), String::new());
    let settings: Vec<(&str, String)> = text.lines().filter_map(setting).collect();
    let keeps_no_keys = settings.iter().any(|(keyword, value)| is(keyword, STRICT) && is_no(value));
    for (keyword, value) in settings {
        let arguments: Vec<OsString> = match keyword.to_ascii_lowercase().as_str() {
            "hostname" => {
                host = value;
                continue;
            }
            "port" => vec!["-p".into(), value.into()],
            "user" => vec!["-l".into(), value.into()],
            "identityfile" => {
                let file = value.strip_prefix("~/").zip(home).map(|(rest, home)| home.join(rest));
                vec!["-i".into(), file.map_or(value.into(), OsString::from)]
            }
            "serveraliveinterval" => vec!["-K".into(), value.into()],
            "forwardagent" if is_yes(&value) => vec!["-A".into()],
            // One `-y` accepts the key of an unknown host; two accept any key.
            "stricthostkeychecking" if is_no(&value) => vec!["-y".into(), "-y".into()],
            "stricthostkeychecking" if is(&value, "accept-new") => vec!["-y".into()],
            "stricthostkeychecking" | "identitiesonly" | "batchmode" | "forwardagent" => continue,
            "userknownhostsfile" if keeps_no_keys => continue,
            _ if NEEDLESS.iter().any(|needless| is(keyword, needless)) => continue,
            _ => {
                translated.lost.push(keyword.to_string());
                continue;
            }
        };
        translated.arguments.extend(arguments);
    }
    translated.arguments.push(host.into());
    translated
}

const STRICT: &str = "StrictHostKeyChecking";

/// The keyword and value of a line; `None` for the line of `Host`.
fn setting(line: &str) -> Option<(&str, String)> {
    let (keyword, value) = line.strip_prefix("    ")?.split_once(' ')?;
    let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Some((keyword, value.to_string()));
    };
    Some((keyword, quoted.replace("\\\"", "\"").replace(r"\\", r"\")))
}

fn is(word: &str, other: &str) -> bool {
    word.eq_ignore_ascii_case(other)
}

fn is_yes(value: &str) -> bool {
    is(value, "yes") || is(value, "true")
}

fn is_no(value: &str) -> bool {
    ["no", "off", "false"].iter().any(|no| is(value, no))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_in_options() {
        let text = "# Written by qqmgr\nHost dev\n    Port 2089\n    HostName 127.0.0.1\n    \
                    HostKeyAlias dev\n    LogLevel ERROR\n    ControlMaster auto\n    \
                    ServerAliveInterval 300\n    serveralivecountmax 3\n    User root\n    \
                    IdentityFile \"/a \\\"b\\\\/id\"\n    IdentityFile ~/id\n    \
                    UserKnownHostsFile /dev/null\n    StrictHostKeyChecking no\n    \
                    ForwardAgent no\n    ProxyCommand nc %h %p\n";
        let translated = translate(text, Some(Path::new("/home/u")));
        let expected =
            ["-p", "2089", "-K", "300", "-l", "root", "-i", "/a \"b\\/id", "-i", "/home/u/id"];
        let expected = expected.into_iter().chain(["-y", "-y", "127.0.0.1"]);
        assert_eq!(translated.arguments, expected.map(OsString::from).collect::<Vec<_>>());
        assert_eq!(translated.lost, ["serveralivecountmax", "ProxyCommand"]);
    }

    #[test]
    fn known_hosts_count_where_keys_are_checked() {
        let translate = |text: &str| translate(text, Some(Path::new("/h")));
        let kept = translate("    UserKnownHostsFile /k\n    StrictHostKeyChecking accept-new\n");
        assert_eq!(kept.lost, ["UserKnownHostsFile"]);
        assert_eq!(kept.arguments, ["-y", ""].map(OsString::from));
    }

    #[test]
    fn links_to_dropbear_are_known() {
        for (path, is) in
            [("/usr/bin/dbclient", true), ("/usr/sbin/dropbear", true), ("/usr/bin/ssh", false)]
        {
            assert_eq!(is_dropbear(Path::new(path)), is, "{path}");
        }
    }
}
