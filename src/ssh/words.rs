//! The words after `qqmgr ssh VM`, as ssh(1) reads them: options up to the first word that is not
//! an option, and a command. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// The options of ssh that take an argument (OpenSSH 9.2 to 10.0).
const WITH_ARGUMENT: &[u8] = b"BDEFIJLOPQRSWbceilmopw";

/// The purpose of a call of ssh, as its words show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Purpose {
    /// It has options of its own.
    pub(super) has_options: bool,
    pub(super) has_command: bool,
    /// It speaks to the master of a shared connection (`-O`).
    pub(super) is_control: bool,
}

impl Purpose {
    pub(super) fn of(words: &[OsString]) -> Self {
        let mut purpose = Self::default();
        let mut words = words.iter().map(|word| word.as_bytes());
        while let Some(word) = words.next() {
            let letters = match word {
                b"--" => {
                    purpose.has_command = words.next().is_some();
                    return purpose;
                }
                [b'-', letters @ ..] if !letters.is_empty() => letters,
                _ => {
                    purpose.has_command = true;
                    return purpose;
                }
            };
            purpose.has_options = true;
            if let Some(at) = letters.iter().position(|letter| WITH_ARGUMENT.contains(letter)) {
                purpose.is_control |= letters[at] == b'O';
                if at + 1 == letters.len() {
                    words.next();
                }
            }
        }
        purpose
    }

    /// Whether the call can use the shared connection. Options may ask for something that it does
    /// not have: a user, a forwarded port, an agent. A shell has its own connection.
    pub(super) fn may_share(self) -> bool {
        self.has_command && !self.has_options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_a_command() {
        for (line, options, command, control) in [
            ("", false, false, false),
            ("ls -l", false, true, false),
            ("-- ls", false, true, false),
            ("--", false, false, false),
            ("-", false, true, false),
            ("-N -L 8080:localhost:80", true, false, false),
            ("-lalice whoami", true, true, false),
            ("-l alice", true, false, false),
            ("-tt -- top", true, true, false),
            ("-nvo User=alice", true, false, false),
            ("-O check", true, false, true),
            ("-vOexit", true, false, true),
            ("-P tag -E log -I x -Q y -e z -B b ls", true, true, false),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            let expected =
                Purpose { has_options: options, has_command: command, is_control: control };
            assert_eq!(Purpose::of(&words), expected, "{line}");
        }
    }
}
