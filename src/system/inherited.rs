//! Starts programs that may outlive this one, without the files that this program inherited from
//! its caller.
//!
//! A shell passes the descriptor of `3>&1` on to every program it runs, and flock(1) passes on that
//! of its lock. A QEMU with such a descriptor would hold the pipe or the lock for as long as it
//! lives. std closes only the descriptors that it opened itself. So a shell closes the rest and
//! becomes the program, which keeps the shell's pid. Where nothing is inherited, no shell is run.

use crate::descriptors::{closing, is_named};
use crate::linux;
use crate::log::Log;
use crate::system::programs::{self, Program};
use crate::system::run::Invocation;
use std::ffi::OsString;
use std::path::Path;

/// Every shell closes descriptors of one digit (POSIX, XCU 2.7); dash closes no others.
const DIGIT_MAX: u32 = 9;
/// The shells to try for longer descriptors. In its POSIX mode, `bash` reads no startup file.
const SHELLS: [(&Program, &[&str]); 3] =
    [(&programs::SH, &[]), (&programs::BASH, &["--posix"]), (&programs::BUSYBOX, &["sh"])];

/// The command for `argv`, whose first word is the program. It inherits only the three standard
/// descriptors and those that its own words name. A warning names a descriptor that stays open
/// because no shell of this host can close it.
pub(crate) fn command(argv: &[OsString], log: &Log) -> Invocation {
    let mut unwanted = linux::inherited_files();
    unwanted.retain(|fd| !is_named(argv, *fd));
    unwanted.sort_unstable();
    let (program, arguments) = argv.split_first().unzip();
    let program = program.cloned().unwrap_or_default();
    // The error about a program that cannot be run should come from the system, not from a shell.
    if !programs::is_executable(Path::new(&program)) {
        unwanted.clear();
    }
    if !unwanted.is_empty()
        && let Some((mut shell, closed)) = shell_for(&unwanted)
    {
        warn(&unwanted[closed..], log);
        shell.arg("-c").arg(format!("{}; exec \"$@\"", closing(&unwanted[..closed])));
        shell.arg("sh").args(argv);
        return shell.traced_as(argv);
    }
    warn(&unwanted, log);
    let mut command = programs::configured(program);
    command.args(arguments.unwrap_or_default());
    command
}

/// Finds a shell, and gives how many of the descriptors it can close, counted from the first.
fn shell_for(unwanted: &[u32]) -> Option<(Invocation, usize)> {
    let installed = || SHELLS.into_iter().filter(|(program, _)| program.find().is_some());
    let shell = |(program, arguments): (&Program, &[&str])| {
        let mut shell = program.command();
        shell.args(arguments);
        shell
    };
    let digits = unwanted.iter().take_while(|fd| **fd <= DIGIT_MAX).count();
    if digits < unwanted.len()
        && let Some(able) = installed().find(|candidate| closes(shell(*candidate), unwanted))
    {
        return Some((shell(able), unwanted.len()));
    }
    installed().next().map(|first| (shell(first), digits))
}

/// Whether this shell can close all of them; runs it to find out.
fn closes(mut shell: Invocation, unwanted: &[u32]) -> bool {
    let is_closed = |fd: &u32| format!("[ ! -h {}/self/fd/{fd} ]", linux::PROC);
    let all_are: Vec<String> = unwanted.iter().map(is_closed).collect();
    let script = format!("{}; {}", closing(unwanted), all_are.join(" && "));
    shell.args(["-c", &script]);
    shell.answer().is_ok_and(|answer| answer.status.success())
}

fn warn(left: &[u32], log: &Log) {
    if let Some(fd) = left.first() {
        log.warning(&format!(
            "descriptor {fd} was inherited and stays open in the program, since no `bash` \
             or `busybox` is here to close it: `{fd}>&-` after this command does"
        ));
    }
}
