//! How a program ended, and its output.

use crate::text::sanitized;
use std::process::ExitStatus;

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// Its standard error as text for a message.
    pub(crate) fn said(&self) -> String {
        text_of(&self.stderr)
    }
}

/// The standard error of a program as text for a message.
pub(crate) fn text_of(stderr: &[u8]) -> String {
    sanitized(String::from_utf8_lossy(stderr).trim())
}
