//! The ports of this host that lead to a guest: whether one is free, who has it.

use super::forward::Forward;
use crate::linux::{self, Listener};
use crate::system::sockets::is_port_taken;
use crate::text::{hash, sanitized};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

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

/// Whether a program listens on the TCP port of 127.0.0.1 or of all addresses.
pub(crate) fn is_taken(port: u16) -> bool {
    is_port_taken(false, (Ipv4Addr::LOCALHOST.into(), port))
}

/// Whether a program has the port that this would forward.
pub(crate) fn is_taken_for(forward: &Forward) -> bool {
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let address = forward.address.trim_matches(['[', ']']).parse().unwrap_or(local);
    let address = if forward.is_local() { local } else { address };
    is_port_taken(forward.udp, (address, forward.port))
}

/// Whether the process has the port, as far as the system reports.
pub(crate) fn is_held_by(forward: &Forward, pid: u32) -> bool {
    let holder = linux::listener(forward.udp, forward.port).and_then(|it| it.process);
    holder.is_some_and(|(holder, _)| holder == pid)
}

/// Names the holder of a taken port, as far as it is known.
pub(crate) fn holder(forward: &Forward) -> String {
    match linux::listener(forward.udp, forward.port) {
        Some(Listener { process: Some((pid, name)), .. }) => {
            format!("`{}` (pid {pid})", sanitized(&name))
        }
        Some(Listener { user_id, .. }) => format!("a program of user {user_id}"),
        None => "another program".into(),
    }
}
