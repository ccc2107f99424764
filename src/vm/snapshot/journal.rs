//! The journal of a command that changes the snapshots in several disks: written to `snapshot.json`
//! in the VM's directory before the first disk changes, and removed after the last. If there is a
//! journal while no command has the VM's lock, a killed command has left that work half done.

use super::{Act, Disk, Tag};
use crate::error::Error;
use crate::json::{self, Value};
use crate::system::files;
use crate::vm::Paths;

/// The maximum size of a journal: a tag and the paths of all disks that a command line can name.
const BYTES_MAX: u64 = 1024 * 1024;

pub(crate) struct Journal {
    pub(crate) act: Act,
    pub(crate) tag: Tag,
    /// The disks by their names on the command line, which stay if the project is moved.
    pub(crate) disks: Vec<String>,
    /// The id of the job in a running QEMU that does the work; `None` if qemu-img does it.
    pub(crate) job: Option<String>,
}

impl Journal {
    /// Reads the journal of a VM; `None` if nothing was left half done.
    pub(crate) fn read(paths: &Paths) -> Result<Option<Self>, Error> {
        let file = &paths.snapshot;
        let Some(bytes) = files::read_if_there(file, BYTES_MAX)? else { return Ok(None) };
        let parsed = json::parse(&bytes);
        let hint = match &parsed {
            Ok(_) => "a newer qqmgr changed the VM's snapshots: finish its work with that one",
            Err(_) => "it is damaged: remove it, and load a snapshot that all disks have",
        };
        parsed.ok().and_then(|value| Self::parse(&value)).map(Some).ok_or_else(|| {
            let message = format!("`{}` has nothing that this qqmgr understands", file.display());
            Error::failed(message).hint(hint)
        })
    }

    fn parse(value: &Value) -> Option<Self> {
        Some(Self {
            act: Act::named(value.text("act")?)?,
            tag: Tag::new(value.text("tag")?.as_ref()).ok()?,
            disks: value.texts("disks")?,
            job: value.text("job").map(str::to_string),
        })
    }

    pub(super) fn new(act: Act, tag: &Tag, disks: &[&Disk], job: Option<&str>) -> Self {
        let disks = disks.iter().map(|disk| disk.file.clone()).collect();
        Self { act, tag: tag.clone(), disks, job: job.map(str::to_string) }
    }

    /// Writes the journal, before the first disk changes, so that it is there after a power failure
    /// as well. Work on one disk cannot be left half done, and needs none.
    pub(super) fn begin(&self, paths: &Paths) -> Result<(), Error> {
        if self.disks.len() < 2 {
            return Ok(());
        }
        let value = Value::object([
            ("act", Value::from(self.act.words().name)),
            ("tag", self.tag.as_str().into()),
            ("disks", self.disks.iter().collect()),
            ("job", self.job.as_deref().into()),
        ]);
        let written = files::write_private(&paths.snapshot, value.pretty());
        let written = written.and_then(|()| files::sync(&paths.snapshot));
        // A delete makes room on a full disk. What is left of one can be deleted again.
        if self.act == Act::Delete { Ok(()) } else { written }
    }

    /// Removes the journal, when nothing is half done.
    pub(super) fn end(paths: &Paths) -> Result<(), Error> {
        files::remove(&paths.snapshot)
    }
}
