//! A start with the machine and the disks of a snapshot. Everything that would make QEMU refuse the
//! snapshot is found before QEMU runs, since QEMU reverts the disks first.

use super::changes::{Change, options};
use super::plan::Inputs;
use crate::commands::target::Target;
use crate::error::Error;
use crate::system::programs;
use crate::text::{texts, utc};
use crate::vm::lock::Lock;
use crate::vm::named::forgets;
use crate::vm::options::{Argument, arguments_of};
use crate::vm::snapshot::origin::Origin;
use crate::vm::snapshot::{Act, Disks, Part, Saved, Stamp, Stopped, Tag, origin};
use std::path::PathBuf;

/// The text of `--version` before the version.
const VERSION_PREFIX: &str = "QEMU emulator version ";
/// The options whose disks cannot be seen on the command line.
const HIDING: &[&str] = &["readconfig", "set"];

/// A stopped VM that is to be started from a snapshot, which may be missing.
pub(crate) struct Origins<'a> {
    target: &'a Target<'a>,
    tag: &'a Tag,
    stopped: Stopped<'a>,
    disks: Disks,
    saved: Saved,
    /// The program and arguments of the start, with the ssh port of the snapshot.
    argv: Vec<String>,
}

impl<'a> Origins<'a> {
    /// Reads the disks of the VM. The lock is needed for a change.
    pub(crate) fn new(
        inputs: &Inputs<'a>,
        tag: &'a Tag,
        lock: Option<&'a Lock>,
    ) -> Result<Self, Error> {
        let target = inputs.target;
        let saved = Saved::read(&target.paths)?;
        let recorded = saved.origin(tag.as_str()).and_then(|origin| origin.ssh_port);
        let ssh_port = inputs.ssh_port.map(|likely| recorded.unwrap_or(likely));
        let argv = texts(&Inputs { ssh_port, ..inputs.clone() }.own_argv()?);
        let arguments = arguments_of(&argv);
        check_visible(&target.name, &arguments)?;
        let stopped = target.stopped(lock)?;
        let disks = stopped.disks(&arguments)?;
        Ok(Self { target, tag, stopped, disks, saved, argv })
    }

    /// The snapshot's part with the machine, if it can be loaded.
    fn part(&self) -> Result<&Part, Error> {
        let whole = self.disks.to_load(self.tag)?;
        if whole.main.has_machine() {
            return Ok(whole.main);
        }
        let (tag, vm) = (self.tag, &self.target.name);
        let message = format!("snapshot `{tag}` of VM `{vm}` has no machine");
        let hint = format!(
            "it was saved when the VM was stopped; `qqmgr snapshot save {vm}` of the running VM \
             has it"
        );
        Err(Error::failed(message).hint(hint))
    }

    /// Why `--prepare` with this command makes the snapshot; `None` if it is there. A snapshot that
    /// something else made is never replaced.
    pub(crate) fn needs(&self, command: &str) -> Result<Option<String>, Error> {
        let mut why = vec!["there is none".to_string()];
        if let Ok(whole) = self.disks.find(self.tag) {
            let origin = self.saved.origin(self.tag.as_str()).filter(|it| it.is_of(whole.main));
            let made = origin.and_then(|it| Some((it, it.prepare.as_ref()?)));
            let Some((origin, then)) = made else { return Ok(None) };
            why = self.differences(origin)?;
            let is_other = then != command;
            why.extend(is_other.then(|| "the command of `--prepare` has changed".into()));
        }
        if why.is_empty() {
            return Ok(None);
        }
        self.disks.check_can_hold()?;
        self.check_can_save()?;
        Ok(Some(why.join("; ")))
    }

    /// Refuses a device that is known to keep QEMU from saving the machine.
    fn check_can_save(&self) -> Result<(), Error> {
        let arguments = arguments_of(&self.argv);
        let of_other = |it: &&Argument| it.name == "device" && it.value.starts_with("vhost-user");
        let Some(Argument { value, .. }) = arguments.iter().find(of_other) else { return Ok(()) };
        let vm = &self.target.name;
        let message = format!(
            "VM `{vm}` cannot have a snapshot: `-device {value}` has its state in another program"
        );
        Err(Error::failed(message).hint("give a variant of the VM no such device: `extends`"))
    }

    /// Checks that QEMU will load the snapshot, as far as that can be known.
    pub(super) fn check(&self) -> Result<(), Error> {
        let part = self.part()?;
        let (tag, vm) = (self.tag, &self.target.name);
        let Some(origin) = self.saved.origin(tag.as_str()).filter(|it| it.is_of(part)) else {
            let unknown = format!("it is not known what snapshot `{tag}` was made from");
            self.target.log.warning(&unknown);
            return Ok(());
        };
        let differences = self.differences(origin)?;
        if differences.is_empty() {
            return Ok(());
        }
        let what = differences.join("; ");
        let message = format!("VM `{vm}` differs from snapshot `{tag}`: {what}");
        let hint = match origin.prepare {
            Some(_) => "`qqmgr run` with `--prepare` makes a new one".into(),
            None => format!("undo that, or `qqmgr snapshot delete {vm} {}`", tag.quoted()),
        };
        Err(Error::failed(message).hint(hint))
    }

    /// Everything in which the VM differs from what the snapshot was made from.
    fn differences(&self, origin: &Origin) -> Result<Vec<String>, Error> {
        let words = |argv: &[String]| {
            // Forwarded ports are no part of the machine.
            let parts = |word: &String| {
                let parts = word.split(',').filter(|part| !part.starts_with("hostfwd="));
                parts.collect::<Vec<_>>().join(",")
            };
            options(&argv.iter().map(parts).collect::<Vec<_>>())
        };
        let mut differences: Vec<String> = Change::between(words(&origin.argv), words(&self.argv))
            .into_iter()
            .map(|Change { running, configured }| match (running, configured) {
                (Some(then), Some(now)) => format!("`{then}` is `{now}` now"),
                (Some(then), None) => format!("`{then}` is gone"),
                (None, now) => format!("`{}` is new", now.unwrap_or_default()),
            })
            .collect();
        if origin::program(&self.argv, self.stopped.dir) != origin.program {
            let (then, now) = (&origin.qemu, self.version()?);
            differences.extend((*then != now).then(|| format!("QEMU {then} is QEMU {now} now")));
        }
        let now = origin::files(&self.argv, self.stopped.dir);
        for then in origin.files.iter().filter(|then| !now.contains(then)) {
            let path = then.path.display();
            differences.extend(match now.iter().find(|now| now.path == then.path) {
                Some(now) => {
                    Some(format!("`{path}` was changed on {} UTC", utc(now.modified_at())))
                }
                // An argument that is gone was told above.
                None => (!then.path.exists()).then(|| format!("`{path}` is gone")),
            });
        }
        let (then, now) = (&origin.cpu, &origin::cpu_model());
        if let (true, Some(then), Some(now)) = (origin.has_kvm && then != now, then, now) {
            differences.push(format!("the host's CPU `{then}` is `{now}` now"));
        }
        Ok(differences)
    }

    /// The version of the QEMU that would be started.
    fn version(&self) -> Result<String, Error> {
        let mut qemu = programs::configured(self.argv.first().map_or("", String::as_str));
        qemu.arg("--version").current_dir(self.stopped.dir);
        let said = qemu.captured(&mut || None, &self.target.log)?;
        let said = String::from_utf8_lossy(&said.stdout);
        let line = said.lines().next().unwrap_or_default();
        Ok(line.strip_prefix(VERSION_PREFIX).unwrap_or(line).to_string())
    }

    /// Makes sure that the disks have nothing that would be lost, and returns them.
    pub(super) fn spare_disks(&self, discard: bool) -> Result<Vec<PathBuf>, Error> {
        let (tag, vm, paths) = (self.tag, &self.target.name, &self.target.paths);
        let all = self.disks.files();
        // No time tells whether a device was written to.
        if let Some(disk) = self.disks.list.iter().find(|disk| !discard && !disk.path.is_file()) {
            let file = &disk.file;
            let message = format!("cannot tell whether `{file}`, which is not a file, was written");
            let hint = "`--discard` throws away what `--from` would lose";
            return Err(Error::failed(message).hint(hint));
        }
        let spare = self.saved.spare.as_ref();
        let is_spare = |stamp: &Stamp| spare.is_some_and(|spare| spare.disks.contains(stamp));
        let changed = self.disks.list.iter().filter_map(|disk| {
            let stamp = Stamp::of(&disk.path);
            let when = stamp.as_ref().map(Stamp::modified_at).map(utc);
            let when = when.map_or(String::new(), |when| format!(" (last on {when} UTC)"));
            (!stamp.as_ref().is_some_and(is_spare)).then(|| format!("`{}`{when}", disk.file))
        });
        let changed: Vec<String> = changed.collect();
        if changed.is_empty() {
            return Ok(all);
        }
        let whole = self.disks.find(tag)?;
        if discard {
            self.stopped.run(Act::Load, &whole.disks, tag)?;
            Saved::spare(paths, tag.as_str(), &all, false)?;
            return Ok(all);
        }
        let since = utc(spare.map_or(whole.main.saved_at, |spare| spare.since));
        let what = changed.join(" and ");
        let message = format!("`--from` would lose what was written to {what} since {since} UTC");
        let hint = format!("`qqmgr snapshot save {vm}` keeps it, and `--discard` throws it away");
        Err(Error::failed(message).hint(hint))
    }
}

/// Refuses arguments that hide which disks QEMU reverts, and arguments under which QEMU finds no
/// snapshots.
fn check_visible(vm: &str, arguments: &[Argument]) -> Result<(), Error> {
    let hiding = arguments.iter().find(|it| HIDING.contains(&&*it.name) || it.is_expanded);
    let (what, hint) = if let Some(Argument { name, .. }) = hiding {
        let what = format!("its disks may be behind `-{name}`");
        (what, "write them into `cmd`: `--from` has to know which disks QEMU would revert")
    } else if forgets(arguments) {
        ("it forgets what is written, and so hides its snapshots".into(), "leave `snapshot` out")
    } else {
        return Ok(());
    };
    Err(Error::failed(format!("VM `{vm}` cannot start `--from` a snapshot: {what}")).hint(hint))
}
