//! Gives a file a second name, for downloaded bases that an old version of qqmgr kept
//! in the cache. The first name stays.

use super::account::user_id;
use super::files;
use crate::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Gives the content of `file` the name `other` by a hard link. It makes a copy instead, first
/// under the name `part`, if the file is on another file system, is in a read-only directory, or
/// could be changed by another user.
pub(crate) fn give(file: &Path, other: &Path, part: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("copy", file, &error);
    let metadata = fs::symlink_metadata(file).map_err(failed)?;
    let is_ours =
        metadata.is_file() && metadata.uid() == user_id()? && metadata.mode() & 0o022 == 0;
    if is_ours && fs::hard_link(file, other).is_ok() {
        return Ok(());
    }
    let copied = fs::copy(file, part).map_err(failed);
    let copied = copied.and_then(|_| files::put_in_place(part, other));
    copied.inspect_err(|_| {
        let _ = fs::remove_file(part);
    })
}
