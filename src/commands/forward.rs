//! `qqmgr forward VM [PORT...]`: the ports of this host that lead to the guest of a running VM.
//!
//! Nothing is recorded: QEMU is asked what it forwards.

use super::start::ports::is_taken;
use super::target::Target;
use crate::cli::{Args, Command, Count, Flag, Operand, spec};
use crate::error::Error;
use crate::json::Value;
use crate::report::Outcome;
use crate::source::Span;
use crate::text::sanitized;
use crate::vm::forward::{FORMS, Forward};
use crate::vm::usernet::{Network, QUESTION, networks};
use crate::vm::{Instance, Session, causes, port};

pub(crate) static COMMAND: Command = Command {
    name: "forward",
    about: "Forward ports of this host to a running guest",
    details: "A PORT is [ADDRESS:]PORT:GUEST_PORT[/udp]; without ADDRESS, only this host can\n\
              use it. Without a PORT, all that lead to the guest are listed. They last until\n\
              QEMU ends; `ports` in the configuration has those of every start.",
    operands: &[spec::VM, Operand::new("PORT", Count::Any)],
    flags: &[&REMOVE],
    check,
    examples: &["forward dev 8080:80", "forward dev", "forward dev --remove 8080:80"],
    ..Command::DEFAULT
};

static REMOVE: Flag = Flag::switch("remove", "Stop forwarding these ports");

fn check(args: &Args) -> Result<(), Error> {
    if args.has(&REMOVE) && args.operands.len() == 1 {
        return Err(Error::usage("`--remove` needs a PORT"));
    }
    wanted(args).map(|_| ())
}

/// The ports of the command line, each once.
fn wanted(args: &Args) -> Result<Vec<Forward>, Error> {
    let mut ports: Vec<Forward> = Vec::new();
    for text in &args.operands[1..] {
        let port = Forward::read(&text.to_string_lossy(), Span::default())
            .map_err(|message| Error::usage(message).hint(FORMS))?;
        match ports.iter().find(|other| other.clashes_with(&port)) {
            Some(other) if other.is(&port) => {}
            Some(other) => {
                let (one, two) = (other.text(), port.text());
                return Err(Error::usage(format!("{one} and {two} need the same port")));
            }
            None => ports.push(port),
        }
    }
    Ok(ports)
}

pub(super) fn run(target: &Target) -> Outcome {
    let (name, ports) = (&target.name, wanted(target.args)?);
    let mut session = Session::open(&target.paths, &target.log)?;
    let ask = |session: &mut Session| session.monitor(QUESTION).map(|text| networks(&text));
    let networks = ask(&mut session)?;
    let text = if ports.is_empty() {
        lines("", networks.iter().flat_map(|network| &network.forwards))
    } else if target.args.has(&REMOVE) {
        remove(target, &mut session, &networks, &ports)?;
        lines(&format!("{name} no longer forwards "), &ports)
    } else {
        add(target, &mut session, &networks, &ports)?;
        lines(&format!("{name} forwards "), &ports)
    };
    let networks = if ports.is_empty() { networks } else { ask(&mut session)? };
    Ok(target.report(text, [("ports", json(&networks))]))
}

fn lines<'a>(what: &str, ports: impl IntoIterator<Item = &'a Forward>) -> String {
    ports.into_iter().flat_map(|port| [what.to_string(), port.text(), "\n".into()]).collect()
}

/// All forwarded ports, for scripts.
pub(super) fn json(networks: &[Network]) -> Value {
    networks.iter().flat_map(|network| &network.forwards).map(Forward::text).collect()
}

/// Adds all ports or none: to the network that has the port for ssh, or to the only network.
fn add(
    target: &Target,
    session: &mut Session,
    networks: &[Network],
    ports: &[Forward],
) -> Result<(), Error> {
    let (name, record) = (&target.name, Instance::read(&target.paths)?);
    let ssh_port = record.and_then(|record| record.ssh_port);
    let is_for_ssh = |it: &Forward| !it.udp && Some(it.port) == ssh_port;
    let for_ssh = networks.iter().find(|network| network.forwards.iter().any(is_for_ssh));
    let Some(network) = for_ssh.or(networks.first().filter(|_| networks.len() == 1)) else {
        let message =
            format!("VM `{name}` needs one user network, or one that forwards ssh's port");
        let hint = format!("`qqmgr monitor {name} info usernet` shows its user networks");
        return Err(Error::failed(message).hint(hint));
    };
    let mut added = Vec::new();
    for port in ports.iter().filter(|port| !network.forwards.iter().any(|it| it.is(port))) {
        let said = session.monitor(&format!("hostfwd_add {} {}", network.name, port.rule))?;
        if said.is_empty() {
            added.push(port);
            continue;
        }
        for port in added {
            end(session, network, port)?;
        }
        let mut own = networks.iter().flat_map(|it| &it.forwards);
        let own = own.find(|other| other.clashes_with(port));
        return Err(match own {
            Some(own) => Error::failed(format!("VM `{name}` already forwards {}", own.text()))
                .hint(format!("`qqmgr forward {name} --remove {}` ends that", own.text())),
            None if port::is_taken_for(port) => is_taken(target, port, "port"),
            None => refused(port, &said),
        });
    }
    Ok(())
}

/// Removes all ports, or none if one of them is not forwarded.
fn remove(
    target: &Target,
    session: &mut Session,
    networks: &[Network],
    ports: &[Forward],
) -> Result<(), Error> {
    let name = &target.name;
    let network_of = |port: &Forward| {
        networks.iter().find(|network| network.forwards.iter().any(|it| it.is(port)))
    };
    if let Some(port) = ports.iter().find(|port| network_of(port).is_none()) {
        let error = Error::failed(format!("VM `{name}` does not forward {}", port.text()));
        return Err(error.hint(format!("`qqmgr forward {name}` lists the ports that it forwards")));
    }
    for (port, network) in ports.iter().filter_map(|port| Some((port, network_of(port)?))) {
        let said = end(session, network, port)?;
        if !said.ends_with(" removed") {
            return Err(refused(port, &said));
        }
    }
    Ok(())
}

/// Ends a forward, and gives what QEMU says.
fn end(session: &mut Session, network: &Network, port: &Forward) -> Result<String, Error> {
    let place = port.rule.split('-').next().unwrap_or_default();
    session.monitor(&format!("hostfwd_remove {} {place}", network.name))
}

fn refused(port: &Forward, said: &str) -> Error {
    let error = Error::failed(format!("QEMU refuses {}: {}", port.text(), sanitized(said)));
    error.hint_if(causes::forwarding(said))
}
