//! QEMU's refusal of a command, with the name that was probably meant, taken from QEMU's own
//! schema.

use super::qmp::{self, Refusal};
use super::schema::Schema;
use super::session::Session;
use crate::error::{Error, Kind};
use crate::text::{did_you_mean, nearest};
use std::time::Duration;

/// The number of words that a hint names at most.
const WORDS_MAX: usize = 12;

/// Makes the error for the user. `limit` is how long the command was allowed to take.
pub(crate) fn refusal(
    session: &mut Session,
    limit: Duration,
    command: &str,
    error: &qmp::Error,
) -> Error {
    let reason = match error {
        qmp::Error::Refused { reason, .. } => reason,
        qmp::Error::Silent if !session.process.is_frozen() => {
            let seconds = limit.as_secs_f64();
            let message = format!("QEMU did not answer `{command}` within {seconds} s");
            return Error::new(Kind::TimedOut, message)
                .hint("QEMU may still work on it; `--timeout` sets a longer wait");
        }
        error => return session.explain(error),
    };
    // Without the schema, the error has no hint.
    let schema = session.query_schema().unwrap_or(crate::json::Value::Null);
    let (near, hint) = advice(&Schema::new(&schema), command, reason);
    let message = format!("QEMU refuses {error} ({})", reason.class);
    Error::failed(did_you_mean(&message, near)).of_class(&reason.class).hint_if(hint)
}

/// Finds the name that was probably meant, and a hint. QEMU's texts are those of its `qapi/` and
/// `include/qapi/qmp/qerror.h`; an unknown text gives nothing.
fn advice<'a>(
    schema: &Schema<'a>,
    command: &str,
    reason: &Refusal,
) -> (Option<&'a str>, Option<String>) {
    if reason.class == "CommandNotFound" {
        let near = nearest(command, schema.of_kind("command")).filter(|near| *near != command);
        return (near, None);
    }
    // "Parameter 'a.b' does not accept value 'c'"
    let mut quoted = reason.desc.split('\'').skip(1).step_by(2);
    let (first, second) = (quoted.next().unwrap_or_default(), quoted.next());
    let name = first.rsplit('.').next().unwrap_or_default();
    let says = |text: &str| reason.desc.contains(text);
    match second {
        Some(word) if says("does not accept value") => {
            let words = schema.words(command, Some(name));
            let near = nearest(word, words.iter().copied());
            let few = near.is_none() && (1..=WORDS_MAX).contains(&words.len());
            (near, few.then(|| format!("`{name}` is one of {}", words.join(", "))))
        }
        // QEMU before 6.1 does not say which command has the parameter.
        _ if says("Invalid parameter '") => (nearest(first, schema.words(command, None)), None),
        _ if says("is unexpected") => {
            let near = nearest(name, schema.names(command));
            (near, near.is_none().then(|| takes(schema, command)))
        }
        _ if says("is missing") => (None, Some(takes(schema, command))),
        _ if says("Invalid parameter type for") => {
            (None, Some(format!("`{name}=TEXT` is text, `{name}:=JSON` anything else")))
        }
        _ => (None, None),
    }
}

fn takes(schema: &Schema, command: &str) -> String {
    let arguments = schema.arguments(command);
    let none = if arguments.is_empty() { "no arguments" } else { "" };
    format!("`{command}` takes {none}{}", arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of QEMU 5.2 and of 7.2.
    #[test]
    fn what_was_meant_is_known_by_old_texts_and_new_ones() {
        let answer = crate::json::parse(
            br#"[{"name": "set", "meta-type": "command", "arg-type": "1"},
            {"name": "1", "meta-type": "object", "members": [{"name": "reboot", "type": "2"}]},
            {"name": "2", "meta-type": "enum", "values": ["reset", "shutdown"]}]"#,
        )
        .unwrap();
        let schema = Schema::new(&answer);
        let near = |class: &str, desc: &str| {
            let reason = Refusal { class: class.into(), desc: desc.into() };
            advice(&schema, "set", &reason).0
        };
        for desc in ["Invalid parameter 'rest'", "Parameter 'reboot' does not accept value 'rest'"]
        {
            assert_eq!(near("GenericError", desc), Some("reset"), "{desc}");
        }
        assert_eq!(near("GenericError", "Parameter 'a.rebot' is unexpected"), Some("reboot"));
        for desc in ["", "'", "Invalid parameter 'x'", "Device 'rest' not found"] {
            assert_eq!(near("GenericError", desc), None, "{desc}");
        }
        assert_eq!(near("CommandNotFound", "The command set has not been found"), None);
    }
}
