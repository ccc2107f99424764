//! QEMU's own networks, as a running QEMU reports them in the text of `info usernet`: there is no
//! QMP command for them.

use super::forward::Forward;
use crate::source::Span;

/// A network of QEMU's own, `-netdev user`: the only kind whose traffic QEMU reports.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// The guest's open connections, of every protocol; forwarded ports that wait for a connection
    /// do not count.
    pub(crate) connections: u64,
    /// The bytes that wait in QEMU, on their way from the guest and to it.
    pub(crate) from_guest_bytes: u64,
    pub(crate) to_guest_bytes: u64,
    pub(crate) forwards: Vec<Forward>,
}

/// The command whose answer [`networks`] reads.
pub(crate) const QUESTION: &str = "info usernet";

/// Parses the text of `info usernet`: a line with the name of each network in parentheses, a
/// header, and a line for each connection, `PROTOCOL[STATE] FD ADDRESS PORT ADDRESS PORT RECVQ
/// SENDQ` (`slirp_connection_info` of libslirp). Other text gives no networks. Forwards are sorted.
pub(crate) fn networks(text: &str) -> Vec<Network> {
    let mut networks: Vec<Network> = Vec::new();
    for line in text.lines() {
        if let Some((_, name)) = line.strip_suffix("):").and_then(|line| line.rsplit_once('(')) {
            networks.push(Network { name: name.into(), ..Network::default() });
        } else if let (Some(network), Some(forward)) = (networks.last_mut(), forward(line)) {
            network.forwards.push(forward);
        } else if let (Some(network), Some((from, to))) = (networks.last_mut(), queues(line)) {
            network.connections += 1;
            network.from_guest_bytes += from;
            network.to_guest_bytes += to;
        }
    }
    // QEMU begins with the one that was added last.
    for network in &mut networks {
        network.forwards.sort_by_key(|forward| (forward.udp, forward.port));
    }
    networks
}

/// The forwarded port in a line; `*` is every address.
fn forward(line: &str) -> Option<Forward> {
    let (protocol, rest) = line.trim_start().split_once("[HOST_FORWARD]")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [_, address, port, guest, guest_port, ..] = words[..] else { return None };
    let address = match address {
        "*" => "0.0.0.0".to_string(),
        _ if address.contains(':') => format!("[{address}]"),
        _ => address.to_string(),
    };
    let protocol = protocol.to_ascii_lowercase();
    let rule = format!("{protocol}:{address}:{port}-{guest}:{guest_port}");
    Forward::parse(&rule, Span::default())
}

/// The bytes that wait in a connection, from the guest and to it.
fn queues(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace().rev();
    let (to, from) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(network: &Network) -> String {
        let Network { name, connections, from_guest_bytes: from, to_guest_bytes: to, forwards } =
            network;
        let forwards = forwards.iter().map(|forward| format!(" {}", forward.text()));
        format!("{name} {connections} {from} {to}{}", forwards.collect::<String>())
    }

    #[test]
    fn networks_of_a_real_text() {
        // The text of QEMU 7.2.
        let text = "Hub -1 (net0):\r\n  \
             Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
             TCP[ESTABLISHED]   29       127.0.0.1 38000       10.0.2.15    22     0    12\r\n  \
             TCP[HOST_FORWARD]  14       127.0.0.1 38000       10.0.2.15    22     0     0\r\n  \
             UDP[HOST_FORWARD]   3               *    53       10.0.2.15  5353     0     0\r\n  \
             UDP[236 sec]       30       10.0.2.15 51234        10.0.2.3    53     5     0\r\n\
             Hub -1 (net1):\r\n  \
             Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n";
        let networks = |text: &str| networks(text).iter().map(shown).collect::<Vec<_>>();
        assert_eq!(
            networks(text),
            ["net0 2 5 12 127.0.0.1:38000:22 0.0.0.0:53:5353/udp", "net1 0 0 0"]
        );
        assert_eq!(networks("unknown command: 'info usernet'\r\n"), [""; 0]);
        assert_eq!(networks(""), [""; 0]);
    }
}
