//! The VM's `ssh.conf` on disk, and the end of the shared connections that were begun with it.

use super::config::{self, Places};
use super::connections::{self, Seats};
use crate::config::resolve::SshSetting;
use crate::error::Error;
use crate::log::Log;
use crate::system::running::within;
use crate::system::{files, programs};
use crate::vm::named::forgets;
use crate::vm::{Instance, Paths};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How long a master may take to exit. One that is stopped or hangs is left alone.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// The largest `ssh.conf` that is read; this program wrote the file.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The VM's `ssh.conf` for a guest that is reached on `port`; names in it start from `dir`.
pub(crate) fn config_text(
    options: &[SshSetting],
    paths: &Paths,
    port: u16,
    dir: &Path,
) -> Result<String, Error> {
    let plain = paths.plain_dir()?;
    let place = |dir: &Path, path: &Path, ours: &Path| {
        let by_link = || plain.join(ours.file_name().unwrap_or_default());
        if config::is_spellable(dir) { path.to_path_buf() } else { by_link() }
    };
    let project = place(dir, dir, &paths.project);
    let known_hosts = place(&paths.dir, &paths.known_hosts, &paths.known_hosts);
    let places = Places { control: plain, known_hosts, project, written: dir.to_path_buf() };
    Ok(config::render(&paths.name, port, options, &places))
}

/// Writes the VM's `ssh.conf`, and makes the links that its paths use. A connection that was begun
/// with other content is out of date, and is ended.
pub(crate) fn write_config(text: &str, paths: &Paths, dir: &Path, log: &Log) -> Result<(), Error> {
    let old = config_file(paths);
    if !old.is_empty() && old != text {
        end_shared_connection(paths, log)?;
    }
    files::write_private(&paths.ssh_config, text)?;
    if !config::is_spellable(dir) {
        files::symlink(dir, &paths.project)?;
    }
    paths.make_plain_dir().map(|_| ())
}

/// Ends the shared connections of a VM, including the one at the user's own `ControlPath`. They
/// would end by themselves some time after QEMU; so nothing that ssh says here matters.
pub(crate) fn end_shared_connection(paths: &Paths, log: &Log) -> Result<(), Error> {
    let exit = |options: &[&OsStr]| {
        let mut ssh = programs::SSH.command();
        ssh.args(options).args(["-O", "exit", &paths.name]);
        ssh.stdout(Stdio::null()).stderr(Stdio::null());
        let _ = ssh.attached(&mut within(EXIT_WAIT), log);
    };
    if has_own_control_path(paths) {
        exit(&["-F".as_ref(), paths.ssh_config.as_ref()]);
    }
    Seats::remove(&paths.dir)?;
    if connections::all(&paths.dir).is_empty() {
        return Ok(());
    }
    for socket in connections::listening(&paths.make_plain_dir()?) {
        exit(&["-F".as_ref(), "/dev/null".as_ref(), "-S".as_ref(), socket.as_ref()]);
    }
    connections::all(&paths.dir).iter().try_for_each(|socket| files::remove(socket))
}

/// Ends the shared connections of a guest that has ended, and forgets its host keys if they ended
/// with it: a guest that forgets what it writes (`-snapshot`) may have made its host keys during
/// this start, and makes others at the next one.
pub(crate) fn forget_guest(paths: &Paths, log: &Log) -> Result<(), Error> {
    end_shared_connection(paths, log)?;
    let Some(instance) = Instance::read(paths)? else { return Ok(()) };
    let learned_at = paths.known_hosts.metadata().map_or(0, |metadata| metadata.mtime());
    if forgets(&instance.arguments())
        && u64::try_from(learned_at).is_ok_and(|at| at >= instance.started_at)
    {
        files::remove(&paths.known_hosts)?;
    }
    Ok(())
}

/// Whether the user's own `ControlPath` says where connections are shared.
fn has_own_control_path(paths: &Paths) -> bool {
    let text = config_file(paths);
    config::settings(&text).any(|(keyword, value)| {
        keyword.eq_ignore_ascii_case("ControlPath") && !value.eq_ignore_ascii_case("none")
    })
}

/// The VM's `ssh.conf`; empty if there is none.
pub(super) fn config_file(paths: &Paths) -> String {
    let text = files::read_start(&paths.ssh_config, CONFIG_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}
