//! A job without a command: the guest boots, its serial line is shown, and the end decides.

use super::command::{Done, done};
use super::flags::UNTIL;
use super::job::Job;
use super::stream::{Passed, Stream};
use crate::commands::target::Target;
use crate::error::Error;
use crate::json::Value;
use crate::text::sanitized;
use crate::vm::ending::POWERED_OFF;
use crate::vm::events::EventLog;
use crate::vm::last_words::tail;
use crate::vm::sought::{Found, PANIC};
use crate::vm::{Paths, Process, Session, events, last_words, launch, wait};
use std::ffi::OsStr;

/// The exit code of a failure that was seen.
const SEEN_FAILURE_CODE: u8 = 1;
/// The exit code that a shell gives a program that SIGTERM has ended.
const SIGTERM_CODE: u16 = 128 + 15;
/// QEMU's reasons for an end: by SIGTERM and the like, after which it exits with 0, and by a panic
/// that a pvpanic device reported.
const BY_SIGNAL_REASON: &str = "host-signal";
const PANIC_REASON: &str = "guest-panic";

/// Lets the guest run if the job holds it, and passes its serial output on until the job has ended.
pub(super) fn work(job: &Job, process: &Process) -> Result<Done, Error> {
    let (target, limits) = (job.target, &job.limits);
    let Target { args, name, paths, log, .. } = target;
    target.note_own_port();
    let mut stream = Stream::new(target)?;
    if job.is_held {
        let session = Session::open_with(process, paths, log);
        let begun = session.and_then(|mut session| session.execute("cont", None));
        // A guest may end QEMU before QEMU has answered.
        begun.map(|_| ()).or_else(|error| if process.is_alive() { Err(error) } else { Ok(()) })?;
    } else if let Some((state, _)) = target.held() {
        let way_on = state.way_on(paths).unwrap_or_default();
        log.note(&format!("VM `{name}` is {}: {way_on}", state.name()));
    }
    let mut seen = 0;
    let end = wait::poll_long(limits.deadline.map(|deadline| deadline.at), || {
        // Ask before reading, so that an ended QEMU's last output is read.
        let alive = process.is_alive();
        match stream.pass_on() {
            Err(error) => return Some(Err(error)),
            Ok(Passed::Found(found)) => return Some(Ok(Some(found))),
            Ok(Passed::Some) => return None,
            Ok(Passed::Nothing) => {}
        }
        let length = events::length(paths);
        let has_news = std::mem::replace(&mut seen, length) != length;
        (!alive || has_news && is_over(paths, &stream)).then_some(Ok(None))
    });
    let Some(end) = end.transpose()? else {
        stream.end()?;
        let late = limits.exceeded().unwrap_or_else(|| Error::failed("the wait ended"));
        let late = match args.value(&UNTIL) {
            Some(until) => late.after(&was_not_there(&until)),
            None => late,
        };
        return Err(late.after_reading("serial", stream.text()));
    };
    if let Some(Found::Failure(_) | Found::Panic) = end {
        stream.pass_last_words_on(process, limits)?;
    }
    stream.end()?;
    let is_over = !matches!(end, Some(Found::Until));
    let (reason, exit_status) = if is_over { ended(target, process) } else { (None, None) };
    let (exit_code, matched) = match end {
        Some(Found::Until) => {
            (0, args.value(&UNTIL).map(|until| until.to_string_lossy().into_owned()))
        }
        Some(failure) => {
            let matched = matched(&failure, &stream);
            log.note(&format!("`{}` is on the serial line", sanitized(&matched)));
            (SEEN_FAILURE_CODE, Some(matched))
        }
        None => (by_itself(target, process, &stream, reason.as_deref(), exit_status)?, None),
    };
    let members = [
        ("serial", Value::from(args.json().then(|| stream.text()))),
        ("matched", matched.into()),
        ("exit_status", exit_status.map(u16::from).into()),
        ("reason", reason.into()),
    ];
    Ok((done(target, exit_code, members), is_over))
}

/// The start of a message about a job that ended without the text of `--until`.
fn was_not_there(until: &OsStr) -> String {
    format!("`{}` was not on the serial line", sanitized(&until.to_string_lossy()))
}

/// Whether the guest has ended in a QEMU that stays, as under `-no-shutdown`.
fn is_over(paths: &Paths, stream: &Stream) -> bool {
    EventLog::open(paths).is_some_and(|mut log| {
        log.guest_end().is_some() || stream.sought.panics && log.ends_in_panic()
    })
}

/// The text that means failure; for a panic, the kernel's message.
fn matched(failure: &Found, stream: &Stream) -> String {
    match failure {
        Found::Failure(text) => String::from_utf8_lossy(text).into_owned(),
        Found::Until | Found::Panic => stream.last_line_with(PANIC),
    }
}

/// QEMU's reason for its end, and its exit status as a shell would tell it, if they are known.
fn ended(target: &Target, process: &Process) -> (Option<String>, Option<u8>) {
    let reason = events::ending(&target.paths).reason().map(str::to_string);
    let status = if process.is_alive() { None } else { launch::exit_status(process.pid) };
    let exit_status = status.map(|status| {
        let code = match last_words::exit_code(status) {
            // QEMU exits with 0 after SIGTERM and the like.
            0 if reason.as_deref() == Some(BY_SIGNAL_REASON) => SIGTERM_CODE,
            code => code,
        };
        code.try_into().unwrap_or(u8::MAX)
    });
    (reason, exit_status)
}

/// The exit code of a job that no text has ended.
fn by_itself(
    target: &Target,
    process: &Process,
    stream: &Stream,
    reason: Option<&str>,
    exit_status: Option<u8>,
) -> Result<u8, Error> {
    let Target { args, paths, log, .. } = target;
    let how = match (exit_status, reason) {
        // QEMU 10 reports a debug exit of the guest as a power-off.
        (Some(code), None) | (Some(code @ 1..), Some(POWERED_OFF)) => {
            format!("QEMU ended with exit code {code}")
        }
        _ => events::ending(paths).to_string(),
    };
    let pauses = || EventLog::open(paths).is_some_and(|mut log| log.ends_in_panic());
    if stream.sought.panics && (reason == Some(PANIC_REASON) || pauses()) {
        log.note("the guest panicked");
        return Ok(SEEN_FAILURE_CODE);
    }
    if let Some(until) = args.value(&UNTIL) {
        log.note(&format!("{}: {how}", was_not_there(&until)));
        return Ok(SEEN_FAILURE_CODE);
    }
    let Some(code) = exit_status else {
        // A guest that has ended in a QEMU that stays has powered off.
        let unknown = || Error::failed(format!("QEMU's exit status is not known: {how}"));
        return if process.is_alive() { Ok(0) } else { Err(unknown()) };
    };
    let said = tail(&paths.log);
    if code != 0 && !said.is_empty() {
        log.note(&format!("QEMU ended with exit code {code}:\n{said}"));
    }
    Ok(code)
}
