//! Decodes the TOML into the model. Every rule of qqmgr.toml(5) about keys and types is here; all
//! problems are collected, each with its place.

use super::extends::{self, Draft};
use super::model::{BOOTS_MAX, Broken, Literal, Model, Own, Port, Setting, SshOption, SshPort, Vm};
use super::ssh_keywords::one_value;
use crate::source::{Problem, Source};
use crate::text::nearest;
use crate::toml::{Key, Kind, Table, Value};

/// Limit of a VM's name: a directory and sockets are named after it; file systems stop at 255
/// bytes.
const VM_NAME_BYTES_MAX: usize = 64;
/// The keys of a VM's table, in the order of the man page.
const VM_KEYS: &[&str] =
    &["extends", "qemu", "cmd", "cmd_append", "console", "gdb", "boots", "vars", "ssh"];
/// The keys of a VM's ssh table that are not options of ssh.
const SSH_KEYS: &[&str] = &["port", "vm_port"];
/// The value of `port` for a port that is chosen at each start.
const AUTO: &str = "auto";
/// Keywords that would begin another block of the generated file.
const SSH_BLOCKS: &[&str] = &["Host", "Match"];

/// Decodes the file. Returns the model, and the problems in the parts that all VMs need.
pub(super) fn decode(source: &Source, root: &Table) -> (Model, Vec<Problem>) {
    let mut decoder = Decoder { source, problems: Vec::new() };
    let model = decoder.root(root);
    decoder.problems.sort_by_key(|problem| problem.span.start);
    (model, decoder.problems)
}

pub(super) struct Decoder<'a> {
    pub(super) source: &'a Source,
    pub(super) problems: Vec<Problem>,
}

impl Decoder<'_> {
    fn root(&mut self, root: &Table) -> Model {
        self.only(root, &["qemu", "vars", "ssh", "img", "vm"], "at the top level");
        let qemu = self.table(root.get("qemu"), "[qemu]");
        if let Some(qemu) = qemu {
            self.only(qemu, &["bin", "img"], "in `[qemu]`");
        }
        let qemu_img = qemu.and_then(|qemu| self.text(qemu.get("img"), "img"));
        let qemu_bin = qemu.and_then(|qemu| self.text(qemu.get("bin"), "bin"));
        let before = self.problems.len();
        let vars = self.table(root.get("vars"), "[vars]").cloned().unwrap_or_default();
        if let Some((key, _)) = vars.iter().find(|(key, _)| key.name == "vm") {
            let problem = Problem::new(key.span, "`vm` in `[vars]` is taken");
            self.problems.push(problem.hint("`{{.vm.…}}` is what `[vm.NAME.vars]` holds"));
        }
        let images = self.table(root.get("img"), "[img]");
        if let Some((key, _)) = vars.iter().find(|(key, _)| key.name == "img")
            && images.is_some()
        {
            let problem = Problem::new(key.span, "`img` in `[vars]` is taken");
            self.problems.push(problem.hint("`{{.img.…}}` are the images that `[img.NAME]` makes"));
        }
        let images = images.map(|images| self.images(images)).unwrap_or_default();
        let can_be_named = self.problems.len() == before;
        let ssh = self.table(root.get("ssh"), "[ssh]");
        let ssh = ssh.map(|table| self.ssh_options(table, "[ssh]", &[])).unwrap_or_default();
        let vms = self.table(root.get("vm"), "[vm]");
        let (vms, broken) = vms.map(|vms| self.vms(vms)).unwrap_or_default();
        // Without all names, it is not known whether a placeholder is right.
        let vms = if can_be_named { vms } else { Vec::new() };
        Model { qemu_bin, qemu_img, vars, ssh, vms, broken, images }
    }

    /// The VMs, and those that are broken. The problems of a VM are kept with it.
    fn vms(&mut self, vms: &Table) -> (Vec<Vm>, Vec<Broken>) {
        let (mut drafts, mut no_tables) = (Vec::new(), Vec::new());
        for (key, value) in vms.iter() {
            let shared = std::mem::take(&mut self.problems);
            self.vm_name(key);
            let table = self.table(Some(value), &header(key, ""));
            let draft = table.map(|table| self.vm(key, table));
            let problems = std::mem::replace(&mut self.problems, shared);
            let (name, span) = (key.name.clone(), key.span);
            match draft {
                Some(draft) => drafts.push(Draft { problems, ..draft }),
                None => no_tables.push(Broken { name, span, problems }),
            }
        }
        let (vms, mut broken) = extends::link(drafts, vms);
        broken.extend(no_tables);
        broken.sort_by_key(|vm| vm.span.start);
        (vms, broken)
    }

    fn vm_name(&mut self, key: &Key) {
        if !is_vm_name(&key.name) {
            let shown = key.name.escape_debug();
            self.problems.push(
                Problem::new(key.span, format!("`{shown}` cannot be the name of a VM"))
                    .hint(format!(
                        "up to {VM_NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`, a letter or digit first"
                    )),
            );
        }
    }

    fn vm(&mut self, key: &Key, table: &Table) -> Draft {
        self.only(table, VM_KEYS, &format!("in `{}`", header(key, "")));
        let (ssh, ssh_header) = (table.get("ssh"), header(key, ".ssh"));
        let ssh_table = self.table(ssh, &ssh_header);
        let port = ssh_table.and_then(|table| table.get("port"));
        // A key that is nearly `port` is reported where it stands, and `port` is not reported as
        // missing.
        let is_meant = ssh_table.is_some_and(|table| {
            table
                .iter()
                .any(|(key, _)| nearest(&key.name, SSH_KEYS.iter().copied()) == Some("port"))
        });
        let is_given = port.is_some() || is_meant || table.get("extends").is_some();
        if !is_given && ssh.is_some() == ssh_table.is_some() {
            self.problems.push(no_port(key, ssh));
        }
        let vars = self.table(table.get("vars"), &header(key, ".vars"));
        let vm_port = ssh_table.and_then(|table| table.get("vm_port"));
        let options = ssh_table.map(|ssh| self.ssh_options(ssh, &ssh_header, SSH_KEYS));
        Draft {
            problems: Vec::new(),
            name: key.name.clone(),
            span: key.span,
            extends: self.text(table.get("extends"), "extends"),
            own: Own {
                qemu: self.text(table.get("qemu"), "qemu"),
                cmd: self.words(table, "cmd"),
                cmd_append: self.words(table, "cmd_append"),
                console: self.boolean(table, "console"),
                gdb: self.boolean(table, "gdb"),
                boots: self.boots(table),
                vars: vars.cloned().unwrap_or_default(),
                ssh: options.unwrap_or_default(),
            },
            port: port.and_then(|value| self.ssh_port(value)),
            vm_port: vm_port.and_then(|value| self.port(value, "vm_port")),
        }
    }

    /// A list of strings or one string. A VM without `cmd` cannot be started, but everything else
    /// works.
    pub(super) fn words(&mut self, vm: &Table, name: &str) -> Option<Vec<Literal>> {
        let value = vm.get(name)?;
        match &value.kind {
            Kind::Array(items) => {
                let element = format!("an element of `{name}`");
                let texts: Vec<_> =
                    items.iter().map(|item| self.text(Some(item), &element)).collect();
                texts.into_iter().collect()
            }
            Kind::String(_) => self.text(Some(value), name).map(|text| vec![text]),
            _ => self.wrong_type(value, name, "a string or an array of strings"),
        }
    }

    fn boolean(&mut self, vm: &Table, name: &str) -> Option<bool> {
        let value = vm.get(name)?;
        match value.kind {
            Kind::Boolean(on) => Some(on),
            _ => self.wrong_type(value, name, "true or false"),
        }
    }

    fn boots(&mut self, vm: &Table) -> Option<u32> {
        let value = vm.get("boots")?;
        let Kind::Integer(number) = value.kind else {
            return self.wrong_type(value, "boots", "an integer");
        };
        let boots = u32::try_from(number).ok().filter(|boots| *boots <= BOOTS_MAX);
        if boots.is_none() {
            let message = format!("`boots` is {number}, and must be 0 to {BOOTS_MAX}");
            self.problems.push(Problem::new(value.span, message));
        }
        boots
    }

    fn ssh_port(&mut self, value: &Value) -> Option<SshPort> {
        match &value.kind {
            Kind::Integer(_) => self.port(value, "port").map(SshPort::Fixed),
            Kind::String(text) if text == AUTO => Some(SshPort::Auto),
            Kind::String(_) => {
                let problem =
                    Problem::new(value.span, "`port` is a string, and must be an integer");
                let hint = format!("a number has no quotes; `port = \"{AUTO}\"` takes a free one");
                self.problems.push(problem.hint(hint));
                None
            }
            _ => self.wrong_type(value, "port", &format!("an integer or \"{AUTO}\"")),
        }
    }

    fn port(&mut self, value: &Value, name: &str) -> Option<Port> {
        let Kind::Integer(number) = value.kind else {
            return self.wrong_type(value, name, "an integer");
        };
        let port = Port::new(number);
        if port.is_none() {
            let message = format!("`{name}` is {number}, and a port is 1 to 65535");
            self.problems.push(Problem::new(value.span, message));
        }
        port
    }

    /// The options of an ssh table: all keys but `own`, which are not ssh's.
    fn ssh_options(&mut self, table: &Table, header: &str, own: &[&str]) -> Vec<SshOption> {
        let mut options: Vec<SshOption> = Vec::new();
        for (key, value) in table.iter().filter(|(key, _)| !own.contains(&key.name.as_str())) {
            let name = &key.name;
            let same = |other: &&str| other.eq_ignore_ascii_case(name);
            let near = nearest(name, own.iter().copied());
            let mut refuse = |message: String, hint: Option<&str>| {
                let problem = Problem::new(key.span, message);
                self.problems.push(Problem { hint: hint.map(Into::into), ..problem });
            };
            if ["port", "vm_port", "vmport"].iter().any(same) {
                let hint = "the port is `port` in `[vm.NAME.ssh]`, in lower case";
                refuse(format!("`{name}` does not belong in `{header}`"), Some(hint));
            } else if SSH_BLOCKS.iter().any(same) {
                let hint = "the generated file has one `Host` block, which the options go into";
                refuse(format!("`{name}` cannot be set in `{header}`"), Some(hint));
            } else if near.is_some() {
                // No option of ssh has a name this near to these two.
                let problem = Problem::new(key.span, format!("unknown key `{name}`"));
                self.problems.push(problem.did_you_mean(near));
            } else if !name.chars().all(|c| c.is_ascii_alphanumeric()) || name.is_empty() {
                refuse(format!("`{}` is no option of ssh_config(5)", name.escape_debug()), None);
            } else if options.iter().any(|other| same(&other.name.as_str())) {
                refuse(format!("`{name}` is set twice; ssh's options have no case"), None);
            } else if let Some(values) = self.settings(value, name) {
                options.push(SshOption { name: name.clone(), values });
            }
        }
        options
    }

    fn settings(&mut self, value: &Value, name: &str) -> Option<Vec<Setting>> {
        let items = match &value.kind {
            Kind::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(value),
        };
        if let (Some(hint), [_, second, ..]) = (one_value(name), items) {
            let message = format!("ssh takes one value for `{name}`");
            self.problems.push(Problem::new(second.span, message).hint(hint));
            return None;
        }
        let settings: Vec<_> = items.iter().map(|item| self.setting(item, name)).collect();
        settings.into_iter().collect()
    }

    fn setting(&mut self, value: &Value, name: &str) -> Option<Setting> {
        match &value.kind {
            Kind::String(_) => self.text(Some(value), name).map(Setting::Text),
            Kind::Boolean(on) => Some(Setting::AsWritten(if *on { "yes" } else { "no" }.into())),
            Kind::Integer(_) => {
                let written = &self.source.text[value.span.start..value.span.end];
                Some(Setting::AsWritten(written.to_string()))
            }
            _ => self.wrong_type(value, name, "a string, an integer, a boolean or a list of them"),
        }
    }

    pub(super) fn table<'t>(
        &mut self,
        value: Option<&'t Value>,
        header: &str,
    ) -> Option<&'t Table> {
        let value = value?;
        match &value.kind {
            Kind::Table(table) => Some(table),
            _ => self.wrong_type(value, header, "a table"),
        }
    }

    pub(super) fn text(&mut self, value: Option<&Value>, name: &str) -> Option<Literal> {
        let value = value?;
        match &value.kind {
            Kind::String(text) => Some(Literal { text: text.clone(), span: value.span }),
            _ => self.wrong_type(value, name, "a string"),
        }
    }

    pub(super) fn wrong_type<T>(&mut self, value: &Value, name: &str, expected: &str) -> Option<T> {
        let name = if name.contains(' ') { name.to_string() } else { format!("`{name}`") };
        let message = format!("{name} is {}, and must be {expected}", value.kind.type_name());
        self.problems.push(Problem::new(value.span, message));
        None
    }

    pub(super) fn only(&mut self, table: &Table, known: &[&str], place: &str) {
        for (key, _) in table.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let message = format!("unknown key `{}`", key.name.escape_debug());
            let near = nearest(&key.name, known.iter().copied());
            let known = format!("the keys {place} are `{}`", known.join("`, `"));
            self.problems.push(Problem::new(key.span, message).hint(known).did_you_mean(near));
        }
    }
}

/// Whether a VM may have this name. Names become paths, `Host` patterns and words of messages.
pub(crate) fn is_vm_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    first && name.chars().all(allowed) && name.len() <= VM_NAME_BYTES_MAX
}

/// The problem of a VM that neither has nor takes over a port; `ssh` is its table if there is one.
fn no_port(key: &Key, ssh: Option<&Value>) -> Problem {
    let (vm_header, ssh_header) = (header(key, ""), header(key, ".ssh"));
    match ssh {
        Some(ssh) => Problem::new(ssh.span, format!("`{ssh_header}` has no `port`"))
            .hint("the port on this host that leads to the guest's ssh"),
        None => Problem::new(key.span, format!("`{vm_header}` has no ssh port"))
            .hint(format!("add `{ssh_header}` with `port = 2222`, or another free port")),
    }
}

/// The header `[vm.NAME]`, or that of a table within it.
fn header(vm: &Key, inner: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !vm.name.is_empty() && vm.name.chars().all(bare) {
        format!("[vm.{}{inner}]", vm.name)
    } else {
        format!("[vm.{:?}{inner}]", vm.name)
    }
}
