//! What a command gives back: the same facts as text for people and as JSON for scripts.

use crate::json::Value;

pub(crate) trait Report: Send {
    /// For standard output, newline at the end; empty when there is nothing to say.
    fn text(&self) -> String;
    fn json(&self) -> Value;
    /// Somebody else's exit code that is passed on.
    fn exit_code(&self) -> u8 {
        0
    }
}
