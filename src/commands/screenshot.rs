//! `qqmgr screenshot VM [FILE]`

use super::target::Target;
use crate::cli::flag::utf8;
use crate::cli::{Args, Command, Count, Flag, Operand, Takes, spec};
use crate::error::Error;
use crate::report::Outcome;
use crate::system::{files, user_files};
use crate::vm::{Session, screen};
use crate::{out, png};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

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

pub(super) fn run(target: &Target) -> Outcome {
    let args = target.args;
    let mut session = Session::open(&target.paths, &target.log)?;
    let (device, head) = (args.value(&DEVICE), args.value(&HEAD));
    let picture = screen::capture(&mut session, &target.paths, device.as_deref(), head)?;
    let png = png::from_ppm(&picture).unwrap_or(picture);
    let (width, height) = png::size(&png).ok_or_else(|| {
        Error::failed("QEMU did not write a whole picture")
            .hint("is the disk of the VM's directory full?")
    })?;
    let file = match args.operands.get(1).map(PathBuf::from) {
        Some(file) if is_to_stdout(args) => {
            out::write(&png)?;
            file
        }
        Some(file) => {
            user_files::replace(&file, |file| file.write_all(&png))?;
            file
        }
        None => create(&target.name, &png)?,
    };
    let wrote = format!("wrote {}: {width} x {height}\n", file.display());
    let text = if is_to_stdout(args) { "" } else { &wrote };
    let size = [("width", width.into()), ("height", height.into())];
    Ok(target.report(text, [("file", (&file).into())].into_iter().chain(size)))
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
