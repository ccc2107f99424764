//! How late a command knows of what a guest says:
//! `waited RUNS TEXT FILE COMMAND... -- AFTER...`
//!
//! Runs the command, and looks meanwhile for the text in a file that it makes anew. Prints the part
//! of the time until the text is there that passes from then to the command's end, in percent: the
//! median of all runs, and the worst.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

const LOOK_INTERVAL: Duration = Duration::from_millis(2);

fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Percent.
fn once(text: &str, file: &str, words: &[String]) -> Result<f64, String> {
    let _ = fs::remove_file(file);
    let begin = Instant::now();
    let failed = |what: String| format!("{words:?}: {what}");
    let mut child = command(words).spawn().map_err(|error| failed(error.to_string()))?;
    let mut said = None;
    let status = loop {
        let found =
            || fs::read(file).is_ok_and(|said| String::from_utf8_lossy(&said).contains(text));
        if said.is_none() && found() {
            said = Some(begin.elapsed());
        }
        match child.try_wait() {
            Ok(None) => thread::sleep(LOOK_INTERVAL),
            Ok(Some(status)) => break status,
            Err(error) => return Err(failed(error.to_string())),
        }
    };
    let (said, known) = (said.ok_or_else(|| failed("no such text".into()))?, begin.elapsed());
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    eprintln!(
        "said after {:.2} s, known {:.2} s later",
        said.as_secs_f64(),
        (known - said).as_secs_f64()
    );
    Ok((known - said).as_secs_f64() / said.as_secs_f64() * 100.0)
}

fn measure(words: &[String]) -> Result<Vec<f64>, String> {
    let usage = "usage: waited RUNS TEXT FILE COMMAND... -- AFTER...";
    let [runs, text, file, rest @ ..] = words else { return Err(usage.into()) };
    let split = rest.iter().position(|word| word == "--").ok_or(usage)?;
    let (ours, after) = (&rest[..split], &rest[split + 1..]);
    let runs: usize = runs.parse().map_err(|_| usage)?;
    if runs == 0 || ours.is_empty() || after.is_empty() {
        return Err(usage.into());
    }
    let one_run = |_| {
        let figure = once(text, file, ours);
        let _ = command(after).status();
        figure
    };
    (0..runs).map(one_run).collect()
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match measure(&words) {
        Ok(mut figures) => {
            figures.sort_by(f64::total_cmp);
            println!("{:.1} {:.1}", figures[figures.len() / 2], figures[figures.len() - 1]);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("waited: {error}");
            ExitCode::FAILURE
        }
    }
}
