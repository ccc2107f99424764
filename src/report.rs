//! The result of a command: the same facts as text for people and as JSON for scripts.

use crate::json::Value;

pub(crate) trait Report: Send {
    /// The text for standard output, with a newline at the end; empty when there is nothing to say.
    fn text(&self) -> String;
    fn json(&self) -> Value;
    /// Whether the output was streamed to standard output, so that nothing is left to print.
    fn is_streamed(&self) -> bool {
        false
    }
    /// The exit code: 0, or that of another program, which is passed on.
    fn exit_code(&self) -> u8 {
        0
    }
}

/// The result of a command whose output was streamed.
pub(crate) struct Streamed {
    pub(crate) exit_code: u8,
}

impl Report for Streamed {
    fn text(&self) -> String {
        String::new()
    }

    fn json(&self) -> Value {
        Value::Null
    }

    fn is_streamed(&self) -> bool {
        true
    }

    fn exit_code(&self) -> u8 {
        self.exit_code
    }
}
