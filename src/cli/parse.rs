//! Turns tokens and the table into a command and its [`Args`], or a usage error.
//!
//! Flags may come before the command, so they are kept until it is known and then applied. A name
//! has the same meaning in every command that has it (a test checks this).

use super::help::one_of;
use super::lex::{Lexer, Token};
use super::spec::{
    Args, CONTRADICTIONS, Command, Count, Detached, Flag, FlagKind, GLOBAL_FLAGS, HELP, JSON,
    Operand, VERSION,
};
use crate::error::{Error, Kind};
use crate::text::{did_you_mean, nearest};
use std::ffi::{OsStr, OsString};

pub(crate) enum Parsed {
    Run(&'static Command, Box<Args>),
    Help { command: Option<&'static Command>, json: bool },
    Version { json: bool },
}

/// A usage error, and what decides how it is reported: the command and `--json`.
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) command: Option<&'static Command>,
    pub(crate) json: bool,
}

type Table = &'static [&'static Command];

/// Parses `argv`, which does not include the program's name.
pub(crate) fn parse(commands: Table, argv: Vec<OsString>) -> Result<Parsed, Refused> {
    let json = argv.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let mut words = Words::new(commands);
    words.read(Lexer::new(argv)).and_then(|()| words.finish()).map_err(|error| Refused {
        error,
        command: words.command,
        json,
    })
}

/// Finds the command of that name.
pub(crate) fn find_command(commands: Table, name: &str) -> Result<&'static Command, Error> {
    commands.iter().copied().find(|command| command.name == name).ok_or_else(|| {
        let near = nearest(name, commands.iter().map(|command| command.name));
        usage(None, &format!("unknown command `{name}`"), near)
    })
}

/// The words of a command line that have been read so far.
pub(super) struct Words {
    pub(super) commands: Table,
    pub(super) command: Option<&'static Command>,
    pub(super) flags: Vec<(&'static Flag, Option<OsString>)>,
    pub(super) operands: Vec<OsString>,
    /// The words after `--`, for `Count::Words`.
    behind_dashes: Vec<OsString>,
    detached: Option<Detached>,
}

impl Words {
    pub(super) fn new(commands: Table) -> Self {
        let (flags, operands, behind_dashes) = (Vec::new(), Vec::new(), Vec::new());
        Self { commands, command: None, flags, operands, behind_dashes, detached: None }
    }

    fn read(&mut self, mut lexer: Lexer) -> Result<(), Error> {
        while let Some(token) = lexer.next() {
            match token {
                Token::Word(word) => self.word(word)?,
                Token::Long(name) => self.flag(&mut lexer, &format!("--{name}"))?,
                Token::Short(letter) => self.flag(&mut lexer, &format!("-{letter}"))?,
                Token::End if self.takes_words() => self.behind_dashes = lexer.rest(),
                Token::End => {}
            }
            if self.rest_follows() {
                self.operands.extend(lexer.rest());
            }
        }
        Ok(())
    }

    pub(super) fn word(&mut self, word: OsString) -> Result<(), Error> {
        if self.command.is_some() {
            self.operands.push(word);
            return Ok(());
        }
        self.command = Some(find_command(self.commands, &word.to_string_lossy())?);
        Ok(())
    }

    fn flag(&mut self, lexer: &mut Lexer, spelled: &str) -> Result<(), Error> {
        let Some(flag) = self.find_flag(spelled) else {
            return Err(self.unknown_flag(spelled));
        };
        let value = match flag.kind {
            FlagKind::Value { name, .. } | FlagKind::List { name, .. } => {
                Some(lexer.value().ok_or_else(|| {
                    let message = format!("`{spelled}` needs a value: `{spelled} {name}`");
                    usage(self.command, &message, None)
                })?)
            }
            FlagKind::Switch(_) if lexer.attached_value().is_some() => {
                let message = format!("`{spelled}` takes no value");
                return Err(usage(self.command, &message, None));
            }
            FlagKind::Switch(_) => None,
            FlagKind::Optional { set, .. } => {
                let attached = lexer.attached_value();
                let follows = lexer.peek().filter(|_| attached.is_none());
                let is_value = |word: &&OsStr| set(&mut Args::default(), Some(word)).is_ok();
                if let Some(word) = follows.filter(is_value) {
                    self.detached = Some(Detached { flag: flag.long, word: word.to_os_string() });
                }
                attached
            }
        };
        let once = matches!(flag.kind, FlagKind::Value { .. } | FlagKind::Optional { .. });
        if once && self.has(flag) {
            return Err(usage(self.command, &format!("`{spelled}` is given twice"), None));
        }
        self.flags.push((flag, value));
        Ok(())
    }

    /// Finds the flag that `spelled`, dashes included, names here.
    pub(super) fn find_flag(&self, spelled: &str) -> Option<&'static Flag> {
        let known = known_flags(self.commands, self.command);
        known.into_iter().find(|flag| flag.is_spelled(spelled))
    }

    fn unknown_flag(&self, spelled: &str) -> Error {
        let known = known_flags(self.commands, self.command);
        let longs: Vec<String> = known.iter().map(|flag| format!("--{}", flag.long)).collect();
        let near = nearest(spelled, longs.iter().map(String::as_str));
        let message = match self.command {
            Some(command) => format!("`{}` has no flag `{spelled}`", command.name),
            None => format!("unknown flag `{spelled}`"),
        };
        usage(self.command, &message, near)
    }

    pub(super) fn rest_follows(&self) -> bool {
        self.command.is_some_and(|command| {
            command.operands.get(self.operands.len()).is_some_and(|next| next.count == Count::Rest)
        })
    }

    pub(super) fn takes_words(&self) -> bool {
        let words = |operand: &Operand| matches!(operand.count, Count::Words { .. });
        self.command.is_some_and(|command| command.operands.iter().any(words))
    }

    fn has(&self, flag: &Flag) -> bool {
        self.flags.iter().any(|(given, _)| given.long == flag.long)
    }

    fn finish(&mut self) -> Result<Parsed, Error> {
        let json = self.has(&JSON);
        if self.has(&HELP) {
            return Ok(Parsed::Help { command: self.command, json });
        }
        if self.has(&VERSION) {
            return Ok(Parsed::Version { json });
        }
        let Some(command) = self.command else {
            let error = Error::new(Kind::Usage, "no command given");
            return Err(error.hint("`qqmgr help` lists the commands"));
        };
        let detached = self.detached.take();
        check_counts(command, &self.operands, &self.behind_dashes).map_err(
            |error| match &detached {
                Some(detached) => error.hint(detached.hint()),
                None => error,
            },
        )?;
        self.check_contradictions()?;
        let mut args = Args {
            operands: std::mem::take(&mut self.operands),
            words: std::mem::take(&mut self.behind_dashes),
            detached,
            ..Args::default()
        };
        for (flag, value) in self.flags.drain(..) {
            let mut own = command.flags.iter().chain(GLOBAL_FLAGS);
            let Some(own) = own.find(|own| own.long == flag.long) else {
                let message = format!("`{}` has no flag `--{}`", command.name, flag.long);
                return Err(usage_of(command, message));
            };
            own.apply(command, &mut args, value)?;
        }
        Ok(Parsed::Run(command, Box::new(args)))
    }
}

impl Words {
    fn check_contradictions(&self) -> Result<(), Error> {
        let given = |long: &str| self.flags.iter().any(|(flag, _)| flag.long == long);
        match CONTRADICTIONS.iter().find(|(one, other)| given(one) && given(other)) {
            None => Ok(()),
            Some((one, other)) => {
                let message = format!("`--{one}` and `--{other}` contradict each other");
                Err(Error::new(Kind::Usage, message))
            }
        }
    }
}

impl Flag {
    /// Whether `spelled`, dashes included, names this flag.
    fn is_spelled(&self, spelled: &str) -> bool {
        spelled.strip_prefix("--").is_some_and(|name| name == self.long)
            || self.short.is_some_and(|letter| spelled == format!("-{letter}"))
    }

    fn apply(
        &self,
        command: &Command,
        args: &mut Args,
        value: Option<OsString>,
    ) -> Result<(), Error> {
        let result = match self.kind {
            FlagKind::Switch(set) => {
                set(args);
                Ok(())
            }
            FlagKind::Value { set, .. } | FlagKind::List { set, .. } => {
                set(args, value.as_deref().unwrap_or_default())
            }
            FlagKind::Optional { set, .. } => set(args, value.as_deref()),
        };
        result.map_err(|reason| {
            let shown = value.unwrap_or_default();
            let shown = shown.to_string_lossy();
            let message = format!("`{shown}` is no value for `--{}`: {reason}", self.long);
            usage(Some(command), &message, None)
        })
    }
}

/// The flags of the command, or of all commands while the command is unknown.
pub(super) fn known_flags(
    commands: Table,
    command: Option<&'static Command>,
) -> Vec<&'static Flag> {
    let own = |command: &'static Command| command.flags.iter().copied();
    let flags: Vec<&Flag> = match command {
        Some(command) => own(command).collect(),
        None => commands.iter().copied().flat_map(own).collect(),
    };
    flags.into_iter().chain(GLOBAL_FLAGS.iter().copied()).collect()
}

fn check_counts(
    command: &'static Command,
    operands: &[OsString],
    words: &[OsString],
) -> Result<(), Error> {
    let missing = |operand: &Operand| {
        usage_of(command, format!("`{}` needs the operand {}", command.name, operand.name))
    };
    let needed = |o: &&Operand| matches!(o.count, Count::One | Count::Many);
    if let Some(operand) = command.operands.iter().filter(needed).nth(operands.len()) {
        return Err(missing(operand));
    }
    let is_words = |o: &&Operand| matches!(o.count, Count::Words { .. });
    let limit = command.operands.iter().filter(|o| !is_words(o)).count();
    let unlimited = |o: &Operand| matches!(o.count, Count::Any | Count::Many | Count::Rest);
    if let Some(extra) = operands.get(limit)
        && !command.operands.iter().any(unlimited)
    {
        let extra = extra.to_string_lossy();
        return Err(usage_of(
            command,
            format!("unexpected operand `{extra}` of `{}`", command.name),
        ));
    }
    check_choices(command, operands)?;
    match command.operands.iter().find(is_words) {
        Some(operand) if operand.count == (Count::Words { required: true }) && words.is_empty() => {
            Err(missing(operand))
        }
        _ => Ok(()),
    }
}

fn check_choices(command: &Command, operands: &[OsString]) -> Result<(), Error> {
    for (operand, given) in command.operands.iter().zip(operands) {
        let (choices, given) = (operand.choices, given.to_string_lossy());
        if choices.is_empty() || choices.contains(&&*given) {
            continue;
        }
        let near = nearest(&given, choices.iter().copied());
        let message = format!("`{given}` is no {} of `{}`", operand.name, command.name);
        let error = Error::new(Kind::Usage, did_you_mean(&message, near));
        let known = format!("{} is {}", operand.name, one_of(choices));
        return Err(if near.is_some() { error } else { error.hint(known) });
    }
    Ok(())
}

fn usage(command: Option<&Command>, message: &str, near: Option<&str>) -> Error {
    let error = Error::new(Kind::Usage, did_you_mean(message, near));
    if near.is_some() {
        return error;
    }
    let name = command.map(|command| format!(" {}", command.name)).unwrap_or_default();
    error.hint(format!("`qqmgr help{name}` shows how it is used"))
}

/// A usage error that shows how the command is used.
pub(crate) fn usage_of(command: &Command, message: String) -> Error {
    Error::new(Kind::Usage, message).hint(format!("usage: {}", super::help::synopsis(command)))
}
