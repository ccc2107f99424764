//! Rules about the virtual machine itself: KVM, and the serial port whose output is kept.

use super::subject::Subject;
use crate::error::io_reason;
use crate::linux::{KVM_DEVICE, has_screen};
use crate::source::{Problem, Span};
use crate::vm::argv::own_port;
use crate::vm::options::Argument;
use std::io::{self, ErrorKind};

/// Warns if `cmd` sets the guest's first serial port.
pub(super) fn serial(arguments: &[Argument]) -> Option<Problem> {
    let first = own_port(arguments)?;
    let message = "the guest's first serial port is this one, and not the VM's file `serial`";
    let option = if first.name == "serial" { "a `-serial`" } else { "an `isa-serial`" };
    let hint = format!("without {option} in `cmd` the file has what the guest's console says");
    Some(Problem::new(first.span, message).hint(hint))
}

/// Reports a second server for debuggers: QEMU has one.
pub(super) fn second_gdb(subject: &Subject) -> Option<Problem> {
    let mut arguments = subject.arguments.iter().filter(|_| subject.vm.gdb);
    let other = arguments.find(|argument| ["s", "gdb"].contains(&argument.name.as_str()))?;
    let name = &other.name;
    let message = format!("QEMU cannot serve debuggers by `-{name}` and by `gdb = true`");
    Some(
        Problem::new(other.span, message)
            .hint("leave one of them out; `qqmgr gdb --guest` needs neither"),
    )
}

/// Reports a display that QEMU cannot open: it has no terminal, and perhaps there is no screen.
pub(super) fn display(arguments: &[Argument]) -> Option<Problem> {
    let screen = has_screen();
    arguments.iter().find_map(|argument| {
        let message = match (argument.name.as_str(), argument.first()) {
            ("curses", _) | ("display", "curses") => "`curses` needs a terminal, and QEMU has none",
            ("display", "gtk") if !screen => {
                "`gtk` needs a display, and there is none: `DISPLAY` is not set"
            }
            _ => return None,
        };
        let hint = "`-display none`; `console = true` is for the serial line, `-vnc 127.0.0.1:0` for a screen";
        Some(Problem::new(argument.span, message).hint(hint))
    })
}

/// Reports that KVM is required but cannot be used here. `usable` says whether it can.
pub(super) fn kvm(arguments: &[Argument], usable: &dyn Fn() -> io::Result<()>) -> Option<Problem> {
    let (place, fallback) = only_kvm(arguments)?;
    let error = usable().err()?;
    let (why, what) = match error.kind() {
        ErrorKind::NotFound => ("there is no".into(), "load the kernel's module for it"),
        ErrorKind::PermissionDenied => ("this user may not open".into(), "join the group `kvm`"),
        _ => (format!("{} when opening", io_reason(&error)), "find out why"),
    };
    let problem = Problem::new(place, format!("KVM cannot be used: {why} `{KVM_DEVICE}`"));
    Some(problem.hint(format!("{what}, or fall back on emulation, which is slow: `{fallback}`")))
}

/// Finds where KVM and nothing else is asked for, and how to add a fallback. QEMU tries each
/// `-accel` in turn; without one it uses the last `accel` of the machine, which `-enable-kvm` sets
/// as well (`configure_accelerators` of system/vl.c).
fn only_kvm(arguments: &[Argument]) -> Option<(Span, &'static str)> {
    let (mut by_option, mut by_machine) = (Vec::new(), Vec::new());
    for argument in arguments {
        let span = argument.span;
        match (argument.name.as_str(), argument.get("accel")) {
            ("accel", Some(accel)) => by_option.push((accel, span)),
            ("machine" | "M", Some(list)) => {
                by_machine = list.split(':').map(|accel| (accel, span)).collect();
            }
            ("enable-kvm", _) => by_machine = vec![("kvm", span)],
            _ => {}
        }
    }
    let (asked, fallback) = if by_option.is_empty() {
        (by_machine, "-machine accel=kvm:tcg")
    } else {
        (by_option, "-accel kvm -accel tcg")
    };
    let (_, place) = asked.first()?;
    asked.iter().all(|(accel, _)| *accel == "kvm").then_some((*place, fallback))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::options::arguments;
    use crate::words::Word;

    fn asked(line: &str, error: ErrorKind) -> Option<(usize, String, String)> {
        let words = line.split(' ').zip(0..);
        let word = |(text, at): (&str, _)| Word::plain(text, Span { start: at, end: at });
        let problem = kvm(&arguments(words.map(word).collect()), &|| Err(error.into()))?;
        Some((problem.span.start, problem.message, problem.hint.unwrap_or_default()))
    }

    #[test]
    fn kvm_without_a_fallback() {
        for (line, place, fallback) in [
            ("-accel kvm", 1, "-accel kvm -accel tcg"),
            ("-machine q35 -accel kvm,thread=single", 3, "-accel kvm -accel tcg"),
            ("-enable-kvm", 0, "-machine accel=kvm:tcg"),
            ("-M q35,accel=tcg -machine accel=kvm", 3, "-machine accel=kvm:tcg"),
        ] {
            let message = "KVM cannot be used: there is no `/dev/kvm`".to_string();
            let hint = format!(
                "load the kernel's module for it, or fall back on emulation, which is slow: `{fallback}`"
            );
            assert_eq!(asked(line, ErrorKind::NotFound), Some((place, message, hint)), "{line}");
        }
    }

    #[test]
    fn kvm_that_need_not_be_there() {
        for line in [
            "-m 1",
            "-accel kvm -accel tcg",
            "-accel tcg",
            "-M q35,accel=kvm:tcg",
            "-enable-kvm -machine accel=tcg",
            "-append accel=kvm",
        ] {
            assert_eq!(asked(line, ErrorKind::NotFound), None, "{line}");
        }
    }

    #[test]
    fn kvm_that_may_not_be_opened() {
        let (_, message, hint) = asked("-accel kvm", ErrorKind::PermissionDenied).unwrap();
        assert_eq!(message, "KVM cannot be used: this user may not open `/dev/kvm`");
        assert!(hint.starts_with("join the group `kvm`, or fall back on "), "{hint}");
        let (_, message, _) = asked("-accel kvm", ErrorKind::ResourceBusy).unwrap();
        assert_eq!(message, "KVM cannot be used: resource busy when opening `/dev/kvm`");
    }
}
