//! Connects to the guest's ssh port, to see whether its server answers.
//!
//! QEMU's user network accepts a connection at once, and asks the guest for it 0, 6, 18 and 42
//! seconds later, even when this end was closed long before. So the guest sees every connection as
//! soon as its network is up, and ssh servers shut out clients that connect often without logging
//! in (`MaxStartups` and `PerSourcePenalties` of OpenSSH 10). Therefore only few connections are
//! made, with growing pauses, and more when there is news of the guest's network.

use crate::system::sockets::Listener;
use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// The start of the line with which ssh servers introduce themselves at once, possibly after lines
/// of text (RFC 4253, 4.2).
const BANNER: &[u8] = b"SSH-";
const BANNER_BYTES_MAX: usize = 8 * 1024;
/// The number of unanswered connections that may be begun in any [`WINDOW`].
const UNANSWERED_MAX: usize = 12;
const WINDOW: Duration = Duration::from_secs(60);
/// The pause after a connection grows with the time that the guest has booted for.
const PAUSE_PART: f64 = 0.6;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(12);
/// The pause after the guest set up its network, which has an address a moment later, or once DHCP
/// has found one.
const NETWORK_PAUSE: Duration = Duration::from_millis(200);
const NETWORK_PAUSE_MIN: Duration = Duration::from_millis(800);
const NETWORK_PAUSE_FACTOR: u32 = 2;
/// The pause after a refusal. A guest that refuses connections has a network, and soon a server.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);
/// The time in which the end of a connection counts as a refusal. QEMU gives up on a connection
/// after 75 seconds, which is not a refusal.
const REFUSED_WITHIN: Duration = Duration::from_secs(70);
/// The time for which the older of two connections is kept. QEMU asks the guest for it again in
/// that time.
const KEPT: Duration = Duration::from_secs(20);
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// The search for an answer on one port.
pub(crate) struct Probe {
    host: String,
    port: u16,
    /// Empty until the host's name is found.
    addresses: Vec<SocketAddr>,
    /// Whether the host's name was looked up and not found.
    is_unknown: bool,
    /// At most two: the one that is kept, and the newest.
    connections: Vec<Connection>,
    /// The start times of connections that the guest has not refused.
    unanswered: VecDeque<Instant>,
    /// When the guest began to boot, as far as that is known.
    booted_at: Instant,
    /// When the guest set up its network.
    network_at: Option<Instant>,
    next_at: Instant,
}

struct Connection {
    listener: Listener,
    said: Vec<u8>,
    since: Instant,
}

/// The end of the wait on a connection.
enum Heard {
    Banner,
    /// The guest closed it without a word.
    Refusal,
    /// It was closed, or the other end is no ssh server.
    End,
}

impl Probe {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let now = Instant::now();
        Self {
            host: host.to_string(),
            port,
            addresses: Vec::new(),
            is_unknown: false,
            connections: Vec::new(),
            unanswered: VecDeque::new(),
            booted_at: now,
            network_at: None,
            next_at: now,
        }
    }

    /// Starts again with short pauses, since the guest boots from now on.
    pub(crate) fn guest_boots(&mut self, now: Instant) {
        (self.booted_at, self.network_at, self.next_at) = (now, None, now);
    }

    /// Connects soon, since the guest has just set up its network.
    pub(crate) fn network_is_up(&mut self, now: Instant) {
        self.network_at = Some(now);
        self.next_at = self.next_at.min(now + NETWORK_PAUSE);
    }

    /// Whether the server has introduced itself; connects again when it is time to.
    pub(crate) fn has_answered(&mut self) -> bool {
        let now = Instant::now();
        let mut has_answered = false;
        self.connections.retain_mut(|connection| {
            let heard = connection.listen();
            has_answered |= matches!(heard, Some(Heard::Banner));
            if let Some(Heard::Refusal) = heard {
                self.unanswered.retain(|at| *at != connection.since);
                self.next_at = self.next_at.min(now + REFUSED_PAUSE);
            }
            heard.is_none()
        });
        if !has_answered && now >= self.next_at {
            self.next_at = self.connect(now);
        }
        has_answered
    }

    /// The reason why it cannot connect at all, for the error of a wait that failed.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.is_unknown
            .then(|| format!("cannot find the host `{}`, the `HostName` of `[ssh]`", self.host))
    }

    /// Begins a connection, unless there were too many, and gives the time for the next.
    fn connect(&mut self, now: Instant) -> Instant {
        self.unanswered.retain(|at| *at + WINDOW > now);
        if let (UNANSWERED_MAX.., Some(first)) = (self.unanswered.len(), self.unanswered.front()) {
            return *first + WINDOW;
        }
        if self.addresses.is_empty() {
            let found = (self.host.as_str(), self.port).to_socket_addrs();
            self.addresses = found.map(Iterator::collect).unwrap_or_default();
            self.is_unknown = self.addresses.is_empty();
        }
        let Some(listener) = Listener::connect(&self.addresses, CONNECT_WAIT) else {
            return Instant::now() + REFUSED_PAUSE;
        };
        if let [kept, _] = &self.connections[..] {
            let newest_goes = kept.since.elapsed() < KEPT;
            self.connections.remove(usize::from(newest_goes));
        }
        self.connections.push(Connection { listener, said: Vec::new(), since: now });
        self.unanswered.push_back(now);
        now + self.pause(now)
    }

    fn pause(&self, now: Instant) -> Duration {
        let of_boot = (now - self.booted_at).mul_f64(PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX);
        let of_network =
            self.network_at.map(|at| ((now - at) * NETWORK_PAUSE_FACTOR).max(NETWORK_PAUSE_MIN));
        of_network.map_or(of_boot, |pause| pause.min(of_boot))
    }
}

impl Connection {
    /// Reads what has arrived; `None` as long as more may come.
    fn listen(&mut self) -> Option<Heard> {
        let mut chunk = [0; 512];
        let count = self.listener.hear(&mut chunk)?;
        self.said.extend_from_slice(&chunk[..count]);
        if count == 0 {
            let is_refusal = self.said.is_empty() && self.since.elapsed() < REFUSED_WITHIN;
            return Some(if is_refusal { Heard::Refusal } else { Heard::End });
        }
        if self.said.split(|byte| *byte == b'\n').any(|line| line.starts_with(BANNER)) {
            return Some(Heard::Banner);
        }
        (self.said.len() >= BANNER_BYTES_MAX).then_some(Heard::End)
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
        let mut probe = Probe::new("127.0.0.1", there.port());
        probe.addresses = vec![nowhere, there];
        assert!(!probe.has_answered());
        assert_eq!(probe.connections.len(), 1);
    }

    /// The times of the connections in a boot of two minutes, in seconds, to a guest that answers
    /// none of them and sets up its network at these times.
    fn schedule(networks: &[f64]) -> Vec<f64> {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut probe = Probe::new("127.0.0.1", server.local_addr().unwrap().port());
        let begin = probe.booted_at;
        let (mut times, mut networks) = (Vec::new(), networks.iter());
        let mut network = networks.next();
        for tick in 0..1200 {
            let now = begin + Duration::from_millis(tick * 100);
            let second = (now - begin).as_secs_f64();
            if let Some(at) = network
                && second >= *at
            {
                probe.network_is_up(now);
                network = networks.next();
            }
            if now >= probe.next_at {
                let before = probe.unanswered.back().copied();
                probe.next_at = probe.connect(now);
                if probe.unanswered.back().copied() != before {
                    times.push(second);
                }
            }
            assert!(probe.connections.len() <= 2);
        }
        times
    }

    #[test]
    fn patience_grows_and_no_minute_has_more_than_twelve() {
        let quiet = schedule(&[]);
        assert_eq!(quiet[..6], [0.0, 1.0, 2.0, 3.2, 5.2, 8.4]);
        assert!(quiet.windows(2).all(|two| two[1] - two[0] < 12.2), "{quiet:?}");
        for networks in [&[][..], &[0.0], &[5.0], &[20.0], &[50.0], &[1.0, 2.0, 3.0, 10.0, 30.0]] {
            let times = schedule(networks);
            for first in 0..times.len() {
                let minute = times[first..].iter().filter(|at| **at - times[first] < 60.0);
                assert!(minute.count() <= UNANSWERED_MAX, "{networks:?}: {times:?}");
            }
            for at in networks {
                let next = times.iter().find(|time| *time >= at).unwrap();
                assert!(next - at < 0.4 || times.len() > UNANSWERED_MAX, "{networks:?}: {times:?}");
            }
        }
    }
}
