//! The resources that a VM uses: the system reports those of its process, and QEMU those of its
//! machine. Reads only.
//!
//! QEMU is asked for everything, and facts that it does not know are left out: a QEMU without a
//! balloon refuses `query-balloon`, and an old QEMU has fewer commands.

use super::process::Process;
use super::session::Session;
use super::state::State;
use super::usernet::{Network, QUESTION, networks};
use super::{Look, Paths, qmp};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::linux::{self, Usage};
use crate::log::Log;
use crate::system::process;
use std::time::{Duration, Instant};

/// How long to wait for all answers together.
const ANSWERS_WAIT: Duration = Duration::from_millis(1900);

const DISK_COUNTERS: &[&str] =
    &["rd_bytes", "rd_operations", "wr_bytes", "wr_operations", "flush_operations"];

/// One measurement of a running VM.
pub(crate) struct Stats {
    pub(crate) at: Instant,
    pub(crate) process: Process,
    pub(crate) uptime: Option<Duration>,
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

/// Measures the VM: an error of [`Kind::NotRunning`] when it is not running. A QEMU that
/// does not answer is not an error.
pub(crate) fn look(paths: &Paths, log: &Log) -> Result<Stats, Error> {
    let look = Look::everywhere(paths)?;
    let process = look.running(paths)?.clone();
    let at = Instant::now();
    let usage = if linux::is_there() { linux::usage } else { process::usage }(process.pid);
    let uptime = look.uptime();
    let glance = State::at_a_glance(&look, paths);
    let answered = match glance {
        State::Unresponsive => None,
        _ => Some(
            Session::open_at(&look, paths, log)
                .and_then(|mut session| ask(&mut session, at + ANSWERS_WAIT)),
        ),
    };
    let (state, machine) = match answered {
        Some(Ok((state, machine))) => (State::Qemu(state), machine),
        Some(Err(error)) if error.kind == Kind::NotRunning => return Err(error),
        _ if glance == State::Starting => (glance, Machine::default()),
        _ => (State::Unresponsive, Machine::default()),
    };
    Ok(Stats { at, process, uptime, usage, state, machine })
}

/// Asks for the run state and all figures.
fn ask(session: &mut Session, deadline: Instant) -> Result<(String, Machine), Error> {
    let state = session.run_state()?;
    // `None` when this QEMU has no answer.
    let mut ask = |command: &str, arguments: Option<&Value>| {
        let left = deadline.saturating_duration_since(Instant::now());
        match session.try_execute(left, command, arguments) {
            Err(qmp::Error::Refused { .. }) => Ok(None),
            answer => answer.map(Some).map_err(|error| session.explain(&error)),
        }
    };
    let cpus = ask("query-cpus-fast", None)?;
    let memory = ask("query-memory-size-summary", None)?;
    let balloon = ask("query-balloon", None)?;
    let blocks = ask("query-blockstats", None)?;
    // There is no QMP command for this.
    let usernet = Value::object([("command-line", Value::from(QUESTION))]);
    let usernet = ask("human-monitor-command", Some(&usernet))?;
    let machine = Machine {
        vcpus: cpus.map(|cpus| cpus.items().len()),
        memory_bytes: memory.and_then(|memory| {
            let plugged = memory.number("plugged-memory").unwrap_or(0);
            Some(memory.number("base-memory")? + plugged)
        }),
        balloon_bytes: balloon.and_then(|balloon| balloon.number("actual")),
        disks: blocks.iter().flat_map(Value::items).filter_map(disk).collect(),
        networks: usernet.as_ref().and_then(Value::as_str).map(networks).unwrap_or_default(),
    };
    Ok((state, machine))
}

/// The name of a drive, or of its block node if it has none, and its counters since QEMU's start
/// (`BlockDeviceStats` of `qapi/block-core.json`). `None` for a drive without a medium, which has
/// no block node.
fn disk(block: &Value) -> Option<Value> {
    let text = |name| block.text(name).filter(|text| !text.is_empty());
    let node = text("node-name")?;
    let stats = block.get("stats")?;
    let count = |name| stats.number(name).unwrap_or(0);
    let failed = ["failed_rd_operations", "failed_wr_operations", "failed_flush_operations"];
    let name = [("name", Value::from(text("device").unwrap_or(node)))].into_iter();
    let counters = DISK_COUNTERS.iter().map(|name| (*name, count(name).into()));
    let failed = ("failed_operations", failed.into_iter().map(count).sum::<u64>().into());
    Some(Value::object(name.chain(counters).chain([failed])))
}
