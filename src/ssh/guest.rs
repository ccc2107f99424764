//! The guest of a running VM, and the commands that reach it.

use super::config::may_share;
use super::connections;
use super::limits::Limits;
use super::written::{config_file, config_text, write_config};
use crate::config::{Choices, Config, Resolver};
use crate::error::Error;
use crate::log::Log;
use crate::system::programs::{self, Program};
use crate::system::run::Invocation;
use crate::vm::{Instance, Look, Paths};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The exit status by which OpenSSH, and qqmgr on its behalf, reports its own failure.
pub(crate) const FAILURE_CODE: u8 = 255;

/// The names of dropbear's client, to which `ssh` links on some small systems.
const DROPBEAR: &[&str] = &["dbclient", "dropbear", "dropbearmulti"];

/// The option for a connection of the call's own, which ends with it. The master of a shared
/// connection would keep the session when an ssh is killed.
const ALONE: &str = "ControlPath=none";
/// Options for an `ssh` that only finds out whether a server answers: it does not log in.
const QUESTION: &[&str] = &[
    "BatchMode=yes",
    ALONE,
    "PreferredAuthentications=none",
    "RemoteCommand=none",
    "RequestTTY=no",
];
/// Options for what this program itself does on a guest, like those that scp sets. Settings for
/// people and for the commands that they run there would break it.
pub(super) const OWN: &[&str] =
    &["RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "ClearAllForwardings=yes"];
/// Options for a user's job: a `RemoteCommand` would run in its place, or beside it.
pub(crate) const JOB: &[&str] = &["RemoteCommand=none", "RequestTTY=no"];
/// Options for a job that may be killed.
pub(crate) const JOB_ALONE: &[&str] = &["RemoteCommand=none", "RequestTTY=no", ALONE];
/// Options for a job with a terminal, if standard input is one.
pub(crate) const ON_TERMINAL: &[&str] = &["RemoteCommand=none", "RequestTTY=yes", ALONE];
/// Options for a job while no person can be asked for a password.
pub(crate) const UNATTENDED: &[&str] =
    &["BatchMode=yes", "RemoteCommand=none", "RequestTTY=no", ALONE];

/// The options of ssh that take an argument (OpenSSH 9.2 to 10.0).
const WITH_ARGUMENT: &[u8] = b"BDEFIJLOPQRSWbceilmopw";

/// The guest of a running VM, whose `ssh.conf` has been written.
pub(crate) struct Guest {
    pub(crate) paths: Paths,
    pub(crate) log: Log,
    /// The limits of every program for the guest that does not replace this process.
    pub(crate) limits: Limits,
    /// The directory of the shared connections, if this guest's connections may be shared.
    pub(super) shared: Option<PathBuf>,
    /// The number of the shared connection that has room for a call of this process.
    pub(super) seat: Cell<Option<usize>>,
}

impl Guest {
    /// Finds the guest of the VM; fails when the VM is not running. The port and the
    /// variables are those that the VM was started with; the options are the current ones. If the
    /// VM is not configured any more, the options are those of its start.
    pub(crate) fn of(config: &Config, paths: &Paths, log: &Log) -> Result<Self, Error> {
        let look = Look::everywhere(paths)?;
        look.running(paths)?;
        check_client()?;
        if let Some(vm) = config.find_vm(&paths.name) {
            let choices = choices(look.record.as_ref());
            let resolver = Resolver::new(config, vm, choices);
            let (port, options) = (resolver.ssh_port()?, resolver.ssh_options()?);
            let text = config_text(&options, paths, port, config.dir())?;
            write_config(&text, paths, config.dir(), log)?;
        }
        // Without a short path to the directory, the names of sockets may be too long.
        let shares = may_share(&config_file(paths));
        let shared = shares.then(|| paths.make_plain_dir().ok()).flatten();
        Ok(Self {
            paths: paths.clone(),
            log: log.clone(),
            limits: Limits::default(),
            shared: shared.filter(|dir| Paths::has_room(dir)),
            seat: Cell::new(Some(0)),
        })
    }

    pub(crate) fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// `ssh -F ssh.conf -o OPTION... NAME WORDS...`, over a shared one unless it is [`ALONE`].
    pub(crate) fn ssh<S: AsRef<OsStr>>(&self, options: &[&str], words: &[S]) -> Invocation {
        let mut ssh = self.command(&programs::SSH, options, !options.contains(&ALONE));
        ssh.arg(&self.paths.name).args(words);
        ssh
    }

    /// `ssh` for the user's own `qqmgr ssh`, over a shared connection if that is possible.
    pub(crate) fn users_ssh(&self, words: &[OsString]) -> Invocation {
        let purpose = Purpose::of(words);
        let options: &[&str] = if purpose.has_command { &["RemoteCommand=none"] } else { &[] };
        let shares = purpose.may_share() || purpose.is_control;
        let mut ssh = self.command(&programs::SSH, options, shares);
        ssh.arg(&self.paths.name).args(words).stdin(Stdio::inherit());
        ssh
    }

    /// Whether the user's own call can use the shared connection.
    pub(crate) fn shares(&self, words: &[OsString]) -> bool {
        self.shared.is_some() && Purpose::of(words).may_share()
    }

    /// An `ssh -v` whose messages show whether the guest's server answers within this many seconds;
    /// it asks the server for nothing.
    pub(crate) fn question(&self, seconds: u64) -> Invocation {
        let timeout = format!("ConnectTimeout={seconds}");
        let mut ssh = self.ssh(&[QUESTION, &[&timeout]].concat(), &["-v", "exit"]);
        ssh.stdout(Stdio::piped());
        ssh
    }

    /// `PROGRAM -F ssh.conf -o OPTION...`; if it `shares`, over the shared connection if there is
    /// one.
    pub(super) fn command(&self, program: &Program, options: &[&str], shares: bool) -> Invocation {
        let mut command = program.command();
        command.arg("-F").arg(&self.paths.ssh_config);
        command.args(options.iter().flat_map(|option| ["-o", option]));
        let seat = self.shared.as_ref().zip(self.seat.get()).filter(|_| shares);
        if let Some((dir, number)) = seat {
            command.args(["-o", "ControlMaster=no", "-o"]);
            command.arg(connections::option(dir, number));
        }
        command
    }
}

/// Returns an error where `ssh` is dropbear's client, which reads no `ssh.conf`.
fn check_client() -> Result<(), Error> {
    let ssh = programs::SSH.find().and_then(|ssh| ssh.canonicalize().ok());
    let name = ssh.as_deref().and_then(Path::file_name);
    if !DROPBEAR.iter().any(|dropbear| name == Some(OsStr::new(dropbear))) {
        return Ok(());
    }
    Err(Error::failed("`ssh` is dropbear's client here, which reads no configuration file")
        .hint("install that of OpenSSH (Debian: openssh-client)"))
}

/// The choices that a running VM was started with, as far as its record has them.
pub(crate) fn choices(instance: Option<&Instance>) -> Choices<'_> {
    instance.map_or_else(Choices::default, |instance| Choices {
        ssh_port: instance.ssh_port,
        set: &instance.set,
    })
}

/// The purpose of a call of ssh, as its words show it: as ssh(1) reads them, options up to the
/// first word that is not an option, and a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Purpose {
    /// It has options of its own.
    has_options: bool,
    has_command: bool,
    /// It speaks to the master of a shared connection (`-O`).
    is_control: bool,
}

impl Purpose {
    fn of(words: &[OsString]) -> Self {
        let mut purpose = Self::default();
        let mut words = words.iter().map(|word| word.as_bytes());
        while let Some(word) = words.next() {
            let letters = match word {
                b"--" => {
                    purpose.has_command = words.next().is_some();
                    return purpose;
                }
                [b'-', letters @ ..] if !letters.is_empty() => letters,
                _ => {
                    purpose.has_command = true;
                    return purpose;
                }
            };
            purpose.has_options = true;
            if let Some(at) = letters.iter().position(|letter| WITH_ARGUMENT.contains(letter)) {
                purpose.is_control |= letters[at] == b'O';
                if at + 1 == letters.len() {
                    words.next();
                }
            }
        }
        purpose
    }

    /// Whether the call can use the shared connection. Options may ask for something that it does
    /// not have: a user, a forwarded port, an agent. A shell has its own connection.
    fn may_share(self) -> bool {
        self.has_command && !self.has_options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_a_command() {
        for (line, options, command, control) in [
            ("", false, false, false),
            ("ls -l", false, true, false),
            ("-- ls", false, true, false),
            ("--", false, false, false),
            ("-", false, true, false),
            ("-N -L 8080:localhost:80", true, false, false),
            ("-lalice whoami", true, true, false),
            ("-l alice", true, false, false),
            ("-tt -- top", true, true, false),
            ("-nvo User=alice", true, false, false),
            ("-O check", true, false, true),
            ("-vOexit", true, false, true),
            ("-P tag -E log -I x -Q y -e z -B b ls", true, true, false),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            let expected =
                Purpose { has_options: options, has_command: command, is_control: control };
            assert_eq!(Purpose::of(&words), expected, "{line}");
        }
    }
}
