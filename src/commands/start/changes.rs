//! The differences between what a VM runs with and what it would be started with now.

use crate::config::SshPort;
use crate::json::Value;
use crate::text::{command_line, texts};
use crate::vm::Instance;
use crate::vm::argv::Features;
use crate::vm::helper::Helper;
use crate::vm::options::takes_value;
use std::ffi::OsString;
use std::fmt;

/// How the text of a helper begins, before its name.
const HELPER: &str = "helper ";

/// Something that a restart would change: the running value, and the configured one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) running: Option<String>,
    pub(crate) configured: Option<String>,
}

impl Change {
    /// Pairs the options that only one side has by their names.
    pub(crate) fn between(mut running: Vec<String>, mut configured: Vec<String>) -> Vec<Self> {
        running.retain(|option| match configured.iter().position(|other| other == option) {
            Some(same) => {
                configured.remove(same);
                false
            }
            None => true,
        });
        let mut changes = Vec::new();
        for option in running {
            let same_name = |other: &String| name(other) == name(&option);
            let configured = configured.iter().position(same_name).map(|at| configured.remove(at));
            changes.push(Self { running: Some(option), configured });
        }
        let added = configured.into_iter();
        changes.extend(added.map(|option| Self { running: None, configured: Some(option) }));
        changes
    }

    pub(crate) fn json(&self) -> Value {
        Value::object([
            ("running", Value::from(self.running.as_deref())),
            ("configured", self.configured.as_deref().into()),
        ])
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.running, &self.configured) {
            (Some(running), Some(configured)) => {
                write!(f, "running with `{running}`, configured `{configured}`")
            }
            (Some(running), None) => write!(f, "running with `{running}`, which is not configured"),
            (None, configured) => {
                let configured = configured.as_deref().unwrap_or_default();
                write!(f, "running without `{configured}`, which is configured")
            }
        }?;
        f.write_str(": restart to apply")
    }
}

/// Finds what a restart would change. Options are compared as a whole, `-m 2048`; an option that is
/// on both sides is no change, wherever it is.
pub(crate) fn changes(
    instance: &Instance,
    own_argv: &[OsString],
    helpers: &[Helper],
    ssh_port: Option<u16>,
    features: Features,
) -> Vec<Change> {
    let (mut running, mut configured) = (options(instance.own_argv()), options(&texts(own_argv)));
    running.push(format!("ssh port {}", SshPort::of_start(instance.ssh_port)));
    configured.push(format!("ssh port {}", SshPort::of_start(ssh_port)));
    running.extend(instance.helpers.iter().map(|it| helper(&it.name, &command_line(&it.argv))));
    configured.extend(helpers.iter().map(|it| helper(&it.name, &command_line(&it.argv))));
    let features_then = Features::of(&instance.argv[instance.own_argv().len()..]);
    running.extend(features_then.keys().into_iter().map(String::from));
    configured.extend(features.keys().into_iter().map(String::from));
    Change::between(running, configured)
}

/// The program, and each option with its value, quoted for a shell.
pub(crate) fn options(argv: &[String]) -> Vec<String> {
    let (mut options, mut words) = (Vec::new(), argv.iter());
    while let Some(word) = words.next() {
        let value = if takes_value(word) { words.next() } else { None };
        options.push(command_line(std::iter::once(word).chain(value)));
    }
    options
}

fn helper(name: &str, line: &str) -> String {
    format!("{HELPER}{name}: {line}")
}

fn name(option: &str) -> &str {
    if let Some(rest) = option.strip_prefix(HELPER) {
        return rest.split(':').next().unwrap_or_default();
    }
    let name = option.split(' ').next().unwrap_or_default();
    // Programs and images have no name of their own.
    if name.starts_with('-') || ["ssh", "console", "gdb"].contains(&name) { name } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_options_are_told_in_pairs() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let argv = words("qemu -m 2048 -nographic -smp 2 disk.img -drive a -drive b");
        let own_words = argv.len();
        let instance = Instance { ssh_port: Some(2222), argv, own_words, ..Instance::default() };
        let changes_to = |text: &str, port| -> Vec<String> {
            let argv: Vec<OsString> = words(text).into_iter().map(OsString::from).collect();
            let shown = |side: Option<String>| side.unwrap_or("-".into());
            let changes =
                changes(&instance, &argv, &[], Some(port), Features::default()).into_iter();
            changes.map(|c| format!("{} / {}", shown(c.running), shown(c.configured))).collect()
        };
        let none: [&str; 0] = [];
        let same = "qemu -m 2048 -nographic -smp 2 disk.img -drive a -drive b";
        assert_eq!(changes_to(same, 2222), none);
        assert_eq!(changes_to(same, 2223), ["ssh port 2222 / ssh port 2223"]);
        assert_eq!(
            changes_to("qemu2 -m 4096 -smp 2 disk.img -drive b -drive c -cpu max", 2222),
            [
                "qemu / qemu2",
                "-m 2048 / -m 4096",
                "-nographic / -",
                "-drive a / -drive c",
                "- / -cpu max"
            ]
        );
    }
}
