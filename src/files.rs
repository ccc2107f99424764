//! TRUSTED CORE: creates, overwrites and deletes files in a VM's directory, and writes new files
//! for the user ([`create`]).
//!
//! Only this user may enter a VM's directory, because its sockets give full control of the VM.

use crate::error::Error;
use crate::linux;
use crate::system::programs;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The mode of a directory that only its owner may enter.
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// The initial size of the read buffer, enough for most files that are read here.
const READ_BYTES: usize = 4096;
/// The names of files that [`write_private`] replaces, and of the picture that QEMU writes.
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

/// Makes `dir` and its missing parents, 0700, and verifies that it is a directory of this user that
/// no other user may enter and that is not reached through a link of another user.
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

/// Gives the directory that was looked at the mode 0700. It is an error if another one has its name
/// by now.
fn restrict(dir: &Path, looked_at: &fs::Metadata) -> io::Result<()> {
    let opened = File::open(dir)?;
    let metadata = opened.metadata()?;
    if (metadata.dev(), metadata.ino()) != (looked_at.dev(), looked_at.ino()) {
        return Err(io::Error::other("somebody replaced it"));
    }
    opened.set_permissions(Permissions::from_mode(PRIVATE_DIR))
}

/// Finds or makes a directory whose content only this user may change, and gives its real path. A
/// missing directory is made 0700. A link to a directory is followed and kept, and the mode of its
/// target is the user's choice.
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

/// Fails if a link of another user is part of `path` or at its end: that user would choose which
/// directory is made or changed. Links of the system's user are trusted, because that user owns
/// `/`.
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

/// The error for a directory that cannot be made or entered, with a hint that fits the cause.
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

/// The nearest directory from `dir` upwards that can be looked at, and its owner.
fn owned(dir: &Path) -> Option<(&Path, u32)> {
    dir.ancestors().find_map(|dir| Some((dir, fs::symlink_metadata(dir).ok()?.uid())))
}

/// Whether `dir` is the directory of a VM or an image, or a `.qqmgr` that contains these.
fn is_runtime(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().as_bytes();
    name.ends_with(b".qqmgr") || name.starts_with(b"vm.") || name.starts_with(b"img.")
}

/// The hint for a directory of qqmgr that belongs to another user. `sudo qqmgr` makes root's.
fn whose(dir: &Path, owner: u32, user: u32) -> String {
    let shown = dir.display();
    if owner == 0 {
        format!("it is root's, as after a `sudo`: `sudo chown -R {user} '{shown}'` makes it yours")
    } else {
        "who owns the directory controls the VM; use a directory of your own".into()
    }
}

/// Fails if the directory exists and cannot be entered, so that a directory that cannot be looked
/// at is not treated as missing.
pub(crate) fn check_access(dir: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(dir.join(".")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(no_dir("enter", dir, &error))
        }
        _ => Ok(()),
    }
}

/// The effective user of this process, who owns the files that it creates.
pub(crate) fn user_id() -> Result<u32, Error> {
    if let Some(user) = linux::user_id() {
        return Ok(user);
    }
    let mut id = programs::ID.command();
    id.arg("-u").stdin(Stdio::null());
    let output = id.answer()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().map_err(|_| Error::failed("cannot tell the user: `id -u` gives no number"))
}

/// Makes `link` a symbolic link to `target`. A link that leads elsewhere is an error.
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
/// directory in each working directory, so it counts as not set, as the XDG specification requires.
pub(crate) fn directory_in(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The user's home directory, by `HOME`.
pub(crate) fn home() -> Option<PathBuf> {
    directory_in("HOME")
}

/// Whether shells, ssh configurations and option lists all read the path literally.
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

/// Writes a new file, 0600, in place of any file of that name. The content need not be text.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let written = create_private(path).and_then(|mut file| file.write_all(content));
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        Error::io("write", path, &error)
    })
}

/// Gives a finished file its final name, in place of any file that has it, after syncing its
/// content to the disk.
pub(crate) fn put_in_place(finished: &Path, path: &Path) -> Result<(), Error> {
    let synced = File::open(finished).and_then(|file| file.sync_all());
    synced
        .and_then(|()| fs::rename(finished, path))
        .map_err(|error| Error::io("write", path, &error))
}

/// Removes the temporary files of a [`write_private`] that was killed. A file that cannot be
/// removed does no harm.
pub(crate) fn remove_unfinished(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_pid = |text: &OsStr| {
            text.to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        // Only names that this program makes: `instance.json.1234`, but not a user's `core.1234`.
        let of_ours = path.file_stem().is_some_and(|name| WRITTEN.iter().any(|ours| name == *ours));
        if of_ours && path.extension().is_some_and(is_pid) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a new file for the user, with the default mode of new files. An existing file is an
/// error.
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content).inspect_err(|_| {
        // Half a file is worse than none.
        let _ = fs::remove_file(path);
    })
}

/// The name of a temporary file beside `path` that no other process uses.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

/// Makes a new, empty file, 0600, in place of any file of that name.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)
}

/// Opens the file for [`File::lock`]; makes it if it is missing and keeps its content. Anything but
/// a regular file is an error: through a dangling link a file would be made elsewhere, or could
/// never be made. On a file system that has become read-only the file is opened for reading, which
/// is enough for a lock.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    check_regular(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    or_for_reading(options.open(path), path)
}

/// Fails if the path names something other than a regular file.
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

/// Opens an existing lock file.
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

/// Whether `path` is a regular file that is not empty. A link to one does not count.
pub(crate) fn has_content(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}

/// Renames a file, replacing any file that has the new name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| Error::io("rename", from, &error))
}

/// The names in a directory that are UTF-8, as all names that this program makes are.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Truncates a regular file to nothing, if there is one.
pub(crate) fn empty(path: &Path) -> Result<(), Error> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    let emptied = OpenOptions::new().write(true).truncate(true).open(path);
    emptied.map(|_| ()).map_err(|error| Error::io("empty", path, &error))
}

/// Removes a file. A missing file is no error.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        // A read-only file system gives this error for a missing file as well.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && is_missing(path) => {
            Ok(())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Whether it is certain that there is nothing at the path.
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

/// Whether the path leads to the open file.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// The last `limit` bytes of a file.
pub(crate) fn read_end(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    end_of(&mut File::open(path)?, limit)
}

/// The last `limit` bytes of an open file.
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

/// The first `limit` bytes of a regular file; `None` when there is no such file. A file that cannot
/// be read is an error, because its content is unknown.
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    match read_start(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if [InvalidInput, NotADirectory, NotFound].contains(&error.kind()) => Ok(None),
        Err(error) => Err(Error::io("read", path, &error)),
    }
}
