//! Resolves what a VM is started with and reached by: its strings, with all placeholders replaced.

use super::choices::{Choices, no_port};
use super::image::{KEY, user};
use super::problems::Problems;
use super::schema::default;
use super::scope::Scope;
use super::vm::{SSH_KEYS, Vm};
use super::{Config, ssh_keywords};
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
    /// Whether all of it could be resolved.
    pub(crate) is_whole: bool,
}

/// A helper: its name, its words, placeholders replaced, and what is pasted in them.
pub(crate) type HelperWords = (String, Vec<Word>, Pasted);
/// An ssh option, placeholders replaced: its name and its values.
pub(crate) type SshSetting = (String, Vec<String>);

/// A VM with the choices of a start, which decide what placeholders stand for. It keeps the
/// problems that are found while strings are resolved: [`Self::checked`] makes one error of them.
pub(crate) struct Resolver<'a> {
    pub(crate) config: &'a Config,
    vm: &'a Vm,
    pub(crate) choices: Choices<'a>,
    scope: Scope<'a>,
    /// The VM's table, that of the VM that it extends, and so on.
    line: Vec<&'a Value>,
    pub(crate) problems: Problems,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(config: &'a Config, vm: &'a Vm, choices: Choices<'a>) -> Self {
        let (scope, line) = (Scope::new(config, vm, choices), config.line(vm));
        Self { config, vm, choices, scope, line, problems: Problems::default() }
    }

    /// Gives a value that was resolved, or the error about all problems so far.
    pub(crate) fn checked<T>(&self, value: T) -> Result<T, Error> {
        self.config.checked(self.problems.sorted(), value)
    }

    /// The text of a string, placeholders replaced.
    fn text(&self, string: &Value) -> Option<String> {
        self.problems.keep(self.scope.render(string))
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

    /// Warnings about the VM's own variables that no string of it asks for.
    pub(crate) fn unused_vars(&self) -> Vec<Problem> {
        self.scope.unused(self.strings().filter_map(Value::as_str).collect())
    }

    /// The names that `--set` takes.
    pub(crate) fn settable(&self) -> BTreeSet<String> {
        self.scope.settable(self.strings().filter_map(Value::as_str).collect())
    }

    /// The command line of the VM, as far as it has no problems.
    pub(crate) fn command(&self) -> Invocation {
        let bin = match self.bin() {
            Some(bin) => self.text(bin).unwrap_or_default(),
            None => default("[qemu]", "bin").to_string(),
        };
        for other in [self.config.qemu("img"), self.nearest("stop_command")].into_iter().flatten() {
            self.text(other);
        }
        let cmd = self.cmd().unwrap_or_else(|| {
            let problem = Problem::new(self.vm.span, format!("VM `{}` has no `cmd`", self.vm.name));
            let hint = "`cmd` has QEMU's arguments: a list of strings, or one string";
            self.problems.add([problem.hint(hint)]);
            Vec::new()
        });
        let (words, pasted, _) = self.command_line(cmd, Pasted::default());
        let port = |value: &Value| Some(Word::plain(self.text(value)?, value.span));
        let ports = self.ports().filter_map(port).collect();
        Invocation { bin, words, ports, pasted, is_whole: self.problems.sorted().is_empty() }
    }

    /// The command that the guest runs before its power button is pressed, placeholders replaced.
    pub(crate) fn stop_command(&self) -> Result<Option<String>, Error> {
        let command = self.nearest("stop_command").and_then(|command| self.text(command));
        // An empty one overrides that of the VM that this one extends.
        self.checked(command.filter(|command| !command.is_empty()))
    }

    /// The value of a key in the VM's table, or in the nearest one that it extends.
    fn nearest(&self, key: &str) -> Option<&'a Value> {
        self.line.iter().find_map(|table| table.get(key))
    }

    /// The names of the VM's helpers.
    pub(crate) fn helper_names(&self) -> Vec<String> {
        self.helper_values().into_iter().map(|(key, _)| key.name.clone()).collect()
    }

    /// The helpers in the order in which they are started, as far as they have no problems.
    pub(crate) fn helpers(&self) -> Vec<HelperWords> {
        let mut helpers = Vec::new();
        for (Key { name, .. }, value) in self.helper_values() {
            let pasted = Pasted::of_helper(name);
            match self.command_line(value.items(), pasted) {
                (_, _, false) => {}
                (words, ..) if words.is_empty() => {
                    let message = format!("helper `{name}` has no program");
                    self.problems.add([Problem::new(value.span, message)]);
                }
                (words, pasted, true) => {
                    self.problems.add(pasted.errors.iter().cloned());
                    helpers.push((name.clone(), words, pasted));
                }
            }
        }
        helpers
    }

    /// The words of a command line, whose strings are in the file, what is pasted in them, and
    /// whether all strings could be resolved.
    fn command_line<'s>(
        &self,
        strings: impl IntoIterator<Item = &'s Value>,
        mut pasted: Pasted,
    ) -> (Vec<Word>, Pasted, bool) {
        let (source, mut words, mut is_whole) = (&self.config.source, Vec::new(), true);
        for string in strings {
            let place = string.places(&source.text);
            let template = Template { text: string.as_str().unwrap_or_default(), place: &place };
            let split = words::split(&template, &mut |placeholder| self.scope.value(placeholder));
            let split = self.problems.keep(split);
            is_whole &= split.is_some();
            let split = split.unwrap_or_default();
            pasted.read(source, string.span, &split);
            words.extend(split);
        }
        (words, pasted, is_whole)
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
        self.checked(self.examine_ssh_options())
    }

    /// The ssh options, as far as they have no problems.
    pub(crate) fn examine_ssh_options(&self) -> Vec<SshSetting> {
        let mut options = Vec::new();
        for (name, value) in self.options() {
            let values = value.items().iter();
            let values = values.filter_map(|value| self.problems.keep(self.ssh_value(value)));
            options.push((name.to_string(), values.collect()));
        }
        self.add_image_options(&mut options);
        options
    }

    /// Warnings about options that ssh probably does not have.
    pub(crate) fn misspelt_options(&self) -> Vec<Problem> {
        let options = || self.ssh_tables().flat_map(Table::iter).map(|(key, _)| key);
        if options().any(|key| key.name.eq_ignore_ascii_case("IgnoreUnknown")) {
            return Vec::new();
        }
        let own = options().filter(|key| !SSH_KEYS.contains(&key.name.as_str()));
        let unknown = own.filter(|key| ssh_keywords::form(&key.name).is_none());
        let misspelt = unknown.filter_map(|key| {
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
        self.config.images().filter(|image| asked.contains(&image.name)).collect()
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
        ssh_keywords::merged(self.ssh_tables(), SSH_KEYS)
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
        let others = [self.bin(), self.config.qemu("img"), self.nearest("stop_command")];
        let others = others.into_iter().flatten().chain(self.ports());
        let strings = self.cmd().into_iter().flatten().chain(helpers).chain(options).chain(others);
        strings.filter(|value| value.as_str().is_some())
    }

    /// Adds the ssh options for the key and the user of the VM's first image with keys, where the
    /// configuration sets none.
    fn add_image_options(&self, options: &mut Vec<SshSetting>) {
        let mut tables = self.images().into_iter().map(|it| (it, self.config.cloud_init(it)));
        let Some((image, table)) = tables.find_map(|(image, table)| {
            Some((image, table.filter(|table| table.get("user_data").is_none())?))
        }) else {
            return;
        };
        let is_set = |name: &str| options.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut ours = Vec::new();
        if !is_set("User") {
            ours.push(("User", user(table).to_string()));
        }
        if table.get("authorized_keys").is_none() && !is_set("IdentityFile") {
            // ssh's own spelling of `%` is `%%`.
            let key = self.config.image_dir(&image.name).join(KEY);
            ours.push(("IdentityFile", key.display().to_string().replace('%', "%%")));
        }
        options.extend(ours.into_iter().map(|(name, value)| (name.to_string(), vec![value])));
    }
}
