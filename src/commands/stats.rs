//! `qqmgr stats VM...`: the resources of the host that VMs use, once or each second.

use super::target::Target;
use super::vms::{self, Scope};
use crate::answers::Answers;
use crate::cli::{Args, Command, Flag, spec};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::out::{self, Reader};
use crate::redraw::Redraw;
use crate::report::{Fields, Report};
use crate::text::{duration, sanitized, size};
use crate::vm::stats::{self, Stats};
use crate::vm::usernet::Network;
use crate::vm::wait::poll_long;
use std::time::{Duration, Instant};

pub(crate) static COMMAND: Command = Command {
    name: "stats",
    about: "Show what VMs use: CPU, memory, disks, network",
    details: "CPU time is that of QEMU's process, over its life, and with `--watch` over the\n\
              last second.",
    operands: &[spec::VMS],
    flags: &[&spec::ALL, &WATCH],
    examples: &["stats dev", "stats --all --watch"],
    ..Command::DEFAULT
};

static WATCH: Flag = Flag::switch("watch", "Again each second, as long as the VMs run").short('w');

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Args, answers: &mut Answers) -> Result<(), Error> {
    if args.has(&WATCH) {
        return vms::together(args, Scope::Running, answers, watch);
    }
    vms::each(args, Scope::Running, None, "", answers, |target| {
        Ok(report(&target.name, &stats::look(&target.paths, &target.log)?, None))
    })?;
    Ok(())
}

/// Measures the VMs each second, until none of them runs any more or the output has no reader. On a
/// terminal, each measurement is drawn over the one before. Reports errors, except the end of a VM
/// that has been measured.
fn watch(targets: Vec<Target>, answers: &mut Answers) -> Result<(), Error> {
    let json = targets.first().is_some_and(|target| target.args.json());
    let several = targets.len() > 1;
    let mut redraw = Redraw::on_terminal().filter(|_| !json);
    let mut watched: Vec<(Target, Option<Stats>)> =
        targets.into_iter().map(|target| (target, None)).collect();
    let mut next = Instant::now();
    while !watched.is_empty() {
        // In parallel: a VM that does not answer does not delay the others.
        let mut looks = Vec::new();
        let look = |(target, _): &(Target, _)| stats::look(&target.paths, &target.log);
        vms::in_parallel(&watched, usize::MAX, look, |news| looks.extend(news));
        looks.sort_by_key(|(at, _)| *at);
        let (mut shown, mut left) = (Vec::new(), Vec::new());
        for ((target, last), (_, look)) in watched.into_iter().zip(looks) {
            match (look, &last) {
                // Another start has followed.
                (Ok(stats), Some(last)) if last.process.pid != stats.process.pid => {}
                (Ok(stats), last) => {
                    let report = report(&target.name, &stats, last.as_ref());
                    let json = report.json.filter(|_| json);
                    shown.push(json.map_or(report.text, |json| json.compact()));
                    left.push((target, Some(stats)));
                }
                (Err(error), Some(_)) if error.kind == Kind::NotRunning => {}
                (Err(error), _) => {
                    answers.tell(Err(error.of_vm(&target.name, several)));
                    // The earlier drawing has moved.
                    redraw = redraw.and(Redraw::on_terminal());
                }
            }
        }
        watched = left;
        if !shown.is_empty() && write(&shown.join("\n"), &mut redraw)? == Reader::Gone {
            break;
        }
        next += INTERVAL;
        let has_ended = |(_, last): &(_, Option<Stats>)| {
            last.as_ref().is_some_and(|last| !last.process.is_alive())
        };
        poll_long(Some(next), || watched.iter().all(has_ended).then_some(()));
    }
    Ok(())
}

/// Writes the text. If not on a terminal, an empty line follows, and each document has its own
/// line.
fn write(text: &str, redraw: &mut Option<Redraw>) -> Result<Reader, Error> {
    match redraw {
        Some(redraw) => redraw.draw(text),
        None => out::write(format!("{text}\n").as_bytes()),
    }
}

/// The report of a measurement. CPU time counts from the measurement `before`, if there was one;
/// otherwise from QEMU's start.
fn report(name: &str, stats: &Stats, before: Option<&Stats>) -> Report {
    let Stats { process, uptime, usage, state, machine, .. } = stats;
    let mut fields = Fields::default();
    fields.fact("name", Some(name), "name", name);
    fields.fact("pid", Some(process.pid), "pid", process.pid);
    fields.fact("state", Some(state.name()), "state", state.name());
    fields.fact("uptime", uptime.map(duration), "uptime_seconds", uptime.map(|it| it.as_secs()));
    let percent = cpu_percent(stats, before).map(|percent| format!("{percent:.1}"));
    let share = percent.as_ref().map(|percent| format!(", {percent} % of one CPU"));
    let cpu = usage.map(|usage| usage.cpu);
    let cpu_text =
        |cpu: Duration| format!("{:.1} s{}", cpu.as_secs_f64(), share.unwrap_or_default());
    fields.fact("cpu", cpu.map(cpu_text), "cpu_seconds", cpu.map(Value::seconds));
    fields.member("cpu_percent", percent.map(Value::Number));
    let memory = usage.map(|usage| usage.rss_bytes);
    fields.fact("memory", memory.map(size), "rss_bytes", memory);
    fields.fact("vcpus", machine.vcpus, "vcpus", machine.vcpus);
    let balloon = machine.balloon_bytes.map(|left| format!(", balloon leaves {}", size(left)));
    let has = machine.memory_bytes.map(|bytes| size(bytes) + &balloon.unwrap_or_default());
    fields.fact("guest has", has, "memory_bytes", machine.memory_bytes);
    fields.member("balloon_bytes", machine.balloon_bytes);
    machine.disks.iter().for_each(|disk| fields.line("disk", disk_text(disk)));
    fields.member("disks", Value::Array(machine.disks.clone()));
    machine.networks.iter().for_each(|network| fields.line("network", network_text(network)));
    fields.member("networks", machine.networks.iter().map(network_json).collect::<Value>());
    fields.report("name, state")
}

/// The CPU time used; 100 is one CPU of the host.
fn cpu_percent(stats: &Stats, before: Option<&Stats>) -> Option<f64> {
    let used = stats.usage?.cpu;
    let (used, time) = match before {
        Some(before) => (used.saturating_sub(before.usage?.cpu), stats.at - before.at),
        None => (used, stats.uptime?),
    };
    // For a process that has just begun, there is nothing to report.
    let percent = 100.0 * used.as_secs_f64() / time.as_secs_f64();
    percent.is_finite().then_some(percent)
}

fn disk_text(disk: &Value) -> String {
    let count = |name| disk.number(name).unwrap_or_default();
    let reads = counted(count("rd_operations"), "read", "reads");
    let writes = counted(count("wr_operations"), "write", "writes");
    let flushes = counted(count("flush_operations"), "flush", "flushes");
    let name = sanitized(disk.text("name").unwrap_or_default());
    let (read, written) = (size(count("rd_bytes")), size(count("wr_bytes")));
    let failed = match count("failed_operations") {
        0 => String::new(),
        count => format!(", {count} FAILED"),
    };
    format!("{name}: {read} in {reads}, {written} in {writes}, {flushes}{failed}")
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn network_text(network: &Network) -> String {
    let Network { name, from_guest_bytes: from, to_guest_bytes: to, .. } = network;
    let connections = counted(network.connections, "connection", "connections");
    let waiting = match (from, to) {
        (0, 0) => String::new(),
        _ => format!(", waiting: {} from the guest, {} to it", size(*from), size(*to)),
    };
    format!("{}: {connections}{waiting}", sanitized(name))
}

fn network_json(network: &Network) -> Value {
    Value::object([
        ("name", Value::from(network.name.as_str())),
        ("connections", network.connections.into()),
        ("from_guest_bytes", network.from_guest_bytes.into()),
        ("to_guest_bytes", network.to_guest_bytes.into()),
    ])
}
