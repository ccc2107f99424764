//! `qqmgr img ACTION [NAME...]`: the images of the configuration.

mod list;

use super::images::{users, users_of};
use super::list::QUIET;
use crate::cli::spec::{self, Count, Flag, Operand};
use crate::cli::{Args, Command, Outcome, Run, usage_of};
use crate::config::{Config, Declared, is_image_name};
use crate::error::{Error, Kind};
use crate::image::build::{Maker, reachable};
use crate::image::fetch::PATIENCE_DEFAULT;
use crate::image::look;
use crate::json::Value;
use crate::report::Report;
use std::path::PathBuf;

pub(crate) static COMMAND: Command = Command {
    name: "img",
    about: "Build, list, reset and remove images",
    details: "`build` makes what is missing, of all images without a NAME; `list` shows the\n\
              images; `path` prints where an image is; `reset` throws away what was written\n\
              to images, and `rm` the images with it. What a running VM uses is left alone.",
    operands: &[
        Operand { name: "ACTION", count: Count::One, choices: ACTIONS },
        Operand { name: "IMAGE", count: Count::Any, choices: &[] },
    ],
    flags: &[&TIMEOUT, &QUIET],
    failure_code: Kind::exit_code,
    run: Run::Each(run),
};

const ACTIONS: &[&str] = &["build", "list", "path", "reset", "rm"];

static TIMEOUT: Flag = Flag {
    long: "timeout",
    short: None,
    kind: spec::TIMEOUT,
    help: "Give up on a server silent for this long (default 30)",
};

/// What was done with one image, or is known of it.
type Action = fn(&Maker, &str) -> Outcome;

fn run(args: &Args, tell: &mut dyn FnMut(Outcome)) {
    if let Err(error) = all(args, tell) {
        tell(Err(error));
    }
}

fn all(args: &Args, tell: &mut dyn FnMut(Outcome)) -> Result<(), Error> {
    let names: Vec<String> =
        args.operands[1..].iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let action: Action = match (args.operands[0].to_str(), names.len()) {
        (Some("list"), 0) => {
            tell(Ok(list::run(&Config::load(args)?, args.quiet)?));
            return Ok(());
        }
        (Some("build"), _) => build,
        (Some("path"), 1) => path,
        (Some("reset"), 1..) => reset,
        (Some("rm"), 1..) => remove,
        (action, given) => {
            let action = action.unwrap_or_default();
            let message = match (action, given) {
                ("list", _) => "`img list` takes no IMAGE".to_string(),
                ("path", 2..) => "`img path` takes one IMAGE".into(),
                _ => format!("`img {action}` needs an IMAGE"),
            };
            return Err(usage_of(&COMMAND, message));
        }
    };
    let (config, log) = (Config::load(args)?, args.log());
    let maker = Maker {
        config: &config,
        patience: args.timeout.unwrap_or(PATIENCE_DEFAULT),
        exceeded: &|| None,
        log: &log,
    };
    let every = || config.images().iter().map(|image| image.name.clone()).collect();
    let names: Vec<String> = if names.is_empty() { every() } else { names };
    let among_others = names.len() > 1;
    for name in names {
        tell(action(&maker, &name).map_err(|error| error.of_vm(&name, among_others)));
    }
    Ok(())
}

fn declared(maker: &Maker, name: &str) -> Result<Declared, Error> {
    maker.config.declared(maker.config.image(name)?)
}

/// An error if a VM that runs has the image open.
fn check_unused(maker: &Maker, name: &str) -> Result<(), Error> {
    let users = users(maker.config);
    match users_of(&users, &maker.config.image_paths(name)?.disk).first() {
        None => Ok(()),
        Some(vm) => Err(Error::failed(format!("image `{name}` is in use by VM `{vm}`"))
            .hint(format!("`qqmgr stop {vm}` stops it"))),
    }
}

struct Built {
    name: String,
    path: PathBuf,
    made: bool,
    changed: Vec<&'static str>,
}

fn build(maker: &Maker, name: &str) -> Outcome {
    let declared = declared(maker, name)?;
    let paths = maker.config.image_paths(name)?;
    let before = look(maker.config, &declared, &paths);
    if before.is_whole() && !before.is_done() {
        check_unused(maker, name)?;
    }
    let made = maker.build(&declared)?;
    let look = look(maker.config, &declared, &paths);
    if let Some((warning, hint)) = look.warning(name) {
        maker.log.note(&format!("warning: {warning}"));
        maker.log.note(&format!("hint: {hint}"));
    }
    Ok(Box::new(Built { name: name.into(), path: paths.disk, made, changed: look.changed }))
}

impl Report for Built {
    fn text(&self) -> String {
        let what = if self.made { "built" } else { "is there already" };
        format!("{} {what}: {}\n", self.name, self.path.display())
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("path", self.path.as_path().into()),
            ("built", self.made.into()),
            ("changed", self.changed.iter().map(|key| Value::from(*key)).collect()),
        ])
    }
}

/// Where what QEMU gets is.
struct Place {
    name: String,
    disk: PathBuf,
    seed: Option<PathBuf>,
    key: Option<PathBuf>,
}

fn path(maker: &Maker, name: &str) -> Outcome {
    let declared = declared(maker, name)?;
    let paths = maker.config.image_paths(name)?;
    if paths.dir.exists() {
        reachable(&paths)?;
    }
    let key = declared.has_own_key().then_some(paths.key);
    let seed = declared.seed.is_some().then_some(paths.seed);
    Ok(Box::new(Place { name: name.into(), disk: paths.disk, seed, key }))
}

impl Report for Place {
    fn text(&self) -> String {
        format!("{}\n", self.disk.display())
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("path", self.disk.as_path().into()),
            ("seed", self.seed.as_deref().into()),
            ("key", self.key.as_deref().into()),
        ])
    }
}

struct Reset {
    name: String,
    path: PathBuf,
}

fn reset(maker: &Maker, name: &str) -> Outcome {
    let declared = declared(maker, name)?;
    check_unused(maker, name)?;
    maker.reset(&declared)?;
    Ok(Box::new(Reset { name: name.into(), path: maker.config.image_paths(name)?.disk }))
}

impl Report for Reset {
    fn text(&self) -> String {
        format!("{} is as new: {}\n", self.name, self.path.display())
    }

    fn json(&self) -> Value {
        Value::object([
            ("name", Value::from(self.name.as_str())),
            ("path", self.path.as_path().into()),
        ])
    }
}

struct Removed {
    name: String,
    removed: bool,
}

/// Also of an image that is not declared any more.
fn remove(maker: &Maker, name: &str) -> Outcome {
    if !is_image_name(name) || !maker.config.undeclared_images().contains(name) {
        maker.config.image(name)?;
    }
    check_unused(maker, name)?;
    Ok(Box::new(Removed { name: name.into(), removed: maker.remove(name)? }))
}

impl Report for Removed {
    fn text(&self) -> String {
        format!("{} {}\n", self.name, if self.removed { "removed" } else { "was not built" })
    }

    fn json(&self) -> Value {
        Value::object([("name", Value::from(self.name.as_str())), ("removed", self.removed.into())])
    }
}
