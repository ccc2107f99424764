//! Opens sockets: those of a VM, a guest's ssh port, and for a moment a port of this host.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A connection to a unix socket. Its deadlines fail with [`ErrorKind::TimedOut`].
pub(crate) struct Socket(UnixStream);

impl Socket {
    /// Connects before the deadline. std's connect has no timeout, and blocks once the backlog
    /// (one, in QEMU) is full; so a thread connects. A thread that takes too long stays until the
    /// other end serves or closes its queue, or this process ends.
    pub(crate) fn connect(path: PathBuf, deadline: Instant) -> io::Result<Self> {
        // A starting QEMU has no socket for a while; a thread for each look would be wasteful.
        path.symlink_metadata()?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let connect = move || sender.send(UnixStream::connect(path));
        std::thread::Builder::new().spawn(connect)?;
        match receiver.recv_timeout(time_left(deadline)?) {
            Ok(stream) => stream.map(Self),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.0.set_write_timeout(Some(time_left(deadline)?))?;
        self.0.write_all(bytes).map_err(timed_out)
    }

    /// Reads what has arrived, or arrives before the deadline; 0 is the end.
    pub(crate) fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.0.set_read_timeout(Some(time_left(deadline)?))?;
        self.0.read(into).map_err(timed_out)
    }

    /// A second handle of the connection, for a thread that reads or writes. Each write may take
    /// this long; without a limit it waits for the other end.
    pub(crate) fn handle(
        &self,
        write_wait: Option<Duration>,
    ) -> io::Result<impl Read + Write + Send + use<>> {
        let stream = self.0.try_clone()?;
        stream.set_write_timeout(write_wait)?;
        Ok(stream)
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A zero timeout would mean no timeout.
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left.max(Duration::from_millis(1)))
}

fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

/// A TCP connection that only listens to what the other end says.
pub(crate) struct Listener(TcpStream);

impl Listener {
    /// Connects to the first of the addresses that accepts, each within `wait`.
    pub(crate) fn connect(addresses: &[SocketAddr], wait: Duration) -> Option<Self> {
        let connect = |to| TcpStream::connect_timeout(to, wait).ok();
        let stream = addresses.iter().find_map(connect)?;
        stream.set_nonblocking(true).ok().map(|()| Self(stream))
    }

    /// Reads what has arrived, without waiting: `None` for nothing, 0 bytes for the end.
    pub(crate) fn hear(&mut self, into: &mut [u8]) -> Option<usize> {
        const NOTHING: [ErrorKind; 2] = [ErrorKind::WouldBlock, ErrorKind::Interrupted];
        match self.0.read(into) {
            Err(error) if NOTHING.contains(&error.kind()) => None,
            read => Some(read.unwrap_or(0)),
        }
    }
}

/// Whether a program has the port, of UDP or of TCP, at this address or at all of them. QEMU itself
/// reports a port that cannot be bound for another reason, such as a low port.
pub(crate) fn is_port_taken(udp: bool, at: (IpAddr, u16)) -> bool {
    // std sets SO_REUSEADDR for TCP: only a listener counts, and not a connection that has ended.
    let error = if udp { UdpSocket::bind(at).err() } else { TcpListener::bind(at).err() };
    error.is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
}
