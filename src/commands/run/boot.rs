//! A job without a command: the guest boots, its serial line is shown, and the end decides.

use super::flags::UNTIL;
use super::job::Job;
use super::stream::{Passed, Stream};
use crate::commands::target::Target;
use crate::error::Error;
use crate::json::Value;
use crate::report::Report;
use crate::text::sanitized;
use crate::vm::ending::{Ending, POWERED_OFF};
use crate::vm::events::EventLog;
use crate::vm::last_words::tail;
use crate::vm::sought::{Found, PANIC};
use crate::vm::{Paths, Process, Session, events, last_words, launch, wait};

/// The exit code of a failure that was seen.
const SEEN_FAILURE_CODE: u8 = 1;
/// The exit code that a shell gives a program that SIGTERM has ended.
const SIGTERM_CODE: u16 = 128 + 15;
/// QEMU's reasons for an end: by SIGTERM and the like, after which it exits with 0, and by a panic
/// that a pvpanic device reported.
const BY_SIGNAL_REASON: &str = "host-signal";
const PANIC_REASON: &str = "guest-panic";

/// Lets the guest run if the job holds it, and passes its serial output on until the job has ended.
/// Gives the report, and whether the guest can no longer power off.
pub(super) fn work(job: &Job, process: &Process) -> Result<(Report, bool), Error> {
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
    let until = args.value(&UNTIL).map(|until| until.to_string_lossy().into_owned());
    let missed = until.as_deref().map(sanitized);
    let missed = missed.map(|until| format!("`{until}` was not on the serial line"));
    let Some(end) = end.transpose()? else {
        stream.sink.end()?;
        let late = limits.exceeded().unwrap_or_else(|| Error::failed("the wait ended"));
        let late = missed.iter().fold(late, |late, missed| late.after(missed));
        return Err(late.after_reading("serial", stream.text()));
    };
    if let Some(Found::Failure(_) | Found::Panic) = end {
        stream.pass_last_words_on(process, limits)?;
    }
    stream.sink.end()?;
    let is_over = !matches!(end, Some(Found::Until));
    let ending = if is_over { events::ending(paths) } else { Ending::Unknown };
    let exit_status = if is_over { exit_status(process, &ending) } else { None };
    let (exit_code, matched) = match end {
        Some(Found::Until) => (0, until),
        Some(failure) => {
            let matched = match failure {
                Found::Failure(text) => String::from_utf8_lossy(&text).into_owned(),
                // The kernel's message.
                Found::Until | Found::Panic => stream.last_line_with(PANIC),
            };
            log.note(&format!("`{}` is on the serial line", sanitized(&matched)));
            (SEEN_FAILURE_CODE, Some(matched))
        }
        None => (by_itself(target, process, &stream, &ending, exit_status, missed)?, None),
    };
    let members = [
        ("serial", Value::from(args.json().then(|| stream.text()))),
        ("matched", matched.into()),
        ("exit_status", exit_status.map(u16::from).into()),
        ("reason", ending.reason().into()),
    ];
    Ok((target.exit_report(Some(exit_code.into()), "", members), is_over))
}

/// Whether the guest has ended in a QEMU that stays, as under `-no-shutdown`.
fn is_over(paths: &Paths, stream: &Stream) -> bool {
    EventLog::open(paths).is_some_and(|mut log| {
        log.guest_end().is_some() || stream.sought.panics && log.ends_in_panic()
    })
}

/// QEMU's exit status as a shell would tell it, if it is known.
fn exit_status(process: &Process, ending: &Ending) -> Option<u8> {
    let status = if process.is_alive() { None } else { launch::exit_status(process.pid) };
    let code = match last_words::exit_code(status?) {
        // QEMU exits with 0 after SIGTERM and the like.
        0 if ending.reason() == Some(BY_SIGNAL_REASON) => SIGTERM_CODE,
        code => code,
    };
    Some(code.try_into().unwrap_or(u8::MAX))
}

/// The exit code of a job that no text has ended; `missed` says so of the text of `--until`.
fn by_itself(
    target: &Target,
    process: &Process,
    stream: &Stream,
    ending: &Ending,
    exit_status: Option<u8>,
    missed: Option<String>,
) -> Result<u8, Error> {
    let Target { paths, log, .. } = target;
    let how = match (exit_status, ending.reason()) {
        // QEMU 10 reports a debug exit of the guest as a power-off.
        (Some(code), None) | (Some(code @ 1..), Some(POWERED_OFF)) => {
            format!("QEMU ended with exit code {code}")
        }
        _ => ending.to_string(),
    };
    let pauses = || EventLog::open(paths).is_some_and(|mut log| log.ends_in_panic());
    if stream.sought.panics && (ending.reason() == Some(PANIC_REASON) || pauses()) {
        log.note("the guest panicked");
        return Ok(SEEN_FAILURE_CODE);
    }
    if let Some(missed) = missed {
        log.note(&format!("{missed}: {how}"));
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
