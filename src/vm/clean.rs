//! Removes the files of a VM that is not running. Logs and the lock file stay.

use super::snapshot::Saved;
use super::{Paths, helpers};
use crate::error::Error;
use crate::log::Log;
use crate::system::{files, short_way};

/// Removes the files that only a running VM has, and ends its helpers.
pub(crate) fn all(paths: &Paths, log: &Log) -> Result<(), Error> {
    // All are tried, even if one cannot be removed.
    let removed = [
        pid_file(paths),
        made_by_start(paths, log),
        files::remove(&paths.users),
        files::remove(&paths.console_lock),
    ];
    removed.into_iter().collect::<Result<(), Error>>()?;
    log.step("clean", || "only logs are left".into());
    Ok(())
}

fn pid_file(paths: &Paths) -> Result<(), Error> {
    files::remove(&paths.pid)
        .map_err(|error| error.hint("it is in the place of QEMU's pid file: remove it"))
}

/// Removes the files of [`all`] that the next start makes anew. The pid file stays: QEMU takes a
/// stale one over, and its lock on it keeps a second QEMU out when we do not see the first.
pub(crate) fn for_start(paths: &Paths, log: &Log) -> Result<(), Error> {
    made_by_start(paths, log)?;
    // QEMU takes over regular files only.
    if paths.pid.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        pid_file(paths)?;
    }
    log.step("clean_for_start", || "only logs and a pid file are left".into());
    Ok(())
}

/// Removes what a start has made, after the helpers have ended: its record alone identifies them.
fn made_by_start(paths: &Paths, log: &Log) -> Result<(), Error> {
    helpers::end(paths, log)?;
    Saved::settle(paths)?;
    let sockets = [&paths.monitor, &paths.qmp, &paths.ctl, &paths.console, &paths.gdb];
    let files =
        [&paths.instance, &paths.ssh_config, &paths.project, &paths.copy_method, &paths.events_in];
    let removed: Vec<_> =
        files.into_iter().chain(sockets).map(|path| files::remove(path)).collect();
    removed.into_iter().collect::<Result<(), Error>>()?;
    files::remove_unfinished(&paths.dir);
    // A link that was never needed is not looked at, and a link that is left does no harm.
    if paths.needs_short_way() {
        let _ = short_way::short_link(&paths.dir).and_then(|link| files::remove(&link));
    }
    Ok(())
}
