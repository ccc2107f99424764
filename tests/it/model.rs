//! The life cycle of one VM as a model that is small enough to be explored whole: every
//! interleaving of three commands, with the SIGKILL of any command and the death of any QEMU
//! between any two steps. The steps are named after the program's functions, and each is as atomic
//! as it is there: one system call, or one that the VM's lock protects. `status` is a look, which
//! is asked for in every state.
//!
//! The program is held to the model: under `-v` it says each step, and [`assert_path`] follows what
//! a command said through the steps that the model has seen such a command take.
//!
//! The second test leaves out one rule of the protocol at a time, and expects the model to notice.

#![expect(
    clippy::struct_excessive_bools,
    clippy::match_same_arms,
    clippy::too_many_lines,
    reason = "the steps stand in the order in which the program takes them"
)]

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::OnceLock;

/// The number of QEMUs that three commands and a guard can start.
const QEMUS_MAX: usize = 3;
const COMMANDS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Qemu {
    /// Never started.
    None,
    /// Forked by a command, and not yet QEMU: nobody can find it.
    Forked,
    /// Has QEMU's command line, and no pid file yet.
    Starting,
    /// Has the lock of the pid file, which only one QEMU can have, and opens the images.
    Up,
    /// Got SIGTERM or SIGKILL, and has not ended yet.
    Ending,
    /// Has ended, because another one had the lock of the pid file.
    Refused,
    Ended,
}

impl Qemu {
    fn is_visible(self) -> bool {
        matches!(self, Self::Starting | Self::Up | Self::Ending)
    }
}

/// `instance.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Record {
    qemu: Option<usize>,
    ready: bool,
    on_demand: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Start,
    Stop,
    StopForce,
    Restart,
    Run,
    /// The child of a `run`, which stops the VM when that `run` was killed.
    Guard,
}

const KINDS: [Kind; 5] = [Kind::Start, Kind::Stop, Kind::StopForce, Kind::Restart, Kind::Run];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    /// `vm::lock::lock`: waits for the VM's lock.
    Lock,
    /// `vm::look::Look`: whether the VM runs, and in which process.
    Look,
    /// `vm::lock::Use::new`: a mark that a `run` uses the VM.
    Use,
    /// `system::guard::Guard::new`: a child that lives on when this command is killed.
    Guard,
    /// `vm::clean::for_start`: no record, no sockets.
    CleanForStart,
    /// `Plan::record`, written before there is a process.
    Record,
    /// `system::daemon::spawn`.
    Spawn,
    /// `Instance::spawned`: the record has the pid and its start time.
    Spawned,
    /// `vm::launch`: waits for QEMU's own session, or for QEMU's end. Not traced.
    Wait,
    /// `Instance::is_ready`.
    IsReady,
    /// `vm::shutdown::shut_down`: SIGTERM or the power button, to a process that is still the one
    /// that was found.
    ShutDown,
    /// Its second half, `Process::ends_by`.
    Ends,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Command {
    kind: Kind,
    step: Step,
    /// The QEMU that it has found or spawned.
    qemu: Option<usize>,
    /// Another command has started that one.
    joined: bool,
    /// It is past the stop of a `restart`, or past the job of a `run`.
    second_half: bool,
    killed: bool,
    /// A `run` has marked the VM as in use.
    marked: bool,
    /// The guard of a `run` is there.
    guarded: bool,
}

impl Command {
    fn new(kind: Kind, killed: bool) -> Self {
        let (joined, second_half, marked, guarded) = (false, false, false, false);
        Self { kind, step: Step::Lock, qemu: None, joined, second_half, killed, marked, guarded }
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    record: Option<Record>,
    pid_file: Option<usize>,
    lock: Option<usize>,
    /// Which commands have their mark in `users`.
    uses: [bool; COMMANDS],
    qemus: [Qemu; QEMUS_MAX],
    /// The commands, and behind them the guards of those that are `run`s.
    commands: [Command; 2 * COMMANDS],
    /// The QEMU of which a command that wants it to stay has said that it runs. It has not died,
    /// and no command has ended it, since.
    stays: Option<usize>,
    /// The QEMUs that were started, or found, by a command that wants the VM to stay.
    wanted: [bool; QEMUS_MAX],
}

/// The rule of the protocol that a mutation leaves out; `None` is the protocol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    None,
    /// `start` takes no lock.
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
}

impl World {
    fn new(kinds: [Kind; COMMANDS]) -> Self {
        let guard = Command::new(Kind::Guard, true);
        let [a, b, c] = kinds.map(|kind| Command::new(kind, false));
        Self {
            record: None,
            pid_file: None,
            lock: None,
            uses: [false; COMMANDS],
            qemus: [Qemu::None; QEMUS_MAX],
            commands: [a, b, c, guard, guard, guard],
            stays: None,
            wanted: [false; QEMUS_MAX],
        }
    }

    /// `vm::look::Look`: by the pid file, then by the record, then among all processes.
    fn find(&self, broken: Broken) -> Option<usize> {
        let recorded = self.record.and_then(|record| record.qemu);
        let all = (0..QEMUS_MAX).filter(|_| broken != Broken::Search);
        let mut candidates = self.pid_file.into_iter().chain(recorded).chain(all);
        candidates.find(|qemu| self.qemus[*qemu].is_visible())
    }

    /// Whether the command still holds a file that a program that it was just starting inherits
    /// until that program runs: the lock, its mark in `users` and the guard's pipe.
    fn is_held_by_child(&self, command: usize) -> bool {
        self.commands[command].qemu.is_some_and(|qemu| self.qemus[qemu] == Qemu::Forked)
    }

    /// Releases what the kernel releases when a killed command and its forked child are gone.
    fn release_killed(&mut self, broken: Broken) {
        for command in 0..COMMANDS {
            let is_held = broken != Broken::Inherit && self.is_held_by_child(command);
            if self.commands[command].killed && !is_held {
                self.uses[command] = false;
                if self.lock == Some(command) {
                    self.lock = None;
                }
                self.forget(command);
            }
        }
    }

    /// Every world that a step of a command, which is named, a kill, or a QEMU by itself leads to.
    fn next(&self, broken: Broken, mut seen: impl FnMut(Option<usize>, Self)) {
        for command in 0..self.commands.len() {
            let Command { killed, step, .. } = self.commands[command];
            if killed || step == Step::Done {
                continue;
            }
            self.step(command, broken, &mut |next| seen(Some(command), next));
            if command < COMMANDS {
                seen(None, self.kill(command, broken));
            }
        }
        for qemu in 0..QEMUS_MAX {
            self.live(qemu, broken, &mut |next| seen(None, next));
        }
    }

    /// SIGKILL of a command. The guard of a `run` begins its work.
    fn kill(&self, index: usize, broken: Broken) -> Self {
        let mut world = self.clone();
        let command = &mut world.commands[index];
        command.killed = true;
        if command.guarded {
            world.commands[COMMANDS + index].killed = false;
        }
        world.release_killed(broken);
        world
    }

    /// The steps of a QEMU by itself.
    fn live(&self, qemu: usize, broken: Broken, seen: &mut impl FnMut(Self)) {
        let mut change = |state: Qemu, pid_file: Option<usize>| {
            let stays = self.stays.filter(|staying| *staying != qemu || state == Qemu::Up);
            let mut world = Self { pid_file, stays, ..self.clone() };
            world.qemus[qemu] = state;
            world.release_killed(broken);
            seen(world);
        };
        let holds = |qemu: &usize| matches!(self.qemus[*qemu], Qemu::Up | Qemu::Ending);
        let without = self.pid_file.filter(|named| *named != qemu);
        match self.qemus[qemu] {
            Qemu::None | Qemu::Refused | Qemu::Ended => {}
            Qemu::Forked => change(Qemu::Starting, self.pid_file),
            // The kernel's lock of the pid file decides between two.
            Qemu::Starting if self.pid_file.as_ref().is_some_and(holds) => {
                change(Qemu::Refused, self.pid_file);
            }
            Qemu::Starting => {
                change(Qemu::Up, Some(qemu));
                change(Qemu::Ended, self.pid_file);
            }
            // After SIGKILL or a crash the pid file stays.
            Qemu::Up => {
                change(Qemu::Ended, self.pid_file);
                change(Qemu::Ended, without);
            }
            Qemu::Ending => {
                change(Qemu::Ended, self.pid_file);
                change(Qemu::Ended, without);
            }
        }
    }

    /// The next step of a command, if it is not blocked.
    fn step(&self, index: usize, broken: Broken, seen: &mut impl FnMut(Self)) {
        let mut world = self.clone();
        let Command { kind, step, qemu, joined, second_half, guarded, .. } = self.commands[index];
        let state = qemu.map(|qemu| self.qemus[qemu]);
        let has_lock = self.lock == Some(index);
        let starts = self.commands[index].starts();
        let next = match step {
            Step::Lock if self.lock.is_none() => {
                world.lock = Some(index);
                let ends_a_run = kind == Kind::Guard || kind == Kind::Run && second_half;
                if ends_a_run { Step::IsOver } else { Step::Look }
            }
            // A `start` that ignores the lock, and a `stop --force` whose patience is at its end.
            Step::Lock if broken == Broken::Lock && kind == Kind::Start => Step::Look,
            Step::Lock if kind == Kind::StopForce && !second_half => Step::Look,
            Step::Lock if kind == Kind::StopForce => Step::Done,
            Step::Lock => return,
            Step::Look => {
                world.commands[index].qemu = self.find(broken);
                world.commands[index].joined = world.commands[index].qemu.is_some();
                self.after_look(index, world.commands[index].qemu)
            }
            Step::Use => {
                world.uses[index] = true;
                Step::Guard
            }
            Step::Guard => {
                world.commands[index].guarded = broken != Broken::Guard;
                world.commands[index].marked = true;
                Step::Look
            }
            Step::CleanForStart => {
                world.record = None;
                // Once more after a start that failed.
                if qemu.is_some() { Step::Unlock } else { Step::Record }
            }
            Step::Record => {
                let on_demand = kind == Kind::Run;
                world.record = Some(Record { qemu: None, ready: false, on_demand });
                Step::Spawn
            }
            Step::Spawn => match self.qemus.iter().position(|qemu| *qemu == Qemu::None) {
                Some(new) => {
                    world.qemus[new] = Qemu::Forked;
                    world.wanted[new] = kind != Kind::Run;
                    world.commands[index].qemu = Some(new);
                    world.commands[index].joined = false;
                    Step::Spawned
                }
                None => Step::Unlock,
            },
            // `Command::spawn` returns when the program runs.
            Step::Spawned if state == Some(Qemu::Forked) => return,
            Step::Spawned => {
                world.record = self.record.map(|record| Record { qemu, ..record });
                Step::Wait
            }
            Step::Wait => match state {
                Some(Qemu::Up) => Step::IsReady,
                // Another QEMU has the pid file: that one is the VM.
                Some(Qemu::Refused) if self.find(broken).is_some() => {
                    world.commands[index].qemu = self.find(broken);
                    world.commands[index].joined = true;
                    Step::Wait
                }
                // It had the pid file, and has ended: once more.
                Some(Qemu::Refused) => Step::Record,
                Some(Qemu::Ended) if world.commands[index].joined => {
                    world.commands[index].joined = false;
                    Step::Unlock
                }
                Some(Qemu::Ended) => Step::Clean,
                _ => return,
            },
            Step::IsReady => {
                let is_run = kind == Kind::Run;
                world.record = self.record.map(|record| Record {
                    qemu,
                    ready: true,
                    on_demand: record.on_demand && is_run,
                });
                if let Some(qemu) = qemu.filter(|_| !is_run && state == Some(Qemu::Up)) {
                    world.stays = Some(qemu);
                    world.wanted[qemu] = true;
                }
                // What stays needs neither the mark nor the guard of a `run`.
                let stays = world.record.is_none_or(|record| !record.on_demand);
                if joined && is_run && stays { Step::Unuse } else { Step::Unlock }
            }
            Step::ShutDown => {
                if let Some(qemu) = qemu.filter(|qemu| self.qemus[*qemu].is_visible()) {
                    world.qemus[qemu] = Qemu::Ending;
                    world.stays = self.stays.filter(|staying| *staying != qemu);
                }
                Step::Ends
            }
            Step::Ends if state.is_some_and(Qemu::is_visible) => return,
            Step::Ends if kind == Kind::StopForce && !has_lock => {
                world.commands[index].second_half = true;
                Step::Lock
            }
            Step::Ends if starts => {
                world.commands[index].qemu = None;
                Step::CleanForStart
            }
            Step::Ends if matches!(kind, Kind::Run | Kind::Guard) => Step::Look,
            Step::Ends => Step::Clean,
            Step::Clean => {
                (world.pid_file, world.record) = (None, None);
                let restarts = kind == Kind::Restart && !second_half;
                world.commands[index].second_half |= restarts;
                match () {
                    () if restarts => Step::Look,
                    () if starts => Step::CleanForStart,
                    () => Step::Unlock,
                }
            }
            Step::Job => {
                world.commands[index].second_half = true;
                if self.uses[index] { Step::Unuse } else { Step::Done }
            }
            Step::Unuse if !second_half => {
                world.commands[index].guarded = false;
                world.uses[index] = broken == Broken::Mark;
                Step::Unlock
            }
            Step::Unuse => {
                world.uses[index] = false;
                if guarded { Step::Lock } else { Step::Done }
            }
            Step::IsOver => {
                let is_used = self.uses.contains(&true) && broken != Broken::Uses;
                let on_demand = self.record.is_none_or(|record| record.on_demand);
                let is_unused = !is_used && (on_demand || broken == Broken::Demand);
                if is_unused { Step::Look } else { Step::Unlock }
            }
            Step::Unlock => {
                if has_lock {
                    world.lock = None;
                }
                let command = &mut world.commands[index];
                (command.qemu, command.joined) = (None, false);
                match kind {
                    Kind::Run if !second_half => Step::Job,
                    _ => Step::Done,
                }
            }
            Step::Done => return,
        };
        world.commands[index].step = next;
        if next == Step::Done {
            world.forget(index);
        }
        seen(world);
    }

    /// How the program's line about the step begins that the command has taken to `next`; `None` if
    /// it says nothing then.
    fn said(&self, index: usize, next: &Self) -> Option<&'static str> {
        let Command { step, qemu, .. } = self.commands[index];
        let is_said = match step {
            Step::Lock => next.lock == Some(index),
            Step::Unlock => self.lock == Some(index),
            // A process that has ended already is not recorded.
            Step::Spawned => qemu.is_some_and(|qemu| self.qemus[qemu].is_visible()),
            Step::IsReady => self.record.is_some(),
            Step::Ends => !self.commands[index].starts(),
            Step::IsOver => self.record.is_none_or(|record| record.on_demand),
            _ => true,
        };
        let text = match step {
            Step::Lock => "lock:",
            Step::Look if next.commands[index].qemu.is_some() => "look: the VM runs",
            Step::Look => "look: the VM does not run",
            Step::Use => "use:",
            Step::Guard => "guard:",
            Step::CleanForStart => "clean_for_start:",
            Step::Record => "record:",
            Step::Spawn => "spawn:",
            Step::Spawned => "spawned:",
            Step::IsReady => "is_ready:",
            Step::ShutDown => "shut_down:",
            Step::Ends => "ends:",
            Step::Clean => "clean:",
            Step::Unuse => "unuse:",
            Step::IsOver => "is_over:",
            Step::Unlock => "unlock:",
            Step::Wait | Step::Job | Step::Done => return None,
        };
        is_said.then_some(text)
    }

    /// Forgets what a command knew that is over, so that worlds are equal that differ only in it.
    fn forget(&mut self, index: usize) {
        let Command { kind, killed, .. } = self.commands[index];
        self.commands[index] = Command { step: Step::Done, ..Command::new(kind, killed) };
        for qemu in 0..QEMUS_MAX {
            let is_named = self.pid_file == Some(qemu)
                || self.record.is_some_and(|record| record.qemu == Some(qemu))
                || self.commands.iter().any(|command| command.qemu == Some(qemu));
            if matches!(self.qemus[qemu], Qemu::Refused | Qemu::Ended) && !is_named {
                (self.qemus[qemu], self.wanted[qemu]) = (Qemu::None, false);
            }
        }
    }

    /// The step after a look, by what was found.
    fn after_look(&self, index: usize, found: Option<usize>) -> Step {
        let Command { kind, marked, .. } = self.commands[index];
        let starts = self.commands[index].starts();
        match found {
            _ if kind == Kind::Run && !marked => Step::Use,
            Some(qemu) if starts && self.qemus[qemu] == Qemu::Ending => Step::Ends,
            Some(_) if starts => Step::Wait,
            Some(_) => Step::ShutDown,
            None if starts => Step::CleanForStart,
            // It says that the command with the lock did not finish in time.
            None if self.lock != Some(index) => Step::Done,
            None => Step::Clean,
        }
    }

    /// The rule of the life cycle that this world breaks.
    fn violation(&self, broken: Broken) -> Option<&'static str> {
        let up = |qemu: &usize| self.qemus[*qemu] == Qemu::Up;
        let up: Vec<usize> = (0..QEMUS_MAX).filter(up).collect();
        let at = |step| {
            let commands = self.commands.iter();
            commands.filter(move |command| !command.killed && command.step == step)
        };
        let for_a_run = |command: &Command| matches!(command.kind, Kind::Guard | Kind::Run);
        let is_over = |command: &Command| command.killed || command.step == Step::Done;
        let settled =
            |qemu: &Qemu| matches!(qemu, Qemu::None | Qemu::Up | Qemu::Refused | Qemu::Ended);
        let is_final = self.commands.iter().all(is_over) && self.qemus.iter().all(settled);
        if up.len() > 1 {
            Some("two QEMUs run")
        } else if self.qemus.iter().any(|qemu| qemu.is_visible()) && self.find(broken).is_none() {
            Some("a QEMU runs that `status` and `stop` do not find")
        } else if !up.is_empty() && at(Step::Clean).any(|command| command.kind == Kind::Stop) {
            Some("`stop` says that the VM is stopped, and it runs")
        } else if at(Step::ShutDown).any(|it| for_a_run(it) && it.qemu == self.stays) {
            Some("a VM that somebody started is stopped by a `run`")
        } else if self.uses.contains(&true) && at(Step::ShutDown).any(for_a_run) {
            Some("a VM is stopped that a `run` uses")
        } else if is_final && up.iter().any(|qemu| !self.wanted[*qemu]) {
            Some("the VM of a `run` is left running")
        } else if self.stays.is_some_and(|qemu| !up.contains(&qemu)) {
            Some("a VM that somebody started is gone")
        } else {
            None
        }
    }
}

/// The next moves of a command, as far as it knows: its line under `-v`, and its state then.
type Moves = HashMap<Command, HashSet<(Option<&'static str>, Command)>>;

/// Goes through all worlds that three commands lead to, and notes the moves of the commands. Gives
/// the number of worlds, or the rule that one of them breaks.
fn explore(kinds: [Kind; COMMANDS], broken: Broken, moves: &mut Moves) -> Result<usize, String> {
    // Which QEMU it is makes no difference.
    let known = |world: &World, index: usize| {
        let command = world.commands[index];
        Command { qemu: command.qemu.map(|_| 0), killed: false, ..command }
    };
    // Each world with the place of the one from which it was reached first.
    let mut worlds = vec![(World::new(kinds), 0)];
    let mut seen = HashSet::from([worlds[0].0.clone()]);
    let mut todo = VecDeque::from([0]);
    // Breadth first, what is wrong is reached by few steps; depth first, it is reached soon.
    let is_whole = broken == Broken::None;
    while let Some(at) = if is_whole { todo.pop_front() } else { todo.pop_back() } {
        let world = worlds[at].0.clone();
        if let Some(rule) = world.violation(broken) {
            return Err(format!("{rule}:\n{}", way(&worlds, at)));
        }
        world.next(broken, |by, next| {
            let is_real = |by: &usize| {
                // There is no room for another QEMU in the model only.
                let (old, new) = (world.commands[*by], next.commands[*by]);
                is_whole && (old.step, new.step) != (Step::Spawn, Step::Unlock)
            };
            if let Some(by) = by.filter(is_real) {
                let to = (world.said(by, &next), known(&next, by));
                moves.entry(known(&world, by)).or_default().insert(to);
            }
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
        let World { record, pid_file, lock, uses, qemus, commands, .. } = world;
        let steps = commands.iter().filter(|command| !command.killed);
        let steps: Vec<_> = steps.map(|it| (it.kind, it.step, it.qemu)).collect();
        lines.push(format!("{steps:?} {qemus:?} {pid_file:?} {record:?} {lock:?} {uses:?}"));
        if at == 0 {
            break;
        }
        at = *before;
    }
    lines.reverse();
    lines.join("\n")
}

/// Every choice of three commands, whose order does not matter.
fn choices() -> Vec<[Kind; COMMANDS]> {
    let mut all = Vec::new();
    for (a, first) in KINDS.iter().enumerate() {
        for (b, second) in KINDS.iter().enumerate().skip(a) {
            all.extend(KINDS[b..].iter().map(|third| [*first, *second, *third]));
        }
    }
    all
}

/// The number of worlds of the protocol, and the moves in it.
fn explored() -> &'static (usize, Moves) {
    static EXPLORED: OnceLock<(usize, Moves)> = OnceLock::new();
    EXPLORED.get_or_init(|| {
        let mut moves = Moves::new();
        let explore = |kinds| match explore(kinds, Broken::None, &mut moves) {
            Ok(count) => count,
            Err(error) => panic!("{error}"),
        };
        (choices().into_iter().map(explore).sum(), moves)
    })
}

/// Fails unless what a command said under `-v` is a path of the model, to its end unless the
/// command was killed.
#[track_caller]
pub(crate) fn assert_path(kind: Kind, trace: &str, was_killed: bool) {
    let (_, moves) = explored();
    // The places that a line, or none, leads to from some others.
    let after = |from: &HashSet<Command>, said: Option<&str>| -> HashSet<Command> {
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
    let known: HashSet<&str> = moves.values().flatten().filter_map(|(said, _)| *said).collect();
    let mut places = with_silent(HashSet::from([Command::new(kind, false)]));
    // A command that is killed may leave half a line.
    for line in trace.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let line = line.trim_start_matches("qqmgr: ");
        let is_spawn = line.starts_with("exec ") && line.contains(" -pidfile ");
        let line = if is_spawn { "spawn:" } else { line };
        let Some(said) = known.iter().find(|said| line.starts_with(**said)) else { continue };
        let next = with_silent(after(&places, Some(said)));
        assert!(!next.is_empty(), "{kind:?} does not `{line}` at {places:?}:\n{trace}");
        places = next;
    }
    let is_over = places.iter().any(|command| command.step == Step::Done);
    assert!(is_over || was_killed, "{kind:?} ends early, at {places:?}:\n{trace}");
}

#[test]
fn no_interleaving_of_three_commands_breaks_a_rule() {
    println!("{} states", explored().0);
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
    ];
    for (broken, rule) in rules {
        let mut errors = choices()
            .into_iter()
            .filter_map(|kinds| explore(kinds, broken, &mut Moves::new()).err());
        let mut all = BTreeSet::new();
        let is_it = |error: String| {
            let is_it = error.starts_with(rule);
            all.insert(error);
            is_it
        };
        assert!(errors.any(is_it), "without {broken:?}: {all:?}");
    }
}
