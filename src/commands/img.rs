//! `qqmgr img ACTION [NAME...]`: the images of the configuration.

use super::confirm::YES;
use super::images::{users, users_of, warn};
use super::list::QUIET;
use super::{confirm, vms};
use crate::answers::Answers;
use crate::cli::{Args, Command, Count, Flag, Operand, refuse_if};
use crate::config::image::{DISK, KEY};
use crate::config::values::is_image_name;
use crate::config::{Config, Declared};
use crate::error::Error;
use crate::image::build;
use crate::image::change::reachable;
use crate::image::context::Context;
use crate::image::inspection::inspect;
use crate::json::Value;
use crate::report::{
    Align::{Left, Right},
    Outcome, Report, Table,
};
use crate::text::{amount, texts};
use crate::vm::format;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

pub(crate) static COMMAND: Command = Command {
    name: "img",
    about: "Build, list, reset and remove images",
    details: "`build` makes missing images, by default all; `list` shows the images; `path`\n\
              prints where an image is; `reset` throws away what was written to images; `rm`\n\
              removes images. An image that a running VM uses is left alone.",
    operands: &[
        Operand::new("ACTION", Count::One).one_of(ACTIONS),
        Operand::new("IMAGE", Count::Any),
    ],
    flags: &[&TIMEOUT, &QUIET, &YES],
    check,
    examples: &["img list", "img build", "img reset dev"],
    ..Command::DEFAULT
};

const ACTIONS: &[&str] = &["build", "list", "path", "reset", "rm"];
/// The actions that throw data away.
const DESTROYERS: &[&str] = &["reset", "rm"];

static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Give up on a server silent for this long (default 30)");

/// The work on one image, or a report about it.
type Action = fn(&Context, &str) -> Outcome;

/// The action, which the parser has checked.
fn action(args: &Args) -> &str {
    args.operands[0].to_str().unwrap_or_default()
}

/// Refuses flags and a number of images that the action does not take.
fn check(args: &Args) -> Result<(), Error> {
    let (action, count) = (action(args), args.operands.len() - 1);
    let needs_one = count == 0 && !["build", "list"].contains(&action);
    refuse_if(&[
        (args.has(&QUIET) && action != "list", &format!("`--quiet` is not for `img {action}`")),
        (count > 0 && action == "list", "`img list` takes no IMAGE"),
        (count > 1 && action == "path", "`img path` takes one IMAGE"),
        (needs_one, &format!("`img {action}` needs an IMAGE")),
        (
            args.has(&YES) && !DESTROYERS.contains(&action),
            "`--yes` is for `img reset` and `img rm`",
        ),
    ])
}

pub(super) fn run(args: &Args, answers: &mut Answers) -> Result<(), Error> {
    let work: Action = match action(args) {
        "list" => {
            answers.tell(list(&Config::load(args)?, args.has(&QUIET)));
            return Ok(());
        }
        "build" => build,
        "path" => path,
        "reset" => reset,
        _ => remove,
    };
    let names = texts(&args.operands[1..]);
    let (config, log) = (Config::load(args)?, args.log());
    let mut context = Context::new(&config, &log);
    if let Some(patience) = args.value(&TIMEOUT) {
        context.patience = patience;
    }
    let every = || config.images().map(|image| image.name.clone()).collect();
    let names: Vec<String> = if names.is_empty() { every() } else { names };
    let among_others = names.len() > 1;
    if vms::are_several(&args.operands[1..]) {
        answers.begin_array();
    }
    if answers.refuse(unknown(args, &config, &names)) {
        return Ok(());
    }
    if DESTROYERS.contains(&action(args)) {
        ask(args, &context, &names)?;
    }
    for name in names {
        answers.tell(work(&context, &name).map_err(|error| error.of_vm(&name, among_others)));
    }
    Ok(())
}

/// Lists the images of the configuration in its order, then those that are no longer declared.
fn list(config: &Config, quiet: bool) -> Outcome {
    let declared = config.images().map(|image| image.name.clone());
    if quiet {
        return Ok(Report::names(declared));
    }
    let users = users(config)?;
    let mut table = Table::new(&[
        ("NAME", Left, 0),
        ("STATE", Left, 12),
        ("SIZE", Right, 8),
        ("ON DISK", Right, 8),
        ("USED BY", Left, 0),
    ]);
    for name in declared.chain(config.undeclared_images()) {
        let paths = config.image_paths(&name)?;
        let image = config.images().find(|image| image.name == name);
        let declared = image.map(|image| Declared::new(config, image)).transpose()?;
        let look = declared.map(|declared| inspect(config, &declared));
        let state = look.as_ref().map(|look| look.state().to_string());
        let changed = look.map(|look| look.changed).unwrap_or_default();
        let used_by = users_of(&users, &paths.disk);
        let disk = paths.file(DISK);
        let virtual_bytes = format::disk(&disk).map(|header| header.virtual_bytes);
        // The space that the disk takes up, without its base.
        let real_bytes = disk.metadata().ok().map(|metadata| metadata.blocks() * 512);
        let size = |bytes: Option<u64>| bytes.map_or("-".into(), amount);
        let cells = [
            name.clone(),
            state.clone().unwrap_or("not declared".into()),
            size(virtual_bytes),
            size(real_bytes),
            if used_by.is_empty() { "-".into() } else { used_by.join(", ") },
        ];
        let members = [
            ("name", name.into()),
            ("state", state.as_deref().into()),
            ("changed", changed.into_iter().collect()),
            ("path", (&paths.disk).into()),
            ("virtual_bytes", virtual_bytes.into()),
            ("real_bytes", real_bytes.into()),
            ("used_by", used_by.into_iter().collect()),
        ];
        table.row(cells, Value::object(members));
    }
    Ok(table.report())
}

/// The errors of names that no image has.
fn unknown(args: &Args, config: &Config, names: &[String]) -> Vec<Error> {
    let unknown = names.iter().filter_map(|name| {
        let undeclared = args.operands[0] == "rm" && is_undeclared(config, name);
        let known = if undeclared { Ok(()) } else { config.image(name).map(|_| ()) };
        known.err().map(|error| error.of_vm(name, names.len() > 1))
    });
    unknown.collect()
}

/// Whether an image of that name exists that the configuration no longer has.
fn is_undeclared(config: &Config, name: &str) -> bool {
    is_image_name(name) && config.undeclared_images().contains(name)
}

/// Asks before data written to images is lost. An image whose action will be refused is left out.
fn ask(args: &Args, context: &Context, names: &[String]) -> Result<(), Error> {
    let mut lost: Vec<&str> = Vec::new();
    for name in names.iter().filter(|_| confirm::is_wanted(args)) {
        let is_there = context.config.image_paths(name)?.disk.exists();
        if is_there && check_unused(context, name).is_ok() && !lost.contains(&name.as_str()) {
            lost.push(name);
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let lost = lost.join("`, `");
    confirm::confirm(&format!("what was written to `{lost}` is lost, snapshots included"))
}

fn declared(context: &Context, name: &str) -> Result<Declared, Error> {
    Declared::new(context.config, context.config.image(name)?)
}

/// An error if a VM that runs has the image open.
fn check_unused(context: &Context, name: &str) -> Result<(), Error> {
    let users = users(context.config)?;
    match users_of(&users, &context.config.image_paths(name)?.disk).first() {
        None => Ok(()),
        Some(vm) => Err(Error::failed(format!("image `{name}` is in use by VM `{vm}`"))
            .hint(format!("`qqmgr stop {vm}` stops it"))),
    }
}

fn build(context: &Context, name: &str) -> Outcome {
    let declared = declared(context, name)?;
    let disk = &declared.paths.disk;
    if inspect(context.config, &declared).grows.is_some() {
        check_unused(context, name)?;
    }
    let made = build::complete(context, &declared)?;
    let growth = build::grow(context, &declared, false)?;
    let look = inspect(context.config, &declared);
    warn(&look, context, name);
    let what = match growth {
        Some(growth) => growth.to_string(),
        None => if made { "built" } else { "is there already" }.to_string(),
    };
    let members = [
        ("name", name.into()),
        ("path", disk.into()),
        ("built", made.into()),
        ("grown", growth.is_some().into()),
        ("changed", look.changed.iter().copied().collect()),
    ];
    Ok(Report::of(format!("{name} {what}: {}\n", disk.display()), members))
}

/// Reports where the files for QEMU are.
fn path(context: &Context, name: &str) -> Outcome {
    let declared = declared(context, name)?;
    let paths = &declared.paths;
    if paths.dir.exists() {
        reachable(paths)?;
    }
    let key = declared.has_own_key().then(|| paths.file(KEY));
    let seed = declared.seed.is_some().then_some(paths.seed.as_path());
    let members = [
        ("name", name.into()),
        ("path", (&paths.disk).into()),
        ("seed", seed.into()),
        ("key", key.as_ref().into()),
    ];
    Ok(Report::of(format!("{}\n", paths.disk.display()), members))
}

fn reset(context: &Context, name: &str) -> Outcome {
    let declared = declared(context, name)?;
    check_unused(context, name)?;
    build::reset(context, &declared)?;
    let disk = &declared.paths.disk;
    let text = format!("{name} reset: {}\n", disk.display());
    Ok(Report::of(text, [("name", name.into()), ("path", disk.into())]))
}

/// Removes an image, even one that is no longer declared.
fn remove(context: &Context, name: &str) -> Outcome {
    check_unused(context, name)?;
    let removed = build::remove(context, name)?;
    let what = if removed { "removed" } else { "was not built" };
    let text = format!("{name} {what}\n");
    Ok(Report::of(text, [("name", name.into()), ("removed", removed.into())]))
}
