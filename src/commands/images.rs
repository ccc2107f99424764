//! The images that VMs use: they are made before a start, and cannot be reset during it. Also finds
//! the VMs that use an image.

use super::target::Target;
use crate::config::{Config, Declared};
use crate::error::Error;
use crate::image::build::{grow, use_image};
use crate::image::context::{Context, Exceeded};
use crate::image::inspection::{Inspection, inspect};
use crate::log::Log;
use crate::system::lock::Lock;
use crate::toml::Key;
use crate::vm::{Look, Paths};
use std::path::Path;

/// The images of a VM, complete.
#[derive(Default)]
pub(super) struct Images {
    /// The names of the images that had to be made.
    pub(super) built: Vec<String>,
    /// The names of the images whose disks were grown.
    pub(super) grown: Vec<String>,
    declared: Vec<Declared>,
    /// While these are held, no other command can reset an image that QEMU is about to open.
    held: Vec<Lock>,
}

impl Images {
    /// Makes a VM's missing images, which may take long, and reports it. Warns about images that
    /// differ from their current declaration, if a start will not change that.
    pub(super) fn hold(
        target: &Target,
        images: Vec<&Key>,
        exceeded: Exceeded,
    ) -> Result<Self, Error> {
        let Target { config, log, .. } = target;
        let context = Context { exceeded, ..Context::new(config, log) };
        let declared = images.into_iter().map(|image| Declared::new(config, image));
        let mut images = Self { declared: declared.collect::<Result<_, _>>()?, ..Self::default() };
        for declared in &images.declared {
            let found = inspect(config, declared);
            if found.grows.is_none() || found.changed.len() > 1 {
                warn(&found, &context, &declared.name);
            }
        }
        images.complete(&context)?;
        Ok(images)
    }

    fn complete(&mut self, context: &Context) -> Result<(), Error> {
        for declared in &self.declared {
            let (held, made) = use_image(context, declared)?;
            self.held.push(held);
            if made {
                context.log.note(&format!("built image `{}`", declared.name));
                self.built.push(declared.name.clone());
            }
        }
        Ok(())
    }

    /// Grows the disks that are to be larger, while the VM is stopped. A disk that another
    /// program uses stays as it is, with a warning.
    pub(super) fn grow(&mut self, config: &Config, log: &Log) -> Result<(), Error> {
        let context = Context::new(config, log);
        let grows = |declared: &&Declared| inspect(config, declared).grows.is_some();
        let growing: Vec<&Declared> = self.declared.iter().filter(grows).collect();
        if growing.is_empty() {
            return Ok(());
        }
        // Two starts that share an image must not wait for each other.
        self.held.clear();
        for declared in growing {
            let name = &declared.name;
            match grow(&context, declared, true)? {
                Some(growth) => {
                    log.note(&format!("{name}: disk {growth}"));
                    self.grown.push(name.clone());
                }
                None => warn(&inspect(config, declared), &context, name),
            }
        }
        self.complete(&context)
    }
}

/// Warns about an image that differs from its declaration.
pub(super) fn warn(found: &Inspection, context: &Context, name: &str) {
    if let Some((warning, hint)) = found.warning(name) {
        context.log.warning(&warning);
        context.log.note(&format!("hint: {hint}"));
    }
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
