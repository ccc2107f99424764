//! The guest over ssh: the configuration file of a VM ([`config`]), the commands that use it
//! ([`run`]), and copying ([`copy`]), also where the guest has no sftp server ([`stream`]).
//! Dropbear's client will do as well as OpenSSH's ([`dropbear`]).

pub(crate) mod config;
pub(crate) mod copy;
mod dropbear;
pub(crate) mod run;
mod stream;

use crate::config::{Choices, Config, SshSetting};
use crate::error::Error;
use crate::files;
use crate::log::Log;
use crate::programs::{self, Program};
use crate::vm::{Instance, Paths, process};
use config::CONTROL_SOCKET;
use run::Limits;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// For what this program itself does on a guest, as scp does it: settings that are meant for
/// people, and for what they run there, would break it.
const OWN_OPTIONS: [&str; 4] =
    ["RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "ClearAllForwardings=yes"];
/// A connection's master that does not answer is stopped or hangs, and is left to itself.
const EXIT_WAIT: Duration = Duration::from_secs(2);
/// Of a configuration that this program wrote.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// By which OpenSSH says that it has failed itself, and so does qqmgr for it.
pub(crate) const FAILURE_CODE: u8 = 255;

/// Where a guest is reached, unless the options say otherwise.
pub(crate) const THIS_HOST: &str = "127.0.0.1";

/// A running VM's guest, its `ssh.conf` written.
pub(crate) struct Guest {
    name: String,
    pub(crate) paths: Paths,
    pub(crate) log: Log,
    /// Of every program that is run for it, but for those that replace this process.
    pub(crate) limits: Limits,
    /// The options of dropbear's `dbclient`, if that is what `ssh` is here.
    dropbear: Option<Vec<OsString>>,
}

impl Guest {
    /// The guest of the VM `name`; an error when the VM is not running. It is reached on the port,
    /// and with the variables, that the VM was started with; options are those of now. Of a VM
    /// that is not configured any more, they are those of its start.
    pub(crate) fn of(name: &str, config: &Config, paths: &Paths, log: &Log) -> Result<Self, Error> {
        process::running(name, paths)?;
        if let Some(vm) = config.find_vm(name) {
            let instance = Instance::read(paths);
            let choices = choices(instance.as_ref());
            let port = config.ssh_port(vm, &choices)?;
            let text =
                config_text(name, &config.ssh_options(vm, &choices)?, paths, port, config.dir())?;
            files::write_private(&paths.ssh_config, &text)?;
            paths.make_short_way()?;
        }
        Ok(Self {
            name: name.to_string(),
            paths: paths.clone(),
            log: log.clone(),
            limits: Limits::default(),
            dropbear: dropbear_options(paths, log),
        })
    }

    /// `PROGRAM -F ssh.conf`
    pub(crate) fn command(&self, program: &Program) -> Command {
        let mut command = program.command();
        command.arg("-F").arg(&self.paths.ssh_config);
        command
    }

    pub(crate) fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// `ssh -F ssh.conf NAME WORDS...`
    pub(crate) fn ssh(&self, words: &[OsString]) -> Command {
        self.ssh_with(None, words)
    }

    /// `ssh -F ssh.conf -o ... WORDS...`, for what this program itself does on the guest. `words`
    /// begin with options, and the VM's name.
    fn own_ssh(&self, words: &[&OsStr]) -> Command {
        if let Some(options) = &self.dropbear {
            let mut command = programs::SSH.command();
            command.args(options).args(words.iter().skip(1));
            return command;
        }
        let mut command = self.command(&programs::SSH);
        command.args(OWN_OPTIONS.iter().flat_map(|option| ["-o", option])).args(words);
        command
    }

    /// A script of this program on the guest.
    fn script(&self, script: &OsStr) -> Command {
        self.own_ssh(&[OsStr::new(&self.name), script])
    }

    /// The same over a connection of its own: the master of a shared one would go on with the
    /// session, and with our stderr, when this ssh is killed.
    pub(crate) fn ssh_alone(&self, words: &[OsString]) -> Command {
        self.ssh_with(Some("ControlPath=none"), words)
    }

    /// The same for a program whose output is kept: the master of a shared connection would live
    /// on with our end of the pipes.
    pub(crate) fn unshared_ssh(&self, words: &[OsString]) -> Command {
        self.ssh_with(Some("ControlMaster=no"), words)
    }

    fn ssh_with(&self, option: Option<&str>, words: &[OsString]) -> Command {
        if let Some(options) = &self.dropbear {
            let mut command = programs::SSH.command();
            command.args(options).args(words);
            return command;
        }
        let mut command = self.command(&programs::SSH);
        command.args(option.iter().flat_map(|option| ["-o", option])).arg(&self.name).args(words);
        command
    }

    pub(crate) fn is_by_dropbear(&self) -> bool {
        self.dropbear.is_some()
    }

    /// The exit status by which ssh says that it has failed itself; dropbear's is not told from
    /// the command's own.
    pub(crate) fn failure_code(&self) -> u8 {
        if self.is_by_dropbear() { 1 } else { FAILURE_CODE }
    }
}

/// The VM's `ssh.conf` in options of dropbear's client, if `ssh` is that; says what is lost.
fn dropbear_options(paths: &Paths, log: &Log) -> Option<Vec<OsString>> {
    let ssh = programs::SSH.find()?.canonicalize().ok()?;
    if !dropbear::is_dropbear(&ssh) {
        return None;
    }
    let text = files::read_start(&paths.ssh_config, CONFIG_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let translated = dropbear::translate(&text, files::home().as_deref());
    if !translated.lost.is_empty() {
        let lost = translated.lost.join("`, `");
        log.note(&format!("`ssh` is dropbear's here, which does without `{lost}`"));
    }
    Some(translated.arguments)
}

/// What a running VM was started with, as far as its record tells.
pub(crate) fn choices(instance: Option<&Instance>) -> Choices<'_> {
    instance.map_or_else(Choices::default, |instance| Choices {
        ssh_port: Some(instance.ssh_port),
        set: &instance.set,
    })
}

/// A command line for the guest's shell: one word is one, of several each is quoted.
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

/// The content of the VM's `ssh.conf`, for a guest that is reached on `port`; relative names of
/// files in it start from `dir`.
pub(crate) fn config_text(
    name: &str,
    options: &[SshSetting],
    paths: &Paths,
    port: u16,
    dir: &Path,
) -> Result<String, Error> {
    Ok(config::render(name, port, options, &paths.plain_dir()?, dir))
}

/// Ends the shared connection, if there is one. It ends by itself when QEMU does, only not at
/// once; so nothing that ssh says here matters.
pub(crate) fn end_shared_connection(name: &str, paths: &Paths, log: &Log) -> Result<(), Error> {
    let socket = paths.dir.join(CONTROL_SOCKET);
    if socket.symlink_metadata().is_ok() || has_own_control_path(paths) {
        let mut ssh = programs::SSH.command();
        ssh.arg("-F").arg(&paths.ssh_config).args(["-O", "exit", name]);
        run::briefly(ssh, EXIT_WAIT, log);
    }
    files::remove(&socket)
}

/// Whether connections are shared where the user wants that.
fn has_own_control_path(paths: &Paths) -> bool {
    let text = files::read_start(&paths.ssh_config, CONFIG_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim_start);
    lines.any(|line| {
        line.split_once(' ').is_some_and(|(keyword, value)| {
            let ours = Path::new(value).file_name() == Some(OsStr::new(CONTROL_SOCKET));
            keyword.eq_ignore_ascii_case("ControlPath") && value != "none" && !ours
        })
    })
}
