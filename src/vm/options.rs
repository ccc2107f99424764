//! Parses QEMU's command line as QEMU does: words into options, and the lists of `key=value` in
//! most of their values. Pure; does not know what an option means.

use crate::source::Span;
use crate::words::Word;
use crate::{json, pasted};
use std::ffi::OsStr;

/// The options that take no value: those without `HAS_ARG` in qemu-options.hx of 7.2, and of
/// versions before and after it. Every other option takes the next word, whatever it is
/// (`lookup_opt` of system/vl.c).
const WITHOUT_VALUE: &str = "\
    S alt-grab async-teardown audio-help ctrl-grab curses daemonize enable-fips enable-kvm \
    enable-sync-profile full-screen h help jitdump mem-prealloc no-acpi no-fd-bootchk no-frame \
    no-hpet no-quit no-reboot no-shutdown no-user-config nodefaults nographic old-param \
    one-insn-per-tb only-migratable perfmap portrait preconfig s sdl semihosting show-cursor \
    singlestep snapshot usb version win2k-hack xen-attach xen-domid-restrict";

/// An option with its value, or an operand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    /// The name without dashes; empty for an operand, which is the image of a disk.
    pub(crate) name: String,
    /// The value; empty if there is none.
    pub(crate) value: String,
    /// The keys in the value, in order, each with its value; most options have them.
    pub(crate) pairs: Vec<(String, String)>,
    /// The place of the value, or of the option if it has no value.
    pub(crate) span: Span,
    /// Whether a shell would put something else in place of a part of the value, so that rules
    /// cannot judge it.
    pub(crate) is_expanded: bool,
}

impl Argument {
    pub(crate) fn new(name: String, value: Word) -> Self {
        let pairs = pairs(&value.text, implied(&name));
        let is_expanded = pasted::is_expanded(&value);
        Self { name, value: value.text, pairs, span: value.span, is_expanded }
    }

    /// The value of the key that may be left out, such as the `type` of a network; or empty.
    pub(crate) fn first(&self) -> &str {
        self.get(implied(&self.name)).unwrap_or_default()
    }

    /// The value of a key. The last one counts, as for `qemu_opt_get` of util/qemu-option.c.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| ["on", "yes", "true", "y"].contains(&value))
    }
}

/// The key of a first element without a key; empty if the option has none (`implied_opt_name` in
/// QEMU's source). Options that are no lists have any.
fn implied(option: &str) -> &'static str {
    match option {
        "drive" | "smbios" | "spice" => "",
        "accel" => "accel",
        "blockdev" | "device" => "driver",
        "chardev" => "backend",
        "fsdev" | "virtfs" => "fsdriver",
        "fw_cfg" => "name",
        "mon" => "chardev",
        "object" => "qom-type",
        "vnc" => "vnc",
        _ => "type",
    }
}

/// Parses words into arguments. One dash or two begin a name; a word without a dash is an operand.
pub(crate) fn arguments(words: Vec<Word>) -> Vec<Argument> {
    let mut arguments = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (name, value) = match name(&word.text).map(str::to_string) {
            Some(name) if takes_value(&word.text) => (name, words.next()),
            Some(name) => (name, None),
            None => (String::new(), Some(word.clone())),
        };
        arguments.push(Argument::new(name, value.unwrap_or(Word::plain("", word.span))));
    }
    arguments
}

/// Parses a command line that begins with the program. The places of its words are not known.
pub(crate) fn arguments_of<W: AsRef<OsStr>>(argv: impl IntoIterator<Item = W>) -> Vec<Argument> {
    let word = |word: W| Word::plain(word.as_ref().to_string_lossy(), Span::default());
    arguments(argv.into_iter().skip(1).map(word).collect())
}

/// Whether the word is an option whose value is the next word.
pub(crate) fn takes_value(word: &str) -> bool {
    name(word).is_some_and(|name| WITHOUT_VALUE.split(' ').all(|other| other != name))
}

fn name(word: &str) -> Option<&str> {
    let name = word.strip_prefix('-')?;
    Some(name.strip_prefix('-').unwrap_or(name))
}

/// Parses a value into its keys, in order, each with its value. `implied` is the key of a first
/// element without a key, and empty if the option has none. A JSON object, which some options also
/// accept, gives the members of its inner objects and arrays as `outer.inner`, the keys of the
/// other form.
fn pairs(text: &str, implied: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    if text.starts_with('{') {
        if let Ok(value) = json::parse(text.as_bytes()) {
            flatten(String::new(), value, &mut pairs);
        }
        return pairs;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let implied = Some(implied).filter(|key| pairs.is_empty() && !key.is_empty());
        pairs.push(take_pair(&mut rest, implied));
    }
    pairs
}

/// Takes one pair off the text, like `get_opt_name_value` of util/qemu-option.c: text without a `=`
/// before the next comma is the value of the implied key, or else a key that is on, or off if it
/// begins with `no`.
fn take_pair(rest: &mut &str, implied: Option<&str>) -> (String, String) {
    let end = rest.find(['=', ',']).unwrap_or(rest.len());
    let name = &rest[..end];
    if rest[end..].starts_with('=') {
        *rest = &rest[end + 1..];
        return (name.to_string(), take_value(rest));
    }
    if let Some(key) = implied {
        return (key.to_string(), take_value(rest));
    }
    *rest = rest[end..].strip_prefix(',').unwrap_or_default();
    match name.strip_prefix("no") {
        Some(name) => (name.to_string(), "off".into()),
        None => (name.to_string(), "on".into()),
    }
}

/// Takes a value and the comma after it off the text; two commas in a row are one in the value
/// (`get_opt_value`).
fn take_value(rest: &mut &str) -> String {
    let mut value = String::new();
    while let Some((before, after)) = rest.split_once(',') {
        value.push_str(before);
        *rest = after;
        match after.strip_prefix(',') {
            Some(after) => *rest = after,
            None => return value,
        }
        value.push(',');
    }
    value.push_str(rest);
    *rest = "";
    value
}

fn flatten(key: String, value: json::Value, out: &mut Vec<(String, String)>) {
    use json::Value;
    let members = match value {
        Value::Object(members) => members,
        Value::Array(items) => (0..).map(|at: u32| at.to_string()).zip(items).collect(),
        Value::Bool(on) => return out.push((key, if on { "on" } else { "off" }.into())),
        Value::String(text) | Value::Number(text) => return out.push((key, text)),
        Value::Null => return,
    };
    for (name, value) in members {
        flatten(if key.is_empty() { name } else { format!("{key}.{name}") }, value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<(String, String, usize)> {
        let words = line
            .split(' ')
            .zip(0..)
            .map(|(text, number)| Word::plain(text, Span { start: number, end: number }));
        let arguments = arguments(words.collect()).into_iter();
        arguments.map(|one| (one.name, one.value, one.span.start)).collect()
    }

    #[test]
    fn options_take_the_next_word_or_none() {
        for (line, expected) in [
            ("a.img", &[("", "a.img", 0)][..]),
            ("-m 1G --smp 2", &[("m", "1G", 1), ("smp", "2", 3)]),
            ("-nographic a.img -S", &[("nographic", "", 0), ("", "a.img", 1), ("S", "", 2)]),
            ("-append -serial -serial x", &[("append", "-serial", 1), ("serial", "x", 3)]),
            ("-unknown x -kernel", &[("unknown", "x", 1), ("kernel", "", 2)]),
            ("- x --", &[("", "x", 1), ("", "", 2)]),
        ] {
            let expected =
                expected.iter().map(|(name, value, at)| ((*name).into(), (*value).into(), *at));
            assert_eq!(read(line), expected.collect::<Vec<_>>(), "{line}");
        }
    }

    #[test]
    fn pairs_as_qemu_reads_them() {
        for (text, expected) in [
            ("", &[][..]),
            ("user", &[("type", "user")]),
            ("type=user,id=a", &[("type", "user"), ("id", "a")]),
            ("user,id=a,,b,,,c=d", &[("type", "user"), ("id", "a,b,"), ("c", "d")]),
            ("a,,b", &[("type", "a,b")]),
            ("x=1,snapshot,noreadonly,", &[("x", "1"), ("snapshot", "on"), ("readonly", "off")]),
            ("x==,y=a=b", &[("x", "="), ("y", "a=b")]),
            ("x=,,", &[("x", ",")]),
            (",a=b", &[("type", ""), ("a", "b")]),
            (
                r#"{"a": {"b": "x,y", "c": [1, {"d": true}]}, "e": null, "f": false}"#,
                &[("a.b", "x,y"), ("a.c.0", "1"), ("a.c.1.d", "on"), ("f", "off")],
            ),
            (r#"{"a": "#, &[]),
        ] {
            let found = pairs(text, "type");
            let found: Vec<_> = found.iter().map(|(key, of)| (key.as_str(), of.as_str())).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(pairs("a,b", ""), ["a", "b"].map(|key| (key.into(), "on".into())));
    }

    #[test]
    fn the_last_of_a_key_counts() {
        let [drive] = &arguments_of(["qemu", "-drive", "a=1,a=2,ro=on,ro=off,rw=yes"])[..] else {
            panic!()
        };
        assert_eq!((drive.get("a"), drive.get("b")), (Some("2"), None));
        assert!(!drive.is_on("ro") && drive.is_on("rw") && !drive.is_on("b"));
    }
}
