//! Rules about the files that QEMU would open: they must exist, and no two VMs may write the same
//! image.

use super::findings::{Shared, groups};
use super::images;
use super::subject::Subject;
use crate::config::Config;
use crate::error::io_reason;
use crate::source::{Problem, Span};
use crate::system::files;
use crate::text::{did_you_mean, listed, nearest};
use crate::vm::named::{Named, named};
use crate::vm::options::Argument;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Finds the files that are missing, except those that qqmgr makes.
pub(super) fn missing(subject: &Subject) -> Vec<Problem> {
    let config = subject.config;
    let made = images::paths(config);
    let is_made = |named: &Named| made.iter().any(|path| path == Path::new(&named.path));
    let others = named(&subject.arguments).filter(|(named, _)| !is_made(named));
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
    if shown.contains(['*', '?', '[']) {
        let message = format!("there is no {what} `{shown}`, and nothing replaces it in `cmd`");
        return Some(Problem::new(place, message).hint("write the whole name"));
    }
    let near = near(&path).map(|name| Path::new(shown).with_file_name(name).display().to_string());
    let message = did_you_mean(&format!("there is no {what} `{shown}`"), near.as_deref());
    let problem = Problem::new(place, message);
    if near.is_some() || path == Path::new(shown) {
        return Some(problem);
    }
    Some(problem.hint(format!("relative paths in `cmd` start from `{}`", dir.display())))
}

/// Finds a file name in the same directory that the user probably meant.
fn near(path: &Path) -> Option<String> {
    let names = files::names_in(path.parent()?);
    nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str)).map(str::to_string)
}

/// Finds the images that several VMs write.
pub(super) fn shared<'a>(config: &Config, subjects: &'a [Subject]) -> Shared<'a> {
    let of_one = |subject: &'a Subject| {
        let written = written(config, &subject.arguments).into_iter();
        written.map(|(image, named, word)| (image, subject.vm.name.as_str(), (named.path, word)))
    };
    let shared = groups(subjects.iter().flat_map(of_one)).map(|(_, group)| {
        let names: Vec<&str> = group.iter().map(|(vm, _)| *vm).collect();
        let (path, word) = &group[1].1;
        let message = format!("{} write the same image, `{path}`", listed(&names, "and"));
        let problem = Problem::new(config.source.within(*word, path), message);
        (names, problem.hint("only one of them can run at a time: give each an image of its own"))
    });
    shared.collect()
}

/// The images that a VM writes, by the files that their paths lead to.
fn written(config: &Config, arguments: &[Argument]) -> Vec<(PathBuf, Named, Span)> {
    let images = named(arguments).filter(|(named, _)| named.written);
    let images = images.filter_map(|(named, word)| {
        let path = config.dir().join(&named.path).canonicalize().ok()?;
        let kind = fs::metadata(&path).ok()?.file_type();
        (kind.is_file() || kind.is_block_device()).then_some((path, named, word))
    });
    images.collect()
}
