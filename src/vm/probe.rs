//! TRUSTED CORE: opens connections to the guest's ssh port, to see whether its server answers.
//!
//! QEMU takes a connection before the guest listens, and passes it on late or never: what the
//! guest did not hear is lost to that connection for seconds. So a new one is made again and
//! again. One is kept longer, for a guest that hears and is slow to answer. There are no more,
//! since servers take few that have not logged in (dropbear 5, OpenSSH 10).

use crate::error::Error;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// ssh servers say who they are at once, after lines of text if they want (RFC 4253, 4.2).
const BANNER: &[u8] = b"SSH-";
const BANNER_BYTES_MAX: usize = 8 * 1024;
/// The pause before a new connection is this part of the time that it took so far, so that little
/// is lost, and a slow guest has little to do.
const PAUSE_PART: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// So long one connection is kept beside the newest.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// A server that has answered once gets so long to do it again before it is tried anew.
const CONFIRM_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Probe {
    addresses: Vec<SocketAddr>,
    /// One that is kept, and the newest.
    connections: Vec<Connection>,
    begin: Instant,
    next_at: Instant,
    /// Some were given up, of which the guest may learn late.
    gave_up: bool,
    /// One has answered, and a new one must do so alone, as ssh's will.
    confirming: bool,
}

struct Connection {
    stream: TcpStream,
    said: Vec<u8>,
    since: Instant,
}

impl Probe {
    pub(super) fn new(host: &str, port: u16) -> Result<Self, Error> {
        let addresses: Vec<SocketAddr> =
            (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        if addresses.is_empty() {
            let error = Error::failed(format!("cannot find the host `{host}`"));
            return Err(error.hint("it is `HostName` in `[ssh]`"));
        }
        let begin = Instant::now();
        let (connections, gave_up, confirming) = (Vec::new(), false, false);
        Ok(Self { addresses, connections, begin, next_at: begin, gave_up, confirming })
    }

    pub(super) fn has_answered(&mut self) -> bool {
        let (count, mut answered) = (self.connections.len(), false);
        self.connections.retain_mut(|connection| {
            let open = connection.listen();
            answered |= connection.has_banner();
            open
        });
        if answered && !self.confirming && (self.gave_up || count > 1) {
            // The server may be busy with the others, and take no more until they are gone.
            self.connections.clear();
            self.confirming = true;
            self.connect();
            self.next_at = Instant::now() + CONFIRM_WAIT;
            return false;
        }
        if self.connections.len() < count {
            // The guest has refused it: its network is up, and the server will be soon.
            self.next_at = self.next_at.min(Instant::now() + PAUSE_MIN);
        }
        if !answered && Instant::now() >= self.next_at {
            self.connect();
        }
        answered
    }

    fn connect(&mut self) {
        let mut addresses = self.addresses.iter();
        let connected = addresses.find_map(|to| TcpStream::connect_timeout(to, CONNECT_WAIT).ok());
        if let Some(stream) = connected
            && stream.set_nonblocking(true).is_ok()
        {
            if let [kept, _] = &self.connections[..] {
                let is_old = kept.since.elapsed() >= PATIENCE;
                self.connections.remove(usize::from(!is_old));
                self.gave_up = true;
            }
            let (said, since) = (Vec::new(), Instant::now());
            self.connections.push(Connection { stream, said, since });
        }
        let pause = self.begin.elapsed() / PAUSE_PART;
        self.next_at = Instant::now() + pause.clamp(PAUSE_MIN, PAUSE_MAX);
    }
}

impl Connection {
    /// Takes what there is to hear; whether more may come.
    fn listen(&mut self) -> bool {
        let mut chunk = [0; 512];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.said.extend_from_slice(&chunk[..count]);
                self.said.len() < BANNER_BYTES_MAX
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn has_banner(&self) -> bool {
        self.said.split(|byte| *byte == b'\n').any(|line| line.starts_with(BANNER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// `localhost` is `::1` first on many systems, where QEMU forwards no port.
    #[test]
    fn every_address_of_a_host_is_tried() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = server.local_addr().unwrap();
        let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut probe = Probe::new("127.0.0.1", there.port()).unwrap();
        probe.addresses = vec![nowhere, there];
        assert!(!probe.has_answered());
        assert_eq!(probe.connections.len(), 1);
    }
}
