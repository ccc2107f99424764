//! Prepares trees that programs would not send correctly for `put`: a tree whose symbolic links
//! lead to directories, nowhere or round in circles, or that has files which cannot be copied.
//!
//! Such a tree is rebuilt in a directory of its own, from directories and a link to each file.
//! `scp` and `tar -h` follow the links to files, and so copy the intended tree.

use crate::error::{Error, io_reason};
use crate::left_out::LeftOut;
use crate::log::Log;
use crate::system::files::{id, kind};
use crate::system::temporary::{FreshDir, Node, make_tree};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The limit of names in a tree whose links are followed. A few directories with links to each
/// other can make more names than any disk holds.
const NAMES_MAX: usize = 1_000_000;
/// The start of the directories' names.
const NAME: &str = "qqmgr-put";

/// Sources in a form that programs can copy.
#[derive(Default)]
pub(crate) struct Departure {
    /// The paths to copy from.
    pub(crate) from: Vec<PathBuf>,
    pub(crate) left: Vec<LeftOut>,
    /// The directory of the trees that are rebuilt.
    pub(crate) dir: Option<FreshDir>,
}

impl Departure {
    /// Looks through the sources, and rebuilds the trees that need it. `private` are paths that are
    /// left out of every tree, unless they are named as a source.
    pub(crate) fn new(from: &[PathBuf], private: &[PathBuf], log: &Log) -> Result<Self, Error> {
        let mut departure = Self::default();
        let private: Vec<_> = private.iter().filter_map(|path| path.metadata().ok()).collect();
        let private: Vec<_> = private.iter().map(id).collect();
        for path in from {
            let failed = |error| Error::io("read", path, &error);
            let found = path.metadata().map_err(failed)?;
            let mut source = path.clone();
            if found.is_dir() {
                let mut tree = Tree::new(path, &private).map_err(failed)?;
                tree.add(path, Path::new(""), &found)?;
                departure.left.extend(tree.left);
                if !tree.is_plain {
                    source = departure.lay_out(path, &tree.nodes, log)?;
                }
            } else if !found.is_file() {
                let message = format!("`{}` is neither a file nor a directory", path.display());
                return Err(Error::failed(message)
                    .hint("`qqmgr ssh VM 'cat > FILE' < FILE` copies what can be read once"));
            }
            departure.from.push(source);
        }
        Ok(departure)
    }

    /// Rebuilds a tree in a directory of our own. Gives its path, which has the same last part.
    fn lay_out(&mut self, path: &Path, nodes: &[Node], log: &Log) -> Result<PathBuf, Error> {
        let dir = self.dir.take().map_or_else(|| FreshDir::in_temp(NAME, log), Ok)?;
        let base = self.dir.insert(dir).path.join(self.from.len().to_string());
        let name = last_part(path);
        let root = base.join(name.clone().unwrap_or("tree".into()));
        make_tree(&root, nodes).map_err(|error| Error::io("write", &root, &error))?;
        Ok(if name.is_some() { root } else { root.join(".") })
    }
}

/// The last part of a path; `None` if it names no file: it is empty, `.`, `..` or `~`.
pub(crate) fn last_part(path: impl AsRef<std::ffi::OsStr>) -> Option<OsString> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let bytes = path.as_ref().as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/')? + 1;
    let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = &bytes[start..end];
    let is_name = ![&b"."[..], b".."].contains(&name) && bytes[..end] != *b"~";
    is_name.then(|| OsString::from_vec(name.to_vec()))
}

/// A tree with its links followed.
struct Tree<'a> {
    /// The name of the tree in messages.
    name: PathBuf,
    private: &'a [(u64, u64)],
    /// The directories around the current one, including those reached by links.
    above: Vec<(u64, u64)>,
    nodes: Vec<Node>,
    left: Vec<LeftOut>,
    /// Whether programs send the tree correctly as it is.
    is_plain: bool,
}

impl<'a> Tree<'a> {
    fn new(path: &Path, private: &'a [(u64, u64)]) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let above = path.ancestors().skip(1).map(|dir| dir.metadata().map(|found| id(&found)));
        let above = above.collect::<io::Result<_>>()?;
        let name = path.file_name().unwrap_or_default().into();
        Ok(Self { name, private, above, nodes: Vec::new(), left: Vec::new(), is_plain: true })
    }

    /// Adds a directory and its content.
    fn add(&mut self, dir: &Path, inside: &Path, found: &Metadata) -> Result<(), Error> {
        let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.leave_out(inside, io_reason(&error));
                return Ok(());
            }
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        self.add_node(inside.to_path_buf(), found, None)?;
        self.above.push(id(found));
        for entry in entries {
            let (path, inside) = (entry.path(), inside.join(entry.file_name()));
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            match path.metadata() {
                Ok(found) if self.private.contains(&id(&found)) => self.is_plain = false,
                Ok(found) if found.is_dir() && self.above.contains(&id(&found)) => {
                    self.leave_out(&inside, "it leads to a directory that it is in");
                }
                Ok(found) if found.is_dir() => {
                    self.is_plain &= !is_link;
                    self.add(&path, &inside, &found)?;
                }
                Ok(found) if found.is_file() => {
                    let file = std::path::absolute(&path);
                    let file = file.map_err(|error| Error::io("read", &path, &error))?;
                    self.add_node(inside, &found, Some(file))?;
                }
                Ok(found) => self.leave_out(&inside, kind(found.file_type())),
                Err(error) if is_link && error.kind() != ErrorKind::PermissionDenied => {
                    self.leave_out(&inside, "a symbolic link that leads nowhere");
                }
                Err(error) => self.leave_out(&inside, io_reason(&error)),
            }
        }
        self.above.pop();
        Ok(())
    }

    fn add_node(
        &mut self,
        inside: PathBuf,
        found: &Metadata,
        file: Option<PathBuf>,
    ) -> Result<(), Error> {
        if !self.is_plain && self.nodes.len() >= NAMES_MAX {
            let message = format!("`{}` has more than {NAMES_MAX} names", self.name.display());
            return Err(Error::failed(message).hint(
                "do its symbolic links lead to each other? \
                 `tar -cf - DIR | qqmgr ssh VM tar -xf -` follows none",
            ));
        }
        self.nodes.push(Node { inside, mode: found.mode() & 0o777, file });
        Ok(())
    }

    fn leave_out(&mut self, inside: &Path, why: impl Into<String>) {
        self.is_plain = false;
        self.left.push(LeftOut::new(self.name.join(inside), why));
    }
}
