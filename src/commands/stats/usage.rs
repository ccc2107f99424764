//! The resources of the host that a VM uses, as text and as JSON.

use super::super::status::{duration, uptime};
use super::super::target::Target;
use crate::error::Error;
use crate::json::Value;
use crate::report::{Fields, Report};
use crate::text::{sanitized, size};
use crate::vm::Instance;
use crate::vm::stats::{self, Stats};
use crate::vm::usernet::Network;
use std::time::Duration;

/// The resources that a VM uses.
pub(super) struct Used {
    name: String,
    uptime: Option<Duration>,
    /// The CPU time used; 100 is one CPU of the host.
    cpu_percent: Option<f64>,
    pub(super) stats: Stats,
}

impl Used {
    /// Measures since an earlier look, if there was one; otherwise since QEMU's start.
    pub(super) fn now(target: &Target, before: Option<&Stats>) -> Result<Self, Error> {
        let Target { name, paths, log, .. } = target;
        let stats = stats::look(paths, log)?;
        let uptime = uptime(&stats.process, Instance::read(paths)?.as_ref());
        let cpu_percent = cpu_percent(&stats, uptime, before);
        Ok(Self { name: name.clone(), uptime, cpu_percent, stats })
    }

    pub(super) fn report(&self) -> Report {
        let (stats, machine, mut fields) = (&self.stats, &self.stats.machine, Fields::default());
        fields.line("name", &self.name);
        fields.line("state", stats.state.name());
        fields.line("pid", stats.process.pid);
        fields.member("name", &self.name);
        fields.member("pid", stats.process.pid);
        fields.member("state", stats.state.name());
        fields.line_if("uptime", self.uptime.map(duration));
        if let Some(usage) = stats.usage {
            let percent = self.cpu_percent.map(|percent| format!(", {percent:.1} % of one CPU"));
            let seconds = usage.cpu.as_secs_f64();
            fields.line("cpu", format!("{seconds:.1} s{}", percent.unwrap_or_default()));
            fields.line("memory", size(usage.rss_bytes));
        }
        fields.member("uptime_seconds", self.uptime.map(|uptime| uptime.as_secs()));
        fields.member("cpu_seconds", stats.usage.map(|usage| Value::seconds(usage.cpu)));
        let percent = self.cpu_percent.map(|percent| Value::Number(format!("{percent:.1}")));
        fields.member("cpu_percent", percent);
        fields.member("rss_bytes", stats.usage.map(|usage| usage.rss_bytes));
        fields.line_if("vcpus", machine.vcpus);
        if let Some(memory) = machine.memory_bytes {
            let left = machine.balloon_bytes.map(|left| format!(", balloon leaves {}", size(left)));
            fields.line("guest has", format!("{}{}", size(memory), left.unwrap_or_default()));
        }
        fields.member("vcpus", machine.vcpus);
        fields.member("memory_bytes", machine.memory_bytes);
        fields.member("balloon_bytes", machine.balloon_bytes);
        machine.disks.iter().for_each(|disk| fields.line("disk", disk_text(disk)));
        fields.member("disks", Value::Array(machine.disks.clone()));
        machine.networks.iter().for_each(|network| fields.line("network", network_text(network)));
        fields.member("networks", machine.networks.iter().map(network_json).collect::<Value>());
        fields.report()
    }
}

fn cpu_percent(stats: &Stats, uptime: Option<Duration>, before: Option<&Stats>) -> Option<f64> {
    let used = stats.usage?.cpu;
    // Another process may have replaced it.
    let before = before.filter(|before| before.process.pid == stats.process.pid);
    let (used, time) = match before {
        Some(before) => (used.saturating_sub(before.usage?.cpu), stats.at - before.at),
        None => (used, uptime?),
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
