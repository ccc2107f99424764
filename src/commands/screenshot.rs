//! `qqmgr screenshot VM [FILE]`

use super::target::Target;
use crate::cli::flag::utf8;
use crate::cli::{Args, Command, Count, Flag, Operand, Takes, spec};
use crate::error::Error;
use crate::json::Value;
use crate::report::Outcome;
use crate::system::{files, temporary, user_files};
use crate::vm::{Session, qmp};
use crate::{out, png};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::Duration;

const STDOUT: &str = "-";

pub(crate) static COMMAND: Command = Command {
    name: "screenshot",
    about: "Write what the guest shows to a PNG file",
    details: "An existing FILE is replaced; `-` is standard output. Without a FILE, the first\n\
              free one of VM.png, VM-1.png, VM-2.png and so on is written. The VM needs a\n\
              display device, but no window: `-display none` is fine.",
    operands: &[spec::VM, Operand::new("FILE", Count::Optional)],
    flags: &[&DEVICE, &HEAD],
    check,
    examples: &["screenshot dev", "screenshot dev boot.png"],
    ..Command::DEFAULT
};

static DEVICE: Flag<String> = Flag::new(
    "device",
    Takes::Value("ID"),
    utf8,
    "The display device with this `id`, not the first one",
);
static HEAD: Flag<u32> = Flag::new(
    "head",
    Takes::Value("NUMBER"),
    |value| {
        let number = value.to_str().and_then(|text| text.parse().ok());
        number.ok_or_else(|| "it takes a number, from 0 on".into())
    },
    "Which of the device's displays (default 0)",
);

/// How long to wait for a picture. QEMU compresses a large one in a second; a busy host takes
/// longer.
const PICTURE_WAIT: Duration = Duration::from_secs(20);
/// The maximum size of a picture. One of 8K has 100 MiB as PPM.
const PICTURE_BYTES_MAX: u64 = 512 * 1024 * 1024;

pub(super) fn run(target: &Target) -> Outcome {
    let args = target.args;
    let picture = capture(target)?;
    let png = png::from_ppm(&picture).unwrap_or(picture);
    let (width, height) = png::size(&png).ok_or_else(|| {
        Error::failed("QEMU did not write a whole picture")
            .hint("is the disk of the VM's directory full?")
    })?;
    let file = match args.operands.get(1).map(PathBuf::from) {
        Some(file) if is_to_stdout(args) => out::write(&png).map(|_| file)?,
        Some(file) => user_files::replace(&file, |file| file.write_all(&png)).map(|()| file)?,
        None => create(&target.name, &png)?,
    };
    let wrote = format!("wrote {}: {width} x {height}\n", file.display());
    let text = if is_to_stdout(args) { "" } else { &wrote };
    let size = [("width", width.into()), ("height", height.into())];
    Ok(target.report(text, [("file", (&file).into())].into_iter().chain(size)))
}

/// Takes a picture of the display: a PNG if this QEMU can write one, else a PPM. PNG came with 7.1,
/// and can be left out when QEMU is built.
fn capture(target: &Target) -> Result<Vec<u8>, Error> {
    let Target { args, paths, log, .. } = target;
    let mut session = Session::open(paths, log)?;
    // JSON has no way to name a file that is not UTF-8.
    let dir = if paths.dir.to_str().is_some() { paths.dir.clone() } else { paths.short_dir()? };
    let file = temporary::beside(&dir.join("screenshot"));
    let device = args.value(&DEVICE).map(|device| ("device", device.into()));
    let head = args.value(&HEAD).map(|head| ("head", head.into()));
    // `screendump` of `qapi/ui.json`.
    let mut take = |format: Option<&str>| {
        let filename = [("filename", Value::from(file.as_path()))].into_iter();
        let display = device.iter().chain(&head).cloned();
        let format = format.map(|format| ("format", format.into()));
        let arguments = Value::object(filename.chain(display).chain(format));
        session.try_execute(PICTURE_WAIT, "screendump", Some(&arguments))
    };
    let taken = match take(Some("png")) {
        Err(qmp::Error::Refused { .. }) => take(None),
        taken => taken,
    };
    let picture = match taken.map_err(|error| session.explain(&error)) {
        Err(error) if error.message().contains("no console") => Err(error
            .hint("give the VM a display device, `-device VGA` say; it needs no window for that")),
        Err(error) => Err(error),
        Ok(_) => files::read_start(&file, PICTURE_BYTES_MAX)
            .map_err(|error| Error::io("read", &file, &error)),
    };
    let _ = files::remove(&file);
    picture
}

fn is_to_stdout(args: &Args) -> bool {
    args.operands.get(1).is_some_and(|file| file == STDOUT)
}

/// Refuses flags that contradict each other.
fn check(args: &Args) -> Result<(), Error> {
    let to_stdout = is_to_stdout(args);
    let usage = |message: &str, hint: &str| Err(Error::usage(message).hint(hint));
    if args.has(&HEAD) && !args.has(&DEVICE) {
        return usage("`--head` needs `--device`", "heads are those of one display device");
    }
    if to_stdout && args.json() {
        return usage("`--json` and a picture both go to standard output", "name a FILE");
    }
    if to_stdout && out::is_terminal() {
        let vm = args.vm();
        let hint = format!("`qqmgr screenshot {vm} - >{vm}.png`, or without the `-`");
        return usage("a PNG cannot be written to a terminal", &hint);
    }
    Ok(())
}

/// Creates the file under the first name that is free.
fn create(vm: &str, png: &[u8]) -> Result<PathBuf, Error> {
    let numbered = (1_u64..).map(|number| format!("{vm}-{number}.png"));
    for name in std::iter::once(format!("{vm}.png")).chain(numbered) {
        let file = PathBuf::from(name);
        match files::create(&file, png) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => {
                return result.map(|()| file.clone()).map_err(|e| Error::io("write", &file, &e));
            }
        }
    }
    Err(Error::failed("all file names are taken: name a FILE"))
}
