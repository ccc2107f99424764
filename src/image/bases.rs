//! The place of fetched bases. A disk needs its base for as long as it lives, so a base is data: it
//! is in `$XDG_DATA_HOME/qqmgr`, with a checksum as its name. Versions before 0.2.0 kept bases in
//! `$XDG_CACHE_HOME/qqmgr`. The first suitable program that is installed computes checksums.

use super::context::{Context, reason};
use crate::config::sum::Sum;
use crate::error::Error;
use crate::system::files;
use crate::system::programs::{self, Program};
use crate::text::fingerprint;
use crate::vm::format::check_kind;
use std::fs::File;
use std::path::{Path, PathBuf};

const DATA: (&str, &str) = ("XDG_DATA_HOME", ".local/share");
const CACHE: (&str, &str) = ("XDG_CACHE_HOME", ".cache");
/// The programs that compute a sum of their standard input, with arguments, by the key of the sum.
const SUMS: &[(&str, Program, &[&str])] = &[
    ("sha256", programs::SHA256SUM, &[]),
    ("sha256", programs::SHASUM, &["-a", "256"]),
    ("sha256", programs::OPENSSL, &["dgst", "-sha256", "-r"]),
    ("sha512", programs::SHA512SUM, &[]),
    ("sha512", programs::SHASUM, &["-a", "512"]),
    ("sha512", programs::OPENSSL, &["dgst", "-sha512", "-r"]),
];

/// The directory of qqmgr in the one that the variable names, or in `default` below the home.
fn dir_of((variable, default): (&str, &str)) -> Option<PathBuf> {
    let dir = files::directory_in(variable).or_else(|| Some(files::home()?.join(default)))?;
    Some(dir.join("qqmgr"))
}

/// The directory of the bases, which may not exist.
pub(super) fn path() -> Option<PathBuf> {
    let dir = dir_of(DATA)?;
    Some(dir.canonicalize().unwrap_or(dir))
}

/// The directory of the bases, made if it is missing. It may be the user's link to a larger disk.
pub(super) fn dir() -> Result<PathBuf, Error> {
    let dir = dir_of(DATA).ok_or_else(|| {
        Error::failed("there is no directory for fetched images")
            .hint("set `HOME` or `XDG_DATA_HOME`")
    })?;
    files::own_dir(&dir)
}

/// The path that a base has in the cache of an old version.
pub(super) fn in_cache(sum: &Sum) -> Option<PathBuf> {
    Some(dir_of(CACHE)?.join(sum.digits()))
}

/// The name by which a URL is known among the bases.
pub(super) fn name_of(url: &str) -> String {
    format!("url-{}", fingerprint(url.as_bytes()))
}

/// Makes a link that leads from a URL to its base, so that the URL is not fetched again.
pub(crate) fn remember(url: &str, base: &Path) -> Result<(), Error> {
    let link = dir()?.join(name_of(url));
    files::remove(&link)?;
    files::symlink(base.file_name().unwrap_or_default().as_ref(), &link)
}

/// The checksum of the base to which the link of a URL leads.
pub(super) fn linked(link: &Path) -> Option<Sum> {
    let target = link.read_link().ok()?;
    sum_of(&target).filter(|sum| target == Path::new(sum.digits()))
}

/// The checksum of a fetched base, which is its name.
pub(super) fn sum_of(base: &Path) -> Option<Sum> {
    let name = base.file_name()?.to_str()?;
    Sum::parse(name).filter(|sum| sum.digits() == name)
}

/// The name that a disk in the directory `disks` has for its base: relative to the disk if both are
/// in the project, which can then be moved as a whole.
pub(super) fn name_from(disks: &Path, project: &Path, base: &Path) -> PathBuf {
    let relative = || {
        let (disks, project) = (disks.canonicalize().ok()?, project.canonicalize().ok()?);
        let below = real(base).strip_prefix(&project).ok()?.to_path_buf();
        let up = disks.strip_prefix(&project).ok()?.components();
        Some(up.map(|_| Path::new("..")).collect::<PathBuf>().join(below))
    };
    relative().unwrap_or_else(|| base.to_path_buf())
}

/// The base that a disk in the directory `disks` has by this name.
pub(super) fn named(disks: &Path, name: &str) -> PathBuf {
    if name.starts_with('/') { name.into() } else { real(&disks.join(name)) }
}

/// The path without links and `..` before its last component.
fn real(path: &Path) -> PathBuf {
    let dir = path.parent().and_then(|dir| dir.canonicalize().ok());
    let real = dir.zip(path.file_name()).map(|(dir, name)| dir.join(name));
    real.unwrap_or_else(|| path.to_path_buf())
}

/// Whether the disk's header must be changed to where this base is now: it names a base in the
/// cache, or one that is gone and may be elsewhere.
pub(super) fn must_move(base: &Path) -> bool {
    let cached = sum_of(base).as_ref().and_then(in_cache);
    cached.is_some_and(|cached| real(base) == real(&cached) || !base.exists())
}

/// Returns an error unless the file has these sums. A wrong base is renamed, so that a user can
/// look at it, and no command takes it for the right base.
pub(crate) fn verify(context: &Context, file: &Path, sums: &[Sum]) -> Result<(), Error> {
    for expected in sums {
        let found = sum(context, file, expected.key())?;
        if found == *expected {
            continue;
        }
        let (kind, expected, key) = (expected.kind_name(), expected.digits(), expected.key());
        let message = |file: &Path| {
            let (file, found) = (file.display(), found.digits());
            format!("`{file}` has the {kind} {found}, and not {expected}")
        };
        if path().is_some_and(|dir| file.parent() == Some(&dir)) {
            let aside = file.with_extension("wrong");
            files::put_in_place(file, &aside)?;
            return Err(Error::failed(message(&aside)).hint(format!(
                "the file is kept aside; if it is the publisher's new one, take its new `{key}`"
            )));
        }
        return Err(Error::failed(message(file)).hint(format!("`{key}` says what it should have")));
    }
    Ok(())
}

pub(super) fn has_sum(context: &Context, file: &Path, expected: &Sum) -> bool {
    sum(context, file, expected.key()).is_ok_and(|sum| sum == *expected)
}

/// The sum of a file, of the kind that this key is for.
pub(super) fn sum(context: &Context, file: &Path, key: &str) -> Result<Sum, Error> {
    let mut of_kind = SUMS.iter().filter(|(of, ..)| *of == key);
    let found = of_kind.find(|(_, program, _)| program.find().is_some());
    let (_, program, arguments) = found.ok_or_else(|| {
        Error::failed(format!("none of `{key}sum`, `shasum` and `openssl` is installed"))
            .hint("install one (Debian: coreutils)")
    })?;
    check_kind(file)?;
    let opened = File::open(file).map_err(|error| Error::io("read", file, &error))?;
    let mut command = program.command();
    command.args(*arguments).stdin(opened);
    context.log.progress(|| format!("verifying {}", file.display()));
    // Its input is the file, and not the lock.
    let output = command.captured(&mut || (context.exceeded)(), context.log);
    context.log.end_progress();
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digits: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
    Sum::of_key(key, &digits).filter(|_| output.status.success()).ok_or_else(|| {
        let (file, reason) = (file.display(), reason(&output));
        Error::failed(format!("cannot tell the `{key}` of `{file}`: {reason}"))
    })
}
