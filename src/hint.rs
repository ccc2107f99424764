//! Commands to type next. Every hint, and every other line that names a command of qqmgr, passes
//! through here before it is printed.
//!
//! In a text, a command stands in backquotes: `` `qqmgr stop dev` ``. When the configuration was
//! named with `-c FILE`, the printed command repeats that option. Without it, the command would act
//! on another configuration, which may have a VM of the same name.

use crate::text::shell_quoted;
use std::path::Path;
use std::sync::OnceLock;

/// The start of a command in a text.
const COMMAND: &str = "`qqmgr ";
/// Commands that need no configuration.
const WITHOUT_CONFIG: &[&str] = &["completions", "help", "init", "-c "];

/// The text `-c FILE`, quoted for a shell, with a blank at the end. Set once, from the command
/// line.
static OPTION: OnceLock<String> = OnceLock::new();

/// Stores the FILE of `-c FILE`. `QQMGR_CONFIG` is not repeated: a variable that the user has set
/// stays set.
pub(crate) fn repeat_config(file: &Path) {
    let _ = OPTION.set(option(file));
}

fn option(file: &Path) -> String {
    format!("-c {} ", shell_quoted(file.as_os_str()))
}

/// The text with `-c FILE` in each of its commands, if the option was given.
pub(crate) fn complete(text: &str) -> String {
    OPTION.get().map_or(text.to_string(), |option| with_option(text, option))
}

fn with_option(text: &str, option: &str) -> String {
    let mut pieces = text.split(COMMAND);
    let first = pieces.next().unwrap_or_default().to_string();
    pieces.fold(first, |text, rest| {
        let without = WITHOUT_CONFIG.iter().any(|name| rest.starts_with(name));
        format!("{text}{COMMAND}{}{rest}", if without { "" } else { option })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_repeats_the_option() {
        let option = option(Path::new("my dir/it's.toml"));
        let quoted = r"'my dir/it'\''s.toml'";
        for (text, expected) in [
            ("`qqmgr stop a` ends it", format!("`qqmgr -c {quoted} stop a` ends it")),
            (
                "`start`, `qqmgr check` and `qqmgr start dev`",
                format!("`start`, `qqmgr -c {quoted} check` and `qqmgr -c {quoted} start dev`"),
            ),
            ("`qqmgr help stop` shows how", "`qqmgr help stop` shows how".into()),
            ("`qqmgr -c x stop a`", "`qqmgr -c x stop a`".into()),
            ("usage: qqmgr stop [OPTIONS] VM", "usage: qqmgr stop [OPTIONS] VM".into()),
            ("", String::new()),
        ] {
            assert_eq!(with_option(text, &option), expected);
        }
        let plain = super::option(Path::new("../b.toml"));
        assert_eq!(with_option("`qqmgr list`", &plain), "`qqmgr -c ../b.toml list`");
    }
}
