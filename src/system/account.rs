//! Runs `id`, which asks the host's user database. That may be a server.

use super::programs;
use crate::error::Error;
use crate::linux;

/// The output of `id` with this option.
pub(crate) fn id(option: &str) -> Result<String, Error> {
    let mut id = programs::ID.command();
    id.arg(option);
    let output = id.answer()?;
    if !output.status.success() {
        return Err(Error::failed(format!("`id {option}` failed: {}", output.said())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// The effective user of this process, who owns the files that it creates.
pub(crate) fn user_id() -> Result<u32, Error> {
    if let Some(user) = linux::user_id() {
        return Ok(user);
    }
    let no_number = |_| Error::failed("cannot tell the user: `id -u` gives no number");
    id("-u")?.parse().map_err(no_number)
}
