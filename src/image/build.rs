//! Makes images, discards what was written to them, and removes them.
//!
//! Everything is made under a temporary name, in the image's directory and under its lock, and gets
//! its own name when it is complete. The disk comes last, so that a killed build leaves only work
//! to do.

use super::base::{Base, qemu_img};
use super::fetch::Wanted;
use super::hold::{Exceeded, For, Held, hold};
use super::record::Record;
use super::seed::{self, Content};
use super::{DISK, KEY, PUBLIC_KEY, SEED, look, tools};
use crate::config::Config;
use crate::config::declared::{Declared, DeclaredBase, Location};
use crate::config::image::ImagePaths;
use crate::error::Error;
use crate::log::Log;
use crate::source::{Problem, Span};
use crate::system::files;
use crate::system::programs;
use crate::system::short_way;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The ending of an unfinished file's name.
const UNFINISHED: &str = ".new";
/// The name of the public key that is made with an unfinished private key.
const NEW_PUBLIC_KEY: &str = "id_ed25519.new.pub";
/// Space for an empty disk's tables, a seed and the rest: far more than they take.
const SPACE_BYTES: u64 = 2 * 1024 * 1024;

/// Makes the images of a configuration.
pub(crate) struct Maker<'a> {
    pub(crate) config: &'a Config,
    /// How long a server may send nothing before the fetch is given up.
    pub(crate) patience: Duration,
    pub(crate) exceeded: Exceeded<'a>,
    pub(crate) log: &'a Log,
}

impl Maker<'_> {
    /// Makes what is missing of an image, and grows one that is to be larger; nothing that was
    /// written to it is lost. Returns whether there was anything to do.
    pub(crate) fn build(&self, declared: &Declared) -> Result<bool, Error> {
        let made = self.complete(declared)?;
        let paths = self.config.image_paths(&declared.name)?;
        if !look(self.config, declared, &paths).grows() {
            return Ok(made);
        }
        let held = self.change(&declared.name, &paths)?;
        self.grow(declared, &paths, &held)?;
        Ok(true)
    }

    /// Makes what is missing. Returns whether anything was.
    fn complete(&self, declared: &Declared) -> Result<bool, Error> {
        let paths = self.config.image_paths(&declared.name)?;
        if look(self.config, declared, &paths).is_ready() {
            return Ok(false);
        }
        let held = self.change(&declared.name, &paths)?;
        // Another command may have been faster.
        let found = look(self.config, declared, &paths);
        if found.is_ready() {
            return Ok(false);
        }
        let is_new = found.missing.contains(&DISK);
        if is_new {
            self.check_space(&paths.dir, SPACE_BYTES, "an image")?;
        } else {
            self.keep_base(declared, &found, &paths, &held)?;
        }
        let base = declared.base.as_ref().filter(|_| is_new);
        let base = base.map(|base| self.base(declared, base, &held)).transpose()?;
        let content = self.content(declared, &paths, is_new, &held)?;
        if is_new {
            self.make_disk(declared, &paths, base.as_ref(), content.as_ref(), &held)?;
        } else if found.missing.contains(&SEED) {
            put_seed(&paths, content.as_ref())?;
        }
        Ok(true)
    }

    /// Completes the image and locks it, so that no other command changes it while the lock is
    /// held. Also returns whether anything had to be made.
    pub(crate) fn use_image(&self, declared: &Declared) -> Result<(Held, bool), Error> {
        let paths = self.config.image_paths(&declared.name)?;
        let mut made = false;
        loop {
            made |= self.complete(declared)?;
            let held = self.lock(&declared.name, &paths, For::Use)?;
            if look(self.config, declared, &paths).is_whole() {
                reachable(&paths)?;
                return Ok((held, made));
            }
        }
    }

    /// Makes the disk, and what belongs to it, as declared now. An existing disk is replaced.
    pub(crate) fn reset(&self, declared: &Declared) -> Result<(), Error> {
        let paths = self.config.image_paths(&declared.name)?;
        let held = self.change(&declared.name, &paths)?;
        self.check_unused(&declared.name, &paths.disk, &held)?;
        self.check_space(&paths.dir, SPACE_BYTES, "an image")?;
        let base = declared.base.as_ref().map(|base| self.base(declared, base, &held));
        let base = base.transpose()?;
        let content = self.content(declared, &paths, true, &held)?;
        self.make_disk(declared, &paths, base.as_ref(), content.as_ref(), &held)
    }

    /// Removes the image's directory, with its key pair. A fetched base stays. Returns whether
    /// there was a directory.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, Error> {
        let paths = self.config.image_paths(name)?;
        if !paths.dir.exists() {
            return Ok(false);
        }
        let held = self.change(name, &paths)?;
        self.check_unused(name, &paths.disk, &held)?;
        // The disk first: without it there is no image.
        let own = [DISK, "image.json", SEED, KEY, PUBLIC_KEY, "lock"];
        own.iter().try_for_each(|file| files::remove(&paths.dir.join(file)))?;
        if !files::is_plain(&paths.dir) {
            files::remove(&short_way::short_link(&paths.dir)?)?;
        }
        files::remove_empty_dir(&paths.dir);
        self.forget_guests(name)?;
        Ok(true)
    }

    /// Takes the lock for a change, and removes what a killed command left.
    fn change(&self, name: &str, paths: &ImagePaths) -> Result<Held, Error> {
        let held = self.lock(name, paths, For::Change)?;
        reachable(paths)?;
        files::remove_unfinished(&paths.dir);
        for file in [DISK, SEED, KEY, PUBLIC_KEY] {
            files::remove(&unfinished(&paths.dir.join(file)))?;
        }
        files::remove(&paths.dir.join(NEW_PUBLIC_KEY))?;
        Ok(held)
    }

    fn lock(&self, name: &str, paths: &ImagePaths, how: For) -> Result<Held, Error> {
        let make_dir = || files::private_dir(&paths.dir);
        let what = format!("image `{name}`");
        let held = hold(&paths.lock, &make_dir, how, &what, self.exceeded, self.log)?;
        Record::check(paths).map(|()| held)
    }

    /// The base, fetched if necessary, verified and examined.
    pub(super) fn base(
        &self,
        declared: &Declared,
        base: &DeclaredBase,
        held: &Held,
    ) -> Result<Base, Error> {
        let at_base = |error: Error| self.config.problem(error.at(base.span));
        let base_location = &base.location;
        let file = match base_location {
            Location::Url(url) => self.fetch(&Wanted { url, sha256: base.sha256.as_deref() })?.file,
            Location::File(file) => {
                check_is_there(self.config, file).map_err(at_base)?;
                if let Some(sha256) = &base.sha256 {
                    self.verify(file, sha256).map_err(at_base)?;
                }
                file.clone()
            }
        };
        let base = match base_location {
            Location::Url(url) => self.examine_fetched(&file, url, Some(held)),
            Location::File(_) => self.examine(&file, Some(held)),
        };
        let base = base.map_err(at_base)?;
        if let Some((size, span)) = declared.size.filter(|(size, _)| *size < base.virtual_bytes) {
            let message = format!(
                "image `{}` would be smaller than its base, which has {} bytes, not {size}",
                declared.name, base.virtual_bytes
            );
            let problem = Problem::new(span, message);
            return Err(self.config.problem(problem.hint("an image can be grown, not shrunk")));
        }
        Ok(base)
    }

    /// Grows the disk. QEMU's resize only adds to the image's tables, and is complete when the
    /// header is.
    fn grow(&self, declared: &Declared, paths: &ImagePaths, held: &Held) -> Result<(), Error> {
        let (Some((size, _)), Some(record)) = (declared.size, Record::read(paths)) else {
            return Ok(());
        };
        self.check_unused(&declared.name, &paths.disk, held)?;
        let mut command = self.qemu_img()?;
        command.args(["resize", "-q", "-f", "qcow2"]);
        command.arg(paths.dir.join(DISK)).arg(size.to_string());
        let said = self.run_qemu_img(command, Some(held))?;
        if !said.status.success() {
            let message = format!("cannot grow image `{}`: {}", declared.name, said.reason());
            return Err(Error::failed(message));
        }
        Record { size: Some(size), ..record }.write(paths)
    }

    /// The data for cloud-init. The key pair is made with the disk: the guest of an existing disk
    /// knows the pair that it had at first.
    fn content(
        &self,
        declared: &Declared,
        paths: &ImagePaths,
        is_new: bool,
        held: &Held,
    ) -> Result<Option<Content>, Error> {
        let Some(seed) = &declared.seed else { return Ok(None) };
        if declared.has_own_key() {
            match (paths.key.is_file(), paths.public_key().is_file()) {
                (true, true) => {}
                (true, false) => self.derive_public_key(&declared.name, paths, held)?,
                (false, _) if is_new => self.make_keys(&declared.name, paths, held)?,
                (false, _) => return Err(lost_key(&declared.name, paths)),
            }
        }
        seed::content(self.config, &declared.name, seed, paths).map(Some)
    }

    /// Writes the public key again, from the private one.
    fn derive_public_key(&self, name: &str, paths: &ImagePaths, held: &Held) -> Result<(), Error> {
        let mut command = programs::SSH_KEYGEN.command();
        // The passphrase is empty, so that ssh-keygen does not ask for one.
        command.args(["-y", "-P", "", "-f"]).arg(&paths.key);
        let said = tools::run(command, Some(held), &mut || (self.exceeded)(), self.log)?;
        let key = String::from_utf8_lossy(&said.stdout);
        if !said.status.success() || !key.starts_with("ssh-") {
            let key = paths.key.display();
            let message = format!("cannot read the private key `{key}`: {}", said.reason());
            return Err(Error::failed(message).hint(key_hint(name)));
        }
        let key = key.trim();
        // Old versions of ssh-keygen leave the comment out.
        let has_comment = key.split(' ').count() > 2;
        let comment = if has_comment { String::new() } else { format!(" {}", key_comment(name)) };
        let new = paths.dir.join(NEW_PUBLIC_KEY);
        files::write_new(&new, format!("{key}{comment}\n").as_bytes())?;
        files::put_in_place(&new, &paths.public_key())
    }

    /// Makes the key pair. The private key gets its name last.
    fn make_keys(&self, name: &str, paths: &ImagePaths, held: &Held) -> Result<(), Error> {
        files::remove(&paths.key)?;
        let new = unfinished(&paths.key);
        let mut command = programs::SSH_KEYGEN.command();
        let comment = key_comment(name);
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"]).arg(&new);
        let said = tools::run(command, Some(held), &mut || (self.exceeded)(), self.log)?;
        if !said.status.success() {
            return Err(Error::failed(format!("cannot make a key pair: {}", said.reason())));
        }
        files::put_in_place(&paths.dir.join(NEW_PUBLIC_KEY), &paths.public_key())?;
        files::put_in_place(&new, &paths.key)
    }

    /// Makes the disk. The old one is removed when the new one is complete, and before any other
    /// file describes the new one.
    fn make_disk(
        &self,
        declared: &Declared,
        paths: &ImagePaths,
        base: Option<&Base>,
        content: Option<&Content>,
        held: &Held,
    ) -> Result<(), Error> {
        let (disk, new) = (paths.dir.join(DISK), unfinished(&paths.dir.join(DISK)));
        let made = self.create(declared, base, &new, held);
        let placed = made.and_then(|()| {
            files::remove(&disk)?;
            put_seed(paths, content)?;
            let record = Record::of(self.config, declared, paths);
            let backing = base.map(|base| base.file.clone());
            Record { backing, ..record }.write(paths)?;
            self.forget_guests(&declared.name)?;
            files::put_in_place(&new, &disk)
        });
        if placed.is_err() {
            let _ = files::remove(&new);
        }
        placed
    }

    fn create(
        &self,
        declared: &Declared,
        base: Option<&Base>,
        new: &Path,
        held: &Held,
    ) -> Result<(), Error> {
        let mut command = self.qemu_img()?;
        command.args(["create", "-q", "-f", "qcow2"]);
        if let Some(base) = base {
            command.args(["-F", base.format, "-b"]).arg(&base.file);
        }
        command.arg(new);
        if let Some((size, _)) = declared.size {
            command.arg(size.to_string());
        }
        let said = self.run_qemu_img(command, Some(held))?;
        if said.status.success() {
            return Ok(());
        }
        let message = format!("cannot make image `{}`: {}", declared.name, said.reason());
        Err(Error::failed(message))
    }
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

fn check_is_there(config: &Config, file: &Path) -> Result<(), Error> {
    match file.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let error = Error::failed(format!("there is no file `{}`", file.display()));
            Err(error.hint(format!("relative paths start from `{}`", config.dir().display())))
        }
        _ => Ok(()),
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

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

fn key_comment(name: &str) -> String {
    format!("qqmgr-{name}")
}

/// The error about a disk whose guest has the public key of a private key that is gone.
fn lost_key(name: &str, paths: &ImagePaths) -> Error {
    let key = paths.key.display();
    let message = format!("the private key of image `{name}` is gone: `{key}`");
    Error::failed(message).hint(key_hint(name))
}

fn key_hint(name: &str) -> String {
    format!(
        "put the key back; or log in on `qqmgr console` and allow another key; or `qqmgr img reset \
         {name}` makes a new disk and key pair, without what was written"
    )
}
