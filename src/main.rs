//! qqmgr, the Quick QEMU Manager.
//!
//! argv -> `cli` (one table of commands) -> `commands` (load, act, give a report) -> `config`
//! (`toml` -> model -> `template`, `words`) -> `vm` and `ssh` -> report -> printed here, once.
//! Nothing flows back up. Only `system` starts or signals a process, opens a socket, or creates,
//! changes or removes a file.

mod access;
mod cli;
mod commands;
mod config;
mod descriptors;
mod destination;
mod error;
mod glob;
mod hint;
mod image;
mod json;
mod left_out;
mod linux;
mod log;
mod lookup;
mod out;
mod pasted;
mod png;
mod ps;
mod reading;
mod redraw;
mod report;
mod source;
mod ssh;
mod system;
mod template;
mod terminal;
mod text;
mod toml;
mod vm;
mod wait;
mod words;

use cli::{Parsed, Refused};
use commands::{complete, help};
use error::{Error, Kind};
use report::Report;
use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let table = commands::table();
    let argv: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, words)) = argv.split_first()
        && first == complete::NAME
    {
        return complete::run(&table, words);
    }
    match cli::parse(&table, argv) {
        Ok(Parsed::Run(command, args)) => {
            if let Some(file) = args.config() {
                hint::repeat_config(&file);
            }
            let (json, mut worst) = (args.json(), 0);
            commands::run(command, &args, &mut |outcome| {
                worst = worst.max(match outcome {
                    Ok(report) => print(report, json),
                    Err(error) => fail(&error, command.failure_code, json),
                });
            });
            ExitCode::from(worst)
        }
        Ok(Parsed::Help { command, json }) => print(help::report(&table, command), json).into(),
        Ok(Parsed::Version { json }) => print(version(), json).into(),
        Err(Refused { error, command, json }) => {
            let code = command.map_or(Kind::exit_code as fn(Kind) -> u8, |c| c.failure_code);
            fail(&error, code, json).into()
        }
    }
}

/// The version in Cargo.toml, which plain rustc does not read. A test keeps the two equal.
const VERSION: &str = "0.2.0";

fn version() -> Report {
    Report::of(format!("qqmgr {VERSION}\n"), [("version", VERSION.into())])
}

/// Prints the report and gives the exit code.
fn print(report: Report, json: bool) -> u8 {
    let Some(document) = report.json else { return report.exit_code };
    let text = if json { document.pretty() } else { report.text };
    match out::write(text.as_bytes()) {
        Ok(_) => report.exit_code,
        Err(error) => fail(&error, Kind::exit_code, false),
    }
}

fn fail(error: &Error, code: fn(Kind) -> u8, json: bool) -> u8 {
    if json {
        // A failure to write changes nothing: the command has failed anyway.
        let _ = out::write(error.json().pretty().as_bytes());
    }
    let _ = io::stderr().write_all(error.text().as_bytes());
    code(error.kind)
}

#[cfg(test)]
mod tests {
    #[test]
    fn version_is_that_of_the_package() {
        assert_eq!(super::VERSION, env!("CARGO_PKG_VERSION"));
    }
}
