//! The command line of QEMU: the user's words, then what qqmgr needs to manage the VM.

use super::Paths;
use super::options::Argument;
use crate::error::Error;
use crate::source::Problem;
use crate::words::Word;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The options that only qqmgr may use, each with the reason.
const RESERVED: &[(&str, &str)] = &[
    ("pidfile", "qqmgr adds its own, by which it knows the VM's process"),
    ("qmp", "qqmgr adds its own; for a second one use `-chardev socket,...` and `-mon`"),
    (
        "monitor",
        "qqmgr adds its own, for `qqmgr monitor`; for a second one use `-chardev` and `-mon`",
    ),
    ("daemonize", "qqmgr detaches QEMU itself, and waits until it is ready"),
];

/// Refuses words with which qqmgr could not manage the VM. `place` says where the words stand, as
/// in "in `cmd`".
pub(crate) fn check(words: &[Word], place: &str) -> Result<(), Problem> {
    problems(words, place).next().map_or(Ok(()), Err)
}

/// Finds the words that are refused. QEMU accepts one dash or two. `-monitor none` does no harm.
pub(crate) fn problems(words: &[Word], place: &str) -> impl Iterator<Item = Problem> {
    let nexts = words.iter().skip(1).map(|word| word.text.as_str()).chain([""]);
    words.iter().zip(nexts).filter_map(move |(word, next)| {
        let option = word.text.strip_prefix('-').map(|rest| rest.strip_prefix('-').unwrap_or(rest));
        let option = option.filter(|option| *option != "monitor" || next != "none");
        if let Some((_, why)) = RESERVED.iter().find(|(name, _)| option == Some(*name)) {
            let message = format!("`{}` cannot be used {place}", word.text);
            return Some(Problem::new(word.span, message).hint(*why));
        }
        let message = "an argument cannot contain a NUL character";
        word.text.contains('\0').then(|| Problem::new(word.span, message))
    })
}

/// The names of the character devices for the serial line, with `console = true` and without.
pub(crate) const CONSOLE: &str = "qqmgr-console";
const SERIAL: &str = "qqmgr-serial";

/// The option by which the guest's first serial port is the user's own: QEMU numbers the ports in
/// the order of the command line, and an `isa-serial` takes the place of the default port.
pub(crate) fn own_port(own: &[Argument]) -> Option<&Argument> {
    let is_port = |argument: &&Argument| argument.name == "serial" || is_isa(argument);
    own.iter().find(is_port).filter(|_| !is_placed(own))
}

/// Says that the guest's console is not where qqmgr looks for it, and the way out. `own` are the
/// user's arguments.
pub(crate) fn own_port_note(own: &[Argument]) -> Option<String> {
    let Argument { name, value, .. } = own_port(own)?;
    let is_logged = value == "stdio" || value.ends_with(":stdio");
    let log = if is_logged { ", whose output is in `log`" } else { "" };
    Some(format!(
        "the guest's first serial port is `-{name} {value}`{log}: leave that out of `cmd`, and \
         `serial` has its output; `console = true` lets `console` type on it"
    ))
}

fn is_isa(argument: &Argument) -> bool {
    argument.name == "device" && argument.first() == "isa-serial"
}

/// Whether a serial port or a device of the user's own has the serial line's character device.
fn is_placed(own: &[Argument]) -> bool {
    own.iter().any(|argument| {
        let port = argument.value.strip_prefix("chardev:").filter(|_| argument.name == "serial");
        let device = argument.get("chardev").filter(|_| argument.name == "device");
        port.or(device).is_some_and(|name| [CONSOLE, SERIAL].contains(&name))
    })
}

/// Whether QEMU's name for the next serial port is that of a character device of the user's own.
fn is_named(own: &[Argument]) -> bool {
    let ports = own.iter().filter(|argument| argument.name == "serial").count();
    own.iter().filter(|argument| argument.name == "chardev").any(|argument| {
        let id = argument.get("id");
        let number = id.and_then(|id| id.strip_prefix("serial")?.parse().ok());
        number.is_some_and(|number: usize| number <= ports)
    })
}

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
        let console = format!("socket,id={CONSOLE},");
        Self {
            console: injected.iter().any(|word| word.starts_with(&console)),
            gdb: injected.iter().any(|word| word == "-gdb"),
        }
    }

    /// The configuration lines that turn these features on.
    pub(crate) fn keys(self) -> Vec<&'static str> {
        let keys = [("console = true", self.console), ("gdb = true", self.gdb)];
        keys.into_iter().filter(|(_, has)| *has).map(|(key, _)| key).collect()
    }
}

/// The words that are appended to the user's: the four of the design document, qqmgr's own QMP
/// socket, since a QMP socket serves one client at a time, and the QMP session that writes the
/// event log ([`super::events`]). All paths are absolute. `own` are the user's arguments.
pub(crate) fn injected(
    paths: &Paths,
    features: Features,
    own: &[Argument],
) -> Result<Vec<OsString>, Error> {
    // These paths need no escaping, and `-pidfile`, `-serial file:` and `-qmp pipe:` take any.
    let server =
        |path: PathBuf| concat(&[b"unix:", path.as_os_str().as_bytes(), b",server,nowait"]);
    let socket = |path: &Path| paths.short_name(path).map(server);
    let mut argv = vec![
        "-pidfile".into(),
        paths.pid.clone().into(),
        "-monitor".into(),
        socket(&paths.monitor)?,
    ];
    argv.extend(serial(paths, features.console, own)?);
    let events = concat(&[b"pipe:", paths.events.as_os_str().as_bytes()]);
    for to in [socket(&paths.qmp)?, socket(&paths.ctl)?, events] {
        argv.extend(["-qmp".into(), to]);
    }
    if features.gdb {
        argv.extend(["-gdb".into(), socket(&paths.gdb)?]);
    }
    Ok(argv)
}

/// The words for the serial line, which QEMU writes to a file, or to a socket and that file. Where
/// `-serial file:` cannot work beside the user's arguments, the line is a character device with a
/// name of ours. That device gets no port if the user's `isa-serial` is the first port, or if a
/// device of the user's has it.
fn serial(paths: &Paths, console: bool, own: &[Argument]) -> Result<Vec<OsString>, Error> {
    let has_port = !is_placed(own) && !own.iter().any(is_isa);
    if !console && has_port && !is_named(own) {
        let file = paths.serial.as_os_str().as_bytes();
        return Ok(vec!["-serial".into(), concat(&[b"file:", file])]);
    }
    let file = literal(&paths.serial);
    let (name, chardev) = if console {
        let socket = paths.short_name(&paths.console)?;
        let socket = socket.as_os_str().as_bytes();
        let head = format!("socket,id={CONSOLE},server=on,wait=off,path=");
        (CONSOLE, concat(&[head.as_bytes(), socket, b",logfile=", &file]))
    } else {
        (SERIAL, concat(&[b"file,id=", SERIAL.as_bytes(), b",path=", &file]))
    };
    let port = ["-serial".into(), format!("chardev:{name}").into()];
    let port = port.into_iter().filter(|_| has_port);
    Ok(["-chardev".into(), chardev].into_iter().chain(port).collect())
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
    use crate::vm::options::arguments_of;

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
        let plain = injected(&Paths::new("/a/vm.x".into()), Features::default(), &[]).unwrap();
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

    #[test]
    fn serial_line_beside_arguments_of_the_user() {
        let paths = Paths::new("/a,b/vm.x".into());
        let file = "-serial file:/a,b/vm.x/serial";
        let named = "-chardev file,id=qqmgr-serial,path=/a,,b/vm.x/serial";
        let port = " -serial chardev:qqmgr-serial";
        for (own, expected, has_own) in [
            ("-m 1", file.to_string(), false),
            ("-serial stdio", file.to_string(), true),
            ("-chardev null,id=serial1", file.to_string(), false),
            ("-chardev null,id=serial0", format!("{named}{port}"), false),
            ("-serial null -chardev null,id=serial1", format!("{named}{port}"), true),
            ("-chardev null,id=serial0 -device isa-serial,chardev=serial0", named.into(), true),
            ("-device virtconsole,chardev=qqmgr-serial", named.into(), false),
            ("-device isa-serial,chardev=qqmgr-serial", named.into(), false),
        ] {
            let own = arguments_of(std::iter::once("qemu").chain(own.split(' ')));
            let words = serial(&paths, false, &own).unwrap();
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            assert_eq!((words.join(" "), own_port(&own).is_some()), (expected, has_own), "{own:?}");
        }
        let own = arguments_of(["qemu", "-device", "virtconsole,chardev=qqmgr-console"]);
        assert_eq!(serial(&paths, true, &own).unwrap().len(), 2);
        let words = injected(&paths, Features { console: true, gdb: false }, &own).unwrap();
        let words: Vec<String> =
            words.into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(Features::of(&words).keys(), ["console = true"]);
    }

    /// Socket paths are in option lists, in which `,` and `=` have a meaning.
    #[test]
    fn injected_arguments_of_a_directory_with_commas() {
        let paths = Paths::new("/a,b/vm.x".into());
        let all = injected(&paths, Features { console: true, gdb: true }, &[]).unwrap();
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
