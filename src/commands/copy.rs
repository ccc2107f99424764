//! `qqmgr put VM LOCAL... REMOTE` and `qqmgr get VM REMOTE... LOCAL`

use super::reach::guest;
use super::target::Target;
use crate::cli::{Args, Command, Count, Operand, spec};
use crate::error::Error;
use crate::json::Value;
use crate::report::Outcome;
use crate::ssh::copy::{Copy, copy};
use crate::text::command_line;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

pub(crate) static PUT: Command = Command {
    name: "put",
    about: "Copy files and directories to the guest",
    details: "REMOTE starts from the guest user's home, unless it is absolute.",
    operands: &[spec::VM, Operand::new("LOCAL", Count::Many), Operand::new("REMOTE", Count::One)],
    flags: &[&spec::WAIT],
    check: |args| check(args, args.operands.last()),
    examples: &["put dev notes.txt /tmp/", "put dev src tests work"],
    right_form: |words| {
        let [vm, file] = words else { return None };
        let (one, other) = file.to_str()?.split_once(':')?;
        let (one, other) = (OsStr::new(one), OsStr::new(other));
        // In `put FILE VM:PATH`, as scp has it, the first word is a file and not a VM.
        let is_reversed = Path::new(vm).exists() && !Path::new(one).exists();
        let (vm, file) = if is_reversed { (one, &**vm) } else { (&**vm, one) };
        Some(command_line([OsStr::new("put"), vm, file, other]))
    },
    ..Command::DEFAULT
};

pub(crate) static GET: Command = Command {
    name: "get",
    about: "Copy files and directories from the guest",
    details: "REMOTE starts from the guest user's home, unless it is absolute; patterns in it\n\
              are expanded there.",
    operands: &[spec::VM, Operand::new("REMOTE", Count::Many), Operand::new("LOCAL", Count::One)],
    flags: &[&spec::WAIT],
    check: |args| check(args, args.operands.iter().rev().skip(1)),
    examples: &["get dev /var/log/syslog .", "get dev 'results/*.xml' out"],
    right_form: |words| {
        let [file, to] = words else { return None };
        let (vm, file) = file.to_str()?.split_once(':')?;
        Some(command_line([OsStr::new("get"), vm.as_ref(), file.as_ref(), to]))
    },
    ..Command::DEFAULT
};

/// Refuses paths on the guest that begin with `VM:`, as scp takes them.
fn check<'a>(
    args: &Args,
    guest_paths: impl IntoIterator<Item = &'a OsString>,
) -> Result<(), Error> {
    let scp_start = format!("{}:", args.vm());
    let path_of = |path: &'a OsString| path.to_str()?.strip_prefix(&scp_start);
    if let Some(path) = guest_paths.into_iter().find_map(path_of) {
        let message = format!("`{scp_start}{path}` names the VM a second time");
        let hint = format!("write `{path}`, or `./{scp_start}{path}` if that is the path");
        return Err(Error::usage(message).hint(hint));
    }
    let to = args.operands.last();
    if let (Some(detached), Some(to)) = (&args.detached, to)
        && detached.word == *to
    {
        let message = format!("`{}` may be meant for `--{}`", to.display(), detached.flag);
        return Err(Error::usage(message).hint(detached.hint()));
    }
    Ok(())
}

pub(super) fn put(target: &Target) -> Outcome {
    run(target, |from, to| Copy::Put { from: from.iter().map(PathBuf::from).collect(), to })
}

pub(super) fn get(target: &Target) -> Outcome {
    run(target, |from, to| Copy::Get { from: from.to_vec(), to: to.into() })
}

fn run(target: &Target, direction: fn(&[OsString], OsString) -> Copy) -> Outcome {
    let [_, from @ .., to] = target.args.operands.as_slice() else {
        return Err(Error::failed("nothing to copy"));
    };
    copy(&guest(target, true)?, &direction(from, to.clone()), !target.args.json())?;
    let text = |name: &OsStr| Value::from(name.to_string_lossy().into_owned());
    // Nothing is printed on success, as by cp and scp.
    let from = from.iter().map(|name| text(name)).collect();
    Ok(target.report("", [("from", from), ("to", text(to))]))
}
