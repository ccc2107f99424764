//! Searches for the process that is a VM's QEMU.
//!
//! The record has the process's pid and start time. A pid file alone proves nothing: after a crash
//! or a reboot its number may be another process's.

use super::Paths;
use super::instance::Instance;
use super::process::{Process, claims};
use crate::command_line::CommandLine;
use crate::error::Error;
use crate::linux::{self, PROC};
use crate::system::process::{processes, same_start, see, unseen};
use crate::system::{files, programs};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The maximum size of a pid file. A pid has at most 7 digits on Linux.
const PID_BYTES_MAX: u64 = 16;

/// Fails where processes cannot be seen, since a running VM would look like a stopped one.
pub(crate) fn check_visible() -> Result<(), Error> {
    if linux::is_there() {
        return Ok(());
    }
    if linux::own_pid().is_some() {
        let message =
            format!("cannot see which processes run: `{PROC}` is of another PID namespace");
        let hint = format!("mount one of this namespace on {PROC} (`unshare --mount-proc`)");
        return Err(Error::failed(message).hint(hint));
    }
    let own = std::process::id();
    let unseen = |why: &str, hint: &str| {
        let message = format!("cannot see which processes run: there is no `{PROC}`, and {why}");
        Err(Error::failed(message).hint(format!("mount {PROC}{hint}")))
    };
    match processes(Some(own)) {
        Ok(shown) if shown.iter().any(|process| process.pid == own) => Ok(()),
        Err(_) if programs::PS.find().is_none() => {
            unseen("no `ps`", ", or install ps (Debian: procps)")
        }
        _ => unseen("`ps` does not show them", ", without which that of Linux shows nothing"),
    }
}

/// The process that the VM's pid file names, if it is the VM's.
pub(super) fn by_pid_file(
    paths: &Paths,
    record: Option<&Instance>,
) -> Result<Option<Process>, Error> {
    let Some(pid) = read_pid(&paths.pid)? else { return Ok(None) };
    let recorded = record.filter(|record| record.pid == Some(pid));
    identified(pid, recorded.and_then(|record| record.start.as_deref()), paths)
}

/// The process with this pid, if it is the VM's.
fn identified(pid: u32, start: Option<&str>, paths: &Paths) -> Result<Option<Process>, Error> {
    let Some(seen) = see(pid)? else { return Ok(None) };
    // QEMU holds its pid file open as long as it lives.
    let holds_it = || linux::has_open(pid, &paths.pid).map_err(|error| unseen(&error));
    let is_it = match same_start(start, seen.start.as_deref()) {
        Some(same) => same,
        None => holds_it()? || claims(&seen, &paths.pid)?,
    };
    Ok(is_it.then(|| Process::new(seen, paths)))
}

/// The VM's process, by its pid file or its record, whose pids must be of this machine.
pub(super) fn visible(paths: &Paths, record: Option<&Instance>) -> Result<Option<Process>, Error> {
    let by_file = by_pid_file(paths, record)?;
    let (None, Some(record)) = (&by_file, record) else { return Ok(by_file) };
    let Some(pid) = record.pid else { return search(paths) };
    let found = identified(pid, record.start.as_deref(), paths)?;
    Ok(found.map(|process| Process { exiting: record.ready, ..process }))
}

/// Searches all processes for a command line that names the pid file: a killed `start` may not have
/// recorded its QEMU, or the VM's directory was removed. A debugger or a wrapper of QEMU also has
/// that command line, so where there is a `/proc`, the process must have QEMU's pid file or log
/// open.
pub(super) fn search(paths: &Paths) -> Result<Option<Process>, Error> {
    let named = command_lines()?.into_iter().filter(|(_, line)| line.names(&paths.pid));
    for (pid, _) in named {
        let Some(seen) = see(pid)? else { continue };
        let holds = |path| linux::holds(pid, path).map_err(|error| unseen(&error));
        if claims(&seen, &paths.pid)?
            && (seen.shown.is_some() || holds(&paths.pid)? || holds(&paths.log)?)
        {
            return Ok(Some(Process::new(seen, paths)));
        }
    }
    Ok(None)
}

/// The command lines of all processes, by pid.
pub(super) fn command_lines() -> Result<Vec<(u32, CommandLine)>, Error> {
    if !linux::is_there() {
        let shown = processes(None)?.into_iter();
        return Ok(shown.map(|shown| (shown.pid, shown.line)).collect());
    }
    let lines = linux::pids().map_err(|error| unseen(&error))?.into_iter().filter_map(|pid| {
        let line = linux::command_line(pid).map_err(|error| unseen(&error)).transpose()?;
        Some(line.map(|line| (pid, line)))
    });
    lines.collect()
}

/// The pid files that the command lines of all processes name: the words from each path on, since
/// the end of a path is not known where `ps` shows the words.
pub(crate) struct PidFiles(BTreeSet<Vec<u8>>);

impl PidFiles {
    pub(crate) fn read() -> Result<Self, Error> {
        Ok(Self::of(command_lines()?.into_iter().map(|(_, line)| line)))
    }

    fn of(lines: impl Iterator<Item = CommandLine>) -> Self {
        let words = |line: CommandLine| line.after_option().map(Vec::from).collect::<Vec<_>>();
        Self(lines.flat_map(words).collect())
    }

    /// Whether a process names this pid file.
    pub(crate) fn have(&self, pid_file: &Path) -> bool {
        let path = pid_file.as_os_str().as_bytes();
        let mut behind = self.0.range(path.to_vec()..).map_while(|words| words.strip_prefix(path));
        behind.any(|rest| matches!(rest.first(), Some(0 | b' ')))
    }
}

fn read_pid(pid_file: &Path) -> Result<Option<u32>, Error> {
    let bytes = files::read_if_there(pid_file, PID_BYTES_MAX)?;
    Ok(bytes.and_then(|bytes| str::from_utf8(&bytes).ok()?.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::tests::Dir;
    use crate::vm::wait;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_is_the_recorded_one_by_its_start() {
        let Dir(paths) = &Dir::new("search-start");
        let mut child =
            Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = Some(child.id());
        let start = see(child.id()).unwrap().unwrap().start;
        let mut record = Instance { pid, start, ready: true, ..Instance::default() };
        let found = visible(paths, Some(&record)).unwrap().unwrap();
        assert_eq!((Some(found.pid), found.exiting), (pid, true));
        std::fs::write(&paths.pid, format!("{}\n", child.id())).unwrap();
        assert!(!visible(paths, Some(&record)).unwrap().unwrap().exiting);
        // Without a record, its command line would have to name the pid file.
        assert_eq!(visible(paths, None).unwrap(), None);
        // The pid belonged to another process before.
        record.start = Some("1".into());
        assert_eq!(visible(paths, Some(&record)).unwrap(), None);
        child.kill().unwrap();
        // The child has not been waited for: a zombie is not a running VM.
        assert!(found.ends_by(Instant::now() + Duration::from_secs(10)));
        child.wait().unwrap();
        assert!(!found.is_alive());
    }

    #[test]
    fn a_command_line_names_the_pid_file() {
        let Dir(paths) = &Dir::new("search-words");
        let mut child = Command::new("sh")
            .args(["-c", "read line", "sh", "-pidfile"])
            .arg(&paths.pid)
            .arg("-x")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let claims_it = |pid_file: &Path| {
            let seen = see(child.id()).unwrap().unwrap();
            claims(&seen, pid_file).unwrap()
        };
        // For a moment after it is run, a program has no command line.
        let soon = Instant::now() + Duration::from_secs(10);
        assert!(wait::poll(soon, || claims_it(&paths.pid).then_some(())).is_some());
        assert!(!claims_it(&paths.dir.join("pi")));
        // It has none of QEMU's files open.
        assert_eq!(search(paths).unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_file_is_a_number_and_nothing_else() {
        let Dir(paths) = &Dir::new("search-pid");
        for (content, expected) in
            [("12\n", Some(12)), ("", None), ("x", None), ("-1", None), ("99999999999", None)]
        {
            std::fs::write(&paths.pid, content).unwrap();
            assert_eq!(read_pid(&paths.pid).unwrap(), expected, "{content:?}");
        }
        assert_eq!(read_pid(&paths.dir).unwrap(), None);
        assert_eq!(read_pid(&paths.lock).unwrap(), None);
    }

    #[test]
    fn a_path_with_an_option_in_it_is_named_as_a_whole() {
        let of_ps = CommandLine::of_ps(b"q -pidfile /a -b/pid -x");
        let named = PidFiles::of([of_ps, CommandLine::of_proc(b"q\0-pidfile\0/c\0")].into_iter());
        for (path, expected) in
            [("/a -b/pid", true), ("/a -b/pi", false), ("/c", true), ("/d", false)]
        {
            assert_eq!(named.have(Path::new(path)), expected, "{path}");
        }
    }
}
