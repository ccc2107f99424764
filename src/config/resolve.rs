//! Resolves what a VM is started with and reached by: its strings, with all placeholders replaced.

use super::choices::{Choices, no_port};
use super::image::{KEY, user};
use super::problems::Problems;
use super::schema::default;
use super::scope::Scope;
use super::vm::{SSH_KEYS, Vm};
use super::{Config, ssh_keywords, ssh_options};
use crate::error::Error;
use crate::pasted::Pasted;
use crate::source::{Problem, Span};
use crate::template::Template;
use crate::toml::{Key, Kind, Table, Value};
use crate::words::{self, Word};
use std::collections::BTreeSet;

/// The command line of a VM, placeholders replaced.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The QEMU binary.
    pub(crate) bin: String,
    /// The words of `cmd`, as QEMU gets them.
    pub(crate) words: Vec<Word>,
    /// The texts of `ports`.
    pub(crate) ports: Vec<Word>,
    pub(crate) pasted: Pasted,
}

/// A helper: its name, its words, placeholders replaced, and what is pasted in them.
pub(crate) type HelperWords = (String, Vec<Word>, Pasted);
/// An ssh option, placeholders replaced: its name and its values.
pub(crate) type SshSetting = (String, Vec<String>);

/// A VM with the choices of a start, which decide what placeholders stand for.
pub(crate) struct Resolver<'a, 'c> {
    config: &'a Config,
    vm: &'a Vm,
    choices: Choices<'c>,
    scope: Scope<'c>,
    /// The VM's table, that of the VM that it extends, and so on.
    line: Vec<&'a Value>,
}

impl<'a: 'c, 'c> Resolver<'a, 'c> {
    pub(crate) fn new(config: &'a Config, vm: &'a Vm, choices: Choices<'c>) -> Self {
        let (scope, line) = (Scope::new(config, vm, choices), config.line(vm));
        Self { config, vm, choices, scope, line }
    }

    /// The port on this host where ssh reaches the VM; an error when it is still to be chosen.
    pub(crate) fn ssh_port(&self) -> Result<u16, Error> {
        let problem = || self.config.problem(no_port(self.vm, self.vm.span));
        self.choices.port(self.vm).ok_or_else(problem)
    }

    /// Returns a usage error unless each name that is set is that of a variable: the file sets it,
    /// in `[vars]` or for this VM, or a placeholder of this VM asks for it.
    pub(crate) fn check_set(&self) -> Result<(), Error> {
        if self.choices.set.is_empty() {
            return Ok(());
        }
        let known = self.settable();
        self.choices.set.iter().try_for_each(|(name, _)| self.scope.check_set(name, &known))
    }

    /// The names that `--set` takes.
    pub(crate) fn settable(&self) -> BTreeSet<String> {
        self.scope.settable(self.strings().filter_map(Value::as_str).collect())
    }

    /// The command line of the VM. A name that is set and is not a variable is a usage error.
    pub(crate) fn command(&self) -> Result<Invocation, Error> {
        self.check_set()?;
        let (command, mut problems) = self.examine();
        problems.extend_from_slice(&command.pasted.errors);
        self.config.checked(problems, command)
    }

    /// The command line of the VM, as far as it has no problems, and all problems except those of
    /// pasted words.
    pub(crate) fn examine(&self) -> (Invocation, Vec<Problem>) {
        let mut problems = Problems::default();
        let bin = match self.bin() {
            Some(bin) => problems.keep(self.scope.render(bin)).unwrap_or_default(),
            None => default("[qemu]", "bin").to_string(),
        };
        if let Some(img) = self.config.qemu("img") {
            problems.keep(self.scope.render(img));
        }
        if let Some(command) = self.nearest("stop_command") {
            problems.keep(self.scope.render(command));
        }
        let cmd = self.cmd();
        if cmd.is_none() {
            let problem = Problem::new(self.vm.span, format!("VM `{}` has no `cmd`", self.vm.name));
            problems
                .add(problem.hint("`cmd` has QEMU's arguments: a list of strings, or one string"));
        }
        let strings = cmd.into_iter().flatten();
        let (words, pasted) = self.command_line(strings, Pasted::default(), &mut problems);
        let mut port =
            |value: &Value| Some(Word::plain(problems.keep(self.scope.render(value))?, value.span));
        let ports = self.ports().filter_map(&mut port).collect();
        (Invocation { bin, words, ports, pasted }, problems.0)
    }

    /// The command that the guest runs before its power button is pressed, placeholders replaced.
    pub(crate) fn stop_command(&self) -> Result<Option<String>, Error> {
        let command = self.nearest("stop_command").map(|command| self.scope.render(command));
        let command = command.transpose().map_err(|problem| self.config.problem(problem))?;
        // An empty one overrides that of the VM that this one extends.
        Ok(command.filter(|command| !command.is_empty()))
    }

    /// The value of a key in the VM's table, or in the nearest one that it extends.
    fn nearest(&self, key: &str) -> Option<&'a Value> {
        self.line.iter().find_map(|table| table.get(key))
    }

    /// The names of the VM's helpers.
    pub(crate) fn helper_names(&self) -> Vec<String> {
        self.helper_values().into_iter().map(|(key, _)| key.name.clone()).collect()
    }

    /// The helpers in the order in which they are started.
    pub(crate) fn helpers(&self) -> Result<Vec<HelperWords>, Error> {
        let (helpers, problems) = self.examine_helpers();
        self.config.checked(problems, helpers)
    }

    /// The helpers as far as they have no problems, and all problems.
    pub(crate) fn examine_helpers(&self) -> (Vec<HelperWords>, Vec<Problem>) {
        let mut problems = Problems::default();
        let mut helpers = Vec::new();
        for (key, value) in self.helper_values() {
            let (before, pasted) = (problems.0.len(), Pasted::of_helper(&key.name));
            let (words, pasted) = self.command_line(value.items().iter(), pasted, &mut problems);
            if words.is_empty() && problems.0.len() == before {
                let message = format!("helper `{}` has no program", key.name);
                problems.add(Problem::new(value.span, message));
            }
            if problems.0.len() == before {
                pasted.errors.iter().for_each(|error| problems.add(error.clone()));
                helpers.push((key.name.clone(), words, pasted));
            }
        }
        (helpers, problems.0)
    }

    /// The words of a command line, whose strings are in the file, and what is pasted in them.
    fn command_line<'s>(
        &self,
        strings: impl Iterator<Item = &'s Value>,
        mut pasted: Pasted,
        problems: &mut Problems,
    ) -> (Vec<Word>, Pasted) {
        let (source, mut words) = (&self.config.source, Vec::new());
        for string in strings {
            let place = string.places(&source.text);
            let template = Template { text: string.as_str().unwrap_or_default(), place: &place };
            let split = words::split(&template, &mut |placeholder| self.scope.value(placeholder));
            let split = problems.keep(split).unwrap_or_default();
            pasted.read(source, string.span, &split);
            words.extend(split);
        }
        (words, pasted)
    }

    /// The helpers that the VM inherits, in their order, then its own. A helper of the same name
    /// takes the place of the inherited one.
    fn helper_values(&self) -> Vec<(&'a Key, &'a Value)> {
        let mut helpers: Vec<(&Key, &Value)> = Vec::new();
        let tables = self.line.iter().rev().filter_map(|table| table.get("helpers")?.as_table());
        for (key, value) in tables.flat_map(Table::iter) {
            match helpers.iter_mut().find(|(other, _)| other.name == key.name) {
                Some(other) => *other = (key, value),
                None => helpers.push((key, value)),
            }
        }
        helpers
    }

    /// The options of the VM's generated file, placeholders replaced.
    pub(crate) fn ssh_options(&self) -> Result<Vec<SshSetting>, Error> {
        let mut problems = Problems::default();
        let mut options = Vec::new();
        for (name, value) in self.options() {
            let values = value.items().iter();
            let values = values.filter_map(|value| problems.keep(self.ssh_value(value)));
            options.push((name.to_string(), values.collect()));
        }
        self.add_image_options(&mut options)?;
        self.config.checked(problems.0, options)
    }

    /// Warnings about options that ssh probably does not have.
    pub(crate) fn misspelt_options(&self) -> Vec<Problem> {
        let options = self.ssh_tables().flat_map(Table::iter);
        let options: Vec<&Key> = options.map(|(key, _)| key).collect();
        if options.iter().any(|key| key.name.eq_ignore_ascii_case("IgnoreUnknown")) {
            return Vec::new();
        }
        let own = options.into_iter().filter(|key| !SSH_KEYS.contains(&key.name.as_str()));
        let misspelt =
            own.filter(|key| ssh_keywords::form(&key.name).is_none()).filter_map(|key| {
                let problem = Problem::new(key.span, format!("ssh has no option `{}`", key.name));
                Some(problem.did_you_mean(Some(ssh_keywords::near(&key.name)?)))
            });
        misspelt.collect()
    }

    /// The strings that an option of ssh is set to, and their places. [`Self::ssh_options`] reports
    /// the problems in them.
    pub(crate) fn ssh_texts(&self, keyword: &str) -> Vec<(String, Span)> {
        let options = self.options().into_iter();
        let values = options
            .filter(|(name, _)| name.eq_ignore_ascii_case(keyword))
            .flat_map(|(_, value)| value.items())
            .filter(|value| value.as_str().is_some());
        values.filter_map(|value| Some((self.ssh_value(value).ok()?, value.span))).collect()
    }

    /// The images whose paths are part of what the VM is started with, in file order. Problems in a
    /// string are reported when it is used.
    pub(crate) fn images(&self) -> Vec<&'a Key> {
        if self.config.images().next().is_none() {
            return Vec::new();
        }
        for string in self.strings() {
            let _ = self.scope.render(string);
        }
        let asked = self.scope.images.borrow();
        self.config.images().filter(|image| asked.contains(image.name.as_str())).collect()
    }

    /// The QEMU of the VM, or that of all VMs, if the file sets one.
    pub(crate) fn bin(&self) -> Option<&'a Value> {
        let bin = self.nearest("qemu").or(self.config.qemu("bin"));
        // `check` looks at VMs even if `bin` is wrong.
        bin.filter(|bin| bin.as_str().is_some())
    }

    /// The nearest `cmd` and what is appended to it from there on; `None` when there is neither.
    fn cmd(&self) -> Option<Vec<&'a Value>> {
        let mut parts = Vec::new();
        for table in &self.line {
            parts.extend(table.get("cmd_append"));
            if let Some(cmd) = table.get("cmd") {
                parts.push(cmd);
                break;
            }
        }
        let words = parts.iter().rev().flat_map(|part| part.items()).collect();
        (!parts.is_empty()).then_some(words)
    }

    fn ports(&self) -> impl Iterator<Item = &'a Value> {
        self.nearest("ports").into_iter().flat_map(Value::items)
    }

    /// The options of `[ssh]` and of the VM, the VM's own winning.
    fn options(&self) -> Vec<(&'a str, &'a Value)> {
        ssh_options::merged(self.ssh_tables(), SSH_KEYS)
    }

    fn ssh_tables(&self) -> impl Iterator<Item = &'a Table> {
        let own = self.line.iter().rev().filter_map(|table| table.get("ssh"));
        self.config.root.get("ssh").into_iter().chain(own).filter_map(Value::as_table)
    }

    /// The value of an option as ssh reads it.
    fn ssh_value(&self, value: &Value) -> Result<String, Problem> {
        match value.kind {
            Kind::Boolean(on) => return Ok(if on { "yes" } else { "no" }.to_string()),
            Kind::Integer(_) => return Ok(self.config.source.at(value.span).to_string()),
            _ => {}
        }
        let text = self.scope.render(value)?;
        if text.contains(['\n', '\r', '\0']) {
            return Err(Problem::new(value.span, "an ssh option cannot contain a line break"));
        }
        Ok(text)
    }

    /// All strings that the VM is started and stopped with.
    fn strings(&self) -> impl Iterator<Item = &'a Value> {
        let options = self.options().into_iter().flat_map(|(_, value)| value.items());
        let helpers = self.helper_values().into_iter().flat_map(|(_, value)| value.items());
        let helpers = helpers.chain(self.ports());
        let others = [self.bin(), self.config.qemu("img"), self.nearest("stop_command")];
        let others = others.into_iter().flatten();
        let strings = self.cmd().into_iter().flatten().chain(helpers).chain(options).chain(others);
        strings.filter(|value| value.as_str().is_some())
    }

    /// Adds the ssh options for the key and the user of the VM's first image with keys, where the
    /// configuration sets none.
    fn add_image_options(&self, options: &mut Vec<SshSetting>) -> Result<(), Error> {
        let mut tables = self.images().into_iter().map(|it| (it, self.config.cloud_init(it)));
        let Some((image, table)) = tables.find_map(|(image, table)| {
            Some((image, table.filter(|table| table.get("user_data").is_none())?))
        }) else {
            return Ok(());
        };
        let is_set = |name: &str| options.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut ours = Vec::new();
        if !is_set("User") {
            ours.push(("User", user(table).to_string()));
        }
        if table.get("authorized_keys").is_none() && !is_set("IdentityFile") {
            // ssh's own spelling of `%` is `%%`.
            let key = self.config.image_paths(&image.name)?.file(KEY);
            ours.push(("IdentityFile", key.display().to_string().replace('%', "%%")));
        }
        options.extend(ours.into_iter().map(|(name, value)| (name.to_string(), vec![value])));
        Ok(())
    }
}
