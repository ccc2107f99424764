//! Makes and removes temporary files and directories, under names that no other process uses.

use super::guard::Guard;
use crate::error::Error;
use crate::log::Log;
use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub(super) const PRIVATE_DIR: u32 = 0o700;
pub(super) const PRIVATE_FILE: u32 = 0o600;
/// The mode of a new file, from which the user's `umask` takes bits away.
pub(super) const DEFAULT_FILE: u32 = 0o666;
/// Removes a directory when this process has been killed; its programs may still be writing.
const CLEAN_UP: &str = "echo ready >&2; read -r end; chmod -R u+rwx \"$1\" 2>/dev/null
    for try in 1 2 3; do rm -rf \"$1\" && break; sleep 1; done";
const READY: &str = "ready";
/// The mark before the pid at the end of a temporary file's name.
const UNFINISHED: &str = ".qqmgr-";

/// The name of a temporary file beside `path`, such as `instance.json.qqmgr-1234`.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!("{UNFINISHED}{}", std::process::id()));
    PathBuf::from(name)
}

/// Whether [`beside`] gives such names, which no file of a user's has.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.rsplit_once(UNFINISHED).is_some_and(|(_, pid)| pid.parse::<u32>().is_ok())
}

/// Makes a new, empty file of this mode, in place of any file of that name.
pub(super) fn create(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
}

/// Replaces `path` by a file that `fill` writes under the name `temporary`, so that a reader sees
/// all of the old or all of the new content. `mode` is that of the new file, and `exactly` changes
/// it at the end.
pub(super) fn replace(
    (temporary, path): (&Path, &Path),
    (mode, exactly): (u32, Option<u32>),
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = create(temporary, mode)?;
    let set = |mode| file_mode(temporary, mode);
    let written = fill(&mut file).and_then(|()| exactly.map_or(Ok(()), set));
    written.and_then(|()| fs::rename(temporary, path)).inspect_err(|_| {
        // Half a file is worse than none.
        let _ = fs::remove_file(temporary);
    })
}

fn file_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes a file without a name, for the output of a program whose streams may outlive it.
pub(crate) fn nameless(path: &Path) -> io::Result<File> {
    let temporary = beside(path);
    let file = create(&temporary, PRIVATE_FILE)?;
    fs::remove_file(&temporary).map(|()| file)
}

/// Makes a directory that only this user may enter, with a random end that nobody can foresee.
pub(super) fn fresh_dir(parent: &Path, name: &str) -> io::Result<PathBuf> {
    let random = RandomState::new().hash_one(name);
    let dir = parent.join(format!("{name}.{random:016x}"));
    DirBuilder::new().mode(PRIVATE_DIR).create(&dir).map(|()| dir)
}

/// A new directory, removed when this is dropped, or by a guard if this process is killed.
pub(crate) struct FreshDir {
    pub(crate) path: PathBuf,
    guard: Option<Guard>,
}

impl FreshDir {
    pub(crate) fn new(parent: &Path, name: &str, log: &Log) -> io::Result<Self> {
        let path = fresh_dir(parent, name)?;
        let mut argv = ["sh", "-c", CLEAN_UP, "sh"].map(OsString::from).to_vec();
        argv.push(path.clone().into());
        let guard = Guard::new(&argv, READY, Stdio::null(), log).ok();
        Ok(Self { path, guard })
    }

    /// Makes one in the directory that the user has for temporary files.
    pub(crate) fn in_temp(name: &str, log: &Log) -> Result<Self, Error> {
        let temp = std::env::temp_dir();
        Self::new(&temp, name, log).map_err(|error| {
            Error::io("write", &temp, &error).hint("set `TMPDIR` to a directory of your own")
        })
    }
}

impl Drop for FreshDir {
    fn drop(&mut self) {
        // Where something is left, the guard tries again.
        if remove_tree(&self.path)
            && let Some(guard) = self.guard.take()
        {
            guard.disarm();
        }
    }
}

/// A directory of a tree, or a symbolic link to a file.
pub(crate) struct Node {
    /// The path in the tree.
    pub(crate) inside: PathBuf,
    pub(crate) mode: u32,
    /// The absolute path of a file.
    pub(crate) file: Option<PathBuf>,
}

/// Makes a tree in a temporary directory. The directories come before their content.
pub(crate) fn make_tree(root: &Path, nodes: &[Node]) -> io::Result<()> {
    for node in nodes {
        // An empty name would add a slash to the end.
        let at = root.components().chain(node.inside.components()).collect::<PathBuf>();
        match &node.file {
            None => fs::create_dir_all(&at)?,
            Some(file) => symlink(file, &at)?,
        }
    }
    // The innermost come first: with their own permissions, some directories cannot be written to.
    let mut dirs = nodes.iter().rev().filter(|node| node.file.is_none());
    dirs.try_for_each(|dir| file_mode(&root.join(&dir.inside), dir.mode))
}

/// Removes a directory of qqmgr with its content, whatever its permissions are. Symbolic links are
/// removed and not followed. Returns whether the directory is gone.
fn remove_tree(dir: &Path) -> bool {
    fs::remove_dir_all(dir).is_ok() || {
        open_up(dir);
        let _ = fs::remove_dir_all(dir);
        dir.symlink_metadata().is_err()
    }
}

/// Gives the owner access to a directory and those below it.
fn open_up(dir: &Path) {
    let _ = file_mode(dir, PRIVATE_DIR);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
