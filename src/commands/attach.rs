//! `--console`: attaches to the console of the VM that a command has started.

use super::console;
use super::target::Target;
use super::vms::are_several;
use crate::cli::spec::CONSOLE;
use crate::cli::{Args, refuse_if};
use crate::error::Error;
use crate::out;
use crate::report::{Outcome, Report};

/// Refuses the flag for several VMs and with `--json`.
pub(super) fn check(args: &Args) -> Result<(), Error> {
    let is_wrong = args.has(&CONSOLE) && (args.json() || are_several(&args.operands));
    refuse_if(&[(is_wrong, "`--console` takes one VM by its name, and no `--json`")])
}

/// Refuses the flag for a VM that would be started without a console.
pub(super) fn check_configured(target: &Target) -> Result<(), Error> {
    if !target.args.has(&CONSOLE) || target.vm()?.console {
        return Ok(());
    }
    let name = &target.name;
    Err(Error::failed(format!("VM `{name}` has no console to attach to"))
        .hint(format!("put `console = true` into `[vm.{name}]`")))
}

/// Reports the start, and attaches if the flag was given.
pub(super) fn after(target: &Target, report: Report) -> Outcome {
    if !target.args.has(&CONSOLE) {
        return Ok(report);
    }
    out::write(report.text.as_bytes())?;
    console::run(target)
}
