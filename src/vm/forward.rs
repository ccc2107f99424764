//! Finds the ports of this host that QEMU forwards to a guest, from QEMU's arguments. Pure.

use super::options::{Argument, arguments};
use crate::source::{Problem, Span};
use crate::words::Word;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The options that define networks.
const NETWORKS: &[&str] = &["netdev", "nic", "net"];
/// The types of networks whose ports another program forwards.
const OUTSIDE: &[&str] = &["passt", "stream", "vhost-user"];

/// The types of networks in which a guest has an address that this host reaches.
pub(crate) const ADDRESSED: &[&str] =
    &["bridge", "l2tpv3", "tap", "vde", "vmnet-bridged", "vmnet-host", "vmnet-shared"];

/// The address of a port that is written without one.
const LOCAL: &str = "127.0.0.1";
/// The placeholder for the port of this host that leads to the guest's ssh server.
pub(crate) const SSH_PORT: &str = "{{.vm.ssh.port}}";
/// Examples of a forwarded port as `ports` and `forward` take it.
pub(crate) const FORMS: &str =
    "like `8080:80`, or `0.0.0.0:5353:53/udp`, with the port of this host first";

/// A forwarded port: `hostfwd=[tcp|udp]:[ADDRESS]:PORT-[GUEST_ADDRESS]:GUEST_PORT` (`slirp_hostfwd`
/// of net/slirp.c).
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) rule: String,
    /// The place of the word that contains the rule.
    pub(crate) word: Span,
    pub(crate) udp: bool,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) guest: String,
    pub(crate) guest_port: u16,
}

impl Forward {
    pub(crate) fn parse(rule: &str, word: Span) -> Option<Self> {
        let (protocol, rest) = rule.split_once(':')?;
        // An address of IPv6 stands in brackets.
        let address_end = rest.find(']').filter(|_| rest.starts_with('[')).unwrap_or(0);
        let (address, rest) = rest.split_at(address_end + rest[address_end..].find(':')?);
        let (port, guest) = rest[1..].split_once('-')?;
        let (guest, guest_port) = guest.rsplit_once(':')?;
        Some(Self {
            rule: rule.into(),
            word,
            udp: match protocol {
                "" | "tcp" => false,
                "udp" => true,
                _ => return None,
            },
            address: address.into(),
            port: port.parse().ok()?,
            guest: guest.into(),
            guest_port: guest_port.parse().ok()?,
        })
    }

    /// Reads `[ADDRESS:]PORT:GUEST_PORT[/tcp|/udp]`; an error is a message, for [`FORMS`] as its
    /// hint. Only this host can use the port unless an address is written. `word` is its place.
    pub(crate) fn read(text: &str, word: Span) -> Result<Self, String> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (rest, guest_port) = ports.rsplit_once(':').unwrap_or_default();
        let (address, port) = rest.rsplit_once(':').unwrap_or((LOCAL, rest));
        let in_brackets = address.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let is_address = in_brackets
            .map_or(address.parse::<Ipv4Addr>().is_ok(), |it| it.parse::<Ipv6Addr>().is_ok());
        let rule = format!("{protocol}:{address}:{port}-:{guest_port}");
        // QEMU reads a number with a zero in front as octal.
        let is_plain = |text: &str| text.starts_with(|c| matches!(c, '1'..='9'));
        Self::parse(&rule, word)
            .filter(|_| is_address && is_plain(port) && is_plain(guest_port))
            .filter(|_| !protocol.is_empty())
            .ok_or_else(|| format!("`{}` is not a port to forward", text.escape_debug()))
    }

    /// Shows the forward as [`Self::read`] takes it.
    pub(crate) fn text(&self) -> String {
        let address = if self.address.is_empty() { "0.0.0.0" } else { &self.address };
        format!("{address}:{}:{}{}", self.port, self.guest_port, if self.udp { "/udp" } else { "" })
    }

    /// Whether both take the same port of this host.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.udp, it.port, it.address.replace("0.0.0.0", ""));
        place(self) == place(other)
    }

    /// Whether a host cannot have both at the same time.
    pub(crate) fn clashes_with(&self, other: &Self) -> bool {
        let is_any = |it: &Self| it.address.is_empty() || it.address == "0.0.0.0";
        let meets = self.address == other.address || is_any(self) || is_any(other);
        meets && (self.udp, self.port) == (other.udp, other.port)
    }

    /// Whether both lead from the same port of this host to the same port of the guest.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.is_at(other) && self.guest_port == other.guest_port
    }

    /// An argument that has this forward alone.
    pub(crate) fn argument(&self) -> Argument {
        Argument::new("nic".into(), Word::plain(format!("user,hostfwd={}", self.rule), self.word))
    }

    /// Shows the forward with another address and port.
    pub(crate) fn on(&self, address: &str, port: &str) -> String {
        let protocol = if self.udp { "udp" } else { "tcp" };
        format!("hostfwd={protocol}:{address}:{port}-{}:{}", self.guest, self.guest_port)
    }

    /// Whether a connection to 127.0.0.1 reaches this port.
    pub(crate) fn is_local(&self) -> bool {
        let here = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST];
        self.address.is_empty() || self.address.parse().is_ok_and(|address| here.contains(&address))
    }
}

pub(crate) fn forwards(arguments: &[Argument]) -> Vec<Forward> {
    let users = networks(arguments).filter(|network| network.first() == "user");
    let pairs = users.flat_map(|user| user.pairs.iter().map(|pair| (pair, user.span)));
    let rules = pairs.filter(|((key, _), _)| key == "hostfwd" || key.starts_with("hostfwd."));
    rules.filter_map(|((_, rule), word)| Forward::parse(rule, word)).collect()
}

/// Reads the texts of `ports`, and appends their forwards to the word of a user network. Gives
/// the forwards, and all problems.
pub(crate) fn append(
    words: &mut [Word],
    ports: &[Word],
    ssh_port: Option<u16>,
) -> (Vec<Forward>, Vec<Problem>) {
    let (mut forwards, mut problems) = (Vec::new(), Vec::new());
    for port in ports {
        match Forward::read(&port.text, port.span) {
            Ok(forward) => forwards.push(forward),
            Err(message) => problems.push(Problem::new(port.span, message).hint(FORMS)),
        }
    }
    let Some(first) = ports.first() else { return (forwards, problems) };
    let arguments = arguments(words.to_vec());
    let others = self::forwards(&arguments);
    for (at, port) in forwards.iter().enumerate() {
        if others.iter().chain(&forwards[..at]).any(|other| other.clashes_with(port)) {
            let message = format!("port {} of this host is forwarded twice", port.port);
            problems.push(Problem::new(port.word, message).hint("leave one of them out"));
        }
    }
    match network(&arguments, ssh_port) {
        Ok(network) => {
            let is_it = |word: &&mut Word| word.span == network.span && word.text == network.value;
            if let Some(word) = words.iter_mut().find(is_it) {
                word.text.extend(forwards.iter().flat_map(|it| [",hostfwd=", &it.rule]));
            }
        }
        Err((message, hint)) => problems.push(Problem::new(first.span, message).hint(hint)),
    }
    (forwards, problems)
}

/// Finds the user network that forwards `ssh_port`, or else the only one. An error has a message
/// and a hint.
fn network(
    arguments: &[Argument],
    ssh_port: Option<u16>,
) -> Result<&Argument, (&'static str, &'static str)> {
    // Nothing can be appended to JSON.
    let is_user = |it: &&Argument| it.first() == "user" && !it.value.starts_with('{');
    let users: Vec<&Argument> = networks(arguments).filter(is_user).collect();
    let for_ssh = |argument: &&&Argument| {
        let forwards = forwards(std::slice::from_ref(**argument));
        forwards.iter().any(|one| !one.udp && Some(one.port) == ssh_port)
    };
    match (users.iter().find(for_ssh), users.as_slice()) {
        (Some(network), _) | (None, [network]) => Ok(*network),
        (None, []) => Err((
            "`cmd` has no user network to which `ports` could be added",
            "`cmd` needs one, like `-nic user`, and not as JSON",
        )),
        (None, _) => Err((
            "`cmd` has several user networks, and none forwards ssh's port",
            "write these ports as `hostfwd` in the network that is meant",
        )),
    }
}

/// The arguments that define networks, as far as they are known.
pub(crate) fn networks(arguments: &[Argument]) -> impl Iterator<Item = &Argument> {
    let known = arguments.iter().filter(|argument| !argument.is_expanded);
    known.filter(|argument| NETWORKS.contains(&argument.name.as_str()))
}

/// Whether other programs, a file of arguments, or a part that a shell would expand may forward
/// ports that no argument shows.
pub(crate) fn is_left_to_others(arguments: &[Argument]) -> bool {
    let may_forward = |name: &str| name.is_empty() || NETWORKS.contains(&name);
    arguments.iter().any(|argument| {
        argument.name == "readconfig" || argument.is_expanded && may_forward(&argument.name)
    }) || networks(arguments).any(|network| OUTSIDE.contains(&network.first()))
}

/// The rule that lets ssh reach this port of a guest.
pub(crate) fn for_ssh(guest_port: u16) -> String {
    format!("hostfwd=tcp:{LOCAL}:{SSH_PORT}-:{guest_port}")
}

/// Whether QEMU forwards this port of 127.0.0.1, or another program may do so.
pub(crate) fn may_reach(arguments: &[Argument], port: u16) -> bool {
    let leads = |forward: &Forward| !forward.udp && forward.port == port && forward.is_local();
    is_left_to_others(arguments) || forwards(arguments).iter().any(leads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_their_rules() {
        for (text, rule) in [
            ("8080:80", "tcp:127.0.0.1:8080-:80"),
            ("1:65535/tcp", "tcp:127.0.0.1:1-:65535"),
            ("0.0.0.0:53:5353/udp", "udp:0.0.0.0:53-:5353"),
            ("[::1]:8080:80", "tcp:[::1]:8080-:80"),
            ("", ""),
            ("8080", ""),
            ("8080:80/sctp", ""),
            ("8080:80/", ""),
            ("0:80", ""),
            ("8080:65536", ""),
            ("8080:+80", ""),
            ("8080:080", ""),
            (":80", ""),
            ("::1:8080:80", ""),
            ("localhost:8080:80", ""),
            ("1.2.3.4,x=y:8080:80", ""),
        ] {
            let found = Forward::read(text, Span::default());
            assert_eq!(found.map(|it| it.rule).unwrap_or_default(), rule, "{text}");
            if let Ok(forward) = Forward::read(text, Span::default()) {
                assert_eq!(Forward::read(&forward.text(), Span::default()).unwrap().rule, rule);
            }
        }
    }
}
