//! The command line of QEMU: the user's words, then what qqmgr needs to manage the VM.

use super::Paths;
use crate::error::Error;
use crate::source::Problem;
use crate::words::Word;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// The options that only qqmgr may use, each with the reason.
const RESERVED: &[(&str, &str)] = &[
    ("pidfile", "qqmgr adds its own, by which it knows the VM's process"),
    ("qmp", "qqmgr adds its own; for a second one use `-chardev socket,...` and `-mon`"),
    ("monitor", "qqmgr adds its own, `monitor.socket` in the VM's directory"),
    ("daemonize", "qqmgr detaches QEMU itself, and waits until it is ready"),
];

/// Refuses words with which qqmgr could not manage the VM. `place` says where the words stand, as
/// in "in `cmd`".
pub(crate) fn check(words: &[Word], place: &str) -> Result<(), Problem> {
    problems(words, place).next().map_or(Ok(()), Err)
}

/// Finds the words that are refused. QEMU accepts one dash or two.
pub(crate) fn problems(words: &[Word], place: &str) -> impl Iterator<Item = Problem> {
    words.iter().filter_map(move |word| {
        let option = word.text.strip_prefix('-').map(|rest| rest.strip_prefix('-').unwrap_or(rest));
        if let Some((_, why)) = RESERVED.iter().find(|(name, _)| option == Some(*name)) {
            let message = format!("`{}` cannot be used {place}", word.text);
            return Some(Problem::new(word.span, message).hint(*why));
        }
        let message = "an argument cannot contain a NUL character";
        word.text.contains('\0').then(|| Problem::new(word.span, message))
    })
}

/// The name that the console's character device has in QEMU.
pub(super) const CONSOLE: &str = "qqmgr-console";

/// The optional features of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// The serial line is also a socket.
    pub(crate) console: bool,
    /// QEMU listens for a debugger of the guest.
    pub(crate) gdb: bool,
}

impl Features {
    /// Reads the features from the words that follow the user's own.
    pub(crate) fn of(injected: &[String]) -> Self {
        let has = |word: &str| injected.iter().any(|other| other == word);
        Self { console: has(&format!("chardev:{CONSOLE}")), gdb: has("-gdb") }
    }

    /// The configuration lines that turn these features on.
    pub(crate) fn keys(self) -> Vec<&'static str> {
        let keys = [("console = true", self.console), ("gdb = true", self.gdb)];
        keys.into_iter().filter(|(_, has)| *has).map(|(key, _)| key).collect()
    }
}

/// The words that are appended to the user's: the four of the design document, qqmgr's own QMP
/// socket, since a QMP socket serves one client at a time, and the QMP session that writes the
/// event log ([`super::events`]). All paths are absolute.
pub(crate) fn injected(paths: &Paths, features: Features) -> Result<Vec<OsString>, Error> {
    let socket = |path: &Path| paths.short_name(path).map(|path| unix_server(&path));
    let mut argv = vec![
        "-pidfile".into(),
        paths.pid.clone().into(),
        "-monitor".into(),
        socket(&paths.monitor)?,
    ];
    argv.extend(serial(paths, features.console)?);
    let events = concat(&[b"pipe:", paths.events.as_os_str().as_bytes()]);
    for to in [socket(&paths.qmp)?, socket(&paths.ctl)?, events] {
        argv.extend(["-qmp".into(), to]);
    }
    if features.gdb {
        argv.extend(["-gdb".into(), socket(&paths.gdb)?]);
    }
    Ok(argv)
}

/// The words for the serial line, which QEMU writes to a file, or to a socket and that file.
fn serial(paths: &Paths, console: bool) -> Result<Vec<OsString>, Error> {
    let file = paths.serial.as_os_str().as_bytes();
    if !console {
        return Ok(vec!["-serial".into(), concat(&[b"file:", file])]);
    }
    let socket = paths.short_name(&paths.console)?;
    let chardev = concat(&[
        b"socket,id=",
        CONSOLE.as_bytes(),
        b",server=on,wait=off,path=",
        socket.as_os_str().as_bytes(),
        b",logfile=",
        &literal(&paths.serial),
    ]);
    Ok(vec!["-chardev".into(), chardev, "-serial".into(), format!("chardev:{CONSOLE}").into()])
}

/// `unix:PATH,server,nowait` for a path of [`Paths::short_name`], which needs no escaping.
/// `-pidfile`, `-serial file:` and `-qmp pipe:` accept any path, since they are not option lists.
fn unix_server(path: &Path) -> OsString {
    concat(&[b"unix:", path.as_os_str().as_bytes(), b",server,nowait"])
}

/// Escapes a path for an option list, in which a literal comma is doubled (QemuOpts).
fn literal(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 })).collect()
}

fn concat(parts: &[&[u8]]) -> OsString {
    OsString::from_vec(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    #[test]
    fn reserved_options_are_refused_with_one_dash_and_two() {
        let check_one = |text: &str| check(&[Word::plain(text, Span { start: 3, end: 9 })], "here");
        for text in ["-pidfile", "--pidfile", "-qmp", "--monitor", "-daemonize"] {
            let problem = check_one(text).unwrap_err();
            assert_eq!(problem.message, format!("`{text}` cannot be used here"));
            assert_eq!(problem.span, Span { start: 3, end: 9 });
        }
        for text in ["pidfile", "---qmp", "-qmp-pretty", "-serial", "-mon", "-", "--", ""] {
            assert_eq!(check_one(text), Ok(()));
        }
        assert!(check_one("a\0b").is_err());
    }

    #[test]
    fn injected_arguments_of_a_plain_directory() {
        let plain = injected(&Paths::new("/a/vm.x".into()), Features::default()).unwrap();
        let expected = [
            "-pidfile",
            "/a/vm.x/pid",
            "-monitor",
            "unix:/a/vm.x/monitor.socket,server,nowait",
            "-serial",
            "file:/a/vm.x/serial",
            "-qmp",
            "unix:/a/vm.x/qmp.socket,server,nowait",
            "-qmp",
            "unix:/a/vm.x/ctl.socket,server,nowait",
            "-qmp",
            "pipe:/a/vm.x/events",
        ];
        assert_eq!(plain, expected.map(OsString::from));
    }

    /// Socket paths are in option lists, in which `,` and `=` have a meaning.
    #[test]
    fn injected_arguments_of_a_directory_with_commas() {
        let paths = Paths::new("/a,b/vm.x".into());
        let all = injected(&paths, Features { console: true, gdb: true }).unwrap();
        let short = crate::system::short_way::short_link(&paths.dir).unwrap();
        let short = short.display();
        let expected = [
            "-pidfile".to_string(),
            "/a,b/vm.x/pid".into(),
            "-monitor".into(),
            format!("unix:{short}/monitor.socket,server,nowait"),
            "-chardev".into(),
            format!(
                "socket,id=qqmgr-console,server=on,wait=off,\
                 path={short}/console.socket,logfile=/a,,b/vm.x/serial"
            ),
            "-serial".into(),
            "chardev:qqmgr-console".into(),
            "-qmp".into(),
            format!("unix:{short}/qmp.socket,server,nowait"),
            "-qmp".into(),
            format!("unix:{short}/ctl.socket,server,nowait"),
            "-qmp".into(),
            "pipe:/a,b/vm.x/events".into(),
            "-gdb".into(),
            format!("unix:{short}/gdb.socket,server,nowait"),
        ];
        assert_eq!(all, expected.map(OsString::from));
    }
}
