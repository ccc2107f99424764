//! A fake QEMU, which plays on demand what a real one will not.
//!
//! It takes a real QEMU command line, of which it reads `-pidfile`, every `-qmp unix:...`,
//! `-monitor unix:...`, `-serial file:...` and `-name fake=SCENARIO[,ms=N]`; the rest is ignored.
//! `-qmp pipe:...` is a session of its own, whose input is not read: it is always the same.
//! Every QMP line received is appended to `fake.log` beside the pid file, as it came.
//! `fake.pid` beside it holds the true pid in every scenario, so that the harness can end it.
//!
//! All that it says was recorded from QEMU 7.2.22 (`-machine none` and, for the events of a guest,
//! `-machine q35` with a boot sector that handles the power button, panics or suspends), order and
//! line ends included. It shares no code with qqmgr, so that it cannot share a wrong belief.
//!
//! Known differences: std cannot handle signals, so SIGTERM kills it like SIGKILL and leaves all
//! its files; std listens with a longer backlog; commands are read by the line; and a power button
//! pressed while the guest is paused is forgotten, where a real one may remember it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SCENARIOS: &[&str] = &[
    "deep-nesting",         // the reply to query-status is nested 30,000 deep
    "early-powerdown-lost", // ignores the first powerdown and honours the second
    "error-reply",          // query-status gives an error
    "event-flood",          // 3,000 events between each command and its reply
    "exits-slowly",         // on exit closes QMP at once and lives for ms more
    "exits-with-error",     // an image is missing
    "exits-with-success",   // exits at once and says nothing
    "garbage",              // lines that are no JSON and no UTF-8, then silence
    "guest-panicked",       // has panicked and was stopped; after cont it ignores powerdown
    "half-line",            // exits with 1 in the middle of the greeting
    "half-reply",           // falls silent in the middle of the reply to query-status
    "huge-line",            // endless bytes instead of a greeting
    "ignores-powerdown",    // as a guest without ACPI does
    "late-greeting",        // is ready after ms, and greets nobody before
    "no-qmp",               // lives, but has no sockets
    "no-shutdown",          // stays after the guest's shutdown, as with -no-shutdown
    "normal",               // powers down when asked
    "panics-on-powerdown",  // and is paused then, as with -action panic=pause
    "paused",               // runs after cont
    "ports-refused",        // finds the SSH port in use, ms times, and then works
    "port-taken",           // the SSH port is in use; leaves its sockets, as the real one does
    "prelaunch",            // runs after cont, as with -S
    "qemu-5.2",             // says that it is of that version
    "shutdown",             // stays after the guest's shutdown, which was earlier
    "refuses-slowly",       // finds the SSH port in use, after ms
    "silent-qmp",           // accepts, and never says a word
    "stale-reply",          // a reply to nothing comes before the one to query-status
    "stop-before-reply",    // the guest is off, and QEMU stays, before powerdown has its reply
    "suspended",            // runs after system_wakeup
    "wrong-pid",            // the pid file holds the number given as ms
];

const GREETING: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "#,
    r#""package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}"#,
);
const GREETING_5_2: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 5}, "package": ""}, "#,
    r#""capabilities": ["oob"]}}"#,
);
const VERSION_5_2: &str = r#"{"qemu": {"micro": 0, "minor": 2, "major": 5}, "package": ""}"#;
const VERSION: &str = concat!(
    r#"{"qemu": {"micro": 22, "minor": 2, "major": 7}, "#,
    r#""package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}"#,
);
/// The monitor's answer to `info usernet` in a VM with a network of that name.
const USERNET_SHOWN: &str =
    r"Hub -1 (usernet):\r\n TCP[HOST_FORWARD] 8 127.0.0.1 8080 10.0.2.15 80 0 0\r\n";
/// The monitor's answer to every other command: that of `info status`.
const STATUS_SHOWN: &str = r"VM status: running\r\n";
const DRIVES: &str = concat!(
    r#"[{"device": "virtio0", "inserted": {"node-name": "block106", "ro": false, "drv": "qcow2", "#,
    r#""file": "a.qcow2"}}, {"device": "virtio1", "inserted": {"node-name": "block107", "#,
    r#""ro": false, "drv": "qcow2", "file": "b.qcow2"}}]"#,
);
/// The size of a screen in text mode.
const SCREEN: (usize, usize) = (720, 400);
const GARBAGE: &[u8] = b"220 ready\r\n\xff\xfe\x80\r\n{\"QMP\": ]}\r\n\0\0\0\r\n";

const POWERED_OFF: &str =
    r#""event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}"#;
const QUIT: &str = r#""event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}"#;
const PANICKED: &str = r#""event": "GUEST_PANICKED", "data": {"action": "pause"}"#;
const RESET: &str = r#""event": "RESET", "data": {"guest": true, "reason": "guest-reset"}"#;

const PIDFILE_LOCKED: &str =
    "cannot create PID file: Cannot lock pid file: Resource temporarily unavailable";
const IMAGE_MISSING: &str =
    "-drive file=nope.img: Could not open 'nope.img': No such file or directory";
const PORT_TAKEN: &str = concat!(
    "-netdev user,id=net0,hostfwd=tcp:127.0.0.1:2089-:22: ",
    "Could not set up host forwarding rule 'tcp:127.0.0.1:2089-:22'",
);

const FLOOD_EVENTS: usize = 3_000;
const NESTING_LEVELS: usize = 30_000;
/// More than anybody reads.
const HUGE_BYTES: usize = 1024 * 1024;
/// A fake whose test was killed does not stay for ever.
const LIFETIME_MAX: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(arguments) => arguments,
        Err(message) => return refuse(&message),
    };
    let _lock = match lock_pid_file(&arguments) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return refuse(PIDFILE_LOCKED),
        Err(error) => return refuse(&format!("cannot create PID file: {error}")),
    };
    let exit = match (arguments.scenario, arguments.bind()) {
        ("exits-with-success", _) => ExitCode::SUCCESS,
        ("exits-with-error", _) => refuse(IMAGE_MISSING),
        (_, Err(error)) => refuse(&error.to_string()),
        ("port-taken", _) => refuse(PORT_TAKEN),
        ("refuses-slowly", _) => {
            arguments.sleep();
            arguments.refuse_port()
        }
        ("ports-refused", _) if arguments.refusals() < arguments.ms => arguments.refuse_port(),
        (_, Ok(listeners)) => {
            let machine = Arc::new(Machine::new(arguments));
            machine.begin_events();
            run(&machine, listeners);
            return ExitCode::FAILURE;
        }
    };
    arguments.remove_pid_file();
    exit
}

fn refuse(message: &str) -> ExitCode {
    refuse_with(message);
    ExitCode::FAILURE
}

fn refuse_with(message: &str) -> i32 {
    eprintln!("qemu-system-x86_64: {message}");
    1
}

/// The part of the command line that is read.
#[derive(Default)]
struct Arguments {
    scenario: &'static str,
    ms: u64,
    pid_file: Option<PathBuf>,
    serial: Option<PathBuf>,
    monitor: Option<PathBuf>,
    qmp: Vec<PathBuf>,
    /// `tcp:127.0.0.1:2089-:22`
    forwarding: String,
    /// The output file of `-qmp pipe:`.
    events: Option<PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut parsed = Self { scenario: "normal", ..Self::default() };
        let words: Vec<String> = std::env::args().collect();
        for pair in words.windows(2) {
            let value = pair[1].as_str();
            match pair[0].as_str() {
                "-pidfile" => parsed.pid_file = Some(value.into()),
                "-serial" => {
                    let path = value.strip_prefix("file:");
                    parsed.serial = path.map(PathBuf::from).or(parsed.serial);
                }
                "-monitor" => parsed.monitor = socket_path(value),
                "-qmp" => {
                    parsed.qmp.extend(socket_path(value));
                    let pipe = value.strip_prefix("pipe:");
                    parsed.events = pipe.map(|path| format!("{path}.out").into()).or(parsed.events);
                }
                "-name" => parsed.read_scenario(value)?,
                "-nic" => {
                    let rule = value.split_once("hostfwd=").unwrap_or_default().1;
                    rule.clone_into(&mut parsed.forwarding);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn read_scenario(&mut self, value: &str) -> Result<(), String> {
        let Some(value) = value.strip_prefix("fake=") else {
            return Ok(());
        };
        let (name, ms) = value.split_once(",ms=").unwrap_or((value, "0"));
        let known = SCENARIOS.iter().find(|known| **known == name);
        self.scenario = known.ok_or_else(|| format!("fake-qemu has no scenario `{name}`"))?;
        let bad_number = |_| format!("fake-qemu: `{ms}` is no number of milliseconds");
        self.ms = ms.parse().map_err(bad_number)?;
        Ok(())
    }

    /// How often a port was refused; `fake.refused` beside the pid file has them all.
    fn refusals(&self) -> u64 {
        let refused =
            self.beside_pid_file("fake.refused").and_then(|path| fs::read_to_string(path).ok());
        refused.map_or(0, |text| text.lines().count() as u64)
    }

    fn refuse_port(&self) -> ExitCode {
        let rule = &self.forwarding;
        let mut options = OpenOptions::new();
        let file = self.beside_pid_file("fake.refused");
        let file = file.and_then(|path| options.append(true).create(true).open(path).ok());
        if let Some(mut file) = file {
            let _ = writeln!(file, "{rule}");
        }
        refuse(&format!("-nic user,hostfwd={rule}: Could not set up host forwarding rule '{rule}'"))
    }

    fn beside_pid_file(&self, name: &str) -> Option<PathBuf> {
        self.pid_file.as_ref().map(|path| path.with_file_name(name))
    }

    fn remove_pid_file(&self) {
        if let Some(file) = &self.pid_file {
            let _ = fs::remove_file(file);
        }
    }

    /// Makes the sockets, the monitor's last, and the serial file.
    fn bind(&self) -> io::Result<Vec<UnixListener>> {
        let mut listeners = Vec::new();
        if ["exits-with-error", "exits-with-success", "no-qmp"].contains(&self.scenario) {
            return Ok(listeners);
        }
        for path in self.qmp.iter().chain(&self.monitor) {
            let _ = fs::remove_file(path);
            listeners.push(UnixListener::bind(path)?);
        }
        match &self.serial {
            // One that forwards no port makes the file, and comes to no boot.
            Some(serial) if self.scenario == "ports-refused" => fs::write(serial, "")?,
            Some(serial) if self.scenario != "port-taken" => fs::write(serial, "fake boot\n")?,
            _ => {}
        }
        Ok(listeners)
    }

    fn is_old(&self) -> bool {
        self.scenario == "qemu-5.2"
    }

    fn greeting(&self) -> &'static str {
        if self.is_old() { GREETING_5_2 } else { GREETING }
    }

    fn sleep(&self) {
        thread::sleep(Duration::from_millis(self.ms));
    }
}

/// The path in `unix:PATH,server,nowait`, where a comma of the path is doubled.
fn socket_path(value: &str) -> Option<PathBuf> {
    let value = value.strip_prefix("unix:")?.replace(",,", "\0");
    let path = value.split(',').next().unwrap_or_default();
    Some(path.replace('\0', ",").into())
}

/// Writes the pid and returns the file, which holds the lock for as long as it is open.
fn lock_pid_file(arguments: &Arguments) -> io::Result<Option<File>> {
    let Some(path) = &arguments.pid_file else {
        return Ok(None);
    };
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let mut file = options.open(path)?;
    file.try_lock()?;
    let own = process::id();
    let pid = if arguments.scenario == "wrong-pid" { arguments.ms } else { own.into() };
    file.set_len(0)?;
    writeln!(file, "{pid}")?;
    fs::write(path.with_file_name("fake.pid"), format!("{own}\n"))?;
    Ok(Some(file))
}

/// Serves all sockets, until a client has ended the process or its lifetime is over.
fn run(machine: &Arc<Machine>, listeners: Vec<UnixListener>) {
    for (index, listener) in listeners.into_iter().enumerate() {
        let machine = Arc::clone(machine);
        thread::spawn(move || machine.listen(index, &listener));
    }
    let (_alive, end) = mpsc::channel::<()>();
    let _ = end.recv_timeout(LIFETIME_MAX);
}

struct Machine {
    arguments: Arguments,
    state: Mutex<State>,
}

struct State {
    status: &'static str,
    powerdowns: usize,
    closed: bool,
    /// A session of its own, whose client is a file.
    events: Option<File>,
    is_old: bool,
    /// The clients that have done `qmp_capabilities`, by socket; each gets every event.
    clients: BTreeMap<usize, UnixStream>,
}

/// Result of a command: what follows `"return": `, or the class and description of an error.
type Answer = Result<String, (&'static str, String)>;

impl State {
    /// Sends an event. A client that has gone misses it; its own thread takes it off the list.
    fn send(&mut self, event: &str) {
        let line = event_line(event);
        if let Some(file) = &mut self.events {
            let _ = file.write_all(line.as_bytes());
        }
        for client in self.clients.values_mut() {
            let _ = client.write_all(line.as_bytes());
        }
    }

    fn answer(&mut self, index: usize, line: &str, name: &str) -> Answer {
        let done = Ok("{}".to_owned());
        let negotiated = self.clients.contains_key(&index);
        match name {
            _ if !line.starts_with('{') => {
                generic(&format!("JSON parse error, invalid keyword '{line}'"))
            }
            "" => generic("QMP input lacks member 'execute'"),
            "qmp_capabilities" if !negotiated => done,
            "qmp_capabilities" => {
                not_found("Capabilities negotiation is already complete, command ignored")
            }
            _ if !negotiated => {
                not_found("Expecting capabilities negotiation with 'qmp_capabilities'")
            }
            "query-version" if self.is_old => Ok(VERSION_5_2.to_owned()),
            "query-version" => Ok(VERSION.to_owned()),
            "query-status" => {
                let status = self.status;
                let running = status == "running";
                Ok(format!(
                    r#"{{"status": "{status}", "singlestep": false, "running": {running}}}"#
                ))
            }
            "stop" => {
                if self.status == "running" {
                    self.status = "paused";
                    self.send(r#""event": "STOP""#);
                }
                done
            }
            "cont" if self.status == "shutdown" => {
                generic("Resetting the Virtual Machine is required")
            }
            "cont" => {
                if !["running", "suspended"].contains(&self.status) {
                    self.status = "running";
                    self.send(r#""event": "RESUME""#);
                }
                done
            }
            "system_wakeup" if self.status != "suspended" => {
                generic("Unable to wake up: guest is not in suspended state")
            }
            "system_wakeup" => {
                self.status = "running";
                self.send(r#""event": "WAKEUP""#);
                done
            }
            "system_powerdown" => {
                self.send(r#""event": "POWERDOWN""#);
                done
            }
            "quit" => {
                self.send(QUIT);
                done
            }
            "query-block" => Ok(DRIVES.to_owned()),
            "query-jobs" | "query-qmp-schema" => Ok("[]".to_owned()),
            "human-monitor-command"
                if line.contains("usernet")
                    && std::env::args().any(|it| it.contains("=usernet")) =>
            {
                Ok(format!("\"{USERNET_SHOWN}\""))
            }
            "human-monitor-command" => Ok(format!("\"{STATUS_SHOWN}\"")),
            // PNG came with 7.1.
            "screendump" if line.contains("\"format\"") => {
                generic("Parameter 'format' is unexpected")
            }
            "screendump" => {
                let file = member(line, "filename").unwrap_or_default();
                match fs::write(file.trim_matches('"'), screen()) {
                    Ok(()) => done,
                    Err(error) => generic(&format!("failed to open file '{file}': {error}")),
                }
            }
            _ => not_found(&format!("The command {name} has not been found")),
        }
    }
}

impl Machine {
    fn new(arguments: Arguments) -> Self {
        let state = Mutex::new(State {
            events: None,
            is_old: arguments.is_old(),
            status: match arguments.scenario {
                status @ ("paused" | "prelaunch" | "guest-panicked" | "shutdown" | "suspended") => {
                    status
                }
                _ => "running",
            },
            powerdowns: 0,
            closed: false,
            clients: BTreeMap::new(),
        });
        Self { arguments, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers in the session whose client is a file, before it serves anybody.
    fn begin_events(&self) {
        let Some(path) = &self.arguments.events else { return };
        // The real one opens the file, and neither makes nor empties it.
        let file = OpenOptions::new().write(true).open(path).unwrap_or_else(|error| {
            process::exit(refuse_with(&format!("-qmp pipe:{}: {error}", path.display())))
        });
        let _ = self.answer_in(file);
    }

    fn answer_in(&self, mut file: File) -> io::Result<()> {
        let greeting = self.arguments.greeting();
        let before = format!("{greeting}\r\n{{\"return\": {{}}}}\r\n");
        let mut state = self.state();
        let status = state.status;
        let running = status == "running";
        let reply = format!(
            r#"{{"return": {{"status": "{status}", "singlestep": false, "running": {running}}}}}"#
        );
        match self.arguments.scenario {
            "silent-qmp" | "no-qmp" => return Ok(()),
            "half-line" => {
                file.write_all(&greeting.as_bytes()[..greeting.len() / 2])?;
                self.arguments.remove_pid_file();
                process::exit(1);
            }
            "garbage" => return file.write_all(GARBAGE),
            "huge-line" => {
                file.write_all(b"{\"QMP\": \"")?;
                return file.write_all(&vec![b'x'; HUGE_BYTES]);
            }
            "half-reply" => {
                return write!(file, "{before}{}", &reply[..reply.len() / 2]);
            }
            "deep-nesting" => {
                let nested = "[".repeat(NESTING_LEVELS) + &"]".repeat(NESTING_LEVELS);
                return write!(file, "{before}{{\"return\": {nested}}}\r\n");
            }
            "error-reply" => {
                let error = reply_line(generic("fake-qemu was told to fail"), None);
                return write!(file, "{before}{error}");
            }
            "late-greeting" => self.arguments.sleep(),
            _ => {}
        }
        write!(file, "{before}{reply}\r\n")?;
        state.events = Some(file);
        if self.arguments.scenario == "shutdown" {
            state.send(POWERED_OFF);
            state.send(r#""event": "STOP""#);
        }
        Ok(())
    }

    /// Serves one client after the other; those who come meanwhile wait in the queue.
    fn listen(&self, index: usize, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            if self.state().closed {
                return;
            }
            let is_monitor = index == self.arguments.qmp.len();
            // An error is a client that has gone, which is the client's affair.
            let _ = if is_monitor {
                io::copy(&mut &stream, &mut io::sink()).map(|_| ())
            } else {
                self.serve(index, stream)
            };
            self.state().clients.remove(&index);
        }
    }

    fn serve(&self, index: usize, mut stream: UnixStream) -> io::Result<()> {
        let mut silent = false;
        match self.arguments.scenario {
            "silent-qmp" => silent = true,
            "half-line" => {
                stream.write_all(&GREETING.as_bytes()[..GREETING.len() / 2])?;
                self.arguments.remove_pid_file();
                process::exit(1);
            }
            "garbage" => {
                stream.write_all(GARBAGE)?;
                silent = true;
            }
            "huge-line" => {
                stream.write_all(b"{\"QMP\": \"")?;
                io::copy(&mut io::repeat(b'x'), &mut stream)?;
            }
            _ => write!(stream, "{}\r\n", self.arguments.greeting())?,
        }
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            self.log(&line)?;
            if !silent {
                let command = String::from_utf8_lossy(&line);
                silent = self.command(index, command.trim(), &mut stream)?;
            }
            line.clear();
        }
        Ok(())
    }

    fn log(&self, line: &[u8]) -> io::Result<()> {
        let Some(pid_file) = &self.arguments.pid_file else {
            return Ok(());
        };
        let path = pid_file.with_file_name("fake.log");
        let mut options = OpenOptions::new();
        options.append(true).create(true).open(path)?.write_all(line)
    }

    /// Answers one command, with what it makes the guest do; true when all is silence after it.
    fn command(&self, index: usize, line: &str, stream: &mut UnixStream) -> io::Result<bool> {
        let name = member(line, "execute").unwrap_or_default().trim_matches('"');
        if self.arguments.scenario == "event-flood" {
            let event = event_line(RESET);
            for _ in 0..FLOOD_EVENTS {
                stream.write_all(event.as_bytes())?;
            }
        }
        let mut state = self.state();
        if self.arguments.scenario == "stop-before-reply" && name == "system_powerdown" {
            state.status = "shutdown";
            state.send(POWERED_OFF);
            state.send(r#""event": "STOP""#);
        }
        let mut answer = state.answer(index, line, name);
        if name == "query-status" && answer.is_ok() {
            match self.arguments.scenario {
                "half-reply" => {
                    stream.write_all(br#"{"return": {"status": "runn"#)?;
                    return Ok(true);
                }
                "deep-nesting" => {
                    answer = Ok("[".repeat(NESTING_LEVELS) + &"]".repeat(NESTING_LEVELS));
                }
                "stale-reply" => {
                    let stale = r#"{"return": {"status": "paused", "running": false}, "id": 999}"#;
                    write!(stream, "{stale}\r\n")?;
                }
                "error-reply" => answer = generic("fake-qemu was told to fail"),
                _ => {}
            }
        }
        let granted = answer.is_ok();
        stream.write_all(reply_line(answer, member(line, "id")).as_bytes())?;
        match name {
            "qmp_capabilities" if granted => {
                state.clients.insert(index, stream.try_clone()?);
            }
            "system_powerdown" if granted => self.press_power_button(state),
            "quit" if granted => self.exit(state),
            _ => {}
        }
        Ok(false)
    }

    /// The guest's way to handle a powerdown, after QEMU has replied.
    fn press_power_button(&self, mut state: MutexGuard<'_, State>) {
        state.powerdowns += 1;
        match self.arguments.scenario {
            _ if state.status != "running" => {}
            "ignores-powerdown" | "guest-panicked" => {}
            "early-powerdown-lost" if state.powerdowns == 1 => {}
            "panics-on-powerdown" if state.powerdowns > 1 => {}
            "panics-on-powerdown" => {
                state.status = "guest-panicked";
                state.send(PANICKED);
                state.send(r#""event": "STOP""#);
            }
            "no-shutdown" => {
                state.status = "shutdown";
                state.send(POWERED_OFF);
                state.send(r#""event": "STOP""#);
            }
            _ => {
                state.send(POWERED_OFF);
                self.exit(state);
            }
        }
    }

    /// Ends as the real one does: the sockets, the connections, the pid file, the process.
    fn exit(&self, mut state: MutexGuard<'_, State>) -> ! {
        state.closed = true;
        for path in self.arguments.qmp.iter().chain(&self.arguments.monitor) {
            let _ = fs::remove_file(path);
        }
        for client in state.clients.values() {
            let _ = client.shutdown(Shutdown::Both);
        }
        drop(state);
        if self.arguments.scenario == "exits-slowly" {
            self.arguments.sleep();
        }
        self.arguments.remove_pid_file();
        process::exit(0);
    }
}

/// A PPM whose bytes have long runs and short ones, and of each kind that there is.
fn screen() -> Vec<u8> {
    let (width, height) = SCREEN;
    let mut ppm = format!("P6\n{width} {height}\n255\n").into_bytes();
    let shade = |at: usize| u8::try_from(at % 256).unwrap_or_default();
    let pixels = (0..height).flat_map(|y| (0..width * 3).map(move |x| (x, y)));
    ppm.extend(pixels.map(|(x, y)| if y % 16 < 4 { shade(x * x + y * 7) } else { shade(y / 16) }));
    ppm
}

fn generic(description: &str) -> Answer {
    Err(("GenericError", description.to_owned()))
}

fn not_found(description: &str) -> Answer {
    Err(("CommandNotFound", description.to_owned()))
}

/// A reply as it is on the wire; QEMU puts `id` after a result and before an error.
fn reply_line(answer: Answer, id: Option<&str>) -> String {
    match (answer, id) {
        (Ok(value), None) => format!("{{\"return\": {value}}}\r\n"),
        (Ok(value), Some(id)) => format!("{{\"return\": {value}, \"id\": {id}}}\r\n"),
        (Err((class, text)), id) => {
            let id = id.map_or(String::new(), |id| format!("\"id\": {id}, "));
            format!("{{{id}\"error\": {{\"class\": \"{class}\", \"desc\": \"{text}\"}}}}\r\n")
        }
    }
}

fn event_line(event: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, micros) = (now.as_secs(), now.subsec_micros());
    format!(
        "{{\"timestamp\": {{\"seconds\": {seconds}, \"microseconds\": {micros}}}, {event}}}\r\n"
    )
}

/// The text of a member's value: a string with its quotes, or a number. No JSON reader, but
/// enough for commands without arguments of the same name.
fn member<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = match rest.strip_prefix('"') {
        Some(inner) => inner.find('"')? + 2,
        None => rest.find([',', '}'])?,
    };
    Some(rest[..end].trim_end())
}
