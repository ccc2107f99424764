//! Waits until a guest whose ssh server answers accepts our login, and until cloud-init has done
//! its work on it: at the first boot, the keys may come later than the server.

use super::guest::{FAILURE_CODE, Guest, JOB, JOB_ALONE, OWN};
use super::limits::Limits;
use super::remote_command;
use super::run::Output;
use crate::error::{Error, Kind};
use crate::system::output::text_of;
use crate::vm::Deadline;
use crate::vm::wait::poll_long;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Pause after a refused login. Servers shut out clients that fail often (OpenSSH 9.8).
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// The time for which a refused login is tried again if cloud-init need not make the user first.
pub(crate) const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// Pause after a connection that ended.
const DROPPED_PAUSE: Duration = Duration::from_secs(1);
/// Messages of ssh that the server closed the connection, or never began the session.
const DROPPED: &[&str] = &[
    "Connection closed",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "banner exchange",
    "kex_exchange_identification",
    "Broken pipe",
];
const REFUSED: &[&str] = &["Permission denied (", "Too many authentication failures"];
/// Login methods that need a person to type, when the keys are refused.
const TYPED: &[&str] = &["password", "keyboard-interactive"];
/// Exits as `cloud-init status` does. Its documentation, under "failure states": 0 is success; 1 is
/// an unrecoverable error; 2 means that cloud-init is done and could recover from what went wrong,
/// such as a deprecated key.
const SCRIPT: &str = "command -v cloud-init >/dev/null || exit 127
cloud-init status --wait >/dev/null; code=$?; cloud-init status --long; exit $code";
const RECOVERED_CODE: i32 = 2;
/// The exit code of [`SCRIPT`] where there is no such program.
const MISSING_CODE: i32 = 127;
/// A guest that is reset does not end its connections.
const ALIVE: &[&str] = &["ServerAliveInterval=15", "ServerAliveCountMax=4"];

/// The pause before a login is tried again; `None` if it worked, or failed for a reason that
/// waiting does not fix and that ssh itself reports.
fn pause_after(output: &Output) -> Option<Duration> {
    let said = output.said();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if output.status.code() != Some(FAILURE_CODE.into()) {
        return None;
    }
    if says(REFUSED) {
        let types = std::io::stdin().is_terminal() && says(TYPED);
        return (!types).then_some(REFUSED_PAUSE);
    }
    // OpenSSH 10 with `LogLevel ERROR` says nothing of a connection that is dropped.
    (says(DROPPED) || said.is_empty()).then_some(DROPPED_PAUSE)
}

/// Waits until a command runs on the guest. Until cloud-init has made the user, logins are refused.
pub(crate) fn await_command(
    guest: &Guest,
    deadline: Deadline,
    ended: &mut dyn FnMut() -> Option<Error>,
) -> Result<(), Error> {
    let output = await_login(guest, deadline, deadline.limit, &|| "true".into(), ended)?;
    if output.status.success() {
        return Ok(());
    }
    let (name, said) = (&guest.paths.name, output.said());
    Err(Error::failed(format!("no command runs on the guest of VM `{name}`: {said}")))
}

/// Runs a command on the guest until its login works, over the shared connection if there is one.
/// A refused login is tried again for `patience`. `command` is asked for each try, and `ended`
/// returns an error when the guest is gone.
pub(crate) fn await_login(
    guest: &Guest,
    deadline: Deadline,
    patience: Duration,
    command: &dyn Fn() -> OsString,
    ended: &mut dyn FnMut() -> Option<Error>,
) -> Result<Output, Error> {
    let begin = Instant::now();
    let limits = Limits { deadline: Some(deadline), guest: guest.limits.guest.clone() };
    loop {
        let ssh = guest.ssh(JOB, &[command()]);
        let mut exceeded = || limits.exceeded().or_else(&mut *ended);
        let output = ssh.captured(&mut exceeded, &guest.log)?;
        let Some(pause) = pause_after(&output) else { return Ok(output) };
        let next = Instant::now() + pause;
        if pause == REFUSED_PAUSE && next > deadline.at.min(begin + patience) {
            return Err(refused(guest, &output));
        }
        guest.log.verbose(|| format!("not yet: {}", output.said()));
        if let Some(error) = poll_long(Some(next.min(deadline.at)), &mut *ended) {
            return Err(error);
        }
        if deadline.is_over() {
            let (name, seconds) = (&guest.paths.name, deadline.seconds());
            let said = output.said();
            let message = format!("waited {seconds} s for a login on VM `{name}`: {said}");
            return Err(Error::new(Kind::TimedOut, message));
        }
    }
}

/// The error that the guest refuses the login, with the user and the keys that ssh itself uses.
fn refused(guest: &Guest, output: &Output) -> Error {
    let found = guest.ssh(OWN, &["-G"]).captured(&mut || None, &guest.log);
    let text = found.map(|found| found.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let values = |keyword| {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.filter(move |(name, _)| *name == keyword).map(|(_, value)| value)
    };
    let user = values("user").next().map_or("this user".into(), |user| format!("`{user}`"));
    let message = format!(
        "the guest of VM `{}` refuses the login as {user} with {}: {}",
        guest.paths.name,
        shown(&values("identityfile").collect::<Vec<_>>()),
        output.said(),
    );
    Error::failed(message)
        .hint("the public key has to be in `~/.ssh/authorized_keys` of that user on the guest")
}

/// The keys that ssh tries: those that exist, or the only one that is set.
fn shown(keys: &[&str]) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    let path =
        |key: &str| key.strip_prefix('~').map_or(key.to_string(), |rest| home.clone() + rest);
    let there: Vec<String> = keys
        .iter()
        .map(|key| path(key))
        .filter(|key| std::fs::exists(key).unwrap_or(true))
        .map(|key| format!("`{key}`"))
        .collect();
    match (keys, &there[..]) {
        ([key], []) => format!("the key `{}`, which does not exist", path(key)),
        (_, []) => "no key but those of an agent: there is no `IdentityFile`".into(),
        (_, [key]) => format!("the key {key}"),
        (_, keys) => format!("the keys {}", keys.join(", ")),
    }
}

/// Waits until cloud-init is done, and notes errors that it recovered from. Returns `false` if the
/// guest has no cloud-init. `ended` returns an error when the guest is gone.
pub(crate) fn await_cloud_init(
    guest: &Guest,
    deadline: Deadline,
    ended: &mut dyn FnMut() -> Option<Error>,
) -> Result<bool, Error> {
    let limits = Limits { deadline: Some(deadline), guest: None };
    let late = || limits.exceeded().map(|error| error.after("cloud-init is not done"));
    let line = remote_command(&["sh".into(), "-c".into(), SCRIPT.into()]);
    let name = &guest.paths.name;
    loop {
        await_command(guest, deadline, ended)?;
        let ssh = guest.ssh(&[JOB_ALONE, ALIVE].concat(), &[&line]);
        let mut exceeded = || late().or_else(&mut *ended);
        let output = ssh.captured(&mut exceeded, &guest.log)?;
        let said = text_of(&[&output.stdout[..], &output.stderr].concat());
        match output.status.code() {
            Some(0) => return Ok(true),
            Some(RECOVERED_CODE) => {
                guest
                    .log
                    .note(&format!("cloud-init of VM `{name}` recovered from errors:\n{said}"));
                return Ok(true);
            }
            Some(MISSING_CODE) => return Ok(false),
            // cloud-init may reboot the guest.
            None => {}
            Some(code) if code == i32::from(FAILURE_CODE) => {}
            Some(_) => {
                let message = format!("cloud-init reports an error on VM `{name}`:\n{said}");
                return Err(Error::failed(message).hint(
                    "`/var/log/cloud-init-output.log` tells more, and `--wait=ssh` ignores it",
                ));
            }
        }
        if let Some(error) = poll_long(Some(Instant::now() + DROPPED_PAUSE), &mut exceeded) {
            return Err(error);
        }
    }
}
