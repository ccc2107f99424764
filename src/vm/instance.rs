//! `instance.json`: the record of a VM's start. Commands on a running VM use this record and not
//! the configuration, which may have changed since.

use super::Paths;
use super::events::{self, Answer};
use super::helper_record::HelperRecord;
use super::machine::Machine;
use super::options::{Argument, arguments_of};
use super::process::Process;
use super::record;
use crate::error::Error;
use crate::json::Value;
use crate::log::Log;
use crate::system::files;
use crate::system::process::see;
use std::path::{Path, PathBuf};

/// The maximum size of the record. QEMU's command line is limited by the kernel, to 2 MiB by
/// default.
const INSTANCE_BYTES_MAX: u64 = 8 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Instance {
    /// The process that was spawned. Once `ready` is set, it is QEMU itself, which a wrapper may
    /// have run. `None` until there is a process.
    pub(crate) pid: Option<u32>,
    /// When that process started; see [`crate::system::process::Seen::start`].
    pub(crate) start: Option<String>,
    /// The machine on which it runs.
    pub(crate) machine: Machine,
    /// QEMU has answered at least once.
    pub(crate) ready: bool,
    /// `None` for a guest without ssh.
    pub(crate) ssh_port: Option<u16>,
    /// The configuration's file; in a record of version 0.1 its name alone.
    pub(crate) config_file: PathBuf,
    /// In seconds since 1970.
    pub(crate) started_at: u64,
    /// The variables that were given for this start.
    pub(crate) set: Vec<(String, String)>,
    /// QEMU's whole command line.
    pub(crate) argv: Vec<String>,
    /// The number of words of `argv` that are the user's: the program and its arguments.
    pub(crate) own_words: usize,
    /// The VM was started by a `run`: the last `run` that uses it stops it.
    pub(crate) on_demand: bool,
    /// The helpers that were started, in this order.
    pub(crate) helpers: Vec<HelperRecord>,
    /// The seconds that the guest has to power off, where that is configured.
    pub(crate) stop_timeout: Option<u32>,
    /// The command that the guest runs before its power button is pressed.
    pub(crate) stop_command: Option<String>,
}

impl Instance {
    /// The user's part of the command line: the program and its arguments.
    pub(crate) fn own_argv(&self) -> &[String] {
        self.argv.get(..self.own_words).unwrap_or(&self.argv)
    }

    /// The user's arguments for QEMU.
    pub(crate) fn arguments(&self) -> Vec<Argument> {
        arguments_of(self.own_argv())
    }

    /// Reads the record of the VM's last start; `None` when there is none, or none that this
    /// program wrote. A record that a newer program wrote, or that cannot be read, is an error.
    pub(crate) fn read(paths: &Paths) -> Result<Option<Self>, Error> {
        let value = record::read(&paths.instance, INSTANCE_BYTES_MAX)?;
        Ok(value.as_ref().and_then(Self::from_json))
    }

    /// The helpers that live, by the record alone. On another machine, or after a reboot, none do.
    pub(crate) fn live_helpers(
        &self,
        paths: &Paths,
    ) -> Result<Vec<(&HelperRecord, Process)>, Error> {
        if self.helpers.is_empty() || self.machine.has_other_pids(&Machine::this()?) {
            return Ok(Vec::new());
        }
        let helpers = self.helpers.iter().map(|helper| {
            let log = paths.helper_log(&helper.name);
            (helper, Process::of_helper(helper.pid, helper.start.clone(), log))
        });
        Ok(helpers.filter(|(_, process)| process.is_alive()).collect())
    }

    /// Whether QEMU has answered at least once, so that it can be asked. The event log may say more
    /// than the record: a `start` may have been killed, or gdb runs QEMU.
    pub(crate) fn has_answered(&self, paths: &Paths) -> bool {
        self.ready || events::answer(paths) != Answer::Missing
    }

    fn from_json(value: &Value) -> Option<Self> {
        let Value::Object(set) = value.get("set")? else { return None };
        let number = |key| value.number(key)?.try_into().ok();
        let pid = number("pid");
        let text = |key| value.text(key).map(str::to_string);
        // Version 0.1 recorded the pid when QEMU was ready.
        let is_old = value.get("format").is_none();
        Some(Self {
            pid,
            start: text("start"),
            machine: Machine {
                boot_id: text("boot_id"),
                host: text("host"),
                pid_namespace: text("pid_namespace"),
            },
            ready: value.is_true("ready") || is_old && pid.is_some(),
            ssh_port: match value.get("ssh_port")? {
                Value::Null => None,
                port => Some(port.as_u64()?.try_into().ok()?),
            },
            config_file: text("config_file").or_else(|| text("config_name"))?.into(),
            started_at: value.number("started_at")?,
            set: set
                .iter()
                .map(|(name, value)| Some((name.clone(), value.as_str()?.to_string())))
                .collect::<Option<_>>()?,
            argv: value.texts("argv")?,
            own_words: value.number("own_words")?.try_into().ok()?,
            on_demand: value.is_true("on_demand"),
            // A version without helpers wrote none.
            helpers: value.list("helpers").iter().filter_map(HelperRecord::from_json).collect(),
            stop_timeout: number("stop_timeout"),
            stop_command: text("stop_command"),
        })
    }

    /// Records the process that was just spawned. Errors are ignored: if the process has already
    /// ended, the caller finds out in another way, and on a full disk the pid file is enough.
    pub(crate) fn spawned(mut self, pid: u32, paths: &Paths, log: &Log) {
        if let Ok(Some(seen)) = see(pid) {
            (self.pid, self.start) = (Some(pid), seen.start);
            let _ = self.write(paths, log);
        }
    }

    /// Records that QEMU has answered, and which process it is.
    pub(crate) fn is_ready(&mut self, process: &Process) {
        (self.pid, self.start) = (Some(process.pid), process.start.clone());
        self.ready = true;
    }

    pub(crate) fn write(&self, paths: &Paths, log: &Log) -> Result<(), Error> {
        let value = Value::object([
            ("format", Value::from(record::FORMAT)),
            ("pid", self.pid.into()),
            ("start", self.start.as_deref().into()),
            ("boot_id", self.machine.boot_id.as_deref().into()),
            ("host", self.machine.host.as_deref().into()),
            ("pid_namespace", self.machine.pid_namespace.as_deref().into()),
            ("ready", self.ready.into()),
            ("ssh_port", self.ssh_port.into()),
            ("config_file", (&self.config_file).into()),
            // Version 0.1 reads this one.
            ("config_name", self.config_file.file_name().map(Path::new).into()),
            ("started_at", self.started_at.into()),
            ("set", Value::object(self.set.iter().map(|(n, v)| (n.as_str(), v.as_str().into())))),
            ("argv", self.argv.iter().collect()),
            ("own_words", self.own_words.into()),
            ("on_demand", self.on_demand.into()),
            ("helpers", self.helpers.iter().map(HelperRecord::json).collect()),
            ("stop_timeout", self.stop_timeout.into()),
            ("stop_command", self.stop_command.as_deref().into()),
        ]);
        files::write_private(&paths.instance, value.pretty())?;
        let ssh_port = || self.ssh_port.map_or("no ssh".into(), |port| format!("ssh port {port}"));
        match (self.pid, self.ready, self.helpers.last()) {
            (None, _, None) => log.step("record", ssh_port),
            (None, _, Some(it)) => log.step("helper", || format!("`{}`, pid {}", it.name, it.pid)),
            (Some(pid), false, _) => log.step("spawned", || format!("pid {pid}")),
            (Some(pid), true, _) => log.step("is_ready", || format!("pid {pid}")),
        }
        Ok(())
    }
}
