//! The connection that several calls share. A separate ssh begins it, with its own standard error:
//! if a call began it for itself, the master would keep the caller's pipe open for a minute, and
//! ten calls at once would each try to begin one.

use super::connections::{self, Seats};
use super::guest::{Guest, OWN};
use crate::error::Error;
use crate::linux;
use crate::system::lock::try_dir;
use crate::system::{programs, temporary};
use crate::text::{sanitized, shell_quoted};
use crate::vm::Paths;
use crate::vm::wait::poll;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// The option that says how long a shared connection without a session stays open, in seconds.
const PERSIST: &str = "ControlPersist=60";
/// The beginning of ssh's line about a host key that it has not seen before.
const NEW_KEY: &[u8] = b"Warning: Permanently added ";
/// Messages of an ssh that did not reach the guest, each with a hint. The first match is used.
const CAUSES: &[(&str, &str)] = &[
    (
        "No user exists for uid",
        "ssh needs an entry in /etc/passwd for the user id that it runs with",
    ),
    (
        "Host key verification failed",
        "`UserKnownHostsFile` in `[ssh]` names the file of known hosts",
    ),
    (
        "Too many authentication failures",
        "an agent offers too many keys: set `IdentityFile` and `IdentitiesOnly` in `[ssh]`",
    ),
    ("Permission denied", LOGIN),
    ("UNPROTECTED PRIVATE KEY", LOGIN),
    ("Could not resolve hostname", "it is `HostName` in `[ssh]`"),
    ("onfiguration option", "the options of ssh are those in `[ssh]`"),
];
const LOGIN: &str = "`User` and `IdentityFile` in `[ssh]` say who logs in, and by which key";

impl Guest {
    /// Makes sure that there is a shared connection with room for a call of this process, if this
    /// guest's connections are shared. Without a shared connection, each call makes its own.
    pub(crate) fn begin_sharing(&self) -> Result<(), Error> {
        self.share()?.map_err(|said| unreachable(&self.paths, &said))
    }

    /// Whether there is a shared connection, which is begun if it can be.
    pub(crate) fn connects(&self) -> Result<bool, Error> {
        Ok(self.shared.is_some() && self.share()?.is_ok() && self.seat.get().is_some())
    }

    /// Finds or begins the shared connection; the inner error is what ssh said.
    pub(crate) fn share(&self) -> Result<Result<(), String>, Error> {
        let (Some(dir), own) = (&self.shared, &self.paths.dir) else { return Ok(Ok(())) };
        let failures = Seats::read(own).failures;
        let _turn = self.turn()?;
        let mut seats = Seats::read(own);
        // The previous call could not connect: this call reports the error itself.
        let failed = seats.failures != failures;
        self.seat.set(if failed { None } else { seats.take(std::process::id(), is_alive) });
        let Some(number) = self.seat.get() else { return Ok(Ok(())) };
        let connected = if connections::is_listening(dir, number) {
            Ok(())
        } else {
            self.connect(dir, number)?
        };
        seats.failures += u64::from(connected.is_err());
        seats.write(own)?;
        Ok(connected)
    }

    /// Waits for the right to begin a shared connection, which lasts until the file is dropped.
    fn turn(&self) -> Result<Option<File>, Error> {
        let Ok(dir) = File::open(&self.paths.dir) else { return Ok(None) };
        let taken = poll(None::<Instant>, || {
            if try_dir(&dir) { Some(Ok(())) } else { self.limits.exceeded().map(Err) }
        });
        taken.transpose()?;
        Ok(Some(dir))
    }

    fn connect(&self, dir: &Path, number: usize) -> Result<Result<(), String>, Error> {
        let options = [OWN, &["ControlMaster=yes", PERSIST]].concat();
        let mut ssh = self.command(&programs::SSH, &options, false);
        ssh.arg("-o").arg(connections::option(dir, number));
        ssh.args(["-f", "-N", &self.paths.name]);
        let path = self.paths.dir.join("ssh.said");
        let said = temporary::nameless(&path);
        let mut said = said.map_err(|error| Error::io("create", &path, &error))?;
        let stderr = said.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
        ssh.stdout(Stdio::null()).stderr(stderr);
        let status = ssh.attached(&mut || self.limits.exceeded(), &self.log)?;
        let mut bytes = Vec::new();
        let _ = said.rewind().and_then(|()| said.read_to_end(&mut bytes));
        if !status.success() {
            return Ok(Err(String::from_utf8_lossy(&bytes).into_owned()));
        }
        // A new key is accepted without asking: a script does not need the message.
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.starts_with(NEW_KEY)) {
            let _ = std::io::stderr().write_all(line);
        }
        Ok(Ok(()))
    }
}

/// Whether a shared connection is open, and nothing has happened to the guest since it was made.
pub(crate) fn is_connected(paths: &Paths) -> bool {
    let made_at = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let happened_at = made_at(&paths.events_out);
    let sockets = paths.plain_dir().map(|dir| connections::listening(&dir));
    sockets.is_ok_and(|sockets| sockets.iter().any(|socket| made_at(socket) > happened_at))
}

/// Whether a process is alive. Without `/proc` none is seen, and all calls share one connection.
fn is_alive(pid: u32) -> bool {
    linux::stat(pid).map_or(true, |stat| stat.is_some_and(|stat| stat.state != 'Z'))
}

/// The error that ssh did not reach the guest, in its own words, with a hint.
pub(super) fn unreachable(paths: &Paths, said: &str) -> Error {
    let (said, name) = (sanitized(said.trim()), &paths.name);
    let known_hosts = paths.known_hosts.display().to_string();
    let cause = CAUSES.iter().find(|(sign, _)| said.contains(sign));
    let hint = match cause {
        Some(("Host key verification failed", _)) if said.contains(&known_hosts) => {
            let file = shell_quoted(paths.known_hosts.as_os_str());
            format!("if the guest was made anew, forget its old key: `rm {file}`")
        }
        Some((_, hint)) => (*hint).to_string(),
        None => format!("is it booted? `qqmgr wait {name} --for ssh` waits for its ssh server"),
    };
    let said = if said.is_empty() { "ssh failed and said nothing" } else { &said };
    Error::failed(format!("cannot reach the guest of VM `{name}`: {said}")).hint(hint)
}
