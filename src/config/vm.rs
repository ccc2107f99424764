//! The VMs: which VM extends which, what is wrong with each, and the values that cannot have
//! placeholders. [`super::scope`] reads the others.

use super::problems::Problems;
use super::schema::{check, default, header};
use super::values::{NONE, SshPort, name_problem, port};
use crate::source::{Problem, Source, Span};
use crate::text::nearest;
use crate::toml::{Key, Kind, Table, Value};

/// The keys of a VM's ssh table that are not options of ssh.
pub(super) const SSH_KEYS: &[&str] = &["port", "vm_port"];

/// The name of a VM and its table.
type Entry<'t> = (&'t Key, &'t Value);

/// A VM. Values that it does not set itself come from the VM that it extends.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    /// The place of the name.
    pub(crate) span: Span,
    /// The port on this host where ssh reaches the guest.
    pub(crate) port: SshPort,
    /// The port where the guest's ssh server listens.
    pub(crate) vm_port: u16,
    /// Whether the serial line is interactive.
    pub(crate) console: bool,
    /// Whether QEMU listens for a debugger.
    pub(crate) gdb: bool,
    /// How many serial outputs of earlier boots are kept.
    pub(crate) boots: u32,
    /// How long the guest has to power off, in seconds. With 0, it is not asked.
    pub(crate) stop_timeout: u32,
}

/// A VM with a problem in its table, or in that of a VM that it extends. Commands still work on the
/// other VMs.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) name: String,
    pub(crate) problems: Vec<Problem>,
}

/// The VMs of `[vm]`, `all`, and those that are broken, both in file order.
pub(super) fn read(source: &Source, all: &Table) -> (Vec<Vm>, Vec<Broken>) {
    let entries: Vec<Entry> = all.iter().collect();
    let own: Vec<Vec<Problem>> =
        entries.iter().map(|entry| own_problems(source, all, *entry)).collect();
    let (mut sound, mut broken) = (Vec::new(), Vec::new());
    for (at, (key, _)) in entries.iter().enumerate() {
        let (line, ring) = line(all, &entries, at);
        let all = Problems::default();
        all.add(line.iter().flat_map(|at| &own[*at]).chain(&ring).cloned());
        let problems = all.sorted();
        let tables: Vec<&Value> = line.iter().map(|at| entries[*at].1).collect();
        match Vm::new(key, &tables) {
            Some(vm) if problems.is_empty() => sound.push(vm),
            _ => broken.push(Broken { name: key.name.clone(), problems }),
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

/// The indices of a VM, of the VM that it extends, and so on. If VMs extend each other in a ring,
/// also gives the problem, and indices may be repeated.
fn line(all: &Table, entries: &[Entry], start: usize) -> (Vec<usize>, Option<Problem>) {
    let next = |at: &usize| all.position(extended(entries[*at].1)?.0);
    let walk = std::iter::successors(Some(start), next);
    let line: Vec<usize> = walk.take(entries.len() + 1).collect();
    // There are not so many VMs, so the last one is a repetition.
    let last = line.last().filter(|_| line.len() > entries.len());
    let ring = last.and_then(|last| {
        let mut ring: Vec<usize> = Vec::new();
        let walk = std::iter::successors(Some(*last), next);
        ring.extend(walk.skip(1).take_while(|at| at != last));
        ring.push(*last);
        let first = (0..ring.len()).min_by_key(|at| ring[*at])?;
        ring.rotate_left(first);
        let names = ring.iter().chain(ring.first()).map(|at| format!("`{}`", entries[*at].0.name));
        let names = names.collect::<Vec<_>>().join(" -> ");
        let (_, closing) = extended(entries[*ring.last()?].1)?;
        Some(Problem::new(closing.span, format!("VMs extend each other in a ring: {names}")))
    });
    (line, ring)
}

/// The problems in the VM's own table.
fn own_problems(source: &Source, all: &Table, (key, value): Entry) -> Vec<Problem> {
    let shown = header("[vm]", &key.name);
    let mut problems = check(source, value, "[vm.NAME]", &shown);
    problems.extend(unknown(all, key, value));
    problems.extend(name_problem(key, "a VM"));
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
    /// Makes a VM from its table, the table of the VM that it extends, and so on; `None` if a value
    /// is not usable.
    fn new(key: &Key, line: &[&Value]) -> Option<Self> {
        let get = |name| line.iter().find_map(|table| table.get(name));
        let ssh = |name: &str| line.iter().find_map(|table| table.get("ssh")?.get(name));
        let is_on = |name| matches!(get(name), Some(Value { kind: Kind::Boolean(true), .. }));
        let number = |found: Option<&Value>, table: &str, name: &str| match found {
            Some(value) => value.as_integer(),
            None => default(table, name).parse().ok(),
        };
        let own = |name| number(get(name), "[vm.NAME]", name)?.try_into().ok();
        let configured = ssh("port")?;
        Some(Self {
            name: key.name.clone(),
            span: key.span,
            port: match configured.as_integer() {
                Some(number) => SshPort::Fixed(port(number)?),
                None if configured.as_str() == Some(NONE) => SshPort::None,
                None => SshPort::Auto,
            },
            vm_port: port(number(ssh("vm_port"), "[vm.NAME.ssh]", "vm_port")?)?,
            boots: own("boots")?,
            stop_timeout: own("stop_timeout")?,
            console: is_on("console"),
            gdb: is_on("gdb"),
        })
    }
}
