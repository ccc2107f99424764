//! `qqmgr console VM`: the serial line in both directions, for a person at a terminal or a script.

use super::output::show;
use super::target::Target;
use crate::cli::flag::not_empty;
use crate::cli::{Args, Command, Flag, Takes, refuse_if, spec};
use crate::error::{Error, Kind, io_reason};
use crate::out::{self, Collected, Reader};
use crate::report::Outcome;
use crate::system::tty::Raw;
use crate::terminal::Filter;
use crate::text::sanitized;
use crate::vm::Deadline;
use crate::vm::console::Console;
use crate::vm::ending::Ending;
use crate::vm::output::Output;
use crate::vm::sought::Sought;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal as _, Read, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// The key that leaves: `Ctrl-]`, as with telnet and `virsh console`.
const LEAVE: u8 = 0x1d;
/// The number of lines of earlier output that are shown; QEMU itself shows none.
const TAIL_LINES: u64 = 20;
/// The default of `--idle`.
const IDLE: Duration = Duration::from_secs(1);
const CHUNK_BYTES: usize = 16 * 1024;
/// How many unread pieces of output are kept before the guest has to wait.
const PIECES_MAX: usize = 16;

pub(crate) static COMMAND: Command = Command {
    name: "console",
    about: "Use the guest's serial line",
    details: "On a terminal, Ctrl-] leaves. From a pipe, the guest gets all of standard\n\
              input, and its output is printed until it is silent. The VM needs `console =\n\
              true`.",
    operands: &[spec::VM],
    flags: &[&IDLE_FLAG, &UNTIL, &TIMEOUT],
    check,
    examples: &["console dev", "console dev --until login:"],
    ..Command::DEFAULT
};

static IDLE_FLAG: Flag<Duration> =
    Flag::seconds("idle", "After the input, leave after this silence (default 1)");
static UNTIL: Flag<OsString> = Flag::new(
    "until",
    Takes::Value("TEXT"),
    not_empty,
    "After the input, leave when the guest has said TEXT",
);
static TIMEOUT: Flag<Duration> =
    Flag::seconds("timeout", "Give up after this long (default: never)");

/// An event at one of the two ends.
enum Event {
    /// The guest has written this; nothing when QEMU has closed the connection.
    Output(Vec<u8>),
    InputEnded,
    /// The user has typed Ctrl-].
    Left,
}

/// How the session ended, by its word for scripts: `left`, `idle`, `text` or `stopped`. QEMU's
/// reason is that of the last one.
type End = (&'static str, Option<Ending>);

/// The user left, or the output has no reader any more.
const LEFT: End = ("left", None);

fn check(args: &Args) -> Result<(), Error> {
    let (is_typed, both) = (io::stdin().is_terminal(), args.has(&IDLE_FLAG) && args.has(&UNTIL));
    refuse_if(&[
        (args.json() && is_typed, "`--json` needs a standard input that is not a terminal"),
        (both, "`console` takes `--idle` or `--until`, not both"),
    ])
}

pub(super) fn run(target: &Target) -> Outcome {
    let Target { name, paths, log, .. } = target;
    let console = Console::open(paths, log)?.ok_or_else(|| without(target))?;
    target.note_own_port();
    let mut dialog = Dialog::new(target, console);
    let is_typed = io::stdin().is_terminal();
    let end = if is_typed { on_terminal(&mut dialog) } else { dialog.run(false) };
    let text = dialog.collected.text();
    let (end, ending) = end.map_err(|error| error.after_reading("text", &text))?;
    match &ending {
        Some(ending) => log.note(&format!("VM `{name}` has ended: {ending}")),
        None if is_typed => log.note(&format!("left the console; VM `{name}` keeps running")),
        None => {}
    }
    let reason = ending.as_ref().and_then(Ending::reason);
    // Without `--json` the guest's output has been written already.
    Ok(target.report("", [("text", text.into()), ("end", end.into()), ("reason", reason.into())]))
}

/// Connects a terminal. Its mode is restored before any further message.
fn on_terminal(dialog: &mut Dialog) -> Result<End, Error> {
    let Target { name, paths, log, .. } = dialog.target;
    log.note(&format!("this is the console of VM `{name}`; Ctrl-] leaves it"));
    // The terminal would answer a query in the earlier output now, so queries are left out.
    if out::is_terminal() {
        let mut output = Output::open(&paths.serial)?;
        output.skip_to_last(TAIL_LINES)?;
        let mut filter = Filter::new();
        show(&mut output, None, Some(&mut filter))?;
        out::write(filter.end())?;
    }
    let raw = Raw::new(log)?;
    let end = dialog.run(true);
    raw.restore()?;
    // The guest's last line may be incomplete.
    if out::is_terminal() {
        out::write(b"\n")?;
    }
    end
}

/// The error of a VM that was started without a console.
fn without(target: &Target) -> Error {
    let name = &target.name;
    let configured = target.vm().is_ok_and(|vm| vm.console);
    let error = Error::failed(format!("VM `{name}` runs without a console"));
    error.hint(if configured {
        format!("the configuration has one now: `qqmgr restart {name}` gives the VM one")
    } else {
        format!("put `console = true` into `[vm.{name}]`, and restart the VM")
    })
}

struct Dialog<'a> {
    target: &'a Target<'a>,
    console: Console,
    deadline: Option<Deadline>,
    /// Finds the text that is waited for, if there is one.
    search: Option<(Sought, Vec<u8>)>,
    found: bool,
    collected: Collected,
}

impl<'a> Dialog<'a> {
    fn new(target: &'a Target<'a>, console: Console) -> Self {
        let args = target.args;
        // With `--console`, the flag is that of the start.
        let timeout = args.value(&TIMEOUT).filter(|_| !args.has(&spec::CONSOLE));
        let deadline = timeout.map(Deadline::after);
        let until = args.value(&UNTIL).map(OsString::into_vec);
        let search = until.map(|text| (Sought::new(Some(text.clone()), vec![Vec::new()]), text));
        Self { target, console, deadline, search, found: false, collected: Collected::default() }
    }

    fn run(&mut self, typed: bool) -> Result<End, Error> {
        let (sender, events) = mpsc::sync_channel(PIECES_MAX);
        let (output, input) = self.console.ends(typed)?;
        let of_input = sender.clone();
        // The threads end with this process at the latest.
        let started = thread::Builder::new().spawn(move || pass_output(output, &sender));
        let started = started.and_then(|_| {
            thread::Builder::new().spawn(move || pass_input(input, typed, &of_input))
        });
        started.map_err(|error| {
            Error::failed(format!("cannot start a thread: {}", io_reason(&error)))
        })?;
        self.listen(&events)
    }

    fn listen(&mut self, events: &Receiver<Event>) -> Result<End, Error> {
        let idle = self.target.args.value(&IDLE_FLAG).unwrap_or(IDLE);
        let idle = Some(idle).filter(|_| self.search.is_none());
        // Set when the input ends.
        let mut idle_at = None;
        let mut input_ended = false;
        loop {
            let deadline = self.deadline.map(|deadline| deadline.at);
            let next = [idle_at, deadline].into_iter().flatten().min();
            let left = |at: Instant| at.saturating_duration_since(Instant::now());
            match events.recv_timeout(next.map_or(Duration::MAX, left)) {
                Ok(Event::Output(bytes)) if bytes.is_empty() => return self.ended(),
                Ok(Event::Output(bytes)) => {
                    if self.take(&bytes)? == Reader::Gone {
                        return Ok(LEFT);
                    }
                }
                Ok(Event::InputEnded) => input_ended = true,
                Ok(Event::Left) => return Ok(LEFT),
                Err(_) => {
                    let Some(deadline) = self.deadline.filter(|deadline| deadline.is_over()) else {
                        return Ok(("idle", None));
                    };
                    let message = format!("waited {} s for {}", deadline.seconds(), self.awaited());
                    return Err(Error::new(Kind::TimedOut, message));
                }
            }
            if input_ended && self.found {
                return Ok(("text", None));
            }
            idle_at = idle.filter(|_| input_ended).map(|idle| Instant::now() + idle);
        }
    }

    /// Takes output of the guest: writes it, or collects it for `--json`.
    fn take(&mut self, bytes: &[u8]) -> Result<Reader, Error> {
        self.found |=
            self.search.as_mut().is_some_and(|(search, _)| search.found_in(bytes).is_some());
        if !self.target.args.json() {
            return out::write(bytes);
        }
        self.collected.add(bytes).map(|()| Reader::There)
    }

    /// Finds why QEMU has ended. It is an error if QEMU did not say why.
    fn ended(&mut self) -> Result<End, Error> {
        let name = &self.target.name;
        let Some(ending) = self.console.ending() else {
            return Err(Error::failed(format!("QEMU has closed the console of VM `{name}`")));
        };
        let message = if self.search.is_some() && !self.found {
            format!("QEMU ended while waiting for {}: {ending}", self.awaited())
        } else if ending.reason().is_none() {
            format!("VM `{name}` has ended: {ending}")
        } else {
            return Ok(("stopped", Some(ending)));
        };
        Err(Error::new(Kind::NotRunning, message))
    }

    fn awaited(&self) -> String {
        let name = &self.target.name;
        match &self.search {
            None => format!("the console of VM `{name}` to be idle"),
            Some((_, text)) => {
                let text = sanitized(&String::from_utf8_lossy(text));
                format!("`{text}` on the console of VM `{name}`")
            }
        }
    }
}

/// Passes output on until QEMU closes the connection.
fn pass_output(mut output: impl Read, events: &SyncSender<Event>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = output.read(&mut chunk).unwrap_or(0);
        if events.send(Event::Output(chunk[..count].to_vec())).is_err() || count == 0 {
            return;
        }
    }
}

/// Passes input on until standard input ends, the user leaves, or QEMU takes no more. The output
/// side reports that last case.
fn pass_input(mut input: impl Write, typed: bool, events: &SyncSender<Event>) {
    let mut stdin = io::stdin().lock();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        // A terminal that is gone counts as the end of input.
        let count = stdin.read(&mut chunk).unwrap_or(0);
        let bytes = &chunk[..count];
        let leaves = bytes.iter().position(|byte| typed && *byte == LEAVE);
        match input.write_all(&bytes[..leaves.unwrap_or(bytes.len())]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return,
            _ => {}
        }
        if leaves.is_some() || bytes.is_empty() {
            let event = if typed { Event::Left } else { Event::InputEnded };
            let _ = events.send(event);
            return;
        }
    }
}
