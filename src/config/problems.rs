//! Problems of one text, collected so that all are reported together.

use crate::source::Problem;

/// Collects problems, each once.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// These problems in the order of the file, each once.
    pub(super) fn each_once(problems: impl IntoIterator<Item = Problem>) -> Vec<Problem> {
        let mut all = Self::default();
        problems.into_iter().for_each(|problem| all.add(problem));
        all.0.sort_by_key(|problem| problem.span.start);
        all.0
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Gives the value, or adds the problem.
    pub(super) fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }
}
