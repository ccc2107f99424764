//! The running VMs of this user, whatever their configurations. There is no list of them: the
//! command line of each process names the directory of its VM. Any process can claim that, so the
//! record in the directory must be of the same one.

use super::look::Place;
use super::search::command_lines;
use super::{Look, Paths, visible};
use crate::error::Error;
use crate::linux;
use crate::system::account::user_id;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A VM that runs, or may run if the look at it failed.
pub(crate) struct Found {
    pub(crate) paths: Paths,
    pub(crate) look: Result<Look, Error>,
    /// The file of its configuration, or its directory if the record cannot be read.
    pub(crate) config_file: PathBuf,
}

/// Finds the VMs, in the order of their directories.
pub(crate) fn running() -> Result<Vec<Found>, Error> {
    visible::check()?;
    let user = user_id()?;
    let found = command_lines()?.into_iter().filter_map(|(pid, line)| {
        // Where there is no `/proc`, the owner of the directory has to do.
        let is_own = linux::owner(pid).is_none_or(|owner| owner == user);
        let paths = Paths::new(vm_dir(&line.pid_file().filter(|_| is_own)?, user)?);
        let look = Look::by_files(&paths);
        let config_file = match &look {
            Ok(Look { record: Some(record), place: Place::Here(process) })
                // There is no pid yet while the VM starts, or while gdb runs it.
                if process.pid == pid && record.pid.is_none_or(|recorded| recorded == pid) =>
            {
                record.config_file.clone()
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

/// The directory of the VM with this pid file, if it can be one, and belongs to the user.
fn vm_dir(pid_file: &Path, user: u32) -> Option<PathBuf> {
    let dir = pid_file.parent().filter(|dir| dir.is_absolute() && pid_file == dir.join("pid"))?;
    let is_own = dir.symlink_metadata().is_ok_and(|it| it.is_dir() && it.uid() == user);
    let is_named = dir.file_name()?.to_str()?.starts_with("vm.");
    (is_own && is_named).then(|| dir.to_path_buf())
}
