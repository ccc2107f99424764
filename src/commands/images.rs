//! The images that VMs use: they are made before a start, and cannot be reset during it. Also finds
//! the VMs that use an image.

use super::target::Target;
use crate::config::Config;
use crate::config::choices::Choices;
use crate::config::declared::Declared;
use crate::config::resolve::Resolver;
use crate::config::vm::Vm;
use crate::error::Error;
use crate::image::build::use_image;
use crate::image::change::reachable;
use crate::image::context::{Context, Exceeded};
use crate::image::fetch::PATIENCE_DEFAULT;
use crate::image::inspection::{Inspection, inspect};
use crate::system::lock::Lock;
use crate::vm::{Look, Paths};
use std::path::Path;

/// The images of a VM, complete.
pub(super) struct Images {
    /// The names of the images that had to be made.
    pub(super) built: Vec<String>,
    /// While these are held, no other command can reset an image that QEMU is about to open.
    _held: Vec<Lock>,
}

/// Makes the VM's missing images, which may take long, and reports it. Warns about images that
/// differ from their current declaration.
pub(super) fn hold(
    target: &Target,
    vm: &Vm,
    choices: &Choices,
    exceeded: Exceeded,
) -> Result<Images, Error> {
    let Target { config, log, .. } = target;
    let context = Context { config, patience: PATIENCE_DEFAULT, exceeded, log };
    let (mut built, mut held) = (Vec::new(), Vec::new());
    for image in Resolver::new(config, vm, choices).images() {
        let declared = Declared::new(config, image)?;
        warn(&inspect(config, &declared), &context, &image.name);
        let (image_held, made) = use_image(&context, &declared)?;
        held.push(image_held);
        if made {
            log.note(&format!("built image `{}`", image.name));
            built.push(image.name.clone());
        }
    }
    Ok(Images { built, _held: held })
}

/// Warns about an image that differs from its declaration.
pub(super) fn warn(found: &Inspection, context: &Context, name: &str) {
    if let Some((warning, hint)) = found.warning(name) {
        context.log.warning(&warning);
        context.log.note(&format!("hint: {hint}"));
    }
}

/// Makes the links by which QEMU reaches images, for a user who runs QEMU directly.
pub(super) fn make_reachable(config: &Config, vm: &Vm, choices: &Choices) -> Result<(), Error> {
    for image in Resolver::new(config, vm, choices).images() {
        let paths = config.image_paths(&image.name)?;
        if paths.dir.exists() {
            reachable(&paths)?;
        }
    }
    Ok(())
}

/// A VM that runs, and the command line that it was started with.
pub(super) struct User {
    name: String,
    argv: Vec<String>,
}

/// All VMs that run, of this configuration and of others with the same directory.
pub(super) fn users(config: &Config) -> Result<Vec<User>, Error> {
    let running = config.vms_with_a_dir()?.into_iter().filter_map(|name| {
        let paths = Paths::new(config.vm_dir(&name));
        match Look::by_files(&paths) {
            Ok(look) if look.place.is_gone() => None,
            Ok(look) => Some(Ok(User { argv: look.record?.argv, name })),
            Err(error) => Some(Err(error)),
        }
    });
    running.collect()
}

/// The VMs that have the disk open.
pub(super) fn users_of<'u>(users: &'u [User], disk: &Path) -> Vec<&'u str> {
    let disk = disk.to_string_lossy();
    let has = |user: &&User| user.argv.iter().any(|word| word.contains(&*disk));
    users.iter().filter(has).map(|user| user.name.as_str()).collect()
}
