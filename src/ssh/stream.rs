//! Copies as a tar stream through ssh, for guests without an sftp server, and for trees with links
//! that sftp does not follow: the programs on both sides, and the scripts that run them on the
//! guest.
//!
//! On the guest, files get their new name by a rename, so that an interrupted copy leaves no half
//! file under it. An existing directory is copied into, as `scp -r` does.

use super::departures::last_part;
use super::guest::{Guest, OWN};
use super::run::{MARK, Output, capture, pipe};
use crate::error::Error;
use crate::left_out::LeftOut;
use crate::system::programs;
use crate::system::run::Invocation;
use crate::text::{command_line, quoted, sanitized};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// `$1` is the destination, `$2` the name in the stream, or `.`, `$3` the number of sources.
const PUT: &str = r#"
if [ -d "$1" ]; then exec tar -xof - -C "$1"; fi
to=${1%/}
if [ "$3" != 1 ] || { [ "$2" != . ] && [ "$to" != "$1" ]; }; then
    echo "$1: no such directory" >&2; exit 1
fi
part=$to.part.$$
mkdir "$part" || exit
tar -xof - -C "$part" && if [ "$2" = . ]; then mv "$part" "$to"; else mv -f "$part/$2" "$to"; fi
status=$?
rm -rf "$part"
exit $status
"#;
/// `$1` is the path: it is `$3` in the directory `$2`, or `$3` is `.` and the content of `$2` is
/// sent. Links are followed, as `scp -r` does. If some of them lead to directories, nowhere or
/// round in circles, a copy of the tree is made first: directories, and a link to each file.
const GET: &str = r#"
if [ ! -e "$1" ]; then
    why='No such file or directory'
    [ ! -L "$1" ] || why='a symbolic link that leads nowhere'
    echo "$1: $why" >&2; exit 1
fi
cd "$2" || exit
# Files of the kernel do not tell their size, and tar believes what they tell.
if [ -f "./$3" ] && case $(pwd -P)/ in /proc/*|/sys/*) :;; *) false;; esac; then
    copy=$(mktemp -d) && cat "./$3" >"$copy/$3" && tar -cf - -C "$copy" "./$3"
    status=$?
    rm -rf "$copy"
    exit $status
fi
odd='for link; do [ -f "$link" ] || { echo odd; exit; }; done'
if [ ! -d "./$3" ] || [ -z "$(find "./$3/" -type l -exec sh -c "$odd" sh {} + 2>/dev/null)" ]; then
    exec tar -chf - "./$3"
fi
tree='
from=$1 to=$2 shown=$3
left() { line=$(echo "$shown/$name" | tr "\n" "?"); echo "$MARK${line%?} ($1)" >&2; }
set --
for path in "$from"/* "$from"/.[!.]* "$from"/..?*; do
    name=${path##*/}
    if [ -d "$path" ]; then
        above=$from
        while [ -n "$above" ] && ! [ "$path" -ef "$above" ]; do above=${above%/*}; done
        if [ -n "$above" ] || [ "$path" -ef / ]; then
            left "it leads to a directory that it is in"
        elif [ ! -r "$path" ] || [ ! -x "$path" ]; then
            left "permission denied"
        else
            mkdir "$to/$name" && sh -c "$tree" sh "$path" "$to/$name" "$shown/$name" || exit
        fi
    elif [ -e "$path" ]; then
        set -- "$@" "$path"
        if [ $# = 100 ]; then ln -s "$@" "$to" || exit; set --; fi
    elif [ -L "$path" ]; then
        left "a symbolic link that leads nowhere"
    fi
done
if [ $# != 0 ]; then ln -s "$@" "$to" || exit; fi
mode=$(stat -c %a "$from" 2>/dev/null) && chmod "$mode" "$to"
:'
export tree MARK=MARKED
here=$(pwd -P)
copy=$(mktemp -d) || exit
if [ "$3" = . ]; then
    sh -c "$tree" sh "${here%/}" "$copy" .
else
    mkdir "$copy/$3" && sh -c "$tree" sh "${here%/}/$3" "$copy/$3" "$3"
fi && tar -chf - -C "$copy" "./$3"
status=$?
chmod -R u+rwx "$copy"
rm -rf "$copy"
exit $status
"#;
/// Whether files can go into `$1`: 3 if there is none, 4 if it is no directory, 5 if not allowed.
const TAKES_FILES: &str = r#"[ -e "$1" ] || exit 3; [ -d "$1" ] || exit 4; [ -w "$1" ] || exit 5"#;
/// Prints `odd` if sftp does not follow all links in a pattern, which comes before [`ODD_END`].
const ODD: &str = r#"
odd='for link; do [ -f "$link" ] || { echo odd; exit; }; done'
command -v tar >/dev/null || exit 0
for path in "#;
const ODD_END: &str = r#"; do
    [ ! -d "$path" ] || find "$path/" -type l -exec sh -c "$odd" sh {} + 2>/dev/null
done
:"#;
/// Prints the names that a pattern matches, with NUL after each. The pattern is pasted after it.
const MATCHES: &str = r"printf '%s\0' ";

/// Copies to the guest, source by source.
pub(super) fn put(guest: &Guest, from: &[PathBuf], to: &OsStr) -> Result<(), Error> {
    let count = from.len().to_string();
    from.iter().try_for_each(|path| {
        let name = last_part(path);
        let mut tar = tar();
        tar.arg("-chf").arg("-").arg("-C");
        match &name {
            Some(name) => tar.arg(parent(path)).arg(Path::new(".").join(name)),
            None => tar.arg(local(path)).arg("."),
        };
        let (to, name) = (home_relative(to), name.unwrap_or(".".into()));
        let remote = remote_script(PUT, &[&to, &name, OsStr::new(&count)]);
        let piped = pipe(tar, guest.ssh(OWN, &[remote]), guest)?;
        piped.incomplete.map_or(Ok(()), Err)
    })
}

/// The error of a copy to the guest, with what helps if the directory cannot take the files.
pub(super) fn explained(guest: &Guest, (count, to): (usize, &OsStr), error: Error) -> Error {
    let to = PathBuf::from(home_relative(to));
    let is_dir = count > 1 || to.as_os_str().as_bytes().ends_with(b"/");
    let dir = if is_dir { Some(&*to) } else { to.parent() };
    // A slash at the end would hide that there is a file.
    let dir: PathBuf = local(dir.unwrap_or(&to)).components().collect();
    let (name, shown) = (&guest.paths.name, dir.display());
    let asked = ask(guest, &[remote_script(TAKES_FILES, &[dir.as_os_str()])]);
    let hint = match asked.ok().and_then(|asked| asked.status.code()) {
        Some(3) => {
            let remote = command_line([OsStr::new("mkdir"), "-p".as_ref(), dir.as_os_str()]);
            let remote = command_line([remote]);
            format!("the guest has no directory `{shown}`: `qqmgr ssh {name} {remote}` makes it")
        }
        Some(4) => format!("`{shown}` on the guest is not a directory"),
        Some(5) => format!("the guest's user may not write to `{shown}`: copy to `/tmp/`, say"),
        _ => return error,
    };
    error.hint(hint)
}

/// The command that sends a source from the guest.
pub(super) fn sender(guest: &Guest, from: &OsStr) -> Invocation {
    let from = home_relative(from);
    let (dir, name) = match last_part(&from) {
        Some(name) => (parent(Path::new(&from)), name),
        None => (PathBuf::from(&from), ".".into()),
    };
    let script = GET.replace("MARKED", &format!("'{}'", String::from_utf8_lossy(MARK)));
    guest.ssh(OWN, &[remote_script(&script, &[&from, dir.as_os_str(), &name])])
}

/// The command that unpacks a stream into a directory.
pub(super) fn receiver(dir: &Path) -> Invocation {
    let mut tar = tar();
    // The guest must not choose owners or set-user-ID bits here.
    tar.args(["--no-same-owner", "--no-same-permissions", "-xf", "-", "-C"]).arg(dir);
    tar
}

fn tar() -> Invocation {
    let mut tar = programs::TAR.command();
    // Options of the user would change what is packed and where to; messages have one language.
    tar.env("TAR_OPTIONS", "").env("LC_ALL", "C");
    tar
}

/// The files that the script on the guest says it left out.
pub(super) fn left_out(said: &[u8]) -> Vec<LeftOut> {
    let lines = said.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(MARK));
    let left = lines.map(|line| {
        let line = sanitized(&String::from_utf8_lossy(line));
        let (name, why) = line.rsplit_once(" (").unwrap_or((&line, ""));
        LeftOut::new(name, why.trim_end_matches(')'))
    });
    left.collect()
}

/// Whether the source has links that only tar follows, and the guest has tar.
pub(super) fn has_odd_links(guest: &Guest, path: &OsStr) -> Result<bool, Error> {
    let script = [ODD.as_ref(), pattern(path).as_os_str(), ODD_END.as_ref()].join(OsStr::new(""));
    let asked = ask(guest, &[remote_script(&script, &[])])?;
    Ok(asked.status.code() == Some(0) && asked.stdout.starts_with(b"odd\n"))
}

/// The names that a pattern matches on the guest, or the name itself.
pub(super) fn expanded(guest: &Guest, path: &OsStr) -> Result<Vec<OsString>, Error> {
    if !is_pattern(path) {
        return Ok(vec![path.to_os_string()]);
    }
    let script = [MATCHES.as_ref(), pattern(path).as_os_str()].join(OsStr::new(""));
    let output = ask(guest, &[remote_script(&script, &[])])?;
    if output.status.code() != Some(0) {
        return Err(Error::failed(format!("cannot list the guest's files: {}", output.said())));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.map(|name| OsString::from_vec(name.to_vec()));
    // A shell may have `.*` match these; the directory itself and the one above are not wanted.
    Ok(names.filter(|name| last_part(name).is_some()).collect())
}

/// The directory that has a path's last part.
fn parent(path: &Path) -> PathBuf {
    local(path.parent().unwrap_or(Path::new(".")))
}

/// Turns `~/x` into `x`: ssh's commands start in the home directory, and quotes would keep the `~`.
/// A leading dash gets `./` in front, so that no program takes it for an option.
fn home_relative(path: &OsStr) -> OsString {
    match path.as_bytes() {
        b"" | b"~" | b"~/" => OsString::from("."),
        [b'-', ..] => Path::new(".").join(path).into_os_string(),
        bytes => OsStr::from_bytes(bytes.strip_prefix(b"~/").unwrap_or(bytes)).to_os_string(),
    }
}

/// `exec sh -c SCRIPT sh ARGUMENTS...`, whatever the user's login shell is.
fn remote_script(script: impl AsRef<OsStr>, arguments: &[&OsStr]) -> OsString {
    let script = ["sh".as_ref(), "-c".as_ref(), script.as_ref(), "sh".as_ref()];
    let mut line = OsString::from("exec ");
    line.push(quoted([&script[..], arguments].concat()));
    line
}

/// A remote name for a shell that expands the patterns in it, and nothing else.
fn pattern(path: &OsStr) -> OsString {
    let quoted = quoted([home_relative(path)]).into_vec().into_iter();
    let is_open = |byte: &u8| is_pattern(path) && b"*?[]-!".contains(byte);
    let bytes = quoted.flat_map(|byte| match byte {
        byte if is_open(&byte) => vec![b'\'', byte, b'\''],
        byte => vec![byte],
    });
    OsString::from_vec(bytes.collect())
}

/// Runs a command of this program on the guest, whose input is empty.
pub(super) fn ask<S: AsRef<OsStr>>(guest: &Guest, words: &[S]) -> Result<Output, Error> {
    capture(guest.ssh(OWN, words), guest)
}

/// A relative path with `./` in front, so that scp does not take a name with a colon for a host.
pub(super) fn local(path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) }
}

/// Whether a remote name has characters that `get` expands.
pub(super) fn is_pattern(path: &OsStr) -> bool {
    path.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_for_the_remote_shell() {
        assert_eq!(quoted([r"it's *\n", ""]), r"'it'\''s *'\\'n' ''");
        assert_eq!(pattern(OsStr::new("a b[0-9]*")), "'a b'['0'-'9']''*''");
        assert_eq!(pattern(OsStr::new("~/a-b")), "'a-b'");
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
