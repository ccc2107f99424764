//! Runs `ssh`, `scp` and `tar`, for as long as their limits allow.

use super::guest::{FAILURE_CODE, Guest};
use crate::error::Error;
pub(crate) use crate::system::output::Output;
use crate::system::output::text_of;
use crate::system::run::Invocation;
use crate::system::running::PAUSE;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

/// Marks a line on stderr that is not an error: it names what a script on the guest left out.
pub(super) const MARK: &[u8] = b"qqmgr-left-out: ";

/// The signal's number, which is the same on all systems that QEMU runs on.
const SIGPIPE: i32 = 13;

/// Runs a program to its end and keeps its stdout and stderr.
pub(crate) fn capture(invocation: Invocation, guest: &Guest) -> Result<Output, Error> {
    invocation.captured(&mut || guest.limits.exceeded(), &guest.log)
}

/// Runs a program to its end, and passes on its output to stdout and to stderr as it comes. Returns
/// its exit code; `None` when a signal ended it.
pub(crate) fn passed_on(
    mut invocation: Invocation,
    guest: &Guest,
    mut pass: impl FnMut([Vec<u8>; 2]) -> Result<(), Error>,
) -> Result<Option<i32>, Error> {
    invocation.stdout(Stdio::piped());
    let mut running = invocation.in_background(&guest.log)?;
    loop {
        if let Some(output) = running.wait(PAUSE)? {
            return pass([output.stdout, output.stderr]).map(|()| output.status.code());
        }
        pass(running.take_read())?;
        if let Some(error) = guest.limits.exceeded() {
            return Err(error);
        }
    }
}

/// Runs a program to its end and keeps its stderr; its stdout is ours, where progress is shown.
pub(super) fn watch(invocation: Invocation, guest: &Guest) -> Result<Output, Error> {
    invocation.in_background(&guest.log)?.finish(&mut || guest.limits.exceeded())
}

/// How a pipe ended after its receiver got a whole stream.
pub(super) struct Piped {
    /// The sender's stderr.
    pub(super) said: Vec<u8>,
    /// The error when something could not be sent or received, but everything else was.
    pub(super) incomplete: Option<Error>,
}

/// Words in a receiver's messages that show a file that it could not write to its end.
const HALF_FILES: [&str; 5] = ["write", "wrote", "space", "quota", "i/o"];

/// Runs `from | to`. A stream broke off if `from` has ssh's own exit code; else `to` counts too.
pub(super) fn pipe(from: Invocation, to: Invocation, guest: &Guest) -> Result<Piped, Error> {
    let [sender, receiver] = [&from, &to].map(|one| one.program().to_os_string());
    let mut exceeded = || guest.limits.exceeded();
    let (sent, received) = from.piped_to(to, &mut exceeded, &guest.log)?;
    let messages = String::from_utf8_lossy(&received.stderr).to_lowercase();
    let is_half = HALF_FILES.iter().any(|sign| messages.contains(sign));
    // The sender was ended by SIGPIPE, which is a consequence and not a cause.
    let receiver_left = sent.status.signal() == Some(SIGPIPE);
    let is_whole = sent.status.code().is_some_and(|code| code != FAILURE_CODE.into());
    let incomplete = match (checked(&sent, &sender), checked(&received, &receiver)) {
        (Err(_), Err(error)) if receiver_left => Err(error),
        (Ok(()), Ok(())) => Ok(None),
        (Err(error), Ok(())) if is_whole => Ok(Some(error)),
        (Ok(()), Err(error)) if !is_half => Ok(Some(error)),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
    };
    incomplete.map(|incomplete| Piped { said: sent.stderr, incomplete })
}

/// Returns an error unless the program of a pipe succeeded.
fn checked(output: &Output, program: &OsStr) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let lines = output.stderr.split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines.filter(|line| !line.starts_with(MARK)).collect();
    let said = text_of(&lines.join(&b'\n'));
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Error::failed(format!("the copy failed: `{}`: {said}", program.display())))
}
