//! Creates, overwrites and deletes files in a VM's directory, and writes new files for the user
//! ([`create`]).
//!
//! Only this user may enter a VM's directory, because its sockets give full control of the VM.

use super::process::user_id;
use super::temporary::{self, PRIVATE_DIR, PRIVATE_FILE};
use crate::access::{no_access, not_changed, whose};
use crate::error::Error;
use crate::linux;
use crate::reading::check_regular;
pub(crate) use crate::reading::{
    directory_in, end_of, has_content, home, id, is_at, is_missing, is_plain, is_socket, kind,
    names_in, open, path_from, read_end, read_if_there, read_start,
};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

/// Makes `dir` and its missing parents, 0700, and verifies that it is a directory of this user that
/// no other user may enter and that is not reached through a link of another user.
pub(crate) fn private_dir(dir: &Path) -> Result<(), Error> {
    if umask().is_some_and(|mask| mask & PRIVATE_DIR != 0) {
        let error = Error::failed("the umask keeps you from the files that you make");
        return Err(error.hint("`umask 077` leaves them to you alone"));
    }
    check_links(dir)?;
    let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(dir);
    made.map_err(|error| no_access("create", dir, &error, user_id().ok()))?;
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

/// The permissions that new files of this process lack.
fn umask() -> Option<u32> {
    let status = linux::kernel_fact("self/status").ok()??;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

/// Sets the mode 0700 of the directory that was looked at, unless another one has its name by now.
fn restrict(dir: &Path, looked_at: &fs::Metadata) -> io::Result<()> {
    let opened = File::open(dir)?;
    if id(&opened.metadata()?) != id(looked_at) {
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
    for way in path.ancestors().filter(|way| !way.as_os_str().is_empty()) {
        let Ok(metadata) = fs::symlink_metadata(way) else { continue };
        let owner = metadata.uid();
        if metadata.is_symlink() && owner != system && owner != user_id()? {
            let message = format!("`{}` is a symbolic link of user {owner}", way.display());
            return Err(Error::failed(message).hint("remove it, or use a directory of your own"));
        }
    }
    Ok(())
}

/// Fails if the directory exists and cannot be entered, so that it is not treated as missing.
pub(crate) fn check_access(dir: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(dir.join(".")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(no_access("enter", dir, &error, user_id().ok()))
        }
        _ => Ok(()),
    }
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

/// Replaces a file, 0600: readers see all old or all new content. The same content is left alone.
pub(crate) fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    let content = content.as_ref();
    let old = read_start(path, content.len() as u64 + 1);
    if old.is_ok_and(|old| old == content) {
        return Ok(());
    }
    let fill = |file: &mut File| file.write_all(content);
    let written = temporary::replace((&temporary::beside(path), path), (PRIVATE_FILE, None), fill);
    written.map_err(|error| not_changed("write", path, &error))
}

/// Makes sure that a file and its name are there after a power failure.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    let sync = |path: &Path| File::open(path)?.sync_all();
    let synced = sync(path).and_then(|()| path.parent().map_or(Ok(()), sync));
    synced.map_err(|error| Error::io("write", path, &error))
}

/// Syncs a finished file to the disk, and then gives it its final name in place of any other.
pub(crate) fn put_in_place(finished: &Path, path: &Path) -> Result<(), Error> {
    let synced = File::open(finished).and_then(|file| file.sync_all());
    synced
        .and_then(|()| fs::rename(finished, path))
        .map_err(|error| Error::io("write", path, &error))
}

/// Gives the content of `file` the name `other` as well, by a hard link. It makes a copy instead,
/// first under the name `part`, if the file is on another file system, is in a read-only directory,
/// or could be changed by another user.
pub(crate) fn give_second_name(file: &Path, other: &Path, part: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("copy", file, &error);
    let found = fs::symlink_metadata(file).map_err(failed)?;
    let is_ours = found.is_file() && found.uid() == user_id()? && found.mode() & 0o022 == 0;
    if is_ours && fs::hard_link(file, other).is_ok() {
        return Ok(());
    }
    let copied = fs::copy(file, part).map_err(failed);
    copied.and_then(|_| put_in_place(part, other)).inspect_err(|_| {
        let _ = fs::remove_file(part);
    })
}

/// Removes the temporary files that killed processes have left, as far as that is possible.
pub(crate) fn remove_unfinished(dir: &Path) {
    for name in names_in(dir).iter().filter(|name| temporary::is_unfinished(name)) {
        let _ = fs::remove_file(dir.join(name));
    }
}

/// Writes a new file for the user, with the default mode. An existing file is an error.
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content).inspect_err(|_| {
        // Half a file is worse than none.
        let _ = fs::remove_file(path);
    })
}

/// Makes a new, empty file, 0600, in place of any file of that name.
pub(crate) fn create_private(path: &Path) -> Result<File, Error> {
    temporary::create(path, PRIVATE_FILE).map_err(|error| Error::io("create", path, &error))
}

/// Opens the file for [`File::lock`] and keeps its content; with `makes`, a missing file is made.
/// Anything but a regular file is an error: a dangling link would make a file elsewhere, or never.
/// On a file system that has become read-only, the file is opened for reading, which is enough for
/// a lock.
pub(crate) fn open_lock(path: &Path, makes: bool) -> io::Result<File> {
    check_regular(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(makes).truncate(false).mode(PRIVATE_FILE);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

/// Renames a file, replacing any file that has the new name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| Error::io("rename", from, &error))
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
            Err(not_changed("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory if it is empty, and then its parent if that is an empty `*.qqmgr`.
pub(crate) fn remove_empty_dir(dir: &Path) {
    let is_runtime = |name: &OsStr| name.as_bytes().ends_with(b".qqmgr");
    let parent = dir.parent().filter(|parent| parent.file_name().is_some_and(is_runtime));
    if fs::remove_dir(dir).is_ok()
        && let Some(parent) = parent
    {
        let _ = fs::remove_dir(parent);
    }
}

/// Opens a device for reading and writing, as QEMU does, and closes it again, which has no effect.
pub(crate) fn try_to_open(device: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(device).map(|_| ())
}
