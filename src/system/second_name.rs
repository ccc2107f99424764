//! Gives a file a second name, for downloaded bases that an old version of qqmgr kept
//! in the cache. The first name stays.

use super::account;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Gives the content of `file` the name `other` by a hard link. It makes a copy instead, first
/// under the name `part`, if the file is on another file system, is in a read-only directory, or
/// could be changed by another user.
pub(crate) fn give(file: &Path, other: &Path, part: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(file)?;
    let user = account::user_id().map_err(|error| io::Error::other(error.message().to_string()))?;
    let is_ours = metadata.is_file() && metadata.uid() == user && metadata.mode() & 0o022 == 0;
    if is_ours && fs::hard_link(file, other).is_ok() {
        return Ok(());
    }
    let copied = fs::copy(file, part)
        .and_then(|_| fs::File::open(part)?.sync_all())
        .and_then(|()| fs::rename(part, other));
    copied.inspect_err(|_| {
        let _ = fs::remove_file(part);
    })
}
