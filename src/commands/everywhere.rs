//! `--everywhere`: the work of a command on the running VMs of all configurations of this user.

use super::logs::LOGS;
use super::target::Target;
use super::vms::{at_the_same_time, parallel_max};
use crate::answers::Answers;
use crate::cli::Args;
use crate::config::Config;
use crate::error::Error;
use crate::report::{Outcome, Report};
use crate::text::on_a_line;
use crate::vm::everywhere::{Found, running};

/// Does `work` on each VM by the record of its start; its configuration is not read.
pub(super) fn each(
    args: &Args,
    answers: &mut Answers,
    work: fn(&Target) -> Outcome,
) -> Result<(), Error> {
    if args.has(&LOGS) {
        let message = "`--logs` cannot be used with `--everywhere`: VMs may have the same name";
        return Err(Error::usage(message));
    }
    answers.begin_array();
    let at_once = parallel_max(args);
    at_the_same_time(&running()?, at_once, &args.log(), answers, |found| one(args, found, work));
    Ok(())
}

/// Does the work on one VM. The answer names the VM's configuration.
fn one(args: &Args, found: &Found, work: fn(&Target) -> Outcome) -> Outcome {
    let Found { paths, config_file, .. } = found;
    let (name, shown) = (paths.name.clone(), on_a_line(&config_file.to_string_lossy()));
    let log = args.log().of_vm(&format!("{shown}: {name}"));
    let runtime = paths.dir.parent().unwrap_or(&paths.dir).to_path_buf();
    let done = Config::unread(config_file.clone(), runtime).and_then(|config| {
        work(&Target { config: &config, args, name, paths: paths.clone(), log })
    });
    let named = |error: Error| error.after(&shown).after_reading("config_file", config_file);
    let report = done.map_err(|error| named(error).of_vm(&paths.name, true))?;
    let text = format!("{shown}: {}", report.text);
    Ok(Report { text, ..report }.with_member("config_file", config_file.into()))
}
