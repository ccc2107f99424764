//! Finds the ports of this host that QEMU forwards to a guest, from QEMU's arguments. Pure.

use super::options::{Argument, Pairs};
use crate::source::Span;
use std::net::Ipv4Addr;

/// The types of networks whose ports another program forwards.
const OUTSIDE: &[&str] = &["passt", "stream", "vhost-user"];

/// The types of networks in which a guest has an address that this host reaches.
const ADDRESSED: &[&str] =
    &["bridge", "l2tpv3", "tap", "vde", "vmnet-bridged", "vmnet-host", "vmnet-shared"];

/// A forwarded port: `hostfwd=[tcp|udp]:[ADDRESS]:PORT-[GUEST_ADDRESS]:GUEST_PORT` (`slirp_hostfwd`
/// of net/slirp.c).
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
        let (address, rest) = rest.split_once(':')?;
        let (port, guest) = rest.split_once('-')?;
        let (guest, guest_port) = guest.split_once(':')?;
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
    let mut forwards = Vec::new();
    for (argument, pairs) in networks(arguments) {
        if pairs.get("type") == Some("user") {
            let is_rule = |key: &str| key == "hostfwd" || key.starts_with("hostfwd.");
            let rules = pairs.0.iter().filter(|(key, _)| is_rule(key));
            forwards.extend(rules.filter_map(|(_, rule)| Forward::parse(rule, argument.span)));
        }
    }
    forwards
}

/// The arguments that define networks, each with its keys, as far as they are known.
pub(crate) fn networks(arguments: &[Argument]) -> impl Iterator<Item = (&Argument, Pairs)> {
    let is_network = |name: &str| ["netdev", "nic", "net"].contains(&name);
    arguments
        .iter()
        .filter(move |argument| is_network(&argument.name) && !argument.is_expanded)
        .map(|argument| (argument, Pairs::parse(&argument.value, "type")))
}

/// Whether this host reaches a guest by its address in a network of this type.
pub(crate) fn gives_an_address(kind: &str) -> bool {
    ADDRESSED.contains(&kind)
}

/// Whether ports may be forwarded that are in no argument: by another program, by a file of
/// arguments, or by what a shell would put there.
pub(crate) fn is_left_to_others(arguments: &[Argument]) -> bool {
    let may_forward = |name: &str| ["", "netdev", "nic", "net"].contains(&name);
    arguments.iter().any(|argument| {
        argument.name == "readconfig" || argument.is_expanded && may_forward(&argument.name)
    }) || networks(arguments)
        .any(|(_, pairs)| OUTSIDE.iter().any(|kind| pairs.get("type") == Some(kind)))
}

/// Whether QEMU forwards this port of 127.0.0.1, or another program may do so.
pub(crate) fn may_reach(arguments: &[Argument], port: u16) -> bool {
    let leads = |forward: &Forward| !forward.udp && forward.port == port && forward.is_local();
    is_left_to_others(arguments) || forwards(arguments).iter().any(leads)
}
