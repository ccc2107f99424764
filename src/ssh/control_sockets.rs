//! The sockets of shared ssh connections in a VM's directory: finds those in
//! use, and removes those that no process listens on.

use crate::system::files;
use crate::system::sockets::Socket;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The start of the names; `%C`, which ssh replaces by a hash of the user and the destination,
/// follows.
const START: &str = "ssh.";
/// The number of hexadecimal digits that `%C` stands for.
const HASH_DIGITS: usize = 40;
/// A master that accepts connections does so at once; one that is stopped counts as listening.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// The end of the name of the shared connection with this number, from 0.
fn ending_of(number: usize) -> String {
    if number == 0 { String::new() } else { format!(".{number}") }
}

/// The option with the path of a shared connection; ssh fills in the user and the destination.
pub(super) fn option(dir: &Path, number: usize) -> OsString {
    let mut option = OsString::from("ControlPath=");
    option.push(dir.join(format!("{START}%C{}", ending_of(number))));
    option
}

/// The sockets in `dir`, including those of an ssh that is still connecting, which have a random
/// ending.
pub(crate) fn all(dir: &Path) -> Vec<PathBuf> {
    let names = files::names_in(dir).into_iter();
    names.filter(|name| ending(name).is_some()).map(|name| dir.join(name)).collect()
}

/// The part after the hash in the name of a control socket.
fn ending(name: &str) -> Option<&str> {
    let (hash, ending) = name.strip_prefix(START)?.split_at_checked(HASH_DIGITS)?;
    hash.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(ending)
}

/// The sockets in `dir` that a process listens on. The others are removed, because ssh would
/// complain about each of them.
pub(crate) fn listening(dir: &Path) -> Vec<PathBuf> {
    let mut found = all(dir);
    let deadline = Instant::now() + CONNECT_WAIT;
    found.retain(|socket| match Socket::connect(socket.clone(), deadline) {
        Ok(_) => true,
        Err(error) => {
            if error.kind() == ErrorKind::ConnectionRefused {
                let _ = files::remove(socket);
            }
            error.kind() == ErrorKind::TimedOut
        }
    });
    found
}

/// Whether the shared connection with this number is open.
pub(crate) fn is_listening(dir: &Path, number: usize) -> bool {
    listening(dir).iter().any(|socket| {
        let name = socket.file_name().and_then(OsStr::to_str).unwrap_or_default();
        ending(name) == Some(&ending_of(number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_control_sockets() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(ending(&format!("ssh.{hash}")), Some(""));
        assert_eq!(ending(&format!("ssh.{hash}.1")), Some(".1"));
        for other in ["ssh.conf", "ssh.seats", "serial", "ssh.0123"] {
            assert_eq!(ending(other), None);
        }
    }
}
