//! `qqmgr status VM`

use super::start::changes::{Change, changes};
use super::start::plan::{Inputs, StartOptions, features};
use super::target::{Target, port_of};
use super::{forward, helpers};
use crate::cli::flag::Flag;
use crate::cli::{Command, spec};
use crate::colour::{Colour, Stream};
use crate::config::{Declared, SshPort};
use crate::error::{Error, Kind};
use crate::image::inspection::{inspect, sizes};
use crate::json::Value;
use crate::report::{Fields, Outcome};
use crate::text::duration;
use crate::vm::end::End;
use crate::vm::look::Place;
use crate::vm::state::ANSWER_WAIT;
use crate::vm::usernet::{Network, QUESTION, networks};
use crate::vm::{Instance, Look, State, console};
use std::time::Instant;

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

/// The lines for people, in this order; JSON has its members in another.
const LINES: &str = "name, state, pid, uptime, ended, helper, ssh port, port, ssh config, serial, \
                     console, log, qmp, monitor, pid file, config, note";

pub(super) fn run(target: &Target) -> Outcome {
    let Target { config, name, paths, log, .. } = target;
    let look = Look::everywhere(paths)?;
    let is_unseen = matches!(look.place, Place::Unseen);
    if target.args.has(&QUIET) {
        let running = is_unseen || look.process()?.is_some();
        let code = if running { 0 } else { Kind::NotRunning.exit_code() };
        return Ok(target.report("", [("running", running.into())]).with_exit_code(code));
    }
    let (state, qmp) = if is_unseen {
        let (state, qmp) = State::of_qemu(paths, log)?.unzip();
        (state.unwrap_or(State::Unresponsive), qmp)
    } else {
        State::ask(&look, paths, log)?
    };
    let said = qmp.and_then(|mut qmp| qmp.monitor(QUESTION, Instant::now() + ANSWER_WAIT).ok());
    let networks = said.map(|text| networks(&text)).unwrap_or_default();
    let is_stopped = state == State::Stopped;
    let process = if is_unseen || is_stopped { None } else { look.process()? };
    // What the VM was started with, while it runs.
    let record = look.record.as_ref().filter(|_| !is_stopped);
    let mut fields = Fields::default();
    fields.fact("name", Some(name), "name", name);
    let pid = process.map(|process| process.pid);
    fields.fact("pid", pid, "pid", pid);
    fields.fact("pid file", Some(paths.pid.display()), "pid_file", &paths.pid);
    let ssh_port = port_of(record, config.find_vm(name));
    add_ssh(&mut fields, target, ssh_port);
    fields.fact("serial", Some(paths.serial.display()), "serial_file", &paths.serial);
    fields.fact("qmp", Some(paths.qmp.display()), "qmp_file", &paths.qmp);
    fields.fact("monitor", Some(paths.monitor.display()), "monitor_file", &paths.monitor);
    fields.member("running", !is_stopped);
    let paint = |colour: Colour| colour.paint(Stream::Stdout, state.name());
    let painted = state.colour().map_or(state.name().into(), paint);
    fields.fact("state", Some(painted), "state", state.name());
    let uptime = process.and(look.uptime());
    fields.fact("uptime", uptime.map(duration), "uptime_seconds", uptime.map(|it| it.as_secs()));
    fields.fact("log", Some(paths.log.display()), "log_file", &paths.log);
    let console = Some(&paths.console).filter(|_| process.is_some() && console::is_there(paths));
    fields.fact("console", console.map(|console| console.display()), "console_file", console);
    fields.fact("config", Some(config.file.display()), "config_file", &config.file);
    fields.member("configured", config.is_declared(name));
    let changes = record.and_then(|record| changes_since(target, record));
    add_notes(&mut fields, target, &look.place, process.is_some(), changes.as_deref());
    fields.member("config_changed", changes.as_ref().map(|changes| !changes.is_empty()));
    let end = if process.is_none() { End::of(paths) } else { None };
    fields.line_if("ended", end.as_ref());
    for (key, value) in End::json_members(end.as_ref()) {
        fields.member(key, value);
    }
    add_helpers(&mut fields, target, look.record.as_ref(), is_stopped)?;
    let changes = changes.iter().flatten().map(Change::json).collect::<Value>();
    fields.member("changes", changes);
    add_ports(&mut fields, &networks, ssh_port);
    Ok(fields.report(LINES))
}

/// Adds the ssh port, which is that of the start or the configured one.
fn add_ssh(fields: &mut Fields, target: &Target, port: Option<SshPort>) {
    let Target { config, name, paths, .. } = target;
    fields.line_if("ssh port", port);
    let file = Some(&paths.ssh_config).filter(|_| port != Some(SshPort::None));
    fields.line_if("ssh config", file.map(|file| file.display()));
    let members = [
        ("port", port.and_then(SshPort::fixed).into()),
        ("vm_port", config.find_vm(name).map(|vm| vm.vm_port).into()),
        ("config_file", (&paths.ssh_config).into()),
    ];
    fields.member("ssh", Value::object(members));
}

/// Adds why the VM cannot be managed as other VMs are, and what a restart would change; that is
/// unknown without a record of the start, or when the configuration has an error by now.
fn add_notes(
    fields: &mut Fields,
    target: &Target,
    place: &Place,
    runs: bool,
    changes: Option<&[Change]>,
) {
    match place {
        Place::Unseen => {
            fields.line("note", "it runs where its process cannot be seen, as in a container");
        }
        Place::Here(process) if process.lost => {
            fields.line("note", "its files were removed; `stop` ends it");
        }
        Place::Here(_) | Place::OtherHost(_) | Place::Gone => {}
    }
    if !target.config.is_declared(&target.name) {
        fields.line("note", "the configuration has no such VM any more");
    } else if runs && changes.is_none() {
        fields.line("note", "it is not known what a restart would change");
    }
    changes.into_iter().flatten().for_each(|change| fields.line("note", change));
}

/// Adds the helpers of the last start, or the configured ones without a record.
fn add_helpers(
    fields: &mut Fields,
    target: &Target,
    record: Option<&Instance>,
    is_stopped: bool,
) -> Result<(), Error> {
    let started = |record: &Instance| record.helpers.iter().map(|it| it.name.clone()).collect();
    let names = record.map_or_else(|| helpers::names(target), started);
    let live = record.map(|record| record.live_helpers(&target.paths)).transpose()?;
    let mut documents = Vec::new();
    for name in names {
        let helper = live.iter().flatten().find(|(helper, _)| helper.name == name);
        let pid = helper.map(|(helper, _)| helper.pid);
        let log = format!("`qqmgr log {} --helper {name}`", target.name);
        match pid {
            Some(pid) if is_stopped => {
                fields.line("helper", format!("{name}, pid {pid}, left over: `stop` ends it"));
            }
            Some(pid) => fields.line("helper", format!("{name}, pid {pid}")),
            None if is_stopped => {}
            None => fields.line("helper", format!("{name} has ended: {log} shows what it said")),
        }
        documents.push(Value::object([("name", name.into()), ("pid", pid.into())]));
    }
    fields.member("helpers", Value::Array(documents));
    Ok(())
}

/// Adds the ports that QEMU forwards; the line for ssh has its own.
fn add_ports(fields: &mut Fields, networks: &[Network], ssh_port: Option<SshPort>) {
    let ssh_port = ssh_port.and_then(SshPort::fixed);
    let ports = networks.iter().flat_map(|network| &network.forwards);
    for port in ports.filter(|it| it.udp || Some(it.port) != ssh_port) {
        fields.line("port", port.text());
    }
    fields.member("ports", forward::json(networks));
}

/// Finds what a restart without options would change.
fn changes_since(target: &Target, instance: &Instance) -> Option<Vec<Change>> {
    let inputs = Inputs::new(target, StartOptions::default()).ok()?.on_port_of(Some(instance));
    let own_argv = inputs.own_argv().ok()?;
    let helpers = inputs.helpers().ok()?;
    let features = features(inputs.vm);
    let mut changes = changes(instance, &own_argv, &helpers, inputs.ssh_port, features);
    for image in inputs.resolver().images() {
        let declared = Declared::new(target.config, image).ok()?;
        changes.extend(inspect(target.config, &declared).grows.map(|growth| {
            let [running, configured] =
                sizes(growth).map(|size| Some(format!("image {}: {size}", image.name)));
            Change { running, configured }
        }));
    }
    Some(changes)
}
