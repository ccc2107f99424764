//! Snapshots of a running VM, by the jobs `snapshot-...` of `qapi/migration.json`.
//!
//! While QEMU saves or loads, it does nothing else and answers no client. The guest is stopped
//! meanwhile, and continues if it ran before.

use super::journal::Journal;
use super::{Act, Disk, Disks, Origin, Part, Saved, Tag};
use crate::error::Error;
use crate::json::{self, Value};
use crate::log::Log;
use crate::vm::events::JOBS;
use crate::vm::session::Session;
use crate::vm::{Instance, Paths, named, qmp};
use std::cmp::Reverse;
use std::path::Path;
use std::time::Instant;

/// Access to the disks of a running VM.
pub(crate) struct Running<'a> {
    pub(crate) session: Session,
    log: &'a Log,
    paths: &'a Paths,
    /// The directory that QEMU runs in.
    dir: &'a Path,
}

impl<'a> Running<'a> {
    /// Opens a session with the VM, whose QEMU runs in `dir`.
    pub(crate) fn open(paths: &'a Paths, dir: &'a Path, log: &'a Log) -> Result<Self, Error> {
        Ok(Self { session: Session::open(paths, log)?, log, paths, dir })
    }

    /// The disks that QEMU itself includes in a snapshot (`bdrv_all_snapshots_includes_bs` of
    /// block/snapshot.c).
    pub(crate) fn disks(&mut self) -> Result<Disks, Error> {
        let drives = self.session.execute("query-block", None)?;
        let list = drives.items().iter().filter_map(|drive| disk(drive, self.dir)).collect();
        Ok(Disks { vm: self.paths.name.clone(), list })
    }

    /// Saves the snapshot of these disks, and records what it was made from: with `prepare`, also
    /// the command that prepared the guest. Gives the disks as they are then.
    pub(crate) fn save(
        &mut self,
        disks: &[&Disk],
        tag: &Tag,
        prepare: Option<&str>,
    ) -> Result<Disks, Error> {
        let instance = Instance::read(self.paths)?;
        // QEMU itself removes the files of disks that forget what is written.
        let forgets = instance.as_ref().is_some_and(|it| named::forgets(&it.arguments()));
        let open = crate::linux::open_paths(self.session.process.pid).unwrap_or_default();
        let is_removed =
            |disk: &&&Disk| open.contains(&format!("{} (deleted)", disk.path.display()).into());
        if let Some(Disk { file, .. }) = disks.iter().find(is_removed).filter(|_| !forgets) {
            let message = format!("`{file}` was removed: a snapshot would be lost with QEMU");
            return Err(Error::failed(message).hint("save in the guest what must not be lost"));
        }
        self.run(Act::Save, disks, tag)?;
        let saved = self.disks()?;
        if let Some(instance) = instance {
            let (session, part) = (&mut self.session, saved.find(tag)?.main);
            let origin = Origin::new(session, self.dir, part, &instance, prepare)?;
            if let Err(error) = Saved::add(self.paths, origin) {
                self.log.warning(error.message());
            }
        }
        Ok(saved)
    }

    /// Saves, loads or deletes the snapshot of these disks. QEMU saves the machine's state in the
    /// first disk, as `savevm` does, and loads it from the first.
    pub(crate) fn run(&mut self, act: Act, disks: &[&Disk], tag: &Tag) -> Result<(), Error> {
        let (vm, before) = (&self.paths.name, self.session.run_state()?);
        let mut disks = disks.to_vec();
        let machine =
            |disk: &&Disk| Part::find(&disk.parts, tag).map_or(0, |part| part.machine_bytes);
        disks.sort_by_key(|disk| Reverse(machine(disk)));
        if act == Act::Load && disks.first().is_some_and(|disk| machine(disk) == 0) {
            let message = format!("snapshot `{tag}` has no machine, and VM `{vm}` is running");
            let hint = format!("it was saved when the VM was stopped; `qqmgr stop {vm}` first");
            return Err(Error::failed(message).hint(hint));
        }
        let (what, log) = (format!("snapshot `{tag}` of VM `{vm}`"), self.log);
        let begin = Instant::now();
        let mut waiting = || {
            let seconds = begin.elapsed().as_secs();
            log.progress(|| format!("{} {what} ({seconds} s)", act.words().doing));
        };
        let result = self.job(act, &disks, tag, &mut waiting);
        log.end_progress();
        let Some(reason) = result? else { return Ok(()) };
        let error = Error::failed(format!("QEMU cannot {} {what}: {reason}", act.words().name));
        Err(match self.session.run_state() {
            Ok(state) if act == Act::Load && state != before => error.hint(format!(
                "VM `{vm}` is left `{state}`, perhaps with half of the snapshot; \
                 `qqmgr reset {vm}` begins anew"
            )),
            _ => error,
        })
    }

    /// Runs a job, and returns QEMU's error message if it failed.
    fn job(
        &mut self,
        act: Act,
        disks: &[&Disk],
        tag: &Tag,
        waiting: &mut dyn FnMut(),
    ) -> Result<Option<String>, Error> {
        self.dismiss_ended()?;
        let id = format!("{JOBS}{}-{}", act.words().name, std::process::id());
        let nodes: Vec<Value> = disks.iter().map(|disk| disk.node.as_str().into()).collect();
        let machine = nodes.first().filter(|_| act != Act::Delete).cloned();
        let arguments = [
            ("job-id", id.as_str().into()),
            ("tag", tag.as_str().into()),
            ("devices", nodes.into_iter().collect()),
        ];
        let machine = machine.map(|node| ("vmstate", node));
        let arguments = Value::object(arguments.into_iter().chain(machine));
        Journal::new(act, tag, disks, Some(&id)).begin(self.paths)?;
        let command = format!("snapshot-{}", act.words().name);
        // QEMU may do all the work before it answers.
        let begun = self.session.try_execute_patiently(&command, Some(&arguments), waiting);
        if let Err(error) = begun {
            return Err(self.not_begun(&error)?);
        }
        let job = self.wait_for(&id, waiting)?;
        let job = job.ok_or_else(|| Error::failed(format!("QEMU has lost the job `{id}`")))?;
        self.dismiss_ended()?;
        Journal::end(self.paths)?;
        Ok(job.text("error").map(str::to_string))
    }

    /// The error for a job that QEMU did not accept. If it refused the job, no disk has changed.
    fn not_begun(&self, error: &qmp::Error) -> Result<Error, Error> {
        if let qmp::Error::Refused { reason, .. } = error {
            Journal::end(self.paths)?;
            if reason.class == "CommandNotFound" {
                let message = format!("the QEMU of VM `{}` has no snapshots", self.paths.name);
                return Ok(Error::failed(message).hint("QEMU has them since version 6.0"));
            }
        }
        Ok(self.session.explain(error))
    }

    /// Waits for the end of a job; `None` if QEMU has no such job.
    fn wait_for(&mut self, id: &str, waiting: &mut dyn FnMut()) -> Result<Option<Value>, Error> {
        loop {
            let jobs = self.session.try_execute_patiently("query-jobs", None, waiting);
            let jobs = jobs.map_err(|error| self.session.explain(&error))?;
            match jobs.items().iter().find(|job| job.text("id") == Some(id)) {
                Some(job) if has_concluded(job) => return Ok(Some(job.clone())),
                Some(_) => self.session.listen_for("JOB_STATUS_CHANGE")?,
                None => return Ok(None),
            }
            waiting();
        }
    }

    /// Dismisses the jobs of qqmgr that have ended: QEMU keeps each until then, also when its qqmgr
    /// was killed. The holder of the VM's lock knows that no other command waits for one.
    fn dismiss_ended(&mut self) -> Result<(), Error> {
        let jobs = self.session.execute("query-jobs", None)?;
        let ended = jobs.items().iter().filter(|job| has_concluded(job));
        let mut ids = ended.filter_map(|job| job.text("id")).filter(|id| id.starts_with(JOBS));
        ids.try_for_each(|id| {
            let arguments = Value::object([("id", Value::from(id))]);
            self.session.execute("job-dismiss", Some(&arguments)).map(|_| ())
        })
    }

    /// Settles the work of a command that was killed while QEMU did it. QEMU answers again, so it
    /// has finished; if only part of a save exists, `qemu-img` made it before the VM was started.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let Some(journal) = Journal::read(self.paths)? else { return Ok(()) };
        if let Some(job) = &journal.job {
            self.wait_for(job, &mut || ())?;
        }
        let disks = self.disks()?;
        let whole = disks.find(&journal.tag).ok().filter(|whole| match journal.act {
            Act::Save => whole.disks.len() < disks.list.len(),
            Act::Delete => true,
            Act::Load => false,
        });
        if let Some(whole) = whole {
            self.run(Act::Delete, &whole.disks, &journal.tag)?;
        }
        Journal::end(self.paths)
    }
}

fn has_concluded(job: &Value) -> bool {
    job.text("status") == Some("concluded")
}

/// A disk from a `BlockInfo` of `qapi/block-core.json`; `None` if the guest may not write to it.
fn disk(drive: &Value, dir: &Path) -> Option<Disk> {
    let inserted = drive.get("inserted")?;
    if inserted.is_true("ro") {
        return None;
    }
    let text = |object: &Value, name| object.text(name).unwrap_or_default().to_string();
    let device = text(drive, "device");
    let file = file_name(&text(inserted, "file")).unwrap_or_else(|| device.clone());
    Some(Disk {
        path: dir.join(&file),
        file,
        format: text(inserted, "drv"),
        device,
        node: text(inserted, "node-name"),
        parts: inserted.get("image").map(Part::list).unwrap_or_default(),
    })
}

/// The name of a disk's file. QEMU reports more complex disks as JSON objects, in which the
/// innermost node has the file name.
fn file_name(file: &str) -> Option<String> {
    let Some(object) = file.strip_prefix("json:") else { return Some(file.to_string()) };
    let mut node = &json::parse(object.as_bytes()).ok()?;
    while let Some(inner) = node.get("file") {
        node = inner;
    }
    node.text("filename").map(str::to_string)
}
