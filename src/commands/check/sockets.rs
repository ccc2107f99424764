//! The rule about sockets of other programs, to which QEMU connects when it starts.

use super::subject::Subject;
use crate::config::Config;
use crate::source::{Problem, Span};
use crate::vm::options::Pairs;
use crate::vm::sockets::connected;

/// The options of a client that tries again, so that its server may come later.
const RECONNECTS: &[&str] = &["reconnect", "reconnect-ms"];

/// Reports the sockets that do not exist, so that nothing serves them, and that are in no words of
/// a helper.
pub(super) fn missing(config: &Config, subject: &Subject) -> Vec<Problem> {
    let is_helped = |path: &str| {
        let mut words = subject.helpers.iter().flat_map(|(_, words, _)| words);
        words.any(|word| word.text.contains(path))
    };
    let retries = |span: Span| {
        let mut arguments = subject.arguments.iter().filter(|argument| argument.span == span);
        let tries = |value: &str| {
            let pairs = Pairs::parse(value, "");
            RECONNECTS.iter().any(|key| pairs.get(key).is_some_and(|seconds| seconds != "0"))
        };
        arguments.any(|argument| argument.is_expanded || tries(&argument.value))
    };
    let sockets = connected(&subject.arguments).into_iter();
    let missing = sockets.filter(|(path, span)| {
        !is_helped(path) && !config.dir().join(path).exists() && !retries(*span)
    });
    let problem = |(path, span): (String, Span)| {
        let message = format!("nothing serves `{path}`, to which QEMU would connect");
        let hint = "start the program that makes it before the VM, or by `[vm.NAME.helpers]`";
        Problem::new(config.source.within(span, &path), message).hint(hint)
    };
    missing.map(problem).collect()
}
