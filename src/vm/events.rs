//! The event log of a VM: `events.out` in the VM's directory, the QMP events since QEMU's start,
//! one per line.
//!
//! QEMU writes the file itself, so any number of readers can read all events, even after QEMU has
//! ended. The file belongs to a QMP session over `-qmp pipe:`, whose two ends need not be FIFOs
//! (`chardev/char-pipe.c` opens any existing file). The session's input is a file that negotiates,
//! asks for the run state and then ends; QEMU keeps sending events (`monitor_qmp_event` in
//! `monitor/qmp.c`; seen on 7.2). The answer shows that QEMU is ready
//! ([`answer`]).

use super::ending::Ending;
use super::{Paths, qmp};
use crate::error::Error;
use crate::json::{self, Value};
use crate::system::files;
use std::fs::File;
use std::time::Duration;

/// The input of the session, one command per line.
pub(crate) const QUESTIONS: &str =
    "{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"query-status\"}\n";
/// The part at the start of the log that is searched for the answers. Each takes some hundred
/// bytes, and few events can come between them.
const ANSWERS_BYTES_MAX: u64 = 64 * 1024;

/// The major version of the oldest QEMU that is supported.
const OLDEST: u64 = 6;
/// The part at the end of a long log that is read: hundreds of events.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// The part of the log that is searched for the end of a job. It holds a hundred thousand resets of
/// the guest after the job.
const JOB_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The prefix of the ids of our jobs for snapshots, in front of what they do.
pub(super) const JOBS: &str = "qqmgr-snapshot-";
/// The name that [`names_since`] gives to the events of a load, after which the guest is another.
pub(super) const LOAD: &str = "LOAD";

/// Makes the two files of the event log for a QEMU that is about to be started.
pub(crate) fn prepare(paths: &Paths) -> Result<(), Error> {
    files::write_private(&paths.events_in, QUESTIONS)?;
    files::create_private(&paths.events_out).map(|_| ())
}

/// QEMU's answer to the `query-status` in its own session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// QEMU has not answered so far.
    Missing,
    /// QEMU has only negotiated. Versions before 0.2 asked no more; it can be asked on its socket.
    Negotiated,
    /// QEMU is ready: its main loop runs, and all its monitors exist, since this session's monitor
    /// is made last. The text is the guest's run state in QEMU's own words.
    RunState(String),
    /// QEMU cannot be managed; the text says why.
    Wrong(String),
}

/// Reads QEMU's answer from the event log. A wait for a starting QEMU reads the log and
/// connects to no socket: while QEMU makes its monitors, two of its threads see a client, which
/// may be greeted twice or never.
pub(super) fn answer(paths: &Paths) -> Answer {
    answer_in(&files::read_start(&paths.events_out, ANSWERS_BYTES_MAX).unwrap_or_default())
}

fn answer_in(log: &[u8]) -> Answer {
    let wrong = |why: String| Answer::Wrong(format!("its QMP session speaks no QMP: {why}"));
    let mut answer = Answer::Missing;
    let mut lines = log.split_inclusive(|byte| *byte == b'\n');
    while let Some(line) = lines.next().filter(|line| line.ends_with(b"\n")) {
        let value = match qmp::parse(line) {
            Ok(value) => value,
            Err(error) => return wrong(error),
        };
        if let Some(version) = too_old(&value) {
            return Answer::Wrong(format!("it is QEMU {version}, older than {OLDEST}.0"));
        }
        if let Some(error) = value.get("error") {
            let desc = error.text("desc").unwrap_or_default();
            return Answer::Wrong(format!("`query-status`: {desc}"));
        }
        let Some(answered) = value.get("return") else { continue };
        if let Some(state) = answered.text("status") {
            return Answer::RunState(state.to_string());
        }
        answer = Answer::Negotiated;
    }
    if log.len() as u64 == ANSWERS_BYTES_MAX {
        return wrong(format!("no answer in {} KiB", ANSWERS_BYTES_MAX >> 10));
    }
    answer
}

/// The version of a QEMU that is too old, if this is its greeting.
fn too_old(greeting: &Value) -> Option<String> {
    let version = greeting.get("QMP")?.get("version")?.get("qemu")?;
    let (major, minor) = (version.number("major")?, version.number("minor")?);
    (major < OLDEST).then(|| format!("{major}.{minor}"))
}

/// The event log of one QEMU. It stays that QEMU's log after a later start, which has its own log.
pub(crate) struct EventLog(File);

impl EventLog {
    /// Opens the event log of the VM's last QEMU; `None` if there is none.
    pub(crate) fn open(paths: &Paths) -> Option<Self> {
        files::open(&paths.events_out).ok().map(Self)
    }

    /// Why this QEMU has ended. If it is running, why its guest has ended, or why QEMU is about to
    /// end. Under `-no-shutdown` the guest ends first, and its reason says more than the end of
    /// QEMU.
    pub(crate) fn ending(&mut self) -> Ending {
        let events = self.last();
        // If the session did not work (the file system is full, for example, or QEMU did not read
        // its input), the log has a greeting at most.
        if !events.iter().any(|line| line.get("return").or(line.get("event")).is_some()) {
            return Ending::Unknown;
        }
        let Some(shutdown) = since_reset(&events).find(|event| is(event, &["SHUTDOWN"])) else {
            return Ending::Untold;
        };
        let data = shutdown.get("data");
        Ending::Reported {
            reason: data.and_then(|data| data.text("reason")).unwrap_or("none").to_string(),
            at: shutdown.get("timestamp").and_then(|at| at.number("seconds")),
        }
    }

    /// Why the guest has ended in a QEMU that stays, as under `-no-shutdown`. Such a QEMU reports
    /// the guest's end and then a stop; a QEMU that ends reports no stop.
    pub(crate) fn guest_end(&mut self) -> Option<Ending> {
        let events = self.last();
        let mut last = since_reset(&events).skip_while(|event| !is(event, &["SHUTDOWN"]));
        last.any(|event| is(event, &["STOP"])).then(|| self.ending())
    }

    /// Whether the guest panicked in a QEMU that stays: with `-action panic=pause` or `none`.
    pub(crate) fn ends_in_panic(&mut self) -> bool {
        let events = self.last();
        let last = since_reset(&events).filter(|event| is(event, &["GUEST_PANICKED"])).last();
        let action = last.and_then(|event| event.get("data")?.text("action"));
        matches!(action, Some("pause" | "run"))
    }

    /// When the guest was stopped, since 1970; `None` if it runs.
    pub(crate) fn stopped_at(&mut self) -> Option<Duration> {
        let events = self.last();
        let stop = since_reset(&events).find(|event| is(event, &["STOP", "SUSPEND"]))?;
        let at = stop.get("timestamp")?;
        let (seconds, micros) = (at.number("seconds")?, at.number("microseconds")?);
        Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
    }

    /// The last lines of the log: greeting, answers and events. Empty if there are none.
    fn last(&mut self) -> Vec<Value> {
        parse(&files::end_of(&mut self.0, READ_BYTES_MAX).unwrap_or_default()).collect()
    }
}

/// Describes what ended all programs in the guest since the log had `bytes_then` bytes (see
/// [`length`]); `None` if nothing did.
pub(crate) fn lost_since(paths: &Paths, bytes_then: u64) -> Option<&'static str> {
    let events = names_since(paths, bytes_then);
    let happened = |name: &str| events.iter().any(|event| event == name);
    if happened("GUEST_PANICKED") {
        return Some("the guest panicked");
    }
    if happened("STOP") && EventLog::open(paths)?.guest_end().is_some() {
        return Some("the guest powered off, and QEMU stays");
    }
    if happened(LOAD) {
        return Some("a snapshot was loaded");
    }
    happened("RESET").then_some("the guest was reset")
}

/// The names of the events since the log had `bytes_then` bytes (see [`length`]). If there are
/// many, only the last ones.
pub(crate) fn names_since(paths: &Paths, bytes_then: u64) -> Vec<String> {
    let new = length(paths).saturating_sub(bytes_then).min(READ_BYTES_MAX);
    if new == 0 {
        return Vec::new();
    }
    let log = files::read_end(&paths.events_out, new).unwrap_or_default();
    parse(&log).filter_map(|event| name(&event).map(str::to_string)).collect()
}

fn name(event: &Value) -> Option<&str> {
    let job = event.get("data").and_then(|data| data.text("id")?.strip_prefix(JOBS));
    if job.is_some_and(|act| act.starts_with("load")) { Some(LOAD) } else { event.text("event") }
}

/// Whether the VM's last QEMU has ended a job, with or without success. Only the last
/// [`JOB_BYTES_MAX`] of the log are searched.
pub(crate) fn has_concluded(paths: &Paths, job: &str) -> bool {
    let log = files::read_end(&paths.events_out, JOB_BYTES_MAX).unwrap_or_default();
    parse(&log).any(|event| {
        let datum = |name| event.get("data").and_then(|data| data.text(name));
        is(&event, &["JOB_STATUS_CHANGE"])
            && datum("id") == Some(job)
            && datum("status") == Some("concluded")
    })
}

/// Why the VM's last QEMU has ended.
pub(crate) fn ending(paths: &Paths) -> Ending {
    EventLog::open(paths).map_or(Ending::Unknown, |mut log| log.ending())
}

/// The length of the event log in bytes, which grows with every event.
pub(crate) fn length(paths: &Paths) -> u64 {
    paths.events_out.metadata().map_or(0, |metadata| metadata.len())
}

/// Parses the lines of a log. A line that is cut off at its start or end is ignored.
pub(super) fn parse(bytes: &[u8]) -> impl Iterator<Item = Value> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| json::parse(line).ok())
}

/// The events since the guest was last reset or resumed; earlier ones no longer apply.
fn since_reset(events: &[Value]) -> impl Iterator<Item = &Value> {
    let last = events.iter().rposition(|event| is(event, &["RESET", "RESUME"]));
    events[last.map_or(0, |at| at + 1)..].iter()
}

fn is(event: &Value, names: &[&str]) -> bool {
    event.text("event").is_some_and(|name| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> EventLog {
        let name = crate::text::fingerprint(lines.concat().as_bytes());
        let file = std::env::temp_dir().join(format!("qqmgr-{}-{name}", std::process::id()));
        std::fs::write(&file, lines.join("\n")).unwrap();
        let log = EventLog(File::open(&file).unwrap());
        std::fs::remove_file(file).unwrap();
        log
    }

    const RETURN: &str = r#"{"return": {}}"#;

    /// The lines are as QEMU 7.2 writes them.
    #[test]
    fn why_a_qemu_ended() {
        let ending_after = |lines: &[&str]| log(lines).ending();
        let greeting = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
        let shutdown = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
        let reset = r#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#;
        let shutdown_end = Ending::Reported { reason: "guest-shutdown".into(), at: Some(1) };
        let killed = r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}"#;
        assert_eq!(ending_after(&[]), Ending::Unknown);
        assert_eq!(ending_after(&[greeting]), Ending::Unknown);
        assert_eq!(ending_after(&[greeting, RETURN]), Ending::Untold);
        assert_eq!(ending_after(&[greeting, RETURN, shutdown]), shutdown_end);
        assert_eq!(ending_after(&[greeting, RETURN, reset, shutdown, ""]), shutdown_end);
        assert_eq!(ending_after(&[greeting, RETURN, shutdown, reset]), Ending::Untold);
        // Under `-no-shutdown`.
        let stop = r#"{"event": "STOP"}"#;
        assert_eq!(ending_after(&[RETURN, shutdown, stop, killed, ""]), shutdown_end);
        assert_eq!(log(&[RETURN, shutdown, stop]).guest_end(), Some(shutdown_end));
        assert_eq!(log(&[RETURN, stop, shutdown]).guest_end(), None);
        assert_eq!(log(&[RETURN, shutdown, stop, reset]).guest_end(), None);
        assert_eq!(ending_after(&[greeting, RETURN, &shutdown[..80]]), Ending::Untold);
    }

    /// The events are those of a guest that panicked, with `-no-shutdown` or `-action panic=pause`
    /// and without.
    #[test]
    fn a_panic_pauses_or_ends() {
        let panicked = |action: &str| {
            format!(r#"{{"event": "GUEST_PANICKED", "data": {{"action": "{action}"}}}}"#)
        };
        let (pause, poweroff) = (panicked("pause"), panicked("poweroff"));
        let stop = r#"{"event": "STOP"}"#;
        let shutdown = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}"#;
        for (lines, pauses) in [
            (vec![RETURN, &pause, stop], true),
            (vec![RETURN, &panicked("run")], true),
            (vec![RETURN, &poweroff, shutdown], false),
            (vec![RETURN, &pause, stop, r#"{"event": "RESUME"}"#], false),
        ] {
            assert_eq!(log(&lines).ends_in_panic(), pauses, "{lines:?}");
        }
    }

    /// The lines are as QEMU 7.2 writes them.
    #[test]
    fn qemu_is_ready_when_it_has_answered() {
        let greeting = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
        let event = r#"{"event": "RESUME"}"#;
        let status = r#"{"return": {"status": "running", "singlestep": false, "running": true}}"#;
        let refused = r#"{"error": {"class": "GenericError", "desc": "no"}}"#;
        let answer_to = |lines: &[&str]| answer_in(lines.join("\r\n").as_bytes());
        let wrong = |why: &str| Answer::Wrong(why.to_string());
        for (lines, expected) in [
            (&[""][..], Answer::Missing),
            (&[greeting, RETURN], Answer::Missing),
            (&[greeting, RETURN, ""], Answer::Negotiated),
            (&[greeting, RETURN, &status[..40]], Answer::Negotiated),
            (&[greeting, RETURN, status], Answer::Negotiated),
            (&[greeting, RETURN, event, status, event, ""], Answer::RunState("running".into())),
            (&[greeting, RETURN, refused, ""], wrong("`query-status`: no")),
            (
                &["220 ready", ""],
                wrong(
                    "its QMP session speaks no QMP: unexpected text after the value at byte 4: \
                     220 ready",
                ),
            ),
        ] {
            assert_eq!(answer_to(lines), expected, "{lines:?}");
        }
        let long = vec![b'x'; usize::try_from(ANSWERS_BYTES_MAX).unwrap()];
        let expected = "its QMP session speaks no QMP: no answer in 64 KiB";
        assert_eq!(answer_in(&long), Answer::Wrong(expected.into()));
    }
}
