//! The port of this host that leads to a guest's ssh server: whether it is free, who has it.

use crate::linux::{self, Listener};
pub(crate) use crate::system::sockets::is_port_taken as is_taken;
use crate::text::{hash, sanitized};
use std::collections::BTreeSet;

/// The range from which ports are chosen. It is below the ports that the kernel gives to
/// connections (32768 and up on Linux, 49152 elsewhere).
const CHOSEN_FIRST: u16 = 20_000;
const CHOSEN_END: u16 = 30_000;

/// Finds a free port that is not `claimed`, at or after the first choice.
pub(crate) fn choose(seed: &[u8], claimed: &BTreeSet<u16>) -> Option<u16> {
    let first = first_choice(seed);
    let (from_first, before_it) = (first..CHOSEN_END, CHOSEN_FIRST..first);
    from_first.chain(before_it).find(|port| !claimed.contains(port) && !is_taken(*port))
}

/// The preferred port for `seed`, so that a VM has the same port from one start to the next as long
/// as no other program takes it.
pub(crate) fn first_choice(seed: &[u8]) -> u16 {
    let offset = hash(seed) % u64::from(CHOSEN_END - CHOSEN_FIRST);
    CHOSEN_FIRST + u16::try_from(offset).unwrap_or_default()
}

/// Whether the process listens on the port, as far as the system reports.
pub(crate) fn is_held_by(port: u16, pid: u32) -> bool {
    let holder = linux::listener(port).and_then(|listener| listener.process);
    holder.is_some_and(|(holder, _)| holder == pid)
}

/// Names the holder of a taken port, as far as it is known.
pub(crate) fn holder(port: u16) -> String {
    match linux::listener(port) {
        Some(Listener { process: Some((pid, name)), .. }) => {
            format!("`{}` (pid {pid})", sanitized(&name))
        }
        Some(Listener { user_id, .. }) => format!("a program of user {user_id}"),
        None => "another program".into(),
    }
}
