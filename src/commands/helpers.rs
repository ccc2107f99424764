//! The helper that a command names with `--helper`.

use super::target::Target;
use crate::error::Error;
use crate::text::nearest;
use crate::vm::{Instance, Process};

/// The process of the helper, if it runs. A name that the VM's last start and the configuration do
/// not know is a usage error.
pub(super) fn process(target: &Target, name: &str) -> Result<Option<Process>, Error> {
    let record = Instance::read(&target.paths)?;
    let mut known = names(target);
    let recorded = record.iter().flat_map(|record| &record.helpers);
    known.extend(recorded.map(|helper| helper.name.clone()));
    if !known.iter().any(|known| known == name) {
        return Err(unknown(target, name, &known));
    }
    let Some(record) = record else { return Ok(None) };
    let live = record.live_helpers(&target.paths)?.into_iter();
    Ok(live.filter(|(helper, _)| helper.name == name).map(|(_, process)| process).next())
}

/// The names of the configured helpers.
pub(super) fn names(target: &Target) -> Vec<String> {
    target.resolver(None).map(|resolver| resolver.helper_names()).unwrap_or_default()
}

/// The usage error for a name that no helper has; `known` are the names of the VM's helpers.
pub(super) fn unknown(target: &Target, name: &str, known: &[String]) -> Error {
    let near = nearest(name, known.iter().map(String::as_str));
    let hint = match known {
        [] => "it has none; `[vm.NAME.helpers]` in the configuration declares helpers".into(),
        _ => format!("it has `{}`", known.join("`, `")),
    };
    let error = Error::usage(format!("VM `{}` has no helper `{name}`", target.name));
    error.hint(hint).did_you_mean(near)
}
