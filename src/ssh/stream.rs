//! TRUSTED CORE: copies as a tar stream through ssh, for guests without an sftp server. Writes
//! local files: only below the directory that the user named.
//!
//! Files arrive under their new name by a rename, so that an interrupted copy leaves no half file
//! under it. A directory that is there already is copied into, as `scp -r` does.

use super::Guest;
use super::copy::{Copy, is_pattern, local};
use super::run::{capture, pipe};
use crate::error::Error;
use crate::programs;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// `$1` is where to, `$2` the name within the stream, `$3` how many sources there are.
const PUT: &str = r#"
if [ -d "$1" ]; then exec tar -xof - -C "$1"; fi
if [ "$3" != 1 ] || [ "${1%/}" != "$1" ]; then echo "$1: no such directory" >&2; exit 1; fi
part=$1.part.$$
mkdir "$part" || exit
tar -xof - -C "$part" && mv -f "$part/$2" "$1"
status=$?
rm -rf "$part"
exit $status
"#;
/// `$1` is the path. Links are followed, as `scp -r` does.
const GET: &str = r#"
if [ ! -e "$1" ] && [ ! -L "$1" ]; then echo "$1: No such file or directory" >&2; exit 1; fi
dir=$(dirname "$1") && name=$(basename "$1") && cd "$dir" || exit
# Files of the kernel do not tell their size, and tar believes what they tell.
if [ -f "./$name" ] && case $(pwd -P)/ in /proc/*|/sys/*) :;; *) false;; esac; then
    copy=$(mktemp -d) && cat "./$name" >"$copy/$name" && tar -cf - -C "$copy" "./$name"
    status=$?
    rm -rf "$copy"
    exit $status
fi
exec tar -chf - "./$name"
"#;
/// The pattern is pasted behind it: the names that it matches, NUL after each.
const MATCHES: &str = r"printf '%s\0' ";

pub(super) fn copy(guest: &Guest, copy: &Copy) -> Result<(), Error> {
    match copy {
        Copy::Put { from, to } => {
            let count = from.len().to_string();
            from.iter().try_for_each(|path| put(guest, path, to, &count))
        }
        Copy::Get { from, to } => {
            let mut sources = Vec::new();
            for path in from {
                sources.extend(expanded(guest, path)?);
            }
            if sources.len() > 1 && !to.is_dir() {
                let message = format!("`{}` is no directory", to.display());
                return Err(Error::failed(message).hint("several files need one to go to"));
            }
            sources.iter().try_for_each(|path| get(guest, path, to))
        }
    }
}

fn put(guest: &Guest, from: &Path, to: &OsStr, count: &str) -> Result<(), Error> {
    let found = from.canonicalize().map_err(|error| Error::io("read", from, &error))?;
    // A link is copied as what it leads to, under its own name.
    let name = from.file_name().or_else(|| found.file_name()).unwrap_or(OsStr::new("."));
    let mut tar = programs::TAR.command();
    tar.arg("-chf").arg("-").arg("-C");
    tar.arg(if from.file_name().is_some() { parent(from) } else { parent(&found) });
    tar.arg(Path::new(".").join(name));
    let to = home_relative(to);
    let remote = remote_script(PUT, &[&to, name, OsStr::new(count)]);
    pipe(tar, guest.ssh(&[remote]), &guest.limits, &guest.log)
}

fn get(guest: &Guest, from: &OsStr, to: &Path) -> Result<(), Error> {
    let name = Path::new(from).file_name();
    let into = |dir: &Path| {
        let mut tar = programs::TAR.command();
        // Neither its owners nor its set-user-ID bits are the guest's to choose.
        tar.args(["--no-same-owner", "--no-same-permissions", "-xf", "-", "-C"]).arg(dir);
        let remote = remote_script(GET, &[&home_relative(from)]);
        pipe(guest.ssh(&[remote]), tar, &guest.limits, &guest.log)
    };
    let (true, Some(name)) = (!to.is_dir(), name) else {
        return into(&local(to));
    };
    let mut part = local(to).into_os_string();
    part.push(format!(".part.{}", std::process::id()));
    let part = PathBuf::from(part);
    std::fs::create_dir(&part).map_err(|error| Error::io("create", &part, &error))?;
    let result = into(&part).and_then(|()| {
        std::fs::rename(part.join(name), to).map_err(|error| Error::io("write", to, &error))
    });
    let removed = std::fs::remove_dir_all(&part);
    result.and_then(|()| removed.map_err(|error| Error::io("remove", &part, &error)))
}

/// The names that a pattern matches on the guest, or the name itself.
fn expanded(guest: &Guest, path: &OsStr) -> Result<Vec<OsString>, Error> {
    if !is_pattern(path) {
        return Ok(vec![path.to_os_string()]);
    }
    let mut script = OsString::from(MATCHES);
    script.push(quoted(&home_relative(path), true));
    let mut ssh = guest.ssh(&[remote_script_os(&script, &[])]);
    ssh.stdin(Stdio::null());
    let output = capture(ssh, &guest.limits, &guest.log)?;
    if output.exit_code != Some(0) {
        return Err(Error::failed(format!("cannot list the guest's files: {}", output.said())));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
}

/// The directory that a path's last part lies in.
fn parent(path: &Path) -> PathBuf {
    local(path.parent().unwrap_or(Path::new(".")))
}

/// `~/x` is `x`: ssh's commands start in the home directory, and quotes would keep the `~`. A
/// leading dash gets `./` in front, so that no program takes it for an option.
fn home_relative(path: &OsStr) -> OsString {
    match path.as_bytes() {
        b"" | b"~" | b"~/" => OsString::from("."),
        [b'-', ..] => Path::new(".").join(path).into_os_string(),
        bytes => OsStr::from_bytes(bytes.strip_prefix(b"~/").unwrap_or(bytes)).to_os_string(),
    }
}

fn remote_script(script: &str, arguments: &[&OsStr]) -> OsString {
    remote_script_os(OsStr::new(script), arguments)
}

/// `exec sh -c SCRIPT sh ARGUMENTS...`, whatever the user's login shell is.
fn remote_script_os(script: &OsStr, arguments: &[&OsStr]) -> OsString {
    let mut line = OsString::from("exec sh -c ");
    line.push(quoted(script, false));
    line.push(" sh");
    for argument in arguments {
        line.push(" ");
        line.push(quoted(argument, false));
    }
    line
}

/// In single quotes; with `patterns`, all but `*`, `?` and what brackets need.
pub(super) fn quoted(text: &OsStr, patterns: bool) -> OsString {
    let mut out = b"'".to_vec();
    for byte in text.as_bytes() {
        match byte {
            b'\'' => out.extend_from_slice(br"'\''"),
            b'*' | b'?' | b'[' | b']' | b'-' | b'!' if patterns => {
                out.extend_from_slice(&[b'\'', *byte, b'\'']);
            }
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_for_the_remote_shell() {
        let quote = |text: &str, patterns| quoted(OsStr::new(text), patterns);
        assert_eq!(quote("it's *", false), r"'it'\''s *'");
        assert_eq!(quote("a b[0-9]*", true), "'a b'['0'-'9']''*''");
    }

    #[test]
    fn names_from_the_home_directory() {
        for (path, expected) in
            [("~/a", "a"), ("~", "."), ("", "."), ("/a", "/a"), ("~b", "~b"), ("-a", "./-a")]
        {
            assert_eq!(home_relative(OsStr::new(path)), expected);
        }
    }
}
