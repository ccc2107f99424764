//! The life cycle of one VM as a model that is small enough to explore all of it: every
//! interleaving of three commands, with the SIGKILL of any command and the death of any QEMU and
//! any helper between any two steps. The steps are named after the program's functions, and each is
//! as atomic as in the program: one system call, or work under the VM's lock. `status` only looks,
//! which is tried in every state, and signals nothing.
//!
//! The model explores a VM without helpers, and a VM with one: several helpers behave like one.
//!
//! The program is compared with the model: under `-v` it prints each step, and [`assert_path`]
//! checks that a command printed only steps that the model allows.
//!
//! The second test leaves out one rule of the protocol at a time, and expects the model to notice.

#![expect(
    clippy::struct_excessive_bools,
    clippy::match_same_arms,
    clippy::too_many_lines,
    reason = "the steps stand in the order in which the program takes them"
)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::harness::files_below;

/// The largest number of starts by three commands, without starts that are over.
const BOOTS_MAX: usize = 3;
const COMMANDS: usize = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Qemu {
    #[default]
    None,
    /// Forked by a command, but still without QEMU's command line: no command can find it.
    Forked,
    /// Has QEMU's command line, but no pid file so far.
    Starting,
    /// Has the lock of the pid file, which only one QEMU can have, and opens the images.
    Up,
    /// Got SIGTERM or SIGKILL, and has not ended yet.
    Ending,
    /// Has ended, because another one had the lock of the pid file.
    Refused,
    Ended,
}

/// A helper, which is its whole process group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Helper {
    #[default]
    None,
    /// A shell in its place, which waits until it is recorded, and ends with the command.
    Held,
    Up,
    /// Got SIGTERM or SIGKILL, and has not ended yet.
    Ending,
    /// Has ended: another process may have its pid.
    Ended,
    /// The other process with its pid was signalled, which breaks a rule.
    Mistaken,
}

/// The processes of one start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Boot {
    qemu: Qemu,
    helper: Helper,
    /// It was started, or found, by a command that wants the VM to stay.
    wanted: bool,
}

impl Boot {
    /// Whether its QEMU can be found.
    fn is_visible(self) -> bool {
        matches!(self.qemu, Qemu::Starting | Qemu::Up | Qemu::Ending)
    }

    fn has_helper(self) -> bool {
        matches!(self.helper, Helper::Up | Helper::Ending)
    }
}

/// `instance.json`, with the boots whose QEMU and whose helper it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Record {
    qemu: Option<usize>,
    helper: Option<usize>,
    ready: bool,
    on_demand: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    #[default]
    Start,
    Stop,
    StopForce,
    Restart,
    Run,
    /// The child of a `run`, which stops the VM when that `run` was killed.
    Guard,
}

const KINDS: [Kind; 5] = [Kind::Start, Kind::Stop, Kind::StopForce, Kind::Restart, Kind::Run];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    /// `vm::lock::lock`: waits for the VM's lock.
    #[default]
    Lock,
    /// `vm::look::Look`: whether the VM runs, and in which process.
    Look,
    /// `vm::lock::Use::new`: a mark that a `run` uses the VM.
    Use,
    /// `system::guard::Guard::new`: a child that lives on when this command is killed.
    Guard,
    /// `vm::clean::for_start`: no helpers, no record, no sockets.
    CleanForStart,
    /// `Plan::record`, written before there is a process.
    Record,
    /// `system::daemon::spawn` of a helper, which is held. Not traced.
    SpawnHelper,
    /// `vm::helpers::start`: the helper is recorded, and then released.
    Helper,
    /// `vm::helpers::await_sockets`: the helper listens, ends or is late. Not traced.
    AwaitHelper,
    /// `system::daemon::spawn`.
    Spawn,
    /// `Instance::spawned`: the record has the pid and its start time.
    Spawned,
    /// `vm::launch`: waits for QEMU's own session, or for the end of QEMU or of its helper. Not
    /// traced.
    Wait,
    /// `Instance::is_ready`.
    IsReady,
    /// `vm::shutdown::shut_down`: SIGTERM or the power button, to a process that is still the one
    /// that was found.
    ShutDown,
    /// Its second half, `Process::ends_by`.
    Ends,
    /// `vm::helpers::end`, by a `stop --force` without the lock. It is also the beginning of other
    /// steps; see [`World::helper_to_end`].
    EndHelpers,
    /// `vm::clean::all`: what only a running VM has.
    Clean,
    /// The command of a `run`. Not traced.
    Job,
    /// The end of `vm::lock::Use`, and of a guard that is not needed.
    Unuse,
    /// `vm::lock::Use::is_over`: whether only `run`s want the VM, and none uses it.
    IsOver,
    /// The end of `vm::lock::Lock`.
    Unlock,
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Command {
    kind: Kind,
    step: Step,
    /// The boot whose QEMU, or whose helper, it has found or spawned.
    boot: Option<usize>,
    /// Another command has started that boot.
    joined: bool,
    /// It is past the stop of a `restart`, or past the job of a `run`.
    second_half: bool,
    killed: bool,
    has_lock: bool,
    /// A `run` has marked the VM as in use.
    marked: bool,
    /// The mark is now in `users`.
    uses: bool,
    /// The guard of a `run` is there.
    guarded: bool,
}

impl Command {
    fn new(kind: Kind, killed: bool) -> Self {
        Self { kind, killed, ..Self::default() }
    }

    /// The command after its end: only a mark that stays still matters.
    fn done(&self) -> Self {
        Self { step: Step::Done, uses: self.uses, ..Self::new(Kind::Stop, true) }
    }

    /// Whether this command wants the VM to run, in the half that it is in.
    fn starts(&self) -> bool {
        match self.kind {
            Kind::Start => true,
            Kind::Restart => self.second_half,
            Kind::Run => !self.second_half,
            Kind::Stop | Kind::StopForce | Kind::Guard => false,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    /// The VM has a helper.
    helped: bool,
    record: Option<Record>,
    pid_file: Option<usize>,
    boots: [Boot; BOOTS_MAX],
    /// The commands; the guard of a `run` follows it.
    commands: [Command; 2 * COMMANDS],
    /// The boot that must stay: a command that wants that has reported it as running, and since
    /// then its QEMU has not died and no command has ended it.
    stays: Option<usize>,
}

/// The rule of the protocol that a mutation leaves out; `None` is the protocol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    None,
    /// A start takes no lock.
    Lock,
    /// A VM is looked for by its pid file and record only, and not among all processes.
    Search,
    /// A program that is being started keeps none of the files of a command that was killed.
    Inherit,
    /// A `run` stops the VM although another one uses it.
    Uses,
    /// A `run` stops the VM although somebody started it to stay.
    Demand,
    /// A `run` has no guard.
    Guard,
    /// A `run` keeps its mark on a VM that stays.
    Mark,
    /// `start` leaves the helpers of a QEMU that is gone as they are.
    Leftovers,
    /// A helper runs before it is recorded.
    Held,
    /// A helper that has ended is signalled, by its pid alone.
    Identity,
    /// A `start` that has waited in vain for the QEMU of another `start` leaves its helpers.
    Vain,
    /// A `stop --force` that has ended only helpers, and gets no lock, reports success.
    Claim,
}

impl World {
    fn new(kinds: [Kind; COMMANDS], helped: bool) -> Self {
        let guard = Command::new(Kind::Guard, true);
        let [a, b, c] = kinds.map(|kind| Command::new(kind, false));
        Self { helped, commands: [a, guard, b, guard, c, guard], ..Self::default() }
    }

    /// `vm::look::Look`: by the pid file, then by the record, then among all processes.
    fn find(&self, broken: Broken) -> Option<usize> {
        let recorded = self.record.and_then(|record| record.qemu);
        let all = (0..BOOTS_MAX).filter(|_| broken != Broken::Search);
        let mut candidates = self.pid_file.into_iter().chain(recorded).chain(all);
        candidates.find(|boot| self.boots[*boot].is_visible())
    }

    /// The recorded helper, where a step of the command begins with `vm::helpers::end`.
    fn helper_to_end(&self, index: usize, broken: Broken) -> Option<usize> {
        let Command { step, boot, .. } = self.commands[index];
        let ends = match step {
            Step::Clean => true,
            Step::CleanForStart => broken != Broken::Leftovers,
            Step::Wait => boot.is_some_and(|boot| self.boots[boot].qemu == Qemu::Refused),
            _ => false,
        };
        self.record.filter(|_| ends)?.helper
    }

    /// Signals the helper of a boot, and gives whether it has ended; `None` as long as it has not.
    fn end_helper(&mut self, boot: usize, broken: Broken) -> Option<bool> {
        let helper = &mut self.boots[boot].helper;
        match helper {
            Helper::Ending => return None,
            Helper::Up => *helper = Helper::Ending,
            _ if broken == Broken::Identity => *helper = Helper::Mistaken,
            _ => return Some(true),
        }
        Some(false)
    }

    /// Whether a live command is at this step with the boot.
    fn is_at(&self, step: Step, boot: usize) -> bool {
        let mut commands = self.commands.iter();
        commands.any(|it| !it.killed && it.step == step && it.boot == Some(boot))
    }

    /// Releases what the kernel releases when a killed command and its forked child are gone. Such
    /// a child has the lock, the mark in `users` and the guard's pipe until its program runs.
    fn release_killed(&mut self, broken: Broken) {
        for command in self.commands.iter_mut().step_by(2).filter(|command| command.killed) {
            let is_held = command.boot.is_some_and(|boot| self.boots[boot].qemu == Qemu::Forked);
            if !is_held || broken == Broken::Inherit {
                *command = Command { uses: false, ..command.done() };
            }
        }
    }

    /// Forgets facts that no longer matter, so that worlds are equal if they differ only in those.
    fn forget(&mut self) {
        for command in self.commands.iter_mut().filter(|command| command.step == Step::Done) {
            *command = command.done();
        }
        self.commands.as_chunks_mut::<2>().0.sort_unstable();
        for boot in 0..BOOTS_MAX {
            let recorded = self.record.map(|record| [record.qemu, record.helper]);
            let is_named = self.pid_file == Some(boot)
                || recorded.is_some_and(|recorded| recorded.contains(&Some(boot)))
                || self.commands.iter().any(|command| command.boot == Some(boot));
            let Boot { qemu, helper, .. } = self.boots[boot];
            if matches!(qemu, Qemu::None | Qemu::Refused | Qemu::Ended)
                && matches!(helper, Helper::None | Helper::Ended)
                && !is_named
            {
                self.boots[boot] = Boot::default();
            }
        }
    }

    /// Every world that can come next: by a named step of a command, by a kill, or by a process.
    fn next(&self, broken: Broken, mut seen: impl FnMut(Option<usize>, Self)) {
        for command in 0..self.commands.len() {
            let Command { killed, step, .. } = self.commands[command];
            if killed || step == Step::Done {
                continue;
            }
            self.step(command, broken, &mut |next| seen(Some(command), next));
            if command % 2 == 0 {
                seen(None, self.kill(command, broken));
            }
        }
        for boot in 0..BOOTS_MAX {
            self.live(boot, broken, &mut |next| seen(None, next));
        }
    }

    /// SIGKILL of a command. The guard of a `run` begins its work.
    fn kill(&self, index: usize, broken: Broken) -> Self {
        let mut world = self.clone();
        let command = &mut world.commands[index];
        command.killed = true;
        if command.guarded {
            world.commands[index + 1].killed = false;
        }
        world.release_killed(broken);
        world
    }

    /// The steps of a QEMU and its helper by themselves.
    fn live(&self, boot: usize, broken: Broken, seen: &mut impl FnMut(Self)) {
        let Boot { qemu, helper, .. } = self.boots[boot];
        match helper {
            Helper::None | Helper::Ended | Helper::Mistaken => {}
            Helper::Held if self.is_at(Step::Helper, boot) => {}
            Helper::Held | Helper::Up | Helper::Ending => {
                let mut world = self.clone();
                world.boots[boot].helper = Helper::Ended;
                seen(world);
            }
        }
        let mut change = |qemu: Qemu, pid_file: Option<usize>| {
            let stays = self.stays.filter(|staying| *staying != boot || qemu == Qemu::Up);
            let mut world = Self { pid_file, stays, ..self.clone() };
            world.boots[boot].qemu = qemu;
            world.release_killed(broken);
            seen(world);
        };
        let holds = |boot: usize| matches!(self.boots[boot].qemu, Qemu::Up | Qemu::Ending);
        let without = self.pid_file.filter(|named| *named != boot);
        let is_recorded = self.record.is_some_and(|record| record.qemu == Some(boot));
        match qemu {
            Qemu::None | Qemu::Refused | Qemu::Ended => {}
            Qemu::Forked => change(Qemu::Starting, self.pid_file),
            // With a helper, QEMU is held until it is recorded.
            Qemu::Starting if self.helped && !is_recorded => {
                if !self.is_at(Step::Spawned, boot) {
                    change(Qemu::Ended, self.pid_file);
                }
            }
            // The kernel's lock of the pid file decides between two.
            Qemu::Starting if self.pid_file.is_some_and(holds) => {
                change(Qemu::Refused, self.pid_file);
            }
            Qemu::Starting => {
                change(Qemu::Up, Some(boot));
                change(Qemu::Ended, self.pid_file);
            }
            // After SIGKILL or a crash the pid file stays.
            Qemu::Up | Qemu::Ending => {
                change(Qemu::Ended, self.pid_file);
                change(Qemu::Ended, without);
            }
        }
    }

    /// The next step of a command, if it is not blocked.
    fn step(&self, index: usize, broken: Broken, seen: &mut impl FnMut(Self)) {
        let mut world = self.clone();
        let mut command = self.commands[index];
        let Command { kind, step, boot, joined, second_half, has_lock, .. } = command;
        let state = boot.map(|boot| self.boots[boot].qemu);
        let helper = boot.map(|boot| self.boots[boot].helper);
        let starts = command.starts();
        if let Some(boot) = self.helper_to_end(index, broken) {
            world.pid_file = self.pid_file.filter(|_| step != Step::Clean);
            match world.end_helper(boot, broken) {
                None => return,
                Some(false) => {}
                Some(true) => world.record = self.record.map(|it| Record { helper: None, ..it }),
            }
            return seen(world);
        }
        let next = match step {
            Step::Lock if !self.commands.iter().any(|it| it.has_lock) => {
                command.has_lock = true;
                let ends_a_run = kind == Kind::Guard || kind == Kind::Run && second_half;
                if ends_a_run { Step::IsOver } else { Step::Look }
            }
            // A start that ignores the lock, or a `stop --force` that has waited long enough.
            Step::Lock if broken == Broken::Lock && starts => Step::Look,
            Step::Lock if kind == Kind::StopForce && !second_half => Step::Look,
            // It reports that the VM has ended, or that it cannot get the lock.
            Step::Lock if kind == Kind::StopForce && (joined || broken == Broken::Claim) => {
                Step::Unlock
            }
            Step::Lock if kind == Kind::StopForce => Step::Done,
            Step::Lock => return,
            Step::Look => {
                command.boot = self.find(broken);
                command.joined = command.boot.is_some();
                self.after_look(index, command.boot)
            }
            Step::Use => {
                command.uses = true;
                Step::Guard
            }
            Step::Guard => {
                command.guarded = broken != Broken::Guard;
                command.marked = true;
                Step::Look
            }
            Step::CleanForStart => {
                world.record = None;
                // This is the second time, after a start that failed.
                if boot.is_some() { Step::Unlock } else { Step::Record }
            }
            Step::Record => {
                let on_demand = kind == Kind::Run;
                world.record = Some(Record { on_demand, ..Record::default() });
                command.boot = None;
                if self.helped { Step::SpawnHelper } else { Step::Spawn }
            }
            Step::SpawnHelper | Step::Spawn => {
                let Some(new) = boot.or_else(|| self.free_boot()) else {
                    assert!(broken != Broken::None, "there are boots enough");
                    return;
                };
                world.boots[new].wanted = kind != Kind::Run;
                command.boot = Some(new);
                command.joined = false;
                if step == Step::Spawn {
                    world.boots[new].qemu = Qemu::Forked;
                    Step::Spawned
                } else {
                    let runs = broken == Broken::Held;
                    world.boots[new].helper = if runs { Helper::Up } else { Helper::Held };
                    Step::Helper
                }
            }
            Step::Helper => {
                world.record = self.record.map(|record| Record { helper: boot, ..record });
                if let Some(boot) = boot.filter(|_| helper == Some(Helper::Held)) {
                    world.boots[boot].helper = Helper::Up;
                }
                Step::AwaitHelper
            }
            Step::AwaitHelper => {
                if helper != Some(Helper::Ended) {
                    let mut world = self.clone();
                    world.commands[index].step = Step::Spawn;
                    seen(world);
                }
                Step::CleanForStart
            }
            // `Command::spawn` returns when the program runs.
            Step::Spawned if state == Some(Qemu::Forked) => return,
            Step::Spawned => {
                world.record = self.record.map(|record| Record { qemu: boot, ..record });
                Step::Wait
            }
            Step::Wait => {
                // It ends its own QEMU, whose helper has ended.
                if let Some(boot) = boot.filter(|_| !joined && helper == Some(Helper::Ended))
                    && matches!(state, Some(Qemu::Starting | Qemu::Up))
                {
                    let mut world = self.clone();
                    world.boots[boot].qemu = Qemu::Ending;
                    seen(world);
                }
                match state {
                    Some(Qemu::Up) => Step::IsReady,
                    // Another QEMU has the pid file: that one is the VM.
                    Some(Qemu::Refused) if self.find(broken).is_some() => {
                        command.boot = self.find(broken);
                        command.joined = true;
                        Step::Wait
                    }
                    // The QEMU that had the pid file has ended: try again.
                    Some(Qemu::Refused) => Step::Record,
                    Some(Qemu::Ended) if joined && broken == Broken::Vain => Step::Unlock,
                    Some(Qemu::Ended) if joined => Step::CleanForStart,
                    Some(Qemu::Ended) => Step::Clean,
                    _ => return,
                }
            }
            Step::IsReady => {
                let is_run = kind == Kind::Run;
                world.record = self.record.map(|record| Record {
                    qemu: boot,
                    ready: true,
                    on_demand: record.on_demand && is_run,
                    ..record
                });
                if let Some(boot) = boot.filter(|_| !is_run) {
                    world.boots[boot].wanted = true;
                    world.stays = if state == Some(Qemu::Up) { Some(boot) } else { self.stays };
                }
                // A VM that stays needs neither the mark nor the guard of a `run`.
                let stays = world.record.is_none_or(|record| !record.on_demand);
                if joined && is_run && stays { Step::Unuse } else { Step::Unlock }
            }
            Step::ShutDown => {
                if let Some(boot) = boot.filter(|boot| self.boots[*boot].is_visible()) {
                    world.boots[boot].qemu = Qemu::Ending;
                    world.stays = self.stays.filter(|staying| *staying != boot);
                }
                Step::Ends
            }
            Step::Ends if boot.is_some_and(|boot| self.boots[boot].is_visible()) => return,
            Step::Ends if kind == Kind::StopForce && !has_lock => {
                command.second_half = true;
                Step::Lock
            }
            Step::Ends if starts => {
                command.boot = None;
                Step::CleanForStart
            }
            Step::Ends if matches!(kind, Kind::Run | Kind::Guard) => Step::Look,
            Step::Ends => Step::Clean,
            Step::EndHelpers => match boot {
                // The record may have changed a moment ago.
                None => match self.record.and_then(|record| record.helper) {
                    Some(helper) if self.boots[helper].has_helper() => {
                        command.boot = Some(helper);
                        Step::EndHelpers
                    }
                    // It says that the command with the lock did not finish in time.
                    _ => Step::Done,
                },
                Some(boot) => match world.end_helper(boot, broken) {
                    None => return,
                    Some(false) => Step::EndHelpers,
                    Some(true) => {
                        command.second_half = true;
                        Step::Lock
                    }
                },
            },
            Step::Clean => {
                (world.pid_file, world.record) = (None, None);
                let restarts = kind == Kind::Restart && !second_half;
                command.second_half |= restarts;
                match () {
                    () if restarts => Step::Look,
                    () if starts => Step::CleanForStart,
                    () => Step::Unlock,
                }
            }
            Step::Job => {
                command.second_half = true;
                if command.uses { Step::Unuse } else { Step::Done }
            }
            Step::Unuse if !second_half => {
                command.guarded = false;
                command.uses = broken == Broken::Mark;
                Step::Unlock
            }
            Step::Unuse => {
                command.uses = false;
                if command.guarded { Step::Lock } else { Step::Done }
            }
            Step::IsOver => {
                let is_used = self.commands.iter().any(|it| it.uses) && broken != Broken::Uses;
                let on_demand = self.record.is_none_or(|record| record.on_demand);
                let is_unused = !is_used && (on_demand || broken == Broken::Demand);
                if is_unused { Step::Look } else { Step::Unlock }
            }
            Step::Unlock => {
                (command.has_lock, command.boot, command.joined) = (false, None, false);
                match kind {
                    Kind::Run if !second_half => Step::Job,
                    _ => Step::Done,
                }
            }
            Step::Done => return,
        };
        command.step = next;
        world.commands[index] = command;
        seen(world);
    }

    fn free_boot(&self) -> Option<usize> {
        self.boots.iter().position(|boot| (boot.qemu, boot.helper) == (Qemu::None, Helper::None))
    }

    /// The step that the program says that the command has taken to `next`, and whether it then
    /// knows a QEMU; `None` if it says nothing.
    fn said(&self, index: usize, next: &Self) -> Option<Said> {
        let (command, after) = (self.commands[index], next.commands[index]);
        let recorded = self.record.and_then(|record| record.helper);
        if self.helper_to_end(index, Broken::None).is_some() {
            let is_over = next.record.is_none_or(|record| record.helper.is_none());
            return is_over.then_some((Step::EndHelpers, false));
        }
        let is_said = match command.step {
            Step::Lock => after.has_lock,
            Step::Unlock => command.has_lock,
            // A process that has ended already is not recorded.
            Step::Spawned => command.boot.is_some_and(|boot| self.boots[boot].is_visible()),
            Step::IsReady => self.record.is_some(),
            Step::Ends => !command.starts(),
            Step::EndHelpers if after.step == Step::EndHelpers => false,
            Step::EndHelpers => command.boot.or(recorded).is_some(),
            Step::IsOver => self.record.is_none_or(|record| record.on_demand),
            Step::SpawnHelper | Step::AwaitHelper | Step::Wait | Step::Job | Step::Done => false,
            _ => true,
        };
        let runs = command.step == Step::Look && after.boot.is_some();
        is_said.then_some((command.step, runs))
    }

    /// The step after a look, by what was found.
    fn after_look(&self, index: usize, found: Option<usize>) -> Step {
        let Command { kind, marked, has_lock, .. } = self.commands[index];
        let starts = self.commands[index].starts();
        match found {
            _ if kind == Kind::Run && !marked => Step::Use,
            Some(boot) if starts && self.boots[boot].qemu == Qemu::Ending => Step::Ends,
            Some(_) if starts => Step::Wait,
            Some(_) => Step::ShutDown,
            None if starts => Step::CleanForStart,
            None if !has_lock => Step::EndHelpers,
            None => Step::Clean,
        }
    }

    /// The rule of the life cycle that this world breaks.
    fn violation(&self, broken: Broken) -> Option<&'static str> {
        let with = |is_it: fn(&Boot) -> bool| -> Vec<usize> {
            (0..BOOTS_MAX).filter(|boot| is_it(&self.boots[*boot])).collect()
        };
        let up = with(|boot| boot.qemu == Qemu::Up);
        let helpers = with(|boot| boot.has_helper());
        let at = |step| {
            let commands = self.commands.iter();
            commands.filter(move |command| !command.killed && command.step == step)
        };
        let for_a_run = |command: &Command| matches!(command.kind, Kind::Guard | Kind::Run);
        let is_over = |command: &Command| command.killed || command.step == Step::Done;
        let settled = |boot: &Boot| {
            matches!(boot.qemu, Qemu::None | Qemu::Up | Qemu::Refused | Qemu::Ended)
                && !matches!(boot.helper, Helper::Held | Helper::Ending)
        };
        let is_final = self.commands.iter().all(is_over) && self.boots.iter().all(settled);
        let recorded = self.record.and_then(|record| record.helper);
        let is_lost = |boot: &usize| Some(*boot) != recorded && !self.is_at(Step::Helper, *boot);
        // The command reports that the VM is stopped, or did not start.
        let is_gone = |command: &Command| match command.kind {
            Kind::Stop | Kind::StopForce => command.has_lock,
            _ => command.starts() && !self.record.is_some_and(|record| record.ready),
        };
        let claims = at(Step::Clean).any(|it| it.kind == Kind::Stop)
            || at(Step::Unlock).any(|it| it.kind == Kind::StopForce && !it.joined);
        let unwanted = |boots: &[usize]| boots.iter().any(|boot| !self.boots[*boot].wanted);
        if up.len() > 1 {
            Some("two QEMUs run")
        } else if helpers.len() > 1 {
            Some("two sets of helpers run")
        } else if helpers.iter().any(is_lost) {
            Some("a helper runs that the next command cannot end")
        } else if self.boots.iter().any(|boot| boot.helper == Helper::Mistaken) {
            Some("a process is signalled that is no helper")
        } else if !helpers.is_empty() && at(Step::Unlock).any(is_gone) {
            Some("a command that is over leaves a helper")
        } else if self.boots.iter().any(|boot| boot.is_visible()) && self.find(broken).is_none() {
            Some("a QEMU runs that `status` and `stop` do not find")
        } else if !up.is_empty() && claims {
            Some("`stop` says that the VM is stopped, and it runs")
        } else if at(Step::ShutDown).any(|it| for_a_run(it) && it.boot == self.stays) {
            Some("a VM that somebody started is stopped by a `run`")
        } else if self.commands.iter().any(|it| it.uses) && at(Step::ShutDown).any(for_a_run) {
            Some("a VM is stopped that a `run` uses")
        } else if is_final && unwanted(&up) {
            Some("the VM of a `run` is left running")
        } else if is_final && unwanted(&helpers) {
            Some("the helper of a `run` is left running")
        } else if self.stays.is_some_and(|boot| !up.contains(&boot)) {
            Some("a VM that somebody started is gone")
        } else {
            None
        }
    }
}

/// A step that the program says, and whether it then knows a QEMU.
type Said = (Step, bool);

/// How the program's line about a step begins.
fn line_of((step, runs): Said) -> String {
    let mut line = String::new();
    for letter in format!("{step:?}").chars() {
        if letter.is_uppercase() && !line.is_empty() {
            line.push('_');
        }
        line.push(letter.to_ascii_lowercase());
    }
    let found = if runs { " the VM runs" } else { " the VM does not run" };
    line + ":" + if step == Step::Look { found } else { "" }
}

/// How the line begins that the program says about each step in these moves.
fn lines(moves: &Moves) -> BTreeMap<String, Said> {
    let said = moves.values().flatten().filter_map(|(said, _)| *said);
    said.map(|said| (line_of(said), said)).collect()
}

/// The next moves of a command, as far as it knows: its line under `-v`, and its state then.
type Moves = HashMap<Command, HashSet<(Option<Said>, Command)>>;

/// Goes through all worlds that three commands lead to, and notes the moves of the commands. Gives
/// the number of worlds, or the rule that one of them breaks, which begins with `rule`.
fn explore(helped: bool, broken: Broken, rule: &str, moves: &mut Moves) -> Result<usize, String> {
    // The number of the boot makes no difference.
    let known = |world: &World, index: usize| {
        let command = world.commands[index];
        Command { boot: command.boot.map(|_| 0), killed: false, ..command }
    };
    // Each world with the place of the one from which it was reached first.
    let mut worlds: Vec<_> = choices(helped).into_iter().zip(0..).collect();
    let mut seen: HashSet<World> = worlds.iter().map(|(world, _)| world.clone()).collect();
    let mut todo: VecDeque<usize> = (0..worlds.len()).collect();
    // Breadth first finds the shortest way to an error; depth first finds an error sooner.
    let is_whole = broken == Broken::None;
    while let Some(at) = if is_whole { todo.pop_front() } else { todo.pop_back() } {
        let world = worlds[at].0.clone();
        if let Some(broke) = world.violation(broken).filter(|broke| broke.starts_with(rule)) {
            return Err(format!("{broke}:\n{}", way(&worlds, at)));
        }
        world.next(broken, |by, mut next| {
            if let Some(by) = by.filter(|_| is_whole) {
                let to = (world.said(by, &next), known(&next, by));
                moves.entry(known(&world, by)).or_default().insert(to);
            }
            next.forget();
            if seen.insert(next.clone()) {
                todo.push_back(worlds.len());
                worlds.push((next, at));
            }
        });
    }
    Ok(worlds.len())
}

/// The way to a world, one line for each world on it.
fn way(worlds: &[(World, usize)], mut at: usize) -> String {
    let mut lines = Vec::new();
    loop {
        let (world, before) = &worlds[at];
        let World { record, pid_file, boots, commands, .. } = world;
        let steps = commands.iter().filter(|command| !command.killed);
        let steps: Vec<_> = steps.map(|it| (it.kind, it.step, it.boot, it.has_lock)).collect();
        let boots = boots.map(|boot| (boot.qemu, boot.helper));
        lines.push(format!("{steps:?} {boots:?} {pid_file:?} {record:?}"));
        if at == *before {
            break;
        }
        at = *before;
    }
    lines.reverse();
    lines.join("\n")
}

/// Every choice of three commands, whose order does not matter, on a VM with a helper or without.
fn choices(helped: bool) -> Vec<World> {
    let count = KINDS.len();
    let all =
        (0..count.pow(3)).map(|n| [n / count / count, n / count, n].map(|n| KINDS[n % count]));
    all.filter(|kinds| kinds.is_sorted()).map(|kinds| World::new(kinds, helped)).collect()
}

/// The number of worlds of the protocol, and the moves in it.
fn explored(helped: bool) -> &'static (usize, Moves) {
    static EXPLORED: [OnceLock<(usize, Moves)>; 2] = [const { OnceLock::new() }; 2];
    EXPLORED[usize::from(helped)].get_or_init(|| {
        let mut moves = Moves::new();
        let count = explore(helped, Broken::None, "", &mut moves);
        (count.unwrap_or_else(|error| panic!("{error}")), moves)
    })
}

/// Fails unless what a command said under `-v` is a path of the model, to its end unless the
/// command was killed.
#[track_caller]
pub(crate) fn assert_path(kind: Kind, helped: bool, trace: &str, was_killed: bool) {
    let (_, moves) = explored(helped);
    // The places to which a line, or no line, leads from the given places.
    let after = |from: &HashSet<Command>, said: Option<Said>| -> HashSet<Command> {
        let moves = from.iter().filter_map(|command| moves.get(command)).flatten();
        moves.filter(|(text, _)| *text == said).map(|(_, to)| *to).collect()
    };
    let with_silent = |mut places: HashSet<Command>| loop {
        let count = places.len();
        places.extend(after(&places, None));
        if places.len() == count {
            return places;
        }
    };
    let lines = lines(moves);
    let mut places = with_silent(HashSet::from([Command::new(kind, false)]));
    // A command that is killed may leave half a line.
    for line in trace.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let line = line.trim_start_matches("qqmgr: ");
        let is_spawn = line.starts_with("exec ") && line.contains(" -pidfile ");
        let line = if is_spawn { "spawn:" } else { line };
        let said = lines.iter().find(|(begin, _)| line.starts_with(*begin));
        let Some((_, said)) = said else { continue };
        let next = with_silent(after(&places, Some(*said)));
        assert!(!next.is_empty(), "{kind:?} does not `{line}` at {places:?}:\n{trace}");
        places = next;
    }
    let is_over = places.iter().any(|command| command.step == Step::Done);
    assert!(is_over || was_killed, "{kind:?} ends early, at {places:?}:\n{trace}");
}

#[test]
fn no_interleaving_of_three_commands_breaks_a_rule() {
    let [without, with] = [false, true].map(|helped| explored(helped).0);
    println!("{without} states without helpers, {with} with one");
}

#[test]
fn the_model_has_every_step_of_the_program() {
    let lines = lines(&explored(true).1);
    for path in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(path).unwrap_or_default();
        for step in text.split(".step(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let is_known = lines.keys().any(|line| line.starts_with(&format!("{step}:")));
            assert!(is_known, "`{step}` is not in the model");
        }
    }
}

/// Each rule of the protocol is needed: the model finds out when one is missing.
#[test]
fn every_rule_of_the_protocol_is_needed() {
    let rules = [
        (Broken::Lock, "two QEMUs run"),
        (Broken::Search, "a QEMU runs that `status` and `stop` do not find"),
        (Broken::Inherit, "the VM of a `run` is left running"),
        (Broken::Uses, "a VM is stopped that a `run` uses"),
        (Broken::Demand, "a VM that somebody started is stopped by a `run`"),
        (Broken::Guard, "the VM of a `run` is left running"),
        (Broken::Mark, "the VM of a `run` is left running"),
        (Broken::Guard, "the helper of a `run` is left running"),
        (Broken::Leftovers, "a helper runs that the next command cannot end"),
        (Broken::Leftovers, "two sets of helpers run"),
        (Broken::Held, "a helper runs that the next command cannot end"),
        (Broken::Identity, "a process is signalled that is no helper"),
        (Broken::Vain, "a command that is over leaves a helper"),
        (Broken::Claim, "`stop` says that the VM is stopped, and it runs"),
    ];
    for (broken, rule) in rules {
        let helped = rule.contains("helper") || broken == Broken::Claim;
        let broke = explore(helped, broken, rule, &mut Moves::new());
        assert!(broke.is_err(), "without {broken:?}: {rule}");
    }
}
