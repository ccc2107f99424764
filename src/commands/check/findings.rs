//! The findings of `qqmgr check`, each reported once, in the order of the file.

use crate::error::{Kind, Located, STDOUT, problem_json};
use crate::json::Value;
use crate::report::Report;
use crate::source::{Position, Problem, Source};
use crate::text::listed;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Warning,
}

struct Finding {
    severity: Severity,
    /// The VMs that it is about; empty if it keeps the file from being read.
    vms: Vec<String>,
    /// Whether the message names the VMs.
    names_them: bool,
    problem: Problem,
}

pub(super) struct Findings {
    source: Arc<Source>,
    /// How many VMs were checked, if the file could be read.
    vms: Option<usize>,
    found: Vec<Finding>,
}

/// Warnings, each with the names of the VMs that conflict.
pub(super) type Shared<'a> = Vec<(Vec<&'a str>, Problem)>;

impl Findings {
    /// Makes an empty list of findings about this many VMs.
    pub(super) fn new(source: &Arc<Source>, vms: usize) -> Self {
        Self { source: Arc::clone(source), vms: Some(vms), found: Vec::new() }
    }

    /// Makes the findings of a file that cannot be read.
    pub(super) fn of_file(Located { source, problems }: Located) -> Self {
        let mut findings = Self { source, vms: None, found: Vec::new() };
        findings.add_named(Severity::Error, &[], problems);
        findings.sorted()
    }

    /// Adds findings of one VM; their messages do not name it.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        vm: &str,
        problems: impl IntoIterator<Item = Problem>,
    ) {
        problems.into_iter().for_each(|problem| self.insert(severity, &[vm], false, problem));
    }

    /// Adds findings about these VMs, or about no VM; their messages are clear without names.
    pub(super) fn add_named(
        &mut self,
        severity: Severity,
        vms: &[&str],
        problems: impl IntoIterator<Item = Problem>,
    ) {
        problems.into_iter().for_each(|problem| self.insert(severity, vms, true, problem));
    }

    /// Inserts a finding. One that several VMs have at the same place is reported once, with all
    /// their names.
    fn insert(&mut self, severity: Severity, vms: &[&str], names_them: bool, problem: Problem) {
        let known = self.found.iter().position(|other| other.problem == problem);
        let at = known.unwrap_or_else(|| {
            self.found.push(Finding { severity, vms: Vec::new(), names_them, problem });
            self.found.len() - 1
        });
        let all = &mut self.found[at].vms;
        for vm in vms {
            if all.last().is_none_or(|last| last != vm) {
                all.push((*vm).to_string());
            }
        }
    }

    pub(super) fn report(&self) -> Report {
        let (mut text, mut documents) = (String::new(), Vec::new());
        for (Finding { severity, vms, names_them, problem }, position) in self.placed() {
            let place = (self.source.as_ref(), position);
            let own = [("severity", Value::from(severity.name())), ("vms", vms.iter().collect())];
            documents.push(Value::object(own.into_iter().chain(problem_json(problem, place))));
            // Several VMs may share the place.
            let has_subject = self.vms != Some(1) && !names_them;
            let subject = if has_subject { listed(vms, "and") + ": " } else { String::new() };
            text += &STDOUT.problem(severity.name(), &subject, problem, place);
            text.push('\n');
        }
        let has_error = self.count(Severity::Error) > 0;
        Report::new(text + &self.summary(), Value::Array(documents)).with_exit_code(if has_error {
            Kind::Config.exit_code()
        } else {
            0
        })
    }

    pub(super) fn sorted(mut self) -> Self {
        self.found.sort_by_key(|finding| finding.problem.span.start);
        self
    }

    /// The findings, each with its place.
    fn placed(&self) -> impl Iterator<Item = (&Finding, Position)> {
        let offsets = self.found.iter().map(|finding| finding.problem.span.start);
        self.found.iter().zip(self.source.positions(offsets))
    }

    fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|finding| finding.severity == severity).count()
    }

    /// `3 VMs: 1 error, 2 warnings`
    fn summary(&self) -> String {
        let counted = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            _ => Some(format!("{count} {what}s")),
        };
        let counts = [Severity::Error, Severity::Warning]
            .map(|severity| counted(self.count(severity), severity.name()));
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        let counts = if counts.is_empty() { "all well".into() } else { counts.join(", ") };
        let vms = self.vms.map(|vms| counted(vms, "VM").unwrap_or("no VM".into()) + ": ");
        format!("{}{counts}\n", vms.unwrap_or_default())
    }
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Groups the items of several VMs by key, and takes the first of each VM.
pub(super) fn groups<'a, K: Ord, T>(
    items: impl Iterator<Item = (K, &'a str, T)>,
) -> impl Iterator<Item = (K, Vec<(&'a str, T)>)> {
    let mut groups: BTreeMap<K, Vec<(&str, T)>> = BTreeMap::new();
    for (key, vm, item) in items {
        let group = groups.entry(key).or_default();
        if group.last().is_none_or(|(last, _)| *last != vm) {
            group.push((vm, item));
        }
    }
    groups.into_iter().filter(|(_, group)| group.len() > 1)
}
