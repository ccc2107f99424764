//! Finds shell syntax in a command line that was pasted from a script into `cmd` or a helper: words
//! that a shell would not pass on to the program, or not as they are. Pure.
//!
//! The program gets the words as they are written. The words that a shell would have passed on are
//! for the rules of `check`, and each mistake is reported once.

mod expansion;

use crate::source::{Problem, Source, Span};
use crate::words::Word;
use expansion::{Expands, Expansion, expansions, name_at};

/// Programs that run another one, before QEMU in a script.
#[rustfmt::skip]
const WRAPPERS: &[&str] = &[
    "chroot", "chrt", "command", "doas", "docker", "env", "exec", "gdb", "ionice", "ip", "ltrace",
    "nice", "nohup", "nsenter", "numactl", "perf", "podman", "prlimit", "rr", "screen", "script",
    "setarch", "setsid", "stdbuf", "strace", "sudo", "systemd-run", "taskset", "time", "timeout",
    "tmux", "unshare", "valgrind", "xvfb-run",
];
/// The variables that scripts have for QEMU, in lower case.
const VARIABLES: &[&str] =
    &["qemu", "qemu_bin", "qemu_binary", "qemu_cmd", "qemu_exe", "qemu_system"];
/// The number of words of wrappers that may stand before QEMU.
const LEADING_WORDS_MAX: usize = 16;
/// Words that end a command.
const SEPARATORS: &[&str] = &["&", "&&", ";", "|", "|&", "||"];
/// The starts of words that redirect, after a number; longer ones first.
const REDIRECTIONS: &[&str] = &["&>>", "<<<", ">>", ">&", "<&", "&>", ">|", "<>", ">", "<"];
/// The hint for output that would go elsewhere.
const OUTPUT: &str = "leave it out: `qqmgr log` has the output of QEMU, or with `--helper` that of \
                      a helper, and `qqmgr serial` the guest's";
const INPUT: &str = "leave it out: there is no input";
/// The hint for a second command.
const SECOND: &str = "leave it out, with all that follows; a helper can be `sh -c 'COMMANDS'`";
/// The number of characters of a word that a message repeats.
const SHOWN_CHARS_MAX: usize = 40;

/// The words of a command line as a shell would have read them, and the mistakes in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pasted {
    /// The name of the helper whose command line it is; `None` for `cmd`.
    helper: Option<String>,
    /// The words that a shell would have passed on. Words that it would have expanded are as they
    /// are written; see [`is_expanded`].
    pub(crate) words: Vec<Word>,
    /// Mistakes that neither the program nor the guest can make sense of.
    pub(crate) errors: Vec<Problem>,
    /// Words that are probably mistakes.
    pub(crate) warnings: Vec<Problem>,
}

/// Whether a shell would put something else in place of a part of the word.
pub(crate) fn is_expanded(word: &Word) -> bool {
    !expansions(word).is_empty()
}

/// The number of words before the program, if these words run a virtual machine.
pub(crate) fn program<'a>(words: impl Iterator<Item = &'a str>) -> Option<usize> {
    let words: Vec<&str> = words.take(LEADING_WORDS_MAX).collect();
    let at = words.iter().position(|word| is_qemu(word))?;
    (at == 0 || is_wrapper(words[0])).then_some(at)
}

/// Whether a script's word runs the command after it, or sets a variable for that.
pub(crate) fn is_wrapper(word: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name_at(name).len() == name.len();
    let assigns = word.split_once('=').is_some_and(|(name, _)| is_name(name));
    assigns || WRAPPERS.contains(&base_name(word))
}

fn is_qemu(word: &str) -> bool {
    let name = base_name(word);
    let variable = word.strip_prefix('$').map(|name| name.trim_matches(['{', '}']).to_lowercase());
    let is_variable = variable.is_some_and(|name| VARIABLES.contains(&name.as_str()));
    is_variable || name.starts_with("qemu-system-") || ["kvm", "qemu", "qemu-kvm"].contains(&name)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The problem of words that begin with a program. `whose` begins the message, as in "`cmd`
/// begins".
pub(crate) fn program_problem(words: &[Word], whose: &str) -> Option<Problem> {
    let at = program(words.iter().map(|word| word.text.as_str()))?;
    let texts: Vec<&str> = words[..=at].iter().map(|word| word.text.as_str()).collect();
    let span = Span { start: words[0].span.start, end: words[at].span.end.max(words[0].span.end) };
    let message = format!("{whose} with the program, `{}`", texts.join(" "));
    let hint = "leave it out: `qemu` of the VM, or `bin` in `[qemu]`, names the program";
    Some(Problem::new(span, message).hint(hint))
}

impl Pasted {
    pub(crate) fn of_helper(name: &str) -> Self {
        Self { helper: Some(name.to_string()), ..Self::default() }
    }

    /// Reads the words of the next string of the command line, whose literal is at `literal`.
    pub(crate) fn read(&mut self, source: &Source, literal: Span, words: &[Word]) {
        let mut at = 0;
        if self.words.is_empty()
            && self.helper.is_none()
            && let Some(before) = program(words.iter().map(|word| word.text.as_str()))
        {
            self.errors.extend(program_problem(words, "`cmd` begins"));
            at = before + 1;
        }
        while let Some(word) = words.get(at) {
            let is_program = self.words.is_empty() && self.helper.is_some();
            at += self.word(source, literal, word, &words[at + 1..]);
            if is_program && !word.special.is_empty() {
                self.errors.append(&mut self.warnings);
            }
        }
    }

    /// The command line, for messages.
    fn line(&self) -> String {
        self.helper.as_ref().map_or("`cmd`".into(), |name| format!("the helper `{name}`"))
    }

    /// Reads a word, and returns the number of words that belong to it.
    fn word(&mut self, source: &Source, literal: Span, word: &Word, next: &[Word]) -> usize {
        let line = self.line();
        if word.special.first() == Some(&0) && word.text.starts_with('#') {
            let rest = &source.text[word.span.start..literal.end.max(word.span.end)];
            let end = word.span.start + rest.find('\n').unwrap_or(rest.len());
            let key = self.helper.as_deref().unwrap_or("cmd");
            let hint =
                format!("make `{key}` a list, a string for each line, with comments between");
            let message = format!("`#` begins no comment inside a string of {line}");
            self.warn(word.span, &message, &hint);
            return 1 + next.iter().take_while(|word| word.span.start < end).count();
        }
        let mut special = word.special.iter().filter_map(|at| word.text[*at..].chars().next());
        if let Some(c) = special.find(|c| !c.is_ascii()) {
            let message = format!("`{c}` (U+{:04X}) is not what it looks like", u32::from(c));
            self.warn(word.span, &message, "write a plain `-`, quote or blank; in quotes it stays");
            return 1;
        }
        if SEPARATORS.contains(&word.text.as_str()) && word.special.len() == word.text.len() {
            let hint = match word.text.as_str() {
                "&" => "leave it out: it runs in the background as it is",
                "|" | "|&" if self.helper.is_none() => OUTPUT,
                _ => SECOND,
            };
            let message = format!("`{}` is an argument like any other in {line}", word.text);
            self.warn(word.span, &message, hint);
            return 1 + next.len();
        }
        if let Some(has_target) = redirection(word) {
            let hint = if word.text.contains('<') { INPUT } else { OUTPUT };
            // `>log 2>&1` is one mistake.
            if self.warnings.iter().all(|other| other.hint.as_deref() != Some(hint)) {
                let message = format!("`{}` redirects nothing in {line}", cut(&word.text));
                self.warn(word.span, &message, hint);
            }
            return if has_target || next.is_empty() { 1 } else { 2 };
        }
        if let Some((before, separator)) = ended(source, word) {
            self.word(source, literal, &before, &[]);
            return self.word(source, literal, &separator, next);
        }
        if self.helper.is_some() && has_pattern(word) {
            let message = format!("`{}` is not replaced in {line}", cut(&word.text));
            self.warn(word.span, &message, "write the whole name, or put it in quotes");
        }
        let expansions = expansions(word);
        if !expansions.is_empty() {
            let others = expansions.iter().map(|one| self.expanded(source, one, word, next));
            let others = others.max().unwrap_or(0);
            self.words.push(word.clone());
            return 1 + others;
        }
        self.continued(source, literal, word);
        1
    }

    /// Reads a word in which a backslash may be meant to continue a line.
    fn continued(&mut self, source: &Source, literal: Span, word: &Word) {
        if let Some(text) = word.text.strip_suffix([' ', '\t'])
            && word.special.last() == Some(&text.len())
        {
            let hint = "remove the blank, or both: a string may have several lines";
            let message = "the backslash does not continue the line, with a blank after it";
            self.warn(word.span, message, hint);
            self.words.extend((!text.is_empty()).then(|| Word::plain(text, word.span)));
            return;
        }
        let Some((left, right)) = glued(source, literal, word) else {
            return self.words.push(word.clone());
        };
        let joined = cut(&word.text);
        let message = format!("the backslash at the end of the line makes one word, `{joined}`");
        let hint = format!(
            "a shell reads `{}`: put a blank before the backslash, or use `'''` for `\"\"\"`",
            cut(&format!("{left} {right}"))
        );
        self.warn(word.span, &message, &hint);
        self.words.extend([left, right].map(|text| Word::plain(text, word.span)));
    }

    /// Reports an expansion, and returns the number of words after its first that belong to it.
    fn expanded(&mut self, source: &Source, one: &Expansion, word: &Word, next: &[Word]) -> usize {
        let (mut text, mut count) = (word.text[one.start..].to_string(), 0);
        let end = loop {
            match (one.end(&text), next.get(count)) {
                (None, Some(next)) => {
                    count += 1;
                    text = format!("{text} {}", next.text);
                }
                (end, _) => break end.unwrap_or(text.len()),
            }
        };
        let text = &text[..end];
        let shown = match text.strip_prefix('`') {
            Some(command) => format!("$({})", cut(command.trim_end_matches('`'))),
            None => cut(text),
        };
        let is_run = matches!(one.kind, Expands::Output(_)) && !is_directory(text);
        let verb = if is_run { "run" } else { "replaced" };
        let message = format!("`{shown}` is not {verb} in {}", self.line());
        let hint = match &one.kind {
            Expands::Home => "write `{{.env.HOME}}/`".to_string(),
            _ if is_directory(text) => {
                "write `{{.config_dir}}`; relative paths start from there as well".into()
            }
            Expands::Variable(name) => format!(
                "write `{{{{.env.{name}}}}}` for the variable of the environment, or \
                 `{{{{.{name}}}}}` for one of `[vars]` or of `--set {name}=VALUE`"
            ),
            Expands::Arguments => {
                "leave it out: the arguments after `--` of `start` come after `cmd`".into()
            }
            Expands::Output(_) => "write what it prints, or `{{.output}}` for a variable of \
                                   `[vars]` or of `--set output=VALUE`"
                .into(),
        };
        self.warn(source.within(word.span, text), &message, &hint);
        count
    }

    /// Adds a warning, unless there is one with this message.
    fn warn(&mut self, span: Span, message: &str, hint: &str) {
        if self.warnings.iter().all(|other| other.message != message) {
            self.warnings.push(Problem::new(span, message).hint(hint));
        }
    }
}

/// Whether this is the directory that the script is in or was started in.
fn is_directory(text: &str) -> bool {
    let command = text.trim_start_matches(['$', '`', '(', '{', '"']);
    ["pwd", "PWD", "dirname ", "cd "].iter().any(|start| command.starts_with(start))
}

/// The word and the separator after it, as in `reset;`.
fn ended(source: &Source, word: &Word) -> Option<(Word, Word)> {
    let text = word.text.trim_end_matches(['&', ';', '|']);
    let (separator, is_end) = (&word.text[text.len()..], |at: &&usize| **at >= text.len());
    let count = word.special.iter().filter(is_end).count();
    let ends = !text.is_empty() && !separator.is_empty() && count == separator.len();
    let special = word.special.iter().filter(|at| !is_end(at)).copied().collect();
    ends.then(|| {
        let (span, all) = (source.within(word.span, separator), (0..count).collect());
        (
            Word { text: text.into(), span: word.span, special },
            Word { text: separator.into(), span, special: all },
        )
    })
}

/// Whether a shell would put the names of files in place of the word. `?` also begins the query of
/// a URL.
fn has_pattern(word: &Word) -> bool {
    let marks: &[u8] = if word.text.contains("://") { b"*" } else { b"*?" };
    word.special.iter().any(|at| marks.contains(&word.text.as_bytes()[*at]))
}

/// Whether the word redirects input or output, and if so, whether it has the target as well.
fn redirection(word: &Word) -> Option<bool> {
    let digits = word.text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &word.text[digits..];
    let operator = REDIRECTIONS.iter().find(|operator| rest.starts_with(**operator))?;
    word.special.contains(&digits).then_some(rest.len() > operator.len())
}

/// The two words that a shell would see in a word that a backslash at the end of a line has joined.
/// TOML skips the blanks after it; for a shell they separate words.
fn glued(source: &Source, literal: Span, word: &Word) -> Option<(String, String)> {
    if !source.at(literal).starts_with("\"\"\"") {
        return None;
    }
    let written = source.at(word.span);
    let (mut at, mut right) = (0, None);
    while let Some(found) = written[at..].find('\\') {
        let rest = &written[at + found + 1..];
        let next = rest.trim_start_matches([' ', '\t', '\r']);
        if let Some(next) = next.strip_prefix('\n').filter(|next| next.starts_with([' ', '\t'])) {
            right = Some(next.trim_start());
            break;
        }
        // An escape is a backslash and what follows it.
        at += found + 1 + rest.chars().next().map_or(0, char::len_utf8);
    }
    let right = right?.replace(['\'', '"', '\\'], "");
    let left = word.text.strip_suffix(&right).filter(|_| !right.is_empty())?;
    // A list of options, or a value, goes on in the next line.
    (!left.is_empty() && !left.ends_with([',', '=', ':'])).then(|| (left.to_string(), right))
}

/// A text for a message.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;
    use crate::words::split;

    /// Reads the words of a string with these contents.
    fn read(quotes: &str, text: &str) -> Pasted {
        let source = Source { name: String::new(), text: format!("{quotes}{text}{quotes}") };
        let literal = Span { start: 0, end: source.text.len() };
        let place =
            |span: Span| Span { start: span.start + quotes.len(), end: span.end + quotes.len() };
        let template = Template { text, place: &place };
        let mut pasted = Pasted::default();
        if let Ok(words) = split(&template, &mut |_| Ok("".into())) {
            pasted.read(&source, literal, &words);
        }
        pasted
    }

    fn texts(pasted: &Pasted) -> Vec<&str> {
        pasted.words.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn words_that_a_shell_passes_on() {
        for (text, expected, warnings) in [
            ("-m 1 # a b\n-S", &["-m", "1", "-S"][..], 1),
            ("-m 1 #", &["-m", "1"], 1),
            ("-m 1 > a -S 2>b </dev/null", &["-m", "1", "-S"], 2),
            ("-m 1 >", &["-m", "1"], 1),
            ("-m 1 && x", &["-m", "1"], 1),
            ("-m 1; x", &["-m", "1"], 1),
            ("-m 1\\; x';'", &["-m", "1;", "x;"], 0),
            ("-m $(a $(b c) d)e -S", &["-m", "$(a", "-S"], 1),
            ("-m `a b` -S", &["-m", "`a", "-S"], 1),
            ("-m $(a", &["-m", "$(a"], 1),
            ("$A/$B ${A}", &["$A/$B", "${A}"], 3),
            ("a;b 'x' a|b $ $- a~/ ~", &["a;b", "x", "a|b", "$", "$-", "a~/", "~"], 0),
            ("-m 1\\ \n-S", &["-m", "1", "-S"], 1),
        ] {
            let pasted = read("'''", text);
            assert_eq!(
                (texts(&pasted).as_slice(), pasted.warnings.len()),
                (expected, warnings),
                "{text}"
            );
        }
        let arguments = read("'''", "$QEMU_ARGS -m 1");
        assert_eq!((arguments.errors.len(), arguments.warnings.len()), (0, 1));
        let program = read("'''", "A=1 exec qemu-system-x86_64 -m 1");
        assert_eq!((texts(&program), program.errors.len()), (vec!["-m", "1"], 1));
    }

    #[test]
    fn every_short_text_can_be_read() {
        const PIECES: &[&str] = &[
            "$", "{", "}", "(", ")", "`", "\"", "\\", "\n", " ", "#", ">", "&", "~/", "é", "qemu",
        ];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts.iter().flat_map(|t| PIECES.iter().map(move |p| t.clone() + p)).collect();
            for text in &texts {
                for quotes in ["'''", "\"\"\""] {
                    let pasted = read(quotes, text);
                    for problem in pasted.warnings.iter().chain(&pasted.errors) {
                        let Span { start, end } = problem.span;
                        assert!(start <= end && end <= text.len() + 6, "{text}");
                    }
                }
            }
        }
    }
}
