//! The calls that use shared connections, each with its seat in one of them.

use crate::error::Error;
use crate::system::files;
use std::path::Path;

/// The file that records which process has which seat, and how many connections could not be begun.
const SEATS: &str = "ssh.seats";
const SEATS_BYTES_MAX: u64 = 16 * 1024;
/// The number of sessions per connection. sshd allows 10 (`MaxSessions`), and a session that has
/// just ended may still count.
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

    /// Takes a seat for this process and gives the number of its connection. Seats of processes
    /// that are gone are free.
    pub(crate) fn take(&mut self, pid: u32, is_alive: impl Fn(u32) -> bool) -> Option<usize> {
        self.taken.retain(|(_, other)| *other != pid && is_alive(*other));
        let count = |number| self.taken.iter().filter(|(taken, _)| *taken == number).count();
        let number = (0..CONNECTIONS_MAX).find(|number| count(*number) < SEATS_EACH)?;
        self.taken.push((number, pid));
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
