//! Finds out how a guest takes files: by its sftp server, or as a tar stream.

use super::share::unreachable;
use super::stream::ask;
use super::{FAILURE_CODE, Guest};
use crate::error::Error;
use crate::system::files;
use crate::text::sanitized;

const METHOD_BYTES_MAX: u64 = 16;
/// The most characters of a guest's greeting that an error shows.
const GREETING_CHARS_MAX: usize = 60;
/// Words in errors of tar and scp that show a stream which begins with something else.
const NO_STREAM: [&str; 3] = ["archive", "magic", "message too long"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Sftp,
    Tar,
}

impl Method {
    /// Finds out how this guest takes files, once; the answer is kept until the VM stops.
    pub(super) fn of(guest: &Guest) -> Result<Self, Error> {
        guest.begin_sharing()?;
        let kept = &guest.paths.copy_method;
        match &files::read_start(kept, METHOD_BYTES_MAX).unwrap_or_default()[..] {
            b"sftp" => return Ok(Self::Sftp),
            b"tar" => return Ok(Self::Tar),
            _ => {}
        }
        let method = Self::find_out(guest)?;
        files::write_private(kept, if method == Self::Tar { "tar" } else { "sftp" })?;
        Ok(method)
    }

    /// Asks the guest. The first question also shows whether there is a connection; its answer is
    /// the path of tar. The second starts the sftp server, which succeeds at the end of its input
    /// and writes nothing.
    fn find_out(guest: &Guest) -> Result<Self, Error> {
        let name = &guest.paths.name;
        let tar = ask(guest, &["command -v tar"])?;
        if tar.status.code() == Some(FAILURE_CODE.into()) {
            return Err(unreachable(&guest.paths, &tar.said()));
        }
        let sftp = ask(guest, &["-s", "sftp"])?;
        if sftp.status.code() == Some(0) {
            return greeting(guest, &sftp.stdout).map_or(Ok(Self::Sftp), Err);
        }
        if tar.status.code() == Some(0) {
            let mut lines = tar.stdout.trim_ascii_end().rsplitn(2, |byte| *byte == b'\n').skip(1);
            let before = lines.next().unwrap_or_default();
            return greeting(guest, before).map_or(Ok(Self::Tar), Err);
        }
        let message = format!("the guest of VM `{name}` has neither an sftp server nor tar");
        Err(Error::failed(message)
            .hint("install one of them there; `qqmgr ssh VM 'cat > FILE' < FILE` needs neither"))
    }
}

/// The error about a guest whose shell prints `said` before the output of a command.
fn greeting(guest: &Guest, said: &[u8]) -> Option<Error> {
    let said = sanitized(String::from_utf8_lossy(said).trim());
    // Data is no greeting.
    if said.is_empty() || said.contains('\u{fffd}') {
        return None;
    }
    let said: String = said.chars().take(GREETING_CHARS_MAX).collect();
    let message = format!(
        "the shell of the guest of VM `{}` prints `{said}` before every command, which breaks copies",
        guest.paths.name
    );
    Some(Error::failed(message).hint(
        "its startup file there (`~/.bashrc`, say) must print nothing unless `$-` has an `i`",
    ))
}

/// The greeting of the guest's shell as the reason for an error, if it prints one now.
pub(super) fn greeted(guest: &Guest, error: Error) -> Error {
    if !NO_STREAM.iter().any(|sign| error.message().contains(sign)) {
        return error;
    }
    let asked = ask(guest, &[":"]);
    let greeted = asked.ok().filter(|asked| asked.status.code() == Some(0));
    greeted.and_then(|asked| greeting(guest, &asked.stdout)).unwrap_or(error)
}
