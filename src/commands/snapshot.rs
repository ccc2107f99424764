//! `qqmgr snapshot ACTION VM [TAG]`

use super::confirm::{self, YES};
use super::start::plan::{StartOptions, likely_port, own_argv};
use super::target::Target;
use super::vms;
use crate::cli::flag::Flag;
use crate::cli::spec::{self, Count, Operand};
use crate::cli::{Args, Command, usage_of};
use crate::error::Error;
use crate::image::context::qemu_img;
use crate::json::Value;
use crate::report::{
    Align::{Left, Right},
    Outcome, Report, Table,
};
use crate::ssh::end_shared_connection;
use crate::text::{amount, sanitized, utc};
use crate::vm::lock::{self, LOCK_WAIT, Lock, lock};
use crate::vm::named::forgets;
use crate::vm::options::arguments_of;
use crate::vm::session::Session;
use crate::vm::snapshot::running::Running;
use crate::vm::snapshot::settle::Next;
use crate::vm::snapshot::stopped::Stopped;
use crate::vm::snapshot::{Disk, Disks, Snapshot, Tag};
use crate::vm::{Instance, look};

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
    check: |args| action(args).map(|_| ()),
    ..Command::DEFAULT
};

static QUIET: Flag =
    Flag::switch("quiet", "With `list`, print only the tags, one a line").short('q');

/// The VM, running or stopped: it decides who handles the disks.
enum Machine<'a> {
    Running(Running<'a>),
    Stopped(Stopped<'a>),
}

enum Action {
    Save(Option<Tag>),
    Load(Tag),
    Delete(Tag),
    List,
}

/// Reads the action, and refuses flags and a TAG that it does not take.
fn action(args: &Args) -> Result<Action, Error> {
    let usage = |message: String| Err(usage_of(&COMMAND, message));
    let action = args.operands[0].to_string_lossy();
    if args.has(&QUIET) && action != "list" {
        return usage(format!("`--quiet` is not for `snapshot {action}`"));
    }
    if args.has(&YES) && action != "delete" {
        return usage("`--yes` is for `snapshot delete`".into());
    }
    let tag = args.operands.get(2).map(|tag| Tag::new(tag)).transpose()?;
    match (&*action, tag) {
        ("save", tag) => Ok(Action::Save(tag)),
        ("load", Some(tag)) => Ok(Action::Load(tag)),
        ("delete", Some(tag)) => Ok(Action::Delete(tag)),
        ("list", None) => Ok(Action::List),
        ("list", Some(_)) => usage("`snapshot list` takes no TAG".into()),
        _ => usage(format!("`snapshot {action}` needs the operand TAG")),
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    let action = action(args)?;
    vms::one(args, &args.operands[1].to_string_lossy(), |target| match action {
        Action::Save(tag) => {
            change(target, Next::Other, |machine, disks| save(target, machine, disks, tag))
        }
        Action::Load(tag) => {
            change(target, Next::Load, |machine, disks| load(target, machine, disks, &tag))
        }
        Action::Delete(tag) => {
            if confirm::is_wanted(args) {
                // The lock is not held while a person thinks.
                open(target, None)?.1.find(&tag)?;
                let loss = format!("snapshot `{tag}` of VM `{}` is lost", target.name);
                confirm::confirm(args, &loss)?;
            }
            change(target, Next::Other, |machine, disks| delete(target, machine, disks, &tag))
        }
        Action::List => list(target),
    })
}

/// Does `work` under the VM's lock, so that nothing starts or stops the VM meanwhile.
fn change(
    target: &Target,
    next: Next,
    work: impl FnOnce(&mut Machine, &Disks) -> Outcome,
) -> Outcome {
    let Target { name, paths, log, .. } = target;
    let had_dir = paths.dir.exists();
    let lock = lock(paths, name, COMMAND.name, LOCK_WAIT, log)?;
    let opened = open(target, Some((&lock, next)));
    let outcome = opened.and_then(|(mut machine, disks)| work(&mut machine, &disks));
    if !had_dir {
        lock::discard(lock, paths)?;
    }
    outcome
}

/// Opens the VM and its disks. If the VM's lock and the next action are given, anything that a
/// killed command left half done is settled.
fn open<'a>(
    target: &'a Target,
    change: Option<(&'a Lock, Next)>,
) -> Result<(Machine<'a>, Disks), Error> {
    let Target { config, name, paths, log, .. } = target;
    if look::find_anywhere(paths)?.is_some() {
        let session = Session::open(name, paths, log)?;
        let mut running = Running::new(session, paths, config.dir(), log)?;
        let mut disks = running.disks(name)?;
        if change.is_some() {
            disks = running.settle(paths, disks)?;
        }
        return Ok((Machine::Running(running), disks));
    }
    let vm = target.vm()?;
    let argv = own_argv(target, vm, &StartOptions::default(), likely_port(config, vm))?;
    let argv: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    let lock = change.map(|(lock, _)| lock);
    let stopped = Stopped { qemu_img: qemu_img(config)?, dir: config.dir(), log, lock };
    if let Some((_, next)) = change {
        stopped.settle(name, paths, next)?;
    }
    let disks = stopped.disks(name, &arguments_of(argv.iter().map(|word| &**word)))?;
    Ok((Machine::Stopped(stopped), disks))
}

fn save(target: &Target, machine: &mut Machine, disks: &Disks, tag: Option<Tag>) -> Outcome {
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
    report(target, machine, &tag, "saved", is_running, &saved)
}

fn load(target: &Target, machine: &mut Machine, disks: &Disks, tag: &Tag) -> Outcome {
    let whole = disks.find(tag)?;
    disks.check_load(&whole)?;
    let is_running = match machine {
        Machine::Running(running) => {
            running.load(disks, &whole, tag)?;
            // The guest has forgotten its connections, so the shared one is dead.
            end_shared_connection(&target.name, &target.paths, &target.log).map(|()| true)
        }
        Machine::Stopped(stopped) => stopped.load(disks, tag, &target.paths).map(|()| false),
    }?;
    if whole.has_machine() && !is_running {
        let (name, tag) = (&target.name, tag.quoted());
        let how = format!("`qqmgr start {name} -- -loadvm {tag}` starts the VM with it");
        target.log.note(&format!("the machine of the snapshot was not loaded: {how}"));
    }
    report(target, machine, tag, "loaded", is_running, &whole.disks)
}

fn delete(target: &Target, machine: &mut Machine, disks: &Disks, tag: &Tag) -> Outcome {
    let whole = disks.find(tag)?;
    match machine {
        Machine::Running(running) => running.delete(disks, &whole, tag),
        Machine::Stopped(stopped) => stopped.delete(&whole, tag, &target.paths),
    }?;
    report(target, machine, tag, "deleted", whole.has_machine(), &whole.disks)
}

/// Reports an action on a snapshot; `has_machine` if the action included the machine's state.
fn report(
    target: &Target,
    machine: &mut Machine,
    tag: &Tag,
    what: &str,
    has_machine: bool,
    disks: &[&Disk],
) -> Outcome {
    let state = match machine {
        Machine::Running(running) => running.run_state()?,
        Machine::Stopped(_) => "stopped".into(),
    };
    let name = &target.name;
    let alone = if has_machine || what == "deleted" { "" } else { ", the disks alone" };
    let text = format!("{name} snapshot `{tag}` {what}{alone}: {state}\n");
    let members = [
        ("name", Value::from(name)),
        ("tag", tag.as_str().into()),
        ("machine", has_machine.into()),
        ("disks", files(target, disks)),
        ("state", state.into()),
    ];
    Ok(Report::of(text, members))
}

/// The whole paths of the disks.
fn files(target: &Target, disks: &[&Disk]) -> Value {
    disks.iter().map(|disk| Value::from(&target.config.dir().join(&disk.file))).collect()
}

/// Lists the snapshots. It changes nothing, so it needs no lock.
fn list(target: &Target) -> Outcome {
    let (_, disks) = open(target, None)?;
    let snapshots = disks.snapshots();
    if target.args.has(&QUIET) {
        return Ok(Report::names(snapshots.iter().map(|whole| whole.main.tag.clone())));
    }
    let columns =
        [("TAG", Left, 0), ("SAVED (UTC)", Left, 19), ("MACHINE", Right, 10), ("DISKS", Left, 0)];
    let mut table = Table::new(&columns);
    for whole in snapshots {
        let Snapshot { tag, saved_at, guest_seconds, machine_bytes, .. } = &whole.main;
        let machine = if *machine_bytes > 0 { amount(*machine_bytes) } else { "-".into() };
        let disks: Vec<&str> = whole.disks.iter().map(|disk| disk.file.as_str()).collect();
        let members = [
            ("tag", Value::from(tag)),
            ("saved_at", (*saved_at).into()),
            ("guest_seconds", (*guest_seconds).into()),
            ("machine_bytes", (*machine_bytes).into()),
            ("disks", files(target, &whole.disks)),
        ];
        let cells = [sanitized(tag), utc(*saved_at), machine, disks.join(", ")];
        table.row(cells, Value::object(members));
    }
    Ok(table.report())
}
