//! Mutation tests of every parser, for a few seconds or as long as asked: `FUZZ_SECONDS=3600
//! cargo test --test fuzz`. Deterministic: input N of a target is the same in every run, and
//! `FUZZ_SEED` begins another sequence. What breaks a rule is printed with its seed and number.
//!
//! The modules are compiled in from `src/`, since a program has no library to link.

// Only the parsers of these modules are used here.
#![allow(dead_code, unused_imports)]

#[path = "../../src/access.rs"]
mod access;
#[path = "../../src/answers.rs"]
mod answers;
#[path = "../../src/cli/mod.rs"]
mod cli;
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/colour.rs"]
mod colour;
#[path = "../../src/command_line.rs"]
mod command_line;
#[path = "../../src/commands/mod.rs"]
mod commands;
#[path = "../../src/config/mod.rs"]
mod config;
#[path = "../../src/descriptors.rs"]
mod descriptors;
#[path = "../../src/destination.rs"]
mod destination;
#[path = "../../src/error/mod.rs"]
mod error;
#[path = "../../src/glob.rs"]
mod glob;
#[path = "../../src/hint.rs"]
mod hint;
#[path = "../../src/image/mod.rs"]
mod image;
#[path = "../../src/json/mod.rs"]
mod json;
#[path = "../../src/left_out.rs"]
mod left_out;
#[path = "../../src/linux.rs"]
mod linux;
#[path = "../../src/log.rs"]
mod log;
#[path = "../../src/lookup.rs"]
mod lookup;
#[path = "../../src/out.rs"]
mod out;
#[path = "../../src/pasted/mod.rs"]
mod pasted;
#[path = "../../src/png.rs"]
mod png;
#[path = "../../src/progress.rs"]
mod progress;
#[path = "../../src/ps.rs"]
mod ps;
#[path = "../../src/reading.rs"]
mod reading;
#[path = "../../src/redraw.rs"]
mod redraw;
#[path = "../../src/report.rs"]
mod report;
#[path = "../../src/source.rs"]
mod source;
#[path = "../../src/ssh/mod.rs"]
mod ssh;
#[path = "../../src/system/mod.rs"]
mod system;
#[path = "../../src/template.rs"]
mod template;
#[path = "../../src/terminal.rs"]
mod terminal;
#[path = "../../src/text.rs"]
mod text;
#[path = "../../src/toml/mod.rs"]
mod toml;
#[path = "../../src/vm/mod.rs"]
mod vm;
#[path = "../../src/wait.rs"]
mod wait;
#[path = "../../src/words.rs"]
mod words;

mod mutate;
mod targets;

use mutate::Random;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use targets::TARGETS;

const SECONDS_DEFAULT: u64 = 7;
/// One input that takes longer hangs, or takes more than linear time.
const INPUT_DURATION_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("FUZZ_SECONDS").unwrap_or(SECONDS_DEFAULT);
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let share = Duration::from_secs(seconds) / u32::try_from(TARGETS.len()).unwrap_or(1);
    let mut failed = 0;
    for target in TARGETS {
        let (deadline, mut inputs, mut slowest) = (Instant::now() + share, 0_u64, Duration::ZERO);
        while Instant::now() < deadline {
            let mut random = Random::new(seed ^ (inputs << 20));
            let input = mutate::mutated(target.seeds, &mut random);
            let begin = Instant::now();
            let held = catch_unwind(|| (target.check)(&input)).is_ok();
            slowest = slowest.max(begin.elapsed());
            inputs += 1;
            if !held || slowest > INPUT_DURATION_MAX {
                let shown = String::from_utf8_lossy(&input);
                eprintln!("{}: seed {seed}, input {inputs}, {slowest:?}:\n{shown}", target.name);
                failed += 1;
                break;
            }
        }
        println!("fuzz {}: {inputs} inputs, the slowest took {slowest:?}", target.name);
    }
    println!("fuzz: {} passed, {failed} failed", TARGETS.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
