//! The VM's `ssh.conf` on disk.

use super::config::{self, Places};
use super::unshare::{config_file, end_shared_connection};
use crate::config::resolve::SshSetting;
use crate::error::Error;
use crate::log::Log;
use crate::system::files;
use crate::vm::Paths;
use std::path::Path;

/// The content of the VM's `ssh.conf`, for a guest that is reached on `port`; relative names of
/// files in it start from `dir`.
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
    paths.make_short_way()
}
