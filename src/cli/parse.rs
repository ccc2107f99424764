//! Turns tokens and the table into a command and its [`Args`], or a usage error.
//!
//! Flags may come before the command, so they are kept until it is known and then checked. A name
//! has the same meaning in every command that has it (a test checks this).

use super::args::{Args, Detached};
use super::flag::{AnyFlag, GLOBAL_FLAGS, HELP, Takes, VERSION};
use super::help::synopsis;
use super::lex::{Lexer, Token};
use super::names::{find_command, other_flag, swapped};
use super::spec::{ALL, Command, Count, EVERYWHERE, Operand, Table};
use crate::error::Error;
use crate::text::{command_line, listed, nearest};
use std::ffi::{OsStr, OsString};

/// A command line, and what decides how its outcome is reported: the command and `--json`.
pub(crate) struct Line {
    pub(crate) command: Option<&'static Command>,
    pub(crate) json: bool,
    pub(crate) parsed: Result<Parsed, Error>,
}

pub(crate) enum Parsed {
    Run(&'static Command, Args),
    Help,
    Version,
}

/// Parses `argv`, which does not include the program's name.
pub(crate) fn parse(commands: Table, argv: &[OsString]) -> Line {
    let mut words = Words::new(commands);
    let read = words.read(Lexer::new(argv.to_vec()));
    let is_seen = || argv.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let json = words.args.json() || read.is_err() && is_seen();
    let parsed = read.and_then(|()| words.finish());
    let form = match words.command {
        None => swapped(commands, argv),
        Some(command) => words.operands_at.and_then(|at| {
            let (before, operands) = argv.split_at(at);
            let form = (command.right_form)(operands)?;
            Some(format!("{}{}", command_line(before), form.strip_prefix(command.name)?))
        }),
    };
    let form = form.map(|form| format!("the form is `qqmgr {form}`"));
    let form = form.or_else(|| words.with_dashes(argv));
    let parsed = match parsed {
        Ok(Parsed::Run(command, args)) => {
            Ok(Parsed::Run(command, Args { right_form: form, ..args }))
        }
        other => other.map_err(|error| error.hint_if(form)),
    };
    Line { command: words.command, json, parsed }
}

/// The words of a command line that have been read so far.
pub(super) struct Words<'a> {
    pub(super) commands: Table<'a>,
    pub(super) command: Option<&'static Command>,
    pub(super) args: Args,
    /// The index of the first operand.
    operands_at: Option<usize>,
    /// The index of the first word that probably belongs after `--`.
    dashes_at: Option<usize>,
}

impl<'a> Words<'a> {
    pub(super) fn new(commands: Table<'a>) -> Self {
        Self { commands, command: None, args: Args::default(), operands_at: None, dashes_at: None }
    }

    fn read(&mut self, mut lexer: Lexer) -> Result<(), Error> {
        let count = lexer.left();
        while let Some(token) = lexer.next().map(|token| self.whole(token, &lexer)) {
            let at = count - lexer.left() - 1;
            if self.dashes_at.is_none() && self.is_for_dashes(&token, &lexer) {
                self.dashes_at = Some(at);
            }
            if self.command.is_some() && matches!(token, Token::Word(_)) {
                self.operands_at.get_or_insert(at);
            }
            match token {
                Token::Word(word) => self.word(word)?,
                Token::Flag(spelled) => self.flag(&mut lexer, &spelled)?,
                Token::End if self.takes_words() => self.args.words = lexer.rest(),
                Token::End => {}
            }
            if self.rest_follows() {
                self.args.operands.extend(lexer.rest());
            }
        }
        Ok(())
    }

    /// Whether the token, which follows the VM, probably belongs after `--`: it is an unknown flag
    /// with one dash, or a word too many. Another tool's flag at the end is not QEMU's.
    fn is_for_dashes(&self, token: &Token, lexer: &Lexer) -> bool {
        let ([_], Some(command)) = (self.args.operands.as_slice(), self.command) else {
            return false;
        };
        let is_other = |flag| lexer.left() == 0 && other_flag(command.name, flag).is_some();
        self.takes_words()
            && match token {
                Token::Flag(flag) if flag.starts_with("--") || is_other(flag) => false,
                Token::Flag(flag) => self.find_flag(flag).is_none(),
                Token::Word(_) => command.operands[0].count == Count::One,
                Token::End => false,
            }
    }

    /// Makes one flag of a word such as `-cpu`, which stands after a VM and belongs after `--`. The
    /// FILE in `-cFILE` has a dot or a slash there.
    fn whole(&self, token: Token, lexer: &Lexer) -> Token {
        let is_after_vm = self.takes_words() && !self.args.operands.is_empty();
        let rest = lexer.cluster.as_deref().map(OsStr::to_string_lossy).unwrap_or_default();
        let Token::Flag(name) = &token else { return token };
        let takes_it = self.find_flag(name).is_some_and(|flag| flag.info().requires_value());
        let is_word = is_after_vm && takes_it && !rest.contains(['.', '/']);
        if is_word { Token::Flag(format!("{name}{rest}")) } else { token }
    }

    /// A hint that shows the command line with the missing `--`. Our flags stand before it.
    fn with_dashes(&self, argv: &[OsString]) -> Option<String> {
        let (before, after) = argv.split_at(self.dashes_at?);
        let (mut own, mut words) = (before.to_vec(), vec!["--".into()]);
        let mut after = after.iter().cloned();
        while let Some(word) = after.next() {
            match word.to_str().and_then(|word| self.find_flag(word)) {
                Some(flag) if flag.info().requires_value() => {
                    own.extend([word].into_iter().chain(after.next()));
                }
                Some(_) => own.push(word),
                None => words.push(word),
            }
        }
        let name = self.command?.operands.last()?.name;
        Some(format!("{name} follow `--`: `qqmgr {}`", command_line([own, words].concat())))
    }

    pub(super) fn word(&mut self, word: OsString) -> Result<(), Error> {
        match self.command {
            Some(_) => self.args.operands.push(word),
            None => self.command = Some(find_command(self.commands, &word.to_string_lossy())?),
        }
        Ok(())
    }

    fn flag(&mut self, lexer: &mut Lexer, spelled: &str) -> Result<(), Error> {
        let refused = |message: String| Err(usage(self.command, &message, None));
        let Some(flag) = self.find_flag(spelled) else {
            return Err(self.unknown_flag(spelled));
        };
        let info = flag.info();
        let value = match info.takes {
            Takes::Value(name) | Takes::Values(name) => match lexer.value() {
                Some(value) => value,
                None => return refused(format!("`{spelled}` needs a value: `{spelled} {name}`")),
            },
            Takes::Nothing if lexer.attached_value().is_some() => {
                return refused(format!("`{spelled}` takes no value"));
            }
            Takes::Nothing => OsString::new(),
            Takes::Optional { default, .. } => lexer.attached_value().unwrap_or_else(|| {
                let follows = lexer.peek().filter(|word| flag.check(word).is_ok());
                let detached = |word: &OsStr| Detached { flag: info.long, word: word.into() };
                self.args.detached = follows.map(detached);
                default.into()
            }),
        };
        let once = matches!(info.takes, Takes::Value(_) | Takes::Optional { .. });
        if once && self.args.flags.iter().any(|(given, _)| *given == info.long) {
            return refused(format!("`{spelled}` is given twice"));
        }
        self.args.flags.push((info.long, value));
        Ok(())
    }

    /// Finds the flag that `spelled`, dashes included, names here.
    pub(super) fn find_flag(&self, spelled: &str) -> Option<&'static dyn AnyFlag> {
        let known = known_flags(self.commands, self.command);
        known.into_iter().find(|flag| flag.info().is_spelled(spelled))
    }

    fn unknown_flag(&self, spelled: &str) -> Error {
        let known = known_flags(self.commands, self.command).into_iter();
        // Without the dashes, which would make short names look nearer than they are.
        let near = nearest(spelled.trim_start_matches('-'), known.map(|flag| flag.info().long));
        let near = near.map(|name| format!("--{name}"));
        let message = match self.command {
            Some(command) => format!("`{}` has no flag `{spelled}`", command.name),
            None => format!("unknown flag `{spelled}`"),
        };
        let other = self.command.and_then(|command| other_flag(command.name, spelled));
        usage(self.command, &message, near.as_deref().filter(|_| other.is_none())).hint_if(other)
    }

    pub(super) fn rest_follows(&self) -> bool {
        let next = |command: &Command| {
            command.operands.get(self.args.operands.len()).map(|operand| operand.count)
        };
        self.command.and_then(next) == Some(Count::Rest)
    }

    pub(super) fn takes_words(&self) -> bool {
        self.command.is_some_and(|command| command.operands.iter().any(Operand::is_words))
    }

    fn finish(&mut self) -> Result<Parsed, Error> {
        let args = std::mem::take(&mut self.args);
        if args.has(&HELP) {
            return Ok(Parsed::Help);
        }
        if args.has(&VERSION) {
            return Ok(Parsed::Version);
        }
        let Some(command) = self.command else {
            return Err(Error::usage("no command given").hint("`qqmgr help` lists the commands"));
        };
        let detached = args.detached.as_ref().map(Detached::hint);
        check_operands(command, &args).map_err(|error| error.hint_if(detached))?;
        for (long, value) in &args.flags {
            let Some(own) = command.flag(|name| name == *long) else {
                let message = format!("`{}` has no flag `--{long}`", command.name);
                return Err(usage_of(command, message));
            };
            let has = |name: &str| args.flags.iter().any(|(given, _)| *given == name);
            if let Some((_, why)) = own.info().needs.filter(|(other, _)| !has(other)) {
                return Err(usage_of(command, format!("`--{long}` {why}")));
            }
            own.check(value).map_err(|reason| {
                let shown = value.to_string_lossy();
                let message = format!("invalid value `{shown}` for `--{long}`: {reason}");
                usage(Some(command), &message, None)
            })?;
        }
        (command.check)(&args).map_err(|error| error.or_hint(usage_hint(command)))?;
        let takes_all = command.flag(|name| name == ALL.info().long).is_some();
        if args.has(&EVERYWHERE) && (args.config().is_some() || !args.operands.is_empty()) {
            let message = "`--everywhere` is for all configurations, and takes no VM and no `-c`";
            return Err(usage_of(command, message));
        }
        let has_all = args.has(&ALL) || args.has(&EVERYWHERE);
        if takes_all && has_all != args.operands.is_empty() {
            let (both, none) = ("takes VMs or `--all`, not both", "needs a VM, or `--all`");
            let what = if args.has(&ALL) { both } else { none };
            return Err(usage_of(command, format!("`{}` {what}", command.name)));
        }
        Ok(Parsed::Run(command, args))
    }
}

/// The flags of the command, or of all commands while the command is unknown.
pub(super) fn known_flags(
    commands: Table,
    command: Option<&'static Command>,
) -> Vec<&'static dyn AnyFlag> {
    let is_meant = |row: &&Command| command.is_none_or(|command| command.name == row.name);
    let rows = commands.iter().map(|(_, row)| *row).filter(is_meant);
    rows.flat_map(|row| row.flags).chain(GLOBAL_FLAGS).copied().collect()
}

fn check_operands(command: &Command, args: &Args) -> Result<(), Error> {
    let operands = &args.operands;
    let needed = |o: &&Operand| matches!(o.count, Count::One | Count::Many);
    if let Some(operand) = command.operands.iter().filter(needed).nth(operands.len()) {
        let message = format!("`{}` needs the operand {}", command.name, operand.name);
        return Err(usage_of(command, message));
    }
    let limit = command.operands.iter().filter(|operand| !operand.is_words()).count();
    let unlimited = |o: &Operand| matches!(o.count, Count::Any | Count::Many | Count::Rest);
    if let Some(extra) = operands.get(limit)
        && !command.operands.iter().any(unlimited)
    {
        let message = format!("unexpected operand `{}` of `{}`", extra.display(), command.name);
        return Err(usage_of(command, message));
    }
    for (operand, given) in command.operands.iter().zip(operands) {
        let (choices, given) = (operand.choices, given.to_string_lossy());
        if choices.is_empty() || choices.contains(&&*given) {
            continue;
        }
        let near = nearest(&given, choices.iter().copied());
        let message = format!("unknown {} `{given}` of `{}`", operand.name, command.name);
        let known = format!("{} is {}", operand.name, listed(choices, "or"));
        return Err(Error::usage(message).hint(known).did_you_mean(near));
    }
    Ok(())
}

fn usage(command: Option<&Command>, message: &str, near: Option<&str>) -> Error {
    let name = command.map(|command| format!(" {}", command.name)).unwrap_or_default();
    let hint = format!("`qqmgr help{name}` shows how it is used");
    Error::usage(message).hint(hint).did_you_mean(near)
}

/// Refuses a command line for the first reason that is true.
pub(crate) fn refuse_if(reasons: &[(bool, &str)]) -> Result<(), Error> {
    let first = reasons.iter().find(|(holds, _)| *holds);
    first.map_or(Ok(()), |(_, reason)| Err(Error::usage(*reason)))
}

/// A usage error that shows how the command is used.
pub(crate) fn usage_of(command: &Command, message: impl Into<String>) -> Error {
    Error::usage(message).hint(usage_hint(command))
}

fn usage_hint(command: &Command) -> String {
    format!("usage: {}", synopsis(command))
}
