//! TRUSTED CORE: the sockets of shared ssh connections in a VM's directory: which are in use, whose
//! turn it is to begin one, and the clearing away of those that nobody listens on.

use crate::error::Error;
use crate::files;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// ssh's `%C` in a name that is told from all others in the directory.
pub(crate) const NAME: &str = "ssh.%C";
/// The hexadecimal digits that `%C` stands for.
const HASH_DIGITS: usize = 40;

/// The sockets in `dir`, also those of an ssh that is still connecting, which have a random ending.
pub(crate) fn all(dir: &Path) -> Vec<PathBuf> {
    let is_ours = |name: &String| {
        let hash = name.strip_prefix("ssh.").and_then(|rest| rest.get(..HASH_DIGITS));
        hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    files::names_in(dir).into_iter().filter(is_ours).map(|name| dir.join(name)).collect()
}

/// The sockets in `dir` that somebody listens on. The others are removed: ssh would complain about
/// each of them.
pub(crate) fn listening(dir: &Path) -> Vec<PathBuf> {
    let mut found = all(dir);
    found.retain(|socket| match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => {
            if error.kind() == ErrorKind::ConnectionRefused {
                let _ = files::remove(socket);
            }
            false
        }
    });
    found
}

/// The right to begin a shared connection of one directory, which one process has at a time. It
/// is given back when this is dropped.
pub(crate) struct Turn(Option<File>);

impl Turn {
    /// Not taken yet.
    pub(crate) fn of(dir: &Path) -> Self {
        Self(File::open(dir).ok())
    }

    /// Whether it could be taken. Where a file system has no locks, everybody has it.
    pub(crate) fn is_taken(&self) -> bool {
        let locked = self.0.as_ref().map(File::try_lock);
        !matches!(locked, Some(Err(TryLockError::WouldBlock)))
    }
}

/// A file without a name, for what a program says whose streams may outlive it.
pub(crate) fn scratch(dir: &Path) -> Result<File, Error> {
    let path = dir.join(format!("ssh.said.{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
    let removed = opened.and_then(|file| fs::remove_file(&path).map(|()| file));
    removed.map_err(|error| Error::io("create", &path, &error))
}
