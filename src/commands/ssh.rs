//! `qqmgr ssh VM [WORD...]`: becomes ssh, so that every signal and terminal mode is ssh's own.

use super::reach::guest;
use super::target::Target;
use crate::cli::{Args, Command, Count, Operand, spec};
use crate::error::Error;
use crate::report::Outcome;
use crate::ssh::FAILURE_CODE;
use crate::ssh::run::capture;
use std::os::unix::ffi::OsStrExt as _;

pub(crate) static COMMAND: Command = Command {
    name: "ssh",
    about: "Open a shell on the guest, or run a command",
    details: "Everything after the VM's name goes to ssh as it is: a command, or options of\n\
              ssh(1) before it. The exit code is the command's, or 255 when ssh or qqmgr\n\
              failed.",
    operands: &[spec::VM, Operand::new("WORD", Count::Rest)],
    flags: &[&spec::WAIT],
    check,
    failure_code: |_| FAILURE_CODE,
    examples: &["ssh dev", "ssh dev dmesg --follow", "ssh dev -L 8080:localhost:80 -N"],
    ..Command::DEFAULT
};

fn check(args: &Args) -> Result<(), Error> {
    let first = args.operands.get(1).filter(|word| word.len() > 2);
    if let Some(word) = first.filter(|word| word.as_bytes().starts_with(b"--")) {
        let message = format!("ssh has no option `{}`", word.display());
        return Err(Error::usage(message).hint("options of `qqmgr ssh` stand before the VM"));
    }
    if args.json() && args.operands.len() == 1 {
        return Err(Error::usage("`ssh --json` needs a command")
            .hint("a shell is for people: its output is not a result"));
    }
    Ok(())
}

pub(super) fn run(target: &Target) -> Outcome {
    let args = target.args;
    let words = &args.operands[1..];
    // With its own options, ssh may log in as another user.
    let has_options = words.first().is_some_and(|word| word.as_bytes().starts_with(b"-"));
    let guest = guest(target, !has_options)?;
    if !args.json() {
        if guest.shares(words) {
            guest.begin_sharing()?;
        }
        return Err(guest.users_ssh(words).exec(&guest.log));
    }
    if guest.shares(words)
        && let Err(stderr) = guest.share()?
    {
        let members = [("stdout", "".into()), ("stderr", stderr.into())];
        return Ok(target.exit_report(None, "", members));
    }
    let output = capture(guest.users_ssh(words), &guest)?;
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    let members = [("stdout", stdout.as_ref().into()), ("stderr", stderr.as_ref().into())];
    Ok(target.exit_report(output.status.code(), stdout, members))
}
