//! TRUSTED CORE: becomes gdb, for QEMU itself or for its guest.
//!
//! Of a VM that does not run, gdb gets QEMU's command line in one word, by `set args`: with
//! `gdb --args` it would look like QEMU to all that know QEMU by its words, as `stop` does. `ps`
//! does not show where words begin: there, what keeps it apart is the backslash of [`quoted_word`].

use super::Paths;
use super::events::NEGOTIATION;
use super::session::Session;
use crate::error::Error;
use crate::files;
use crate::json::Value;
use crate::log::Log;
use crate::programs;
use crate::system::inherited;
use crate::text::{command_line, sanitized};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

/// Instead of `gdb`: `gdb-multiarch`, say.
const PROGRAM_VARIABLE: &str = "QQMGR_GDB";
/// By these QEMU interrupts a CPU of its own, makes coroutines of signal stacks, and is asked to
/// end; the last it ignores (QEMU's own `scripts/qemu-gdb.py` is as quiet about it).
const PASS_SIGNALS: &str = "handle SIGUSR1 SIGUSR2 SIGTERM SIGPIPE nostop noprint pass";
/// Runs QEMU as a boot of its own each time: what the guest said in the last one is kept, as by
/// [`super::boots`], and the story begins anew, as by [`super::events`]; but not where the VM runs
/// already, which QEMU itself will refuse. Its words are the VM's directory, how many earlier boots
/// are kept, what is in `events.in`, and the command line. In a subshell, QEMU gets no variables.
const WRAPPER: &str = "( { read pid <\"$0/pid\"; } 2>/dev/null; \
    ! kill -0 \"$pid\" 2>/dev/null || exit 0; s=$0/serial n=$1; \
    [ -f \"$s\" ] && [ -s \"$s\" ] && [ ! -L \"$s\" ] || n=0; \
    while [ $n -gt 1 ]; do m=$((n-1)); \
    [ ! -f \"$s.$m\" ] || mv -f \"$s.$m\" \"$s.$n\" || exit; n=$m; done; \
    [ $n = 0 ] || mv -f \"$s\" \"$s.1\" || exit; \
    : >\"$0/events.out\" && echo \"$2\" >\"$0/events.in\" ) && shift 2 && exec \"$@\"";
/// The option by which a QEMU is known.
const PID_FILE: &str = "-pidfile";
/// QEMU's name for the device at which it listens for a debugger (`gdbserver_start`).
const DEVICE: &str = "gdb";
/// Such a device has this before its address while nobody is connected.
const DISCONNECTED: &str = "disconnected:";

pub(crate) struct Gdb {
    program: OsString,
    words: Vec<OsString>,
}

impl Gdb {
    /// Finds the debugger, before anything is made for the VM.
    pub(crate) fn find() -> Result<Self, Error> {
        let chosen = std::env::var_os(PROGRAM_VARIABLE).filter(|name| !name.is_empty());
        let program = chosen.unwrap_or_else(|| programs::GDB.command().get_program().into());
        let name = program.to_string_lossy();
        if !name.contains('/') && programs::find(&name).is_none() {
            let error = Error::failed(format!("there is no program `{name}`"));
            return Err(error.hint("install it (Debian: gdb, or gdb-multiarch)"));
        }
        Ok(Self { program, words: Vec::new() })
    }

    /// For QEMU, which it is about to start with these arguments in this directory, and of which so
    /// many earlier boots are kept.
    pub(crate) fn with_qemu(
        self,
        bin: &Path,
        arguments: &[OsString],
        dir: &Path,
        paths: &Paths,
        boots: u32,
    ) -> Self {
        let boots = boots.to_string();
        let wrapper = [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(WRAPPER)];
        let story = [paths.dir.as_os_str(), boots.as_ref(), NEGOTIATION.trim_end().as_ref()];
        self.command("set cwd ", dir.as_os_str().as_bytes())
            .command("set exec-wrapper ", &quoted(wrapper.into_iter().chain(story)))
            .command(PASS_SIGNALS, b"")
            .command("set args ", &quoted(arguments.iter().map(OsString::as_os_str)))
            .word(bin)
    }

    /// For a QEMU that runs.
    pub(crate) fn attached_to(self, pid: u32) -> Self {
        self.command(PASS_SIGNALS, b"").word("-p").word(pid.to_string())
    }

    /// For the guest of a QEMU that listens there.
    pub(crate) fn of_guest(self, listener: &OsStr) -> Self {
        self.command("target remote ", listener.as_bytes())
    }

    /// Becomes gdb, with more words. Comes back only when that fails.
    pub(crate) fn replace_us(self, words: &[OsString], log: &Log) -> Error {
        let argv = [std::slice::from_ref(&self.program), &self.words, words].concat();
        let mut command = inherited::command(&argv, log);
        // gdb has it run the wrapper, and others than sh do not read words as it does.
        command.env("SHELL", "/bin/sh");
        log.verbose(|| format!("exec {}", command_line(&argv)));
        let error = command.exec();
        programs::cannot_run(&command, &error)
    }

    fn word(mut self, word: impl Into<OsString>) -> Self {
        self.words.push(word.into());
        self
    }

    fn command(self, name: &str, rest: &[u8]) -> Self {
        let command = [name.as_bytes(), rest].concat();
        self.word("-ex").word(OsString::from_vec(command))
    }
}

/// The QEMU that gdb can start, of the first word of a command line: by its whole path, since gdb
/// looks for a name in its directory first.
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

/// Words as both sh and gdb's own `buildargv` read them, of which the second does not leave a
/// backslash in quotes alone in old versions.
fn quoted<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Vec<u8> {
    let words: Vec<Vec<u8>> = words.into_iter().map(quoted_word).collect();
    words.join(&b' ')
}

fn quoted_word(word: &OsStr) -> Vec<u8> {
    if word.is_empty() {
        return b"''".to_vec();
    }
    let mut out = if word == PID_FILE { b"\\".to_vec() } else { Vec::new() };
    for byte in word.as_bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"'\n'"),
            byte if byte.is_ascii_alphanumeric() || b"/._-+,:=@%".contains(byte) => out.push(*byte),
            byte if byte.is_ascii() => out.extend_from_slice(&[b'\\', *byte]),
            byte => out.push(*byte),
        }
    }
    out
}

/// Where QEMU listens for a debugger of the guest, as gdb's `target remote` takes it. A QEMU that
/// does not is told to, at the VM's own socket.
pub(crate) fn listener(session: &mut Session, paths: &Paths) -> Result<OsString, Error> {
    let name = match device(session)? {
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

/// QEMU's description of the device, if it listens.
fn device(session: &mut Session) -> Result<Option<String>, Error> {
    let Value::Array(devices) = session.execute("query-chardev", None)? else { return Ok(None) };
    let label = |device: &&Value| device.get("label").and_then(Value::as_str) == Some(DEVICE);
    let name = devices.iter().find(label).and_then(|device| device.get("filename")?.as_str());
    Ok(name.map(str::to_string))
}

/// There is no QMP command for it, and the answer of the other monitor is a text. So QEMU is asked
/// whether it did.
fn listen(session: &mut Session, paths: &Paths) -> Result<String, Error> {
    let socket = paths.reachable(&paths.gdb)?;
    let command = format!("gdbserver unix:{},server=on,wait=off", socket.display());
    let arguments = Value::object([("command-line", Value::from(command.as_str()))]);
    let said = session.execute("human-monitor-command", Some(&arguments))?;
    device(session)?.ok_or_else(|| {
        let lines: Vec<&str> = said.as_str().unwrap_or_default().lines().collect();
        let said = sanitized(&lines.join("\n"));
        Error::failed(format!("QEMU does not listen for a debugger:\n{said}"))
    })
}
