//! The connections that calls share: the sockets in a VM's directory by which they are reached, and
//! the seat that each call has in one of them.

use crate::error::Error;
use crate::system::files;
use crate::system::sockets::Socket;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The start of the names, before `%C`, which ssh replaces by a hash of user and destination.
const START: &str = "ssh.";
/// The number of hexadecimal digits that `%C` stands for.
const HASH_DIGITS: usize = 40;
/// A master that accepts connections does so at once; one that is stopped counts as listening.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// The file that records which process has which seat, and how many connections could not be begun.
const SEATS: &str = "ssh.seats";
const SEATS_BYTES_MAX: u64 = 16 * 1024;
/// The sessions per connection. sshd allows 10 (`MaxSessions`), and one that just ended may count.
const SEATS_EACH: usize = 8;
/// The number of shared connections. Calls that find no seat make a connection of their own.
const CONNECTIONS_MAX: usize = 8;

/// Only the process that has the turn in the directory changes this.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seats {
    /// The number of connections that could not be begun.
    pub(crate) failures: u64,
    /// The number of a connection, and a process that uses it.
    taken: Vec<(usize, u32)>,
}

impl Seats {
    /// Reads the file in `dir`. A file that cannot be read counts as empty: a server may then
    /// refuse a session, which ssh reports.
    pub(crate) fn read(dir: &Path) -> Self {
        let bytes = files::read_start(&dir.join(SEATS), SEATS_BYTES_MAX).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let failures = lines.next().and_then(|line| line.parse().ok()).unwrap_or_default();
        let taken = lines.filter_map(|line| {
            let (number, pid) = line.split_once(' ')?;
            Some((number.parse().ok()?, pid.parse().ok()?))
        });
        Self { failures, taken: taken.collect() }
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let taken = self.taken.iter().map(|(number, pid)| format!("{number} {pid}\n"));
        let text = format!("{}\n{}", self.failures, taken.collect::<String>());
        files::write_private(&dir.join(SEATS), &text)
    }

    pub(crate) fn remove(dir: &Path) -> Result<(), Error> {
        files::remove(&dir.join(SEATS))
    }

    /// Takes a seat and gives the number of its connection. Seats of dead processes are free.
    pub(crate) fn take(&mut self, pid: u32, is_alive: impl Fn(u32) -> bool) -> Option<usize> {
        self.taken.retain(|(_, other)| *other != pid && is_alive(*other));
        let count = |number| self.taken.iter().filter(|(taken, _)| *taken == number).count();
        let number = (0..CONNECTIONS_MAX).find(|number| count(*number) < SEATS_EACH)?;
        self.taken.push((number, pid));
        Some(number)
    }
}

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

/// The sockets in `dir`. Those of an ssh that is still connecting have a random ending.
pub(crate) fn all(dir: &Path) -> Vec<PathBuf> {
    let names = files::names_in(dir).into_iter();
    names.filter(|name| ending(name).is_some()).map(|name| dir.join(name)).collect()
}

/// The part after the hash in the name of a control socket.
fn ending(name: &str) -> Option<&str> {
    let (hash, ending) = name.strip_prefix(START)?.split_at_checked(HASH_DIGITS)?;
    hash.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(ending)
}

/// The sockets in `dir` that a process listens on. Others are removed: ssh would complain.
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

    #[test]
    fn seats_are_taken_in_turn_and_given_back() {
        let mut seats = Seats::parse("");
        let taken: Vec<_> = (1..=17).map(|pid| seats.take(pid, |_| true)).collect();
        assert_eq!(taken[7..9], [Some(0), Some(1)]);
        assert_eq!(taken[15..], [Some(1), Some(2)]);
        // Process 3 is gone, and 17 calls again.
        assert_eq!(seats.take(17, |pid| pid != 3), Some(0));
        assert_eq!(
            Seats::parse("4\n0 1\nx\n1 20\n"),
            Seats { failures: 4, taken: vec![(0, 1), (1, 20)] }
        );
        let mut full = Seats { failures: 0, taken: (0..64).map(|n| (n / 8, 1)).collect() };
        assert_eq!(full.take(100, |_| true), None);
    }
}
