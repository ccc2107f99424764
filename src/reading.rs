//! Reads files and looks at paths. Changes nothing.

use crate::error::Error;
use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The initial size of the read buffer, enough for most files that are read here.
const READ_BYTES: usize = 4096;

/// The directory that an environment variable names. A relative or empty path would mean another
/// directory in each working directory, so it counts as not set, as the XDG specification requires.
pub(crate) fn directory_in(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The user's home directory, by `HOME`.
pub(crate) fn home() -> Option<PathBuf> {
    directory_in("HOME")
}

/// The file that a text names: it starts from `dir`, or with `~/` from the home directory. `None`
/// if that is not known.
pub(crate) fn path_from(dir: &Path, text: &str) -> Option<PathBuf> {
    match text.strip_prefix("~/") {
        Some(rest) => Some(home()?.join(rest)),
        None => Some(dir.join(text)),
    }
}

/// Whether there is a socket, and not a link to one, at the path.
pub(crate) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Whether shells, ssh configurations and option lists all read the path literally.
pub(crate) fn is_plain(path: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    path.as_os_str().as_bytes().iter().all(plain)
}

/// Whether `path` is a regular file that is not empty. A link to one does not count.
pub(crate) fn has_content(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}

/// The names in a directory that are UTF-8, as all names that this program makes are.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether it is certain that there is nothing at the path.
pub(crate) fn is_missing(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether the path leads to the open file.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// The last `limit` bytes of a file.
pub(crate) fn read_end(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    end_of(&mut open(path)?, limit)
}

/// The last `limit` bytes of an open file.
pub(crate) fn end_of(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file. A FIFO or device in its place must not be opened: that, or a read, might
/// never end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(path)
}

/// The first `limit` bytes of a regular file.
pub(crate) fn read_start(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    open(path)?.take(limit).read_to_end(&mut bytes)?;
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

/// Fails if the path names something other than a regular file.
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            let message = format!("it is {}; remove it", kind(found.file_type()));
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The kind of a file, for messages.
pub(crate) fn kind(found: FileType) -> &'static str {
    match found {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_file() => "a file",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Identifies a file, whatever its name.
pub(crate) fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
