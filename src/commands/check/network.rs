//! Rules about ports of this host: where ssh goes, who can reach a port, and who else uses it.

use super::findings::{Shared, groups};
use super::subject::Subject;
use crate::source::{Problem, Span};
use crate::text::listed;
use crate::vm::forward::{self, Forward, SSH_PORT, forwards, is_left_to_others, networks};
use crate::vm::sockets::listeners;

pub(super) fn problems(subject: &Subject) -> Vec<Problem> {
    let forwards = forwards(&subject.arguments);
    let mut problems: Vec<Problem> = open_forwards(subject, &forwards).collect();
    // A second server for debuggers is an error of its own.
    let is_second =
        |option: &str| subject.vm.gdb && (option == "-s" || option.starts_with("-gdb "));
    let listeners = listeners(&subject.arguments).into_iter();
    problems.extend(listeners.filter(|one| !is_second(&one.option)).filter_map(|listener| {
        let message = format!("`{}` listens on all interfaces", listener.option);
        let hint = format!("`{}` opens it to this host alone", listener.local?);
        let all = if listener.option == "-s" {
            "; `gdb = true` makes a socket for this user alone"
        } else {
            "; 0.0.0.0 means all"
        };
        Some(Problem::new(listener.word, message).hint(hint + all))
    }));
    if subject.by_port {
        problems.extend(ssh_problem(subject, &forwards));
    }
    problems
}

/// The finding for all forwarded ports that are open to all interfaces.
fn open_forwards(subject: &Subject, forwards: &[Forward]) -> impl Iterator<Item = Problem> {
    let open = forwards.iter().filter(|forward| forward.address.is_empty());
    let open = open.map(|forward| (forward, written(subject, forward)));
    let all: Vec<_> = open.collect();
    let rules: Vec<String> = all.iter().map(|(one, (_, port))| one.on("", port)).collect();
    let problem = all.first().map(|(first, (place, port))| {
        let (verb, them) = if all.len() == 1 { ("listens", "it") } else { ("listen", "them") };
        let message = format!("{} {verb} on all interfaces", listed(&rules, "and"));
        let local = first.on("127.0.0.1", port);
        let hint = format!("`{local}` opens {them} to this host alone; 0.0.0.0 means all");
        Problem::new(*place, message).hint(hint)
    });
    problem.into_iter()
}

/// The place of a rule, and its port as it was most likely written. VMs that share a word with a
/// placeholder for their own ports have the same problem.
fn written(subject: &Subject, forward: &Forward) -> (Span, String) {
    let source = &subject.config.source;
    let place = source.within(forward.word, &forward.rule);
    let is_literal = source.text[place.start..place.end].contains(&forward.rule);
    let is_own = Some(forward.port) == subject.ssh_port && !is_literal;
    (place, if is_own { SSH_PORT.into() } else { forward.port.to_string() })
}

/// Reports if ssh, which connects to a port of 127.0.0.1, does not reach the guest.
fn ssh_problem(subject: &Subject, forwards: &[Forward]) -> Option<Problem> {
    let leading = || forwards.iter().filter(|forward| is_for_ssh(forward, subject));
    let Some(first) = leading().next() else { return nothing_forwards(subject) };
    if leading().any(|forward| Some(forward.port) == subject.ssh_port && forward.is_local()) {
        return None;
    }
    let (place, port) = written(subject, first);
    let (what, or) = if Some(first.port) == subject.ssh_port {
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
    if is_left_to_others(&subject.arguments) {
        return None;
    }
    let vm_port = subject.vm.vm_port;
    let rule = forward::for_ssh(vm_port);
    let network = |is_it: &dyn Fn(&str) -> bool| {
        networks(&subject.arguments).find(|it| is_it(it.first())).map(|network| network.span)
    };
    let (place, hint) = if let Some(place) = network(&|kind| kind == "user") {
        (place, format!("add `,{rule}` to it"))
    } else if let Some(place) = network(&|kind| forward::ADDRESSED.contains(&kind)) {
        (place, "set `HostName` among the VM's ssh options to the guest's address".into())
    } else {
        (subject.vm.span, format!("add `-nic user,{rule}` to `cmd`"))
    };
    let message = format!("nothing forwards a port of this host to the guest's ssh port {vm_port}");
    Some(Problem::new(place, message).hint(hint))
}

/// Finds the ports of this host that several VMs use.
pub(super) fn shared<'a>(subjects: &'a [Subject]) -> Shared<'a> {
    let of_one = |subject: &'a Subject| {
        let vm = subject.vm;
        let fixed = vm.port.fixed().filter(|_| subject.by_port);
        let for_ssh = fixed.map(|port| ((false, port), vm.name.as_str(), (vm.span, true)));
        // The port for ssh is counted above, or chosen so that no other VM has it. Port 0 means any
        // free port.
        let others = forwards(&subject.arguments).into_iter().filter(|forward| {
            let for_ssh = is_for_ssh(forward, subject) && Some(forward.port) == subject.ssh_port;
            !for_ssh && forward.port != 0
        });
        let others = others.map(|other| ((other.udp, other.port), other.word));
        let served = listeners(&subject.arguments).into_iter().filter(|one| one.port != 0);
        let others = others.chain(served.map(|listener| ((false, listener.port), listener.word)));
        let others = others.map(|(port, word)| (port, vm.name.as_str(), (word, false)));
        for_ssh.into_iter().chain(others)
    };
    let shared = groups(subjects.iter().flat_map(of_one)).map(|((udp, port), group)| {
        let names: Vec<&str> = group.iter().map(|(vm, _)| *vm).collect();
        let (listed, kind) = (listed(&names, "and"), if udp { "UDP" } else { "TCP" });
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

fn is_for_ssh(forward: &Forward, subject: &Subject) -> bool {
    !forward.udp && forward.guest_port == subject.vm.vm_port
}
