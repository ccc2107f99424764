//! Rules about ports of this host: where ssh goes, who can reach a port, and who else takes it.

use super::Subject;
use super::findings::{Shared, groups, listed};
use crate::text::{Problem, Source, Span};
use crate::vm::options::{Argument, Pairs};
use std::net::Ipv4Addr;

/// Networks that leave it to another program to forward ports.
const OUTSIDE: &[&str] = &["passt", "stream", "vhost-user"];

/// The right port in a `hostfwd` for ssh, whatever it is.
const SSH_PORT: &str = "{{.vm.ssh.port}}";

/// A `hostfwd=[tcp|udp]:[ADDRESS]:PORT-[GUEST_ADDRESS]:GUEST_PORT` (`slirp_hostfwd` of
/// net/slirp.c).
struct Forward {
    rule: String,
    /// The place of the word that it is in.
    word: Span,
    udp: bool,
    address: String,
    port: u16,
    guest: String,
    guest_port: u16,
}

pub(super) fn problems(source: &Source, subject: &Subject) -> Vec<Problem> {
    let forwards = forwards(&subject.arguments);
    let open = forwards.iter().filter(|forward| forward.address.is_empty());
    let mut problems: Vec<Problem> = open
        .map(|forward| {
            let (place, port) = written(source, subject, forward);
            let message = format!("`{}` listens on all interfaces", forward.on("", &port));
            let local = forward.on("127.0.0.1", &port);
            Problem::new(place, message)
                .hint(format!("`{local}` opens it to this host alone; 0.0.0.0 means all"))
        })
        .collect();
    if subject.by_port {
        problems.extend(ssh_problem(source, subject, &forwards));
    }
    problems
}

/// Where a rule stands, and its port as it was most likely written: VMs that share a word with a
/// placeholder for their own ports have the same problem.
fn written(source: &Source, subject: &Subject, forward: &Forward) -> (Span, String) {
    let place = source.within(forward.word, &forward.rule);
    let is_literal = source.text[place.start..place.end].contains(&forward.rule);
    let is_own = forward.port == subject.ssh_port && !is_literal;
    (place, if is_own { SSH_PORT.into() } else { forward.port.to_string() })
}

/// Whether ssh, which goes to a port of 127.0.0.1, is led to the guest's.
fn ssh_problem(source: &Source, subject: &Subject, forwards: &[Forward]) -> Option<Problem> {
    let leading = || forwards.iter().filter(|forward| forward.is_for_ssh(subject));
    let Some(first) = leading().next() else { return nothing_forwards(subject) };
    if leading().any(|forward| forward.port == subject.ssh_port && forward.is_local()) {
        return None;
    }
    let (place, port) = written(source, subject, first);
    let (what, or) = if first.port == subject.ssh_port {
        let or = "or set `HostName` among the VM's ssh options";
        ("does not listen on 127.0.0.1, where ssh connects", or.into())
    } else {
        let or = format!("or set `port = {port}` among the VM's ssh options");
        ("forwards another port than the one that ssh connects to", or)
    };
    let problem = Problem::new(place, format!("`{}` {what}", first.on(&first.address, &port)));
    Some(problem.hint(format!("write `{}`, {or}", first.on("127.0.0.1", SSH_PORT))))
}

fn nothing_forwards(subject: &Subject) -> Option<Problem> {
    let networks = || subject.arguments.iter().filter_map(network);
    if networks().any(|(_, pairs)| OUTSIDE.iter().any(|kind| pairs.get("type") == Some(kind))) {
        return None;
    }
    let vm_port = subject.vm.vm_port.get();
    let rule = format!("hostfwd=tcp:127.0.0.1:{SSH_PORT}-:{vm_port}");
    let (place, hint) = match networks().find(|(_, pairs)| pairs.get("type") == Some("user")) {
        Some((argument, _)) => (argument.span, format!("add `,{rule}` to it")),
        None => (subject.vm.span, format!("add `-nic user,{rule}` to `cmd`")),
    };
    let message = format!("nothing forwards a port of this host to the guest's ssh port {vm_port}");
    Some(Problem::new(place, message).hint(hint))
}

/// Ports of this host that several VMs take.
pub(super) fn shared<'a>(subjects: &'a [Subject]) -> Shared<'a> {
    let of_one = |subject: &'a Subject| {
        let vm = subject.vm;
        let fixed = vm.port.fixed().filter(|_| subject.by_port);
        let for_ssh = fixed.map(|port| ((false, port), vm.name.as_str(), (vm.span, true)));
        // The one for ssh is counted with it, or chosen so that nobody else has it. Port 0 is
        // whatever is free.
        let others = forwards(&subject.arguments).into_iter().filter(|forward| {
            let for_ssh = forward.is_for_ssh(subject) && forward.port == subject.ssh_port;
            !for_ssh && forward.port != 0
        });
        let others =
            others.map(|other| ((other.udp, other.port), vm.name.as_str(), (other.word, false)));
        for_ssh.into_iter().chain(others)
    };
    let shared = groups(subjects.iter().flat_map(of_one)).map(|((udp, port), group)| {
        let names: Vec<&str> = group.iter().map(|(vm, _)| *vm).collect();
        let (listed, kind) = (listed(&names), if udp { "UDP" } else { "TCP" });
        let message = if group.iter().all(|(_, (_, for_ssh))| *for_ssh) {
            format!("{listed} have the same ssh port, {port}")
        } else {
            format!("{listed} take the same {kind} port of this host, {port}")
        };
        let problem = Problem::new(group[1].1.0, message);
        (names, problem.hint("only one of them can run at a time: give each a port of its own"))
    });
    shared.collect()
}

fn forwards(arguments: &[Argument]) -> Vec<Forward> {
    let mut forwards = Vec::new();
    for (argument, pairs) in arguments.iter().filter_map(network) {
        if pairs.get("type") == Some("user") {
            let is_rule = |key: &str| key == "hostfwd" || key.starts_with("hostfwd.");
            let rules = pairs.0.iter().filter(|(key, _)| is_rule(key));
            forwards.extend(rules.filter_map(|(_, rule)| Forward::parse(rule, argument.span)));
        }
    }
    forwards
}

fn network(argument: &Argument) -> Option<(&Argument, Pairs)> {
    let is_network = ["netdev", "nic", "net"].contains(&argument.name.as_str());
    is_network.then(|| (argument, Pairs::parse(&argument.value, "type")))
}

impl Forward {
    fn parse(rule: &str, word: Span) -> Option<Self> {
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
    fn on(&self, address: &str, port: &str) -> String {
        let protocol = if self.udp { "udp" } else { "tcp" };
        format!("hostfwd={protocol}:{address}:{port}-{}:{}", self.guest, self.guest_port)
    }

    fn is_for_ssh(&self, subject: &Subject) -> bool {
        !self.udp && self.guest_port == subject.vm.vm_port.get()
    }

    /// Whether a connection to 127.0.0.1 reaches it.
    fn is_local(&self) -> bool {
        let here = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST];
        self.address.is_empty() || self.address.parse().is_ok_and(|address| here.contains(&address))
    }
}
