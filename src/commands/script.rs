//! The table of a VM that runs the command line of a script. Pure.

use crate::config::schema::with_comments;
use crate::json::Value;
use crate::pasted::{is_wrapper, program};
use crate::text::{command_line, printable, shell_quoted};
use crate::vm::argv::CONSOLE;
use crate::vm::forward::{SSH_PORT, for_ssh, forwards};
use crate::vm::named::named;
use crate::vm::options::{Argument, arguments_of, takes_value};
use std::path::Path;

/// The options that qqmgr sets itself.
const MANAGED: &[&str] = &["daemonize", "monitor", "pidfile", "qmp"];
/// The port of a guest's ssh server.
const GUEST_PORT: u16 = 22;

/// The directories from which relative paths start: in the script, and in the configuration.
pub(super) struct Dirs<'a> {
    pub(super) here: &'a Path,
    pub(super) config: &'a Path,
}

/// The table of a VM.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// The text of the table, without a header for the file.
    pub(super) text: String,
    /// Notes about words that are changed or missing in the table, with the reasons.
    pub(super) notes: Vec<String>,
    /// The strings of `cmd`.
    cmd: Vec<String>,
    /// The `id` of a `-chardev stdio`, which becomes qqmgr's console.
    stdio: Option<String>,
    console: bool,
    gdb: bool,
    ssh_port: Option<u16>,
    managed: Vec<String>,
}

impl Script {
    /// Makes the table of the VM `name`, which has this command line. `None` if the command line
    /// names no program.
    pub(super) fn new(name: &str, words: &[String], dirs: &Dirs) -> Option<Self> {
        let at = program_at(words)?;
        let mut arguments = arguments_of(&words[at..]).into_iter();
        let stdio = arguments.find(|it| it.name == "chardev" && it.first() == "stdio");
        let stdio = stdio.and_then(|chardev| chardev.get("id").map(str::to_string));
        let mut script = Self { stdio, ..Self::default() };
        if at > 0 {
            let left_out = command_line(&words[..at]);
            script.notes.push(format!("left out, as `start` runs QEMU itself: `{left_out}`"));
        }
        let mut rest = &words[at + 1..];
        while let Some(first) = rest.first() {
            let count = if takes_value(first) { rest.len().min(2) } else { 1 };
            script.option(&rest[..count], dirs);
            rest = &rest[count..];
        }
        // qqmgr adds the last serial port itself.
        let own = format!("-serial chardev:{CONSOLE}");
        if script.cmd.iter().rfind(|line| line.starts_with("-serial ")) == Some(&own) {
            script.cmd.retain(|line| *line != own);
        }
        if !script.managed.is_empty() {
            let managed = script.managed.join("`, `");
            script.notes.push(format!("left out, as qqmgr has its own: `{managed}`"));
        }
        if script.ssh_port.is_none() {
            let rule = for_ssh(GUEST_PORT);
            script.notes.push(format!(
                "no port leads to the guest's ssh: `{rule}` does, with `port = 2222`"
            ));
        }
        script.text = script.table(name, &moved_program(&words[at], dirs));
        Some(script)
    }

    /// Reads an option with its value, or an operand.
    fn option(&mut self, words: &[String], dirs: &Dirs) {
        let arguments = arguments_of(std::iter::once("").chain(words.iter().map(String::as_str)));
        let [argument] = arguments.as_slice() else { return };
        let Argument { name, value, .. } = argument;
        let id = argument.get(if name == "mon" { "chardev" } else { "id" });
        match name.as_str() {
            "nographic" => {
                self.cmd.push("-display none".into());
                self.console = true;
                self.notes.push("`-nographic` is `-display none` and `console = true`".into());
            }
            "serial" if value == "stdio" || value == "mon:stdio" => {
                self.console = true;
                self.notes.push(format!("`-serial {value}` is `console = true`"));
                self.cmd.push(format!("-serial chardev:{CONSOLE}"));
            }
            "chardev" | "mon" if self.stdio.is_some() && id == self.stdio.as_deref() => {
                self.console = true;
                self.managed.push(command_line(words));
            }
            "s" => {
                self.gdb = true;
                self.notes.push("`-s` is `gdb = true`: `qqmgr gdb --guest`".into());
            }
            name if MANAGED.contains(&name) => self.managed.push(command_line(words)),
            _ => {
                let line = self.line(words, &arguments, dirs);
                self.cmd.push(line);
            }
        }
    }

    /// The words of an option as a string of `cmd`, with its paths and its ssh port as they are
    /// written there.
    fn line(&mut self, words: &[String], arguments: &[Argument], dirs: &Dirs) -> String {
        let mut words = words.to_vec();
        let Some(last) = words.last_mut() else { return String::new() };
        for sign in self.stdio.iter().flat_map(|id| [format!(":{id}"), format!("={id}")]) {
            replace(last, &format!("chardev{sign}"), &format!("chardev{}{CONSOLE}", &sign[..1]));
        }
        for (named, _) in named(arguments) {
            let mut path = moved(&named.path, dirs);
            if arguments[0].name == "bios" && !path.contains('/') {
                path.insert_str(0, "./");
            }
            if path != named.path {
                // A comma is doubled in a list of options.
                let doubled = |path: &str| path.replace(',', ",,");
                if !replace(last, &doubled(&named.path), &doubled(&path)) {
                    replace(last, &named.path, &path);
                }
            }
        }
        let mut rules = forwards(arguments).into_iter().filter(|_| self.ssh_port.is_none());
        let rule = rules.find(|rule| !rule.udp && rule.guest_port == GUEST_PORT);
        let mut quoted: Vec<String> = words.iter().map(|word| string(word)).collect();
        if let Some(rule) = rule
            && let Some((before, after)) = words.last().and_then(|last| last.split_once(&rule.rule))
        {
            self.ssh_port = Some(rule.port);
            let before = string(&format!("{before}tcp:127.0.0.1:"));
            let after = string(&format!("-{}:{GUEST_PORT}{after}", rule.guest));
            quoted.pop();
            quoted.push(format!("{before}{SSH_PORT}{after}"));
        }
        quoted.join(" ")
    }

    fn table(&self, name: &str, program: &str) -> String {
        let name = if name.contains('.') { format!("\"{name}\"") } else { name.to_string() };
        let about = |key: &str| with_comments(&format!("@[vm.NAME] {key}@"));
        let mut lines = vec![format!("[vm.{name}]")];
        let note = |note: &String| format!("# {}", note.chars().map(printable).collect::<String>());
        lines.extend(self.notes.iter().map(note));
        lines.push(format!("qemu = {}  {}", toml(program), about("qemu")));
        lines.extend([about("cmd"), "cmd = [".into()]);
        lines.extend(self.cmd.iter().map(|line| format!("    {},", toml(line))));
        lines.push("]".into());
        for (key, is_on) in [("console", self.console), ("gdb", self.gdb)] {
            lines.extend(is_on.then(|| format!("{key} = true  {}", about(key))));
        }
        let port = match self.ssh_port {
            None => "\"none\"".to_string(),
            Some(0) => "\"auto\"".to_string(),
            Some(port) => port.to_string(),
        };
        lines.extend([String::new(), format!("[vm.{name}.ssh]"), format!("port = {port}")]);
        lines.extend(self.ssh_port.map(|_| "# User = \"root\"".to_string()));
        lines.join("\n") + "\n"
    }
}

/// The index of the program, after words such as `sudo` that only run it, and their options and
/// numbers.
fn program_at(words: &[String]) -> Option<usize> {
    let is_number = |word: &str| word.chars().all(|c| c.is_ascii_hexdigit() || ",x-".contains(c));
    let is_own = |at, word: &str| at > 0 && (word.starts_with('-') || is_number(word));
    let mut others = words.iter().enumerate();
    let known = program(words.iter().map(String::as_str));
    let at = known.or_else(|| others.position(|(at, word)| !is_wrapper(word) && !is_own(at, word)));
    at.filter(|at| !words[*at].is_empty() && !words[*at].starts_with('-'))
}

/// The path of a file for the configuration: relative if the file is below its directory.
fn moved(path: &str, dirs: &Dirs) -> String {
    if !path.starts_with('/') && dirs.here == dirs.config {
        return path.to_string();
    }
    let absolute = dirs.here.join(path);
    let below = absolute.strip_prefix(dirs.config).ok().filter(|path| !path.as_os_str().is_empty());
    below.unwrap_or(&absolute).to_str().unwrap_or(path).to_string()
}

/// The program; a name without a slash is looked for in `PATH`.
fn moved_program(program: &str, dirs: &Dirs) -> String {
    if !program.contains('/') {
        return program.to_string();
    }
    let moved = moved(program, dirs);
    if moved.contains('/') { moved } else { format!("./{moved}") }
}

/// A word as it stands in a string of `cmd`. Two braces or two `<` begin a placeholder unless a
/// backslash is before them, outside of quotes.
fn string(word: &str) -> String {
    let mut quoted = shell_quoted(word.as_ref());
    for one in ["{", "<"].into_iter().filter(|one| word.contains(&one.repeat(2))) {
        quoted = quoted.replace(one, &format!("'\\{one}'"));
    }
    quoted
}

/// Replaces a path in the value of an option, if it stands there as a whole.
fn replace(value: &mut String, old: &str, new: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_none_or(|c| "=:,\"".contains(c));
    let is_path = |at: &usize| {
        is_edge(value[..*at].chars().next_back()) && is_edge(value[at + old.len()..].chars().next())
    };
    let mut places = value.match_indices(old).map(|(at, _)| at);
    let found = places.find(is_path);
    if let Some(at) = found {
        value.replace_range(at..at + old.len(), new);
    }
    found.is_some()
}

/// A TOML string, without a backslash where possible. A JSON string is a TOML string as well.
fn toml(text: &str) -> String {
    let json = Value::from(text).compact();
    let has_quote = text.contains(|c: char| c == '\'' || c.is_control());
    if json.contains('\\') && !has_quote { format!("'{text}'") } else { json }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::choices::Choices;
    use crate::config::resolve::Resolver;
    use crate::source::Source;

    fn dirs() -> Dirs<'static> {
        Dirs { here: Path::new("/c"), config: Path::new("/c") }
    }

    fn table(words: &[&str], dirs: &Dirs) -> String {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Script::new("vm", &words, dirs).unwrap().text
    }

    /// The program and the words that the VM of this table runs.
    fn argv(table: &str) -> Vec<String> {
        let source = Source { name: "f".into(), text: table.into() };
        let config = Config::examine_file(source, "/c/f".into(), "/c".into());
        let config = config.unwrap_or_else(|error| panic!("{}\n{table}", error.text()));
        assert_eq!(config.all_problems(), [], "{table}");
        let vm = config.vm("vm").unwrap();
        let choices = Choices { ssh_port: vm.port.fixed(), set: &[] };
        let resolver = Resolver::new(&config, vm, choices);
        let command = resolver.checked(resolver.command());
        let command = command.unwrap_or_else(|error| panic!("{}\n{table}", error.text()));
        assert_eq!(command.pasted.warnings, [], "{table}");
        std::iter::once(command.bin)
            .chain(command.words.into_iter().map(|word| word.text))
            .collect()
    }

    /// A small generator of random numbers (xorshift), the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % limit as u64).unwrap()
        }

        fn word(&mut self) -> String {
            const PIECES: &[&str] = &[
                "a",
                "Z",
                "0",
                "-",
                "--",
                ".",
                "/",
                ":",
                "=",
                ",",
                ",,",
                " ",
                "\t",
                "\n",
                "\r",
                "\'",
                "\"",
                "\\",
                "`",
                "$",
                "$x",
                "${y}",
                "$(z)",
                "~",
                "~/",
                "#",
                "*",
                "?",
                "[",
                "]",
                "{",
                "}",
                "{{",
                "}}",
                "{{.x}}",
                "<",
                ">",
                "<<",
                ">>",
                "<<.y>>",
                "|",
                "||",
                ";",
                "&",
                "&&",
                "!",
                "(",
                ")",
                "%",
                "@",
                "@[vm.NAME] cmd@",
                "^",
                "+",
                "_",
                "é",
                "\u{1f5a5}",
                "\u{7f}",
                "\u{1}",
                "\u{85}",
                "\u{2028}",
                "\u{feff}",
                "\"\"\"",
                "\'\'\'",
            ];
            (0..self.below(6)).map(|_| PIECES[self.below(PIECES.len())]).collect()
        }
    }

    #[test]
    fn ten_thousand_argvs_come_out_again() {
        const OPTIONS: &[&str] = &[
            "-m",
            "-smp",
            "-append",
            "--name",
            "-drive",
            "-device",
            "-S",
            "-snapshot",
            "-nodefaults",
            "-kernel",
            "-no-reboot",
            "-",
            "--",
            "-unknown",
        ];
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut all = 0;
        for _ in 0..10_000 {
            let mut words = vec!["qemu-system-x86_64".to_string()];
            for _ in 0..random.below(8) {
                let is_option = random.below(2) == 0;
                words.push(if is_option {
                    OPTIONS[random.below(OPTIONS.len())].to_string()
                } else {
                    random.word()
                });
            }
            all += words.len();
            let script = Script::new("vm", &words, &dirs()).unwrap();
            assert_eq!(argv(&script.text), words, "{}", script.text);
        }
        assert!(all > 30_000, "{all}");
    }

    #[test]
    fn options_that_become_keys() {
        let text = table(
            &[
                "sudo",
                "-E",
                "A=b c",
                "/c/build/qemu-system-arm",
                "-nographic",
                "-s",
                "-pidfile",
                "x",
                "-serial",
                "mon:stdio",
                "-daemonize",
                "-qmp",
                "unix:x,server",
                "--monitor",
                "none",
                "-kernel",
                "/c/Image",
                "-drive",
                "file=/c/a,,b.img,if=virtio",
                "-bios",
                "/c/fw",
                "-append",
                "root=/c/x",
                "-netdev",
                "user,id=n,hostfwd=tcp::80-:80,hostfwd=tcp:0.0.0.0:10022-10.0.2.15:22,hostfwd=tcp::23-:22",
            ],
            &dirs(),
        );
        assert_eq!(
            argv(&text),
            [
                "build/qemu-system-arm",
                "-display",
                "none",
                "-kernel",
                "Image",
                "-drive",
                "file=a,,b.img,if=virtio",
                "-bios",
                "./fw",
                "-append",
                "root=/c/x",
                "-netdev",
                "user,id=n,hostfwd=tcp::80-:80,hostfwd=tcp:127.0.0.1:10022-10.0.2.15:22,hostfwd=tcp::23-:22"
            ]
        );
        for line in [
            "console = true",
            "gdb = true",
            "port = 10022",
            "# left out, as `start` runs QEMU itself: `sudo -E 'A=b c'`",
            "# left out, as qqmgr has its own: `-pidfile x`, `-daemonize`, `-qmp unix:x,server`, `--monitor none`",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn paths_from_another_directory() {
        let dirs = Dirs { here: Path::new("/c/sub"), config: Path::new("/c") };
        let text =
            table(&["./q", "-hda", "a", "-kernel", "/d/k", "-drive", "if=none,file=f,id=f"], &dirs);
        assert_eq!(
            argv(&text),
            ["sub/./q", "-hda", "sub/a", "-kernel", "/d/k", "-drive", "if=none,file=sub/f,id=f"]
        );
        let dirs = Dirs { here: Path::new("/h"), config: Path::new("/c") };
        let text = table(&["../h/q", "-hda", "a"], &dirs);
        assert_eq!(argv(&text), ["/h/../h/q", "-hda", "/h/a"]);
    }

    #[test]
    fn programs_after_others() {
        for (line, at) in [
            ("nice -n 10 taskset 0xff ./my-vm -m 1", Some(5)),
            ("exec ./my-vm", Some(1)),
            ("A=1 B= qemu -m 1", Some(2)),
            ("my-vm qemu-system-x86_64", Some(0)),
            ("-m 1", None),
            ("sudo", None),
            ("", None),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            assert_eq!(program_at(&words), at, "{line}");
        }
    }
}
