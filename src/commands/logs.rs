//! `--logs DIR`: leaves in DIR/VM what a guest, its QEMU and its helpers said, and why QEMU ended.

use super::status;
use super::target::Target;
use crate::cli::flag::{Flag, Takes, not_empty};
use crate::error::Error;
use crate::json::Value;
use crate::report::Outcome;
use crate::system::{files, user_files};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{self, Path, PathBuf};

pub(super) static LOGS: Flag<OsString> =
    Flag::new("logs", Takes::Value("DIR"), not_empty, "Leave the logs in DIR/VM, whatever happens");

/// Files that only a job has: the output of its command, and its result.
pub(super) const STDOUT: &str = "stdout";
pub(super) const STDERR: &str = "stderr";
const RESULT: &str = "result.json";
/// The VM at the end, as `status --json` shows it.
const STATUS: &str = "status.json";
/// The name of a log, and what distinguishes it from the log of another boot: its inode, and the
/// time of the last write.
pub(super) type Seen = (String, u64, i64, i64);
/// The members of a result that are in files of their own.
const IN_FILES: [&str; 3] = ["stdout", "stderr", "serial"];

/// The directory for this VM, if `--logs` was given.
pub(super) fn dir(target: &Target) -> Option<PathBuf> {
    Some(Path::new(&target.args.value(&LOGS)?).join(&target.name))
}

/// Makes the directory. In a runtime directory, it could be that of another VM.
pub(super) fn make_dir(target: &Target) -> Result<Option<PathBuf>, Error> {
    let (Some(dir), runtime) = (dir(target), &target.config.runtime) else { return Ok(None) };
    let all = path::absolute(dir.parent().unwrap_or(&dir)).unwrap_or_default();
    if all == *runtime || File::open(runtime).is_ok_and(|runtime| files::is_at(&runtime, &all)) {
        let message = format!("`{}` is where the directories of the VMs are", all.display());
        return Err(Error::failed(message).hint("leave the logs in another directory"));
    }
    user_files::make_dir(&dir).map(|()| Some(dir))
}

/// Makes the directory, and removes the logs of an earlier job there.
pub(super) fn prepare(target: &Target) -> Result<(), Error> {
    let Some(dir) = make_dir(target)? else { return Ok(()) };
    let is_ours =
        |name: &String| [STDOUT, STDERR, RESULT, STATUS].contains(&&**name) || is_log(target, name);
    let mut ours = files::names_in(&dir).into_iter().filter(is_ours);
    ours.try_for_each(|name| files::remove(&dir.join(name)))
}

/// Copies the logs of the VM's last boot that have changed since `earlier`, and writes the VM's
/// status. While the caller has the VM's lock, no other start replaces the logs.
pub(super) fn keep(target: &Target, earlier: &[Seen]) -> Result<(), Error> {
    // A directory that a script has removed, perhaps with its working directory, is not made again.
    let Some(dir) = dir(target).filter(|dir| dir.is_dir()) else { return Ok(()) };
    let from = &target.paths.dir;
    let logs = seen(target).into_iter().filter(|log| !earlier.contains(log));
    let copied: Vec<_> = logs.map(|(name, ..)| copy(&from.join(&name), &dir.join(&name))).collect();
    let status = status::run(target)
        .and_then(|status| write(&dir.join(STATUS), &status.json.unwrap_or(Value::Null)));
    // If one file cannot be copied, the others still are.
    copied.into_iter().chain([status]).collect()
}

/// The logs that are in the VM's directory.
pub(super) fn seen(target: &Target) -> Vec<Seen> {
    let logs = files::names_in(&target.paths.dir).into_iter().filter(|name| is_log(target, name));
    let seen = logs.filter_map(|name| {
        let file = target.paths.dir.join(&name).metadata().ok()?;
        // The user may have put a FIFO in its place, which would be read for ever.
        file.is_file().then(|| (name, file.ino(), file.mtime(), file.mtime_nsec()))
    });
    seen.collect()
}

/// Whether the file in a VM's directory is a log.
fn is_log(target: &Target, name: &str) -> bool {
    let paths = &target.paths;
    [&paths.serial, &paths.log, &paths.events_out].into_iter().any(|log| log.ends_with(name))
        || name.strip_prefix("helper.").is_some_and(|rest| rest.strip_suffix(".log").is_some())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut source = File::open(from).map_err(|error| Error::io("read", from, &error))?;
    user_files::replace(to, |file| io::copy(&mut source, file).map(|_| ()))
}

/// Writes the result of a job, or its error.
pub(super) fn write_result(target: &Target, outcome: &Outcome) -> Result<(), Error> {
    let Some(dir) = dir(target) else { return Ok(()) };
    let mut result = match outcome {
        Ok(report) => report.json.clone().unwrap_or(Value::Null),
        Err(error) => error.json(),
    };
    if let Value::Object(members) = &mut result {
        members.retain(|(name, _)| !IN_FILES.contains(&&**name));
    }
    write(&dir.join(RESULT), &result)
}

fn write(path: &Path, document: &Value) -> Result<(), Error> {
    user_files::replace(path, |file| file.write_all(document.pretty().as_bytes()))
}
