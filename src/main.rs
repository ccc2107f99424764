//! qqmgr, the Quick QEMU Manager.
//!
//! argv -> `cli` (one table of commands) -> `commands` (load, act, give a report) -> `config`
//! (`toml` -> model -> `template`, `words`) -> `vm` and `ssh` -> report -> printed here, once.
//! Nothing flows back up. Only `system` starts or signals a process, opens a socket, or creates,
//! changes or removes a file.

mod access;
mod answers;
mod cli;
mod clock;
mod colour;
mod command_line;
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
mod progress;
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

use answers::Answers;
use cli::{Line, Parsed};
use commands::{complete, help};
use error::Kind;
use report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let table = commands::table();
    let argv: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, words)) = argv.split_first()
        && first == complete::NAME
    {
        return complete::run(&table, words);
    }
    let Line { command, json, parsed } = cli::parse(&table, &argv);
    let status_of = command.map_or(Kind::exit_code as fn(_) -> _, |command| command.failure_code);
    let mut answers = Answers::new(json, status_of);
    match parsed {
        Ok(Parsed::Run(command, args)) => {
            if let Some(file) = args.config() {
                hint::repeat_config(&file);
            }
            commands::run(command, &args, &mut answers);
        }
        Ok(Parsed::Help) => answers.tell(Ok(help::report(&table, command))),
        Ok(Parsed::Version) => answers.tell(Ok(version())),
        Err(error) => answers.tell(Err(error)),
    }
    ExitCode::from(answers.end())
}

/// The version in Cargo.toml, which plain rustc does not read. A test keeps the two equal.
const VERSION: &str = "0.2.0";

fn version() -> Report {
    Report::of(format!("qqmgr {VERSION}\n"), [("version", VERSION.into())])
}

#[cfg(test)]
mod tests {
    #[test]
    fn version_is_that_of_the_package() {
        assert_eq!(super::VERSION, env!("CARGO_PKG_VERSION"));
    }
}
