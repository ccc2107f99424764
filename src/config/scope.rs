//! The variables that one VM's strings can use. Each is resolved once, when it is asked for.

use super::Config;
use super::choices::{Choices, no_port};
use super::vm::Vm;
use crate::error::Error;
use crate::source::Problem;
use crate::template::{Placeholder, Template, render};
use crate::text::nearest;
use crate::toml::{self, Key, Table, Value};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::ptr;
use std::rc::Rc;

/// How deep variables may use each other.
const DEPTH_MAX: usize = 64;
/// Names that exist without being set, which a start cannot set, and where their values come from.
const FACTS: &[(&str, &str)] = &[
    ("vm.name", "a VM's name is that of its table, `[vm.NAME]`"),
    ("vm.dir", "a VM's directory follows from its name and from where the configuration is"),
    ("vm.ssh.port", "the port is `port` in `[vm.NAME.ssh]`"),
    ("vm.ssh.vm_port", "the guest's port is `vm_port` in `[vm.NAME.ssh]`"),
];

pub(super) struct Scope<'a> {
    pub(super) config: &'a Config,
    /// Absent for strings that belong to no VM: those of images.
    vm: Option<&'a Vm>,
    /// The tables of the VM's variables, its own first, then those that it takes over.
    vm_vars: Vec<&'a Table>,
    /// The table of the variables of all VMs, if there is one.
    vars: Vec<&'a Table>,
    choices: Choices<'a>,
    resolved: RefCell<HashMap<String, Rc<str>>>,
    /// The variables that are being resolved, each used by the one before it.
    pending: RefCell<Vec<String>>,
    /// The images whose paths are part of what has been rendered.
    pub(super) images: RefCell<BTreeSet<String>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(config: &'a Config, vm: &'a Vm, choices: Choices<'a>) -> Self {
        let tables = config.line(vm).into_iter();
        let vm_vars = tables.filter_map(|table| table.get("vars")?.as_table()).collect();
        Self { vm: Some(vm), vm_vars, choices, ..Self::global(config) }
    }

    /// The scope of strings that belong to no VM.
    pub(super) fn global(config: &'a Config) -> Self {
        let choices = Choices::default();
        let (resolved, pending, images, vm_vars) = Default::default();
        let vars = config.root.get("vars").and_then(Value::as_table).into_iter().collect();
        Self { config, vm: None, vm_vars, vars, choices, resolved, pending, images }
    }

    /// Replaces the placeholders in a string of the file.
    pub(super) fn render(&self, string: &Value) -> Result<String, Problem> {
        let place = string.places(&self.config.source.text);
        let template = Template { text: string.as_str().unwrap_or_default(), place: &place };
        render(&template, &mut |placeholder| self.value(placeholder))
    }

    /// The value of a placeholder, as text.
    pub(super) fn value(&self, placeholder: &Placeholder) -> Result<Rc<str>, Problem> {
        if let Some(value) = self.resolved.borrow().get(&placeholder.name) {
            return Ok(Rc::clone(value));
        }
        self.check_ring(placeholder)?;
        self.pending.borrow_mut().push(placeholder.name.clone());
        let value = self.find(placeholder);
        self.pending.borrow_mut().pop();
        let value: Rc<str> = value?.into();
        self.resolved.borrow_mut().insert(placeholder.name.clone(), Rc::clone(&value));
        Ok(value)
    }

    fn check_ring(&self, placeholder: &Placeholder) -> Result<(), Problem> {
        let pending = self.pending.borrow();
        if let Some(first) = pending.iter().position(|name| *name == placeholder.name) {
            let names = pending[first..].iter().chain([&placeholder.name]);
            let ring: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let message = format!("variables use each other in a ring: {}", ring.join(" -> "));
            return Err(Problem::new(placeholder.span, message));
        }
        if pending.len() >= DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} variables use each other in a row");
            return Err(Problem::new(placeholder.span, message));
        }
        Ok(())
    }

    /// Looks up a name. A variable that was set at the start wins and is used as it is; then come
    /// the file's variables, then the built-in ones.
    fn find(&self, placeholder: &Placeholder) -> Result<String, Problem> {
        let name = &placeholder.name;
        if let Some((_, value)) = self.choices.set.iter().rfind(|(set, _)| set == name) {
            return Ok(value.clone());
        }
        let Some(value) = self.in_file(name) else { return self.built_in(placeholder) };
        match &value.kind {
            toml::Kind::String(_) => self.render(value),
            toml::Kind::Integer(_) | toml::Kind::Float | toml::Kind::Boolean(_) => {
                Ok(self.config.source.at(value.span).to_string())
            }
            toml::Kind::Array(_) | toml::Kind::Table(_) => {
                let message = format!("`{name}` is {}", value.kind.type_name());
                Err(Problem::new(placeholder.span, message)
                    .hint("a placeholder stands for a string, a number or a boolean"))
            }
        }
    }

    fn in_file(&self, name: &str) -> Option<&Value> {
        match name.strip_prefix("vm.") {
            Some(of_vm) => lookup(&self.vm_vars, of_vm),
            None => lookup(&self.vars, name),
        }
    }

    /// The names that placeholders in these texts ask for, including those in the file's variables
    /// that they lead to. Problems in a text are reported when it is used.
    pub(super) fn asked<'t>(&'t self, mut texts: Vec<&'t str>) -> BTreeSet<String> {
        let mut asked = BTreeSet::new();
        while let Some(text) = texts.pop() {
            let template = Template { text, place: &|span| span };
            let _ = render(&template, &mut |placeholder| {
                let name = &placeholder.name;
                if asked.insert(name.clone())
                    && let Some(Value { kind: toml::Kind::String(text), .. }) = self.in_file(name)
                {
                    texts.push(text);
                }
                Ok("".into())
            });
        }
        asked
    }

    /// The names that a start may set: those of the file's variables and of the placeholders in
    /// these texts.
    pub(super) fn settable(&self, texts: Vec<&str>) -> BTreeSet<String> {
        let (mut known, mut found) = (self.asked(texts), Vec::new());
        self.vars.iter().for_each(|table| names(table, "", &mut found));
        self.vm_vars.iter().for_each(|table| names(table, "vm.", &mut found));
        // A table of this VM may hide what another VM has at the same name.
        known.extend(found.into_iter().filter(|name| self.in_file(name).is_some()));
        known.retain(|name| FACTS.iter().all(|(fact, _)| fact != name));
        known
    }

    /// Warnings about the VM's own variables that none of these texts asks for. A VM that another
    /// one extends may have them for that one.
    pub(super) fn unused(&self, texts: Vec<&str>) -> Vec<Problem> {
        let asked = self.asked(texts);
        let asked = asked.iter().filter_map(|name| name.strip_prefix("vm.")?.split('.').next());
        let asked: BTreeSet<&str> = asked.collect();
        let Some(vm) = self.vm else { return Vec::new() };
        let own = self.config.line(vm).into_iter().next();
        let bases = |vm| self.config.line(vm).into_iter().skip(1);
        let mut bases = self.config.vms.iter().flat_map(bases);
        let own = own.filter(|own| !bases.any(|base| ptr::eq(base, *own)));
        let own = own.and_then(|table| table.get("vars")?.as_table());
        let keys = own.into_iter().flat_map(Table::iter).map(|(key, _)| key);
        let warning = |Key { name, span }: &Key| {
            let message = format!("nothing uses the variable `{name}` of VM `{}`", vm.name);
            let hint = format!("it is `{{{{.vm.{name}}}}}`; `{{{{.{name}}}}}` is one of `[vars]`");
            Problem::new(*span, message).hint(hint)
        };
        keys.filter(|key| !asked.contains(key.name.as_str())).map(warning).collect()
    }

    /// Returns an error unless `name` is one of the names that are `known` to be settable.
    pub(super) fn check_set(&self, name: &str, known: &BTreeSet<String>) -> Result<(), Error> {
        if let Some((_, hint)) = FACTS.iter().find(|(fact, _)| *fact == name) {
            let message = format!("`{name}` cannot be set: it is not a variable");
            return Err(Error::usage(message).hint(*hint));
        }
        if known.contains(name) {
            return Ok(());
        }
        let of_vm = |a: &str, b: &str| a.strip_prefix("vm.") == Some(b);
        let same = known.iter().find(|other| of_vm(other, name) || of_vm(name, other));
        let near = same.map(String::as_str);
        let near = near.or_else(|| nearest(name, known.iter().map(String::as_str)));
        let vm = self.vm.map(|vm| vm.name.as_str()).unwrap_or_default();
        let message = format!("VM `{vm}` has no variable `{name}`");
        let hint = "the configuration neither sets it nor uses it in a placeholder of this VM";
        Err(Error::usage(message).hint(hint).did_you_mean(near))
    }

    fn built_in(&self, placeholder: &Placeholder) -> Result<String, Problem> {
        let utf8 = |path: &Path| {
            path.to_str().map(str::to_string).ok_or_else(|| {
                let message = format!("`{}` is not UTF-8: {}", placeholder.name, path.display());
                Problem::new(placeholder.span, message)
            })
        };
        match (placeholder.name.as_str(), self.vm) {
            ("vm.name", Some(vm)) => Ok(vm.name.clone()),
            ("vm.dir", Some(vm)) => utf8(&self.config.vm_dir(&vm.name)),
            ("vm.ssh.port", Some(vm)) => match self.choices.port(vm) {
                Some(port) => Ok(port.to_string()),
                None => Err(no_port(vm, placeholder.span)),
            },
            ("vm.ssh.vm_port", Some(vm)) => Ok(vm.vm_port.to_string()),
            ("config_dir", _) => utf8(self.config.dir()),
            (name, vm) => match (name.strip_prefix("env."), name.strip_prefix("img.")) {
                (Some(variable), _) => environment(variable, placeholder),
                (_, Some(image)) if vm.is_some() => utf8(&self.image(image, placeholder)?),
                _ => Err(self.unknown(placeholder)),
            },
        }
    }

    /// The path of an image, `NAME`, or of its seed, `NAME.seed`.
    fn image(&self, name: &str, placeholder: &Placeholder) -> Result<PathBuf, Problem> {
        let (name, is_seed) = match name.strip_suffix(".seed") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let Some(image) = self.config.images().find(|image| image.name == name) else {
            return Err(self.unknown(placeholder));
        };
        if is_seed && self.config.cloud_init(image).is_none() {
            let message = format!("image `{name}` has no seed");
            let hint = format!("`[img.{name}.cloud_init]` says what is in it");
            return Err(Problem::new(placeholder.span, message).hint(hint));
        }
        let paths = self.config.image_paths(name);
        let paths = paths.map_err(|error| error.at(placeholder.span))?;
        self.images.borrow_mut().insert(image.name.clone());
        Ok(if is_seed { paths.seed } else { paths.disk })
    }

    /// A hint about a key with dots in it: in a placeholder, dots lead into tables.
    fn quoted(&self, name: &str) -> Option<String> {
        let (tables, key, header) = match name.strip_prefix("vm.") {
            Some(of_vm) => (&self.vm_vars, of_vm, "[vm.NAME.vars]"),
            None => (&self.vars, name, "[vars]"),
        };
        let is_there = key.contains('.') && tables.iter().any(|table| table.get(key).is_some());
        is_there
            .then(|| format!("in `{header}`, write `{key} = ...` without quotes around the key"))
    }

    fn unknown(&self, placeholder: &Placeholder) -> Problem {
        let built_in = FACTS.iter().map(|(name, _)| *name).chain(["config_dir"]);
        let mut known: Vec<String> = built_in.map(str::to_string).collect();
        known.extend(self.config.images().flat_map(|image| {
            let seed = self.config.cloud_init(image).map(|_| format!("img.{}.seed", image.name));
            seed.into_iter().chain([format!("img.{}", image.name)])
        }));
        known.extend(self.settable(Vec::new()));
        if self.vm.is_none() {
            known.retain(|name| !name.starts_with("vm.") && !name.starts_with("img."));
        }
        let near = nearest(&placeholder.name, known.iter().map(String::as_str));
        let message = format!("there is no variable `{}`", placeholder.name);
        if let Some(quoted) = self.quoted(&placeholder.name) {
            return Problem::new(placeholder.span, message).hint(quoted);
        }
        let hint = match placeholder.name.split('.').next() {
            Some("img") if self.vm.is_some() => "images are declared in `[img.NAME]`",
            Some("img" | "vm") if self.vm.is_none() => "this string belongs to no VM",
            _ => "variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`",
        };
        Problem::new(placeholder.span, message).hint(hint).did_you_mean(near)
    }
}

fn environment(variable: &str, placeholder: &Placeholder) -> Result<String, Problem> {
    let value = std::env::var(variable).map_err(|error| match error {
        std::env::VarError::NotPresent => "is not set",
        std::env::VarError::NotUnicode(_) => "is not UTF-8",
    });
    value.map_err(|what| {
        let message = format!("the environment variable `{variable}` {what}");
        Problem::new(placeholder.span, message)
            .hint(format!("set it, or `{variable}` in `[vars.env]`, which takes precedence"))
    })
}

/// The value at a dotted name in tables that are merged key by key, the first one winning.
fn lookup<'t>(tables: &[&'t Table], name: &str) -> Option<&'t Value> {
    let (key, rest) = name.split_once('.').map_or((name, None), |(key, rest)| (key, Some(rest)));
    let mut found = tables.iter().filter_map(|table| table.get(key));
    match rest {
        None => found.next(),
        Some(rest) => lookup(&found.map_while(Value::as_table).collect::<Vec<_>>(), rest),
    }
}

/// Collects the dotted names of all values that are not tables.
fn names(table: &Table, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in table.iter() {
        match &value.kind {
            toml::Kind::Table(inner) => names(inner, &format!("{prefix}{}.", key.name), out),
            // No placeholder leads to a key that has a dot in it.
            _ if key.name.contains('.') => {}
            _ => out.push(format!("{prefix}{}", key.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first table wins key by key. A value that is not a table hides a table in a later one,
    /// and is hidden by a table in an earlier one.
    #[test]
    fn tables_are_merged_key_by_key() {
        let parsed = ["t.y.z = 'own'\na = 'own'\nu.x = 1\nv = 'own'\n", "u = 1\nt.y.n = 1\n"]
            .into_iter()
            .chain(["a = 1\nt.x = 1\nt.y.z = 1\nu.old = 1\nv.w = 1\nk = 1\n"])
            .map(|text| toml::parse(text).unwrap())
            .collect::<Vec<Table>>();
        let tables: Vec<&Table> = parsed.iter().collect();
        for (name, expected) in [
            ("a", Some("a string")),
            ("k", Some("an integer")),
            ("t", Some("a table")),
            ("t.x", Some("an integer")),
            ("t.y.z", Some("a string")),
            ("t.y.n", Some("an integer")),
            ("u.x", Some("an integer")),
            ("u.old", None),
            ("v", Some("a string")),
            ("v.w", None),
            ("n", None),
            ("a.b", None),
        ] {
            let found = lookup(&tables, name).map(|value| value.kind.type_name());
            assert_eq!(found, expected, "{name}");
        }
    }
}
