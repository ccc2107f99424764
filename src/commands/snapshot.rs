//! `qqmgr snapshot ACTION VM [TAG]`

use super::confirm::{self, YES};
use super::list::Names;
use super::plan::{Extra, own_argv};
use super::target::Target;
use super::up::likely_port;
use crate::cli::spec::{self, Count, Flag, Operand};
use crate::cli::{Args, Command, Outcome, Run, usage_of};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::image::base::qemu_img;
use crate::json::Value;
use crate::report::Report;
use crate::ssh::end_shared_connection;
use crate::text::{amount, sanitized, utc};
use crate::vm::lock::{LOCK_WAIT, Lock, lock};
use crate::vm::named::forgets;
use crate::vm::options::arguments_of;
use crate::vm::session::Session;
use crate::vm::snapshot::running::Running;
use crate::vm::snapshot::settle::Next;
use crate::vm::snapshot::stopped::Stopped;
use crate::vm::snapshot::{Disk, Disks, Snapshot, Tag};
use crate::vm::{Instance, process};
use std::fmt::Write as _;
use std::path::PathBuf;

pub(crate) static COMMAND: Command = Command {
    name: "snapshot",
    about: "Save a VM as it is, and load it again",
    details: "Of a VM that runs, the whole machine with its disks; of one that is stopped, its\n\
              disks. They are kept in the disks, which must be qcow2 images. Without a TAG,\n\
              `save` takes the first of snapshot-1, snapshot-2, ... that is not there yet.",
    operands: &[
        Operand::new("ACTION", Count::One).one_of(&["save", "load", "delete", "list"]),
        spec::VM,
        Operand::new("TAG", Count::Optional),
    ],
    flags: &[&QUIET, &YES],
    failure_code: Kind::exit_code,
    run: Run::Once(run),
};

static QUIET: Flag =
    Flag::switch("quiet", |args| args.quiet = true, "With `list`, print only the tags, one a line")
        .short('q');

const DELETED: &str = "deleted";

/// The VM, running or stopped: it decides who handles the disks.
enum Machine<'a> {
    Running(Running<'a>),
    Stopped(Stopped<'a>),
}

/// The result of an action.
struct Done {
    name: String,
    tag: Tag,
    /// The action: "saved", ...
    what: &'static str,
    /// Whether the action included the machine's state.
    machine: bool,
    disks: Vec<PathBuf>,
    state: String,
}

/// One element of the list.
struct Entry {
    snapshot: Snapshot,
    disks: Vec<String>,
}

struct Entries {
    list: Vec<Entry>,
    dir: PathBuf,
}

fn run(args: &Args) -> Outcome {
    let [action, name, tag @ ..] = args.operands.as_slice() else {
        return Err(usage_of(&COMMAND, "`snapshot` needs an ACTION and a VM".into()));
    };
    let (action, name) = (action.to_string_lossy(), name.to_string_lossy());
    if args.quiet && action != "list" {
        return Err(usage_of(&COMMAND, format!("`--quiet` is not for `snapshot {action}`")));
    }
    if args.yes && action != "delete" {
        return Err(usage_of(&COMMAND, "`--yes` is for `snapshot delete`".into()));
    }
    let tag = tag.first().map(|tag| Tag::new(tag)).transpose()?;
    let config = Config::load(args)?;
    let target = Target::new(&config, args, &name, args.log())?;
    match (&*action, tag) {
        ("list", None) => list(&target),
        ("list", Some(_)) => Err(usage_of(&COMMAND, "`snapshot list` takes no TAG".into())),
        ("save", tag) => {
            change(&target, Next::Other, |machine, disks| save(&target, machine, disks, tag))
        }
        ("load", Some(tag)) => {
            change(&target, Next::Load, |machine, disks| load(&target, machine, disks, tag))
        }
        ("delete", Some(tag)) => {
            if confirm::is_wanted(args) {
                // The lock is not held while a person thinks.
                open(&target, None)?.1.find(&tag)?;
                let loss = format!("snapshot `{tag}` of VM `{}` is lost", target.name);
                confirm::confirm(args, &loss)?;
            }
            change(&target, Next::Other, |machine, disks| delete(&target, machine, disks, tag))
        }
        _ => Err(usage_of(&COMMAND, format!("`snapshot {action}` needs the operand TAG"))),
    }
}

/// Does `work` under the VM's lock, so that nothing starts or stops the VM meanwhile.
fn change(
    target: &Target,
    next: Next,
    work: impl FnOnce(&mut Machine, &Disks) -> Result<Done, Error>,
) -> Outcome {
    let Target { name, paths, log, .. } = target;
    let had_dir = paths.dir.exists();
    let lock = lock(paths, name, COMMAND.name, LOCK_WAIT, log)?;
    let done = open(target, Some((&lock, next)))
        .and_then(|(mut machine, disks)| work(&mut machine, &disks));
    if !had_dir {
        lock.discard(paths)?;
    }
    Ok(Box::new(done?))
}

/// Opens the VM and its disks. If the VM's lock and the next action are given, anything that a
/// killed command left half done is settled.
fn open<'a>(
    target: &'a Target,
    change: Option<(&'a Lock, Next)>,
) -> Result<(Machine<'a>, Disks), Error> {
    let Target { config, name, paths, log, .. } = target;
    if process::find_anywhere(paths)?.is_some() {
        let session = Session::open(name, paths, log)?;
        let mut running = Running::new(session, paths, config.dir(), log)?;
        let mut disks = running.disks(name)?;
        if change.is_some() {
            disks = running.settle(paths, disks)?;
        }
        return Ok((Machine::Running(running), disks));
    }
    let vm = target.vm()?;
    let argv = own_argv(target, vm, &Extra::default(), likely_port(config, vm))?;
    let argv: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    let lock = change.map(|(lock, _)| lock);
    let stopped = Stopped { qemu_img: qemu_img(config)?, dir: config.dir(), log, lock };
    if let Some((_, next)) = change {
        stopped.settle(name, paths, next)?;
    }
    let disks = stopped.disks(name, &arguments_of(argv.iter().map(|word| &**word)))?;
    Ok((Machine::Stopped(stopped), disks))
}

fn save(
    target: &Target,
    machine: &mut Machine,
    disks: &Disks,
    tag: Option<Tag>,
) -> Result<Done, Error> {
    let tag = tag.unwrap_or_else(|| disks.free_tag());
    disks.check_save(&tag)?;
    let is_running = match machine {
        Machine::Running(running) => {
            let instance = Instance::read(&target.paths)?;
            let argv = instance.iter().flat_map(Instance::own_argv);
            if forgets(&arguments_of(argv.map(String::as_str))) {
                let what = "the VM forgets what it writes (`-snapshot`), and this snapshot, too";
                target.log.note(&format!("{what}, when it stops"));
            }
            running.save(disks, &tag).map(|()| true)
        }
        Machine::Stopped(stopped) => stopped.save(disks, &tag, &target.paths).map(|()| false),
    }?;
    let saved: Vec<&Disk> = disks.list.iter().collect();
    Done::new(target, machine, tag, "saved", is_running, &saved)
}

fn load(target: &Target, machine: &mut Machine, disks: &Disks, tag: Tag) -> Result<Done, Error> {
    let whole = disks.find(&tag)?;
    disks.check_load(&whole)?;
    let is_running = match machine {
        Machine::Running(running) => {
            running.load(disks, &whole, &tag)?;
            // The guest has forgotten its connections, so the shared one is dead.
            end_shared_connection(&target.name, &target.paths, &target.log).map(|()| true)
        }
        Machine::Stopped(stopped) => stopped.load(disks, &tag, &target.paths).map(|()| false),
    }?;
    if whole.has_machine() && !is_running {
        let (name, tag) = (&target.name, tag.quoted());
        let how = format!("`qqmgr start {name} -- -loadvm {tag}` starts the VM with it");
        target.log.note(&format!("the machine of the snapshot was not loaded: {how}"));
    }
    Done::new(target, machine, tag, "loaded", is_running, &whole.disks)
}

fn delete(target: &Target, machine: &mut Machine, disks: &Disks, tag: Tag) -> Result<Done, Error> {
    let whole = disks.find(&tag)?;
    match machine {
        Machine::Running(running) => running.delete(disks, &whole, &tag),
        Machine::Stopped(stopped) => stopped.delete(&whole, &tag, &target.paths),
    }?;
    Done::new(target, machine, tag, DELETED, whole.has_machine(), &whole.disks)
}

/// Lists the snapshots. It changes nothing, so it needs no lock.
fn list(target: &Target) -> Outcome {
    let (_, disks) = open(target, None)?;
    let list = disks.snapshots().into_iter().map(|whole| Entry {
        snapshot: whole.main.clone(),
        disks: whole.disks.iter().map(|disk| disk.file.clone()).collect(),
    });
    let entries = Entries { list: list.collect(), dir: target.config.dir().to_path_buf() };
    if target.args.quiet {
        let tags = entries.list.into_iter().map(|entry| entry.snapshot.tag);
        return Ok(Box::new(Names(tags.collect())));
    }
    Ok(Box::new(entries))
}

impl Done {
    fn new(
        target: &Target,
        machine: &mut Machine,
        tag: Tag,
        what: &'static str,
        has_machine: bool,
        disks: &[&Disk],
    ) -> Result<Self, Error> {
        let state = match machine {
            Machine::Running(running) => running.run_state()?,
            Machine::Stopped(_) => "stopped".into(),
        };
        let dir = target.config.dir();
        let disks = disks.iter().map(|disk| dir.join(&disk.file)).collect();
        Ok(Self { name: target.name.clone(), tag, what, machine: has_machine, disks, state })
    }
}

impl Report for Done {
    fn text(&self) -> String {
        let Self { name, tag, what, machine, state, .. } = self;
        let of = if *machine || *what == DELETED { "" } else { ", the disks alone" };
        format!("{name} snapshot `{tag}` {what}{of}: {state}\n")
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("tag", self.tag.as_str().into()),
            ("machine", self.machine.into()),
            ("disks", self.disks.iter().map(|disk| Value::from(disk.as_path())).collect()),
            ("state", self.state.as_str().into()),
        ])
    }
}

impl Report for Entries {
    fn text(&self) -> String {
        let shown = |entry: &Entry| sanitized(&entry.snapshot.tag);
        let widths = self.list.iter().map(|entry| shown(entry).chars().count());
        let width = widths.max().unwrap_or_default().max("TAG".len());
        let mut text =
            format!("{:width$}  {:19}  {:>10}  DISKS\n", "TAG", "SAVED (UTC)", "MACHINE");
        for entry in &self.list {
            let Snapshot { machine_bytes, saved_at, .. } = entry.snapshot;
            let machine = if machine_bytes > 0 { amount(machine_bytes) } else { "-".into() };
            let (tag, saved, disks) = (shown(entry), utc(saved_at), entry.disks.join(", "));
            let _ = writeln!(text, "{tag:width$}  {saved}  {machine:>10}  {disks}");
        }
        text
    }

    fn json(&self) -> Value {
        let disks = |entry: &Entry| {
            let disks = entry.disks.iter().map(|disk| self.dir.join(disk));
            disks.map(|disk| Value::from(disk.as_path())).collect::<Value>()
        };
        let one = |entry: &Entry| {
            let snapshot = &entry.snapshot;
            Value::object([
                ("tag", Value::from(snapshot.tag.as_str())),
                ("saved_at", snapshot.saved_at.into()),
                ("guest_seconds", snapshot.guest_seconds.into()),
                ("machine_bytes", snapshot.machine_bytes.into()),
                ("disks", disks(entry)),
            ])
        };
        self.list.iter().map(one).collect()
    }
}
