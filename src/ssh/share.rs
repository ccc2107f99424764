//! The connection that several calls share. It is begun by an ssh of its own, with its own standard
//! error: one that a call begins for itself would keep the caller's pipe open for a minute, and of
//! ten calls at once each would try to begin one.

use super::run::{briefly, run_attached};
use super::{Guest, config};
use crate::error::Error;
use crate::files;
use crate::log::Log;
use crate::programs;
use crate::system::control_sockets::{self, Turn};
use crate::text::sanitized;
use crate::vm::Paths;
use crate::vm::wait::poll;
use std::ffi::OsString;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a shared connection without a session stays open, in seconds.
const PERSIST: &str = "60";
/// How ssh begins the line about a host key that it has not seen before.
const NEW_KEY: &[u8] = b"Warning: Permanently added ";
/// A master that does not answer is stopped or hangs, and is left to itself.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// The option that says where a shared connection is; ssh puts the user and the destination in.
pub(super) fn control_path(dir: &Path) -> OsString {
    let mut option = OsString::from("ControlPath=");
    option.push(dir.join(control_sockets::NAME));
    option
}

impl Guest {
    /// Sees to it that there is a shared connection, if this guest's are shared. Without one, each
    /// call has its own.
    pub(crate) fn begin_sharing(&self) -> Result<(), Error> {
        self.share()?.map_err(|said| unreachable(&self.name, &self.paths, &said))
    }

    /// The inner error is what ssh said when it did not get through to the guest.
    pub(crate) fn share(&self) -> Result<Result<(), String>, Error> {
        let Some(dir) = &self.shared else { return Ok(Ok(())) };
        let is_shared = || !control_sockets::listening(dir).is_empty();
        if is_shared() {
            return Ok(Ok(()));
        }
        let turn = Turn::of(&self.paths.dir);
        let mut waited = false;
        let taken = poll(None::<Instant>, || {
            waited |= !turn.is_taken();
            match self.limits.exceeded() {
                _ if turn.is_taken() => Some(Ok(())),
                Some(error) => Some(Err(error)),
                None => None,
            }
        });
        taken.transpose()?;
        // Who was first may have failed: then this call connects alone and says why.
        if waited || is_shared() {
            return Ok(Ok(()));
        }
        self.connect(dir)
    }

    fn connect(&self, dir: &Path) -> Result<Result<(), String>, Error> {
        let mut ssh = programs::SSH.command();
        ssh.arg("-F").arg(&self.paths.ssh_config).args(["-o", "ControlMaster=yes", "-o"]);
        ssh.arg(control_path(dir)).args(["-o", &format!("ControlPersist={PERSIST}")]);
        ssh.args(super::options(super::OWN_OPTIONS)).args(["-f", "-N", &self.name]);
        let mut said = control_sockets::scratch(&self.paths.dir)?;
        let stderr = said.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let exit_code = run_attached(ssh, &self.limits, &self.log)?;
        let mut bytes = Vec::new();
        let _ = said.rewind().and_then(|()| said.read_to_end(&mut bytes));
        if exit_code != Some(0) {
            return Ok(Err(String::from_utf8_lossy(&bytes).into_owned()));
        }
        // A key that is new is accepted without asking: nothing to tell a script.
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.starts_with(NEW_KEY)) {
            let _ = std::io::stderr().write_all(line);
        }
        Ok(Ok(()))
    }
}

/// That ssh did not get through, in its own words, with what helps.
fn unreachable(name: &str, paths: &Paths, said: &str) -> Error {
    let said = sanitized(said.trim());
    let has = |cause: &str| said.contains(cause);
    let known_hosts = paths.known_hosts.display().to_string();
    let hint = if has("No user exists for uid") {
        "ssh needs an entry in /etc/passwd for the user id that it runs with".into()
    } else if has("Host key verification failed") && has(&known_hosts) {
        format!("if the guest was made anew, forget its old key: `rm {known_hosts}`")
    } else if has("Host key verification failed") {
        "`UserKnownHostsFile` in `[ssh]` names the file of known hosts".into()
    } else if has("Too many authentication failures") {
        "an agent offers too many keys: set `IdentityFile` and `IdentitiesOnly` in `[ssh]`".into()
    } else if has("Permission denied") || has("UNPROTECTED PRIVATE KEY") {
        "`User` and `IdentityFile` in `[ssh]` say who logs in, and by which key".into()
    } else if has("Could not resolve hostname") {
        "it is `HostName` in `[ssh]`".into()
    } else if has("onfiguration option") {
        "the options of ssh are those in `[ssh]`".into()
    } else {
        format!("is it booted? `qqmgr wait {name} --for ssh` waits for its ssh server")
    };
    let said = if said.is_empty() { "ssh failed and said nothing" } else { &said };
    Error::failed(format!("cannot reach the guest of VM `{name}`: {said}")).hint(hint)
}

/// Ends the shared connections of a VM, also one where the user wants it. They end by themselves
/// when QEMU does, only not at once; so nothing that ssh says here matters.
pub(crate) fn end_shared_connection(name: &str, paths: &Paths, log: &Log) -> Result<(), Error> {
    let exit = |ssh_option: &str, value: &Path, also: &[&Path]| {
        let mut ssh = programs::SSH.command();
        ssh.arg(ssh_option).arg(value).args(also).args(["-O", "exit", name]);
        briefly(ssh, EXIT_WAIT, log);
    };
    if has_own_control_path(paths) {
        exit("-F", &paths.ssh_config, &[]);
    }
    if control_sockets::all(&paths.dir).is_empty() {
        return Ok(());
    }
    paths.make_short_way()?;
    for socket in control_sockets::listening(&paths.plain_dir()?) {
        exit("-F", Path::new("/dev/null"), &[Path::new("-S"), &socket]);
    }
    control_sockets::all(&paths.dir).iter().try_for_each(|socket| files::remove(socket))
}

/// Whether connections are shared where the user wants that.
fn has_own_control_path(paths: &Paths) -> bool {
    let text = super::config_file(paths);
    config::settings(&text).any(|(keyword, value)| {
        keyword.eq_ignore_ascii_case("ControlPath") && !value.eq_ignore_ascii_case("none")
    })
}
