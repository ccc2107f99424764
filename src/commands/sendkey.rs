//! `qqmgr sendkey VM [KEYS...]`: presses keys on the VM's keyboard, or types a text.
//!
//! QEMU accepts more keys than a keyboard passes on: it keeps them in a queue (1024 events, with
//! pauses that are `hold-time` long, `ui/input.c`) and drops the excess. The keyboards drop what
//! the guest does not fetch (16 bytes in a PS/2 keyboard, some 5 keys). So keys are sent in
//! portions, with a pause after each that is as long as its keys take.

use super::control;
use super::target::Target;
use crate::cli::flag::{seconds, utf8};
use crate::cli::{Args, Command, Count, Flag, Operand, Takes, refuse_if, spec};
use crate::error::Error;
use crate::json::Value;
use crate::report::Outcome;
use crate::text::nearest;
use crate::vm::keys::Chord;
use crate::vm::schema::Schema;
use crate::vm::{Session, keys, look, wait};
use std::ffi::OsString;
use std::time::Duration;

pub(crate) static COMMAND: Command = Command {
    name: "sendkey",
    about: "Press keys on the VM's keyboard, or type a text",
    details: "KEYS are QEMU's names of keys that are held together, like `ctrl-alt-f2`, `ret`\n\
              or `shift-a`. Several KEYS are pressed one after the other.",
    operands: &[spec::VM, Operand::new("KEYS", Count::Any)],
    flags: &[&TEXT, &HOLD],
    check: |args| chords(args).map(|_| ()),
    examples: &["sendkey dev ctrl-alt-delete", "sendkey dev --text 'root'"],
    ..Command::DEFAULT
};

static TEXT: Flag<Vec<Chord>> = Flag::new(
    "text",
    Takes::Value("TEXT"),
    |value| keys::typed(&utf8(value)?),
    "Type this on a US keyboard; \\n, \\t, \\e, \\\\ as in C",
);
static HOLD: Flag<Duration> = Flag::new(
    "hold",
    Takes::Value("SECONDS"),
    |value| {
        let (hold, range) = (seconds(value)?, Duration::from_millis(1)..=HOLD_MAX);
        if range.contains(&hold) { Ok(hold) } else { Err("it takes 0.001 to 10".into()) }
    },
    "How long each key is down, and then up (default 0.05)",
);

/// The default of `--hold`: 10 keys a second, as a fast person types. A guest that fetches no keys
/// for half a second, the time of five, loses some; with 20 ms this was seen with an emulated guest
/// on a busy host.
const HOLD_DEFAULT: Duration = Duration::from_millis(50);
const HOLD_MAX: Duration = Duration::from_secs(10);
/// Names of keys as keyboards have them, and the names that QEMU has.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("del", "delete"),
    ("enter", "ret"),
    ("escape", "esc"),
    ("pagedown", "pgdn"),
    ("pageup", "pgup"),
    ("return", "ret"),
    ("space", "spc"),
    ("super", "meta_l"),
];
/// The number of keys in one portion, far fewer than QEMU's queue holds.
const PORTION: usize = 16;
/// The number of keys in one chord. With it, a portion is 16 * 8 * 6 events: each key goes down and
/// up, and each time there is an end and a pause.
const KEYS_OF_CHORD_MAX: usize = 8;

pub(super) fn run(target: &Target) -> Outcome {
    let args = target.args;
    let chords = chords(args)?;
    let process = look::running(&target.paths)?;
    let open = || Session::open_with(&process, &target.paths, &target.log);
    let hold = args.value(&HOLD).unwrap_or(HOLD_DEFAULT);
    check(&mut open()?, &target.name, &chords)?;
    for (number, portion) in chords.chunks(PORTION).enumerate() {
        let before = number * PORTION;
        // The session is held only while the keys are sent: other commands need the socket.
        let sent = open().and_then(|mut session| {
            portion.iter().try_for_each(|chord| send(&mut session, chord, hold))
        });
        sent.map_err(|error| match before {
            0 => error,
            _ => error.hint(format!("the first {before} of {} keys were sent", chords.len())),
        })?;
        let changes: usize = portion.iter().map(|chord| 2 * chord.len()).sum();
        wait::pause(hold * u32::try_from(changes).unwrap_or(u32::MAX));
    }
    let mut session = open()?;
    let what = match chords.len() {
        1 => "sent 1 key".to_string(),
        count => format!("sent {count} keys"),
    };
    control::report(target, &mut session, Some(&what))
}

/// The keys to press. All of them are read before the first is pressed.
fn chords(args: &Args) -> Result<Vec<Chord>, Error> {
    let words = &args.operands[1..];
    let chord = |word: &OsString| {
        let keys = keys::chord(&word.to_string_lossy()).map_err(Error::usage)?;
        let is_long = keys.len() > KEYS_OF_CHORD_MAX;
        let limit = format!("at most {KEYS_OF_CHORD_MAX} keys are held together");
        refuse_if(&[(is_long, &limit)]).map(|()| keys)
    };
    let (text, has_keys) = (args.value(&TEXT), !words.is_empty());
    refuse_if(&[
        (text.is_some() && has_keys, "`sendkey` takes KEYS or `--text`, not both"),
        (text.is_none() && !has_keys, "`sendkey` needs KEYS or `--text`"),
    ])?;
    text.map_or_else(|| words.iter().map(chord).collect(), Ok)
}

/// Checks that this QEMU knows all keys, and that the guest can get them: a stopped guest gets
/// none, and QEMU does not say so.
fn check(session: &mut Session, name: &str, chords: &[Chord]) -> Result<(), Error> {
    let schema = session.query_schema()?;
    let known = Schema::new(&schema).words("send-key", Some("data"));
    if let Some(key) = chords.iter().flatten().find(|key| !known.contains(&key.as_str())) {
        let other = OTHER_NAMES.iter().find(|(other, _)| key.eq_ignore_ascii_case(other));
        let near = other.map(|(_, name)| *name);
        let near = near.or_else(|| nearest(&key.to_lowercase(), known.iter().copied()));
        let error = Error::failed(format!("QEMU has no key `{key}`"));
        let some = "it has letters, digits and names such as `ret`, `esc`, `spc`, `tab`, \
                    `backspace`, `up`, `f1`, `ctrl`, `shift`, `alt`, `minus`, `kp_enter`";
        return Err(error.hint(some).did_you_mean(near));
    }
    match session.run_state()?.as_str() {
        "running" | "suspended" => Ok(()),
        state => Err(Error::failed(format!("VM `{name}` takes no keys: it is {state}"))
            .hint(format!("`qqmgr resume {name}` lets it go on"))),
    }
}

fn send(session: &mut Session, chord: &Chord, hold: Duration) -> Result<(), Error> {
    let key = |key: &String| {
        Value::object([("type", Value::from("qcode")), ("data", key.as_str().into())])
    };
    let milliseconds = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
    let arguments = [("keys", chord.iter().map(key).collect()), ("hold-time", milliseconds.into())];
    session.execute("send-key", Some(&Value::object(arguments))).map(|_| ())
}
