//! The guest of a running VM, and the commands that reach it.

use super::config::may_share;
use super::control_sockets;
use super::limits::Limits;
use super::unshare::config_file;
use super::words::Purpose;
use super::written::{config_text, write_config};
use crate::config::Config;
use crate::config::choices::Choices;
use crate::config::resolve::Resolver;
use crate::error::Error;
use crate::log::Log;
use crate::system::programs::{self, Program};
use crate::system::run::Invocation;
use crate::vm::{Instance, Look, Paths};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The exit status by which OpenSSH, and qqmgr on its behalf, reports its own failure.
pub(crate) const FAILURE_CODE: u8 = 255;

/// The programs to which `ssh` may link on small systems: dropbear's client, and those that have
/// all of dropbear in one file.
const DROPBEAR: &[&str] = &["dbclient", "dropbear", "dropbearmulti"];

/// Options for an `ssh` that only finds out whether a server answers: it shares no connection
/// and does not log in.
const QUESTION: &[&str] = &[
    "BatchMode=yes",
    "ControlPath=none",
    "PreferredAuthentications=none",
    "RemoteCommand=none",
    "RequestTTY=no",
];
/// Options for what this program itself does on a guest, like those that scp sets: settings that
/// are meant for people, and for what they run there, would break it.
pub(super) const OWN_OPTIONS: &[&str] =
    &["RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "ClearAllForwardings=yes"];
/// Options for a user's job: a `RemoteCommand` would run in its place, or beside it.
const JOB_OPTIONS: &[&str] = &["RemoteCommand=none", "RequestTTY=no"];
/// Options for a job with a terminal, if standard input is one.
const TERMINAL_OPTIONS: &[&str] = &["RemoteCommand=none", "RequestTTY=yes", "ControlPath=none"];
/// Options for a job while nobody can be asked for a password.
const UNATTENDED_OPTIONS: &[&str] =
    &["BatchMode=yes", "RemoteCommand=none", "RequestTTY=no", "ControlPath=none"];

/// The guest of a running VM, whose `ssh.conf` has been written.
pub(crate) struct Guest {
    pub(crate) paths: Paths,
    pub(crate) log: Log,
    /// The limits of every program that is run for the guest, except those that replace this
    /// process.
    pub(crate) limits: Limits,
    /// The directory of the shared connections, if this guest's connections may be shared.
    pub(super) shared: Option<PathBuf>,
    /// The number of the shared connection that has room for a call of this process.
    pub(super) seat: Cell<Option<usize>>,
}

impl Guest {
    /// Finds the guest of the VM; fails when the VM is not running. The port and the
    /// variables are those that the VM was started with; the options are the current ones. If the
    /// VM is not configured any more, the options are those of its start.
    pub(crate) fn of(config: &Config, paths: &Paths, log: &Log) -> Result<Self, Error> {
        let look = Look::everywhere(paths)?;
        look.running(paths)?;
        check_client()?;
        if let Some(vm) = config.find_vm(&paths.name) {
            let choices = choices(look.record.as_ref());
            let resolver = Resolver::new(config, vm, &choices);
            let (port, options) = (resolver.ssh_port()?, resolver.ssh_options()?);
            let text = config_text(&options, paths, port, config.dir())?;
            write_config(&text, paths, config.dir(), log)?;
        }
        // Without a short path to the directory, the names of sockets may be too long.
        let short_dir = || paths.make_short_way().and_then(|()| paths.plain_dir()).ok();
        let shares = may_share(&config_file(paths));
        let shared = shares.then(short_dir).flatten().filter(|dir| Paths::has_room(dir));
        Ok(Self {
            paths: paths.clone(),
            log: log.clone(),
            limits: Limits::default(),
            shared,
            seat: Cell::new(Some(0)),
        })
    }

    /// `PROGRAM -F ssh.conf` for a call of qqmgr's own, over the shared connection if there is one.
    pub(crate) fn command(&self, program: &Program) -> Invocation {
        let mut command = program.command();
        command.arg("-F").arg(&self.paths.ssh_config).args(options(OWN_OPTIONS));
        command.args(self.sharing());
        command
    }

    pub(crate) fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// `ssh -F ssh.conf NAME WORDS...`, for a job of the user's.
    pub(crate) fn ssh(&self, words: &[OsString]) -> Invocation {
        self.ssh_with(options(JOB_OPTIONS).chain(self.sharing()), words)
    }

    /// `ssh -F ssh.conf -o ... WORDS...`, for what this program itself does on the guest. `words`
    /// begin with options, if any, and the VM's name.
    pub(super) fn own_ssh(&self, words: &[&OsStr]) -> Invocation {
        let mut command = self.command(&programs::SSH);
        command.args(words);
        command
    }

    /// A command that runs a script of this program on the guest.
    pub(super) fn script(&self, script: &OsStr) -> Invocation {
        self.own_ssh(&[OsStr::new(&self.paths.name), script])
    }

    /// `ssh` over a connection of its own, which ends with it: the master of a shared connection
    /// would keep the session when this ssh is killed.
    pub(crate) fn ssh_alone(&self, words: &[OsString]) -> Invocation {
        self.ssh_with(options(JOB_OPTIONS).chain(options(&["ControlPath=none"])), words)
    }

    /// `ssh` for a command while nobody can be asked, over a connection of its own.
    pub(crate) fn ssh_unattended(&self, command: &str) -> Invocation {
        self.ssh_with(options(UNATTENDED_OPTIONS), &[command.into()])
    }

    /// `ssh` with a terminal for a person, over a connection of its own.
    pub(crate) fn ssh_on_terminal(&self, words: &[OsString]) -> Invocation {
        self.ssh_with(options(TERMINAL_OPTIONS), words)
    }

    /// `ssh` for the user's own `qqmgr ssh`, over a shared connection if that is possible.
    pub(crate) fn users_ssh(&self, words: &[OsString]) -> Invocation {
        let purpose = Purpose::of(words);
        let command: &[&str] = if purpose.has_command { &["RemoteCommand=none"] } else { &[] };
        let shared = purpose.may_share() || purpose.is_control;
        let sharing = self.sharing().filter(|_| shared);
        let mut ssh = self.ssh_with(options(command).chain(sharing), words);
        ssh.stdin(Stdio::inherit());
        ssh
    }

    /// Whether the user's own call can use the shared connection.
    pub(crate) fn shares(&self, words: &[OsString]) -> bool {
        self.shared.is_some() && Purpose::of(words).may_share()
    }

    fn sharing(&self) -> impl Iterator<Item = OsString> {
        let path = self.shared.iter().zip(self.seat.get());
        let path = path.map(|(dir, number)| control_sockets::option(dir, number));
        path.flat_map(|path| ["-o".into(), "ControlMaster=no".into(), "-o".into(), path])
    }

    fn ssh_with(&self, options: impl Iterator<Item = OsString>, words: &[OsString]) -> Invocation {
        let mut command = programs::SSH.command();
        command.arg("-F").arg(&self.paths.ssh_config);
        command.args(options).arg(&self.paths.name).args(words);
        command
    }

    /// An `ssh -v` whose messages show whether the guest's server answers within this many seconds;
    /// it asks the server for nothing.
    pub(crate) fn question(&self, seconds: u64) -> Invocation {
        let mut command = programs::SSH.command();
        command.arg("-F").arg(&self.paths.ssh_config);
        let timeout = format!("ConnectTimeout={seconds}");
        let options = [QUESTION, &[timeout.as_str()]].concat();
        command.arg("-v").args(options.iter().flat_map(|option| ["-o", option]));
        command.args([&self.paths.name, "exit"]);
        command
    }
}

/// Options of ssh as words of its command line.
pub(super) fn options(options: &[&str]) -> impl Iterator<Item = OsString> {
    options.iter().flat_map(|option| ["-o".into(), OsString::from(option)])
}

/// Returns an error where `ssh` is dropbear's client, which reads no `ssh.conf`.
fn check_client() -> Result<(), Error> {
    let ssh = programs::SSH.find().and_then(|ssh| ssh.canonicalize().ok());
    let name = ssh.as_deref().and_then(Path::file_name);
    if !DROPBEAR.iter().any(|dropbear| name == Some(OsStr::new(dropbear))) {
        return Ok(());
    }
    Err(Error::failed("`ssh` is dropbear's client here, which reads no configuration file")
        .hint("install that of OpenSSH (Debian: openssh-client)"))
}

/// The choices that a running VM was started with, as far as its record has them.
pub(crate) fn choices(instance: Option<&Instance>) -> Choices<'_> {
    instance.map_or_else(Choices::default, |instance| Choices {
        ssh_port: instance.ssh_port,
        set: &instance.set,
    })
}
