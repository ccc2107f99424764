//! `--prepare COMMAND`: makes the snapshot of a `run --from` when it is missing, or was made from
//! something else. The guest boots, the command runs, and the snapshot is saved.

use super::flags::COMMAND;
use super::job::Job;
use super::sink::Sink;
use crate::cli::spec;
use crate::commands::start::{Origins, Start, StartOptions};
use crate::commands::target::Target;
use crate::error::Error;
use crate::ssh::run::passed_on;
use crate::ssh::{JOB_ALONE, Limits};
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::snapshot::{Act, Running, Saved, Tag};
use crate::vm::{Process, look};

/// Makes the snapshot if that is needed, and returns whether it was. A VM that is running is left
/// to the job, which refuses it.
pub(super) fn prepare(
    target: &Target,
    limits: &Limits,
    tag: &Tag,
    command: &str,
) -> Result<bool, Error> {
    if look::find_anywhere(&target.paths)?.is_some() {
        return Ok(false);
    }
    target.check_has_ssh()?;
    let Target { args, paths, log, .. } = target;
    let why = {
        let options = StartOptions { set: args.all(&spec::SET), ..StartOptions::default() };
        let mut start = Start::new(target, options)?;
        start.prepare(&|| limits.exceeded())?;
        let lock = lock(paths, COMMAND.name, limits.left(LOCK_WAIT), log)?;
        Saved::settle(paths)?;
        Origins::new(&start.inputs, tag, Some(&lock))?.needs(command)?
    };
    // The VM and its images are held no longer: the job changes their records.
    let Some(why) = why else { return Ok(false) };
    log.note(&format!("making snapshot `{tag}`: {why}"));
    let mut job = Job::preparing(target, limits.clone());
    let result = job.start().and_then(|ready| {
        run(&job, ready.process, command)?;
        save(target, tag, command)
    });
    let ended = job.end(result.is_ok());
    result.and(ended).map(|()| true)
}

/// Runs the command on the guest when it has booted. Its output goes to standard error.
fn run(job: &Job, process: Process, command: &str) -> Result<(), Error> {
    let guest = job.booted(&job.reach(process)?)?;
    // Without `sync`, a boot from the disks of the snapshot would miss what was just written.
    for (command, counts) in [(command, true), ("sync", false)] {
        let (ssh, mut sink) = (guest.ssh(JOB_ALONE, &[command]), Sink::of_preparation(job.target));
        let status =
            passed_on(ssh, &guest, |read| read.iter().try_for_each(|bytes| sink.pass(bytes)));
        sink.end()?;
        match status? {
            Some(0) => {}
            Some(code) if counts => {
                return Err(Error::failed(format!("`--prepare` exited with status {code}")));
            }
            None if counts => return Err(Error::failed("`--prepare` was ended by a signal")),
            _ => {}
        }
    }
    Ok(())
}

/// Saves the snapshot, and keeps the guest paused from then on, so that the disks have nothing else
/// when QEMU has ended.
fn save(target: &Target, tag: &Tag, command: &str) -> Result<(), Error> {
    let Target { config, paths, log, .. } = target;
    let _lock = lock(paths, COMMAND.name, LOCK_WAIT, log)?;
    let mut running = Running::open(paths, config.dir(), log)?;
    running.settle()?;
    running.session.execute("stop", None)?;
    let mut disks = running.disks()?;
    if let Ok(old) = disks.find(tag) {
        Saved::remove(paths, tag)?;
        running.run(Act::Delete, &old.disks, tag)?;
        disks = running.disks()?;
    }
    let saved = running.save(&disks.to_save(tag)?, tag, Some(command))?;
    Saved::spare(paths, tag.as_str(), &saved.files(), true)
}
