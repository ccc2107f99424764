//! The VMs: which VM takes over from which, what is wrong with each, and the values in which no
//! placeholder can be. [`super::scope`] reads the others.

use super::schema::{check, default, header};
use super::values::{NAME_BYTES_MAX, NONE, Port, SshPort, is_vm_name};
use crate::source::{Problem, Source, Span};
use crate::text::nearest;
use crate::toml::{Key, Kind, Table, Value};

/// The keys of a VM's ssh table that are not options of ssh.
pub(super) const SSH_KEYS: &[&str] = &["port", "vm_port"];

/// The name of a VM and its table.
type Entry<'t> = (&'t Key, &'t Value);

/// A VM. What it does not say itself, it has from the VM that it extends.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    /// The place of the name.
    pub(crate) span: Span,
    /// The port on this host where ssh reaches the guest.
    pub(crate) port: SshPort,
    /// The port where the guest's ssh server listens.
    pub(crate) vm_port: Port,
    /// Whether the serial line is interactive.
    pub(crate) console: bool,
    /// Whether QEMU listens for a debugger.
    pub(crate) gdb: bool,
    /// How many serial outputs of earlier boots are kept.
    pub(crate) boots: u32,
}

/// A VM with a problem in its table, or in that of a VM that it extends. Commands still work on the
/// other VMs.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) name: String,
    /// The place of the name.
    pub(crate) span: Span,
    pub(crate) problems: Vec<Problem>,
}

/// The VMs of `[vm]`, `all`, and those that are broken, both in file order.
pub(super) fn read(source: &Source, all: &Table) -> (Vec<Vm>, Vec<Broken>) {
    let entries: Vec<Entry> = all.iter().collect();
    let parents: Vec<Option<usize>> =
        entries.iter().map(|(_, value)| all.position(extended(value)?.0)).collect();
    let mut problems: Vec<Vec<Problem>> = Vec::new();
    for (key, value) in &entries {
        let mut own = own_problems(source, key, value);
        own.extend(unknown(all, key, value));
        problems.push(own);
    }
    let mut vms: Vec<Option<Vm>> = entries.iter().map(|_| None).collect();
    for at in parents_first(&entries, &parents, &mut problems) {
        let parent = parents[at].filter(|parent| *parent != at);
        for problem in parent.map(|parent| problems[parent].clone()).unwrap_or_default() {
            if !problems[at].contains(&problem) {
                problems[at].push(problem);
            }
        }
        vms[at] = Vm::new(entries[at], parent.and_then(|parent| vms[parent].as_ref()));
    }
    let (mut sound, mut broken) = (Vec::new(), Vec::new());
    for (((key, _), vm), mut problems) in entries.into_iter().zip(vms).zip(problems) {
        problems.sort_by_key(|problem| problem.span.start);
        match vm {
            Some(vm) if problems.is_empty() => sound.push(vm),
            _ => broken.push(Broken { name: key.name.clone(), span: key.span, problems }),
        }
    }
    (sound, broken)
}

/// The name that the VM with this table extends, and its value.
pub(super) fn extended(table: &Value) -> Option<(&str, &Value)> {
    let value = table.get("extends")?;
    Some((value.as_str()?, value))
}

/// The problem of a VM that extends an unknown name.
fn unknown(all: &Table, key: &Key, table: &Value) -> Option<Problem> {
    let (name, value) = extended(table).filter(|(name, _)| all.get(name).is_none())?;
    let others = all.iter().map(|(key, _)| key.name.as_str());
    let near = nearest(name, others.filter(|other| *other != key.name));
    let message = format!("there is no VM `{}` to extend", name.escape_debug());
    let problem = Problem::new(value.span, message);
    Some(problem.hint("`extends` has the NAME of another `[vm.NAME]`").did_you_mean(near))
}

/// The indices of all VMs, each after the one that it extends; rings become problems.
fn parents_first(
    entries: &[Entry],
    parents: &[Option<usize>],
    problems: &mut [Vec<Problem>],
) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; entries.len()];
    for start in 0..entries.len() {
        let mut line = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| !seen[*at]) {
            seen[at] = true;
            line.push(at);
            next = parents[at];
        }
        if let Some(ring) = line.iter().position(|at| Some(*at) == next) {
            let problem = ring_problem(entries, &line[ring..]);
            line[ring..].iter().for_each(|at| problems[*at].extend(problem.clone()));
        }
        order.extend(line.into_iter().rev());
    }
    order
}

/// The problem of a ring, whose last VM extends the first.
fn ring_problem(entries: &[Entry], ring: &[usize]) -> Option<Problem> {
    let names = ring.iter().chain(ring.first()).map(|at| format!("`{}`", entries[*at].0.name));
    let names = names.collect::<Vec<_>>().join(" -> ");
    let (_, closing) = extended(entries[*ring.last()?].1)?;
    Some(Problem::new(closing.span, format!("VMs extend each other in a ring: {names}")))
}

/// The problems in the VM's own table.
fn own_problems(source: &Source, key: &Key, value: &Value) -> Vec<Problem> {
    let shown = header("[vm]", &key.name);
    let mut problems = check(source, value, "[vm.NAME]", &shown);
    if !is_vm_name(&key.name) {
        let message = format!("`{}` cannot be the name of a VM", key.name.escape_debug());
        problems.push(Problem::new(key.span, message).hint(format!(
            "up to {NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`, a letter or digit first"
        )));
    }
    let ssh = value.get("ssh");
    let is_unusable = |value: &Value| !matches!(value.kind, Kind::Table(_));
    if value.get("extends").is_some() || is_unusable(value) || ssh.is_some_and(is_unusable) {
        return problems;
    }
    let ssh_keys = ssh.and_then(Value::as_table).into_iter().flat_map(Table::iter);
    // A key that is nearly `port` is reported where it stands.
    let is_port = |name: &str| nearest(name, SSH_KEYS.iter().copied()) == Some("port");
    if !ssh_keys.into_iter().any(|(key, _)| is_port(&key.name)) {
        let ssh_header = header(&shown, "ssh");
        problems.push(match ssh {
            Some(ssh) => Problem::new(ssh.span, format!("`{ssh_header}` has no `port`"))
                .hint("the port on this host that leads to the guest's ssh"),
            None => Problem::new(key.span, format!("`{shown}` has no ssh port"))
                .hint(format!("add `{ssh_header}` with `port = 2222`, or another free port")),
        });
    }
    problems
}

impl Vm {
    /// Makes a VM of its table and the VM that it extends; `None` if a value is not usable.
    fn new((key, table): Entry, parent: Option<&Self>) -> Option<Self> {
        let is_on = |name: &str| Some(matches!(table.get(name)?.kind, Kind::Boolean(true)));
        let ssh = |name: &str| table.get("ssh")?.get(name);
        let port = ssh("port").map(|value| match value.as_integer() {
            Some(number) => Port::new(number).map(SshPort::Fixed),
            None if value.as_str() == Some(NONE) => Some(SshPort::None),
            None => Some(SshPort::Auto),
        });
        let vm_port = ssh("vm_port").map(|value| Port::new(value.as_integer()?));
        let boots = table.get("boots").map(|value| value.as_integer()?.try_into().ok());
        Some(Self {
            name: key.name.clone(),
            span: key.span,
            port: port.unwrap_or_else(|| Some(parent?.port))?,
            vm_port: vm_port.unwrap_or_else(|| match parent {
                Some(parent) => Some(parent.vm_port),
                None => Port::new(default("[vm.NAME.ssh]", "vm_port").parse().ok()?),
            })?,
            boots: boots.unwrap_or_else(|| match parent {
                Some(parent) => Some(parent.boots),
                None => default("[vm.NAME]", "boots").parse().ok(),
            })?,
            console: is_on("console").unwrap_or(parent.is_some_and(|parent| parent.console)),
            gdb: is_on("gdb").unwrap_or(parent.is_some_and(|parent| parent.gdb)),
        })
    }
}
