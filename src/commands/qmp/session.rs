//! `qqmgr qmp VM`: reads a command from each line of standard input, and writes an answer line.

use super::super::input::Input;
use super::super::target::Target;
use super::arguments;
use crate::json::Value;
use crate::out::Reader;
use crate::report::{Outcome, Report};
use crate::vm::qmp::{self, Refusal};
use crate::vm::refusal::refusal;
use crate::{json, out, words};
use std::time::Duration;

/// QEMU's class for errors that have no other, and the class of our own errors.
const GENERIC: &str = "GenericError";

/// The name of a command and its arguments.
type Request = (String, Option<Value>);

/// Serves until the end of the input or of the VM. After a command that fails, the next one is run.
pub(super) fn serve(target: &Target, limit: Duration) -> Outcome {
    let input = Input::new(target, "(qmp) ")?;
    let mut exit_code = 0;
    while let Some(line) = input.next()? {
        let (request, id) = read(&line);
        let answer = match request {
            Ok((command, arguments)) => {
                let mut session = input.session()?;
                match session.try_execute(limit, &command, arguments.as_ref()) {
                    Err(qmp::Error::Refused { reason, .. }) => Err(reason),
                    Err(error) => return Err(refusal(&mut session, limit, &command, &error)),
                    Ok(value) => Ok(value),
                }
            }
            Err(desc) => Err(Refusal { class: GENERIC.into(), desc }),
        };
        exit_code = exit_code.max(u8::from(answer.is_err()));
        if out::write(format!("{}\n", shown(answer, id).compact()).as_bytes())? == Reader::Gone {
            break;
        }
    }
    Ok(Report::written(exit_code))
}

/// Reads a line in the form of QMP, or in that of the command line. Gives the command, or why the
/// line is not a command, and the line's `id`.
fn read(line: &[u8]) -> (Result<Request, String>, Option<Value>) {
    if !line.trim_ascii_start().starts_with(b"{") {
        return (in_words(line), None);
    }
    match json::parse(line) {
        Ok(value) => (in_json(&value), value.get("id").cloned()),
        Err(error) => (Err(format!("not valid JSON: {error}")), None),
    }
}

fn in_words(line: &[u8]) -> Result<Request, String> {
    let text = str::from_utf8(line).map_err(|error| error.to_string())?;
    let words = words::split_plain(text).map_err(|problem| problem.message)?;
    let (command, words) = words.split_first().ok_or("no command")?;
    Ok((command.clone(), arguments::read(words)?))
}

fn in_json(value: &Value) -> Result<Request, String> {
    let Value::Object(members) = value else { return Err("not an object".into()) };
    let known = ["execute", "arguments", "id"];
    if let Some((name, _)) = members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(format!("`{name}` is none of `execute`, `arguments` and `id`"));
    }
    let command = value.text("execute");
    let command = command.ok_or("`execute` must be there, a string")?;
    let arguments = value.get("arguments").cloned();
    if arguments.as_ref().is_some_and(|arguments| !matches!(arguments, Value::Object(_))) {
        return Err("`arguments` must be an object".into());
    }
    Ok((command.to_string(), arguments))
}

/// The answer in the form in which QEMU gives it.
fn shown(answer: Result<Value, Refusal>, id: Option<Value>) -> Value {
    let answer = match answer {
        Ok(value) => ("return", value),
        Err(Refusal { class, desc }) => {
            let (class, desc) = (class.as_str().into(), desc.as_str().into());
            ("error", Value::object([("class", class), ("desc", desc)]))
        }
    };
    Value::object([answer].into_iter().chain(id.map(|id| ("id", id))))
}
