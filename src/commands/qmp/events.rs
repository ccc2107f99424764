//! `qqmgr qmp --events VM [EVENT...]`

use super::super::target::Target;
use crate::error::Error;
use crate::json::Value;
use crate::out::{self, Reader};
use crate::report::{Outcome, Report};
use crate::text::nearest;
use crate::vm::follow::Follow;
use crate::vm::schema::Schema;
use crate::vm::{Session, look, wait};
use std::time::{Duration, Instant};

/// Prints the events of these names, or all, until the VM ends or the time is over.
pub(super) fn print(target: &Target, names: &[String], limit: Option<Duration>) -> Outcome {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let process = look::running(&target.paths)?;
    // Open this before the names are checked: events that happen meanwhile count.
    let mut log = Follow::open(&target.paths)?;
    check(target, names)?;
    let ended = wait::poll_long(deadline, || {
        // Check in this order: once QEMU has ended, its last event is in the file.
        let alive = process.is_alive();
        match write_news(&mut log, names, deadline) {
            Ok(Reader::There) if alive => None,
            other => Some(other),
        }
    });
    // At the deadline, write the events that came just before it.
    ended.unwrap_or_else(|| write_news(&mut log, names, deadline))?;
    Ok(Report::written(0))
}

/// Writes the new events, piece by piece: QEMU may write faster than this reads. After the
/// deadline, writes only one piece.
fn write_news(
    log: &mut Follow,
    names: &[String],
    deadline: Option<Instant>,
) -> Result<Reader, Error> {
    while let Some(news) = log.news()? {
        let is_meant = |event: &&Value| {
            let name = event.text("event").unwrap_or_default();
            names.is_empty() || names.iter().any(|one| one == name)
        };
        let lines: String =
            news.iter().filter(is_meant).map(|event| event.compact() + "\n").collect();
        if !lines.is_empty() && out::write(lines.as_bytes())? == Reader::Gone {
            return Ok(Reader::Gone);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
    }
    Ok(Reader::There)
}

/// Refuses an event that this QEMU does not have: it would never come.
fn check(target: &Target, names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let mut session = Session::open(&target.paths, &target.log)?;
    let schema = session.query_schema()?;
    let known = Schema::new(&schema).of_kind("event");
    let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    let near = nearest(&name.to_uppercase(), known.iter().copied());
    let error = Error::failed(format!("QEMU has no event `{name}`"));
    Err(error.hint(format!("it has {}", known.join(", "))).did_you_mean(near))
}
