//! Rules about the files that QEMU would open: that they are there, and that no two VMs write the
//! same image.

use super::Subject;
use super::findings::{Shared, groups, listed};
use crate::config::Config;
use crate::error::io_reason;
use crate::text::{Problem, Span, did_you_mean, nearest};
use crate::vm::options::{Argument, Pairs};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Each keeps an image from being written.
const READ_ONLY: &[&str] = &["readonly", "read-only", "snapshot"];

/// A file or directory of this host that an argument names.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    /// As written; relative to the configuration's directory.
    path: String,
    is_dir: bool,
    /// Whether the guest may write it.
    written: bool,
}

/// What is not there, but for what qqmgr makes.
pub(super) fn missing(config: &Config, arguments: &[Argument], made: &[PathBuf]) -> Vec<Problem> {
    let is_made = |named: &Named| made.iter().any(|path| path == Path::new(&named.path));
    let others = named(arguments).filter(|(named, _)| !is_made(named));
    let missing = others.filter_map(|(named, word)| {
        let place = config.source.within(word, &named.path);
        problem(config.dir(), &named, place)
    });
    missing.collect()
}

fn problem(dir: &Path, named: &Named, place: Span) -> Option<Problem> {
    let (shown, path) = (&named.path, dir.join(&named.path));
    let what = if named.is_dir { "directory" } else { "file" };
    let error = match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() == named.is_dir => return None,
        Ok(_) => return Some(Problem::new(place, format!("`{shown}` is not a {what}"))),
        Err(error) => error,
    };
    if error.kind() != ErrorKind::NotFound {
        let message = format!("cannot look at the {what} `{shown}`: {}", io_reason(&error));
        return Some(Problem::new(place, message));
    }
    let near = near(&path).map(|name| Path::new(shown).with_file_name(name).display().to_string());
    let message = did_you_mean(&format!("there is no {what} `{shown}`"), near.as_deref());
    let problem = Problem::new(place, message);
    if near.is_some() || path == Path::new(shown) {
        return Some(problem);
    }
    Some(problem.hint(format!("relative paths in `cmd` start from `{}`", dir.display())))
}

/// A file name in the same directory that may be meant.
fn near(path: &Path) -> Option<String> {
    let entries = fs::read_dir(path.parent()?).into_iter().flatten().flatten();
    let names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str)).map(str::to_string)
}

/// Images that several VMs write.
pub(super) fn shared<'a>(config: &Config, subjects: &'a [Subject]) -> Shared<'a> {
    let of_one = |subject: &'a Subject| {
        let written = written(config, &subject.arguments).into_iter();
        written.map(|(image, named, word)| (image, subject.vm.name.as_str(), (named.path, word)))
    };
    let shared = groups(subjects.iter().flat_map(of_one)).map(|(_, group)| {
        let names: Vec<&str> = group.iter().map(|(vm, _)| *vm).collect();
        let (path, word) = &group[1].1;
        let message = format!("{} write the same image, `{path}`", listed(&names));
        let problem = Problem::new(config.source.within(*word, path), message);
        (names, problem.hint("only one of them can run at a time: give each an image of its own"))
    });
    shared.collect()
}

/// The images that a VM writes, by what their paths lead to; none under `-snapshot`.
fn written(config: &Config, arguments: &[Argument]) -> Vec<(PathBuf, Named, Span)> {
    if arguments.iter().any(|argument| argument.name == "snapshot") {
        return Vec::new();
    }
    let images = named(arguments).filter(|(named, _)| named.written);
    let images = images.filter_map(|(named, word)| {
        let path = config.dir().join(&named.path).canonicalize().ok()?;
        let kind = fs::metadata(&path).ok()?.file_type();
        (kind.is_file() || kind.is_block_device()).then_some((path, named, word))
    });
    images.collect()
}

/// What the arguments name, each with its word.
fn named(arguments: &[Argument]) -> impl Iterator<Item = (Named, Span)> {
    arguments.iter().flat_map(|argument| {
        let named = of_argument(argument).into_iter();
        named.map(|named| (named, argument.span))
    })
}

/// By qemu-options.hx.
fn of_argument(argument: &Argument) -> Vec<Named> {
    let value = argument.value.as_str();
    let of = |implied: &str, only: &str, key: &str| {
        let pairs = Pairs::parse(value, implied);
        let is_it = only.is_empty() || pairs.get(implied) == Some(only);
        pairs.get(key).filter(|_| is_it).map(str::to_string)
    };
    let plain = match argument.name.as_str() {
        "" | "hda" | "hdb" | "hdc" | "hdd" | "fda" | "fdb" | "pflash" | "sd" | "mtdblock" => {
            return image(value, true).into_iter().collect();
        }
        "cdrom" => return image(value, false).into_iter().collect(),
        "drive" => return images(&Pairs::parse(value, ""), "file"),
        "blockdev" => return images(&Pairs::parse(value, ""), "filename"),
        "fsdev" | "virtfs" => of("fsdriver", "local", "path"),
        "kernel" | "dtb" => Some(value.to_string()),
        // With a comma it may be the modules of a multiboot kernel.
        "initrd" if !value.contains(',') => Some(value.to_string()),
        // Without a slash it is searched for in QEMU's own directories, too.
        "bios" if value.contains('/') => Some(value.to_string()),
        "device" => of("driver", "loader", "file"),
        "object" => of("qom-type", "secret", "file"),
        "fw_cfg" => of("name", "", "file"),
        "smbios" => of("", "", "file"),
        _ => None,
    };
    let is_dir = ["fsdev", "virtfs"].contains(&argument.name.as_str());
    let plain = plain.filter(|path| !path.is_empty());
    plain.map(|path| Named { path, is_dir, written: false }).into_iter().collect()
}

/// The files of a `-drive` or `-blockdev`, one for each key that names one, the last that is set.
/// In a `-blockdev`, `file` is another node, and no file.
fn images(pairs: &Pairs, own_key: &str) -> Vec<Named> {
    let last: BTreeMap<&str, &str> =
        pairs.0.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let files = last
        .into_iter()
        .filter(|(key, _)| *key == own_key || *key == "filename" || key.ends_with(".filename"));
    files.filter_map(|(key, name)| image(name, is_written(pairs, key))).collect()
}

/// Whether the guest may write the file of this key: a node that is only read says so itself, or
/// where it is used; and so does everything below `backing`.
fn is_written(pairs: &Pairs, key: &str) -> bool {
    let nodes = key.match_indices('.').map(|(dot, _)| &key[..=dot]).chain([""]);
    let only_read =
        nodes.flat_map(|node| READ_ONLY.iter().map(move |flag| format!("{node}{flag}")));
    let is_base = key.split('.').any(|part| part == "backing");
    !is_base
        && pairs.get("media") != Some("cdrom")
        && !only_read.into_iter().any(|key| pairs.is_on(&key))
}

/// The image of that name, if it is a file: what has a colon before the first slash has a protocol
/// (`path_has_protocol` of block.c), of which `file:` is the plain one.
fn image(name: &str, written: bool) -> Option<Named> {
    let path = name.strip_prefix("file:").unwrap_or(name);
    let has_protocol = path.find([':', '/']).is_some_and(|at| path[at..].starts_with(':'));
    let is_file = !has_protocol && !path.is_empty() && !path.starts_with("/dev/fdset/");
    is_file.then(|| Named { path: path.into(), is_dir: false, written })
}
