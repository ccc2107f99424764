//! Snapshots of a running VM: by the jobs `snapshot-save`, `snapshot-load` and `snapshot-delete` of
//! `qapi/migration.json`, or by the human monitor of a QEMU that is too old for these jobs.
//!
//! While QEMU saves or loads, it does nothing else and answers no client. The guest is stopped
//! meanwhile, and continues if it ran before.

use super::journal::{Act, Journal};
use super::{Disk, Disks, Place, Tag, Whole, parse};
use crate::error::Error;
use crate::json::{self, Value};
use crate::log::Log;
use crate::vm::Paths;
use crate::vm::session::Session;
use std::path::Path;
use std::time::Instant;

/// The prefix of the ids of all our jobs.
const JOB_PREFIX: &str = "qqmgr-snapshot-";

/// A running VM and its disks.
pub(crate) struct Running<'a> {
    session: Session,
    log: &'a Log,
    has_jobs: bool,
    paths: &'a Paths,
    /// The directory that QEMU runs in.
    dir: &'a Path,
}

/// The human monitor's command for an operation.
fn command(act: Act) -> &'static str {
    match act {
        Act::Save => "savevm",
        Act::Load => "loadvm",
        Act::Delete => "delvm",
    }
}

/// The operation in progress, as a word for messages.
fn doing(act: Act) -> &'static str {
    match act {
        Act::Save => "saving",
        Act::Load => "loading",
        Act::Delete => "deleting",
    }
}

impl<'a> Running<'a> {
    pub(crate) fn new(
        mut session: Session,
        paths: &'a Paths,
        dir: &'a Path,
        log: &'a Log,
    ) -> Result<Self, Error> {
        let commands = session.execute("query-commands", None)?;
        let name =
            |command: &Value| command.get("name").and_then(Value::as_str) == Some("snapshot-save");
        let has_jobs = commands.items().iter().any(name);
        Ok(Self { session, log, has_jobs, paths, dir })
    }

    /// The disks that QEMU itself includes in a snapshot (`bdrv_all_snapshots_includes_bs` of
    /// block/snapshot.c).
    pub(crate) fn disks(&mut self, vm: &str) -> Result<Disks, Error> {
        let drives = self.session.execute("query-block", None)?;
        Ok(Disks { vm: vm.to_string(), list: drives.items().iter().filter_map(disk).collect() })
    }

    pub(crate) fn run_state(&mut self) -> Result<String, Error> {
        self.session.run_state()
    }

    /// Saves a snapshot, with the machine's state in the first disk, as `savevm` does.
    pub(crate) fn save(&mut self, disks: &Disks, tag: &Tag) -> Result<(), Error> {
        let all: Vec<&Disk> = disks.list.iter().collect();
        self.run(Act::Save, disks, &all, tag)
    }

    pub(crate) fn load(&mut self, disks: &Disks, whole: &Whole, tag: &Tag) -> Result<(), Error> {
        if !whole.has_machine() {
            let vm = &disks.vm;
            let message = format!("snapshot `{tag}` has no machine, and VM `{vm}` is running");
            let hint = format!("it was saved when the VM was stopped; `qqmgr stop {vm}` first");
            return Err(Error::failed(message).hint(hint));
        }
        let before = self.run_state()?;
        // The disk with the machine's state is named first.
        let mut all: Vec<&Disk> = disks.list.iter().collect();
        let part = |disk: &&Disk| disk.part(tag.as_str()).map_or(0, |part| part.machine_bytes);
        all.sort_by_key(|disk| std::cmp::Reverse(part(disk)));
        self.run(Act::Load, disks, &all, tag).map_err(|error| match self.run_state() {
            Ok(state) if state != before => error.hint(format!(
                "VM `{0}` is left `{state}`, perhaps with half of the snapshot; \
                 `qqmgr reset {0}` begins anew",
                disks.vm
            )),
            _ => error,
        })
    }

    pub(crate) fn delete(&mut self, disks: &Disks, whole: &Whole, tag: &Tag) -> Result<(), Error> {
        self.run(Act::Delete, disks, &whole.disks, tag)
    }

    /// Runs an operation. The first of `disks` is the one for the machine's state.
    fn run(&mut self, act: Act, of: &Disks, disks: &[&Disk], tag: &Tag) -> Result<(), Error> {
        let (verb, doing) = (act.name(), doing(act));
        let begin = Instant::now();
        let told = |log: &Log| {
            let seconds = begin.elapsed().as_secs();
            log.progress(|| format!("{doing} snapshot `{tag}` of VM `{}` ({seconds} s)", of.vm));
        };
        let result = if self.has_jobs {
            self.job(act, disks, tag, &told)
        } else {
            self.monitor(&format!("{} {}", command(act), tag.hmp_quoted()), &told)
        };
        self.log.end_progress();
        let said = result?;
        said.map_or(Ok(()), |reason| {
            let what = format!("snapshot `{tag}` of VM `{}`", of.vm);
            Err(Error::failed(format!("QEMU cannot {verb} {what}: {reason}")))
        })
    }

    /// Runs an operation as a job, and returns QEMU's error message if it failed.
    fn job(
        &mut self,
        act: Act,
        disks: &[&Disk],
        tag: &Tag,
        told: &dyn Fn(&Log),
    ) -> Result<Option<String>, Error> {
        let log = self.log;
        self.dismiss_old()?;
        let id = format!("{JOB_PREFIX}{}", std::process::id());
        let mut arguments = arguments(act, disks, tag);
        arguments.push(("job-id", id.as_str().into()));
        let (command, arguments) = (format!("snapshot-{}", act.name()), Value::object(arguments));
        if disks.len() > 1 {
            let disks = disks.iter().map(|disk| self.dir.join(&disk.file)).collect();
            let (tag, job) = (tag.as_str().to_string(), Some(id.clone()));
            Journal { act, tag, disks, job }.begin(self.paths)?;
        }
        // QEMU may do all the work before it answers.
        self.session.execute_patiently(&command, Some(&arguments), &mut || told(log))?;
        let job = self.wait_for(&id, told)?;
        let job = job.ok_or_else(|| Error::failed(format!("QEMU has lost the job `{id}`")))?;
        self.dismiss(&id)?;
        Journal::end(self.paths)?;
        Ok(job.get("error").and_then(Value::as_str).map(str::to_string))
    }

    /// Waits for the end of a job; `None` if QEMU has no such job.
    pub(super) fn wait_for(
        &mut self,
        id: &str,
        told: &dyn Fn(&Log),
    ) -> Result<Option<Value>, Error> {
        let log = self.log;
        loop {
            let jobs = self.session.execute_patiently("query-jobs", None, &mut || told(log))?;
            match jobs.items().iter().find(|job| text(job, "id") == id) {
                Some(job) if text(job, "status") == "concluded" => return Ok(Some(job.clone())),
                Some(_) => self.session.listen_for("JOB_STATUS_CHANGE")?,
                None => return Ok(None),
            }
            told(log);
        }
    }

    /// Dismisses old jobs, which stay in QEMU when their qqmgr was killed. The holder of the VM's
    /// lock knows that no other command waits for them.
    fn dismiss_old(&mut self) -> Result<(), Error> {
        let jobs = self.session.execute("query-jobs", None)?;
        let is_old = |job: &&Value| {
            text(job, "id").starts_with(JOB_PREFIX) && text(job, "status") == "concluded"
        };
        jobs.items().iter().filter(is_old).try_for_each(|job| self.dismiss(text(job, "id")))
    }

    fn dismiss(&mut self, id: &str) -> Result<(), Error> {
        let arguments = Value::object([("id", Value::from(id))]);
        self.session.execute("job-dismiss", Some(&arguments)).map(|_| ())
    }

    /// Runs a command of the human monitor, and returns its error message; it prints nothing on
    /// success.
    fn monitor(&mut self, line: &str, told: &dyn Fn(&Log)) -> Result<Option<String>, Error> {
        let (log, name) = (self.log, "human-monitor-command");
        let arguments = Value::object([("command-line", Value::from(line))]);
        let said = self.session.execute_patiently(name, Some(&arguments), &mut || told(log))?;
        let said = said.as_str().unwrap_or_default().trim();
        Ok((!said.is_empty()).then(|| said.trim_start_matches("Error: ").to_string()))
    }
}

fn arguments<'a>(act: Act, disks: &[&Disk], tag: &Tag) -> Vec<(&'a str, Value)> {
    let nodes = disks.iter().filter_map(|disk| disk.place.as_ref()).map(|place| &place.node);
    let nodes: Vec<Value> = nodes.map(|node| Value::from(node.as_str())).collect();
    let machine = match act {
        Act::Save | Act::Load => nodes.first().map(|node| ("vmstate", node.clone())),
        Act::Delete => None,
    };
    let devices = [("tag", Value::from(tag.as_str())), ("devices", nodes.into_iter().collect())];
    devices.into_iter().chain(machine).collect()
}

/// Reads a disk from a `BlockInfo` of `qapi/block-core.json`; `None` if the guest may not write to
/// it.
fn disk(drive: &Value) -> Option<Disk> {
    let inserted = drive.get("inserted")?;
    if inserted.get("ro") == Some(&Value::Bool(true)) {
        return None;
    }
    let place =
        Place { device: text(drive, "device").into(), node: text(inserted, "node-name").into() };
    let file = file_name(text(inserted, "file")).unwrap_or_else(|| place.device.clone());
    let snapshots = parse(inserted.get("image").and_then(|image| image.get("snapshots")));
    Some(Disk { file, format: text(inserted, "drv").into(), place: Some(place), snapshots })
}

/// The name of a disk's file. QEMU reports more complex disks as JSON objects, in which the
/// innermost node has the file name.
fn file_name(file: &str) -> Option<String> {
    let Some(object) = file.strip_prefix("json:") else { return Some(file.to_string()) };
    let mut node = &json::parse(object.as_bytes()).ok()?;
    while let Some(inner) = node.get("file") {
        node = inner;
    }
    node.get("filename").and_then(Value::as_str).map(str::to_string)
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}
