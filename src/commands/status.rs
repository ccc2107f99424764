//! `qqmgr status VM`

use super::start::changes::{Change, changes};
use super::start::plan::{Inputs, StartOptions, features};
use super::target::{Target, port_of};
use super::{forward, helpers};
use crate::cli::flag::Flag;
use crate::cli::{Command, spec};
use crate::clock::now;
use crate::colour::{Colour, Stream};
use crate::config::{Declared, SshPort};
use crate::error::{Error, Kind};
use crate::image::inspection::inspect;
use crate::json::Value;
use crate::report::{Fields, Outcome, Report};
use crate::vm::end::End;
use crate::vm::look::Place;
use crate::vm::state::ANSWER_WAIT;
use crate::vm::usernet::{Network, QUESTION, networks};
use crate::vm::{Instance, Look, Process, State, console};
use std::time::{Duration, Instant};

pub(crate) static COMMAND: Command = Command {
    name: "status",
    about: "Show the state of VMs, their ports and files",
    operands: &[spec::VMS],
    flags: &[&spec::ALL, &QUIET],
    examples: &["status dev", "status --all --json", "status -q dev"],
    ..Command::DEFAULT
};

static QUIET: Flag =
    Flag::switch("quiet", "Print nothing; exit with 0 if running, with 3 if not").short('q');

struct Status<'a> {
    target: &'a Target<'a>,
    process: Option<Process>,
    state: State,
    uptime: Option<Duration>,
    /// How its last QEMU ended, if the VM is not running.
    end: Option<End>,
    /// The port of the start, or the configured one.
    ssh_port: Option<SshPort>,
    /// Whether the VM was started with a console.
    has_console: bool,
    /// The changes that a restart would make; unknown without a record of the start, or when the
    /// configuration has an error by now.
    changes: Option<Vec<Change>>,
    /// The helpers of its last start, or the configured ones without a record, each with its pid
    /// if it runs.
    helpers: Vec<(String, Option<u32>)>,
    /// QEMU's own networks with the ports that they forward; none if QEMU does not answer.
    networks: Vec<Network>,
    /// Why the VM cannot be managed as other VMs are.
    unusual: Option<&'static str>,
}

pub(super) fn run(target: &Target) -> Outcome {
    let Target { config, name, paths, log, .. } = target;
    let look = Look::everywhere(paths)?;
    if target.args.has(&QUIET) {
        let running = matches!(look.place, Place::Unseen) || look.process()?.is_some();
        let code = if running { 0 } else { Kind::NotRunning.exit_code() };
        return Ok(target.report("", [("running", running.into())]).with_exit_code(code));
    }
    let ((state, qmp), process, unusual) = if matches!(look.place, Place::Unseen) {
        let (state, qmp) = State::of_qemu(paths, log)?.unzip();
        let unusual = "it runs where its process cannot be seen, as in a container";
        ((state.unwrap_or(State::Unresponsive), qmp), None, Some(unusual))
    } else {
        let process = look.process()?.cloned();
        let unusual = process.as_ref().filter(|process| process.lost);
        let unusual = unusual.map(|_| "its files were removed; `stop` ends it");
        (State::ask(&look, paths, log)?, process, unusual)
    };
    let helpers = known_helpers(target, look.record.as_ref())?;
    let said = qmp.and_then(|mut qmp| qmp.monitor(QUESTION, Instant::now() + ANSWER_WAIT).ok());
    let networks = said.map(|text| networks(&text)).unwrap_or_default();
    let process = process.filter(|_| state != State::Stopped);
    let instance = look.record.filter(|_| state != State::Stopped);
    let status = Status {
        target,
        has_console: process.is_some() && console::is_there(paths),
        state,
        uptime: process.as_ref().and_then(|process| uptime(process, instance.as_ref())),
        end: if process.is_none() { End::of(paths) } else { None },
        ssh_port: port_of(instance.as_ref(), config.find_vm(name)),
        changes: instance.as_ref().and_then(|instance| changed(target, instance)),
        process,
        helpers,
        networks,
        unusual,
    };
    Ok(status.report())
}

/// The helpers of the VM, each with its pid if it runs.
fn known_helpers(
    target: &Target,
    record: Option<&Instance>,
) -> Result<Vec<(String, Option<u32>)>, Error> {
    let Some(record) = record else {
        return Ok(helpers::names(target).into_iter().map(|name| (name, None)).collect());
    };
    let live = record.live_helpers(&target.paths)?;
    let pid =
        |name: &str| live.iter().find(|(helper, _)| helper.name == name).map(|(it, _)| it.pid);
    let helpers = record.helpers.iter();
    Ok(helpers.map(|helper| (helper.name.clone(), pid(&helper.name))).collect())
}

/// Finds what a restart without options would change.
fn changed(target: &Target, instance: &Instance) -> Option<Vec<Change>> {
    let inputs = Inputs::new(target, StartOptions::default()).ok()?.on_port_of(Some(instance));
    let own_argv = inputs.own_argv().ok()?;
    let helpers = inputs.helpers(&own_argv).ok()?;
    let features = features(inputs.vm);
    let mut changes = changes(instance, &own_argv, &helpers, inputs.ssh_port, features);
    for image in inputs.resolver().images() {
        let declared = Declared::new(target.config, image).ok()?;
        changes.extend(inspect(target.config, &declared).grows.map(|growth| {
            let [running, configured] =
                growth.sizes().map(|size| Some(format!("image {}: {size}", image.name)));
            Change { running, configured }
        }));
    }
    Some(changes)
}

/// How long the process has run, from the system, or from the record if the system does not say.
pub(super) fn uptime(process: &Process, instance: Option<&Instance>) -> Option<Duration> {
    process.uptime.or_else(|| {
        let now = now();
        Some(now.saturating_sub(Duration::from_secs(instance?.started_at)))
    })
}

impl Status<'_> {
    fn report(&self) -> Report {
        let Target { config, name, paths, .. } = self.target;
        let mut fields = Fields::default();
        self.lines(&mut fields);
        let pid = self.process.as_ref().map(|process| process.pid);
        let ssh = Value::object([
            ("port", self.ssh_port.and_then(SshPort::fixed).into()),
            ("vm_port", config.find_vm(name).map(|vm| vm.vm_port).into()),
            ("config_file", (&paths.ssh_config).into()),
        ]);
        fields.member("name", name);
        fields.member("pid", pid);
        fields.member("pid_file", &paths.pid);
        fields.member("ssh", ssh);
        fields.member("serial_file", &paths.serial);
        fields.member("qmp_file", &paths.qmp);
        fields.member("monitor_file", &paths.monitor);
        fields.member("running", self.state != State::Stopped);
        fields.member("state", self.state.name());
        fields.member("uptime_seconds", self.uptime.map(|uptime| uptime.as_secs()));
        fields.member("log_file", &paths.log);
        fields.member("console_file", self.has_console.then_some(&paths.console));
        fields.member("config_file", &config.file);
        fields.member("configured", config.is_declared(name));
        fields.member("config_changed", self.changes.as_ref().map(|changes| !changes.is_empty()));
        for (key, value) in End::json_members(self.end.as_ref()) {
            fields.member(key, value);
        }
        let helpers = self.helpers.iter().map(|(name, pid)| {
            Value::object([("name", Value::from(name)), ("pid", (*pid).into())])
        });
        fields.member("helpers", helpers.collect::<Value>());
        let changes = self.changes.iter().flatten().map(Change::json).collect::<Value>();
        fields.member("changes", changes);
        fields.member("ports", forward::json(&self.networks));
        fields.report()
    }

    /// The line about a helper, if there is something to say.
    fn helper_line(&self, name: &str, pid: Option<u32>) -> Option<String> {
        match (pid, self.state == State::Stopped) {
            (Some(pid), false) => Some(format!("{name}, pid {pid}")),
            (Some(pid), true) => Some(format!("{name}, pid {pid}, left over: `stop` ends it")),
            (None, true) => None,
            (None, false) => {
                let log = format!("`qqmgr log {} --helper {name}`", self.target.name);
                Some(format!("{name} has ended: {log} shows what it said"))
            }
        }
    }

    /// Adds the lines for people; scripts get other members in another order.
    fn lines(&self, fields: &mut Fields) {
        let Target { config, name, paths, .. } = self.target;
        fields.line("name", name);
        let state = self.state.name();
        let paint = |colour: Colour| colour.paint(Stream::Stdout, state);
        fields.line("state", self.state.colour().map_or(state.into(), paint));
        fields.line_if("pid", self.process.as_ref().map(|process| process.pid));
        fields.line_if("uptime", self.uptime.map(duration));
        fields.line_if("ended", self.end.as_ref().map(ended));
        for (name, pid) in &self.helpers {
            fields.line_if("helper", self.helper_line(name, *pid));
        }
        fields.line_if("ssh port", self.ssh_port);
        let ports = self.networks.iter().flat_map(|network| &network.forwards);
        let ssh_port = self.ssh_port.and_then(SshPort::fixed);
        for port in ports.filter(|it| it.udp || Some(it.port) != ssh_port) {
            fields.line("port", port.text());
        }
        if self.ssh_port != Some(SshPort::None) {
            fields.line("ssh config", paths.ssh_config.display());
        }
        fields.line("serial", paths.serial.display());
        fields.line_if("console", self.has_console.then(|| paths.console.display()));
        fields.line("log", paths.log.display());
        fields.line("qmp", paths.qmp.display());
        fields.line("monitor", paths.monitor.display());
        fields.line("pid file", paths.pid.display());
        fields.line("config", config.file.display());
        fields.line_if("note", self.unusual);
        if !config.is_declared(name) {
            fields.line("note", "the configuration has no such VM any more");
        } else if self.process.is_some() && self.changes.is_none() {
            fields.line("note", "it is not known what a restart would change");
        }
        for change in self.changes.iter().flatten() {
            fields.line("note", change);
        }
    }
}

/// Says why and when a VM ended, for people.
pub(super) fn ended(end: &End) -> String {
    end.text(now(), duration)
}

/// Formats a duration: `2 d 3 h`, `3 h 4 min`, `4 min 5 s`, `5 s`. Two units are enough.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let shown = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(
            [5, 65, 3600 * 3 + 61, 86400 * 2 + 3600].map(shown),
            ["5 s", "1 min 5 s", "3 h 1 min", "2 d 1 h"]
        );
    }
}
