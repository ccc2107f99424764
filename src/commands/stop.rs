//! `qqmgr stop VM`

use super::Target;
use crate::cli::spec::{self, Flag, FlagKind};
use crate::cli::{Args, Command};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Report;
use crate::ssh::end_shared_connection;
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::process;
use crate::vm::shutdown::{self, Force, Method};
use std::time::{Duration, Instant};

/// So long `--force` lets another command finish.
const FORCE_WAIT: Duration = Duration::from_secs(2);

pub(crate) static COMMAND: Command = Command {
    name: "stop",
    about: "Power a VM off, ending QEMU when the guest does not",
    details: "The guest's power button is pressed. When the guest has not powered off in time,\n\
              QEMU gets SIGTERM, which closes its images cleanly, and at last SIGKILL.\n\
              Stopping a stopped VM is success, and cleans up what a crash left.",
    operands: &[spec::VM],
    flags: &[&TIMEOUT, &FORCE, &NO_KILL],
    failure_code: None,
    run,
};

static TIMEOUT: Flag = Flag {
    long: "timeout",
    short: None,
    kind: spec::TIMEOUT,
    help: "Give the guest this long to power off (default 20)",
};
static FORCE: Flag = Flag {
    long: "force",
    short: None,
    kind: FlagKind::Switch(|args| args.force = true),
    help: "End QEMU at once, without asking the guest",
};
static NO_KILL: Flag = Flag {
    long: "no-kill",
    short: None,
    kind: FlagKind::Switch(|args| args.no_kill = true),
    help: "Leave QEMU running when the guest does not power off",
};

struct Stopped {
    name: String,
    pid: Option<u32>,
    method: Method,
    took: Duration,
}

fn run(args: &Args) -> Result<Box<dyn Report>, Error> {
    if args.force && args.no_kill {
        return Err(Error::new(Kind::Usage, "`--force` and `--no-kill` contradict each other"));
    }
    let Target { name, paths, .. } = Target::new(args)?;
    let (log, begin) = (args.log(), Instant::now());
    let mut stopped = Stopped { name, pid: None, method: Method::None, took: Duration::ZERO };
    if paths.dir.symlink_metadata().is_err() && process::find_anywhere(&paths).is_none() {
        return Ok(Box::new(stopped));
    }
    let wait = if args.force { FORCE_WAIT } else { LOCK_WAIT };
    let _lock = match (lock(&paths, &stopped.name, COMMAND.name, wait), process::find(&paths)) {
        (Err(error), Some(process)) if args.force && error.kind == Kind::TimedOut => {
            // A `start` waits for this QEMU in vain; it sees the end and gives the lock back.
            stopped.pid = Some(process.pid);
            stopped.method = shutdown::terminate(&process, log)?;
            lock(&paths, &stopped.name, COMMAND.name, LOCK_WAIT)?
        }
        (result, _) => result?,
    };
    if let Some(process) = process::find_anywhere(&paths) {
        let force = Force {
            timeout: args.timeout.unwrap_or(shutdown::TIMEOUT),
            at_once: args.force,
            kill: !args.no_kill,
        };
        stopped.pid = Some(process.pid);
        stopped.method = shutdown::shut_down(&process, &paths, force, log)?;
    }
    end_shared_connection(&stopped.name, &paths, log)?;
    paths.clean()?;
    stopped.took = begin.elapsed();
    Ok(Box::new(stopped))
}

impl Report for Stopped {
    fn text(&self) -> String {
        let (name, seconds) = (&self.name, self.took.as_secs_f64());
        match self.method {
            Method::None => format!("{name} was not running\n"),
            Method::Powerdown => format!("{name} powered off in {seconds:.1} s\n"),
            Method::Sigterm => format!("{name} ended by SIGTERM in {seconds:.1} s\n"),
            Method::Sigkill => format!("{name} ended by SIGKILL in {seconds:.1} s\n"),
        }
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("pid", self.pid.into()),
            ("method", self.method.name().into()),
            ("seconds", Value::seconds(self.took)),
        ])
    }
}
