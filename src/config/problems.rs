//! Problems of one text, collected so that all are reported together.

use crate::source::Problem;
use std::cell::RefCell;

/// Collects problems, each once.
#[derive(Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(crate) fn add(&self, problems: impl IntoIterator<Item = Problem>) {
        let mut all = self.0.borrow_mut();
        for problem in problems {
            if !all.contains(&problem) {
                all.push(problem);
            }
        }
    }

    /// Gives the value, or adds the problem.
    pub(crate) fn keep<T>(&self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.add([problem])).ok()
    }

    /// All problems so far, in the order of the file.
    pub(crate) fn sorted(&self) -> Vec<Problem> {
        let mut all = self.0.borrow().clone();
        all.sort_by_key(|problem| problem.span.start);
        all
    }
}
