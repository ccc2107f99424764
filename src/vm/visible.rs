//! Whether this program can see which processes run.

use crate::error::Error;
use crate::linux::{self, PROC};
use crate::system::{programs, ps};

/// Fails where processes cannot be seen, since a running VM would look like a stopped one.
pub(crate) fn check() -> Result<(), Error> {
    if linux::is_there() {
        return Ok(());
    }
    if linux::is_foreign() {
        let message =
            format!("cannot see which processes run: `{PROC}` is of another PID namespace");
        let hint = format!("mount one of this namespace on {PROC} (`unshare --mount-proc`)");
        return Err(Error::failed(message).hint(hint));
    }
    let own = std::process::id();
    let unseen = |why: &str, hint: &str| {
        let message = format!("cannot see which processes run: there is no `{PROC}`, and {why}");
        Err(Error::failed(message).hint(format!("mount {PROC}{hint}")))
    };
    match ps::processes(Some(own)) {
        Ok(shown) if shown.iter().any(|process| process.pid == own) => Ok(()),
        Err(_) if programs::PS.find().is_none() => {
            unseen("no `ps`", ", or install ps (Debian: procps)")
        }
        _ => unseen("`ps` does not show them", ", without which that of Linux shows nothing"),
    }
}
