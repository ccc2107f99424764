//! The result of a command: the same facts as text for people and as JSON for scripts.

use crate::json::Value;

pub(crate) trait Report: Send {
    /// For standard output, newline at the end; empty when there is nothing to say.
    fn text(&self) -> String;
    fn json(&self) -> Value;
    /// It went to standard output as it came, and there is nothing left to print.
    fn is_streamed(&self) -> bool {
        false
    }
    /// Somebody else's exit code that is passed on.
    fn exit_code(&self) -> u8 {
        0
    }
}

/// The rest of a result whose output was streamed.
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
