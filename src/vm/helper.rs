//! A helper of a VM, the sockets on which it must listen, and the directories that qqmgr makes for
//! it.

use super::options::Argument;
use super::sockets::{self, Server};
use crate::pasted::is_wrapper;
use crate::source::Problem;
use crate::system::programs;
use crate::text::texts;
use crate::words::Word;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Characters that stand before a path inside a word, as in `path=/a` and `unix:/a`.
const BEFORE: &[char] = &['=', ',', ':'];

/// A program that is started before a VM's QEMU and ends with it.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// The directories that are made for it, below the VM's own.
    pub(crate) dirs: Vec<PathBuf>,
    /// Words that are probably mistakes.
    pub(crate) warnings: Vec<Problem>,
}

impl Helper {
    /// Makes a helper from its name, its program and its words, which begin with the name of the
    /// program. `vm_dir` is the VM's directory.
    pub(crate) fn new(name: String, program: PathBuf, words: &[Word], vm_dir: &Path) -> Self {
        let arguments = words.iter().skip(1).map(|word| word.text.as_str());
        let arguments: Vec<&str> = arguments.collect();
        let dirs = dirs(&arguments, vm_dir);
        let words = arguments.into_iter().map(OsString::from);
        let argv = [program.into_os_string()].into_iter().chain(words).collect();
        Self { name, argv, dirs, warnings: Vec::new() }
    }

    /// The sockets on which a QEMU with these arguments expects it to listen, as the words name
    /// them.
    pub(super) fn sockets(&self, qemu: &[Argument]) -> Vec<PathBuf> {
        let arguments = texts(&self.argv[1..]);
        let mut sockets: Vec<PathBuf> = Vec::new();
        for connection in sockets::connected(qemu) {
            if let Server::Path(path) = connection.server
                && arguments.iter().any(|word| names(word, &path))
                && !sockets.contains(&PathBuf::from(&path))
            {
                sockets.push(path.into());
            }
        }
        sockets
    }
}

/// Finds the program of the helper `name`, the first of its words, or gives the problem with its
/// words. A relative path starts from `dir`.
pub(crate) fn program(name: &str, words: &[Word], dir: &Path) -> Result<PathBuf, Problem> {
    if let Some(word) = words.iter().find(|word| word.text.contains('\0')) {
        let message = "an argument cannot contain a NUL character";
        return Err(Problem::new(word.span, message));
    }
    let (bin, span) = words.first().map(|word| (word.text.as_str(), word.span)).unwrap_or_default();
    programs::locate(bin, dir).ok_or_else(|| {
        let message = format!("there is no program `{bin}` for the helper `{name}`");
        let hint = match bin.contains('=') {
            _ if !is_wrapper(bin) => "install it, or give its whole path",
            true => "write `env` before it: no shell sets the variable",
            false => "leave it out: no shell runs the helper",
        };
        Problem::new(span, message).hint(hint)
    })
}

/// Whether the word is the path, or contains it as a value.
pub(crate) fn names(word: &str, path: &str) -> bool {
    word.match_indices(path).any(|(at, _)| {
        let (before, behind) = (&word[..at], &word[at + path.len()..]);
        let begins = before.is_empty() || before.ends_with(BEFORE);
        begins && (behind.is_empty() || behind.starts_with([',', ':']))
    })
}

/// The directories that the words need below the VM's: the parent of every path, and the path
/// itself where it is the value of `dir` or of an option whose name ends in `dir`.
fn dirs(words: &[&str], vm_dir: &Path) -> Vec<PathBuf> {
    let Some(vm_dir) = vm_dir.to_str() else { return Vec::new() };
    let mut dirs: Vec<PathBuf> = Vec::new();
    let before = std::iter::once("").chain(words.iter().copied());
    for (word, before) in words.iter().zip(before) {
        for (number, part) in word.split(',').enumerate() {
            let Some(path) = path_below(part, vm_dir) else { continue };
            let key = part.split_once('=').map(|(key, _)| key);
            let is_dir = match key {
                Some("dir") => true,
                Some(option) => number == 0 && is_dir_option(option),
                None => number == 0 && !before.contains('=') && is_dir_option(before),
            };
            let dir = if is_dir { Some(path) } else { path.parent() };
            dirs.extend(dir.filter(|dir| *dir != Path::new(vm_dir)).map(Path::to_path_buf));
        }
    }
    dirs
}

fn is_dir_option(word: &str) -> bool {
    word.starts_with('-') && word.ends_with("dir")
}

/// The path at the end of the text, if it is below the directory and does not lead out of it.
fn path_below<'t>(text: &'t str, dir: &str) -> Option<&'t Path> {
    let (at, _) = text.match_indices(dir).find(|(at, _)| {
        let before = &text[..*at];
        let inside = text[at + dir.len()..].strip_prefix('/');
        (before.is_empty() || before.ends_with(BEFORE)) && inside.is_some_and(|p| !p.is_empty())
    })?;
    let path = Path::new(&text[at..]);
    path.components().all(|part| part != Component::ParentDir).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;
    use crate::vm::options::arguments_of;

    fn helper(line: &str) -> Helper {
        let words = ["p"].into_iter().chain(line.split(' '));
        let words: Vec<Word> = words.map(|word| Word::plain(word, Span::default())).collect();
        Helper::new("h".into(), "/p".into(), &words, Path::new("/r/vm.a"))
    }

    #[test]
    fn sockets_in_both_command_lines() {
        for (line, expected) in [
            ("--ctrl type=unixio,path=/s", &["/s"][..]),
            ("--socket-path=/s", &["/s"]),
            ("--socket /s -x", &["/s"]),
            ("UNIX-LISTEN:/s,fork", &["/s"]),
            ("--chardev socket,path=/s,server=on,id=c", &["/s"]),
            ("--socket /s2 -x=/a/s /s/b", &[]),
            ("-a=/t -b=/s", &["/s", "/t"]),
        ] {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            let qemu = ["/s", "/t", "/s"].map(|path| format!("socket,id=c,path={path}"));
            let qemu = qemu.iter().flat_map(|value| ["-chardev", value]);
            let qemu = arguments_of(["qemu"].into_iter().chain(qemu));
            assert_eq!(helper(line).sockets(&qemu), expected, "{line}");
        }
    }

    #[test]
    fn directories_below_the_vms_own() {
        for (line, expected) in [
            ("--tpmstate dir=/r/vm.a/tpm,mode=0600", &["/r/vm.a/tpm"][..]),
            ("--shared-dir /r/vm.a/x/y", &["/r/vm.a/x/y"]),
            ("--shared-dir=/r/vm.a/x", &["/r/vm.a/x"]),
            ("--ctrl type=unixio,path=/r/vm.a/tpm.sock", &[]),
            ("--socket /r/vm.a/sub/s", &["/r/vm.a/sub"]),
            ("--log=file=/r/vm.a/logs/a", &["/r/vm.a/logs"]),
            ("--shared-dir /r/vm.a --shared-dir /r/vm.b/x --dir=/etc", &[]),
            ("--dir=/r/vm.a/../vm.b/x", &[]),
            ("--basedir=a=b /r/vm.a/x/y", &["/r/vm.a/x"]),
        ] {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(helper(line).dirs, expected, "{line}");
        }
    }
}
