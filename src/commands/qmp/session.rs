//! `qqmgr qmp VM`: reads a command from each line of standard input, and writes an answer line.

use super::super::input::Input;
use super::super::target::Target;
use super::arguments;
use crate::json::{self, Value};
use crate::out::{self, Reader};
use crate::report::{Outcome, Report};
use crate::vm::look;
use crate::vm::qmp::{self, Refusal};
use crate::vm::refusal::refusal;
use crate::vm::session::Session;
use crate::words;
use std::time::Duration;

/// QEMU's class for errors that have no other, and the class of our own errors.
const GENERIC: &str = "GenericError";

struct Request {
    command: String,
    arguments: Option<Value>,
    id: Option<Value>,
}

/// A line that is not a command, with its `id` if it has one.
struct Unread {
    why: String,
    id: Option<Value>,
}

/// Serves until the end of the input or of the VM. After a command that fails, the next one is run.
pub(super) fn serve(target: &Target, limit: Duration) -> Outcome {
    let process = look::running(&target.paths)?;
    let input = Input::new("(qmp) ");
    let mut exit_code = 0;
    while let Some(line) = input.next(&process)? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (answer, id) = match read(&line) {
            Ok(request) => {
                let mut session = Session::open_with(&process, &target.paths, &target.log)?;
                let arguments = request.arguments.as_ref();
                match session.try_execute(limit, &request.command, arguments) {
                    Err(qmp::Error::Refused { reason, .. }) => (Err(reason), request.id),
                    Err(error) => {
                        return Err(refusal(&mut session, limit, &request.command, &error));
                    }
                    Ok(value) => (Ok(value), request.id),
                }
            }
            Err(Unread { why, id }) => (Err(Refusal { class: GENERIC.into(), desc: why }), id),
        };
        exit_code = exit_code.max(u8::from(answer.is_err()));
        if out::write(format!("{}\n", shown(answer, id).compact()).as_bytes())? == Reader::Gone {
            break;
        }
    }
    Ok(Report::written(exit_code))
}

/// Reads a line in the form of QMP, or in that of the command line.
fn read(line: &[u8]) -> Result<Request, Unread> {
    let unread = |why: String| Unread { why, id: None };
    if !line.trim_ascii_start().starts_with(b"{") {
        let text = str::from_utf8(line).map_err(|error| unread(error.to_string()))?;
        let words = words::split_plain(text).map_err(|problem| unread(problem.message))?;
        let (command, words) = words.split_first().ok_or_else(|| unread("no command".into()))?;
        let arguments = arguments::read(words).map_err(unread)?;
        return Ok(Request { command: command.clone(), arguments, id: None });
    }
    let value = json::parse(line).map_err(|error| unread(format!("not valid JSON: {error}")))?;
    let id = value.get("id").cloned();
    let unread = |why: &str| Err(Unread { why: why.into(), id: id.clone() });
    let Value::Object(members) = &value else { return unread("not an object") };
    let known = ["execute", "arguments", "id"];
    if let Some((name, _)) = members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return unread(&format!("`{name}` is none of `execute`, `arguments` and `id`"));
    }
    let Some(command) = value.get("execute").and_then(Value::as_str) else {
        return unread("`execute` must be there, a string");
    };
    let arguments = value.get("arguments").cloned();
    if arguments.as_ref().is_some_and(|arguments| !matches!(arguments, Value::Object(_))) {
        return unread("`arguments` must be an object");
    }
    Ok(Request { command: command.to_string(), arguments, id })
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
