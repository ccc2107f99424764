//! The event log of a VM: `events.out` in the VM's directory, the QMP events since QEMU's start,
//! one per line.
//!
//! QEMU writes the file itself, so any number of readers can read all events, even after QEMU has
//! ended. The file belongs to a QMP session over `-qmp pipe:`, whose two ends need not be FIFOs
//! (`chardev/char-pipe.c` opens any existing file). The session's input is a file that negotiates,
//! asks for the run state and then ends; QEMU keeps sending events (`monitor_qmp_event` in
//! `monitor/qmp.c`; seen on 7.2). The answer shows that QEMU is ready ([`answer`]).

use super::Paths;
use super::output::Output;
use crate::error::Error;
use crate::json::{self, Value};
use crate::system::files;
use crate::text::sanitized;
use std::fmt;
use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

/// The input of the session, one command per line.
pub(super) const QUESTIONS: &str =
    "{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"query-status\"}\n";
/// The part at the end of a long log that is read: hundreds of events.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// The longest line that is parsed. QEMU's longest events are some hundred bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// How much of a line that is not QMP an error shows.
const SHOWN_CHARS_MAX: usize = 80;

/// The part of the log that is searched for the end of a job: a guest can reset a hundred thousand
/// times after the job before its end is no longer found.
const JOB_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The part at the start of the log that is searched for the answers. Each takes some hundred
/// bytes, and few events can come between them.
const ANSWERS_BYTES_MAX: u64 = 64 * 1024;

/// The major version of the oldest QEMU that is supported.
const OLDEST: u64 = 6;

/// QEMU's reason for an end when the guest has powered itself off.
const POWERED_OFF: &str = "guest-shutdown";

/// Why a QEMU ended, from its `SHUTDOWN` event (`ShutdownCause` of `qapi/run-state.json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Told {
        by_guest: bool,
        reason: String,
        /// In seconds since 1970.
        at: Option<u64>,
    },
    /// QEMU reported no reason: it was killed, it crashed, or the guest has a device that ends
    /// QEMU, such as `isa-debug-exit`.
    Untold,
    /// There is no event log.
    Unknown,
}

impl Ending {
    /// QEMU's own word for the reason, if it gave one.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Told { reason, .. } => Some(reason),
            Self::Untold | Self::Unknown => None,
        }
    }

    /// When QEMU ended, if it reported that; in seconds since 1970.
    pub(crate) fn at(&self) -> Option<u64> {
        match self {
            Self::Told { at, .. } => *at,
            Self::Untold | Self::Unknown => None,
        }
    }

    /// Whether the guest may have powered itself off: it has not if it panicked or reset.
    pub(crate) fn may_be_power_off(&self) -> bool {
        match self {
            Self::Told { reason, .. } => reason == POWERED_OFF,
            Self::Untold => false,
            Self::Unknown => true,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untold => "QEMU gave no reason: killed, crashed, or a debug exit of the guest",
            Self::Unknown => "why is not known",
            Self::Told { reason, .. } => match reason.as_str() {
                POWERED_OFF => "the guest powered off",
                "guest-reset" => "the guest reset, and QEMU ends then",
                "guest-panic" => "the guest panicked",
                "host-signal" => "QEMU was ended by a signal",
                "host-qmp-quit" => "QEMU was told to quit",
                "host-ui" => "QEMU's window was closed",
                "host-error" => "QEMU met an error",
                other => return write!(f, "QEMU says `{other}`"),
            },
        })
    }
}

/// Makes the two files of the event log for a QEMU that is about to be started.
pub(crate) fn prepare(paths: &Paths) -> Result<(), Error> {
    files::write_private(&paths.events_in, QUESTIONS)?;
    let made = files::create_private(&paths.events_out);
    made.map(|_| ()).map_err(|error| Error::io("create", &paths.events_out, &error))
}

/// The event log of one QEMU. It stays that QEMU's log when another one is started, which has its
/// own.
pub(crate) struct Story(File);

impl Story {
    /// Opens the event log of the VM's last QEMU; `None` if there is none.
    pub(crate) fn open(paths: &Paths) -> Option<Self> {
        File::open(&paths.events_out).ok().map(Self)
    }

    /// Why this QEMU has ended. If it is running, why its guest has ended, or why QEMU is about to
    /// end. Under `-no-shutdown` the guest ends first, and its reason says more than what ends QEMU
    /// later.
    pub(crate) fn ending(&mut self) -> Ending {
        let events = self.last();
        // If the session did not work (the file system is full, for example, or QEMU did not read
        // its input), the log has a greeting at most.
        if !events.iter().any(|told| told.get("return").or(told.get("event")).is_some()) {
            return Ending::Unknown;
        }
        let Some(shutdown) = since_reset(&events).find(|event| is(event, &["SHUTDOWN"])) else {
            return Ending::Untold;
        };
        let data = |name| shutdown.get("data").and_then(|data| data.get(name));
        Ending::Told {
            by_guest: data("guest") == Some(&Value::Bool(true)),
            reason: data("reason").and_then(Value::as_str).unwrap_or("none").to_string(),
            at: shutdown.get("timestamp").and_then(|at| at.get("seconds")).and_then(Value::as_u64),
        }
    }

    /// Why the guest has ended in a QEMU that stays, as under `-no-shutdown`. Such a QEMU reports
    /// the guest's end and then a stop; a QEMU that ends reports no stop.
    pub(crate) fn guest_end(&mut self) -> Option<Ending> {
        let events = self.last();
        let mut last = since_reset(&events).skip_while(|event| !is(event, &["SHUTDOWN"]));
        last.any(|event| is(event, &["STOP"])).then(|| self.ending())
    }

    /// Whether the guest panicked and is paused for that reason, as with `-action panic=pause`.
    pub(crate) fn ends_in_panic(&mut self) -> bool {
        let events = self.last();
        let last = since_reset(&events).filter(|event| is(event, &["GUEST_PANICKED"])).last();
        let action = last.and_then(|event| event.get("data")?.get("action")?.as_str());
        action == Some("pause")
    }

    /// The last lines of the log: greeting, answers and events. Empty if there are none.
    fn last(&mut self) -> Vec<Value> {
        parse(&files::end_of(&mut self.0, READ_BYTES_MAX).unwrap_or_default())
    }
}

/// Describes what ended all programs in the guest since the log had `told_then` bytes (see
/// [`told`]); `None` if nothing did.
pub(crate) fn lost_since(paths: &Paths, told_then: u64) -> Option<&'static str> {
    let events = names_since(paths, told_then);
    let happened = |name: &str| events.iter().any(|event| event == name);
    if happened("GUEST_PANICKED") {
        return Some("the guest panicked");
    }
    if happened("STOP") && Story::open(paths)?.guest_end().is_some() {
        return Some("the guest powered off, and QEMU stays");
    }
    happened("RESET").then_some("the guest was reset")
}

/// The names of the events since the log had `told_then` bytes (see [`told`]). If there are many,
/// only the last ones.
pub(crate) fn names_since(paths: &Paths, told_then: u64) -> Vec<String> {
    let new = told(paths).saturating_sub(told_then).min(READ_BYTES_MAX);
    if new == 0 {
        return Vec::new();
    }
    let events = parse(&files::read_end(&paths.events_out, new).unwrap_or_default());
    events.iter().filter_map(|event| event.get("event")?.as_str().map(str::to_string)).collect()
}

/// A reader of the events that a QEMU writes from now on.
pub(crate) struct Follow {
    output: Output,
    /// The start of a line that was not complete when it was read.
    rest: Vec<u8>,
}

impl Follow {
    pub(crate) fn open(paths: &Paths) -> Result<Self, Error> {
        Self::open_at(paths, 0)
    }

    /// Begins `back` bytes before the end of the log.
    fn open_at(paths: &Paths, back: u64) -> Result<Self, Error> {
        let mut output = Output::open(&paths.events_out)?;
        if !output.is_there() {
            let missing = Error::failed(format!("there is no `{}`", paths.events_out.display()));
            return Err(missing.hint("QEMU writes its events there: `restart` begins a new one"));
        }
        output.skip_to_end(back)?;
        Ok(Self { output, rest: Vec::new() })
    }

    /// The events in the next piece of the log; `None` when there is no more for now.
    pub(crate) fn news(&mut self) -> Result<Option<Vec<Value>>, Error> {
        let piece = self.output.piece()?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.rest.extend_from_slice(&piece);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.rest.split_off(end);
        let whole = std::mem::replace(&mut self.rest, rest);
        if self.rest.len() > LINE_BYTES_MAX {
            // The rest of that line is not JSON and is ignored.
            self.rest = Vec::new();
        }
        let mut news = parse(&whole);
        news.retain(|value| value.get("event").is_some());
        Ok(Some(news))
    }
}

/// The end of a VM's last QEMU, for `status` and `list`.
pub(crate) struct End {
    ending: Ending,
    /// When it ended, in seconds since 1970. If QEMU gave no reason, when QEMU or its guest last
    /// wrote output.
    at: Option<u64>,
}

impl End {
    /// The end of the last QEMU of a VM that is not running; `None` if nothing is known about it.
    pub(crate) fn of(paths: &Paths) -> Option<Self> {
        let ending = ending(paths);
        let at = ending.at().or_else(|| {
            let written = [&paths.serial, &paths.log, &paths.events_out].into_iter();
            let written = written.filter_map(|path| path.metadata().ok()?.modified().ok()).max();
            written.and_then(|at| Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs()))
        });
        (ending != Ending::Unknown).then_some(Self { ending, at })
    }

    /// Describes why and when it ended. `now` is the current time, and `shown` formats a duration.
    pub(crate) fn text(&self, now: Duration, shown: fn(Duration) -> String) -> String {
        let when = self.at.map(|at| shown(now.saturating_sub(Duration::from_secs(at))));
        let when = when.map_or(String::new(), |ago| match self.ending {
            Ending::Told { .. } => format!(", {ago} ago"),
            Ending::Untold | Ending::Unknown => format!("; last output {ago} ago"),
        });
        format!("{}{when}", self.ending)
    }

    /// The members of a JSON object that describe the end; all are null if there is nothing to
    /// report.
    pub(crate) fn json_members(end: Option<&Self>) -> [(&'static str, Value); 3] {
        let why = end.map(|end| end.ending.to_string());
        [
            ("ended", why.as_deref().into()),
            ("ended_reason", end.and_then(|end| end.ending.reason()).into()),
            ("ended_at", end.and_then(|end| end.at).into()),
        ]
    }
}

/// Why the VM's last QEMU has ended.
pub(crate) fn ending(paths: &Paths) -> Ending {
    Story::open(paths).map_or(Ending::Unknown, |mut story| story.ending())
}

/// Whether the VM's last QEMU has ended a job, with or without success. Only the last
/// [`JOB_BYTES_MAX`] of the log are searched.
pub(crate) fn has_concluded(paths: &Paths, job: &str) -> bool {
    let Ok(mut follow) = Follow::open_at(paths, JOB_BYTES_MAX) else { return false };
    while let Ok(Some(news)) = follow.news() {
        let has = |event: &Value| {
            let told = |name: &str| event.get("data").and_then(|data| data.get(name)?.as_str());
            is(event, &["JOB_STATUS_CHANGE"])
                && told("id") == Some(job)
                && told("status") == Some("concluded")
        };
        if news.iter().any(has) {
            return true;
        }
    }
    false
}

/// The length of the event log in bytes, which grows with every event.
pub(crate) fn told(paths: &Paths) -> u64 {
    paths.events_out.metadata().map_or(0, |metadata| metadata.len())
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

/// Reads QEMU's answer from the event log. Whoever has to wait for a QEMU that is starting reads
/// it here and connects to no socket: while QEMU makes its monitors, two of its threads see a
/// client, which may be greeted twice or never.
pub(crate) fn answer(paths: &Paths) -> Answer {
    answer_in(&files::read_start(&paths.events_out, ANSWERS_BYTES_MAX).unwrap_or_default())
}

fn answer_in(log: &[u8]) -> Answer {
    let wrong = |why: String| Answer::Wrong(format!("its QMP session speaks no QMP: {why}"));
    let mut answer = Answer::Missing;
    let mut lines = log.split_inclusive(|byte| *byte == b'\n');
    while let Some(line) = lines.next().filter(|line| line.ends_with(b"\n")) {
        let value = match json::parse(line) {
            Ok(value) => value,
            Err(error) => return wrong(format!("{error}: {}", shown(line))),
        };
        if let Some(version) = too_old(&value) {
            return Answer::Wrong(format!("it is QEMU {version}, older than {OLDEST}.0"));
        }
        let desc = |error: &Value| Some(error.get("desc")?.as_str()?.to_string());
        if let Some(error) = value.get("error") {
            return Answer::Wrong(format!("`query-status`: {}", desc(error).unwrap_or_default()));
        }
        let state = value.get("return").and_then(|answer| answer.get("status")?.as_str());
        if let Some(state) = state {
            return Answer::RunState(state.to_string());
        }
        if value.get("return").is_some() {
            answer = Answer::Negotiated;
        }
    }
    if log.len() as u64 == ANSWERS_BYTES_MAX {
        return wrong(format!("no answer in {} KiB", ANSWERS_BYTES_MAX >> 10));
    }
    answer
}

/// The version of a QEMU that is too old, if this is its greeting.
fn too_old(greeting: &Value) -> Option<String> {
    let version = greeting.get("QMP")?.get("version")?.get("qemu")?;
    let number = |name: &str| version.get(name)?.as_u64();
    let (major, minor) = (number("major")?, number("minor")?);
    (major < OLDEST).then(|| format!("{major}.{minor}"))
}

/// The start of a line for an error message.
fn shown(line: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(line).chars().take(SHOWN_CHARS_MAX).collect();
    sanitized(text.trim_end())
}

/// Parses the lines of a log. A line that is cut off at its start or end is ignored.
fn parse(bytes: &[u8]) -> Vec<Value> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| json::parse(line).ok()).collect()
}

/// The events since the guest was last reset or resumed; earlier ones no longer apply.
fn since_reset(events: &[Value]) -> impl Iterator<Item = &Value> {
    let last = events.iter().rposition(|event| is(event, &["RESET", "RESUME"]));
    events[last.map_or(0, |at| at + 1)..].iter()
}

fn is(event: &Value, names: &[&str]) -> bool {
    event.get("event").and_then(Value::as_str).is_some_and(|name| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(lines: &[&str]) -> Story {
        let name = crate::text::fingerprint(lines.concat().as_bytes());
        let file = std::env::temp_dir().join(format!("qqmgr-{}-{name}", std::process::id()));
        std::fs::write(&file, lines.join("\n")).unwrap();
        let story = Story(File::open(&file).unwrap());
        std::fs::remove_file(file).unwrap();
        story
    }

    const RETURN: &str = r#"{"return": {}}"#;

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

    /// The lines are as QEMU 7.2 writes them.
    #[test]
    fn why_a_qemu_ended() {
        let ending_after = |lines: &[&str]| story(lines).ending();
        let greeting = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
        let shutdown = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
        let reset = r#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#;
        let told = Ending::Told { by_guest: true, reason: "guest-shutdown".into(), at: Some(1) };
        let killed = r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}"#;
        assert_eq!(ending_after(&[]), Ending::Unknown);
        assert_eq!(ending_after(&[greeting]), Ending::Unknown);
        assert_eq!(ending_after(&[greeting, RETURN]), Ending::Untold);
        assert_eq!(ending_after(&[greeting, RETURN, shutdown]), told);
        assert_eq!(ending_after(&[greeting, RETURN, reset, shutdown, ""]), told);
        assert_eq!(ending_after(&[greeting, RETURN, shutdown, reset]), Ending::Untold);
        // Under `-no-shutdown`.
        let stop = r#"{"event": "STOP"}"#;
        assert_eq!(ending_after(&[RETURN, shutdown, stop, killed, ""]), told);
        assert_eq!(story(&[RETURN, shutdown, stop]).guest_end(), Some(told));
        assert_eq!(story(&[RETURN, stop, shutdown]).guest_end(), None);
        assert_eq!(story(&[RETURN, shutdown, stop, reset]).guest_end(), None);
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
            (vec![RETURN, &poweroff, shutdown], false),
            (vec![RETURN, &pause, stop, r#"{"event": "RESUME"}"#], false),
        ] {
            assert_eq!(story(&lines).ends_in_panic(), pauses, "{lines:?}");
        }
    }
}
