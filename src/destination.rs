//! Where a copy from a guest goes. Only looks.

use crate::error::Error;
use crate::reading::id;
use crate::text::command_line;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The number of links in a row that Linux follows; it reports a longer chain itself.
const LINKS_MAX: usize = 40;

/// The place that files are copied to: the path that the user named, with symbolic links followed.
pub(crate) struct Destination {
    /// The path as the user wrote it, for messages.
    pub(crate) named: PathBuf,
    pub(crate) place: Place,
}

pub(crate) enum Place {
    /// Files go into this directory, each under its own name.
    Into(PathBuf),
    /// The file gets this path, in place of any file that has it.
    As(PathBuf),
    /// The content is written to this FIFO or device.
    To(PathBuf),
}

impl Destination {
    pub(crate) fn new(named: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io("write", named, &error);
        let path = Path::new(".").join(named);
        let place = match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Place::Into(path.canonicalize().map_err(failed)?),
            Ok(found) if !found.is_file() => Place::To(path),
            Ok(found) => match path.canonicalize() {
                Ok(file) if fs::metadata(&file).is_ok_and(|it| id(&it) == id(&found)) => {
                    Place::As(file)
                }
                // This is an open file without a name, reached through `/dev/stdout`.
                _ => Place::To(path),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let dir = command_line([named.parent().unwrap_or(named)]);
                let hint = format!("`mkdir -p {dir}` makes the directory on this host");
                Place::As(link_target(path).map_err(|error| failed(error).hint(hint))?)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { named: named.to_path_buf(), place })
    }

    /// Returns an error if this number of files cannot go there.
    pub(crate) fn check_takes(&self, files: usize) -> Result<(), Error> {
        if files < 2 || matches!(self.place, Place::Into(_)) {
            return Ok(());
        }
        let message = format!("`{}` is not a directory", self.named.display());
        Err(Error::failed(message).hint("several files need one to go to"))
    }
}

/// The path, and those that it leads to as a symbolic link, one after the other.
pub(crate) fn links(path: PathBuf) -> impl Iterator<Item = PathBuf> {
    let next = |path: &PathBuf| {
        let target = fs::read_link(path).ok()?;
        Some(path.parent().unwrap_or(Path::new(".")).join(target))
    };
    std::iter::successors(Some(path), next).take(1 + LINKS_MAX)
}

/// Resolves a path that does not exist, or a symbolic link whose target does not exist.
fn link_target(path: PathBuf) -> io::Result<PathBuf> {
    let path = links(path).last().ok_or(ErrorKind::NotFound)?;
    let name = path.file_name().ok_or(ErrorKind::NotFound)?;
    Ok(path.parent().unwrap_or(Path::new(".")).canonicalize()?.join(name))
}

/// Refuses a path with a `/` at its end for a new file: that is a directory, which is missing.
pub(crate) fn check_is_of_file(path: &Path) -> Result<(), Error> {
    if !path.as_os_str().as_bytes().ends_with(b"/") {
        return Ok(());
    }
    let hint = format!("`mkdir -p {}` makes it", command_line([path]));
    Err(Error::failed(format!("there is no directory `{}`", path.display())).hint(hint))
}
