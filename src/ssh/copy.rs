//! `put` and `get`: by `scp`, which speaks sftp, or as a tar stream to a guest that has no sftp
//! server, as small ones with dropbear do not.

use super::run::{Output, capture, replace_by};
use super::{FAILURE_CODE, Guest, stream};
use crate::error::Error;
use crate::files;
use crate::programs;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const METHOD_BYTES_MAX: u64 = 16;

/// What is copied where. Remote names are as `scp` takes them: relative ones and `~/` start from
/// the guest user's home, and `get` expands patterns in them.
pub(crate) enum Copy {
    Put { from: Vec<PathBuf>, to: OsString },
    Get { from: Vec<OsString>, to: PathBuf },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Sftp,
    Tar,
}

impl Method {
    const ALL: [(Self, &'static str); 2] = [(Self::Sftp, "sftp"), (Self::Tar, "tar")];
}

/// Copies, directories whole. With `exec` the process may be replaced, and then does not return.
pub(crate) fn copy(guest: &Guest, copy: &Copy, exec: bool) -> Result<(), Error> {
    if let Copy::Put { from, .. } = copy {
        from.iter().try_for_each(|path| {
            path.metadata().map(|_| ()).map_err(|error| Error::io("read", path, &error))
        })?;
    }
    match method(guest)? {
        Method::Tar => stream::copy(guest, copy),
        Method::Sftp if exec => Err(replace_by(scp(guest, copy, &["-r", "--"]), &guest.log)),
        Method::Sftp => {
            let output = ask(guest, scp(guest, copy, &["-q", "-r", "--"]))?;
            match output.exit_code {
                Some(0) => Ok(()),
                _ => Err(Error::failed(output.said())),
            }
        }
    }
}

/// `scp -F ssh.conf FLAGS... FROM... TO`
fn scp(guest: &Guest, copy: &Copy, flags: &[&str]) -> Command {
    let mut scp = guest.command(&programs::SCP);
    if let Copy::Get { from, .. } = copy
        && from.len() > 1
    {
        // scp opens a session for each, one right after the other, and over a shared connection
        // the second may get the exit status of the first (OpenSSH 9.2 and dropbear 2022.83, 3
        // times of 80 on a busy machine).
        scp.args(["-o", "ControlPath=none"]);
    }
    scp.args(flags);
    match copy {
        Copy::Put { from, to } => {
            scp.args(from.iter().map(|path| local(path))).arg(remote(guest, to))
        }
        Copy::Get { from, to } => {
            scp.args(from.iter().map(|path| remote(guest, path))).arg(local(to))
        }
    };
    scp
}

/// With a slash in front of any colon, so that scp does not take it for a host.
pub(super) fn local(path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) }
}

fn remote(guest: &Guest, path: &OsStr) -> OsString {
    let mut spec = OsString::from(&guest.name);
    spec.push(":");
    spec.push(path);
    spec
}

/// How this guest takes files; found out once, and kept until the VM stops.
fn method(guest: &Guest) -> Result<Method, Error> {
    if guest.is_by_dropbear() {
        // There is no `scp` that would go by its options.
        return Ok(Method::Tar);
    }
    let kept = files::read_start(&guest.paths.copy_method, METHOD_BYTES_MAX).unwrap_or_default();
    if let Some((method, _)) = Method::ALL.iter().find(|(_, name)| kept == name.as_bytes()) {
        return Ok(*method);
    }
    let method = find_out(guest)?;
    if let Some((_, name)) = Method::ALL.iter().find(|(known, _)| *known == method) {
        files::write_private(&guest.paths.copy_method, name)?;
    }
    Ok(method)
}

/// Asks the guest. The first question tells whether there is a connection at all; the second
/// then goes over the same one, and an sftp server that is there ends well at the end of input.
fn find_out(guest: &Guest) -> Result<Method, Error> {
    let name = &guest.name;
    let tar = ask(guest, guest.ssh(&["command -v tar".into()]))?;
    if tar.exit_code == Some(FAILURE_CODE.into()) {
        let message = format!("cannot reach the guest of VM `{name}`: {}", tar.said());
        return Err(Error::failed(message).hint("is it booted, and does `[ssh]` let you in?"));
    }
    let mut sftp = guest.command(&programs::SSH);
    sftp.args(["-s", name, "sftp"]);
    if ask(guest, sftp)?.exit_code == Some(0) {
        return Ok(Method::Sftp);
    }
    if tar.exit_code == Some(0) {
        return Ok(Method::Tar);
    }
    let message = format!("the guest of VM `{name}` has neither an sftp server nor tar");
    Err(Error::failed(message)
        .hint("install one of them there; `qqmgr ssh VM 'cat > FILE' < FILE` needs neither"))
}

fn ask(guest: &Guest, mut command: Command) -> Result<Output, Error> {
    command.stdin(Stdio::null());
    capture(command, &guest.limits, &guest.log)
}

/// Whether a remote name has characters that `get` expands.
pub(super) fn is_pattern(path: &OsStr) -> bool {
    path.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}
