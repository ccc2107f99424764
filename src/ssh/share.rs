//! The connection that several calls share. A separate ssh begins it, with its own standard error:
//! if a call began it for itself, the master would keep the caller's pipe open for a minute, and
//! ten calls at once would each try to begin one.

use super::control_sockets::{self, Seats, Turn};
use super::run::{briefly, run_attached};
use super::{Guest, config};
use crate::error::Error;
use crate::linux;
use crate::log::Log;
use crate::system::files;
use crate::system::programs;
use crate::system::temporary;
use crate::text::sanitized;
use crate::vm::named::forgets;
use crate::vm::options::arguments_of;
use crate::vm::wait::poll;
use crate::vm::{Instance, Paths};
use std::ffi::OsString;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a shared connection without a session stays open, in seconds.
const PERSIST: &str = "60";
/// The beginning of ssh's line about a host key that it has not seen before.
const NEW_KEY: &[u8] = b"Warning: Permanently added ";
/// How long a master may take to exit. One that does not answer is stopped or hangs, and is left
/// alone.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// Messages of ssh that it did not reach the guest, and the hint for each. The first is used.
const CAUSES: &[(&[&str], &str)] = &[
    (
        &["No user exists for uid"],
        "ssh needs an entry in /etc/passwd for the user id that it runs with",
    ),
    (
        &["Host key verification failed"],
        "`UserKnownHostsFile` in `[ssh]` names the file of known hosts",
    ),
    (
        &["Too many authentication failures"],
        "an agent offers too many keys: set `IdentityFile` and `IdentitiesOnly` in `[ssh]`",
    ),
    (&["Permission denied"], LOGIN),
    (&["UNPROTECTED PRIVATE KEY"], LOGIN),
    (&["Could not resolve hostname"], "it is `HostName` in `[ssh]`"),
    (&["onfiguration option"], "the options of ssh are those in `[ssh]`"),
];
const LOGIN: &str = "`User` and `IdentityFile` in `[ssh]` say who logs in, and by which key";

/// The option with the path of a shared connection; ssh fills in the user and the destination.
pub(super) fn control_path(dir: &Path, number: usize) -> OsString {
    let mut option = OsString::from("ControlPath=");
    option.push(control_sockets::path(dir, number));
    option
}

impl Guest {
    /// Makes sure that there is a shared connection with room for a call of this process, if this
    /// guest's connections are shared. Without a shared connection, each call makes its own.
    pub(crate) fn begin_sharing(&self) -> Result<(), Error> {
        self.share()?.map_err(|said| unreachable(&self.paths.name, &self.paths, &said))
    }

    /// Finds or begins the shared connection. The inner error is what ssh said when it did not
    /// reach the guest.
    pub(crate) fn share(&self) -> Result<Result<(), String>, Error> {
        let (Some(dir), own) = (&self.shared, &self.paths.dir) else { return Ok(Ok(())) };
        let failures = Seats::read(own).failures;
        let _turn = self.turn()?;
        let mut seats = Seats::read(own);
        // The call that had the turn before could not connect: this call reports the error itself.
        let failed = seats.failures != failures;
        self.seat.set(if failed { None } else { seats.take(std::process::id(), is_alive) });
        let Some(number) = self.seat.get() else { return Ok(Ok(())) };
        let connected = if control_sockets::is_listening(dir, number) {
            Ok(())
        } else {
            self.connect(dir, number)?
        };
        seats.failures += u64::from(connected.is_err());
        seats.write(own)?;
        Ok(connected)
    }

    fn turn(&self) -> Result<Turn, Error> {
        let turn = Turn::of(&self.paths.dir);
        let taken = poll(None::<Instant>, || match self.limits.exceeded() {
            _ if turn.is_taken() => Some(Ok(())),
            Some(error) => Some(Err(error)),
            None => None,
        });
        taken.transpose()?;
        Ok(turn)
    }

    fn connect(&self, dir: &Path, number: usize) -> Result<Result<(), String>, Error> {
        let mut ssh = programs::SSH.command();
        ssh.arg("-F").arg(&self.paths.ssh_config).args(["-o", "ControlMaster=yes", "-o"]);
        ssh.arg(control_path(dir, number)).args(["-o", &format!("ControlPersist={PERSIST}")]);
        ssh.args(super::options(super::OWN_OPTIONS)).args(["-f", "-N", &self.paths.name]);
        let path = self.paths.dir.join("ssh.said");
        let said = temporary::nameless(&path);
        let mut said = said.map_err(|error| Error::io("create", &path, &error))?;
        let stderr = said.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let exit_code = run_attached(ssh, &self.limits, &self.log)?;
        let mut bytes = Vec::new();
        let _ = said.rewind().and_then(|()| said.read_to_end(&mut bytes));
        if exit_code != Some(0) {
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

/// Whether a process is alive. Without `/proc`, no other process is seen, and all calls share one
/// connection.
fn is_alive(pid: u32) -> bool {
    linux::stat(pid).map_or(true, |stat| stat.is_some_and(|stat| stat.state != 'Z'))
}

/// The error that ssh did not reach the guest, in its own words, with a hint.
fn unreachable(name: &str, paths: &Paths, said: &str) -> Error {
    let said = sanitized(said.trim());
    let known_hosts = paths.known_hosts.display().to_string();
    let is_cause = |signs: &[&str]| signs.iter().all(|sign| said.contains(sign));
    let hint = if is_cause(&["Host key verification failed", &known_hosts]) {
        format!("if the guest was made anew, forget its old key: `rm {known_hosts}`")
    } else if let Some((_, hint)) = CAUSES.iter().find(|(signs, _)| is_cause(signs)) {
        (*hint).to_string()
    } else {
        format!("is it booted? `qqmgr wait {name} --for ssh` waits for its ssh server")
    };
    let said = if said.is_empty() { "ssh failed and said nothing" } else { &said };
    Error::failed(format!("cannot reach the guest of VM `{name}`: {said}")).hint(hint)
}

/// Ends the shared connections of a VM, including the one at the user's own `ControlPath`. They
/// would end by themselves some time after QEMU; so nothing that ssh says here matters.
pub(crate) fn end_shared_connection(paths: &Paths, log: &Log) -> Result<(), Error> {
    let exit = |ssh_option: &str, value: &Path, also: &[&Path]| {
        let mut ssh = programs::SSH.command();
        ssh.arg(ssh_option).arg(value).args(also).args(["-O", "exit", &paths.name]);
        briefly(ssh, EXIT_WAIT, log);
    };
    if has_own_control_path(paths) {
        exit("-F", &paths.ssh_config, &[]);
    }
    Seats::remove(&paths.dir)?;
    if control_sockets::all(&paths.dir).is_empty() {
        return Ok(());
    }
    paths.make_short_way()?;
    for socket in control_sockets::listening(&paths.plain_dir()?) {
        exit("-F", Path::new("/dev/null"), &[Path::new("-S"), &socket]);
    }
    control_sockets::all(&paths.dir).iter().try_for_each(|socket| files::remove(socket))
}

/// Ends the shared connections of a guest that has ended, and forgets its host keys if they ended
/// with it: a guest that forgets what it writes (`-snapshot`) may have made its host keys during
/// this start, and makes others at the next one.
pub(crate) fn forget_guest(paths: &Paths, log: &Log) -> Result<(), Error> {
    end_shared_connection(paths, log)?;
    let Some(instance) = Instance::read(paths)? else { return Ok(()) };
    let words = instance.own_argv().iter().map(String::as_str);
    let learned_at = paths.known_hosts.metadata().map_or(0, |metadata| metadata.mtime());
    if forgets(&arguments_of(words))
        && u64::try_from(learned_at).is_ok_and(|at| at >= instance.started_at)
    {
        files::remove(&paths.known_hosts)?;
    }
    Ok(())
}

/// Whether the user's own `ControlPath` says where connections are shared.
fn has_own_control_path(paths: &Paths) -> bool {
    let text = super::config_file(paths);
    config::settings(&text).any(|(keyword, value)| {
        keyword.eq_ignore_ascii_case("ControlPath") && !value.eq_ignore_ascii_case("none")
    })
}
