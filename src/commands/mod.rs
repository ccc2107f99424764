//! The commands, one file each: its name, flags and help, what it does, and what it reports. The
//! table says which VMs each command works on. Shared parts are the choice of VMs ([`vms`],
//! [`target`]), a VM's images ([`images`]), and its start ([`start`]).

mod check;
mod cmdline;
pub(crate) mod complete;
mod completions;
mod confirm;
mod console;
mod control;
mod copy;
mod forward;
mod gdb;
pub(crate) mod help;
mod helpers;
mod images;
mod img;
mod init;
mod input;
mod list;
mod logs;
mod monitor;
mod on_guest;
mod output;
mod publishers;
mod qmp;
mod reach;
mod restart;
mod run;
mod screenshot;
mod script;
mod sendkey;
mod snapshot;
mod ssh;
mod ssh_config;
mod start;
mod stats;
mod status;
mod stop;
mod target;
mod vms;
mod wait;

use crate::answers::Answers;
use crate::cli::{Args, Command, spec};
use crate::error::Error;
use crate::log;
use crate::report::Outcome;
use crate::system::tty;
use Run::{Plain, Several, Vm, Vms};
use std::io;
use target::Target;
use vms::Scope;

/// How a command is run, and on which VMs.
enum Run {
    /// On no VM, or on VMs that it finds by itself.
    Plain(fn(&Args) -> Outcome),
    /// On the VM that the first operand names.
    Vm(fn(&Target) -> Outcome),
    /// On each VM that the operands or `--all` name, this many at the same time; see [`vms::each`].
    Vms(Scope, Option<usize>, fn(&Target) -> Outcome),
    /// On no VM, or on VMs that it finds by itself, with several outcomes.
    Several(fn(&Args, &mut Answers) -> Result<(), Error>),
}

/// All commands in help order, each with the title under which help lists it.
static COMMANDS: &[(&str, &Command, Run)] = &[
    ("Run", &start::COMMAND, Vms(Scope::Configured, None, start::run)),
    ("Run", &stop::COMMAND, Vms(Scope::All, None, stop::run)),
    ("Run", &restart::COMMAND, Vms(Scope::Configured, None, restart::run)),
    ("Run", &run::COMMAND, Several(run::run)),
    // An event of one VM is reported without waiting for the others.
    ("Run", &wait::COMMAND, Vms(Scope::All, Some(usize::MAX), wait::run)),
    ("Reach", &ssh::COMMAND, Vm(ssh::run)),
    ("Reach", &copy::PUT, Vm(copy::put)),
    ("Reach", &copy::GET, Vm(copy::get)),
    ("Reach", &console::COMMAND, Vm(console::run)),
    ("Reach", &forward::COMMAND, Vm(forward::run)),
    ("Reach", &ssh_config::COMMAND, Plain(ssh_config::run)),
    ("Look", &status::COMMAND, Vms(Scope::All, None, status::run)),
    ("Look", &list::COMMAND, Several(list::run)),
    ("Look", &stats::COMMAND, Several(stats::run)),
    ("Look", &output::SERIAL, Vm(output::serial)),
    ("Look", &output::LOG, Vm(output::log)),
    ("Look", &screenshot::COMMAND, Vm(screenshot::run)),
    ("Change", &control::PAUSE, Vms(Scope::Running, None, control::pause)),
    ("Change", &control::RESUME, Vms(Scope::Running, None, control::resume)),
    ("Change", &control::RESET, Vms(Scope::Running, None, control::reset)),
    ("Change", &control::POWERDOWN, Vms(Scope::Running, None, control::powerdown)),
    ("Change", &control::NMI, Vms(Scope::Running, None, control::nmi)),
    ("Change", &sendkey::COMMAND, Vm(sendkey::run)),
    ("Change", &snapshot::COMMAND, Plain(snapshot::run)),
    ("Change", &qmp::COMMAND, Vm(qmp::run)),
    ("Change", &monitor::COMMAND, Several(monitor::run)),
    ("Change", &gdb::COMMAND, Vm(gdb::run)),
    ("Images", &img::COMMAND, Several(img::run)),
    ("Set up", &init::COMMAND, Plain(init::run)),
    ("Set up", &check::COMMAND, Plain(check::run)),
    ("Set up", &cmdline::COMMAND, Vm(cmdline::run)),
    ("Set up", &completions::COMMAND, Plain(|args| Ok(completions::run(args)))),
    ("Set up", &help::COMMAND, Plain(|args| help::run(&table(), args))),
];

/// The commands as [`crate::cli`] needs them.
pub(crate) fn table() -> Vec<(&'static str, &'static Command)> {
    COMMANDS.iter().map(|(group, command, _)| (*group, *command)).collect()
}

/// Runs the command, and reports each outcome as it comes.
pub(crate) fn run(command: &Command, args: &Args, answers: &mut Answers) {
    log::measure_by(|| tty::size(io::stderr()).map(|(_, columns)| columns));
    let row = COMMANDS.iter().find(|(_, row, _)| row.name == command.name);
    let stays = command.name == start::COMMAND.name && args.has(&spec::WAIT);
    let remark = if stays { "; Ctrl-C leaves the VMs running" } else { "" };
    let ended = match row.map(|(.., run)| run) {
        Some(Plain(run)) => run(args).map(|report| answers.tell(Ok(report))),
        Some(Vm(run)) => vms::one(args, &args.vm(), run).map(|report| answers.tell(Ok(report))),
        Some(Vms(_, _, run)) if args.has(&spec::EVERYWHERE) => vms::everywhere(args, answers, *run),
        Some(Vms(scope, at_once, run)) => {
            vms::each(args, *scope, *at_once, remark, answers, *run).map(|_| ())
        }
        Some(Several(run)) => run(args, answers),
        None => Ok(()),
    };
    if let Err(error) = ended {
        answers.tell(Err(error));
    }
}
