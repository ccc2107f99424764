//! `qqmgr start VM`

use super::{Plan, Target};
use crate::cli::spec::{self, Flag};
use crate::cli::{Args, Command};
use crate::config::model::Vm;
use crate::config::{Choices, Config};
use crate::error::{Error, Kind};
use crate::files;
use crate::json::Value;
use crate::log::note;
use crate::report::Report;
use crate::vm::launch::{self, Launch, Ready};
use crate::vm::lock::{LOCK_WAIT, lock};
use crate::vm::process::{self, Process};
use crate::vm::state::State;
use crate::vm::{Instance, Paths, port};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How long a QEMU that does not answer is given to show that it is ending.
const ENDING_WAIT: Duration = Duration::from_millis(400);

pub(crate) static COMMAND: Command = Command {
    name: "start",
    about: "Start a VM and wait until QEMU answers",
    details: "A VM that runs already is left alone, and that is success.",
    operands: &[spec::VM],
    flags: &[&TIMEOUT],
    failure_code: None,
    run,
};

static TIMEOUT: Flag = Flag {
    long: "timeout",
    short: None,
    kind: spec::TIMEOUT,
    help: "Give up on QEMU after this long (default 60)",
};

struct Started {
    name: String,
    pid: u32,
    state: String,
    /// Unknown when it was not fixed and there is no record of the start.
    ssh_port: Option<u16>,
    already_running: bool,
}

fn run(args: &Args) -> Result<Box<dyn Report>, Error> {
    let Target { config, name, paths } = Target::new(args)?;
    let vm = config.vm(&name)?;
    let choices = Choices::default();
    // Errors of the configuration come before anything is made, unless there is nothing to make.
    let plan = match process::find(&paths) {
        None => Some(Plan::new(&config, vm, &paths, &choices)?),
        Some(_) => None,
    };
    let lock = lock(&paths, &vm.name, COMMAND.name, LOCK_WAIT)?;
    if let Some((process, state)) = running(&paths, args)? {
        return already_running(args, vm, &paths, &process, state);
    }
    let plan = plan.map_or_else(|| Plan::new(&config, vm, &paths, &choices), Ok)?;
    let cleared = paths.clean_for_start().and_then(|()| check_pid_file(&paths));
    if let Err(error) = cleared.and_then(|()| check_port(&config, vm, &plan)) {
        return Err(lock.discard(&paths).err().unwrap_or(error));
    }
    let mut instance = record(&config, &plan);
    let written = instance
        .write(&paths)
        .and_then(|()| files::write_private(&paths.ssh_config, &plan.ssh_config));
    if let Err(error) = written {
        let cleaned = paths.clean().and_then(|()| lock.discard(&paths));
        return Err(cleaned.err().unwrap_or(error));
    }
    let launched = launch::launch(&Launch {
        argv: &plan.argv,
        current_dir: config.dir(),
        paths: &paths,
        timeout: args.timeout.unwrap_or(TIMEOUT_DEFAULT),
        log: args.log(),
    });
    if launched.is_err() && !paths.log.exists() {
        // It was never run.
        lock.discard(&paths)?;
    }
    let ready = launched?;
    instance.pid = Some(ready.process.pid);
    if let Err(error) = instance.write(&paths) {
        // On a full disk, say. The VM runs, and its pid file tells as much.
        note(&format!("the VM runs, but its record is incomplete: {}", error.message()));
    }
    Ok(Box::new(Started::new(vm, ready, Some(instance.ssh_port))))
}

/// What is kept of a start. The pid is added when QEMU is ready.
fn record(config: &Config, plan: &Plan) -> Instance {
    Instance {
        pid: None,
        ssh_port: plan.ssh_port,
        config_name: config.name(),
        started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        config_hash: plan.hash.clone(),
        argv: plan.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
    }
}

/// The VM's process and state, if it runs. One that is about to end is waited for: it still holds
/// its images, and soon there is no VM any more.
fn running(paths: &Paths, args: &Args) -> Result<Option<(Process, State)>, Error> {
    let Some(process) = process::find_anywhere(paths) else { return Ok(None) };
    if process.exiting {
        let pid = process.pid;
        note(&format!("waiting for the VM's last QEMU (pid {pid}) to end"));
        if process.ends_by(Instant::now() + args.timeout.unwrap_or(TIMEOUT_DEFAULT)) {
            return Ok(None);
        }
        let message = format!("the VM's last QEMU (pid {pid}) does not end");
        return Err(Error::new(Kind::TimedOut, message).hint("`qqmgr stop` ends it"));
    }
    let state = State::ask(paths, Some(&process), Instance::read(paths).as_ref(), args.log());
    // One that got SIGTERM closes its sockets before its pid file and itself.
    let ended = || process.ends_by(Instant::now() + ENDING_WAIT);
    let runs = state != State::Stopped && (state != State::Unresponsive || !ended());
    Ok(runs.then_some((process, state)))
}

fn already_running(
    args: &Args,
    vm: &Vm,
    paths: &Paths,
    process: &Process,
    mut state: State,
) -> Result<Box<dyn Report>, Error> {
    let instance = Instance::read(paths);
    let port = instance.as_ref().map(|instance| instance.ssh_port).or(vm.port.fixed());
    if let (State::Starting | State::Qemu(_), Some(instance)) = (&state, instance)
        && instance.pid.is_none()
    {
        // A `start` began it and was killed.
        let timeout = args.timeout.unwrap_or(TIMEOUT_DEFAULT);
        let ready = launch::wait_for_running(process, paths, timeout, args.log())?;
        Instance { pid: Some(process.pid), ..instance }.write(paths)?;
        state = State::Qemu(ready.run_state);
    }
    let ready = Ready {
        process: process.clone(),
        run_state: state.name().to_string(),
        already_running: true,
    };
    Ok(Box::new(Started::new(vm, ready, port)))
}

/// QEMU takes over a file that is there, and nothing else.
fn check_pid_file(paths: &Paths) -> Result<(), Error> {
    match paths.pid.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => paths.remove_pid_file(),
        _ => Ok(()),
    }
}

/// QEMU would say only that it could not set up a forwarding rule.
fn check_port(config: &Config, vm: &Vm, plan: &Plan) -> Result<(), Error> {
    let port = plan.ssh_port;
    if !plan.reached_on_host || !port::is_taken(port) {
        return Ok(());
    }
    let holder = config.vms().iter().find(|other| {
        let paths = Paths::new(config.vm_dir(&other.name));
        let has_port = || Instance::read(&paths).is_some_and(|other| other.ssh_port == port);
        other.name != vm.name && process::find(&paths).is_some() && has_port()
    });
    let (who, hint) = match holder {
        Some(other) => {
            (format!("VM `{}`", other.name), "stop that one, or give this one another port")
        }
        None => (port::holder(port), "give the VM another `port`, and its `hostfwd` too"),
    };
    Err(Error::failed(format!("ssh port {port} is taken by {who}")).hint(hint))
}

impl Started {
    fn new(vm: &Vm, ready: Ready, ssh_port: Option<u16>) -> Self {
        Self {
            name: vm.name.clone(),
            pid: ready.process.pid,
            state: ready.run_state,
            ssh_port,
            already_running: ready.already_running,
        }
    }
}

impl Report for Started {
    fn text(&self) -> String {
        let Self { name, pid, state, ssh_port, already_running } = self;
        let what = if *already_running { "is already running" } else { "started" };
        let ssh_port = ssh_port.map_or("unknown".into(), |port| port.to_string());
        format!("{name} {what}: {state}, pid {pid}, ssh port {ssh_port}\n")
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("pid", self.pid.into()),
            ("state", self.state.as_str().into()),
            ("ssh", Value::object([("port", self.ssh_port.into())])),
            ("already_running", self.already_running.into()),
        ])
    }
}
