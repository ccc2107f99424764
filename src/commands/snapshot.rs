//! `qqmgr snapshot ACTION VM [TAG]`

use super::confirm::{self, YES};
use super::start::plan::{Inputs, StartOptions};
use super::target::Target;
use super::vms;
use crate::cli::flag::Flag;
use crate::cli::spec::{self, Count, Operand};
use crate::cli::{Args, Command, refuse_if};
use crate::error::Error;
use crate::json::Value;
use crate::report::{
    Align::{Left, Right},
    Outcome, Report, Table,
};
use crate::ssh::end_shared_connection;
use crate::text::{amount, command_line, utc};
use crate::vm::lock::{self, LOCK_WAIT, Lock, lock};
use crate::vm::named::forgets;
use crate::vm::options::arguments_of;
use crate::vm::snapshot::{Act, Disk, Disks, Part, Running, Saved, Stopped, Tag};
use crate::vm::{Instance, look};

pub(crate) static COMMAND: Command = Command {
    name: "snapshot",
    about: "Save a VM as it is, and load it again",
    details: "A running VM is saved with its whole machine, a stopped one only with its\n\
              disks. Snapshots are kept in the disks, which must be qcow2 images. Without a\n\
              TAG, `save` takes the first free one of snapshot-1, snapshot-2 and so on.",
    operands: &[
        Operand::new("ACTION", Count::One).one_of(ACTIONS),
        spec::VM,
        Operand::new("TAG", Count::Optional),
    ],
    flags: &[&QUIET, &YES],
    check: |args| action(args).map(|_| ()),
    examples: &["snapshot save dev before", "snapshot load dev before", "snapshot list dev"],
    right_form: |words| {
        let [vm, action, rest @ ..] = words else { return None };
        let is_form = ACTIONS.iter().any(|known| action == known);
        is_form.then(|| command_line([&"snapshot".into(), action, vm].into_iter().chain(rest)))
    },
    ..Command::DEFAULT
};

const ACTIONS: &[&str] = &["save", "load", "delete", "list"];

static QUIET: Flag =
    Flag::switch("quiet", "With `list`, print only the tags, one a line").short('q');

/// The VM: QEMU handles the disks of a running VM, and qemu-img those of a stopped one.
enum Machine<'a> {
    Running(Running<'a>),
    Stopped(Stopped<'a>),
}

/// Reads the action, `None` for `list`, and the TAG, and refuses what the action does not take.
fn action(args: &Args) -> Result<(Option<Act>, Option<Tag>), Error> {
    let name = args.operands[0].to_string_lossy();
    let (act, tag) = (Act::named(&name), args.operands.get(2));
    let needs_tag = matches!(act, Some(Act::Load | Act::Delete));
    refuse_if(&[
        (args.has(&QUIET) && act.is_some(), &format!("`--quiet` is not for `snapshot {name}`")),
        (args.has(&YES) && act != Some(Act::Delete), "`--yes` is for `snapshot delete`"),
        (act.is_none() && tag.is_some(), "`snapshot list` takes no TAG"),
        (needs_tag && tag.is_none(), &format!("`snapshot {name}` needs the operand TAG")),
    ])?;
    Ok((act, tag.map(|tag| Tag::new(tag)).transpose()?))
}

pub(super) fn run(args: &Args) -> Outcome {
    let (act, tag) = action(args)?;
    vms::one(args, &args.operands[1].to_string_lossy(), |target| match (act, tag) {
        (None, _) => list(target),
        (Some(act), tag) => {
            if let (Act::Delete, Some(tag), true) = (act, &tag, confirm::is_wanted(args)) {
                // The lock is not held while a person thinks.
                open(target, None)?.1.find(tag)?;
                let loss = format!("snapshot `{tag}` of VM `{}` is lost", target.name);
                confirm::confirm(&loss)?;
            }
            change(target, act, tag)
        }
    })
}

/// Saves, loads or deletes a snapshot under the VM's lock: nothing starts or stops the VM then.
fn change(target: &Target, act: Act, tag: Option<Tag>) -> Outcome {
    let Target { paths, log, .. } = target;
    let had_dir = paths.dir.exists();
    let lock = lock(paths, COMMAND.name, LOCK_WAIT, log)?;
    let opened = open(target, Some((&lock, act)));
    let outcome = opened.and_then(|(machine, disks)| {
        let tag = tag.unwrap_or_else(|| disks.free_tag());
        perform(target, machine, &disks, act, &tag)
    });
    if !had_dir {
        lock::discard(lock, paths)?;
    }
    outcome
}

/// Opens the VM and its disks. If the VM's lock and the next action are given, anything that a
/// killed command left half done is settled.
fn open<'a>(
    target: &'a Target,
    change: Option<(&'a Lock, Act)>,
) -> Result<(Machine<'a>, Disks), Error> {
    let Target { config, paths, log, .. } = target;
    if look::find_anywhere(paths)?.is_some() {
        let mut running = Running::open(paths, config.dir(), log)?;
        if change.is_some() {
            running.settle()?;
        }
        let disks = running.disks()?;
        return Ok((Machine::Running(running), disks));
    }
    let argv = Inputs::new(target, StartOptions::default())?.own_argv()?;
    let stopped = target.stopped(change.map(|(lock, _)| lock))?;
    if let Some((_, act)) = change {
        stopped.settle(Some(act))?;
        Saved::settle(paths)?;
        if act != Act::Load {
            stopped.revert()?;
        }
    }
    let disks = stopped.disks(&arguments_of(argv))?;
    Ok((Machine::Stopped(stopped), disks))
}

fn perform(target: &Target, mut machine: Machine, disks: &Disks, act: Act, tag: &Tag) -> Outcome {
    let Target { name, paths, log, .. } = target;
    let whole = match act {
        Act::Save => None,
        Act::Load => Some(disks.to_load(tag)?),
        Act::Delete => Some(disks.find(tag)?),
    };
    let has_machine = whole.as_ref().is_some_and(|whole| whole.main.has_machine());
    let parts = whole.map_or_else(|| disks.to_save(tag), |whole| Ok(whole.disks))?;
    let is_running = matches!(machine, Machine::Running(_));
    if act == Act::Delete {
        Saved::remove(paths, tag)?;
    }
    // This snapshot has everything that is on the disks of a stopped VM.
    let mut spare = Saved::spare_tag(paths, &disks.files())?;
    let state = match &mut machine {
        Machine::Running(running) => {
            let forgets_all = |record: Instance| forgets(&record.arguments());
            if act == Act::Save {
                if Instance::read(paths)?.is_some_and(forgets_all) {
                    let what = "when the VM stops, it forgets what it wrote (`-snapshot`)";
                    log.note(&format!("{what}, and this snapshot"));
                }
                running.save(&parts, tag, None)?;
            } else {
                running.run(act, &parts, tag)?;
            }
            if act == Act::Load {
                // The guest has forgotten its connections, so the shared one is dead.
                end_shared_connection(paths, log)?;
            }
            running.session.run_state()?
        }
        Machine::Stopped(stopped) => {
            stopped.run(act, &parts, tag)?;
            if act == Act::Load && has_machine {
                let how = format!("`qqmgr start {name} --from {}`", tag.quoted());
                let what = "the machine of the snapshot was not loaded";
                log.note(&format!("{what}: {how} starts the VM with it"));
            }
            // Only a snapshot with a machine can be started from.
            if act != Act::Delete {
                let has_any = disks.snapshots().iter().any(|whole| whole.main.has_machine());
                spare = has_any.then(|| tag.as_str().into());
            }
            // The snapshot exists even so; without the record, `--from` is more careful.
            let recorded = spare.map(|spare| Saved::spare(paths, &spare, &disks.files(), false));
            if let Some(Err(error)) = recorded {
                log.warning(error.message());
            }
            "stopped".into()
        }
    };
    let with_machine = if act == Act::Delete { has_machine } else { is_running };
    let alone = if with_machine || act == Act::Delete { "" } else { ", the disks alone" };
    let text = format!("{name} snapshot `{tag}` {}{alone}: {state}\n", act.words().done);
    let members = [
        ("tag", Value::from(tag.as_str())),
        ("machine", with_machine.into()),
        ("disks", files(&parts)),
        ("state", state.into()),
    ];
    Ok(target.report(text, members))
}

/// The whole paths of the disks.
fn files(disks: &[&Disk]) -> Value {
    disks.iter().map(|disk| Value::from(&disk.path)).collect()
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
        let Part { tag, saved_at, guest_seconds, machine_bytes, .. } = &whole.main;
        let machine = if *machine_bytes > 0 { amount(*machine_bytes) } else { "-".into() };
        let disks: Vec<&str> = whole.disks.iter().map(|disk| disk.file.as_str()).collect();
        let members = [
            ("tag", Value::from(tag)),
            ("saved_at", (*saved_at).into()),
            ("guest_seconds", (*guest_seconds).into()),
            ("machine_bytes", (*machine_bytes).into()),
            ("disks", files(&whole.disks)),
        ];
        let cells = [tag.clone(), utc(*saved_at), machine, disks.join(", ")];
        table.row(cells, Value::object(members));
    }
    Ok(table.report())
}
