//! Forgets the host keys of guests whose disk is made again: the next guest has other keys.

use super::build::Maker;
use crate::config::resolve::Resolver;
use crate::config::scope::Choices;
use crate::error::Error;
use crate::system::files;
use crate::vm::Paths;

/// The port for configurations that use it in an image's path, if any does.
const ANY_PORT: u16 = 1;

impl Maker<'_> {
    /// Forgets the host keys of every VM that uses the image.
    pub(super) fn forget_guests(&self, image: &str) -> Result<(), Error> {
        let choices = Choices { ssh_port: Some(ANY_PORT), ..Choices::default() };
        let users = self.config.vms().iter().filter(|vm| {
            Resolver::new(self.config, vm, &choices).images().iter().any(|used| used.name == image)
        });
        users
            .map(|vm| Paths::new(self.config.vm_dir(&vm.name)).known_hosts)
            .try_for_each(|known_hosts| files::remove(&known_hosts))
    }
}
