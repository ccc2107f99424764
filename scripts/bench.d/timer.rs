//! Times two commands side by side: `timer RUNS BEFORE AFTER COMMAND... -- FLOOR...`
//!
//! Prints four medians: the seconds of the command, those of the floor, and, compared round by
//! round, the difference in seconds and the ratio. The two run in turns, so that whatever else the
//! machine does meets both, and the first of a round is the second of the next. `BEFORE` and
//! `AFTER` are lines for `sh -c` that run around each and are not timed; `:` does nothing.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

struct Timer {
    before: String,
    after: String,
}

impl Timer {
    /// Seconds.
    fn time(&self, command: &[String]) -> Result<f64, String> {
        shell(&self.before)?;
        let begin = Instant::now();
        run(&command[0], &command[1..])?;
        let took = begin.elapsed().as_secs_f64();
        shell(&self.after)?;
        Ok(took)
    }
}

fn shell(line: &str) -> Result<(), String> {
    if line == ":" { Ok(()) } else { run("sh", &["-c".into(), line.into()]) }
}

fn run(program: &str, arguments: &[String]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} {arguments:?}: {status}")),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// The median of a figure of every round.
fn median(rounds: &[(f64, f64)], figure: fn(&(f64, f64)) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The seconds of both in every round, after one that does not count.
fn measure(mut arguments: Vec<String>) -> Result<Vec<(f64, f64)>, String> {
    let usage = "usage: timer RUNS BEFORE AFTER COMMAND... -- FLOOR...";
    let split = arguments.iter().position(|word| word == "--").ok_or(usage)?;
    let floor = arguments.split_off(split + 1);
    arguments.truncate(split);
    let [runs, before, after, command @ ..] = arguments.as_slice() else {
        return Err(usage.into());
    };
    let runs: usize = runs.parse().map_err(|_| usage)?;
    if runs == 0 || command.is_empty() || floor.is_empty() {
        return Err(usage.into());
    }
    let timer = Timer { before: before.clone(), after: after.clone() };
    timer.time(command)?;
    timer.time(&floor)?;
    let one_round = |round: usize| {
        if round % 2 == 0 {
            let ours = timer.time(command)?;
            Ok((ours, timer.time(&floor)?))
        } else {
            let floor = timer.time(&floor)?;
            Ok((timer.time(command)?, floor))
        }
    };
    (0..runs).map(one_round).collect()
}

fn main() -> ExitCode {
    let rounds = match measure(std::env::args().skip(1).collect()) {
        Ok(rounds) => rounds,
        Err(error) => {
            eprintln!("timer: error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ours = median(&rounds, |(ours, _)| *ours);
    let floor = median(&rounds, |(_, floor)| *floor);
    let difference = median(&rounds, |(ours, floor)| ours - floor);
    let ratio = median(&rounds, |(ours, floor)| ours / floor);
    println!("{ours:.6}\t{floor:.6}\t{difference:.6}\t{ratio:.4}");
    ExitCode::SUCCESS
}
