//! TRUSTED CORE: creates, overwrites and deletes files: those in a VM's directory, and what a user
//! asked to have written ([`create`]).
//!
//! A VM's directory is ours alone: sockets in it give full control of the VM.

use crate::error::Error;
use crate::linux;
use crate::programs;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

/// Only the owner may enter.
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// As much as most of what is read has.
const READ_BYTES: usize = 4096;
/// The files that are replaced by [`write_private`], and the picture that QEMU writes.
const WRITTEN: &[&str] = &[
    "copy-method",
    "events.in",
    "image.json",
    "instance.json",
    "screenshot",
    "snapshot.json",
    "ssh.conf",
    "ssh.said",
    "ssh.seats",
];

/// Makes `dir` and what is missing above it, 0700, and verifies that it is a directory of this
/// user that nobody else may enter. No link of another user leads to it.
pub(crate) fn private_dir(dir: &Path) -> Result<(), Error> {
    check_links(dir)?;
    let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(dir);
    made.map_err(|error| no_dir("create", dir, &error))?;
    let metadata = fs::symlink_metadata(dir).map_err(|error| Error::io("read", dir, &error))?;
    let shown = dir.display();
    if !metadata.is_dir() {
        let error = Error::failed(format!("`{shown}` is a symbolic link, not a directory"));
        return Err(error.hint("remove it: a VM's directory must be the one that its path names"));
    }
    let user = user_id()?;
    if metadata.uid() != user {
        let owner = metadata.uid();
        return Err(Error::failed(format!("`{shown}` belongs to user {owner}, not to {user}"))
            .hint(whose(dir, owner, user)));
    }
    if metadata.mode() & 0o077 != 0 {
        restrict(dir, &metadata).map_err(|error| Error::io("restrict", dir, &error))?;
    }
    Ok(())
}

/// Gives the directory that was looked at the mode 0700, and no other that has its name by now.
fn restrict(dir: &Path, looked_at: &fs::Metadata) -> io::Result<()> {
    let opened = File::open(dir)?;
    let metadata = opened.metadata()?;
    if (metadata.dev(), metadata.ino()) != (looked_at.dev(), looked_at.ino()) {
        return Err(io::Error::other("somebody replaced it"));
    }
    opened.set_permissions(Permissions::from_mode(PRIVATE_DIR))
}

/// A directory of this user for what only this user may change. It is made 0700 if it is missing; a
/// link to one keeps leading there, and the mode of that one is the user's choice. Gives its real
/// path.
pub(crate) fn own_dir(dir: &Path) -> Result<PathBuf, Error> {
    check_links(dir)?;
    if !fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_symlink()) {
        private_dir(dir)?;
        return dir.canonicalize().map_err(|error| Error::io("read", dir, &error));
    }
    let real = dir.canonicalize().map_err(|error| {
        let error = Error::io("follow", dir, &error);
        error.hint("it is a symbolic link: make the directory that it names, or remove the link")
    })?;
    let metadata = real.metadata().map_err(|error| Error::io("read", &real, &error))?;
    let (user, shown) = (user_id()?, real.display());
    let what = match metadata.uid() {
        owner if owner != user => format!("belongs to user {owner}, not to {user}"),
        _ if metadata.mode() & 0o022 != 0 => "can be written by other users".into(),
        _ => return Ok(real),
    };
    let error = Error::failed(format!("`{shown}` {what}"));
    Err(error.hint(format!("`{}` leads there; use a directory of your own", dir.display())))
}

/// An error if a link of another user is on the way to `path`, or is there itself: that user would
/// choose which directory is made or changed. Links of the system are trusted: their owner has `/`.
fn check_links(path: &Path) -> Result<(), Error> {
    let system = fs::metadata("/").map_or(0, |root| root.uid());
    let way = path.ancestors().filter(|way| !way.as_os_str().is_empty());
    for way in way {
        let Ok(metadata) = fs::symlink_metadata(way) else { continue };
        let owner = metadata.uid();
        if metadata.is_symlink() && owner != system && owner != user_id()? {
            let message = format!("`{}` is a symbolic link of user {owner}", way.display());
            return Err(Error::failed(message).hint("remove it, or use a directory of your own"));
        }
    }
    Ok(())
}

/// The error of a directory that cannot be made or entered, with what helps against the cause.
fn no_dir(verb: &str, dir: &Path, error: &io::Error) -> Error {
    let failed = Error::io(verb, dir, error);
    let elsewhere = "QQMGR_RUNTIME_DIR names another directory for the files of all VMs";
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => failed.hint(elsewhere),
        io::ErrorKind::PermissionDenied => match (owned(dir), user_id()) {
            (Some((above, owner)), Ok(user)) if owner != user && is_runtime(above) => {
                failed.hint(whose(above, owner, user))
            }
            _ => failed.hint(elsewhere),
        },
        _ => failed,
    }
}

/// The nearest directory from here upwards that can be looked at, and its owner.
fn owned(dir: &Path) -> Option<(&Path, u32)> {
    dir.ancestors().find_map(|dir| Some((dir, fs::symlink_metadata(dir).ok()?.uid())))
}

/// Whether it is a directory of a VM or an image, or a `.qqmgr` with these.
fn is_runtime(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().as_bytes();
    name.ends_with(b".qqmgr") || name.starts_with(b"vm.") || name.starts_with(b"img.")
}

/// What helps when a directory of ours is another user's: `sudo qqmgr` makes root's.
fn whose(dir: &Path, owner: u32, user: u32) -> String {
    let shown = dir.display();
    if owner == 0 {
        format!("it is root's, as after a `sudo`: `sudo chown -R {user} '{shown}'` makes it yours")
    } else {
        "who owns the directory controls the VM; use a directory of your own".into()
    }
}

/// An error unless the directory can be entered, or is not there. What cannot be looked at must
/// not be taken for what is not there.
pub(crate) fn check_access(dir: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(dir.join(".")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(no_dir("enter", dir, &error))
        }
        _ => Ok(()),
    }
}

/// The effective user, which owns what this process creates.
pub(crate) fn user_id() -> Result<u32, Error> {
    if let Some(user) = linux::user_id() {
        return Ok(user);
    }
    let mut id = programs::ID.command();
    let output = id.arg("-u").output().map_err(|error| programs::cannot_run(&id, &error))?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().map_err(|_| Error::failed("cannot tell the user: `id -u` gives no number"))
}

/// Makes `link` a symbolic link to `target`; one that already leads elsewhere is an error.
pub(crate) fn symlink(target: &Path, link: &Path) -> Result<(), Error> {
    match std::os::unix::fs::symlink(target, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::read_link(link).map_err(|error| Error::io("read", link, &error))?;
            if there == target {
                return Ok(());
            }
            let message = format!("`{}` leads to `{}`", link.display(), there.display());
            Err(Error::failed(message).hint("remove it"))
        }
        other => other.map_err(|error| Error::io("create", link, &error)),
    }
}

/// The directory that an environment variable names. A relative or empty path would mean another
/// directory in each working directory, so it counts as not set, as the XDG specification wants it.
pub(crate) fn directory_in(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The user's home directory, by `HOME`.
pub(crate) fn home() -> Option<PathBuf> {
    directory_in("HOME")
}

/// Whether no shell, ssh configuration or option list would read the path as anything else.
pub(crate) fn is_plain(path: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    path.as_os_str().as_bytes().iter().all(plain)
}

/// Replaces a file, 0600, so that a reader sees all of the old or all of the new content. A file
/// that already has the content is left alone.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    let old = read_start(path, content.len() as u64 + 1);
    if old.is_ok_and(|old| old == content.as_bytes()) {
        return Ok(());
    }
    let temporary = temporary(path);
    let written = create_private(&temporary)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &error)
    })
}

/// A new file, 0600, in place of one that is there, with what is not text.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let written = create_private(path).and_then(|mut file| file.write_all(content));
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        Error::io("write", path, &error)
    })
}

/// Gives a file that is finished its name, in place of one that is there: on the disk, too.
pub(crate) fn put_in_place(finished: &Path, path: &Path) -> Result<(), Error> {
    let synced = File::open(finished).and_then(|file| file.sync_all());
    synced
        .and_then(|()| fs::rename(finished, path))
        .map_err(|error| Error::io("write", path, &error))
}

/// Removes what a [`write_private`] left that was killed. What cannot be removed does no harm.
pub(crate) fn remove_unfinished(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_pid = |text: &OsStr| {
            text.to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        // Only names that are made here: `instance.json.1234`, and not a user's `core.1234`.
        let of_ours = path.file_stem().is_some_and(|name| WRITTEN.iter().any(|ours| name == *ours));
        if of_ours && path.extension().is_some_and(is_pid) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a new file for the user, with the mode that new files have; one that is there is an
/// error.
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content).inspect_err(|_| {
        // Half a file is worse than none.
        let _ = fs::remove_file(path);
    })
}

/// A name beside the file that no other process uses.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

/// A new, empty file, 0600, in place of one that is there.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)
}

/// Opens the file for [`File::lock`], made if it is missing, content kept. Anything else in its
/// place is an error: a dangling link would be made into a file elsewhere, or never be.
/// On a file system that has become read-only it is opened for reading, which is enough for a lock.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    check_regular(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    or_for_reading(options.open(path), path)
}

/// An error if there is something that is no regular file.
fn check_regular(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => metadata.file_type(),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(()),
    };
    let what = if kind.is_symlink() {
        "it is a symbolic link"
    } else if kind.is_dir() {
        "it is a directory"
    } else {
        "it is no regular file"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}; remove it")))
}

/// Opens a lock that is there.
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    check_regular(path)?;
    or_for_reading(OpenOptions::new().read(true).write(true).open(path), path)
}

fn or_for_reading(opened: io::Result<File>, path: &Path) -> io::Result<File> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
        opened => opened,
    }
}

/// Whether it is a regular file, no link to one, and not empty.
pub(crate) fn has_content(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}

/// Gives a file another name, in place of one that has it.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| Error::io("rename", from, &error))
}

/// The names in a directory that are UTF-8, as all that are made here are.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Takes its content from a regular file, if there is one.
pub(crate) fn empty(path: &Path) -> Result<(), Error> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    let emptied = OpenOptions::new().write(true).truncate(true).open(path);
    emptied.map(|_| ()).map_err(|error| Error::io("empty", path, &error))
}

/// Removes a file; that it is gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        // A file system that is read-only says so of a file that is not there, too.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && is_missing(path) => {
            Ok(())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Whether there is nothing at the path, which is proven.
pub(crate) fn is_missing(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Removes a directory if it is empty, and then its parent if that is a runtime directory, whose
/// name ends in `.qqmgr`, and is empty.
pub(crate) fn remove_empty_dir(dir: &Path) {
    let is_runtime = |name: &OsStr| name.as_bytes().ends_with(b".qqmgr");
    let parent = dir.parent().filter(|parent| parent.file_name().is_some_and(is_runtime));
    if fs::remove_dir(dir).is_ok()
        && let Some(parent) = parent
    {
        let _ = fs::remove_dir(parent);
    }
}

/// Whether the open file is the one that the path leads to.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// The last `limit` bytes of a file.
pub(crate) fn read_end(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    end_of(&mut File::open(path)?, limit)
}

/// The same of an open file.
pub(crate) fn end_of(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first `limit` bytes of a regular file. A FIFO or device in its place must not be read: the
/// read might never end.
pub(crate) fn read_start(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first `limit` bytes of a regular file; `None` when there is no such file. One that cannot
/// be read is an error: what it would have said is not known then.
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    match read_start(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if [InvalidInput, NotADirectory, NotFound].contains(&error.kind()) => Ok(None),
        Err(error) => Err(Error::io("read", path, &error)),
    }
}
