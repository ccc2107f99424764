//! The commands, one file each: its name, flags and help, what it does, and what it reports. The
//! table says which VMs each works on. Shared parts are the choice of VMs ([`vms`], [`target`]), a
//! VM's images ([`images`]), what it is started with and its start ([`start`]).

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
use Run::{AllAtOnce, Help, Plain, Several, Vm, Vms};
use std::io;
use target::Target;
use vms::Scope;

/// How a command is run, and on which VMs.
enum Run {
    /// On no VM, or on VMs that it finds by itself.
    Plain(fn(&Args) -> Outcome),
    /// On the VM that the first operand names.
    Vm(fn(&Target) -> Outcome),
    /// On each VM that the operands or `--all` name, on several at the same time.
    Vms(Scope, fn(&Target) -> Outcome),
    /// On each VM that the operands or `--all` name, on all of them at the same time.
    AllAtOnce(Scope, fn(&Target) -> Outcome),
    /// On the table itself.
    Help,
    /// Like `Plain`, for a command that gives several outcomes.
    Several(fn(&Args, &mut Answers) -> Result<(), Error>),
}

/// All commands, in help order.
static COMMANDS: &[(&Command, Run)] = &[
    (&start::COMMAND, Vms(Scope::Configured, start::run)),
    (&stop::COMMAND, Vms(Scope::All, stop::run)),
    (&restart::COMMAND, Vms(Scope::Configured, restart::run)),
    (&run::COMMAND, Several(run::run)),
    // An event of one VM is reported without waiting for the others.
    (&wait::COMMAND, AllAtOnce(Scope::All, wait::run)),
    (&ssh::COMMAND, Vm(ssh::run)),
    (&copy::PUT, Vm(copy::put)),
    (&copy::GET, Vm(copy::get)),
    (&console::COMMAND, Vm(console::run)),
    (&forward::COMMAND, Vm(forward::run)),
    (&ssh_config::COMMAND, Plain(ssh_config::run)),
    (&status::COMMAND, Vms(Scope::All, status::run)),
    (&list::COMMAND, Several(list::run)),
    (&stats::COMMAND, Several(stats::run)),
    (&output::SERIAL, Vm(output::serial)),
    (&output::LOG, Vm(output::log)),
    (&screenshot::COMMAND, Vm(screenshot::run)),
    (&control::PAUSE, Vms(Scope::Running, control::pause)),
    (&control::RESUME, Vms(Scope::Running, control::resume)),
    (&control::RESET, Vms(Scope::Running, control::reset)),
    (&control::POWERDOWN, Vms(Scope::Running, control::powerdown)),
    (&control::NMI, Vms(Scope::Running, control::nmi)),
    (&sendkey::COMMAND, Vm(sendkey::run)),
    (&snapshot::COMMAND, Plain(snapshot::run)),
    (&qmp::COMMAND, Vm(qmp::run)),
    (&monitor::COMMAND, Several(monitor::run)),
    (&gdb::COMMAND, Vm(gdb::run)),
    (&img::COMMAND, Several(img::run)),
    (&init::COMMAND, Plain(init::run)),
    (&check::COMMAND, Plain(check::run)),
    (&cmdline::COMMAND, Vm(cmdline::run)),
    (&completions::COMMAND, Plain(completions::run)),
    (&help::COMMAND, Help),
];

/// The commands as [`crate::cli`] needs them.
pub(crate) fn table() -> Vec<&'static Command> {
    COMMANDS.iter().map(|(command, _)| *command).collect()
}

/// Runs the command, and reports each outcome as it comes.
pub(crate) fn run(command: &Command, args: &Args, answers: &mut Answers) {
    log::measure_by(|| tty::size(io::stderr()).map(|(_, columns)| columns));
    let row = COMMANDS.iter().find(|(row, _)| row.name == command.name);
    let stays = command.name == start::COMMAND.name && args.has(&spec::WAIT);
    let remark = if stays { "; Ctrl-C leaves the VMs running" } else { "" };
    let outcome = match row.map(|(_, run)| run) {
        Some(Plain(run)) => run(args).map(Some),
        Some(Help) => help::run(&table(), args).map(Some),
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
