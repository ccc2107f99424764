//! Makes images, discards what was written to them, and removes them.
//!
//! Everything is made under a temporary name, in the image's directory and under its lock, and gets
//! its own name when it is complete. The disk comes last, so that a killed build leaves only work
//! to do.

use super::base::{check_is_there, declared_base};
use super::bases;
use super::change::{Change, lock, reachable};
use super::context::{Context, check, qemu_img};
use super::inspection::{Growth, Inspection, inspect};
use super::keep::keep_base;
use super::record::{BACKING, FIRST_BOOT, Record, SIZE};
use super::seed::Content;
use super::{keys, seed};
use crate::config::declared::{DeclaredBase, Location};
use crate::config::image::{DISK, ImagePaths, KEY, LOCK, PUBLIC_KEY, RECORD, SEED};
use crate::config::{Choices, Config, Declared, Resolver};
use crate::error::Error;
use crate::source::{Problem, Span};
use crate::system::lock::{Lock, Mode};
use crate::system::{files, short_way};
use crate::text::shell_quoted;
use crate::vm::Paths;
use std::sync::Arc;

/// The port for configurations that use it in an image's path, if any does.
const ANY_PORT: u16 = 1;

/// Makes what is missing of an image, and loses nothing. Returns whether anything was missing.
pub(crate) fn complete(context: &Context, declared: &Declared) -> Result<bool, Error> {
    let incomplete = |found: Inspection| (!found.is_ready()).then_some(found);
    let Some((change, found)) = Change::begin_for(context, declared, incomplete)? else {
        return Ok(false);
    };
    if found.missing.contains(&DISK) {
        make(&change)?;
        return Ok(true);
    }
    keep_base(&change, &found)?;
    let content = content(&change, false)?;
    if found.missing.contains(&SEED) {
        put_seed(&declared.paths, content.as_ref())?;
    }
    Ok(true)
}

/// Completes the image and locks it, so that no other command changes it while the lock is held.
/// Also returns whether anything had to be made.
pub(crate) fn use_image(context: &Context, declared: &Declared) -> Result<(Lock, bool), Error> {
    let mut made = false;
    loop {
        made |= complete(context, declared)?;
        let held = lock(context, declared, Mode::Shared)?;
        if inspect(context.config, declared).is_whole() {
            reachable(&declared.paths)?;
            return Ok((held, made));
        }
    }
}

/// Makes the disk, and what belongs to it, as declared now. An existing disk is replaced.
pub(crate) fn reset(context: &Context, declared: &Declared) -> Result<(), Error> {
    let change = Change::begin(context, declared)?;
    change.check_unused()?;
    make(&change)
}

/// Removes an image with its key pair, and not its base. Returns whether it was there.
pub(crate) fn remove(context: &Context, name: &str) -> Result<bool, Error> {
    let undeclared = Declared::nothing(context.config, name)?;
    let paths = &undeclared.paths;
    if !paths.dir.exists() {
        return Ok(false);
    }
    let change = Change::begin(context, &undeclared)?;
    change.check_unused()?;
    // The disk goes first: without a disk there is no image.
    let own = [DISK, RECORD, SEED, KEY, PUBLIC_KEY, LOCK];
    own.iter().try_for_each(|file| files::remove(&paths.file(file)))?;
    if !files::is_plain(&paths.dir) {
        files::remove(&short_way::short_link(&paths.dir)?)?;
    }
    files::remove_empty_dir(&paths.dir);
    forget_guests(context.config, name)?;
    Ok(true)
}

/// Grows the disk if `size` is larger than it. QEMU's resize only adds to the image's tables, and
/// is complete when the header is; snapshots keep their own size. A disk that a program has open
/// is an error, or with `if_unused` left as it is.
pub(crate) fn grow(
    context: &Context,
    declared: &Declared,
    if_unused: bool,
) -> Result<Option<Growth>, Error> {
    let Some((change, growth)) = Change::begin_for(context, declared, |found| found.grows)? else {
        return Ok(None);
    };
    if if_unused && change.is_used()? {
        return Ok(None);
    }
    change.check_unused()?;
    let disk = declared.paths.file(DISK);
    let mut command = context.qemu_img(&["resize", "-q", "-f", "qcow2"])?;
    command.arg(&disk).arg(growth.to.to_string());
    let output = change.context.run(command)?;
    check(&output, &format!("cannot grow image `{}`", declared.name)).map_err(|error| {
        let disk = shell_quoted(disk.as_os_str());
        error.hint(format!(
            "with the old `size`, its VMs start; `qemu-img check {disk}` shows what is wrong"
        ))
    })?;
    if let Some(record) = Record::read(&declared.paths) {
        record.with(SIZE, growth.to).write(&declared.paths)?;
    }
    // A killed command may have resized the disk without recording it.
    Ok(Some(growth).filter(|growth| growth.from < growth.to))
}

/// Whether cloud-init has work to do on the disk, by the image's record.
pub(crate) fn is_first_boot(declared: &Declared) -> bool {
    let record = Record::read(&declared.paths).filter(|_| declared.seed.is_some());
    record.is_some_and(|record| record.is_first_boot())
}

/// Records that cloud-init has done its work on the disk.
pub(crate) fn end_first_boot(context: &Context, declared: &Declared) -> Result<(), Error> {
    let (_change, paths) = (Change::begin(context, declared)?, &declared.paths);
    let record = Record::read(paths);
    record.map_or(Ok(()), |record| record.with(FIRST_BOOT, false).write(paths))
}

/// The data for cloud-init, once the key pair is there that it names.
fn content(change: &Change, is_new: bool) -> Result<Option<Content>, Error> {
    if change.declared.has_own_key() {
        keys::complete(change, is_new)?;
    }
    seed::content(change.context.config, change.declared)
}

/// Makes the disk and all that belongs to it. The old disk is removed when the new one is complete,
/// and before any other file describes the new one.
fn make(change: &Change) -> Result<(), Error> {
    let Change { context, declared } = change;
    let (config, Declared { name, paths, .. }) = (context.config, declared);
    let base = declared_base(change)?;
    let content = content(change, true)?;
    let (disk, new) = (paths.file(DISK), change.unfinished(DISK));
    let mut command = context.qemu_img(&["create", "-q", "-f", "qcow2"])?;
    let backing = base.as_ref().map(|it| bases::name_from(&paths.dir, config.dir(), &it.file));
    if let (Some(base), Some(backing)) = (&base, &backing) {
        command.args(["-F", base.format, "-b"]).arg(backing);
    }
    command.arg(&new).args(declared.size.map(|(size, _)| size.to_string()));
    let placed = context.run(command).and_then(|output| {
        check(&output, &format!("cannot make image `{name}`"))?;
        files::remove(&disk)?;
        put_seed(paths, content.as_ref())?;
        let backing = backing.as_ref().and_then(|name| name.to_str());
        let record = Record::now(config, declared).with(BACKING, backing);
        record.with(FIRST_BOOT, content.is_some()).write(paths)?;
        forget_guests(config, name)?;
        files::put_in_place(&new, &disk)
    });
    placed.inspect_err(|_| {
        let _ = files::remove(&new);
    })
}

/// Forgets the host keys of every VM that uses the image: the next guest has other keys.
fn forget_guests(config: &Config, image: &str) -> Result<(), Error> {
    let choices = Choices { ssh_port: Some(ANY_PORT), ..Choices::default() };
    let uses =
        |vm: &&_| Resolver::new(config, vm, choices).images().iter().any(|used| used.name == image);
    config
        .vms
        .iter()
        .filter(uses)
        .try_for_each(|vm| files::remove(&Paths::new(config.vm_dir(&vm.name)).known_hosts))
}

/// The problems that would keep an incomplete image from being built, as far as can be known.
pub(crate) fn obstacles(config: &Config, declared: &Declared) -> Vec<Problem> {
    let mut obstacles = Vec::new();
    if let Err(error) = qemu_img(config) {
        obstacles.push(error.at(declared.span));
    }
    if let Some(DeclaredBase { location: Location::File(file), span, .. }) = &declared.base {
        obstacles.extend(check_is_there(config, file).err().map(|error| error.at(*span)));
    }
    // An own key pair is made with the image.
    if !declared.has_own_key()
        && let Err(error) = seed::content(config, declared)
    {
        obstacles.extend(in_config(config, error, declared.span));
    }
    obstacles
}

/// The problems of an error. Problems outside of the configuration get this place in it.
fn in_config(config: &Config, error: Error, place: Span) -> Vec<Problem> {
    let message = error.message().to_string();
    match error.into_located() {
        Ok(located) if Arc::ptr_eq(&located.source, &config.source) => located.problems,
        Ok(_) => vec![Problem::new(place, message)],
        Err(error) => vec![error.at(place)],
    }
}

fn put_seed(paths: &ImagePaths, content: Option<&Content>) -> Result<(), Error> {
    let seed = paths.file(SEED);
    match content {
        Some(content) => files::write_private(&seed, content.bytes()),
        None => files::remove(&seed),
    }
}
