//! The records of this program: JSON files, each with the number of its format.

use crate::error::Error;
use crate::json::{self, Value};
use crate::system::files::read_if_there;
use std::path::Path;

/// The format of the records that this program writes. Version 0.1 wrote no number; a program that
/// changes the meaning of a field increases it.
pub(crate) const FORMAT: u64 = 1;

/// Reads a record of at most `bytes_max` bytes; `None` if there is none, or the file is not JSON. A
/// record of a newer program is an error.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Option<Value>, Error> {
    let value = read_if_there(path, bytes_max)?.and_then(|bytes| json::parse(&bytes).ok());
    let format = value.as_ref().and_then(|value| value.get("format"));
    if format.is_some_and(|format| format.as_u64().is_none_or(|number| number > FORMAT)) {
        let message = format!("`{}` was written by a newer qqmgr than this one", path.display());
        return Err(Error::failed(message).hint("use the newer one here"));
    }
    Ok(value)
}
