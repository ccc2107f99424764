//! `qqmgr cmdline VM`

use super::helpers;
use super::start::ARGS;
use super::start::changes::options;
use super::start::plan::{Inputs, StartOptions, check_arguments};
use super::target::Target;
use crate::cli::{Command, spec};
use crate::image::change::reachable;
use crate::report::{Outcome, Report};
use crate::text::texts;
use crate::vm::Look;

pub(crate) static COMMAND: Command = Command {
    name: "cmdline",
    about: "Print the command line of QEMU",
    details: "Prints one option a line, quoted for a shell; as JSON, an array of all words. A\n\
              port that is chosen at start is shown as the VM has it, or most likely gets it.",
    operands: &[spec::VM, ARGS],
    flags: &[&spec::SET, &spec::HELPER],
    check: |args| check_arguments(&args.words),
    examples: &["cmdline dev", "cmdline dev -- -s -S"],
    ..Command::DEFAULT
};

pub(super) fn run(target: &Target) -> Outcome {
    let inputs = Inputs::new(target, StartOptions::of(target.args))?;
    let running = Look::by_files(&target.paths)?.running_record()?;
    let inputs = inputs.on_port_of(running.as_ref());
    let resolver = inputs.resolver();
    let (mut argv, warnings) = inputs.own_words(&resolver)?;
    if let Some(name) = target.args.value(&spec::HELPER) {
        let all = inputs.helpers()?;
        let known: Vec<String> = all.iter().map(|helper| helper.name.clone()).collect();
        let helper = all.into_iter().find(|helper| helper.name == name);
        let helper = helper.ok_or_else(|| helpers::unknown(target, &name, &known))?;
        target.warn(&helper.warnings);
        argv = helper.argv;
    } else {
        target.warn(&warnings);
        argv.extend(inputs.injected(&argv)?);
    }
    // A user who runs QEMU directly needs the links by which it reaches images.
    for image in resolver.images() {
        let paths = target.config.image_paths(&image.name)?;
        if paths.dir.exists() {
            reachable(&paths)?;
        }
    }
    let words = texts(&argv);
    Ok(Report::new(options(&words).join(" \\\n    ") + "\n", words.iter().collect()))
}
