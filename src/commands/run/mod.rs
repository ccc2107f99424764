//! `qqmgr run VM... [-- COMMAND...]`: a job on each VM, which is started for it ([`mod@job`]): a
//! command over ssh ([`command`]), or the boot of the guest itself ([`boot`]).

mod boot;
mod command;
mod flags;
mod job;
mod prepare;
mod sink;
mod stream;

use super::logs;
use super::target::Target;
use super::vms::{self, Scope};
use crate::answers::Answers;
use crate::cli::Args;
use crate::commands::start::FROM;
use crate::error::Error;
use crate::json::Value;
use crate::report::Outcome;
use crate::ssh::Limits;
use crate::vm::Deadline;
pub(crate) use flags::COMMAND;
use flags::{PREPARE, TIMEOUT, only_prepares, uses_ssh};
use job::Job;
use std::collections::BTreeMap;
use std::time::Instant;

/// Does the job on each VM. Among several, says at the end which exit status each of them had.
pub(super) fn run(args: &Args, answers: &mut Answers) -> Result<(), Error> {
    let ended = vms::each(args, Scope::Configured, None, "", answers, on_one)?;
    if vms::are_several(&args.operands) {
        let mut by_status = BTreeMap::<u8, Vec<String>>::new();
        for (name, status) in ended {
            by_status.entry(status).or_default().push(name);
        }
        for (status, names) in by_status {
            args.log().note(&format!("exit status {status}: {}", names.join(", ")));
        }
    }
    Ok(())
}

fn on_one(target: &Target) -> Outcome {
    if uses_ssh(target.args) {
        command::check(target)?;
    }
    logs::prepare(target)?;
    let outcome = job(target).map_err(|error| error.of_vm(&target.name, false));
    if let Err(error) = logs::write_result(target, &outcome) {
        if outcome.as_ref().is_ok_and(|report| report.exit_code == 0) {
            return Err(error);
        }
        target.log.note(error.message());
    }
    outcome
}

fn job(target: &Target) -> Outcome {
    let args = target.args;
    let begin = Instant::now();
    let deadline = args.value(&TIMEOUT).map(Deadline::after);
    let limits = Limits { deadline, guest: None };
    if let (Some(tag), Some(command)) = (args.value(&FROM), args.value(&PREPARE)) {
        let prepared = prepare::prepare(target, &limits, &tag, &command)?;
        if only_prepares(args) {
            let what = if prepared { "saved" } else { "is there already" };
            let text = format!("{} snapshot `{tag}` {what}\n", target.name);
            let members = [("from", tag.as_str().into()), ("prepared", prepared.into())];
            return Ok(target.report(text, members));
        }
    }
    let mut job = Job::new(target, limits);
    // The report of the job, and whether its guest can no longer power off.
    let result = job.start().and_then(|ready| {
        // A job without a command always starts its VM.
        if !uses_ssh(args) {
            return boot::work(&job, &ready.process);
        }
        let report = command::work(&job, ready.process)?;
        Ok((report.with_member("started", (!ready.already_running).into()), false))
    });
    let ended = job.end(matches!(result, Ok((_, true))));
    let report = match (result, ended) {
        (Ok((report, _)), Ok(())) => report,
        (Ok(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        // The VM could not be stopped, either.
        (Err(error), Err(other)) => {
            if other.message() != error.message() {
                target.log.note(&format!("and then: {}", other.message()));
            }
            return Err(error);
        }
    };
    Ok(report.with_member("seconds", Value::seconds(begin.elapsed())))
}
