//! Starts a VM: under its lock, on which port, and with which record. `start`, `restart` and `run`
//! use it.

use super::plan::{Extra, Plan};
use super::target::{Target, may_run};
use crate::config::Config;
use crate::config::model::Vm;
use crate::error::{Error, Kind};
use crate::image::base::qemu_img;
use crate::image::hold::Exceeded;
use crate::ssh;
use crate::vm::instance::Machine;
use crate::vm::launch::{self, Failed, Launch, Ready};
use crate::vm::lock::{Lock, lock_dir};
use crate::vm::process::{self, Process};
use crate::vm::snapshot::journal::Journal;
use crate::vm::snapshot::settle::Next;
use crate::vm::snapshot::stopped::Stopped;
use crate::vm::state::State;
use crate::vm::{Instance, Paths, port};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long QEMU may take to answer, by default.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How long a QEMU that does not answer is given to show that it is ending.
const ENDING_WAIT: Duration = Duration::from_millis(400);
/// How often to choose another port if another program takes it before QEMU does.
const PORT_TRIES: usize = 10;

/// A start that was asked for.
pub(super) struct Up<'a> {
    pub(super) target: &'a Target<'a>,
    pub(super) vm: &'a Vm,
    pub(super) extra: Extra<'a>,
    /// How long QEMU may take to answer.
    pub(super) timeout: Duration,
    /// The images that have been made for it so far.
    built: Vec<String>,
}

/// A VM that runs.
pub(super) struct Running {
    pub(super) ready: Ready,
    pub(super) ssh_port: u16,
    /// The images that were made for this start.
    pub(super) built: Vec<String>,
}

/// A VM that another program starts.
pub(super) enum Prepared {
    /// The command line of QEMU.
    Argv(Vec<OsString>),
    /// The VM is already running.
    Runs(Process),
}

impl<'a> Up<'a> {
    pub(super) fn new(
        target: &'a Target<'a>,
        extra: Extra<'a>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        Ok(Self { target, vm: target.vm()?, extra, timeout, built: Vec::new() })
    }

    /// Finds errors of the configuration before anything is made or stopped.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.plan(self.likely_port()).map(|_| ())
    }

    /// Makes the VM's missing images, before another command has to wait for its lock.
    pub(super) fn build_images(&mut self, exceeded: Exceeded) -> Result<(), Error> {
        self.warn_of_changed_images()?;
        self.built = self.images(exceeded)?.built;
        Ok(())
    }

    /// Checks the start of a VM that is stopped first if it runs: a port that it does not have so
    /// far must be free.
    pub(super) fn check_restart(&self) -> Result<(), Error> {
        self.check()?;
        let paths = &self.target.paths;
        let (Some(port), Some(process)) = (self.vm.port.fixed(), process::find(paths)?) else {
            return Ok(());
        };
        let has_it = Instance::read(paths)?.is_none_or(|instance| instance.ssh_port == port);
        if has_it || port::is_held_by(port, process.pid) {
            return Ok(());
        }
        self.check_port(&self.plan(port)?)
    }

    fn plan(&self, ssh_port: u16) -> Result<Plan, Error> {
        Plan::new(self.target, self.vm, &self.extra, ssh_port)
    }

    /// The port that the VM would have if it were started now.
    pub(super) fn likely_port(&self) -> u16 {
        likely_port(self.target.config, self.vm)
    }

    /// Starts the VM if it is not running. The lock is the VM's.
    pub(super) fn under(&self, lock: Lock) -> Result<Running, Error> {
        if let Some((process, state)) = self.running()? {
            return self.already_running(&process, state);
        }
        let paths = &self.target.paths;
        let forgotten = ssh::forget_guest(&self.target.name, paths, &self.target.log);
        let cleared = forgotten.and_then(|()| paths.clean_for_start());
        let cleared = cleared.and_then(|()| check_pid_file(paths));
        let cleared = cleared.and_then(|()| self.settle_snapshots(&lock));
        // The images are held until QEMU has opened them. Most likely all of them are already made.
        let images = match cleared.and_then(|()| self.images(&|| None)) {
            Ok(images) => images,
            Err(error) => return Err(lock.discard(paths).err().unwrap_or(error)),
        };
        let built = [self.built.as_slice(), &images.built].concat();
        let mut refused = BTreeSet::new();
        loop {
            let (plan, instance) = match self.prepare(&refused) {
                Ok(prepared) => prepared,
                Err(error) => {
                    let cleaned = paths.clean_for_start().and_then(|()| lock.discard(paths));
                    return Err(cleaned.err().unwrap_or(error));
                }
            };
            match self.launch(&plan, instance) {
                Ok(running) => return Ok(Running { built, ..running }),
                Err(Failed { port_taken, .. })
                    if self.vm.port.fixed().is_none()
                        && port_taken == Some(plan.ssh_port)
                        && refused.len() < PORT_TRIES =>
                {
                    refused.insert(plan.ssh_port);
                }
                Err(Failed { error, .. }) => {
                    if !paths.log.exists() {
                        // The VM has never run.
                        lock.discard(paths)?;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Does everything that a start does except running QEMU, for a debugger that will run it, and
    /// releases the lock. Until QEMU runs, the VM counts as stopped.
    pub(super) fn without_qemu(&self, lock: Lock) -> Result<Prepared, Error> {
        if let Some((process, _)) = self.running()? {
            return Ok(Prepared::Runs(process));
        }
        let paths = &self.target.paths;
        let prepared = paths
            .clean_for_start()
            .and_then(|()| check_pid_file(paths))
            .and_then(|()| self.settle_snapshots(&lock))
            .and_then(|()| self.images(&|| None))
            .and_then(|_| self.prepare(&BTreeSet::new()))
            .and_then(|(plan, _)| launch::new_files(paths).and(plan.argv(self.target)));
        prepared.map(Prepared::Argv).map_err(|error| {
            let cleaned = paths.clean_for_start().and_then(|()| lock.discard(paths));
            cleaned.err().unwrap_or(error)
        })
    }

    /// Settles what a killed `snapshot` left half done. Disks that do not match are refused.
    fn settle_snapshots(&self, lock: &Lock) -> Result<(), Error> {
        let Target { config, name, paths, log, .. } = self.target;
        if Journal::read(paths)?.is_none() {
            return Ok(());
        }
        let qemu_img = qemu_img(config)?;
        let stopped = Stopped { qemu_img, dir: config.dir(), log, lock: Some(lock) };
        stopped.settle(name, paths, Next::Other)
    }

    /// Finds the port, and records what the VM is started with: from then on the port is taken.
    fn prepare(&self, refused: &BTreeSet<u16>) -> Result<(Plan, Instance), Error> {
        let Target { config, paths, .. } = self.target;
        // Held while a port is chosen and until the record names its owner.
        let _claiming;
        let plan = if let Some(port) = self.vm.port.fixed() {
            let plan = self.plan(port)?;
            self.check_port(&plan)?;
            plan
        } else {
            _claiming = lock_dir(config.runtime_dir());
            self.plan(self.free_port(refused)?)?
        };
        let argv = plan.argv(self.target)?;
        let instance = Instance {
            pid: None,
            start: None,
            machine: Machine::this()?,
            ready: false,
            ssh_port: plan.ssh_port,
            config_name: config.name(),
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            set: self.extra.set.to_vec(),
            argv: argv.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            own_words: plan.own_argv.len(),
            on_demand: self.extra.on_demand,
        };
        instance.write(paths)?;
        let (name, log) = (&self.target.name, &self.target.log);
        ssh::write_config(name, &plan.ssh_config, paths, config.dir(), log)?;
        Ok((plan, instance))
    }

    fn launch(&self, plan: &Plan, mut instance: Instance) -> Result<Running, Failed> {
        let Target { config, paths, log, .. } = self.target;
        let record = instance.clone();
        let ready = launch::launch(&Launch {
            argv: &plan.argv(self.target)?,
            current_dir: config.dir(),
            paths,
            ssh_port: plan.ssh_port,
            spawned: &|pid| record.clone().spawned(pid, paths),
            timeout: self.timeout,
            boots: config.boots(self.vm),
            log,
        })?;
        instance.is_ready(&ready.process);
        if let Err(error) = instance.write(paths) {
            // The disk may be full, for example. The VM runs, and its pid file shows it.
            log.note(&format!("the VM runs, but its record is incomplete: {}", error.message()));
        }
        Ok(Running { ready, ssh_port: instance.ssh_port, built: Vec::new() })
    }

    /// The VM's process and state, if it runs. Waits for a process that is about to end: it still
    /// holds its images, and soon the VM is stopped.
    fn running(&self) -> Result<Option<(Process, State)>, Error> {
        let Target { paths, log, .. } = self.target;
        let Some(process) = process::find_anywhere(paths)? else { return Ok(None) };
        if process.lost && !process.ends_by(Instant::now() + ENDING_WAIT) {
            return Err(process.is_lost(&self.vm.name, paths));
        }
        if process.exiting {
            let pid = process.pid;
            log.note(&format!("waiting for the VM's last QEMU (pid {pid}) to end"));
            if process.ends_by(Instant::now() + self.timeout) {
                return Ok(None);
            }
            let message = format!("the VM's last QEMU (pid {pid}) does not end");
            let hint = format!("`qqmgr stop {}` ends it", self.vm.name);
            return Err(Error::new(Kind::TimedOut, message).hint(hint));
        }
        let state = State::ask(paths, Some(&process), Instance::read(paths)?.as_ref(), log)?;
        // A QEMU that got SIGTERM closes its sockets before it removes its pid file and ends.
        let ended = || process.ends_by(Instant::now() + ENDING_WAIT);
        let runs = state != State::Stopped && (state != State::Unresponsive || !ended());
        Ok(runs.then_some((process, state)))
    }

    fn already_running(&self, process: &Process, mut state: State) -> Result<Running, Error> {
        let Target { paths, log, .. } = self.target;
        let instance = Instance::read(paths)?;
        let recorded = instance.as_ref().map(|instance| instance.ssh_port);
        let ssh_port = recorded.unwrap_or_else(|| self.likely_port());
        self.check_extra(instance.as_ref(), ssh_port)?;
        if let Some(mut instance) = instance {
            if matches!(state, State::Starting | State::Qemu(_)) && !instance.ready {
                // A `start` was killed before it was finished.
                let ready = launch::wait_for_running(process, paths, self.timeout, log)?;
                instance.is_ready(&ready.process);
                state = State::Qemu(ready.run_state);
            }
            // If this command wants the VM to stay, it does.
            instance.on_demand &= self.extra.on_demand;
            instance.write(paths)?;
        }
        let run_state = state.name().to_string();
        let ready = Ready { process: process.clone(), run_state, already_running: true };
        Ok(Running { ready, ssh_port, built: self.built.clone() })
    }

    /// Refuses options that differ from what runs: to say "already running" would be wrong.
    fn check_extra(&self, instance: Option<&Instance>, ssh_port: u16) -> Result<(), Error> {
        if self.extra.is_none() {
            return Ok(());
        }
        let plan = self.plan(ssh_port)?;
        let wanted = plan.own_argv.iter().map(|word| word.to_string_lossy());
        let runs = |instance: &Instance| wanted.eq(instance.own_argv().iter().map(String::as_str));
        if instance.is_some_and(runs) {
            return Ok(());
        }
        let name = &self.vm.name;
        let error = Error::failed(format!("VM `{name}` runs already, with other arguments"));
        Err(error.hint(format!("`qqmgr restart {name}` takes the same options")))
    }

    /// Finds a port that no other VM of this configuration has, running or stopped.
    fn free_port(&self, refused: &BTreeSet<u16>) -> Result<u16, Error> {
        let config = self.target.config;
        let others = config.vms_with_a_dir()?.into_iter().filter(|name| *name != self.vm.name);
        // A record that is left after a crash reserves a port in vain, which does no harm.
        let record = |name: String| Instance::read(&Paths::new(config.vm_dir(&name))).ok()?;
        let recorded = others.filter_map(record);
        let mut claimed: BTreeSet<u16> = recorded.map(|instance| instance.ssh_port).collect();
        claimed.extend(config.vms().iter().filter_map(|vm| vm.port.fixed()));
        claimed.extend(refused);
        let chosen = port::choose(self.target.paths.dir.as_os_str().as_bytes(), &claimed);
        chosen.ok_or_else(|| Error::failed("there is no free port for ssh"))
    }

    /// Checks that the port is free: QEMU would say only that it could not set up a forwarding
    /// rule.
    fn check_port(&self, plan: &Plan) -> Result<(), Error> {
        let (config, port) = (self.target.config, plan.ssh_port);
        if !plan.reached_on_host || !port::is_taken(port) {
            return Ok(());
        }
        let holder = config.vms().iter().find(|other| {
            let paths = Paths::new(config.vm_dir(&other.name));
            let record = || Instance::read(&paths).ok().flatten();
            let has_port = || record().is_some_and(|other| other.ssh_port == port);
            other.name != self.vm.name && may_run(&paths) && has_port()
        });
        let (who, hint) = match holder {
            Some(other) => {
                (format!("VM `{}`", other.name), "stop that one, or give this one another port")
            }
            None => (port::holder(port), "give the VM another `port`, and its `hostfwd` too"),
        };
        Err(Error::failed(format!("ssh port {port} is taken by {who}")).hint(hint))
    }
}

/// The port that a VM has, or most likely would have.
pub(super) fn likely_port(config: &Config, vm: &Vm) -> u16 {
    let choice = || port::first_choice(config.vm_dir(&vm.name).as_os_str().as_bytes());
    vm.port.fixed().unwrap_or_else(choice)
}

/// Removes a pid file that is not a regular file: QEMU takes over only those.
fn check_pid_file(paths: &Paths) -> Result<(), Error> {
    match paths.pid.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => paths.remove_pid_file(),
        _ => Ok(()),
    }
}
