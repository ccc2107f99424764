//! TOML -> model. Every rule of qqmgr.toml(5) about keys and types is here; all problems are
//! collected, each with its place.

use super::model::{Literal, Model, Port, Setting, SshOption, SshPort, VM_PORT, Vm};
use crate::text::{Problem, Source, nearest};
use crate::toml::{Key, Kind, Table, Value};

/// A directory and sockets are named after a VM; file systems stop at 255 bytes.
const VM_NAME_BYTES_MAX: usize = 64;
/// The `port` that is chosen at each start.
const AUTO: &str = "auto";
/// Keywords that would begin another block of the generated file.
const SSH_BLOCKS: &[&str] = &["Host", "Match"];

pub(super) fn decode(source: &Source, root: &Table) -> Result<Model, Vec<Problem>> {
    let mut decoder = Decoder { source, problems: Vec::new() };
    let model = decoder.root(root);
    decoder.problems.sort_by_key(|problem| problem.span.start);
    if decoder.problems.is_empty() { Ok(model) } else { Err(decoder.problems) }
}

struct Decoder<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
}

impl Decoder<'_> {
    fn root(&mut self, root: &Table) -> Model {
        self.only(root, &["qemu", "vars", "ssh", "vm"], "at the top level");
        let qemu = self.table(root.get("qemu"), "[qemu]");
        if let Some(qemu) = qemu {
            self.only(qemu, &["bin", "img"], "in `[qemu]`");
        }
        let qemu_img = qemu.and_then(|qemu| self.text(qemu.get("img"), "img"));
        let qemu_bin = qemu.and_then(|qemu| self.text(qemu.get("bin"), "bin"));
        let vars = self.table(root.get("vars"), "[vars]").cloned().unwrap_or_default();
        if let Some((key, _)) = vars.iter().find(|(key, _)| key.name == "vm") {
            let problem = Problem::new(key.span, "`vm` in `[vars]` is taken");
            self.problems.push(problem.hint("`{{.vm.…}}` is what `[vm.NAME.vars]` holds"));
        }
        let ssh = self.table(root.get("ssh"), "[ssh]");
        let ssh = ssh.map(|table| self.ssh_options(table, "[ssh]", &[])).unwrap_or_default();
        let vms = self.table(root.get("vm"), "[vm]").map(|vms| self.vms(vms)).unwrap_or_default();
        Model { qemu_bin, qemu_img, vars, ssh, vms }
    }

    fn vms(&mut self, vms: &Table) -> Vec<Vm> {
        vms.iter()
            .filter_map(|(key, value)| {
                self.vm_name(key);
                let table = self.table(Some(value), &header(key, ""))?;
                self.vm(key, table)
            })
            .collect()
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

    fn vm(&mut self, key: &Key, table: &Table) -> Option<Vm> {
        let (vm_header, ssh_header) = (header(key, ""), header(key, ".ssh"));
        self.only(table, &["cmd", "vars", "ssh"], &format!("in `{vm_header}`"));
        let cmd = self.cmd(table);
        let vars = self.table(table.get("vars"), &header(key, ".vars"));
        let vars = vars.cloned().unwrap_or_default();
        let Some(ssh) = table.get("ssh") else {
            let problem = Problem::new(key.span, format!("`{vm_header}` has no ssh port"));
            let hint = format!("add `{ssh_header}` with `port = 2222`, or another free port");
            self.problems.push(problem.hint(hint));
            return None;
        };
        let ssh_span = ssh.span;
        let ssh = self.table(Some(ssh), &ssh_header)?;
        let options = self.ssh_options(ssh, &ssh_header, &["port", "vm_port"]);
        if ssh.get("port").is_none() {
            let problem = Problem::new(ssh_span, format!("`{ssh_header}` has no `port`"));
            self.problems.push(problem.hint("the port on this host that leads to the guest's ssh"));
        }
        let port = ssh.get("port").and_then(|value| self.ssh_port(value));
        let vm_port = match ssh.get("vm_port") {
            Some(value) => self.port(value, "vm_port"),
            None => Port::new(VM_PORT.into()),
        };
        let (name, ssh) = (key.name.clone(), options);
        Some(Vm { name, span: key.span, cmd, vars, ssh, port: port?, vm_port: vm_port? })
    }

    /// A list of strings or one string. Without one a VM cannot be started, but all the rest.
    fn cmd(&mut self, vm: &Table) -> Option<Vec<Literal>> {
        let value = vm.get("cmd")?;
        match &value.kind {
            Kind::Array(items) => {
                let texts: Vec<_> =
                    items.iter().map(|item| self.text(Some(item), "an element of `cmd`")).collect();
                texts.into_iter().collect()
            }
            Kind::String(_) => self.text(Some(value), "cmd").map(|text| vec![text]),
            _ => self.wrong_type(value, "cmd", "a string or an array of strings"),
        }
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

    /// All keys of an ssh table but `own`, which are not ssh's.
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
                // No option of ssh is as near to these two.
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

    fn table<'t>(&mut self, value: Option<&'t Value>, header: &str) -> Option<&'t Table> {
        let value = value?;
        match &value.kind {
            Kind::Table(table) => Some(table),
            _ => self.wrong_type(value, header, "a table"),
        }
    }

    fn text(&mut self, value: Option<&Value>, name: &str) -> Option<Literal> {
        let value = value?;
        match &value.kind {
            Kind::String(text) => Some(Literal { text: text.clone(), span: value.span }),
            _ => self.wrong_type(value, name, "a string"),
        }
    }

    fn wrong_type<T>(&mut self, value: &Value, name: &str, expected: &str) -> Option<T> {
        let name = if name.contains(' ') { name.to_string() } else { format!("`{name}`") };
        let message = format!("{name} is {}, and must be {expected}", value.kind.type_name());
        self.problems.push(Problem::new(value.span, message));
        None
    }

    fn only(&mut self, table: &Table, known: &[&str], place: &str) {
        for (key, _) in table.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let message = format!("unknown key `{}`", key.name.escape_debug());
            let near = nearest(&key.name, known.iter().copied());
            let known = format!("the keys {place} are `{}`", known.join("`, `"));
            self.problems.push(Problem::new(key.span, message).hint(known).did_you_mean(near));
        }
    }
}

/// Names become paths, `Host` patterns and words of messages.
pub(crate) fn is_vm_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    first && name.chars().all(allowed) && name.len() <= VM_NAME_BYTES_MAX
}

/// `[vm.NAME]`, or a table within it.
fn header(vm: &Key, inner: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !vm.name.is_empty() && vm.name.chars().all(bare) {
        format!("[vm.{}{inner}]", vm.name)
    } else {
        format!("[vm.{:?}{inner}]", vm.name)
    }
}
