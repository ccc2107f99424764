//! `instance.json`: what a VM was started with. Commands on a running VM go by it and not by the
//! configuration, which may have changed since.

use super::Paths;
use crate::error::Error;
use crate::files;
use crate::json::{self, Value};

/// QEMU's own limit for a command line is the kernel's, 2 MiB by default.
const INSTANCE_BYTES_MAX: u64 = 8 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Absent until QEMU was seen ready.
    pub(crate) pid: Option<u32>,
    pub(crate) ssh_port: u16,
    /// The name of the configuration's file, which lies beside the runtime directory or in it.
    pub(crate) config_name: String,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
    /// Variables that were given for this start.
    pub(crate) set: Vec<(String, String)>,
    /// The whole command line of QEMU.
    pub(crate) argv: Vec<String>,
    /// Of `argv`, so many words are the user's: the program and its arguments.
    pub(crate) own_words: usize,
    /// Started by a `run`, and for `run`s only: the last one that uses it stops it.
    pub(crate) on_demand: bool,
}

impl Instance {
    /// The program and the arguments that are the user's.
    pub(crate) fn own_argv(&self) -> &[String] {
        self.argv.get(..self.own_words).unwrap_or(&self.argv)
    }

    /// `None` when there is none, or none that this program wrote.
    pub(crate) fn read(paths: &Paths) -> Option<Self> {
        let bytes = files::read_start(&paths.instance, INSTANCE_BYTES_MAX).ok()?;
        let value = json::parse(&bytes).ok()?;
        let Value::Array(argv) = value.get("argv")? else { return None };
        let Value::Object(set) = value.get("set")? else { return None };
        Some(Self {
            pid: value.get("pid").and_then(Value::as_u64).and_then(|pid| pid.try_into().ok()),
            ssh_port: value.get("ssh_port")?.as_u64()?.try_into().ok()?,
            config_name: value.get("config_name")?.as_str()?.to_string(),
            started_at: value.get("started_at")?.as_u64()?,
            set: set
                .iter()
                .map(|(name, value)| Some((name.clone(), value.as_str()?.to_string())))
                .collect::<Option<_>>()?,
            argv: argv
                .iter()
                .map(|word| word.as_str().map(str::to_string))
                .collect::<Option<_>>()?,
            own_words: value.get("own_words")?.as_u64()?.try_into().ok()?,
            on_demand: value.get("on_demand") == Some(&Value::Bool(true)),
        })
    }

    pub(crate) fn write(&self, paths: &Paths) -> Result<(), Error> {
        let value = Value::object([
            ("pid", Value::from(self.pid)),
            ("ssh_port", self.ssh_port.into()),
            ("config_name", self.config_name.as_str().into()),
            ("started_at", self.started_at.into()),
            ("set", Value::object(self.set.iter().map(|(n, v)| (n.as_str(), v.as_str().into())))),
            ("argv", self.argv.iter().map(|word| Value::from(word.as_str())).collect()),
            ("own_words", self.own_words.into()),
            ("on_demand", self.on_demand.into()),
        ]);
        files::write_private(&paths.instance, &value.pretty())
    }
}
