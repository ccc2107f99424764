//! Receives files from a guest in a fresh directory, and moves them to where the user wants them.
//!
//! A guest decides what arrives, and may be hostile. So only this user may enter the fresh
//! directory of a source, and only regular files and directories leave it, by renames. No symbolic
//! link below the destination is followed: a directory is opened, compared with the one that was
//! looked at, and from then on reached through the open descriptor.

use super::temporary::{FreshDir, PRIVATE_FILE, replace};
use crate::destination::{Destination, Place, check_is_of_file};
use crate::error::Error;
use crate::left_out::LeftOut;
use crate::linux;
use crate::log::Log;
use crate::reading::{id, kind};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The start of the names of fresh directories.
const NAME: &str = ".qqmgr.part";
/// The subdirectory in which the source arrives. It keeps a name like `..` inside the fresh one.
const INBOX: &str = "in";
/// The permissions that are kept: no set-user-ID, set-group-ID and sticky bits.
const PERMISSIONS: u32 = 0o777;
/// The permissions that this user needs to list, empty and move a directory.
const OWNER: u32 = 0o700;

/// One source that is being copied.
pub(crate) struct Arrival {
    dir: FreshDir,
    /// Directories in the inbox that even their owner cannot enter, with these permissions.
    modes: Vec<(PathBuf, u32)>,
    left: Vec<LeftOut>,
}

impl Arrival {
    /// Makes a fresh directory on the file system of the destination: beside it, or else inside.
    pub(crate) fn new(to: &Destination, log: &Log) -> Result<Self, Error> {
        let failed = |error| Error::io("write", &to.named, &error);
        let fresh_dir = |parent: &Path| FreshDir::new(parent, NAME, log).map_err(failed);
        let dir = match &to.place {
            Place::To(_) => FreshDir::in_temp(NAME, log),
            Place::As(path) => fresh_dir(path.parent().unwrap_or(path)),
            Place::Into(dir) => {
                let device = |path: &Path| path.metadata().map(|found| found.dev());
                let beside = dir.parent().filter(
                    |parent| matches!((device(parent), device(dir)), (Ok(a), Ok(b)) if a == b),
                );
                match beside.map(fresh_dir) {
                    Some(Ok(made)) => Ok(made),
                    _ => fresh_dir(dir),
                }
            }
        };
        let arrival = Self { dir: dir?, modes: Vec::new(), left: Vec::new() };
        DirBuilder::new().mode(OWNER).create(arrival.inbox()).map_err(failed)?;
        Ok(arrival)
    }

    /// The directory that the source is written to.
    pub(crate) fn inbox(&self) -> PathBuf {
        self.dir.path.join(INBOX)
    }

    /// Moves everything that has arrived to the destination, and gives what was left out. If the
    /// destination is a directory, the directory `whole` is not moved itself; only its content is.
    pub(crate) fn deliver(
        mut self,
        to: &Destination,
        whole: Option<&OsStr>,
    ) -> Result<Vec<LeftOut>, Error> {
        let inbox = self.inbox();
        self.clean(&inbox).map_err(|error| Error::io("read", &to.named, &error))?;
        let names = names(&inbox).map_err(|error| Error::io("read", &inbox, &error))?;
        to.check_takes(names.len())?;
        let failed = |error| Error::io("write", &to.named, &error);
        for name in &names {
            let (from, inside) = (inbox.join(name), Path::new(name));
            match &to.place {
                Place::Into(path) => {
                    let dir = Dir::open(path).map_err(failed)?;
                    if whole == Some(name) && from.is_dir() {
                        self.merge(&from, &dir, &to.named, inside)?;
                    } else {
                        self.place(&from, &dir, name, (&to.named.join(name), inside))?;
                    }
                }
                Place::As(path) => {
                    let (Some(parent), Some(new)) = (path.parent(), path.file_name()) else {
                        return Err(failed(ErrorKind::IsADirectory.into()));
                    };
                    if !from.is_dir() {
                        check_is_of_file(&to.named)?;
                    }
                    let dir = Dir::open(parent).map_err(failed)?;
                    self.place(&from, &dir, new, (&to.named, inside))?;
                }
                Place::To(path) => {
                    let written = File::open(&from).and_then(|mut from| {
                        io::copy(&mut from, &mut OpenOptions::new().write(true).open(path)?)
                    });
                    written.map_err(failed)?;
                }
            }
        }
        Ok(self.left)
    }

    /// Leaves only regular files and directories in the inbox, with permissions that allow a move
    /// and without the bits that grant rights. A file that also has a name elsewhere is removed.
    fn clean(&mut self, inbox: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        self.look(inbox, Path::new(""), &mut files)?;
        let mut names = HashMap::new();
        for (_, found) in &files {
            *names.entry(id(found)).or_insert(0) += 1;
        }
        for (name, found) in files {
            let path = inbox.join(&name);
            if names.get(&id(&found)).is_none_or(|count| *count < found.nlink()) {
                fs::remove_file(path)?;
                self.left.push(LeftOut::new(name, "a hard link to a file that did not come"));
            } else if found.mode() & 0o7000 != 0 {
                fs::set_permissions(path, Permissions::from_mode(found.mode() & PERMISSIONS))?;
            }
        }
        Ok(())
    }

    fn look(
        &mut self,
        dir: &Path,
        inside: &Path,
        files: &mut Vec<(PathBuf, Metadata)>,
    ) -> io::Result<()> {
        for name in names(dir)? {
            let (path, inside) = (dir.join(&name), inside.join(&name));
            let found = fs::symlink_metadata(&path)?;
            let mode = found.mode() & PERMISSIONS;
            if found.is_file() {
                files.push((inside, found));
            } else if found.is_dir() {
                if mode & OWNER != OWNER {
                    self.modes.push((inside.clone(), mode));
                }
                if mode & OWNER != OWNER || mode != found.mode() & 0o7777 {
                    fs::set_permissions(&path, Permissions::from_mode(mode | OWNER))?;
                }
                self.look(&path, &inside, files)?;
            } else {
                fs::remove_file(&path)?;
                self.left.push(LeftOut::new(inside, kind(found.file_type())));
            }
        }
        Ok(())
    }

    /// Moves what is at `from` to `name` in `dir`: `shown` in messages, and `inside` in the inbox.
    fn place(
        &mut self,
        from: &Path,
        dir: &Dir,
        name: &OsStr,
        (shown, inside): (&Path, &Path),
    ) -> Result<(), Error> {
        let failed = |error| Error::io("write", shown, &error);
        let arrived = fs::symlink_metadata(from).map_err(failed)?;
        let to = dir.path.join(name);
        let there = match fs::symlink_metadata(&to) {
            Ok(found) => Some(found.file_type()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        match there {
            Some(there) if there.is_dir() && arrived.is_dir() => {
                return self.merge(from, &dir.enter(name).map_err(failed)?, shown, inside);
            }
            // A rename replaces a link by the file and does not follow it.
            Some(there) if arrived.is_dir() || !(there.is_file() || there.is_symlink()) => {
                let why = format!("{} is in its place", kind(there));
                self.left.push(LeftOut::new(inside.to_path_buf(), why));
                return Ok(());
            }
            _ => {}
        }
        match fs::rename(from, &to) {
            Err(error) if error.kind() == ErrorKind::CrossesDevices && arrived.is_dir() => {
                fs::create_dir(&to).map_err(failed)?;
                let made = dir.enter(name).map_err(failed)?;
                self.merge(from, &made, shown, inside)?;
                let kept = self.modes.iter().find(|(path, _)| path == inside);
                let mode = kept.map_or(arrived.mode() & PERMISSIONS, |(_, mode)| *mode);
                made.set_mode(mode).map_err(failed)
            }
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                copy(from, dir, name, arrived.mode() & PERMISSIONS).map_err(failed)
            }
            Err(error) => Err(failed(error)),
            Ok(()) if arrived.is_dir() => self.restore(dir, name, inside).map_err(failed),
            Ok(()) => Ok(()),
        }
    }

    /// Moves the content of a directory into another one.
    fn merge(&mut self, from: &Path, dir: &Dir, shown: &Path, inside: &Path) -> Result<(), Error> {
        for name in names(from).map_err(|error| Error::io("read", from, &error))? {
            let (shown, inside) = (shown.join(&name), inside.join(&name));
            self.place(&from.join(&name), dir, &name, (&shown, &inside))?;
        }
        Ok(())
    }

    /// Gives a directory that was moved, and those below it, the permissions they arrived with.
    fn restore(&self, dir: &Dir, name: &OsStr, inside: &Path) -> io::Result<()> {
        // The outermost comes last, because its permissions may make the inner ones unreachable.
        for (path, mode) in self.modes.iter().rev() {
            let Ok(below) = path.strip_prefix(inside) else { continue };
            let moved = below.iter().try_fold(dir.enter(name)?, |dir, name| dir.enter(name))?;
            moved.set_mode(*mode)?;
        }
        Ok(())
    }
}

/// An open directory, verified to be the one that was looked at.
struct Dir {
    opened: File,
    /// The path to the directory. Where the system allows it, this goes through the open
    /// descriptor, so that replacing its name has no effect.
    path: PathBuf,
}

impl Dir {
    fn open(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        // With the dot, only a directory can be opened; opening a FIFO would block.
        let opened = File::open(path.join("."))?;
        if !found.is_dir() || id(&found) != id(&opened.metadata()?) {
            return Err(io::Error::other("something else was put in its place"));
        }
        let path = linux::way_to(&opened).unwrap_or_else(|| path.to_path_buf());
        Ok(Self { opened, path })
    }

    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        Self::open(&self.path.join(name))
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.opened.set_permissions(Permissions::from_mode(mode))
    }
}

/// Copies a file to another file system.
fn copy(from: &Path, dir: &Dir, name: &OsStr, mode: u32) -> io::Result<()> {
    let new = dir.path.join(format!("{NAME}.{}", std::process::id()));
    let mut from = File::open(from)?;
    replace((&new, &dir.path.join(name)), (PRIVATE_FILE, Some(mode)), |file| {
        io::copy(&mut from, file).map(|_| ())
    })
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
