//! TRUSTED CORE: binds a port of this host for a moment, to see whether it is free.

use crate::procfs::{self, Listener};
use crate::text::sanitized;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

/// Whether somebody listens on the port of 127.0.0.1 or of all addresses. Whatever else keeps us
/// from binding it (a low port, say) is left to QEMU to complain of.
pub(crate) fn is_taken(port: u16) -> bool {
    // std sets SO_REUSEADDR, so that only a listener counts and not a connection that has ended.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// Who has a taken port, as well as it can be known.
pub(crate) fn holder(port: u16) -> String {
    match procfs::listener(port) {
        Some(Listener { process: Some((pid, name)), .. }) => {
            format!("`{}` (pid {pid})", sanitized(&name))
        }
        Some(Listener { user_id, .. }) => format!("a program of user {user_id}"),
        None => "another program".into(),
    }
}
