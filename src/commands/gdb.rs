//! `qqmgr gdb VM [-- ARGS...]`: becomes gdb, so that every signal and terminal mode is gdb's own.
//!
//! For a VM that is not running, gdb gets QEMU's command line in one word, by `set args`. With `gdb
//! --args`, gdb would look like QEMU to commands that recognize QEMU by its words, such as `stop`.
//! `ps` does not show where words begin, but it shows the quotes.

use super::start::{Start, StartOptions};
use super::target::Target;
use crate::cli::{Args, Command, Count, Flag, Operand, spec};
use crate::error::Error;
use crate::report::Outcome;
use crate::system::{files, inherited, programs};
use crate::text::{quoted, sanitized};
use crate::vm::events::QUESTIONS;
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::session::DISCONNECTED;
use crate::vm::{Paths, Session, look};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub(crate) static COMMAND: Command = Command {
    name: "gdb",
    about: "Debug QEMU itself, or the guest's kernel",
    details: "gdb attaches to a running QEMU. Otherwise, gdb has the VM's command line, and\n\
              `run` starts it. ARGS go to gdb. The exit code is gdb's.",
    operands: &[spec::VM, Operand::new("ARGS", Count::Words)],
    flags: &[&GUEST],
    check,
    examples: &["gdb dev --guest -- vmlinux", "gdb dev"],
    ..Command::DEFAULT
};

static GUEST: Flag = Flag::switch("guest", "Attach to the guest of a running VM, not to QEMU");

fn check(args: &Args) -> Result<(), Error> {
    if args.json() {
        return Err(Error::usage("`gdb` has no result for `--json`")
            .hint("`qqmgr gdb VM -- -batch -ex COMMAND` prints what gdb answers"));
    }
    Ok(())
}

/// The variable that names a program to use instead of `gdb`, such as `gdb-multiarch`.
const PROGRAM_VARIABLE: &str = "QQMGR_GDB";
/// The gdb command for signals that gdb passes on silently. QEMU uses them to interrupt its own
/// CPUs, to make coroutines of signal stacks, and to be asked to end; it ignores the last one
/// (QEMU's own `scripts/qemu-gdb.py` passes the same signals).
const PASS_SIGNALS: &str = "handle SIGUSR1 SIGUSR2 SIGTERM SIGPIPE nostop noprint pass";
/// The shell script that runs QEMU as a new boot each time: it keeps the serial output of the last
/// boot, as [`crate::vm::boots`] does, and empties the event log, as [`crate::vm::events`] does. It
/// does neither if the VM is already running, since QEMU itself will refuse to start. Its words are
/// the VM's directory, the number of earlier boots to keep, the content of `events.in`, and the
/// command line. The subshell keeps its variables out of QEMU's environment.
const WRAPPER: &str = "( { read pid <\"$0/pid\"; } 2>/dev/null; \
    ! kill -0 \"$pid\" 2>/dev/null || exit 0; s=$0/serial n=$1; \
    [ -f \"$s\" ] && [ -s \"$s\" ] && [ ! -L \"$s\" ] || n=0; \
    while [ $n -gt 1 ]; do m=$((n-1)); \
    [ ! -f \"$s.$m\" ] || mv -f \"$s.$m\" \"$s.$n\" || exit; n=$m; done; \
    [ $n = 0 ] || mv -f \"$s\" \"$s.1\" || exit; \
    : >\"$0/events.out\" && echo \"$2\" >\"$0/events.in\" ) && shift 2 && exec \"$@\"";
/// QEMU's name for the device on which it listens for a debugger (`gdbserver_start`).
const DEVICE: &str = "gdb";

pub(super) fn run(target: &Target) -> Outcome {
    let program = find_gdb()?;
    let words = if target.args.has(&GUEST) { guest(target)? } else { qemu(target)? };
    let argv = [&[program], words.as_slice(), &target.args.words].concat();
    let mut command = inherited::command(&argv, &target.log);
    // gdb runs the wrapper with it, and other shells than sh read words differently.
    command.env("SHELL", "/bin/sh").stdin(Stdio::inherit());
    Err(command.exec(&target.log))
}

fn guest(target: &Target) -> Result<Vec<OsString>, Error> {
    let mut session = Session::open(&target.paths, &target.log)?;
    let listener = listener(&mut session, &target.paths)?;
    Ok(command("target remote ", &listener).into())
}

fn qemu(target: &Target) -> Result<Vec<OsString>, Error> {
    let Target { paths, log, .. } = target;
    if let Some(process) = look::find(paths)?.filter(|process| !process.exiting) {
        return Ok(words_to_attach(process.pid));
    }
    let mut start = Start::new(target, StartOptions::default())?;
    let bin = binary(&start.plan()?.argv[0])?;
    start.prepare(&|| None)?;
    let lock = lock(paths, COMMAND.name, LOCK_WAIT, log)?;
    Ok(match start.for_debugger(lock)? {
        Some(process) => words_to_attach(process.pid),
        None => words_to_start(target, &bin, &start.plan()?.argv[1..])?,
    })
}

/// Finds the debugger. Called before any file of the VM is made.
fn find_gdb() -> Result<OsString, Error> {
    let chosen = std::env::var_os(PROGRAM_VARIABLE).filter(|name| !name.is_empty());
    let program = chosen.unwrap_or_else(|| programs::GDB.name().into());
    let name = program.to_string_lossy();
    if !name.contains('/') && programs::find(&name).is_none() {
        let error = Error::failed(format!("there is no program `{name}`"));
        return Err(error.hint("install it (Debian: gdb, or gdb-multiarch)"));
    }
    Ok(program)
}

/// gdb's words to start and debug QEMU with these arguments in the configuration's directory.
fn words_to_start(
    target: &Target,
    bin: &Path,
    arguments: &[OsString],
) -> Result<Vec<OsString>, Error> {
    let Target { config, paths, .. } = target;
    let boots = target.vm()?.boots.to_string();
    let wrapper = ["sh", "-c", WRAPPER].map(OsStr::new);
    let boot = [paths.dir.as_os_str(), boots.as_ref(), QUESTIONS.trim_end().as_ref()];
    let mut words = [
        command("set cwd ", config.dir().as_os_str()),
        command("set exec-wrapper ", &quoted(wrapper.into_iter().chain(boot))),
        command(PASS_SIGNALS, OsStr::new("")),
        command("set args ", &quoted(arguments)),
    ]
    .concat();
    words.push(bin.into());
    Ok(words)
}

/// gdb's words to attach to a running QEMU.
fn words_to_attach(pid: u32) -> Vec<OsString> {
    let [flag, pass] = command(PASS_SIGNALS, OsStr::new(""));
    vec![flag, pass, "-p".into(), pid.to_string().into()]
}

/// gdb's words for one of its commands.
fn command(name: &str, rest: &OsStr) -> [OsString; 2] {
    ["-ex".into(), [OsStr::new(name), rest].join(OsStr::new(""))]
}

/// Finds the QEMU that gdb can start from the first word of a command line. Gives the whole path,
/// since gdb looks for a bare name in its own directory first.
fn binary(bin: &OsStr) -> Result<PathBuf, Error> {
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
fn listener(session: &mut Session, paths: &Paths) -> Result<OsString, Error> {
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
