//! `qqmgr init`: writes a new configuration, or adds a VM to one.

use super::script::{Dirs, Script};
use super::{check, publishers};
use crate::cli::flag::{not_empty, utf8};
use crate::cli::{Args, Command, Count, Flag, Operand, Takes, refuse_if};
use crate::config::Config;
use crate::config::schema::with_comments;
use crate::config::sum::{KINDS, Sum};
use crate::config::values::{is_url, is_vm_name};
use crate::error::Error;
use crate::hint;
use crate::image::base::examine;
use crate::image::bases::{self, verify};
use crate::image::context::Context;
use crate::image::fetch::fetch;
use crate::json::Value;
use crate::report::{Outcome, Report};
use crate::source::Source;
use crate::system::{files, user_files};
use crate::words::split_plain;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

const NAME: &str = "qqmgr.toml";
const CONTENT: &str = include_str!("init.toml");
const WITH_IMAGE: &str = include_str!("init-image.toml");
/// The size of an image, unless its base is larger.
const SIZE_BYTES: u64 = 20 << 30;

pub(crate) static COMMAND: Command = Command {
    name: "init",
    about: "Write a qqmgr.toml, or make one from a command",
    details: "Writes into the current directory, or to the FILE of `-c`. An existing file is\n\
              never overwritten. After `--image`, `qqmgr start dev --wait` and `qqmgr ssh\n\
              dev` lead to a shell. With COMMAND, which may stand in a script, the\n\
              configuration has a VM that runs it.",
    operands: &[SCRIPT],
    flags: &[&IMAGE, &CHECKSUM, &VM_NAME, &APPEND],
    check: check_usage,
    examples: &[
        "init",
        "init --image https://example.org/debian.qcow2 --checksum SHA256",
        "init --name dev -- qemu-system-x86_64 -m 2G -kernel bzImage -s",
    ],
    ..Command::DEFAULT
};

static IMAGE: Flag<String> = Flag::new(
    "image",
    Takes::Value("FILE_OR_URL"),
    |value| {
        let text = utf8(value)?;
        if ["{{", "<<", "\n"].iter().any(|special| text.contains(special)) {
            return Err("a configuration cannot have `{{`, `<<` or a newline in a path".into());
        }
        not_empty(value).map(|_| text)
    },
    "With a disk on this base, an image with cloud-init",
);
static CHECKSUM: Flag<Sum> = Flag::new(
    "checksum",
    Takes::Value("SUM"),
    |value| {
        let sum = Sum::parse(&value.to_string_lossy());
        sum.ok_or_else(|| "it takes 64 or 128 hexadecimal digits".into())
    },
    "The SHA-256 or SHA-512 that the base must have",
)
.needs("image", "is that of an `--image`");

const SCRIPT: Operand = Operand::new("COMMAND", Count::Words);
/// The first lines of a configuration that was a command line.
const HEADER: &str = "# A virtual machine for qqmgr, from the command line of a script. qqmgr.toml(5) describes\n\
                      # every key; `qqmgr check` finds mistakes.\n\n";

static VM_NAME: Flag<String> = Flag::new(
    "name",
    Takes::Value("NAME"),
    |value| {
        let name = utf8(value)?;
        let rule = "it takes letters, digits, `.`, `_` and `-`, a letter or digit first";
        if is_vm_name(&name) { Ok(name) } else { Err(rule.into()) }
    },
    "The VM that runs COMMAND (default dev)",
);
static APPEND: Flag = Flag::switch("append", "Add the VM to an existing file");

/// The image in the new configuration.
struct Image {
    base: String,
    sum: Option<Sum>,
    /// The size of the base, if the base could be read.
    virtual_bytes: Option<u64>,
}

fn check_usage(args: &Args) -> Result<(), Error> {
    let (has_command, of_command) =
        (!args.words.is_empty(), args.has(&VM_NAME) || args.has(&APPEND));
    refuse_if(&[
        (has_command && args.has(&IMAGE), "`init` takes `--image` or a COMMAND, not both"),
        (!has_command && of_command, "`--name` and `--append` are for a COMMAND after `--`"),
    ])
}

pub(super) fn run(args: &Args) -> Outcome {
    let file = args.config().unwrap_or_else(|| NAME.into());
    if !args.words.is_empty() {
        return from_script(args, &file);
    }
    // Checked before anything is fetched.
    if file.symlink_metadata().is_ok() {
        return Err(is_there(&file));
    }
    let image = args.value(&IMAGE).map(|base| Image::new(args, &file, &base)).transpose()?;
    let content = image.as_ref().map_or_else(|| CONTENT.to_string(), Image::content);
    let content = with_comments(&content);
    write(&file, &content)?;
    let next = match image {
        None => "edit it, then `qqmgr check` and `qqmgr start dev`",
        Some(_) => "`qqmgr start dev --wait` and `qqmgr ssh dev` are next",
    };
    let text = hint::complete(&format!("wrote {}: {next}\n", file.display()));
    Ok(Report::of(text, members(&file, image.as_ref(), None, Value::Array(Vec::new()))))
}

fn members(
    file: &Path,
    image: Option<&Image>,
    name: Option<&str>,
    findings: Value,
) -> impl Iterator<Item = (&'static str, Value)> {
    let sum = image.and_then(|image| image.sum.as_ref());
    let sums =
        KINDS.map(|(key, ..)| (key, sum.filter(|sum| sum.key() == key).map(Sum::digits).into()));
    let first = [("file", Value::from(file)), ("base", image.map(|image| &image.base).into())];
    first.into_iter().chain(sums).chain([("name", name.into()), ("findings", findings)])
}

/// Writes the VM that runs the command of `args`, and checks it.
fn from_script(args: &Args, file: &Path) -> Outcome {
    let name = args.value(&VM_NAME).unwrap_or_else(|| "dev".into());
    let is_new = file.symlink_metadata().is_err();
    if !is_new && !args.has(&APPEND) {
        return Err(is_there(file).hint("`--append` adds the VM to it"));
    }
    let here = current_dir()?;
    let full = here.join(file);
    let dir = full.parent().unwrap_or(&here);
    let dir = dir.canonicalize().map_err(|error| Error::io("find", dir, &error))?;
    let words = args.words.iter().map(|word| utf8(word));
    let words: Result<Vec<String>, _> = words.collect();
    let mut words = words.map_err(|_| Error::failed("the command is not UTF-8"))?;
    // The command line of a script may be one word, as in "$CMD".
    if let [line] = words.as_slice() {
        words = split_plain(line).unwrap_or(words);
    }
    let script = Script::new(&name, &words, &Dirs { here: &here, config: &dir });
    let script = script.ok_or_else(|| {
        let wrong = Error::usage("the command after `--` names no program");
        wrong.hint("it begins with the program: `qqmgr init -- qemu-system-x86_64 -m 2G ...`")
    })?;
    if is_new {
        write(file, &format!("{HEADER}{}", script.text))?;
    } else {
        append(file, &name, &script.text)?;
    }
    let checked = check::of_vm(file, &name)?;
    let what = if is_new { "wrote" } else { "added to" };
    let next = format!("`qqmgr start {name}` starts VM `{name}`");
    let mut wrote = hint::complete(&format!("{what} {}: {next}\n", file.display()));
    for note in &script.notes {
        wrote.extend(["note: ", note, "\n"]);
    }
    let findings = checked.json.unwrap_or(Value::Null);
    Ok(Report::of(wrote + "\n" + &checked.text, members(file, None, Some(&name), findings)))
}

/// Adds the table of a VM to a configuration, which has none of that name.
fn append(file: &Path, name: &str, table: &str) -> Result<(), Error> {
    let config = Config::load_silently(Some(file))?;
    let shown = file.display();
    if config.is_declared(name) {
        let error = Error::failed(format!("`{shown}` already has a VM `{name}`"));
        return Err(error.hint("`--name` gives this one another name"));
    }
    let text = &config.source.text;
    let line = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let content = format!("{text}{line}\n{table}");
    let source = Source { name: config.source.name.clone(), text: content.clone() };
    let runtime = config.runtime.clone();
    let longer = Config::examine_file(source, config.file.clone(), runtime);
    if !longer.is_ok_and(|longer| longer.is_declared(name)) {
        let error = Error::failed(format!("a `[vm.{name}]` cannot stand at the end of `{shown}`"));
        return Err(error.hint("give its other VMs tables of their own, `[vm.NAME]`"));
    }
    user_files::replace(file, |file| file.write_all(content.as_bytes()))
}

fn write(file: &Path, content: &str) -> Result<(), Error> {
    files::create(file, content.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => is_there(file),
        _ => Error::io("create", file, &error),
    })
}

fn is_there(file: &Path) -> Error {
    let error = Error::failed(format!("`{}` already exists", file.display()));
    error.hint("`qqmgr check` finds mistakes in it")
}

fn current_dir() -> Result<PathBuf, Error> {
    std::env::current_dir().map_err(|error| Error::io("find", Path::new("."), &error))
}

impl Image {
    /// Looks at the base, and fetches it if its checksum is not known otherwise.
    fn new(args: &Args, file: &Path, base: &str) -> Result<Self, Error> {
        let log = args.log();
        let here = current_dir()?;
        let config = Config::unread(here.join(NAME), here.clone())?;
        let context = Context::new(&config, &log);
        let expected = args.value(&CHECKSUM);
        let mut sum = expected.clone();
        let local = match (is_url(base), &sum) {
            (false, _) => Some(here.join(base)),
            (true, Some(_)) => None,
            (true, None) => fetch(&context, Some(base), &[])?.inspect(|fetched| {
                let found = fetched.file_name().unwrap_or_default().to_string_lossy();
                log.note(&format!("its SHA-256 is {found}: compare it with its publisher's"));
                sum = Sum::parse(&found);
            }),
        };
        if let Some(file) = &local {
            if let Some(hint) = publishers::hint(base).filter(|_| files::is_missing(file)) {
                let message = format!("there is no file `{}`", file.display());
                return Err(Error::failed(message).hint(hint));
            }
            verify(&context, file, expected.as_slice())?;
        }
        let url = is_url(base).then_some(base);
        let looked_at = local.as_deref().map(|local| examine(&context, local, url));
        let looked_at = looked_at.transpose()?;
        if let (Some(url), Some(looked_at), None) = (url, &looked_at, &expected) {
            bases::remember(url, &looked_at.file)?;
        }
        // A relative path starts from the directory that the file is in.
        let is_elsewhere = file.parent().is_some_and(|dir| !dir.as_os_str().is_empty());
        let written = if is_elsewhere && !is_url(base) {
            here.join(base).to_str().map(str::to_string)
        } else {
            Some(base.to_string())
        };
        let base =
            written.ok_or_else(|| Error::failed(format!("`{}` is not UTF-8", here.display())))?;
        let virtual_bytes = looked_at.map(|base| base.virtual_bytes);
        Ok(Self { base, sum, virtual_bytes })
    }

    fn content(&self) -> String {
        // A JSON string is a TOML string as well.
        let base = Value::from(self.base.as_str()).compact();
        let sum = self.sum.as_ref().map(|sum| format!("{} = \"{}\"\n", sum.key(), sum.digits()));
        let size = match self.virtual_bytes {
            Some(bytes) if bytes > SIZE_BYTES => "# size = \"100G\"",
            _ => "size = \"20G\"",
        };
        WITH_IMAGE
            .replace("@BASE@", &base)
            .replace("@SUM@\n", &sum.unwrap_or_default())
            .replace("@SIZE@", size)
    }
}
