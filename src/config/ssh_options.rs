//! The options of ssh_config(5) in the ssh tables: which may be set, and how tables are merged.
//! Pure.

use super::ssh_keywords::{is_in, near, one_value};
use super::values::wrong_type;
use crate::source::Problem;
use crate::text::nearest;
use crate::toml::{Key, Kind, Table, Value};

/// Keywords that would begin another block of the generated file.
const BLOCKS: &[&str] = &["Host", "Match"];

/// Checks the options in the table with the header `shown`: all its keys but `own`.
pub(super) fn check(table: &Table, own: &[&str], shown: &str) -> Vec<Problem> {
    let mut seen: Vec<&str> = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in table.iter().filter(|(key, _)| !own.contains(&key.name.as_str())) {
        let problem = name_problem(key, own, &seen, shown);
        if problem.is_none() {
            seen.push(&key.name);
        }
        problems.extend(problem.or_else(|| value_problem(&key.name, value)));
    }
    problems
}

/// The problem with the name of an option; `seen` are the names before it.
fn name_problem(key: &Key, own: &[&str], seen: &[&str], shown: &str) -> Option<Problem> {
    let name = key.name.as_str();
    let problem = |message: String| Problem::new(key.span, message);
    if is_in(&["port", "vm_port", "vmport"], name) {
        let hint = "the port is `port` in `[vm.NAME.ssh]`, in lower case";
        Some(problem(format!("`{name}` does not belong in `{shown}`")).hint(hint))
    } else if is_in(BLOCKS, name) {
        let hint = "the generated file has one `Host` block, which the options go into";
        Some(problem(format!("`{name}` cannot be set in `{shown}`")).hint(hint))
    } else if let Some(near) = nearest(name, own.iter().copied()) {
        // No option of ssh has a name this near to one of qqmgr's own.
        Some(problem(format!("unknown key `{name}`")).did_you_mean(Some(near)))
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric()) || name.is_empty() {
        let problem = problem(format!("ssh has no option `{}`", name.escape_debug()));
        Some(problem.did_you_mean(near(&name.replace(['_', '-'], ""))))
    } else if is_in(seen, name) {
        Some(problem(format!("`{name}` is set twice: ssh ignores case in the names of options")))
    } else {
        None
    }
}

/// The problem with the value of an option.
fn value_problem(name: &str, value: &Value) -> Option<Problem> {
    let items = value.items();
    if let (Some(hint), [_, second, ..]) = (one_value(name), items) {
        let message = format!("ssh takes one value for `{name}`");
        return Some(Problem::new(second.span, message).hint(hint));
    }
    let is_wrong =
        |item: &&Value| matches!(item.kind, Kind::Float | Kind::Array(_) | Kind::Table(_));
    let expected = "a string, an integer, a boolean or a list of them";
    items.iter().find(is_wrong).map(|item| wrong_type(item, name, expected))
}

/// The options of several tables and their values, without the keys `own`: in the order of first
/// appearance, the last table winning. Names compare without case.
pub(super) fn merged<'a>(
    tables: impl Iterator<Item = &'a Table>,
    own: &[&str],
) -> Vec<(&'a str, &'a Value)> {
    let mut merged: Vec<(&str, &Value)> = Vec::new();
    for (key, value) in tables.flat_map(Table::iter) {
        let name = key.name.as_str();
        match merged.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            Some(other) => *other = (name, value),
            None if own.contains(&name) => {}
            None => merged.push((name, value)),
        }
    }
    merged
}
