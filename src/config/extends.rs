//! `extends`: which VM takes over from which, and what each has as a result.
//!
//! A VM keeps what its own table says. The rest is collected when the VM is used, so that many VMs
//! that extend the same one do not copy it.

use super::model::{BOOTS, Broken, Literal, Model, Own, Port, SshOption, SshPort, VM_PORT, Vm};
use crate::source::{Problem, Span};
use crate::text::nearest;
use crate::toml::Table;
use std::borrow::Cow;
use std::collections::HashMap;

/// A VM as its own table describes it, before it is known what it takes over.
pub(super) struct Draft {
    /// The problems that have been found in it.
    pub(super) problems: Vec<Problem>,
    pub(super) name: String,
    /// The place of the name.
    pub(super) span: Span,
    pub(super) extends: Option<Literal>,
    pub(super) own: Own,
    pub(super) port: Option<SshPort>,
    pub(super) vm_port: Option<Port>,
}

/// Makes the VMs of the drafts, with the ports that they take over. A draft that has a problem, or
/// extends a VM that has one, becomes [`Broken`]. `tables` are all of `[vm]`.
pub(super) fn link(mut drafts: Vec<Draft>, tables: &Table) -> (Vec<Vm>, Vec<Broken>) {
    let places: HashMap<String, usize> =
        drafts.iter().enumerate().map(|(at, draft)| (draft.name.clone(), at)).collect();
    let parent = |draft: &Draft| places.get(&draft.extends.as_ref()?.text).copied();
    let parents: Vec<Option<usize>> = drafts.iter().map(parent).collect();
    for draft in &mut drafts {
        let unknown = unknown(draft, tables);
        draft.problems.extend(unknown);
    }
    for at in parents_first(&mut drafts, &parents) {
        if let Some(parent) = parents[at] {
            let (port, vm_port) = (drafts[parent].port, drafts[parent].vm_port);
            drafts[at].port = drafts[at].port.or(port);
            drafts[at].vm_port = drafts[at].vm_port.or(vm_port);
            let inherited = drafts[parent].problems.clone();
            let new =
                inherited.into_iter().filter(|problem| !drafts[at].problems.contains(problem));
            let new: Vec<Problem> = new.collect();
            drafts[at].problems.extend(new);
        }
    }
    sorted_out(drafts, &parents)
}

/// Makes the VMs from the drafts without problems. The `parents` of those have no problems either.
fn sorted_out(drafts: Vec<Draft>, parents: &[Option<usize>]) -> (Vec<Vm>, Vec<Broken>) {
    let is_vm = |draft: &Draft| draft.problems.is_empty() && draft.port.is_some();
    let mut count = 0..;
    let places: Vec<Option<usize>> =
        drafts.iter().map(|draft| is_vm(draft).then(|| count.next()).flatten()).collect();
    let (mut vms, mut broken) = (Vec::new(), Vec::new());
    for (draft, parent) in drafts.into_iter().zip(parents) {
        let is_vm = is_vm(&draft);
        let Draft { problems, name, span, own, port, vm_port, .. } = draft;
        let extends = parent.and_then(|parent| places[parent]);
        match (port, vm_port.or(Port::new(VM_PORT.into()))) {
            (Some(port), Some(vm_port)) if is_vm => {
                vms.push(Vm { name, span, extends, own, port, vm_port });
            }
            _ => broken.push(Broken { name, span, problems }),
        }
    }
    (vms, broken)
}

/// The problem of a VM that extends an unknown name.
fn unknown(draft: &Draft, tables: &Table) -> Option<Problem> {
    let extends = draft.extends.as_ref().filter(|name| tables.get(&name.text).is_none())?;
    let others = tables.iter().map(|(key, _)| key.name.as_str());
    let near = nearest(&extends.text, others.filter(|name| *name != draft.name));
    let message = format!("there is no VM `{}` to extend", extends.text.escape_debug());
    let problem = Problem::new(extends.span, message);
    Some(problem.hint("`extends` has the NAME of another `[vm.NAME]`").did_you_mean(near))
}

/// The indices of all drafts, each after the one that it extends; rings become problems.
fn parents_first(drafts: &mut [Draft], parents: &[Option<usize>]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; drafts.len()];
    for start in 0..drafts.len() {
        let mut line = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| !seen[*at]) {
            seen[at] = true;
            line.push(at);
            next = parents[at];
        }
        if let Some(ring) = line.iter().position(|at| Some(*at) == next) {
            let problem = ring_problem(drafts, &line[ring..]);
            line[ring..].iter().for_each(|at| drafts[*at].problems.extend(problem.clone()));
        }
        order.extend(line.into_iter().rev());
    }
    order
}

/// The problem of a ring, whose last VM extends the first.
fn ring_problem(drafts: &[Draft], ring: &[usize]) -> Option<Problem> {
    let names = ring.iter().chain(ring.first()).map(|at| format!("`{}`", drafts[*at].name));
    let ring_of_names = names.collect::<Vec<_>>().join(" -> ");
    let closing = drafts[*ring.last()?].extends.as_ref()?;
    Some(Problem::new(closing.span, format!("VMs extend each other in a ring: {ring_of_names}")))
}

impl Model {
    /// The VM, the one that it extends, and so on.
    fn lineage<'a>(&'a self, vm: &'a Vm) -> impl Iterator<Item = &'a Vm> {
        std::iter::successors(Some(vm), |vm| self.vms.get(vm.extends?))
    }

    /// The VM and the VMs that it extends, the VM itself last.
    fn ancestors_first<'a>(&'a self, vm: &'a Vm) -> impl Iterator<Item = &'a Vm> {
        let lineage: Vec<&Vm> = self.lineage(vm).collect();
        lineage.into_iter().rev()
    }

    /// The program: the VM's, or that of `[qemu]`.
    pub(super) fn qemu<'a>(&'a self, vm: &'a Vm) -> Option<&'a Literal> {
        self.lineage(vm).find_map(|vm| vm.own.qemu.as_ref()).or(self.qemu_bin.as_ref())
    }

    /// The nearest `cmd` and what is appended to it from there on; `None` when there is neither.
    pub(super) fn cmd<'a>(&'a self, vm: &'a Vm) -> Option<Vec<&'a Literal>> {
        let mut parts = Vec::new();
        for vm in self.lineage(vm) {
            parts.extend(&vm.own.cmd_append);
            if let Some(cmd) = &vm.own.cmd {
                parts.push(cmd);
                break;
            }
        }
        (!parts.is_empty()).then(|| parts.into_iter().rev().flatten().collect())
    }

    /// Whether the serial line is also a socket.
    pub(super) fn console(&self, vm: &Vm) -> bool {
        self.lineage(vm).find_map(|vm| vm.own.console).unwrap_or_default()
    }

    /// Whether QEMU listens for a debugger.
    pub(super) fn gdb(&self, vm: &Vm) -> bool {
        self.lineage(vm).find_map(|vm| vm.own.gdb).unwrap_or_default()
    }

    /// How many serial outputs of earlier boots are kept.
    pub(super) fn boots(&self, vm: &Vm) -> u32 {
        self.lineage(vm).find_map(|vm| vm.own.boots).unwrap_or(BOOTS)
    }

    /// The variables of the VM, merged key by key; its own win.
    pub(super) fn vars<'a>(&'a self, vm: &'a Vm) -> Cow<'a, Table> {
        let mut lineage = self.ancestors_first(vm);
        let oldest = lineage.next().unwrap_or(vm);
        lineage.fold(Cow::Borrowed(&oldest.own.vars), |mut vars, vm| {
            vars.to_mut().merge(&vm.own.vars);
            vars
        })
    }

    /// The options of `[ssh]` and of the VM merged, in the order of first appearance; the VM's own
    /// win. Names compare without case.
    pub(super) fn ssh<'a>(&'a self, vm: &'a Vm) -> Vec<&'a SshOption> {
        let mut merged: Vec<&SshOption> = self.ssh.iter().collect();
        for option in self.ancestors_first(vm).flat_map(|vm| &vm.own.ssh) {
            match merged.iter_mut().find(|other| other.name.eq_ignore_ascii_case(&option.name)) {
                Some(other) => *other = option,
                None => merged.push(option),
            }
        }
        merged
    }
}
