//! Names of commands and flags: ours, those that other tools have for them, and near ones.

use super::spec::{Command, Table};
use crate::error::Error;
use crate::text::{command_line, nearest};
use std::ffi::OsString;

/// Names that other tools have for a command, and ours for it.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("create new add define", "`qqmgr init` writes a `qqmgr.toml`, with a VM in it"),
    ("delete undefine", "a VM is removed from `qqmgr.toml`; `qqmgr img rm` removes an image"),
    ("destroy kill", "`qqmgr stop --force VM` ends a VM, `qqmgr img rm IMAGE` removes its disk"),
    ("down halt shutdown poweroff", "`qqmgr stop VM` powers a VM off"),
    ("edit config", "VMs are tables of `qqmgr.toml`; `qqmgr check` finds mistakes in it"),
    ("exec", "`qqmgr ssh VM COMMAND` runs a command on a guest"),
    ("image images disk", "`qqmgr img list` lists the images"),
    ("info show inspect", "`qqmgr status VM` shows the state of a VM"),
    ("logs tail", "`qqmgr serial VM` shows what the guest wrote, `qqmgr log VM` what QEMU said"),
    ("ls", "`qqmgr list` lists the VMs, `qqmgr img list` the images"),
    ("port ports", "`qqmgr forward VM` lists the ports that lead to a guest"),
    ("ps", "`qqmgr list --running` lists the running VMs"),
    (
        "cp scp copy push pull",
        "`qqmgr put VM LOCAL REMOTE` and `qqmgr get VM REMOTE LOCAL` copy files",
    ),
    ("reboot", "`qqmgr restart VM` stops and starts a VM, `qqmgr reset VM` resets its guest"),
    (
        "restore revert load save",
        "`qqmgr snapshot save VM` and `qqmgr snapshot load VM TAG` do that",
    ),
    ("rm", "`qqmgr img rm IMAGE` removes an image; a VM is removed from `qqmgr.toml`"),
    ("shell", "`qqmgr ssh VM` opens a shell on a guest"),
    ("suspend", "`qqmgr pause VM` stops the CPUs of a VM until `qqmgr resume VM`"),
    ("top", "`qqmgr stats --all --watch` shows what VMs use"),
    ("up boot", "`qqmgr start VM` starts a VM"),
    ("version", "`qqmgr --version` shows the version"),
];

/// Flags that other tools have, the commands that people give them to, and ours for them.
pub(super) const OTHER_FLAGS: &[(&str, &str, &str)] = &[
    ("-1 -2 -3 -4 -5 -6 -7 -8 -9 --tail", "log serial", "`-n LINES` is for the last lines"),
    ("-9 -f --hard --kill --now", "restart stop", "`--force` ends QEMU at once"),
    ("-a", "powerdown restart run start stats status stop wait", "`--all` is for all VMs"),
    ("-a -l --all --long", "list", "`qqmgr list` lists all VMs of a configuration without a flag"),
    (
        "-b -d --background --daemon --detach",
        "restart start",
        "`qqmgr start VM` leaves QEMU in the background without a flag",
    ),
    ("-f --force", "img snapshot", "`--yes` does not ask"),
    ("-i --interactive --tty", "run", "`--terminal` gives the command a terminal"),
    ("-o --format --output", "check list stats status wait", "`--json` is for scripts"),
    ("-r -R --recursive", "get put", "directories are copied without a flag"),
    ("-t", "restart start stop wait", "`--timeout SECONDS` is the limit"),
    ("-w", "restart start", "`--wait` waits until the guest is usable"),
    ("-w --watch", "list status", "`qqmgr stats --all --watch` shows what VMs use"),
    ("--command", "ssh", "`qqmgr ssh VM COMMAND` runs a command on a guest"),
    (
        "-m --cpus --headless --memory --nographic --ram --smp",
        "restart start",
        "ARGS for QEMU follow `--`, as in `qqmgr start VM -- -m 4G`",
    ),
    ("--rm", "run", "the VM stops at the end of `run`, unless `--keep` is given"),
];

/// Whether the words, which blanks separate, have this one.
fn has(words: &str, word: &str) -> bool {
    words.split(' ').any(|other| other == word)
}

/// The hint for a flag of other tools, spelled with its dashes.
pub(super) fn other_flag(command: &str, spelled: &str) -> Option<&'static str> {
    let mut rows = OTHER_FLAGS.iter();
    rows.find(|(flags, commands, _)| has(flags, spelled) && has(commands, command))
        .map(|(_, _, hint)| *hint)
}

/// The hint for a command that other tools call `name`.
fn other_name(name: &str) -> Option<&'static str> {
    OTHER_NAMES.iter().find(|(names, _)| has(names, name)).map(|(_, hint)| *hint)
}

/// The command line with the VM after the command, if they stand the other way round.
pub(super) fn swapped(commands: Table, argv: &[OsString]) -> Option<String> {
    let [vm, command, rest @ ..] = argv else { return None };
    let (_, command) = commands.iter().find(|(_, known)| *command == *known.name)?;
    vm.to_str().filter(|vm| !vm.starts_with('-') && other_name(vm).is_none())?;
    let words = [std::slice::from_ref(vm), rest].concat();
    let form = || format!("{} {}", command.name, command_line(&words));
    Some((command.right_form)(&words).unwrap_or_else(form))
}

/// Finds the command of that name.
pub(crate) fn find_command(commands: Table, name: &str) -> Result<&'static Command, Error> {
    let mut all = commands.iter().map(|(_, command)| *command);
    all.find(|command| command.name == name).ok_or_else(|| {
        let other = other_name(name);
        let near = nearest(name, commands.iter().map(|(_, command)| command.name));
        Error::usage(format!("unknown command `{name}`"))
            .hint(other.unwrap_or("`qqmgr help` lists the commands"))
            .did_you_mean(near.filter(|_| other.is_none()))
    })
}
