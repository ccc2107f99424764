//! File descriptors in the words of a program. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// The command by which a shell closes descriptors.
pub(crate) fn closing(unwanted: &[u32]) -> String {
    let closed: Vec<String> = unwanted.iter().map(|fd| format!("{fd}>&-")).collect();
    format!("exec {}", closed.join(" "))
}

/// Whether a word passes the descriptor on: `fd=3`, `vhostfds=3:4`, `fd:3`, `/dev/fd/3`, or
/// `"fd": "3"` in JSON, and `addr.str=3` beside `addr.type=fd`.
pub(crate) fn is_named(argv: &[OsString], fd: u32) -> bool {
    let digits = fd.to_string();
    argv.iter().any(|word| {
        let word = String::from_utf8_lossy(word.as_bytes());
        word.match_indices(&digits).any(|(at, _)| {
            let (before, behind) = (&word[..at], &word[at + digits.len()..]);
            let whole = |end: Option<char>| !end.is_some_and(|char| char.is_ascii_alphanumeric());
            let key = before.trim_end_matches(|char: char| {
                char.is_ascii_digit() || [':', '=', '"', '\'', ' '].contains(&char)
            });
            let is_key = |name: &str| key.ends_with(name) && key.len() < before.len();
            let by_type = is_key("str") && word.contains("fd");
            whole(before.chars().next_back())
                && whole(behind.chars().next())
                && (before.ends_with("/fd/") || is_key("fd") || is_key("fds") || by_type)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_named_by_the_words_of_qemu() {
        let named = |word: &str, fd| is_named(&["qemu".into(), word.into()], fd);
        for word in [
            "tap,id=n,fd=33",
            "fd=33,set=2",
            "tap,fds=4:33:5,vhost=on",
            "tap,vhostfd=33",
            "tap,vhostfds=33:4",
            "fd:33",
            "/dev/fd/33",
            "file=/proc/self/fd/33,format=raw",
            r#"{"driver": "socket", "fd": "33"}"#,
            r#"{"fd":33}"#,
            "proxy,sock_fd=33",
            "stream,id=n,addr.type=fd,addr.str=33",
        ] {
            assert!(named(word, 33), "{word}");
            assert!(!named(word, 3), "{word}");
        }
        for word in
            ["33", "size=33", "hostfwd=tcp::33-:22", "fd", "fd33", "/dev/fd/331", "id=fd.33"]
        {
            assert!(!named(word, 33), "{word}");
        }
    }
}
