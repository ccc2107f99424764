//! `qqmgr complete SHELL WORD...`: prints what may come next on a command line. The scripts of
//! `completions` call it, and no help lists it.
//!
//! Each line is a word, followed by a tab and its meaning. The command reads the configuration and
//! the headers of disks, and asks QEMU only for the ports that it forwards. It runs no program, and
//! prints nothing on an error.

use super::start::plan::{Inputs, StartOptions};
use super::target::Target;
use crate::cli::Args;
use crate::cli::complete::bash::Line;
use crate::cli::complete::{FILES, Place, place};
use crate::cli::spec::Table;
use crate::config::{Choices, Config, Resolver, Vm};
use crate::log::Log;
use crate::out;
use crate::system::files;
use crate::vm::forward::Forward;
use crate::vm::named::images;
use crate::vm::options::arguments_of;
use crate::vm::qmp::Qmp;
use crate::vm::snapshot::Part;
use crate::vm::usernet::{QUESTION, networks};
use crate::vm::{Look, format};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(crate) const NAME: &str = "complete";

/// The line that asks the shell to complete file names. Three lines follow: the part of the word
/// before the name, the part of the whole word that the shell keeps, and the typed part.
const COMPLETE_FILES: &str = "\tfiles";

/// How long QEMU may take to answer. It serves one client at a time.
const PATIENCE: Duration = Duration::from_millis(300);

/// A word that is offered, and its meaning.
type Offered = (Vec<u8>, &'static str);

/// Prints the completions. Bash passes `COMP_WORDBREAKS` and the line up to the cursor, and gets
/// words that are quoted. The other shells pass the words without quotes, and filter and quote by
/// themselves.
pub(crate) fn run(table: Table, words: &[OsString]) -> ExitCode {
    let lines = match words {
        [shell, breaks, line] if shell == "bash" => bash(table, breaks.as_bytes(), line.as_bytes()),
        [shell, before @ .., current] if shell != "bash" => {
            offer(table, before, current).map(|offer| {
                let Offer { words, prefix, files } = offer;
                if files { files_lines([&prefix, b"", b""]) } else { lines_of(words) }
            })
        }
        _ => None,
    };
    // If the reader is gone, there is nothing to report.
    let _ = lines.map(|lines| out::write(&lines));
    ExitCode::SUCCESS
}

fn bash(table: Table, breaks: &[u8], line: &[u8]) -> Option<Vec<u8>> {
    let line = Line::read(line, breaks);
    let before = line.before.get(1..)?;
    let Offer { words, prefix, files } = offer(table, before, OsStr::from_bytes(&line.current))?;
    if files {
        let typed = line.current.get(prefix.len()..)?;
        return Some(files_lines([&prefix, &line.current[..line.kept], typed]));
    }
    let inserted = words.into_iter().filter_map(|(word, help)| Some((line.insert(&word)?, help)));
    Some(lines_of(inserted.collect()))
}

/// Formats the words. A word with a control character is left out: it cannot be typed, and could be
/// made to look like another one.
fn lines_of(words: Vec<Offered>) -> Vec<u8> {
    let plain = |(word, _): &Offered| !word.iter().any(u8::is_ascii_control);
    let lines = words.into_iter().filter(plain).map(|(word, help)| match help {
        "" => [&word[..], b"\n"].concat(),
        _ => [&word[..], b"\t", help.as_bytes(), b"\n"].concat(),
    });
    lines.flatten().collect()
}

fn files_lines(lines: [&[u8]; 3]) -> Vec<u8> {
    if lines.concat().iter().any(u8::is_ascii_control) {
        return Vec::new();
    }
    [COMPLETE_FILES.as_bytes(), lines[0], lines[1], lines[2], b""].join(&b'\n')
}

/// The words that are offered at a place, each with its prefix.
struct Offer {
    words: Vec<Offered>,
    prefix: Vec<u8>,
    files: bool,
}

fn offer(table: Table, before: &[OsString], current: &OsStr) -> Option<Offer> {
    let place = place(table, before.to_vec(), current)?;
    let prefix = place.prefix.as_bytes().to_vec();
    let named = |names: Vec<String>, help| {
        let others = |name: &String| !place.operands.iter().any(|operand| operand == &**name);
        names.into_iter().filter(others).map(|name| (name, help)).collect()
    };
    let words: Vec<(String, &'static str)> = match place.name {
        "VM" => named(config(&place)?.vms.iter().map(|vm| vm.name.clone()).collect(), "VM"),
        "IMAGE" => named(config(&place)?.images().map(|it| it.name.clone()).collect(), "image"),
        "TAG" => named(tags(&place)?, "snapshot"),
        "HELPER" => named(of_vms(&place, |vm| vm.helper_names().into_iter().collect())?, "helper"),
        "NAME=VALUE" => named(
            of_vms(&place, |vm| vm.settable().iter().map(|name| format!("{name}=")).collect())?,
            "variable",
        ),
        // Ports that are forwarded already cannot be added.
        "PORT" => named(forwards(&place, before)?, "forwarded port"),
        _ => place.words.clone(),
    };
    let files = FILES.contains(&place.name);
    let words = words.into_iter().map(|(word, help)| ([&prefix, word.as_bytes()].concat(), help));
    Some(Offer { words: words.collect(), files, prefix })
}

/// The configuration that the line names, as far as it is valid.
fn config(place: &Place) -> Option<Config> {
    let at_home = |file: &PathBuf| files::path_from(Path::new(""), file.to_str()?);
    let file = place.config.as_ref().map(|file| at_home(file).unwrap_or_else(|| file.clone()));
    Config::load_silently(file.as_deref()).ok()
}

/// The names that the VM on the line has, or all VMs if the line has none yet. They are sorted.
fn of_vms(place: &Place, names: fn(&Resolver) -> BTreeSet<String>) -> Option<Vec<String>> {
    let config = config(place)?;
    let is_meant = |vm: &&Vm| place.operands.first().is_none_or(|name| *name == *vm.name);
    let of_vm = |vm| names(&Resolver::new(&config, vm, Choices::default()));
    let names: BTreeSet<_> = config.vms.iter().filter(is_meant).flat_map(of_vm).collect();
    Some(names.into_iter().collect())
}

/// The ports that the VM on the line forwards, for `--remove`.
fn forwards(place: &Place, before: &[OsString]) -> Option<Vec<String>> {
    let (config, args, log) = (config(place)?, Args::default(), Log::new(false));
    let name = place.operands.first().filter(|_| before.iter().any(|word| word == "--remove"))?;
    let target = Target::new(&config, &args, name.to_str()?, log).ok()?;
    Look::by_files(&target.paths).ok()?.running_record().ok()??;
    let (socket, until) =
        (target.paths.reachable(&target.paths.ctl).ok()?, Instant::now() + PATIENCE);
    let said = Qmp::open(&socket, until, &target.log).ok()?.monitor(QUESTION, until).ok()?;
    Some(networks(&said).iter().flat_map(|network| &network.forwards).map(Forward::text).collect())
}

/// The tags of the VM on the line, if the action of `snapshot`, or `--from`, needs one that exists.
fn tags(place: &Place) -> Option<Vec<String>> {
    let vm = match place.operands.as_slice() {
        [vm] => vm,
        [action, vm] if action == "load" || action == "delete" => vm,
        _ => return None,
    };
    let name = vm.to_str()?;
    let (config, args) = (config(place)?, Args::default());
    let target = Target::new(&config, &args, name, Log::new(false)).ok()?;
    let recorded = Look::by_files(&target.paths).and_then(Look::running_record).ok().flatten();
    let arguments = if let Some(instance) = recorded {
        instance.arguments()
    } else {
        let inputs = Inputs::new(&target, StartOptions::default()).ok()?;
        arguments_of(inputs.own_argv().ok()?)
    };
    let mut tags: Vec<String> = Vec::new();
    for (image, _) in images(&arguments) {
        let file = image.file().filter(|_| image.written).map(|file| config.dir().join(file));
        let parts = file.and_then(|file| Part::in_image(&file, &format::disk(&file)?));
        for Part { tag, .. } in parts.unwrap_or_default() {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
    Some(tags)
}
