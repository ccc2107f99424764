//! Runs `id`, which asks the host's user database. That may be a server.

use super::programs;
use crate::error::Error;
use crate::linux;
use std::process::Stdio;

/// The output of `id` with this option.
pub(crate) fn id(option: &str) -> Option<String> {
    run(option).ok().flatten()
}

fn run(option: &str) -> Result<Option<String>, Error> {
    let mut id = programs::ID.command();
    id.arg(option).stdin(Stdio::null());
    let output = id.answer()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    Ok(output.status.success().then_some(text))
}

/// The effective user of this process, who owns the files that it creates.
pub(crate) fn user_id() -> Result<u32, Error> {
    if let Some(user) = linux::user_id() {
        return Ok(user);
    }
    let user = run("-u")?.and_then(|user| user.parse().ok());
    user.ok_or_else(|| Error::failed("cannot tell the user: `id -u` gives no number"))
}
