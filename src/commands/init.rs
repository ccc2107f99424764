//! Writes a new file. `qqmgr init`

use crate::cli::flag::{Flag, Takes, utf8};
use crate::cli::{Args, Command, Group, usage_of};
use crate::config::Config;
use crate::config::schema::with_comments;
use crate::config::values::{is_url, sha256};
use crate::error::Error;
use crate::hint;
use crate::image::base::examine;
use crate::image::context::Context;
use crate::image::fetch::{PATIENCE_DEFAULT, fetch, verify};
use crate::json::Value;
use crate::report::{Outcome, Report};
use crate::source::Source;
use crate::system::files;
use std::io::ErrorKind;
use std::path::Path;

const NAME: &str = "qqmgr.toml";
const CONTENT: &str = include_str!("init.toml");
const WITH_IMAGE: &str = include_str!("init-image.toml");
/// The size of an image, unless its base is larger.
const SIZE_BYTES: u64 = 20 << 30;

pub(crate) static COMMAND: Command = Command {
    name: "init",
    group: Group::SetUp,
    about: "Write a first qqmgr.toml, with comments",
    details: "Into the current directory, or to the FILE of `-c`. A file that is there is\n\
              never overwritten. With `--image`, `qqmgr start dev --wait` and `qqmgr ssh dev`\n\
              are all that it takes from there.",
    flags: &[&IMAGE, &CHECKSUM],
    check,
    examples: &["init", "init --image https://example.org/debian.qcow2 --checksum SHA256"],
    ..Command::DEFAULT
};

static IMAGE: Flag<String> = Flag::new(
    "image",
    Takes::Value("FILE_OR_URL"),
    |value| {
        let text = utf8(value)?;
        if ["{{", "<<", "\n"].iter().any(|special| text.contains(special)) {
            return Err("a configuration would read it as something else".into());
        }
        if text.is_empty() { Err("the name is empty".into()) } else { Ok(text) }
    },
    "With a disk on this base, an image with cloud-init",
);
static CHECKSUM: Flag<String> = Flag::new(
    "checksum",
    Takes::Value("SUM"),
    |value| {
        let sum = sha256(&value.to_string_lossy());
        sum.ok_or_else(|| "it takes 64 hexadecimal digits".into())
    },
    "The SHA-256 that the base must have",
);

/// The image in the new configuration.
struct Image {
    base: String,
    sha256: Option<String>,
    /// The size of the base, if the base could be read.
    virtual_bytes: Option<u64>,
}

fn check(args: &Args) -> Result<(), Error> {
    if args.has(&CHECKSUM) && !args.has(&IMAGE) {
        return Err(usage_of(&COMMAND, "`--checksum` is that of an `--image`"));
    }
    Ok(())
}

pub(super) fn run(args: &Args) -> Outcome {
    let file = args.config().unwrap_or_else(|| NAME.into());
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
    Ok(Report::of(
        hint::complete(&format!("wrote {}: {next}\n", file.display())),
        [
            ("file", Value::from(&file)),
            ("base", image.as_ref().map(|image| &image.base).into()),
            ("sha256", image.as_ref().and_then(|image| image.sha256.as_ref()).into()),
        ],
    ))
}

fn write(file: &Path, content: &str) -> Result<(), Error> {
    files::create(file, content.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => is_there(file),
        _ => Error::io("create", file, &error),
    })
}

fn is_there(file: &Path) -> Error {
    let error = Error::failed(format!("`{}` exists already", file.display()));
    error.hint("`qqmgr check` finds mistakes in it")
}

impl Image {
    /// Looks at the base, and fetches it if its checksum is not known otherwise.
    fn new(args: &Args, file: &Path, base: &str) -> Result<Self, Error> {
        let log = args.log();
        let here = std::env::current_dir();
        let here = here.map_err(|error| Error::io("find", Path::new("."), &error))?;
        let source = Source { name: NAME.into(), text: String::new() };
        let config = Config::parse(source, here.join(NAME), here.clone())?;
        let context =
            Context { config: &config, patience: PATIENCE_DEFAULT, exceeded: &|| None, log: &log };
        let expected = args.value(&CHECKSUM);
        let mut sum = expected.clone();
        let local = match (is_url(base), &sum) {
            (false, _) => Some(here.join(base)),
            (true, Some(_)) => None,
            (true, None) => fetch(&context, Some(base), None)?.inspect(|fetched| {
                let found = fetched.file_name().unwrap_or_default().to_string_lossy();
                log.note(&format!("its SHA-256 is {found}: compare it with its publisher's"));
                sum = Some(found.into_owned());
            }),
        };
        if let (Some(file), Some(sum)) = (&local, &expected) {
            verify(&context, file, sum)?;
        }
        let url = is_url(base).then_some(base);
        let looked_at = local.as_deref().map(|local| examine(&context, local, url, None));
        let looked_at = looked_at.transpose()?;
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
        Ok(Self { base, sha256: sum, virtual_bytes })
    }

    fn content(&self) -> String {
        // A JSON string is a TOML string as well.
        let base = Value::from(self.base.as_str()).compact();
        let sum = self.sha256.as_ref().map(|sum| format!("sha256 = \"{sum}\"\n"));
        let size = match self.virtual_bytes {
            Some(bytes) if bytes > SIZE_BYTES => "# size = \"100G\"",
            _ => "size = \"20G\"",
        };
        WITH_IMAGE
            .replace("@BASE@", &base)
            .replace("@SHA256@\n", &sum.unwrap_or_default())
            .replace("@SIZE@", size)
    }
}
