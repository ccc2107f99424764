//! `qqmgr ssh VM [WORD...]`: becomes ssh, so that every signal and terminal mode is ssh's own.

use crate::cli::spec::{self, Count, Operand};
use crate::cli::{Args, Command};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Report;
use crate::ssh::{Guest, cannot_run};
use crate::text::sanitized;
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Stdio};

/// What a command may say on each of its two streams to be told as JSON.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// ssh's for its own failures.
const FAILURE_CODE: u8 = 255;

pub(crate) static COMMAND: Command = Command {
    name: "ssh",
    about: "Open a shell on the guest, or run a command there",
    details: "Everything after the VM's name goes to ssh as it is: a command, or options of\n\
              ssh(1) before it. The exit code is the command's, or 255 when ssh or qqmgr failed.",
    operands: &[spec::VM, Operand { name: "WORD", count: Count::Rest }],
    flags: &[],
    failure_code: Some(FAILURE_CODE),
    run,
};

struct Ran {
    name: String,
    exit_code: u8,
    stdout: String,
    stderr: String,
}

fn run(args: &Args) -> Result<Box<dyn Report>, Error> {
    let words = &args.operands[1..];
    if args.json && words.is_empty() {
        return Err(Error::new(Kind::Usage, "`ssh --json` needs a command")
            .hint("a shell is for people: its output is no result"));
    }
    let guest = Guest::of(&args.vm(), &Config::load(args)?, args.log())?;
    let mut ssh = guest.ssh(words);
    if !args.json {
        return Err(guest.replace_by(ssh));
    }
    let spawned = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = spawned.map_err(|error| cannot_run(OsStr::new("ssh"), &error))?;
    Ok(Box::new(captured(args.vm().into_owned(), child)?))
}

/// Waits for a command, keeping what it says. What is no UTF-8 becomes U+FFFD.
fn captured(name: String, mut child: Child) -> Result<Ran, Error> {
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || read(stderr));
    let stdout = read(child.stdout.take());
    let stderr = reader.join().unwrap_or_default();
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
        let _ = child.kill();
        let _ = child.wait();
        let limit = OUTPUT_BYTES_MAX >> 20;
        return Err(Error::failed(format!("the command said more than {limit} MiB"))
            .hint("without `--json` there is no limit"));
    };
    let status = child.wait().map_err(|error| cannot_run(OsStr::new("ssh"), &error))?;
    let exit_code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE_CODE);
    Ok(Ran { name, exit_code, stdout, stderr })
}

fn read(stream: Option<impl Read>) -> Option<String> {
    let mut bytes = Vec::new();
    stream?.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    let fits = bytes.len() as u64 <= OUTPUT_BYTES_MAX;
    fits.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

impl Report for Ran {
    fn text(&self) -> String {
        sanitized(&self.stdout)
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("exit_code", u64::from(self.exit_code).into()),
            ("stdout", self.stdout.as_str().into()),
            ("stderr", self.stderr.as_str().into()),
        ])
    }

    fn exit_code(&self) -> u8 {
        self.exit_code
    }
}
