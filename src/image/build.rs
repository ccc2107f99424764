//! Makes images, discards what was written to them, and removes them.
//!
//! Everything is made under a temporary name, in the image's directory and under its lock, and gets
//! its own name when it is complete. The disk comes last, so that a killed build leaves only work
//! to do.

use super::base::{Base, check_unused};
use super::context::{Context, qemu_img};
use super::declared::{check_is_there, declared_base};
use super::hold::{For, Held};
use super::keep::keep_base;
use super::keys;
use super::look::look;
use super::names::{DISK, KEY, LOCK, NEW_PUBLIC_KEY, PUBLIC_KEY, RECORD, SEED, unfinished};
use super::record::Record;
use super::seed::{self, Content};
use crate::config::Config;
use crate::config::declared::{Declared, DeclaredBase, Location};
use crate::config::image::ImagePaths;
use crate::config::resolve::Resolver;
use crate::config::scope::Choices;
use crate::error::Error;
use crate::source::{Problem, Span};
use crate::system::files;
use crate::system::short_way;
use crate::vm::Paths;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The port for configurations that use it in an image's path, if any does.
const ANY_PORT: u16 = 1;

/// Makes what is missing of an image, and grows one that is to be larger; nothing that was written
/// to it is lost. Returns whether there was anything to do.
pub(crate) fn build(context: &Context, declared: &Declared) -> Result<bool, Error> {
    let made = complete(context, declared)?;
    let paths = context.config.image_paths(&declared.name)?;
    if !look(context.config, declared, &paths).grows {
        return Ok(made);
    }
    let held = change(context, &declared.name, &paths)?;
    grow(context, declared, &paths, &held)?;
    Ok(true)
}

/// Makes what is missing. Returns whether anything was.
fn complete(context: &Context, declared: &Declared) -> Result<bool, Error> {
    let paths = context.config.image_paths(&declared.name)?;
    if look(context.config, declared, &paths).is_ready() {
        return Ok(false);
    }
    let held = change(context, &declared.name, &paths)?;
    // Another command may have been faster.
    let found = look(context.config, declared, &paths);
    if found.is_ready() {
        return Ok(false);
    }
    if found.missing.contains(&DISK) {
        make(context, declared, &paths, &held)?;
        return Ok(true);
    }
    keep_base(context, declared, &found, &paths, &held)?;
    let content = content(context, declared, &paths, false, &held)?;
    if found.missing.contains(&SEED) {
        put_seed(&paths, content.as_ref())?;
    }
    Ok(true)
}

/// Completes the image and locks it, so that no other command changes it while the lock is held.
/// Also returns whether anything had to be made.
pub(crate) fn use_image(context: &Context, declared: &Declared) -> Result<(Held, bool), Error> {
    let paths = context.config.image_paths(&declared.name)?;
    let mut made = false;
    loop {
        made |= complete(context, declared)?;
        let held = context.lock(&declared.name, &paths, For::Use)?;
        if look(context.config, declared, &paths).is_whole() {
            reachable(&paths)?;
            return Ok((held, made));
        }
    }
}

/// Makes the disk, and what belongs to it, as declared now. An existing disk is replaced.
pub(crate) fn reset(context: &Context, declared: &Declared) -> Result<(), Error> {
    let paths = context.config.image_paths(&declared.name)?;
    let held = change(context, &declared.name, &paths)?;
    check_unused(context, &declared.name, &paths.disk, &held)?;
    make(context, declared, &paths, &held)
}

/// Removes the image's directory, with its key pair. A fetched base stays. Returns whether there
/// was a directory.
pub(crate) fn remove(context: &Context, name: &str) -> Result<bool, Error> {
    let paths = context.config.image_paths(name)?;
    if !paths.dir.exists() {
        return Ok(false);
    }
    let held = change(context, name, &paths)?;
    check_unused(context, name, &paths.disk, &held)?;
    // The disk first: without it there is no image.
    let own = [DISK, RECORD, SEED, KEY, PUBLIC_KEY, LOCK];
    own.iter().try_for_each(|file| files::remove(&paths.dir.join(file)))?;
    if !files::is_plain(&paths.dir) {
        files::remove(&short_way::short_link(&paths.dir)?)?;
    }
    files::remove_empty_dir(&paths.dir);
    forget_guests(context.config, name)?;
    Ok(true)
}

/// Takes the lock for a change, and removes what a killed command left.
fn change(context: &Context, name: &str, paths: &ImagePaths) -> Result<Held, Error> {
    let held = context.lock(name, paths, For::Change)?;
    reachable(paths)?;
    files::remove_unfinished(&paths.dir);
    for file in [DISK, SEED, KEY, PUBLIC_KEY] {
        files::remove(&unfinished(&paths.dir.join(file)))?;
    }
    files::remove(&paths.dir.join(NEW_PUBLIC_KEY))?;
    Ok(held)
}

/// Grows the disk. QEMU's resize only adds to the image's tables, and is complete when the header
/// is.
fn grow(
    context: &Context,
    declared: &Declared,
    paths: &ImagePaths,
    held: &Held,
) -> Result<(), Error> {
    let (Some((size, _)), Some(record)) = (declared.size, Record::read(paths)) else {
        return Ok(());
    };
    check_unused(context, &declared.name, &paths.disk, held)?;
    let said = context.qemu_img(Some(held), |command| {
        command.args(["resize", "-q", "-f", "qcow2"]);
        command.arg(paths.dir.join(DISK)).arg(size.to_string());
    })?;
    said.check(&format!("cannot grow image `{}`", declared.name))?;
    Record { size: Some(size), ..record }.write(paths)
}

/// The data for cloud-init, once the key pair is there that it names.
fn content(
    context: &Context,
    declared: &Declared,
    paths: &ImagePaths,
    is_new: bool,
    held: &Held,
) -> Result<Option<Content>, Error> {
    let Some(seed) = &declared.seed else { return Ok(None) };
    if declared.has_own_key() {
        keys::complete(context, &declared.name, paths, is_new, held)?;
    }
    seed::content(context.config, &declared.name, seed, paths).map(Some)
}

/// Makes the disk and all that belongs to it. The old disk is removed when the new one is complete,
/// and before any other file describes the new one.
fn make(
    context: &Context,
    declared: &Declared,
    paths: &ImagePaths,
    held: &Held,
) -> Result<(), Error> {
    let base = declared_base(context, declared, held)?;
    let content = content(context, declared, paths, true, held)?;
    let (disk, new) = (paths.dir.join(DISK), unfinished(&paths.dir.join(DISK)));
    let made = create(context, declared, base.as_ref(), &new, held);
    let placed = made.and_then(|()| {
        files::remove(&disk)?;
        put_seed(paths, content.as_ref())?;
        let record = Record::of(context.config, declared, paths);
        Record { backing: base.map(|base| base.file), ..record }.write(paths)?;
        forget_guests(context.config, &declared.name)?;
        files::put_in_place(&new, &disk)
    });
    placed.inspect_err(|_| {
        let _ = files::remove(&new);
    })
}

fn create(
    context: &Context,
    declared: &Declared,
    base: Option<&Base>,
    new: &Path,
    held: &Held,
) -> Result<(), Error> {
    let said = context.qemu_img(Some(held), |command| {
        command.args(["create", "-q", "-f", "qcow2"]);
        if let Some(base) = base {
            command.args(["-F", base.format, "-b"]).arg(&base.file);
        }
        command.arg(new).args(declared.size.map(|(size, _)| size.to_string()));
    })?;
    said.check(&format!("cannot make image `{}`", declared.name)).map(|_| ())
}

/// Forgets the host keys of every VM that uses the image: the next guest has other keys.
fn forget_guests(config: &Config, image: &str) -> Result<(), Error> {
    let choices = Choices { ssh_port: Some(ANY_PORT), ..Choices::default() };
    let uses = |vm: &&_| {
        Resolver::new(config, vm, &choices).images().iter().any(|used| used.name == image)
    };
    config
        .vms()
        .iter()
        .filter(uses)
        .try_for_each(|vm| files::remove(&Paths::new(config.vm_dir(&vm.name)).known_hosts))
}

impl ImagePaths {
    pub(crate) fn public_key(&self) -> PathBuf {
        self.dir.join(PUBLIC_KEY)
    }
}

/// The problems that would keep an incomplete image from being built, as far as they are known
/// without building it.
pub(crate) fn obstacles(config: &Config, declared: &Declared, paths: &ImagePaths) -> Vec<Problem> {
    let mut obstacles = Vec::new();
    if let Err(error) = qemu_img(config) {
        obstacles.push(error.at(declared.span));
    }
    if let Some(DeclaredBase { location: Location::File(file), span, .. }) = &declared.base {
        obstacles.extend(check_is_there(config, file).err().map(|error| error.at(*span)));
    }
    if let Some(seed) = declared.seed.as_ref().filter(|_| !declared.has_own_key()) {
        let content = seed::content(config, &declared.name, seed, paths);
        if let Err(error) = content {
            obstacles.extend(in_config(config, error, declared.span));
        }
    }
    obstacles
}

/// The problems of an error; those outside of the configuration get this place in it.
fn in_config(config: &Config, error: Error, place: Span) -> Vec<Problem> {
    let message = error.message().to_string();
    match error.into_located() {
        Ok(located) if Arc::ptr_eq(&located.source, &config.source) => located.problems,
        Ok(_) => vec![Problem::new(place, message)],
        Err(error) => vec![error.at(place)],
    }
}

/// Makes the path by which QEMU reaches the image's files.
pub(crate) fn reachable(paths: &ImagePaths) -> Result<(), Error> {
    if !files::is_plain(&paths.dir) {
        short_way::short_way(&paths.dir)?;
    }
    Ok(())
}

fn put_seed(paths: &ImagePaths, content: Option<&Content>) -> Result<(), Error> {
    let seed = paths.dir.join(SEED);
    match content {
        Some(content) => {
            let new = unfinished(&seed);
            files::write_new(&new, &content.bytes())?;
            files::put_in_place(&new, &seed)
        }
        None => files::remove(&seed),
    }
}
