//! Starts a VM: a plan, its record, QEMU, its answer. `start`, `restart`, `run` and `gdb` use it.

use super::origins::Origins;
use super::plan::{DISCARD, Inputs, Plan, StartOptions};
use super::ports;
use crate::clock::now;
use crate::commands::images::Images;
use crate::commands::target::Target;
use crate::config::SshPort;
use crate::error::{Error, Kind};
use crate::image::context::Exceeded;
use crate::source::Problem;
use crate::ssh;
use crate::system::files;
use crate::vm::forward::Forward;
use crate::vm::helpers::Helpers;
use crate::vm::launch::{Failed, Launch};
use crate::vm::lock::{Lock, lock_dir};
use crate::vm::machine::Machine;
use crate::vm::named::named;
use crate::vm::ready::{Ready, wait_for_running};
use crate::vm::snapshot::Saved;
use crate::vm::snapshot::journal::Journal;
use crate::vm::{Deadline, Instance, Look, Process, State, boots, clean, lock, look};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long QEMU may take to answer, by default.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How often to choose another port if another program takes it before QEMU does.
const PORT_TRIES: usize = 10;

/// A VM that runs: its process, record and state.
type Found = (Process, Option<Instance>, State);

/// A start that was asked for, and what has been made for it so far.
pub(crate) struct Start<'a> {
    /// Once the VM runs, with the port that it has.
    pub(crate) inputs: Inputs<'a>,
    plan: Option<Rc<Plan>>,
    pub(crate) images: Option<Images>,
    /// The disks that `--from` reverts, which have nothing to lose.
    spare: Vec<PathBuf>,
}

impl<'a> Start<'a> {
    pub(crate) fn new(target: &'a Target<'a>, options: StartOptions) -> Result<Self, Error> {
        let (inputs, spare) = (Inputs::new(target, options)?, Vec::new());
        Ok(Self { inputs, plan: None, images: None, spare })
    }

    /// Plans the start on the port that the VM most likely has, and finds the errors of the
    /// configuration before anything is made or stopped.
    pub(crate) fn plan(&mut self) -> Result<Rc<Plan>, Error> {
        self.plan_on(self.inputs.ssh_port)
    }

    fn plan_on(&mut self, ssh_port: Option<u16>) -> Result<Rc<Plan>, Error> {
        self.inputs.ssh_port = ssh_port;
        let known = self.plan.take().filter(|plan| plan.record.ssh_port == ssh_port);
        let plan = known.map_or_else(|| Plan::new(&self.inputs).map(Rc::new), Ok)?;
        Ok(self.plan.insert(plan).clone())
    }

    /// Plans the start, and makes the VM's missing images before another command has to wait for
    /// its lock. The images are held from then on.
    pub(crate) fn prepare(&mut self, exceeded: Exceeded) -> Result<(), Error> {
        self.plan()?;
        if self.images.is_none() {
            let images = self.inputs.resolver().images();
            self.images = Some(Images::hold(self.inputs.target, images, exceeded)?);
        }
        Ok(())
    }

    /// Prepares a restart. A journal of snapshots that cannot be read, a port that another program
    /// has, and a missing file leave the VM running: QEMU may have all of a disk that was removed.
    pub(crate) fn prepare_restart(&mut self) -> Result<(), Error> {
        let plan = self.plan()?;
        Journal::read(&self.inputs.target.paths)?;
        let look = Look::by_files(&self.inputs.target.paths)?;
        let (Some(process), Some(record)) = (look.process()?, &look.record) else {
            return self.prepare(&|| None);
        };
        let is_own = |forward: &Forward| ports::is_of(forward, record, Some(process.pid));
        ports::check(self.inputs.target, &plan, &is_own)?;
        self.prepare(&|| None)?;
        let Target { config, name, .. } = self.inputs.target;
        let arguments = plan.record.arguments();
        let mut paths = named(&arguments).map(|(named, _)| named.path);
        paths.find(|path| files::is_missing(&config.dir().join(path))).map_or(Ok(()), |path| {
            let error =
                Error::failed(format!("VM `{name}` could not start again without `{path}`"));
            Err(error.hint(format!("it still runs; `qqmgr check {name}` shows what it lacks")))
        })
    }

    /// Starts the VM if it is not running, on another port if QEMU cannot have the one that was
    /// chosen. The lock is the VM's, and given back.
    pub(crate) fn begin(&mut self, lock: Lock, timeout: Duration) -> Result<(Ready, Lock), Error> {
        if let Some(found) = self.found(timeout)? {
            let process = found.0.clone();
            return match self.already_running(found, timeout) {
                Err(error) if !process.is_alive() => Err(self.not_started(lock, error)),
                ready => Ok((ready?, lock)),
            };
        }
        if let Err(error) = self.clear(&lock) {
            return Err(self.not_started(lock, error));
        }
        let Inputs { target: Target { config, paths, log, .. }, vm, .. } = self.inputs;
        let mut launch = Launch::new(config.dir(), paths, Deadline::after(timeout), vm.boots, log);
        let mut refused = BTreeSet::new();
        let error = loop {
            let (plan, mut record) = match self.claim(&lock, &refused) {
                Ok(claimed) => claimed,
                Err(error) => break error,
            };
            match launch.run(&plan.argv, &plan.helpers, &mut record) {
                Ok(Some(ready)) => {
                    self.record(&ready, record);
                    return Ok((ready, lock));
                }
                // Another QEMU was in the way, and has ended.
                Ok(None) => {}
                Err(Failed { port_taken: Some(port), .. })
                    if vm.port == SshPort::Auto
                        && plan.record.ssh_port == Some(port)
                        && refused.len() < PORT_TRIES =>
                {
                    refused.insert(port);
                }
                Err(failed) => break self.explained(failed),
            }
        };
        Err(self.not_started(lock, error))
    }

    /// The VM, if it runs. Waits for a process that is about to end, since it still holds its
    /// images.
    fn found(&self, timeout: Duration) -> Result<Option<Found>, Error> {
        let Target { name, paths, log, .. } = self.inputs.target;
        let look = Look::everywhere(paths)?;
        let Some(process) = look::traced(look.process()?, log) else { return Ok(None) };
        if process.lost && !process.is_ending() {
            return Err(process.is_lost(paths));
        }
        if process.exiting {
            let pid = process.pid;
            log.note(&format!("waiting for the VM's last QEMU (pid {pid}) to end"));
            if process.ends_by(Instant::now() + timeout) {
                return Ok(None);
            }
            let message = format!("the VM's last QEMU (pid {pid}) does not end");
            let hint = format!("`qqmgr stop {name}` ends it");
            return Err(Error::new(Kind::TimedOut, message).hint(hint));
        }
        let (state, _) = State::ask(&look, paths, log)?;
        // A QEMU that got SIGTERM closes its sockets before it removes its pid file and ends.
        let runs =
            state != State::Stopped && (state != State::Unresponsive || !process.is_ending());
        Ok(runs.then(|| (process.clone(), look.record.clone(), state)))
    }

    /// Adds warnings about the words of the VM and of its helpers to the error of a failed start.
    fn explained(&self, Failed { error, of_qemu, .. }: Failed) -> Error {
        let Some(plan) = &self.plan else { return error };
        let target = self.inputs.target;
        target.warn(&plan.warnings);
        plan.helpers.iter().for_each(|helper| target.warn(&helper.warnings));
        error.hint_if(plan.warnings.first().filter(|_| of_qemu).map(Problem::doubt))
    }

    /// Does everything that a start does except running QEMU, for a debugger that will run it by
    /// the plan, and releases the lock. Until QEMU runs, the VM counts as stopped. Gives the
    /// process of a VM that is already running.
    pub(crate) fn for_debugger(&mut self, lock: Lock) -> Result<Option<Process>, Error> {
        if let Some((process, ..)) = self.found(TIMEOUT_DEFAULT)? {
            return Ok(Some(process));
        }
        let Target { config, paths, log, .. } = self.inputs.target;
        let prepared = self.clear(&lock).and_then(|()| {
            let deadline = Deadline::after(TIMEOUT_DEFAULT);
            let (plan, mut record) = self.claim(&lock, &BTreeSet::new())?;
            boots::new_logs(paths)?;
            Helpers::start(&plan.helpers, &mut record, (config.dir(), paths), deadline, log)
                .map_err(|error| self.explained(Failed { of_qemu: false, ..error.into() }))?;
            Ok(None)
        });
        prepared.map_err(|error| self.not_started(lock, error))
    }

    /// Removes what the last start has left, settles what a killed `snapshot` left half done,
    /// forgets what jobs wrote, and grows and holds the images until QEMU has opened them.
    fn clear(&mut self, lock: &Lock) -> Result<(), Error> {
        let target = self.inputs.target;
        let Target { config, paths, log, .. } = target;
        ssh::forget_guest(paths, log)?;
        clean::for_start(paths, log)?;
        let is_plain = self.inputs.options.from.is_none();
        if Journal::read(paths)?.is_some() || is_plain && Saved::used(paths)?.is_some() {
            let stopped = target.stopped(Some(lock))?;
            stopped.settle(None)?;
            if is_plain {
                stopped.revert()?;
            }
        }
        self.prepare(&|| None)?;
        // A disk that is grown would differ from its snapshot, which has its own size.
        let images = self.images.as_mut().filter(|_| is_plain);
        images.map_or(Ok(()), |images| images.grow(config, log))
    }

    /// Finds the port, and records what the VM is started with: from then on the port is taken.
    /// Disks that do not match `--from` are refused.
    fn claim(
        &mut self,
        lock: &Lock,
        refused: &BTreeSet<u16>,
    ) -> Result<(Rc<Plan>, Instance), Error> {
        let Inputs { target, vm, .. } = self.inputs;
        let Target { config, paths, log, .. } = target;
        // Held while a port is chosen and until the record names its owner.
        let _choosing;
        let port = if vm.port == SshPort::Auto {
            _choosing = lock_dir(&config.runtime);
            Some(ports::free(target, refused)?)
        } else {
            vm.port.fixed()
        };
        let plan = self.plan_on(port)?;
        ports::check(target, &plan, &|_| false)?;
        let from = self.inputs.options.from.as_ref();
        if let Some(tag) = from.filter(|_| self.spare.is_empty()) {
            let origins = Origins::new(&self.inputs, tag, Some(lock))?;
            origins.check()?;
            self.spare = origins.spare_disks(target.args.has(&DISCARD))?;
        }
        let (machine, started_at) = (Machine::this()?, now().as_secs());
        let record = Instance { machine, started_at, ..plan.record.clone() };
        record.write(paths, log)?;
        paths.make_plain_dir()?;
        match &plan.ssh_config {
            Some(text) => ssh::write_config(text, paths, config.dir(), log)?,
            None => files::remove(&paths.ssh_config)?,
        }
        if from.is_some() {
            Saved::lend(paths, &self.spare)?;
        }
        Ok((plan, record))
    }

    /// Completes the record of a QEMU that answers.
    fn record(&self, ready: &Ready, mut record: Instance) {
        let Target { paths, log, .. } = self.inputs.target;
        record.is_ready(&ready.process);
        if ready.already_running {
            // These helpers belong to a try that found another QEMU.
            record.helpers.clear();
        }
        if let Err(error) = record.write(paths, log) {
            // The disk may be full, for example. The VM runs, and its pid file shows it.
            log.note(&format!("the VM runs, but its record is incomplete: {}", error.message()));
        }
    }

    /// Refuses options that differ from those of the running VM: "already running" would be wrong.
    fn already_running(&mut self, found: Found, timeout: Duration) -> Result<Ready, Error> {
        let (process, record, mut state) = found;
        let Target { name, paths, log, .. } = self.inputs.target;
        if let Some(record) = &record {
            self.inputs.ssh_port = record.ssh_port;
        }
        let options = &self.inputs.options;
        if options.from.is_some() {
            let message =
                format!("VM `{name}` is already running, and `--from` needs its own start");
            return Err(Error::failed(message).hint(format!("`qqmgr stop {name}` ends it")));
        }
        if !options.set.is_empty() || !options.arguments.is_empty() {
            let plan = self.plan()?;
            let runs = |record: &Instance| plan.record.own_argv() == record.own_argv();
            if !record.as_ref().is_some_and(runs) {
                let error =
                    Error::failed(format!("VM `{name}` is already running, with other arguments"));
                return Err(error.hint(format!("`qqmgr restart {name}` takes the same options")));
            }
        }
        if let Some(mut record) = record {
            if matches!(state, State::Starting | State::Qemu(_)) && !record.ready {
                // A `start` was killed before it was finished.
                let deadline = Deadline::after(timeout);
                let ready = wait_for_running(&process, paths, deadline, log)?;
                record.is_ready(&ready.process);
                state = State::Qemu(ready.run_state);
            }
            // If this command wants the VM to stay, the VM stays, with what it has written.
            record.on_demand &= self.inputs.options.on_demand;
            record.write(paths, log)?;
        }
        let run_state = state.name().to_string();
        Ok(Ready { process, run_state, already_running: true })
    }

    /// Cleans up after a start that failed, and gives its error. The lock's file goes as well if
    /// the VM has never run.
    fn not_started(&self, lock: Lock, failed: Error) -> Error {
        let Target { paths, log, .. } = self.inputs.target;
        let cleaned = clean::for_start(paths, log);
        // The directories that were made for helpers go where they are empty.
        let dirs = self.plan.iter().flat_map(|plan| &plan.helpers).flat_map(|it| &it.dirs);
        let is_below = |dir: &&Path| dir.starts_with(&paths.dir) && **dir != paths.dir;
        dirs.flat_map(|dir| dir.ancestors().take_while(is_below)).for_each(files::remove_empty_dir);
        let cleaned =
            if paths.log.exists() { cleaned } else { cleaned.and(lock::discard(lock, paths)) };
        cleaned.err().unwrap_or(failed)
    }
}
