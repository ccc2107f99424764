//! The command line of a process as the system shows it. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The option of QEMU that names its pid file.
pub(crate) const PID_FILE: &str = "-pidfile";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// Stands before and after each word.
    separator: u8,
    words: Vec<u8>,
}

impl CommandLine {
    /// Takes the words as `/proc` shows them, with a NUL after each.
    pub(crate) fn of_proc(words: &[u8]) -> Self {
        Self { separator: 0, words: [b"\0", words].concat() }
    }

    /// Takes the words as `ps` shows them: blanks inside a word look like blanks between words.
    pub(crate) fn of_ps(text: &[u8]) -> Self {
        Self { separator: b' ', words: [b" ", text.trim_ascii(), b" "].concat() }
    }

    /// The words after each option that names a pid file, the path first; a separator follows
    /// each word.
    pub(crate) fn after_option(&self) -> impl Iterator<Item = &[u8]> {
        let option = [b"", PID_FILE.as_bytes(), b""].join(&self.separator);
        (0..self.words.len()).filter_map(move |at| self.words[at..].strip_prefix(&*option))
    }

    /// Whether this is the command line of a QEMU with this pid file.
    pub(crate) fn names(&self, pid_file: &Path) -> bool {
        let wanted = [pid_file.as_os_str().as_bytes(), b""].join(&self.separator);
        self.after_option().any(|words| words.starts_with(&wanted))
    }

    /// The pid file of a QEMU; `None` for other programs. In words from `ps`, a path with a blank
    /// and then a dash is not found.
    pub(crate) fn pid_file(&self) -> Option<PathBuf> {
        let path = self.after_option().next()?;
        let end: &[u8] = if self.separator == 0 { b"\0" } else { b" -" };
        let length = path.windows(end.len()).position(|part| part == end);
        // After the last word is only its separator.
        let path = &path[..length.unwrap_or(path.len().saturating_sub(1))];
        Some(Path::new(OsStr::from_bytes(path)).to_path_buf())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_path_is_found_after_its_option() {
        let has = |line: &str, path: &str| {
            let of_proc = CommandLine::of_proc(line.replace('|', "\0").as_bytes());
            let of_ps = CommandLine::of_ps(line.replace('|', " ").as_bytes());
            [of_proc, of_ps].map(|line| line.names(Path::new(path)))
        };
        assert_eq!(has("q|-pidfile|/a b/pid|-x|", "/a b/pid"), [true, true]);
        assert_eq!(has("q|-pidfile|/a b/pid|", "/a b/pid"), [true, true]);
        assert_eq!(has("q|-pidfile|/a b/pid2|", "/a b/pid"), [false, false]);
        assert_eq!(has("q|-pidfile /a/pid|", "/a/pid"), [false, true]);
        assert_eq!(has("q|--pidfile|/a/pid|", "/a/pid"), [false, false]);
        assert_eq!(has("q|/a/pid|", "/a/pid"), [false, false]);
    }

    #[test]
    fn the_path_after_the_option() {
        let found = |line: &str| CommandLine::of_proc(line.as_bytes()).pid_file();
        assert_eq!(found("q\0-pidfile\0/a -b/pid\0-x\0"), Some("/a -b/pid".into()));
        assert_eq!(found("q\0-x\0"), None);
        let found = |line: &str| CommandLine::of_ps(line.as_bytes()).pid_file();
        assert_eq!(found("q -pidfile /a b/pid -x"), Some("/a b/pid".into()));
        assert_eq!(found("q -pidfile /a/pid"), Some("/a/pid".into()));
    }
}
