//! Replaces this process with gdb, for QEMU itself or for its guest.
//!
//! For a VM that is not running, gdb gets QEMU's command line in one word, by `set args`. With `gdb
//! --args`, gdb would look like QEMU to commands that recognize QEMU by its words, such as `stop`.
//! `ps` does not show where words begin, but it shows the quotes.

use super::Paths;
use super::events::QUESTIONS;
use super::session::{DISCONNECTED, Session};
use crate::error::Error;
use crate::log::Log;
use crate::system::{files, inherited, programs};
use crate::text::{quoted, sanitized};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The variable that names a program to use instead of `gdb`, such as `gdb-multiarch`.
const PROGRAM_VARIABLE: &str = "QQMGR_GDB";
/// The gdb command for signals that gdb passes on silently. QEMU uses them to interrupt its own
/// CPUs, to make coroutines of signal stacks, and to be asked to end; it ignores the last one
/// (QEMU's own `scripts/qemu-gdb.py` passes the same signals).
const PASS_SIGNALS: &str = "handle SIGUSR1 SIGUSR2 SIGTERM SIGPIPE nostop noprint pass";
/// The shell script that runs QEMU as a new boot each time: it keeps the serial output of the last
/// boot, as [`super::boots`] does, and empties the event log, as [`super::events`] does. It does
/// neither if the VM is already running, since QEMU itself will refuse to start. Its words are the
/// VM's directory, the number of earlier boots to keep, the content of `events.in`, and the command
/// line. The subshell keeps its variables out of QEMU's environment.
const WRAPPER: &str = "( { read pid <\"$0/pid\"; } 2>/dev/null; \
    ! kill -0 \"$pid\" 2>/dev/null || exit 0; s=$0/serial n=$1; \
    [ -f \"$s\" ] && [ -s \"$s\" ] && [ ! -L \"$s\" ] || n=0; \
    while [ $n -gt 1 ]; do m=$((n-1)); \
    [ ! -f \"$s.$m\" ] || mv -f \"$s.$m\" \"$s.$n\" || exit; n=$m; done; \
    [ $n = 0 ] || mv -f \"$s\" \"$s.1\" || exit; \
    : >\"$0/events.out\" && echo \"$2\" >\"$0/events.in\" ) && shift 2 && exec \"$@\"";
/// QEMU's name for the device on which it listens for a debugger (`gdbserver_start`).
const DEVICE: &str = "gdb";

/// Finds the debugger. Called before any file of the VM is made.
pub(crate) fn find() -> Result<OsString, Error> {
    let chosen = std::env::var_os(PROGRAM_VARIABLE).filter(|name| !name.is_empty());
    let program = chosen.unwrap_or_else(|| programs::GDB.name().into());
    let name = program.to_string_lossy();
    if !name.contains('/') && programs::find(&name).is_none() {
        let error = Error::failed(format!("there is no program `{name}`"));
        return Err(error.hint("install it (Debian: gdb, or gdb-multiarch)"));
    }
    Ok(program)
}

/// gdb's words to start and debug QEMU with these arguments in the directory `dir`. `boots` is the
/// number of earlier boots to keep.
pub(crate) fn start(
    bin: &Path,
    arguments: &[OsString],
    dir: &Path,
    paths: &Paths,
    boots: u32,
) -> Vec<OsString> {
    let boots = boots.to_string();
    let wrapper = ["sh", "-c", WRAPPER].map(OsStr::new);
    let boot = [paths.dir.as_os_str(), boots.as_ref(), QUESTIONS.trim_end().as_ref()];
    let mut words = [
        command("set cwd ", dir.as_os_str()),
        command("set exec-wrapper ", &quoted(wrapper.into_iter().chain(boot))),
        command(PASS_SIGNALS, OsStr::new("")),
        command("set args ", &quoted(arguments)),
    ]
    .concat();
    words.push(bin.into());
    words
}

/// gdb's words to attach to a running QEMU.
pub(crate) fn attach(pid: u32) -> Vec<OsString> {
    let [flag, pass] = command(PASS_SIGNALS, OsStr::new(""));
    vec![flag, pass, "-p".into(), pid.to_string().into()]
}

/// Replaces this process with a command line of gdb. Returns only if that fails.
pub(crate) fn replace_us(argv: &[OsString], log: &Log) -> Error {
    let mut command = inherited::command(argv, log);
    // gdb runs the wrapper with it, and other shells than sh read words differently.
    command.env("SHELL", "/bin/sh").stdin(Stdio::inherit());
    command.exec(log)
}

/// gdb's words for one of its commands.
pub(crate) fn command(name: &str, rest: &OsStr) -> [OsString; 2] {
    ["-ex".into(), [OsStr::new(name), rest].join(OsStr::new(""))]
}

/// Finds the QEMU that gdb can start from the first word of a command line. Gives the whole path,
/// since gdb looks for a bare name in its own directory first.
pub(crate) fn binary(bin: &OsStr) -> Result<PathBuf, Error> {
    let found = bin.to_str().filter(|name| !name.contains('/')).and_then(programs::find);
    let path = found.unwrap_or_else(|| bin.into());
    if files::read_start(&path, 2).is_ok_and(|start| start == b"#!") {
        let message = format!("gdb cannot start `{}`, which is a script", path.display());
        return Err(Error::failed(message).hint(
            "name the QEMU behind it as `qemu`, or `start` the VM first: gdb attaches then",
        ));
    }
    Ok(path)
}

/// The address on which QEMU listens for a debugger of the guest, in the form of gdb's `target
/// remote`. A QEMU that does not listen is made to, on the VM's own socket.
pub(crate) fn listener(session: &mut Session, paths: &Paths) -> Result<OsString, Error> {
    let name = match session.chardev(DEVICE)? {
        Some(name) => name,
        None => listen(session, paths)?,
    };
    let free = name.strip_prefix(DISCONNECTED);
    let address = free.unwrap_or(&name);
    let address = address.rsplit_once(",server").map_or(address, |(address, _)| address);
    let reached = match address.split_once(':') {
        Some(("unix", path)) if Path::new(path).file_name() == paths.gdb.file_name() => {
            paths.reachable(&paths.gdb)?.into()
        }
        Some(("unix", path)) => path.into(),
        Some(("tcp", _)) => address.into(),
        _ => {
            let message = format!("gdb cannot reach `{address}`, where QEMU listens for it");
            return Err(Error::failed(message)
                .hint("take `-gdb` out of the VM's `cmd`: `qqmgr gdb --guest` needs none"));
        }
    };
    free.map(|_| reached).ok_or_else(|| {
        Error::failed("another debugger has the guest")
            .hint("QEMU serves one at a time; `detach` or `quit` there lets the guest go on")
    })
}

/// Makes QEMU listen for a debugger. There is no QMP command for that, and the human monitor
/// answers with text, so QEMU is asked afterwards whether it listens.
fn listen(session: &mut Session, paths: &Paths) -> Result<String, Error> {
    let socket = paths.reachable(&paths.gdb)?;
    let command = format!("gdbserver unix:{},server=on,wait=off", socket.display());
    let said = session.monitor(&command)?;
    session.chardev(DEVICE)?.ok_or_else(|| {
        let lines: Vec<&str> = said.lines().collect();
        let said = sanitized(&lines.join("\n"));
        Error::failed(format!("QEMU does not listen for a debugger:\n{said}"))
    })
}
