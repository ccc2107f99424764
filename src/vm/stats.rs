//! The resources that a VM uses: those of its process as the system reports them, those of its
//! machine as QEMU does. Reads only.
//!
//! QEMU is asked for everything, and what it does not know is left out: a QEMU without a balloon
//! refuses `query-balloon`, and an old one has fewer commands.

use super::process::Process;
use super::session::Session;
use super::state::State;
use super::{Look, Paths, qmp};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::linux::{self, Usage};
use crate::log::Log;
use crate::system::ps;
use std::time::{Duration, Instant};

/// How long to wait for all answers together.
const ANSWERS_WAIT: Duration = Duration::from_millis(1900);

const DISK_COUNTERS: &[&str] =
    &["rd_bytes", "rd_operations", "wr_bytes", "wr_operations", "flush_operations"];

/// One measurement of a running VM.
pub(crate) struct Stats {
    pub(crate) at: Instant,
    pub(crate) process: Process,
    /// The usage of the process, if the system reports it.
    pub(crate) usage: Option<Usage>,
    pub(crate) state: State,
    pub(crate) machine: Machine,
}

/// QEMU's figures about its machine; empty if QEMU does not answer.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) vcpus: Option<usize>,
    /// The guest's memory, plugged memory included.
    pub(crate) memory_bytes: Option<u64>,
    /// The part of it that a balloon leaves to the guest.
    pub(crate) balloon_bytes: Option<u64>,
    /// A document for each drive: its name and its counters.
    pub(crate) disks: Vec<Value>,
    pub(crate) networks: Vec<Network>,
}

/// A network of QEMU's own, `-netdev user`: the only kind whose traffic QEMU reports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// The guest's open connections, of every protocol; forwarded ports that wait for a connection
    /// do not count.
    pub(crate) connections: u64,
    /// The bytes that wait in QEMU, on their way from the guest and to it.
    pub(crate) from_guest_bytes: u64,
    pub(crate) to_guest_bytes: u64,
}

/// Measures the VM: an error of [`Kind::NotRunning`] when it is not running. A QEMU that
/// does not answer is not an error.
pub(crate) fn look(paths: &Paths, log: &Log) -> Result<Stats, Error> {
    let look = Look::everywhere(paths)?;
    let process = look.running(paths)?.clone();
    let (at, usage) = (Instant::now(), usage(process.pid));
    let glance = State::at_a_glance(paths, Some(&process), look.record.as_ref());
    if glance == State::Unresponsive {
        return Ok(Stats { at, process, usage, state: glance, machine: Machine::default() });
    }
    let answered = Session::open_at(&look, paths, log).and_then(|mut session| {
        let answers = Answers { deadline: at + ANSWERS_WAIT, session: &mut session }.all();
        answers.map_err(|error| session.explain(&error))
    });
    let (state, machine) = match answered {
        Ok((state, machine)) => (State::Qemu(state), machine),
        Err(error) if error.kind == Kind::NotRunning => return Err(error),
        Err(_) if glance == State::Starting => (glance, Machine::default()),
        Err(_) => (State::Unresponsive, Machine::default()),
    };
    Ok(Stats { at, process, usage, state, machine })
}

fn usage(pid: u32) -> Option<Usage> {
    if linux::is_there() { linux::usage(pid) } else { ps::usage(pid) }
}

struct Answers<'a> {
    session: &'a mut Session,
    deadline: Instant,
}

impl Answers<'_> {
    /// Asks for the run state and all figures.
    fn all(mut self) -> Result<(String, Machine), qmp::Error> {
        let status = self.ask("query-status", None)?;
        let state = status.and_then(|status| status.get("status")?.as_str().map(str::to_string));
        let state = state.ok_or_else(|| qmp::Error::Garbled("a status without `status`".into()))?;
        let cpus = self.ask("query-cpus-fast", None)?;
        let memory = self.ask("query-memory-size-summary", None)?;
        let balloon = self.ask("query-balloon", None)?;
        let blocks = self.ask("query-blockstats", None)?;
        // There is no QMP command for this.
        let usernet = Value::object([("command-line", Value::from("info usernet"))]);
        let usernet = self.ask("human-monitor-command", Some(&usernet))?;
        let machine = Machine {
            vcpus: cpus.map(|cpus| cpus.items().len()),
            memory_bytes: memory.and_then(|memory| {
                let plugged = number(&memory, "plugged-memory").unwrap_or(0);
                Some(number(&memory, "base-memory")? + plugged)
            }),
            balloon_bytes: balloon.and_then(|balloon| number(&balloon, "actual")),
            disks: blocks.iter().flat_map(Value::items).filter_map(disk).collect(),
            networks: usernet.as_ref().and_then(Value::as_str).map(networks).unwrap_or_default(),
        };
        Ok((state, machine))
    }

    /// Asks QEMU one command; `None` when this QEMU has no answer.
    fn ask(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
    ) -> Result<Option<Value>, qmp::Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.session.try_execute(left, command, arguments) {
            Err(qmp::Error::Refused { .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }
}

pub(crate) fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_u64)
}

/// The name of a drive, or of its block node if it has none, and its counters since QEMU's start
/// (`BlockDeviceStats` of `qapi/block-core.json`). `None` for a drive without a medium, which has
/// no block node.
fn disk(block: &Value) -> Option<Value> {
    let text = |name| block.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let node = text("node-name")?;
    let stats = block.get("stats")?;
    let count = |name| number(stats, name).unwrap_or(0);
    let failed = ["failed_rd_operations", "failed_wr_operations", "failed_flush_operations"];
    let name = [("name", Value::from(text("device").unwrap_or(node)))].into_iter();
    let counters = DISK_COUNTERS.iter().map(|name| (*name, count(name).into()));
    let failed = ("failed_operations", failed.into_iter().map(count).sum::<u64>().into());
    Some(Value::object(name.chain(counters).chain([failed])))
}

/// Parses the text of `info usernet`: a line with the name of each network in parentheses, a
/// header, and a line for each connection, `PROTOCOL[STATE] FD ADDRESS PORT ADDRESS PORT RECVQ
/// SENDQ` (`slirp_connection_info` of libslirp). Other text gives no networks.
fn networks(text: &str) -> Vec<Network> {
    let mut networks: Vec<Network> = Vec::new();
    for line in text.lines() {
        if let Some((_, name)) = line.strip_suffix("):").and_then(|line| line.rsplit_once('(')) {
            networks.push(Network { name: name.into(), ..Network::default() });
        } else if let (Some(network), Some((from, to))) = (networks.last_mut(), queues(line)) {
            network.connections += 1;
            network.from_guest_bytes += from;
            network.to_guest_bytes += to;
        }
    }
    networks
}

/// The bytes that wait in a connection, from the guest and to it.
fn queues(line: &str) -> Option<(u64, u64)> {
    if line.contains("[HOST_FORWARD]") {
        return None;
    }
    let mut words = line.split_ascii_whitespace().rev();
    let (to, from) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_a_real_text() {
        // The text of QEMU 7.2.
        let text = "Hub -1 (net0):\r\n  \
             Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
             TCP[ESTABLISHED]   29       127.0.0.1 38000       10.0.2.15    22     0    12\r\n  \
             TCP[HOST_FORWARD]  14       127.0.0.1 38000       10.0.2.15    22     0     0\r\n  \
             UDP[236 sec]       30       10.0.2.15 51234        10.0.2.3    53     5     0\r\n\
             Hub -1 (net1):\r\n  \
             Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n";
        let net0 = Network {
            name: "net0".into(),
            connections: 2,
            from_guest_bytes: 5,
            to_guest_bytes: 12,
        };
        let net1 = Network { name: "net1".into(), ..Network::default() };
        assert_eq!(networks(text), [net0, net1]);
        assert_eq!(networks("unknown command: 'info usernet'\r\n"), []);
        assert_eq!(networks(""), []);
    }
}
