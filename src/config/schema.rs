//! The keys of qqmgr.toml, in one table, and the walker that checks a file against it. The rows
//! also feed the hints about unknown keys, the list of keys in qqmgr.toml(5) and the comments of
//! `init`.

use super::ssh_keywords::{self, form};
use super::sum::{KINDS, Sum};
use super::values::{AUTO, NONE, is_user_name, name_problem, port, size, wrong_type};
use crate::source::{Problem, Source};
use crate::text::{listed, nearest};
use crate::toml::{self, Kind, Table, Value};

/// A key that has a meaning of its own.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    form: Form,
    /// The value if the file sets none; empty if there is none.
    default: &'static str,
    /// A sentence for a comment on the key, without a full stop.
    about: &'static str,
}

/// The type that a value must have, and its range.
#[derive(Clone, Copy)]
enum Form {
    /// A table with the keys that [`TABLES`] has for it.
    Table,
    /// A table with names of the user's own.
    Names,
    /// A table of command lines with names of the user's own.
    Commands,
    Boolean,
    /// An integer from 0 to this maximum.
    Integer(i64),
    Port,
    SshPort,
    Text,
    /// One string, or a list of strings.
    Texts,
    UserName,
    Checksum,
    Size,
}

use Form::{Boolean, Checksum, Commands, Integer, Names, Size, SshPort, Text, Texts, UserName};

const fn key(name: &'static str, form: Form, default: &'static str, about: &'static str) -> Key {
    Key { name, form, default, about }
}

/// Every table that has keys of its own, by its header.
pub(crate) const TABLES: &[(&str, &[Key])] = &[
    (
        "",
        &[
            key("qemu", Form::Table, "", "The programs that are run"),
            key("vars", Names, "", "Variables: {{.NAME}} in strings; `start --set NAME=VALUE`"),
            key("ssh", Form::Table, "", "Options of ssh_config(5) for every VM"),
            key("img", Names, "", "Disks that are made when a VM needs them"),
            key("vm", Names, "", "The VMs"),
        ],
    ),
    (
        "[qemu]",
        &[
            key("bin", Text, "qemu-system-x86_64", "The QEMU of every VM without its own `qemu`"),
            key("img", Text, "qemu-img", "The program that makes images"),
        ],
    ),
    ("[ssh]", &[]),
    (
        "[img.NAME]",
        &[
            key("base", Text, "", "A file or URL; it is read and never written"),
            key("sha256", Checksum, "", "The checksum of the base"),
            key("sha512", Checksum, "", "A longer checksum of the base"),
            key("size", Size, "", "What the guest sees; the disk can grow, not shrink"),
            key("cloud_init", Form::Table, "", "What cloud-init does when the guest first boots"),
        ],
    ),
    (
        "[img.NAME.cloud_init]",
        &[
            key("user", UserName, "dev", "The guest's user, who may use sudo"),
            key("authorized_keys", Texts, "", "Public keys, in place of a key pair made for it"),
            key("hostname", Text, "", "The guest's name, by default that of the image"),
            key("packages", Texts, "", "Packages to install"),
            key("run", Texts, "", "Commands that root runs at the end of the first boot"),
            key("user_data", Text, "", "A file of your own, in place of all other keys"),
        ],
    ),
    (
        "[vm.NAME]",
        &[
            key("extends", Text, "", "Another VM, which gives all that is not set here"),
            key("qemu", Text, "", "The QEMU of this VM"),
            key("cmd", Texts, "", "QEMU's arguments, split into words as a shell does"),
            key("cmd_append", Texts, "", "More arguments, after those of `cmd`"),
            key("ports", Texts, "", "Ports of this host that lead to the guest: \"8080:80\""),
            key("helpers", Commands, "", "Programs that are started before QEMU and end with it"),
            key("console", Boolean, "false", "Whether `qqmgr console` can type on the serial line"),
            key("gdb", Boolean, "false", "Whether `qqmgr gdb` can debug the guest's kernel"),
            key("boots", Integer(99), "5", "How many serial outputs of earlier boots are kept"),
            key("stop_timeout", Integer(24 * 3600), "20", "Seconds to power off; 0: SIGTERM"),
            key("stop_command", Text, "", "A command on the guest before the power button"),
            key("vars", Names, "", "Variables, as {{.vm.NAME}} in strings"),
            key("ssh", Form::Table, "", "How ssh reaches the guest, and options of ssh_config(5)"),
        ],
    ),
    (
        "[vm.NAME.ssh]",
        &[
            key(
                "port",
                SshPort,
                "",
                "\"auto\": a free port at each start; or a number; or \"none\"",
            ),
            key("vm_port", Form::Port, "22", "Where the guest's ssh server listens"),
        ],
    ),
];

/// The keys of the table with this header.
fn keys(table: &str) -> &'static [Key] {
    TABLES.iter().find(|(header, _)| *header == table).map_or(&[], |(_, keys)| keys)
}

/// The default of a key, as text.
pub(super) fn default(table: &str, name: &str) -> &'static str {
    keys(table).iter().find(|key| key.name == name).map_or("", |key| key.default)
}

/// Replaces `@[TABLE] KEY@` in a text by a comment with what [`TABLES`] says about that key.
pub(crate) fn with_comments(text: &str) -> String {
    let rows = TABLES.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (table, key)));
    rows.fold(text.to_string(), |text, (table, key)| {
        text.replace(&format!("@{table} {}@", key.name), &format!("# {}", key.about))
    })
}

/// The header of a table inside the one with the header `outer`; empty for the top level.
pub(super) fn header(outer: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let is_bare = !name.is_empty() && name.chars().all(bare);
    let name = if is_bare { name.to_string() } else { format!("{name:?}") };
    match outer.strip_suffix(']') {
        Some(outer) => format!("{outer}.{name}]"),
        None => format!("[{name}]"),
    }
}

/// Checks a value that must be a table, and everything in it. `known` is the header in [`TABLES`],
/// and `shown` the one that the file has.
pub(super) fn check(source: &Source, value: &Value, known: &str, shown: &str) -> Vec<Problem> {
    let Kind::Table(table) = &value.kind else {
        let hint = format!("its keys stand below a header `{known}`");
        return vec![wrong_type(value, shown, "a table").hint(hint)];
    };
    check_table(source, table, known, shown)
}

/// Checks everything in a table, as [`check`] does.
pub(super) fn check_table(
    source: &Source,
    table: &Table,
    known: &str,
    shown: &str,
) -> Vec<Problem> {
    let keys = keys(known);
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    let takes_options = known.ends_with("ssh]");
    let mut problems = Vec::new();
    for (key, value) in table.iter() {
        let Some(row) = keys.iter().find(|row| row.name == key.name) else {
            if !takes_options {
                problems.push(unknown(key, value, &names, shown));
            }
            continue;
        };
        match (row.form, &value.kind) {
            (Form::Table, _) => {
                let (known, shown) = (header(known, row.name), header(shown, row.name));
                problems.extend(check(source, value, &known, &shown));
            }
            (Names, Kind::Table(_)) => {}
            (Commands, Kind::Table(commands)) => {
                problems.extend(commands.iter().flat_map(|(key, value)| {
                    let name = name_problem(key, "a helper");
                    name.into_iter().chain(text_faults(source, value, &key.name))
                }));
            }
            (Names | Commands, _) => {
                problems.push(wrong_type(value, &header(shown, row.name), "a table"));
            }
            (Texts, _) => problems.extend(text_faults(source, value, row.name)),
            _ => problems.extend(fault(source, row.form, value, row.name)),
        }
    }
    if takes_options {
        problems.extend(ssh_keywords::check(table, &names, shown));
    }
    problems
}

/// The problems of a value that must be one string, or a list of strings.
fn text_faults(source: &Source, value: &Value, name: &str) -> Vec<Problem> {
    let Kind::Array(items) = &value.kind else {
        return fault(source, Texts, value, name).into_iter().collect();
    };
    let element = format!("an element of `{name}`");
    items.iter().filter_map(|item| fault(source, Text, item, &element)).collect()
}

/// The problem of a key that the table with the header `shown` does not have: it may belong in
/// another one, or be the name of a VM.
fn unknown(key: &toml::Key, value: &Value, names: &[&str], shown: &str) -> Problem {
    let name = key.name.escape_debug();
    let problem = Problem::new(key.span, format!("unknown key `{name}`"));
    let has_it = |(_, keys): &&(&str, &[Key])| keys.iter().any(|row| row.name == key.name);
    let mut homes: Vec<&str> = TABLES[1..].iter().filter(has_it).map(|(table, _)| *table).collect();
    homes.extend(form(&key.name).map(|_| "[vm.NAME.ssh]"));
    if !homes.is_empty() {
        return problem.hint(format!("it belongs in {}", listed(&homes, "or")));
    }
    let hint = match (shown, &value.kind) {
        ("", Kind::Table(_)) => format!("the header of a VM is `{}`", header("[vm]", &key.name)),
        ("", _) => format!("the keys at the top level are `{}`", names.join("`, `")),
        _ => format!("the keys in `{shown}` are `{}`", names.join("`, `")),
    };
    problem.hint(hint).did_you_mean(nearest(&key.name, names.iter().copied()))
}

/// The problem with a value that is not a table, if it has one; `name` is that of its key.
fn fault(source: &Source, form: Form, value: &Value, name: &str) -> Option<Problem> {
    let problem = |message: String| Problem::new(value.span, message);
    match (form, &value.kind) {
        (Boolean, Kind::Boolean(_)) | (Text | Texts, Kind::String(_)) => None,
        (Integer(max), Kind::Integer(number)) => (!(0..=max).contains(number))
            .then(|| problem(format!("`{name}` is {number}, and must be 0 to {max}"))),
        (Form::Port | SshPort, Kind::Integer(number)) => port(*number)
            .is_none()
            .then(|| problem(format!("`{name}` is {number}, and a port is 1 to 65535"))),
        (SshPort, Kind::String(text)) => (text != AUTO && text != NONE).then(|| {
            problem(format!("`{name}` is a string, and must be an integer"))
                .hint(format!("a number has no quotes; `{name} = \"{AUTO}\"` takes a free one"))
        }),
        (UserName, Kind::String(text)) => (!is_user_name(text)).then(|| {
            problem(format!("`{}` cannot be the name of a user", text.escape_debug()))
                .hint("lower-case letters, digits, `_` and `-`, a letter or `_` first")
        }),
        (Checksum, Kind::String(text)) => Sum::of_key(name, text).is_none().then(|| {
            let digits = KINDS.iter().find(|(key, ..)| *key == name).map_or(0, |kind| kind.2);
            let problem = problem(format!("`{name}` is {digits} hexadecimal digits"));
            problem.hint(match Sum::parse(text) {
                Some(other) => format!("a {} belongs in `{}`", other.kind_name(), other.key()),
                None => format!("`{name}sum FILE` prints it"),
            })
        }),
        (Size, Kind::String(_) | Kind::Integer(_)) => size(value).is_none().then(|| {
            problem(format!("invalid value `{}` for `{name}`", source.at(value.span)))
                .hint("a number of bytes, or with a unit, like `\"512M\"` or `\"20G\"`")
        }),
        _ => Some(wrong_type(value, name, form.expected())),
    }
}

impl Form {
    /// The type with its article, for messages.
    fn expected(self) -> &'static str {
        match self {
            Self::Table | Self::Names | Self::Commands => "a table",
            Self::Boolean => "true or false",
            Self::Integer(_) | Self::Port => "an integer",
            Self::SshPort => "an integer or \"auto\" or \"none\"",
            Self::Text | Self::UserName | Self::Checksum => "a string",
            Self::Texts => "a string or an array of strings",
            Self::Size => "a string or an integer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PAGE: &str = include_str!("../../man/qqmgr.toml.5");

    /// The tables, keys and types that qqmgr.toml(5) lists are those of [`TABLES`], and so are the
    /// defaults.
    #[test]
    fn the_man_page_lists_the_keys() {
        let mut listed = BTreeSet::new();
        let mut table = "";
        for line in PAGE.lines() {
            if let Some(header) = line.strip_prefix(".Ss ").or(line.strip_prefix(".Sh ")) {
                table = header;
            }
            let has_keys = TABLES.iter().any(|(header, _)| *header == table);
            if let Some(item) = line.strip_prefix(".It Cm ").filter(|_| has_keys) {
                let (name, text) = item.split_once(" Pq ").unwrap();
                let (kind, rest) = text.split_once(", ").unwrap_or((text, ""));
                let default = rest.strip_prefix("default ").unwrap_or_default();
                let default = default.strip_prefix("Dq ").unwrap_or(default);
                let default =
                    if default.contains(' ') || name == "hostname" { "" } else { default };
                listed.insert(format!("{table} {name}: {kind} {default}"));
            }
        }
        let mut known = BTreeSet::new();
        for (table, key) in
            TABLES.iter().skip(1).flat_map(|(table, keys)| keys.iter().map(move |key| (table, key)))
        {
            let kind = key.form.expected().replace("true or false", "a boolean");
            let kind = kind.replace("a ", "").replace("an ", "").replace("array", "list");
            let kind = kind.replace('"', "\\(dq");
            known.insert(format!("{table} {}: {kind} {}", key.name, key.default));
        }
        assert_eq!(listed, known);
    }

    #[test]
    fn init_writes_comments_of_keys() {
        assert_eq!(
            with_comments("@[vm.NAME.ssh] port@\n@x@"),
            format!("# {}\n@x@", keys("[vm.NAME.ssh]")[0].about)
        );
        for text in
            [include_str!("../commands/init.toml"), include_str!("../commands/init-image.toml")]
        {
            let left = with_comments(text)
                .replace("@BASE@", "")
                .replace("@SUM@", "")
                .replace("@SIZE@", "");
            assert!(!left.contains('@'), "{left}");
        }
    }
}
