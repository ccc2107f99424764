//! The helpers of a VM as processes: they are started before QEMU, watched until it answers, and
//! ended after it.
//!
//! Each is recorded before it runs, so that the next command finds it even if this process is
//! killed at any moment.

use super::helper::Helper;
use super::helper_record::HelperRecord;
use super::process::Process;
use super::wait::{self, Deadline};
use super::{Instance, Paths, last_words, shutdown};
use crate::error::{Error, Kind};
use crate::linux;
use crate::log::Log;
use crate::source::Problem;
use crate::system::daemon::{self, Daemon};
use crate::system::files;
use crate::system::process::{see, unseen};
use crate::text::texts;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// After the end of its QEMU a helper has this long to end by itself, as most of them do.
const OWN_END_WAIT: Duration = Duration::from_millis(200);
/// After this long, `start` says what it waits for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The helpers that this process has started for one QEMU.
#[derive(Default)]
pub(crate) struct Helpers(Vec<Started>);

struct Started {
    name: String,
    daemon: Daemon,
    output: PathBuf,
    /// The hint when it fails: why it may, or where its output is.
    hint: String,
}

impl Helpers {
    /// Starts the helpers one by one, each when the previous one is ready, in the directory `dir`.
    /// The record has each helper before it runs. After an error, some may be running; the caller
    /// ends them by the record.
    pub(crate) fn start(
        helpers: &[Helper],
        record: &mut Instance,
        (dir, paths): (&Path, &Paths),
        deadline: Deadline,
        log: &Log,
    ) -> Result<Self, Error> {
        let mut started = Self::default();
        for helper in helpers {
            started.0.push(start(helper, record, (dir, paths), log)?);
            if let Some(helper) = record.helpers.last() {
                started.await_sockets(helper, dir, deadline, log)?;
            }
        }
        Ok(started)
    }

    /// Waits until the helper, which is the last one, listens on its sockets.
    fn await_sockets(
        &mut self,
        helper: &HelperRecord,
        dir: &Path,
        deadline: Deadline,
        log: &Log,
    ) -> Result<(), Error> {
        let (begin, mut said, mut missing) = (Instant::now(), false, None);
        let ready = wait::poll(deadline.at, || {
            if let Some(error) = self.ended() {
                return Some(Err(error));
            }
            missing = helper.sockets.iter().find(|path| !is_served(path, dir));
            let Some(path) = missing.map(|path| path.display()) else { return Some(Ok(())) };
            if begin.elapsed() >= PATIENCE && !std::mem::replace(&mut said, true) {
                let name = &helper.name;
                log.note(&format!("waiting for the helper `{name}` to listen on `{path}`"));
            }
            None
        });
        let (None, Some(one), Some(path)) = (&ready, self.0.last(), missing) else {
            return ready.unwrap_or(Ok(()));
        };
        let (name, path, seconds) = (&one.name, path.display(), deadline.seconds());
        let message = format!("the helper `{name}` did not listen on `{path}` within {seconds} s");
        Err(Error::new(Kind::TimedOut, message + &last_words::of(&one.output)).hint(&one.hint))
    }

    /// The error of the first helper that has ended, if one has.
    pub(super) fn ended(&mut self) -> Option<Error> {
        self.0.iter_mut().find_map(|one| one.daemon.exit_status().map(|status| one.ended(status)))
    }

    /// The last words of a helper that has failed, as a clause that follows a statement.
    pub(super) fn failure(&mut self) -> Option<String> {
        self.0.iter_mut().find_map(|one| {
            let status = one.daemon.exit_status().filter(|status| !status.success())?;
            Some(one.last_words(status, ""))
        })
    }

    /// Lets them run on.
    pub(crate) fn keep(self) {
        self.0.into_iter().for_each(|one| {
            let pid = one.daemon.id();
            one.daemon.keep(pid);
        });
    }
}

impl Started {
    /// How it ended, and its last output. `when` completes the sentence.
    fn last_words(&self, status: ExitStatus, when: &str) -> String {
        let (how, said) = (last_words::how(status), last_words::of(&self.output));
        format!("the helper `{}` {how}{when}{said}", self.name)
    }

    /// The error of a helper that ended before QEMU answered.
    fn ended(&self, status: ExitStatus) -> Error {
        let error = Error::failed(self.last_words(status, " before QEMU was ready"));
        if !status.success() {
            return error.hint(&self.hint);
        }
        error.hint(
            "a helper stays in the foreground: leave out an option such as `--daemon`; \
             what went to the background is not found, and may still run",
        )
    }
}

/// Starts one helper, and records it before it runs.
fn start(
    helper: &Helper,
    record: &mut Instance,
    (dir, paths): (&Path, &Paths),
    log: &Log,
) -> Result<Started, Error> {
    helper.dirs.iter().try_for_each(|dir| files::private_dir(dir))?;
    let sockets = helper.sockets(&record.arguments());
    remove_sockets(&sockets, paths)?;
    let output = paths.helper_log(&helper.name);
    let file = files::create_private(&output)?;
    let mut daemon = daemon::spawn(&helper.argv, true, (dir, &file), log)?;
    // A shell that holds the program and has ended is found by its exit status.
    let start = see(daemon.id())?.and_then(|seen| seen.start);
    record.helpers.push(HelperRecord {
        name: helper.name.clone(),
        pid: daemon.id(),
        start,
        argv: texts(&helper.argv),
        sockets,
    });
    record.write(paths, log)?;
    daemon.release();
    let log = || format!("its log is `{}`", output.display());
    let hint = helper.warnings.first().map_or_else(log, Problem::doubt);
    Ok(Started { name: helper.name.clone(), daemon, output, hint })
}

/// Whether a program listens on the socket, as far as the system says. It is never connected to:
/// some helpers end after their first client.
fn is_served(socket: &Path, dir: &Path) -> bool {
    let path = dir.join(socket);
    path.exists() && linux::serves(&|it| it == socket || it == path).unwrap_or(true)
}

/// Ends the helpers of a QEMU that is gone, and removes their sockets. Returns whether there was a
/// helper to end.
pub(crate) fn end(paths: &Paths, log: &Log) -> Result<bool, Error> {
    let record = Instance::read(paths)?;
    let mut live: Vec<Process> = match &record {
        Some(it) => it.live_helpers(paths)?.into_iter().map(|(_, process)| process).collect(),
        None => unrecorded(paths)?,
    };
    let record = record.unwrap_or_default();
    let is_needed = !live.is_empty();
    wait::poll(Instant::now() + OWN_END_WAIT, || {
        live.retain(Process::is_alive);
        live.is_empty().then_some(())
    });
    // If one helper cannot be ended, the others still are.
    let ended: Vec<_> =
        live.iter().rev().map(|process| shutdown::terminate(process, log)).collect();
    ended.into_iter().try_for_each(|ended| ended.map(|_| ()))?;
    record.helpers.iter().try_for_each(|helper| remove_sockets(&helper.sockets, paths))?;
    if !record.helpers.is_empty() {
        log.step("end_helpers", || "none of them is left".into());
    }
    Ok(is_needed)
}

/// The helpers of a VM whose record was removed, perhaps with its directory, or is damaged: each
/// leads a process group and writes to its log.
fn unrecorded(paths: &Paths) -> Result<Vec<Process>, Error> {
    if !linux::is_there() {
        return Ok(Vec::new());
    }
    let is_name = |name: &Path| name.to_string_lossy().starts_with("helper.");
    let is_log = |path: &PathBuf| path.strip_prefix(&paths.dir).is_ok_and(is_name);
    let helper = |pid: u32| {
        let (output, stat) = (linux::outputs(pid).find(is_log)?, linux::stat(pid).ok()??);
        let start = stat.start_ticks.map(|ticks| ticks.to_string());
        (stat.group == Some(pid)).then(|| Process::of_helper(pid, start, output))
    };
    let pids = linux::pids().map_err(|error| unseen(&error))?;
    Ok(pids.into_iter().filter_map(helper).collect())
}

/// Removes sockets in the VM's directory that no program serves any more.
fn remove_sockets(sockets: &[PathBuf], paths: &Paths) -> Result<(), Error> {
    let ours = sockets.iter().filter(|path| path.starts_with(&paths.dir) && files::is_socket(path));
    let is_served = |path: &Path| linux::serves(&|it| it == path) == Some(true);
    ours.filter(|path| !is_served(path)).try_for_each(|path| files::remove(path))
}
