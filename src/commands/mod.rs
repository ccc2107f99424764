//! The commands, one file each: its name, flags and help, what it does, and what it reports. The
//! table says which VMs each command works on. Shared parts are the choice of VMs ([`vms`],
//! [`target`]), a VM's images ([`images`]), and its start ([`start`]).

mod attach;
mod check;
mod clock;
mod cmdline;
pub(crate) mod complete;
mod completions;
mod confirm;
mod console;
mod control;
mod copy;
mod everywhere;
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
mod output;
mod parallel;
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
mod stop_command;
mod target;
mod vms;
mod wait;

use crate::answers::Answers;
use crate::cli::{Args, Command, spec};
use crate::error::Error;
use crate::log;
use crate::report::Outcome;
use crate::system::tty;
use Run::{AllAtOnce, Plain, Several, Vm, Vms};
use std::io;
use target::Target;
use vms::Scope;

/// How a command is run, and on which VMs.
enum Run {
    /// On no VM, or on VMs that it finds by itself.
    Plain(fn(&Args) -> Outcome),
    /// On the VM that the first operand names.
    Vm(fn(&Target) -> Outcome),
    /// On each VM that the operands or `--all` name, a limited number at the same time.
    Vms(Scope, fn(&Target) -> Outcome),
    /// On each VM that the operands or `--all` name, on all of them at the same time.
    AllAtOnce(Scope, fn(&Target) -> Outcome),
    /// On no VM, or on VMs that it finds by itself, with several outcomes.
    Several(fn(&Args, &mut Answers) -> Result<(), Error>),
}

/// The titles under which help lists the commands.
const RUN: &str = "Run";
const REACH: &str = "Reach";
const LOOK: &str = "Look";
const CHANGE: &str = "Change";
const IMAGES: &str = "Images";
const SET_UP: &str = "Set up";

/// All commands, in help order.
static COMMANDS: &[(&str, &Command, Run)] = &[
    (RUN, &start::COMMAND, Vms(Scope::Configured, start::run)),
    (RUN, &stop::COMMAND, Vms(Scope::All, stop::run)),
    (RUN, &restart::COMMAND, Vms(Scope::Configured, restart::run)),
    (RUN, &run::COMMAND, Several(run::run)),
    // An event of one VM is reported without waiting for the others.
    (RUN, &wait::COMMAND, AllAtOnce(Scope::All, wait::run)),
    (REACH, &ssh::COMMAND, Vm(ssh::run)),
    (REACH, &copy::PUT, Vm(copy::put)),
    (REACH, &copy::GET, Vm(copy::get)),
    (REACH, &console::COMMAND, Vm(console::run)),
    (REACH, &forward::COMMAND, Vm(forward::run)),
    (REACH, &ssh_config::COMMAND, Plain(ssh_config::run)),
    (LOOK, &status::COMMAND, Vms(Scope::All, status::run)),
    (LOOK, &list::COMMAND, Several(list::run)),
    (LOOK, &stats::COMMAND, Several(stats::run)),
    (LOOK, &output::SERIAL, Vm(output::serial)),
    (LOOK, &output::LOG, Vm(output::log)),
    (LOOK, &screenshot::COMMAND, Vm(screenshot::run)),
    (CHANGE, &control::PAUSE, Vms(Scope::Running, control::pause)),
    (CHANGE, &control::RESUME, Vms(Scope::Running, control::resume)),
    (CHANGE, &control::RESET, Vms(Scope::Running, control::reset)),
    (CHANGE, &control::POWERDOWN, Vms(Scope::Running, control::powerdown)),
    (CHANGE, &control::NMI, Vms(Scope::Running, control::nmi)),
    (CHANGE, &sendkey::COMMAND, Vm(sendkey::run)),
    (CHANGE, &snapshot::COMMAND, Plain(snapshot::run)),
    (CHANGE, &qmp::COMMAND, Vm(qmp::run)),
    (CHANGE, &monitor::COMMAND, Several(monitor::run)),
    (CHANGE, &gdb::COMMAND, Vm(gdb::run)),
    (IMAGES, &img::COMMAND, Several(img::run)),
    (SET_UP, &init::COMMAND, Plain(init::run)),
    (SET_UP, &check::COMMAND, Plain(check::run)),
    (SET_UP, &cmdline::COMMAND, Vm(cmdline::run)),
    (SET_UP, &completions::COMMAND, Plain(completions::run)),
    (SET_UP, &help::COMMAND, Plain(|args| help::run(&table(), args))),
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
    let outcome = match row.map(|(.., run)| run) {
        Some(Plain(run)) => run(args).map(Some),
        Some(Vm(run)) => vms::one(args, &args.vm(), run).map(Some),
        Some(Vms(_, run)) if args.has(&spec::EVERYWHERE) => {
            everywhere::each(args, answers, *run).map(|()| None)
        }
        Some(Vms(scope, run)) => vms::each(args, *scope, None, remark, answers, *run).map(|_| None),
        Some(AllAtOnce(scope, run)) => {
            vms::each(args, *scope, Some(usize::MAX), "", answers, *run).map(|_| None)
        }
        Some(Several(run)) => run(args, answers).map(|()| None),
        None => Ok(None),
    };
    if let Some(outcome) = outcome.transpose() {
        answers.tell(outcome);
    }
}
