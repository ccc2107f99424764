//! The running VMs of this user in all configurations. There is no list of them: the command line
//! of each QEMU names the directory of its VM. Any process can have such a command line, so the
//! record in the directory must name the same process.

use super::look::Place;
use super::search::{check_visible, command_lines};
use super::{Look, Paths};
use crate::error::Error;
use crate::linux;
use crate::system::process::user_id;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A VM that runs, or may run if the look at it failed.
pub(crate) struct Found {
    pub(crate) paths: Paths,
    pub(crate) look: Result<Look, Error>,
    /// The file of its configuration, or its directory if there is no record that can be read.
    pub(crate) config_file: PathBuf,
}

/// Finds the VMs, in the order of their directories.
pub(crate) fn running() -> Result<Vec<Found>, Error> {
    check_visible()?;
    let user = user_id()?;
    let found = command_lines()?.into_iter().filter_map(|(pid, line)| {
        // Where there is no `/proc`, only the owner of the directory is checked.
        let is_own = linux::owner(pid).is_none_or(|owner| owner == user);
        let named = line.pid_file().filter(|_| is_own)?;
        let paths = Paths::new(vm_dir(&present(pid, named), user)?);
        let look = if paths.dir.exists() { Look::by_files } else { Look::everywhere }(&paths);
        let config_file = match &look {
            Ok(Look { record: Some(record), place: Place::Here(process) })
                // There is no pid yet while the VM starts, or while gdb runs it.
                if process.pid == pid && record.pid.is_none_or(|recorded| recorded == pid) =>
            {
                record.config_file.clone()
            }
            // The record was removed with the directory, or is damaged.
            Ok(Look { record: None, place: Place::Here(process) })
                if process.pid == pid
                    && (process.lost || paths.instance.exists())
                    && linux::holds(pid, &paths.pid).unwrap_or_default() =>
            {
                paths.dir.clone()
            }
            Ok(_) => return None,
            Err(_) => paths.dir.clone(),
        };
        Some(Found { paths, look, config_file })
    });
    let mut found: Vec<Found> = found.collect();
    found.sort_by(|one, other| one.paths.dir.cmp(&other.paths.dir));
    found.dedup_by(|one, other| one.paths.dir == other.paths.dir);
    Ok(found)
}

/// The current path of the pid file that a QEMU was given: its directory may have been moved, and
/// QEMU holds the file open.
fn present(pid: u32, named: PathBuf) -> PathBuf {
    if named.exists() {
        return named;
    }
    let open = linux::open_paths(pid).unwrap_or_default();
    open.into_iter().find(|path| path.file_name() == named.file_name()).unwrap_or(named)
}

/// The directory of the VM with this pid file, if it can be one, and belongs to the user. It may
/// have been removed.
fn vm_dir(pid_file: &Path, user: u32) -> Option<PathBuf> {
    let dir = pid_file.parent().filter(|dir| dir.is_absolute() && pid_file == dir.join("pid"))?;
    let is_own = match dir.symlink_metadata() {
        Ok(found) => found.is_dir() && found.uid() == user,
        Err(error) => error.kind() == ErrorKind::NotFound && linux::is_there(),
    };
    let is_named = dir.file_name()?.to_str()?.starts_with("vm.");
    (is_own && is_named).then(|| dir.to_path_buf())
}
