//! Everything that is specific to Linux. Most of it reads `/proc`, as proc(5) describes; without a
//! `/proc` those functions return `None`, and their callers manage without. Reads only.

use crate::command_line::CommandLine;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// `sun_path` of unix(7) without the NUL at its end; macOS and the BSDs have 104 bytes there.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// The mount point of proc(5).
pub(crate) const PROC: &str = "/proc";
/// The device that QEMU opens for `-accel kvm`, which only Linux has.
pub(crate) const KVM_DEVICE: &str = "/dev/kvm";

/// The clock ticks of `/proc`. The kernel's interface fixes their rate, whatever the machine's
/// timer is.
const TICKS_PER_SECOND: u64 = 100;
/// `O_CLOEXEC` of open(2), in the flags that a descriptor's `fdinfo` shows.
const CLOSED_ON_EXEC: u32 = if cfg!(target_arch = "sparc64") { 0o20_000_000 } else { 0o2_000_000 };
/// The last of the three standard descriptors (input, output, errors).
const STDERR: u32 = 2;
/// `ESRCH`, the same number on every Unix.
const NO_SUCH_PROCESS: i32 = 3;
/// The state of a listening socket in `/proc/net/tcp`, `TCP_LISTEN` of the kernel.
const LISTENING: &str = "0A";
/// The flags of a listening socket in `/proc/net/unix`, `__SO_ACCEPTCON` of the kernel.
const ACCEPTS: &[u8] = b"00010000";
/// The number of fields before the path in a line of that file.
const FIELDS_BEFORE_PATH: usize = 7;

/// The part of `/proc/PID/stat` that is used here.
pub(crate) struct Stat {
    /// The state as in ps(1): `R`, `S`, `Z`, ...
    pub(crate) state: char,
    /// The process group: field 5 of the file.
    pub(crate) group: Option<u32>,
    /// When the process started, in ticks since the machine started: field 22 of the file.
    pub(crate) start_ticks: Option<u64>,
}

/// The CPU time and memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time of all threads, in the program and in the kernel on its behalf.
    pub(crate) cpu: Duration,
    /// Resident memory; some of it may be shared.
    pub(crate) rss_bytes: u64,
}

/// The owner of a listening port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) user_id: u32,
    /// Pid and name of the process, where this user may see them.
    pub(crate) process: Option<(u32, String)>,
}

/// Whether there is a `/proc` that shows the processes under the pids that this process knows.
pub(crate) fn is_there() -> bool {
    own_pid() == Some(std::process::id())
}

/// The pid of this process as `/proc` shows it. Where it is another one, pids there mean nothing.
pub(crate) fn own_pid() -> Option<u32> {
    fs::read_link(proc("self")).ok()?.to_str()?.parse().ok()
}

/// Identifies the PID namespace of this process. In another one, the same pid is another process.
pub(crate) fn pid_namespace() -> Option<String> {
    Some(fs::read_link(proc("self/ns/pid")).ok()?.to_string_lossy().into_owned())
}

/// A path in `/proc`. Tests set a variable that names an empty place instead, to see how systems
/// without `/proc` behave.
fn proc(path: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let elsewhere = || std::env::var_os("QQMGR_TEST_PROC").unwrap_or(PROC.into()).into();
    DIR.get_or_init(elsewhere).join(path)
}

/// The number of files that this process may still open under its limit.
pub(crate) fn files_left() -> Option<usize> {
    let limits = fs::read_to_string(proc("self/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit: usize = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(open_files(std::process::id()).ok()?.len()))
}

/// Whether programs find the display of a desktop. Only Linux needs a variable for that.
pub(crate) fn has_screen() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

/// The name of the terminal on standard input.
pub(crate) fn terminal() -> Option<PathBuf> {
    fs::read_link(proc("self/fd/0")).ok().filter(|_| io::stdin().is_terminal())
}

/// A path that leads to an open file even if it was renamed or removed.
pub(crate) fn way_to(file: &File) -> Option<PathBuf> {
    let path = proc(&format!("self/fd/{}", file.as_raw_fd()));
    path.exists().then_some(path)
}

fn of_process(pid: u32, file: &str) -> PathBuf {
    proc(&format!("{pid}/{file}"))
}

/// A file of a process, if there is one, read in one go: `fs::read` asks for its length, which is 0
/// here, and then begins with 32 bytes.
fn bytes(pid: u32, file: &str) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(4096);
    let file = File::open(of_process(pid, file));
    let read = file.and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes));
    Ok(if_there(read)?.map(|_| bytes))
}

/// A file of a process as text: the name in it is cut to 15 bytes, possibly inside a character.
fn text(pid: u32, file: &str) -> io::Result<Option<String>> {
    Ok(bytes(pid, file)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The effective user of this process.
pub(crate) fn user_id() -> Option<u32> {
    fs::metadata(proc("self")).ok().map(|metadata| metadata.uid())
}

/// The effective user of a process.
pub(crate) fn owner(pid: u32) -> Option<u32> {
    fs::metadata(of_process(pid, "")).ok().map(|metadata| metadata.uid())
}

/// The pids of all processes that this user can see.
pub(crate) fn pids() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(proc(""))?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// State and start of a process; `None` when there is no such process.
pub(crate) fn stat(pid: u32) -> io::Result<Option<Stat>> {
    Ok(text(pid, "stat")?.and_then(|stat| stat_in(&stat)))
}

fn stat_in(stat: &str) -> Option<Stat> {
    let group = field(stat, 5).and_then(|field| field.parse().ok());
    let start_ticks = field(stat, 22).and_then(|field| field.parse().ok());
    Some(Stat { state: field(stat, 3)?.chars().next()?, group, start_ticks })
}

/// A field of `/proc/PID/stat` after the name, which is the second one as proc(5) counts. The name
/// stands in parentheses and may contain anything, including parentheses.
fn field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// Gives `None` for a file that is missing or whose process is gone. Any other failure stays an
/// error, because it does not prove that there is no such process.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(NO_SUCH_PROCESS) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A fact that the kernel gives in a file of `/proc`, without the newline at its end.
pub(crate) fn kernel_fact(file: &str) -> io::Result<Option<String>> {
    Ok(if_there(fs::read_to_string(proc(file)))?.map(|text| text.trim_end().to_string()))
}

pub(crate) fn usage(pid: u32) -> Option<Usage> {
    usage_in(&text(pid, "stat").ok()??, &text(pid, "status").ok()??)
}

/// The usage in the texts of `stat` and `status`. `stat` gives memory in pages, but not their size,
/// so memory is taken from `status`.
fn usage_in(stat: &str, status: &str) -> Option<Usage> {
    // `utime` and `stime` are fields 14 and 15.
    let ticks = |number| field(stat, number)?.parse::<u64>().ok();
    let cpu = (ticks(14)?.checked_add(ticks(15)?)?).checked_mul(1000 / TICKS_PER_SECOND)?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss: u64 = rss.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(Usage { cpu: Duration::from_millis(cpu), rss_bytes: rss.checked_mul(1024)? })
}

/// How long ago a process started.
pub(crate) fn age(start_ticks: u64) -> Option<Duration> {
    let text = fs::read_to_string(proc("uptime")).ok()?;
    let now = Duration::try_from_secs_f64(text.split(' ').next()?.parse().ok()?).ok()?;
    let start = Duration::from_millis(start_ticks.checked_mul(1000 / TICKS_PER_SECOND)?);
    Some(now.saturating_sub(start))
}

/// Pid and name of the debugger that is attached to a process; the pid is 0 if there is none.
pub(crate) fn debugger(pid: u32) -> Option<(u32, String)> {
    let status = text(pid, "status").ok()??;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    let tracer = tracer.trim().parse().ok().filter(|pid| *pid != 0)?;
    Some((tracer, name(tracer)?))
}

fn name(pid: u32) -> Option<String> {
    Some(text(pid, "comm").ok()??.trim_end().to_string())
}

pub(crate) fn command_line(pid: u32) -> io::Result<Option<CommandLine>> {
    Ok(bytes(pid, "cmdline")?.map(|words| CommandLine::of_proc(&words)))
}

/// Finds the process that has the port, of UDP or of TCP, at any address.
pub(crate) fn listener(udp: bool, port: u16) -> Option<Listener> {
    let tables = if udp { ["net/udp", "net/udp6"] } else { ["net/tcp", "net/tcp6"] }.into_iter();
    let text: String = tables.filter_map(|table| fs::read_to_string(proc(table)).ok()).collect();
    let (user_id, inode) = text.lines().find_map(|line| listening_socket(line, udp, port))?;
    let link = format!("socket:[{inode}]").into();
    let holds = |pid: &u32| open_paths(*pid).unwrap_or_default().contains(&link);
    let holder = pids().unwrap_or_default().into_iter().find(holds);
    Some(Listener { user_id, process: holder.and_then(|pid| Some((pid, name(pid)?))) })
}

/// User and inode in a line of the table, if its socket takes the port. UDP has no state for that.
fn listening_socket(line: &str, udp: bool, port: u16) -> Option<(u32, &str)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let is_port = u16::from_str_radix(local_port, 16) == Ok(port);
    let found = (fields.get(7)?.parse().ok()?, *fields.get(9)?);
    (is_port && (udp || *fields.get(3)? == LISTENING)).then_some(found)
}

/// The processes of a process group, including those that have ended and were not waited for.
pub(crate) fn members(group: u32) -> io::Result<Vec<u32>> {
    let mut members = Vec::new();
    for pid in pids()? {
        members.extend(stat(pid)?.filter(|it| it.group == Some(group)).map(|_| pid));
    }
    Ok(members)
}

/// Whether a program listens on a Unix socket that it bound by a path that `is_it` accepts. `None`
/// where the system does not say.
pub(crate) fn serves(is_it: &dyn Fn(&Path) -> bool) -> Option<bool> {
    let table = fs::read(proc("net/unix")).ok()?;
    let mut served = table.split(|byte| *byte == b'\n').filter_map(served_path);
    Some(served.any(is_it))
}

/// The path in a line of the table, if the line is a listening socket.
fn served_path(line: &[u8]) -> Option<&Path> {
    let mut rest = line;
    let mut accepts = false;
    for number in 0..FIELDS_BEFORE_PATH {
        let (field, behind) = rest.split_at(rest.iter().position(|byte| *byte == b' ')?);
        accepts |= number == 3 && field == ACCEPTS;
        // The inode has blanks before it, and the path may begin with one.
        let is_last = number + 1 == FIELDS_BEFORE_PATH;
        rest = if is_last { &behind[1..] } else { behind.trim_ascii_start() };
    }
    accepts.then_some(Path::new(OsStr::from_bytes(rest)))
}

/// Whether a process has the file open under any name. False where this user may not see its files.
pub(crate) fn has_open(pid: u32, path: &Path) -> io::Result<bool> {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let Some(wanted) = id(path) else { return Ok(false) };
    Ok(open_files(pid)?.iter().any(|file| id(file) == Some(wanted)))
}

/// Whether a process has the file of a VM open, or one of that name and directory that was removed,
/// or renamed with what is above the directory. The way to it may have been a link.
pub(crate) fn holds(pid: u32, path: &Path) -> io::Result<bool> {
    let [runtime, project] = [2, 3].map(|up| path.ancestors().nth(up).unwrap_or(path));
    let name = path.strip_prefix(runtime).unwrap_or(path);
    let is_it = |open: &PathBuf| match open.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(removed) => Path::new(OsStr::from_bytes(removed)).ends_with(name),
        None => open.ends_with(name) && open.starts_with(project),
    };
    Ok(has_open(pid, path)? || open_paths(pid)?.iter().any(is_it))
}

/// The paths of what a process has open, as they are now.
pub(crate) fn open_paths(pid: u32) -> io::Result<Vec<PathBuf>> {
    Ok(open_files(pid)?.into_iter().filter_map(|file| fs::read_link(file).ok()).collect())
}

/// The files that are a process's standard output and error; a removed one ends in ` (deleted)`.
pub(crate) fn outputs(pid: u32) -> impl Iterator<Item = PathBuf> {
    [1, 2].into_iter().flat_map(move |fd| fs::read_link(of_process(pid, &format!("fd/{fd}"))))
}

/// The descriptors that this process inherited and would pass on to the programs it runs. The
/// descriptors that it opened itself are closed when a program is executed.
pub(crate) fn inherited_files() -> Vec<u32> {
    let entries = fs::read_dir(proc("self/fd")).into_iter().flatten().flatten();
    let open = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    open.filter(|fd| *fd > STDERR && stays_on_exec(*fd) == Some(true)).collect()
}

fn stays_on_exec(fd: u32) -> Option<bool> {
    let info = fs::read_to_string(proc(&format!("self/fdinfo/{fd}"))).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & CLOSED_ON_EXEC == 0)
}

fn open_files(pid: u32) -> io::Result<Vec<PathBuf>> {
    match if_there(fs::read_dir(of_process(pid, "fd"))) {
        Ok(files) => Ok(files.into_iter().flatten().flatten().map(|file| file.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_on_a_port_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for (is_udp, address) in [(false, socket.local_addr()), (true, udp.local_addr())] {
            let found = listener(is_udp, address.unwrap().port()).unwrap();
            assert_eq!(Some(found.user_id), user_id());
            assert_eq!(found.process.map(|(pid, _)| pid), Some(std::process::id()));
        }
    }

    #[test]
    fn sockets_that_are_served() {
        let line = |flags| format!("0000: 00000002 00000000 {flags} 0001 01    48 /a b");
        assert_eq!(served_path(line("00010000").as_bytes()), Some(Path::new("/a b")));
        assert_eq!(served_path(line("00000000").as_bytes()), None);
        assert_eq!(served_path(b"0000: 00000003 00000000 00010000 0001 03 43"), None);
        let path = std::env::temp_dir().join(format!("qqmgr-served-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(serves(&|it| it == path), Some(true));
        drop(listener);
        assert_eq!(serves(&|it| it == path), Some(false));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn usage_of_a_process() {
        // From a real process, with its name changed.
        let stat = "4711 (q) R 1 x) S 4710 4711 4710 0 -1 4194560 9125 0 3 0 1234 567 0 0 20 0 4 0 \
                    12345 1174536192 28110 18446744073709551615 1 1 0 0 0 0 2147220991";
        let status = "Name:\tq) R 1 x\nVmHWM:\t  112441 kB\nVmRSS:\t  112440 kB\nRssAnon:\t 1 kB\n";
        let expected = Usage { cpu: Duration::from_millis(18_010), rss_bytes: 112_440 * 1024 };
        assert_eq!(usage_in(stat, status), Some(expected));
        // A zombie has no memory.
        assert_eq!(usage_in(stat, "Name:\tq\n"), None);
        let own = usage(std::process::id()).unwrap();
        assert!(own.rss_bytes > 100_000);
    }

    #[test]
    fn lines_of_the_table() {
        // From a real /proc/net/tcp.
        let line = "   2: 0100007F:0829 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                     1000        0 58205 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listening_socket(line, false, 2089), Some((1000, "58205")));
        assert_eq!(listening_socket(line, false, 2090), None);
        assert_eq!(listening_socket(&line.replace(" 0A ", " 01 "), false, 2089), None);
        assert_eq!(listening_socket("  sl  local_address rem_address   st", false, 2089), None);
    }
}
