//! The guest over ssh: the configuration file of a VM ([`config`]), the commands that use it
//! ([`run`]), and copying ([`copy`]), also where the guest has no sftp server ([`stream`]).
//! It takes OpenSSH's client.

pub(crate) mod config;
mod control_sockets;
pub(crate) mod copy;
mod defaults;
mod departures;
pub(crate) mod limits;
pub(crate) mod login;
mod method;
pub(crate) mod run;
mod share;
mod stream;
mod words;

use crate::config::Config;
use crate::config::choices::Choices;
use crate::config::resolve::Resolver;
use crate::config::resolve::SshSetting;
use crate::error::Error;
use crate::log::Log;
use crate::system::files;
use crate::system::programs::{self, Program};
use crate::system::run::Invocation;
use crate::vm::{Instance, Look, Paths};
use config::Places;
pub(crate) use defaults::THIS_HOST;
use limits::Limits;
pub(crate) use share::{end_shared_connection, forget_guest};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use words::Purpose;

/// The largest `ssh.conf` that is read; this program wrote the file.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

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
/// Keywords by which ssh reaches a guest through another host or program.
const PROXIES: &[&str] = &["ProxyCommand", "ProxyJump"];

/// Options for what this program itself does on a guest, like those that scp sets: settings that
/// are meant for people, and for what they run there, would break it.
const OWN_OPTIONS: &[&str] =
    &["RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "ClearAllForwardings=yes"];
/// Options for a user's job: a `RemoteCommand` would run in its place, or beside it.
const JOB_OPTIONS: &[&str] = &["RemoteCommand=none", "RequestTTY=no"];
/// Options for a job with a terminal, if standard input is one.
const TERMINAL_OPTIONS: &[&str] = &["RemoteCommand=none", "RequestTTY=yes", "ControlPath=none"];

/// The guest of a running VM, whose `ssh.conf` has been written.
pub(crate) struct Guest {
    pub(crate) paths: Paths,
    pub(crate) log: Log,
    /// The limits of every program that is run for the guest, except those that replace this
    /// process.
    pub(crate) limits: Limits,
    /// The directory of the shared connections, if this guest's connections may be shared.
    shared: Option<PathBuf>,
    /// The number of the shared connection that has room for a call of this process.
    seat: Cell<Option<usize>>,
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
        let shares = config::may_share(&config_file(paths));
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
    fn own_ssh(&self, words: &[&OsStr]) -> Invocation {
        let mut command = self.command(&programs::SSH);
        command.args(words);
        command
    }

    /// A command that runs a script of this program on the guest.
    fn script(&self, script: &OsStr) -> Invocation {
        self.own_ssh(&[OsStr::new(&self.paths.name), script])
    }

    /// `ssh` over a connection of its own, which ends with it: the master of a shared connection
    /// would keep the session when this ssh is killed.
    pub(crate) fn ssh_alone(&self, words: &[OsString]) -> Invocation {
        self.ssh_with(options(JOB_OPTIONS).chain(options(&["ControlPath=none"])), words)
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
        self.ssh_with(options(command).chain(sharing), words)
    }

    /// Whether the user's own call can use the shared connection.
    pub(crate) fn shares(&self, words: &[OsString]) -> bool {
        self.shared.is_some() && Purpose::of(words).may_share()
    }

    fn sharing(&self) -> impl Iterator<Item = OsString> {
        let path = self.shared.iter().zip(self.seat.get());
        let path = path.map(|(dir, number)| share::control_path(dir, number));
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
fn options(options: &[&str]) -> impl Iterator<Item = OsString> {
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

/// Makes a command line for the guest's shell: a single word is the whole line; several words are
/// quoted one by one.
pub(crate) fn remote_command(words: &[OsString]) -> OsString {
    match words {
        [line] => line.clone(),
        words => {
            let words: Vec<OsString> =
                words.iter().map(|word| stream::quoted(word, false)).collect();
            words.join(OsStr::new(" "))
        }
    }
}

/// The host that the options name instead of this one.
pub(crate) fn host(options: &[SshSetting]) -> Option<&str> {
    let (_, values) = options.iter().find(|(name, _)| name.eq_ignore_ascii_case("HostName"))?;
    values.first().map(String::as_str)
}

/// Whether ssh reaches the guest by way of another host or program.
pub(crate) fn is_proxied(options: &[SshSetting]) -> bool {
    let set = |value: &String| !value.eq_ignore_ascii_case("none");
    options.iter().any(|(name, values)| {
        let is_proxy = |keyword: &&str| name.eq_ignore_ascii_case(keyword);
        PROXIES.iter().any(is_proxy) && values.first().is_some_and(set)
    })
}

/// Whether ssh reaches the guest by a port of this host.
pub(crate) fn is_by_port(options: &[SshSetting]) -> bool {
    host(options).is_none() && !is_proxied(options)
}

/// The content of the VM's `ssh.conf`, for a guest that is reached on `port`; relative names of
/// files in it start from `dir`.
pub(crate) fn config_text(
    options: &[SshSetting],
    paths: &Paths,
    port: u16,
    dir: &Path,
) -> Result<String, Error> {
    let plain = paths.plain_dir()?;
    let project = if config::is_spellable(dir) {
        dir.to_path_buf()
    } else {
        plain.join(paths.project.file_name().unwrap_or_default())
    };
    let known_hosts = if config::is_spellable(&paths.dir) {
        paths.known_hosts.clone()
    } else {
        plain.join(paths.known_hosts.file_name().unwrap_or_default())
    };
    let places = Places { control: plain, known_hosts, project, written: dir.to_path_buf() };
    Ok(config::render(&paths.name, port, options, &places))
}

/// Writes the VM's `ssh.conf`, and makes the links that it goes through. A connection that was
/// begun with another content is out of date, and is ended.
pub(crate) fn write_config(text: &str, paths: &Paths, dir: &Path, log: &Log) -> Result<(), Error> {
    let old = config_file(paths);
    if !old.is_empty() && old != text {
        end_shared_connection(paths, log)?;
    }
    files::write_private(&paths.ssh_config, text)?;
    if !config::is_spellable(dir) {
        files::symlink(dir, &paths.project)?;
    }
    paths.make_short_way()
}

/// The VM's `ssh.conf`; empty if there is none.
fn config_file(paths: &Paths) -> String {
    let text = files::read_start(&paths.ssh_config, CONFIG_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}
