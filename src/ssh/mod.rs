//! The guest over ssh: the configuration file of a VM ([`config`]), the commands that use it
//! ([`run`]), and copying ([`copy`]), also where the guest has no sftp server ([`stream`]).

pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod run;
mod stream;

use crate::config::{Choices, Config, SshSetting};
use crate::error::{Error, Kind};
use crate::files;
use crate::log::Log;
use crate::vm::paths::{SOCKET_PATH_BYTES_MAX, is_plain};
use crate::vm::{Instance, Paths, process};
use config::CONTROL_SOCKET;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// ssh binds `ControlPath`, a dot and 16 random characters, and renames it (`mux.c`).
const CONTROL_SUFFIX_BYTES: usize = 17;
/// A connection's master that does not answer is stopped or hangs, and is left to itself.
const EXIT_WAIT: Duration = Duration::from_secs(2);
/// Of a configuration that this program wrote.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// A running VM's guest, its `ssh.conf` written.
pub(crate) struct Guest {
    name: String,
    pub(crate) paths: Paths,
    pub(crate) log: Log,
}

impl Guest {
    /// The guest of the VM `name`; an error when the VM is not running.
    pub(crate) fn of(name: &str, config: &Config, log: Log) -> Result<Self, Error> {
        let vm = config.vm(name)?;
        let paths = Paths::new(config.vm_dir(name));
        files::check_access(&paths.dir)?;
        if process::find(&paths).is_none() {
            return Err(Error::new(Kind::NotRunning, format!("VM `{name}` is not running"))
                .hint(format!("`qqmgr start {name}` starts it")));
        }
        let ssh_port = Instance::read(&paths).map(|instance| instance.ssh_port);
        let choices = Choices { ssh_port, ..Choices::default() };
        let port = config.ssh_port(vm, &choices)?;
        let text = config_text(name, &config.ssh_options(vm, &choices)?, &paths, port)?;
        files::write_private(&paths.ssh_config, &text)?;
        Ok(Self { name: name.to_string(), paths, log })
    }

    /// `PROGRAM -F ssh.conf`
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(&self.paths.ssh_config);
        command
    }

    /// `ssh -F ssh.conf NAME WORDS...`
    pub(crate) fn ssh(&self, words: &[OsString]) -> Command {
        let mut command = self.command("ssh");
        command.arg(&self.name).args(words);
        command
    }
}

/// The content of the VM's `ssh.conf`, for a guest that is reached on `port`.
pub(crate) fn config_text(
    name: &str,
    options: &[SshSetting],
    paths: &Paths,
    port: u16,
) -> Result<String, Error> {
    Ok(config::render(name, port, options, &control_dir(paths)?))
}

/// The directory for connections that are shared: the VM's own, or the short way to it when there
/// is anything in the path that ssh would expand, or when it is too long.
fn control_dir(paths: &Paths) -> Result<PathBuf, Error> {
    let socket = paths.dir.join(CONTROL_SOCKET);
    let fits = socket.as_os_str().len() + CONTROL_SUFFIX_BYTES <= SOCKET_PATH_BYTES_MAX;
    if fits && is_plain(&socket) { Ok(paths.dir.clone()) } else { paths.short_dir() }
}

/// Ends the shared connection, if there is one. It ends by itself when QEMU does, only not at
/// once; so nothing that ssh says here matters.
pub(crate) fn end_shared_connection(name: &str, paths: &Paths, log: Log) -> Result<(), Error> {
    let socket = paths.dir.join(CONTROL_SOCKET);
    if socket.symlink_metadata().is_ok() || has_own_control_path(paths) {
        let mut ssh = Command::new("ssh");
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
