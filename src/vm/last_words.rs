//! Describes a QEMU that has ended: the reason in its own words, and the last output of QEMU and
//! its guest. Reads only.

use super::ending::Ending;
use super::{Paths, events};
use crate::error::Error;
use crate::system::files;
use crate::text::sanitized;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

/// How much of a file a message shows.
const BYTES_SHOWN: u64 = 4096;
const LINES_SHOWN: usize = 20;
/// A shell adds this to the number of a signal.
const BY_SIGNAL: i32 = 128;

/// The error for a QEMU that has ended; `when` completes the sentence. It contains QEMU's own
/// output, and the guest's if the guest ran. `status` is known only to the process that started
/// this QEMU.
pub(crate) fn error(when: &str, status: Option<ExitStatus>, paths: &Paths) -> Error {
    let ending = events::ending(paths);
    let (log, serial) = (tail(&paths.log), tail(&paths.serial));
    let ran = !serial.is_empty() && (ending != Ending::Unknown || log.is_empty());
    let how = status.map_or("ended".into(), how);
    let why = match &ending {
        Ending::Unknown if log.is_empty() && !ran => ", and said nothing".into(),
        Ending::Unknown => String::new(),
        // The status says more.
        Ending::Untold if status.is_some() => String::new(),
        ending => format!(": {ending}"),
    };
    let (said, file) = match (log.is_empty(), ran) {
        (true, false) => (String::new(), None),
        (true, true) => (of_guest(paths), Some(("serial output", &paths.serial))),
        (false, false) => (format!(":\n{log}"), Some(("log", &paths.log))),
        (false, true) => {
            let said = format!(":\n{log}\nand the end of its serial output:\n{serial}");
            (said, Some(("log", &paths.log)))
        }
    };
    let hint = file.map(|(what, file)| format!("its {what} is `{}`", file.display()));
    with_status(format!("QEMU {how} {when}{why}{said}"), status).hint_if(hint)
}

/// The error for a QEMU that has ended and whose VM has been started again since: its output was
/// moved or replaced.
pub(crate) fn of_earlier(when: &str, status: Option<ExitStatus>) -> Error {
    let how = status.map_or("ended".into(), how);
    with_status(format!("QEMU {how} {when}, and its VM was started again"), status)
}

fn with_status(message: String, status: Option<ExitStatus>) -> Error {
    let error = Error::failed(message);
    match status {
        Some(status) => error.after_reading("exit_status", exit_code(status)),
        None => error,
    }
}

/// The last lines of a file that are not blank, safe for a terminal; empty if the file does not
/// exist.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = files::read_end(path, BYTES_SHOWN).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    sanitized(&shown.join("\n"))
}

/// The end of the output in a file, as a clause that follows a statement.
pub(super) fn of(output: &Path) -> String {
    match tail(output) {
        said if said.is_empty() => ", and said nothing".into(),
        said => format!(":\n{said}"),
    }
}

/// The end of the guest's serial output, as a clause that follows a statement.
pub(crate) fn of_guest(paths: &Paths) -> String {
    match tail(&paths.serial) {
        said if said.is_empty() => ", and its serial output is empty".into(),
        said => format!("; the end of its serial output:\n{said}"),
    }
}

/// The exit status of a process as a shell tells it: 128 and the number of a signal that ended it.
pub(crate) fn exit_code(status: ExitStatus) -> u16 {
    let code = status.signal().map(|signal| BY_SIGNAL + signal).or(status.code());
    code.and_then(|code| code.try_into().ok()).unwrap_or_default()
}

/// How a process ended, as a verb phrase that follows its name.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        _ => "ended".into(),
    }
}
