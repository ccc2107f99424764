//! The result of a job.

use crate::json::Value;

pub(super) struct Done {
    pub(super) exit_code: u8,
    /// The members of its result beside those of every job.
    pub(super) members: Vec<(&'static str, Value)>,
    /// Whether the guest can no longer power off.
    pub(super) is_over: bool,
}
