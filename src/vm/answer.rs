//! QEMU's answer to the `query-status` in its own session, from the start of the event log.

use super::{Paths, qmp};
use crate::json::Value;
use crate::system::files;

/// The part at the start of the log that is searched for the answers. Each takes some hundred
/// bytes, and few events can come between them.
const ANSWERS_BYTES_MAX: u64 = 64 * 1024;

/// The major version of the oldest QEMU that is supported.
const OLDEST: u64 = 6;

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

impl Answer {
    /// Reads QEMU's answer from the event log. A wait for a starting QEMU reads the log and
    /// connects to no socket: while QEMU makes its monitors, two of its threads see a client, which
    /// may be greeted twice or never.
    pub(crate) fn read(paths: &Paths) -> Self {
        Self::of(&files::read_start(&paths.events_out, ANSWERS_BYTES_MAX).unwrap_or_default())
    }

    fn of(log: &[u8]) -> Self {
        let wrong = |why: String| Answer::Wrong(format!("its QMP session speaks no QMP: {why}"));
        let mut answer = Self::Missing;
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
}

/// The version of a QEMU that is too old, if this is its greeting.
fn too_old(greeting: &Value) -> Option<String> {
    let version = greeting.get("QMP")?.get("version")?.get("qemu")?;
    let (major, minor) = (version.number("major")?, version.number("minor")?);
    (major < OLDEST).then(|| format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: &str = r#"{"return": {}}"#;

    /// The lines are as QEMU 7.2 writes them.
    #[test]
    fn qemu_is_ready_when_it_has_answered() {
        let greeting = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
        let event = r#"{"event": "RESUME"}"#;
        let status = r#"{"return": {"status": "running", "singlestep": false, "running": true}}"#;
        let refused = r#"{"error": {"class": "GenericError", "desc": "no"}}"#;
        let answer_to = |lines: &[&str]| Answer::of(lines.join("\r\n").as_bytes());
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
        assert_eq!(Answer::of(&long), Answer::Wrong(expected.into()));
    }
}
