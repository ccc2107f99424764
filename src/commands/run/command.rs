//! A job over ssh: a command, or a shell for a person.

use super::flags::{GET, PUT, TERMINAL};
use super::job::Job;
use super::sink::Sink;
use crate::cli::spec;
use crate::commands::reach::Reach;
use crate::commands::start::{FROM, NO_SET_CLOCK};
use crate::commands::target::Target;
use crate::commands::vms::are_several;
use crate::commands::{logs, on_guest};
use crate::error::{Error, Kind};
use crate::report::Outcome;
use crate::ssh::copy::{Copy, copy};
use crate::ssh::run::passed_on;
use crate::ssh::{
    FAILURE_CODE, Guest, JOB, JOB_ALONE, ON_TERMINAL, end_shared_connection, remote_command,
};
use crate::system::user_files;
use crate::vm::Process;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Finds the errors that can be found before anything is started.
pub(super) fn check(target: &Target) -> Result<(), Error> {
    let args = target.args;
    target.check_has_ssh()?;
    for (local, _) in &args.all(&PUT) {
        let local = Path::new(local);
        local.metadata().map_err(|error| Error::io("read", local, &error))?;
    }
    for (_, local) in &args.all(&GET) {
        let local = Path::new(local);
        if are_several(&args.operands) && local.exists() && !local.is_dir() {
            let error = Error::failed(format!("`{}` is not a directory", local.display()));
            return Err(error.hint("the files of several VMs need one to go to"));
        }
        let dir = Path::new(".").join(local.parent().unwrap_or(local));
        dir.metadata().map_err(|error| Error::io("write", local, &error))?;
    }
    Ok(())
}

/// Runs the command as soon as the guest lets us log in.
pub(super) fn work(job: &Job, process: Process) -> Outcome {
    let (Target { paths, log, .. }, reach) = (job.target, job.reach(process)?);
    do_work(job, &reach).map_err(|error| match (error.kind, reach.watch.process.is_alive()) {
        (Kind::Failed, false) => reach.watch.ended("the command ran"),
        // The shared connection does not notice that the guest it belongs to is gone.
        (Kind::NotRunning, true) => end_shared_connection(paths, log).err().unwrap_or(error),
        _ => error,
    })
}

fn do_work(job: &Job, reach: &Reach) -> Outcome {
    let target = job.target;
    let Target { args, name, log, .. } = target;
    // If the guest has ended, the wait gives a better error.
    if !args.has(&spec::WAIT)
        && let Some((state, error)) = target.held()
        && !state.is_over()
    {
        let hint = format!("`--wait` waits until `qqmgr resume {name}` lets it go on");
        return Err(error.hint(hint));
    }
    // A snapshot is of a guest that was up.
    let guest = if args.has(&FROM) {
        let guest = job.guest()?;
        on_guest::log_in(reach, &guest, !args.has(&NO_SET_CLOCK))?;
        guest
    } else {
        job.booted(reach)?
    };
    for (local, remote) in &args.all(&PUT) {
        let to = Copy::Put { from: vec![PathBuf::from(local)], to: remote.clone() };
        copy(&guest, &to, false)?;
    }
    let done = run(target, &guest)?;
    if done.exit_code == FAILURE_CODE && reach.watch.process.is_ending() {
        return Err(reach.watch.ended("the command ran"));
    }
    match args.all(&GET).iter().try_for_each(|(remote, local)| get(target, &guest, remote, local)) {
        // The command's own failure is more important.
        Err(error) if done.exit_code != 0 => log.note(error.message()),
        got => got?,
    }
    Ok(done)
}

/// Copies from the guest; among several VMs into a directory of this one.
fn get(target: &Target, guest: &Guest, remote: &OsStr, local: &OsStr) -> Result<(), Error> {
    let mut to = PathBuf::from(local);
    if are_several(&target.args.operands) {
        to.push(&target.name);
        user_files::make_dir(&to)?;
    }
    copy(guest, &Copy::Get { from: vec![remote.to_os_string()], to }, false)
}

/// Runs the command itself. A single command without a file for its output has our streams; several
/// commands could not share our standard input.
fn run(target: &Target, guest: &Guest) -> Outcome {
    let Target { args, log, .. } = target;
    let line = (!args.words.is_empty()).then(|| remote_command(&args.words));
    let words: Vec<OsString> = line.into_iter().collect();
    // The result, with the output if that was collected.
    let ended = |code: Option<i32>, [stdout, stderr]: [Option<String>; 2]| {
        target.exit_report(code, "", [("stdout", stdout.into()), ("stderr", stderr.into())])
    };
    let (has_terminal, several) = (args.has(&TERMINAL), are_several(&args.operands));
    let options = if has_terminal {
        ON_TERMINAL
    } else if guest.limits.deadline.is_some() {
        JOB_ALONE
    } else {
        guest.begin_sharing()?;
        JOB
    };
    let mut ssh = guest.ssh(options, &words);
    if !several {
        ssh.stdin(Stdio::inherit());
    }
    if has_terminal || !several && !args.json() && logs::dir(target).is_none() {
        // An ssh that is killed leaves the terminal in raw mode, so there is no limit.
        let mut exceeded = || if has_terminal { None } else { guest.limits.exceeded() };
        let status = ssh.attached(&mut exceeded, log)?;
        return Ok(ended(status.code(), [None, None]));
    }
    let mut sinks = Sink::of_command(target)?;
    let ran = passed_on(ssh, guest, |read| {
        sinks.iter_mut().zip(read).try_for_each(|(sink, bytes)| sink.pass(&bytes))
    });
    let written = sinks.iter_mut().try_for_each(Sink::end);
    let texts = sinks.map(|sink| sink.text());
    match ran {
        Ok(status) => written.map(|()| ended(status, texts)),
        Err(error) if error.kind == Kind::Failed => Err(error),
        Err(error) => {
            let [stdout, stderr] = texts;
            Err(error.after_reading("stdout", stdout).after_reading("stderr", stderr))
        }
    }
}
