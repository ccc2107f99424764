//! TRUSTED CORE: writes a new file. `qqmgr init`

use crate::cli::{Args, Command, Outcome, Run};
use crate::error::{Error, Kind};
use crate::json::Value;
use crate::report::Report;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

const NAME: &str = "qqmgr.toml";
const CONTENT: &str = include_str!("init.toml");

pub(crate) static COMMAND: Command = Command {
    name: "init",
    about: "Write a first qqmgr.toml, with comments",
    details: "Into the current directory, or to the FILE of `-c`. A file that is there is\n\
              never overwritten.",
    operands: &[],
    flags: &[],
    failure_code: Kind::exit_code,
    run: Run::Once(run),
};

struct Written(PathBuf);

fn run(args: &Args) -> Outcome {
    let file = args.config.clone().unwrap_or_else(|| NAME.into());
    let opened = OpenOptions::new().write(true).create_new(true).open(&file);
    let mut opened = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::failed(format!("`{}` is there already", file.display()))
            .hint("`qqmgr check` tells whether it is right"),
        _ => Error::io("create", &file, &error),
    })?;
    let written = opened.write_all(CONTENT.as_bytes());
    if let Err(error) = written {
        // Half a configuration is worse than none.
        let _ = std::fs::remove_file(&file);
        return Err(Error::io("write", &file, &error));
    }
    Ok(Box::new(Written(file)))
}

impl Report for Written {
    fn text(&self) -> String {
        let file = self.0.display();
        format!("wrote {file}: edit it, then `qqmgr check` and `qqmgr start dev`\n")
    }

    fn json(&self) -> Value {
        Value::object([("file", Value::from(self.0.as_path()))])
    }
}
