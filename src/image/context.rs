//! The context of the functions that make images.

use super::hold::{Exceeded, For, Held, hold};
use super::record::Record;
use super::tools::{self, Said};
use crate::config::image::ImagePaths;
use crate::config::{Config, declared};
use crate::error::Error;
use crate::log::Log;
use crate::system::files;
use crate::system::programs;
use crate::system::run::Invocation;
use std::path::PathBuf;
use std::time::Duration;

/// The configuration whose images are made, and the limits for that.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    /// How long a server may send nothing before the fetch is given up.
    pub(crate) patience: Duration,
    pub(crate) exceeded: Exceeded<'a>,
    pub(crate) log: &'a Log,
}

impl Context<'_> {
    /// Locks the files of an image.
    pub(super) fn lock(&self, name: &str, paths: &ImagePaths, how: For) -> Result<Held, Error> {
        let make_dir = || files::private_dir(&paths.dir);
        let what = format!("image `{name}`");
        let held = hold(&paths.lock, &make_dir, how, &what, self.exceeded, self.log)?;
        Record::check(paths).map(|()| held)
    }

    /// Runs qemu-img; `arguments` adds its words.
    pub(super) fn qemu_img(
        &self,
        held: Option<&Held>,
        arguments: impl FnOnce(&mut Invocation),
    ) -> Result<Said, Error> {
        let mut command = programs::configured(qemu_img(self.config)?);
        arguments(&mut command);
        self.run(command, held)
    }

    /// Runs a program, which keeps the lock for as long as it lives.
    pub(super) fn run(&self, command: Invocation, held: Option<&Held>) -> Result<Said, Error> {
        tools::run(command, held, &mut || (self.exceeded)(), self.log)
    }
}

/// The program that makes images, as the configuration names it.
pub(crate) fn qemu_img(config: &Config) -> Result<PathBuf, Error> {
    let img = declared::qemu_img(config)?;
    programs::locate(&img, config.dir()).ok_or_else(|| {
        let hint = "install it (Debian: qemu-utils), or set `img` in `[qemu]` to where it is";
        programs::missing(&img, config.dir(), hint)
    })
}
