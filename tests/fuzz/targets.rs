//! The parsers that get mutated inputs, and the rules that hold for every input. A rule that does
//! not hold panics.

use crate::cli::{self, Parsed};
use crate::commands::table;
use crate::config::Config;
use crate::config::choices::Choices;
use crate::config::resolve::Resolver;
use crate::json;
use crate::source::{Source, Span};
use crate::ssh::config::{Places, render};
use crate::template::{self, Template};
use crate::terminal::Filter;
use crate::text::shell_quoted;
use crate::toml;
use crate::vm::options;
use crate::words;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::rc::Rc;

pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) seeds: &'static [&'static str],
    pub(crate) check: fn(&[u8]),
}

const CONFIG: &str = include_str!("seed.toml");

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "toml",
        seeds: &[
            CONFIG,
            "a.b.c = [1, 0x_f, 1.5e-3, -inf, { x = \"\\u00e9\", y = '''z''' }]\n[[a.d]]\n[a.d.e]\n",
            "s = \"\"\"\n a \\\n  b \"\" \\\\ \"\"\"\nt = '''\r\n'x'''\n\"q k\".'l' = true # c\n",
        ],
        check: toml_rules,
    },
    Target { name: "config", seeds: &[CONFIG], check: config_rules },
    Target {
        name: "json",
        seeds: &[
            r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2}}, "capabilities": ["oob"]}}"#,
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": null}"#,
            r#"[1, -0.5e+3, "\ud83d\ude00\n\"\\", true, false, [], {}]"#,
        ],
        check: json_rules,
    },
    Target {
        name: "template",
        seeds: &["a {{.b}} c", "<<.a.b>>{{ .c }}", "{<{{.x-y_z.1}}>}"],
        check: template_rules,
    },
    Target {
        name: "words",
        seeds: &[
            "-drive file='{{.a}}',if=virtio -m \"{{.b}} c\" \\'",
            "a\\\nb 'c d' \"e\\\"f\" <<.g>>",
        ],
        check: words_rules,
    },
    Target {
        name: "argv",
        seeds: &[
            "stop\n--timeout\n5\n-v\n--\nvm",
            "-c\nfile\nssh\nvm\n-L\n1:2:3\n--json",
            "put\n--json\nvm\na\nb\n/tmp\n--config=x",
        ],
        check: argv_rules,
    },
    Target {
        name: "ssh.conf",
        seeds: &[
            "User root\nIdentityFile /a b/c\nControlPath mux-%h",
            "SendEnv A B\nProxyCommand nc 'a b' %h\nLogLevel\n",
        ],
        check: ssh_rules,
    },
    Target {
        name: "terminal",
        seeds: &[
            "\u{1b}[1;31mä€🦀\u{1b}[0m\r\n\u{1b}[6n\u{1b}[2J\u{1b}]0;x\u{7}\u{1b}P1$q\u{1b}\\",
            "\u{9b}31m\u{1b}(B\u{1b}c\u{1b}[?1049h\u{1b}[38:5:1m\u{8}\t\u{18}",
        ],
        check: terminal_rules,
    },
];

fn toml_rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match toml::parse(text) {
        Ok(table) => table.iter().for_each(|(key, value)| {
            assert!(text.get(key.span.start..key.span.end).is_some());
            assert!(text.get(value.span.start..value.span.end).is_some());
            if let toml::Kind::String(string) = &value.kind {
                let places = value.places(text);
                for (index, _) in string.char_indices() {
                    let place = places(Span { start: index, end: index });
                    assert!(text.is_char_boundary(place.start));
                }
            }
        }),
        Err(problem) => {
            let source = Source { name: "f".into(), text: text.into() };
            assert!(text.get(problem.span.start..problem.span.end).is_some());
            let excerpt = source.excerpt(problem.span, source.position(problem.span.start));
            assert!(excerpt.lines().count() == 4);
        }
    }
}

/// A whole configuration, as `start` reads it: whatever it is, an error or a command line.
fn config_rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let source = Source { name: "f".into(), text: text.into() };
    if let Ok(config) = Config::examine_file(source, "/c/f".into(), "/c".into()) {
        let choices = Choices::default();
        for vm in &config.vms {
            let resolver = Resolver::new(&config, vm, choices);
            if let Ok(options) = resolver.ssh_options() {
                let lines = render(&vm.name, 1, &options, &places());
                let repeated: usize = options.iter().map(|(_, values)| values.len()).sum();
                assert!(lines.lines().count() <= 9 + repeated, "{lines}");
            }
            let words = resolver.command().words;
            assert!(words.iter().all(|word| text.get(word.span.start..word.span.end).is_some()));
            options_rules(words);
        }
    }
}

/// The options of QEMU are read from the words, and never more than is there.
fn options_rules(words: Vec<words::Word>) {
    let length: usize = words.iter().map(|word| word.text.len()).sum();
    let arguments = options::arguments(words);
    assert!(arguments.iter().map(|one| one.name.len() + one.value.len()).sum::<usize>() <= length);
    for argument in arguments.iter().filter(|argument| !argument.value.starts_with('{')) {
        let pairs = &argument.pairs;
        let values = pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        // `a` is `a=on`, and `noa` is `a=off`; the first key may be implied, like `fsdriver`.
        assert!(values <= argument.value.len() + 3 * pairs.len() + 8, "{pairs:?}");
    }
}

fn json_rules(input: &[u8]) {
    match json::parse(input) {
        Ok(value) => {
            assert_eq!(json::parse(value.compact().as_bytes()), Ok(value.clone()));
            assert_eq!(json::parse(value.pretty().as_bytes()), Ok(value));
        }
        Err(error) => assert!(error.offset <= input.len()),
    }
}

fn template_rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let value: Rc<str> = "{{.again}}".into();
    let mut replaced = 0;
    let rendered = template::render(&Template { text, place: &|span| span }, &mut |placeholder| {
        replaced += 1;
        assert!(text.get(placeholder.span.start..placeholder.span.end).is_some());
        Ok(Rc::clone(&value))
    });
    match rendered {
        Ok(out) => assert_eq!(out.matches("{{.again}}").count(), replaced),
        Err(problem) => assert!(text.get(problem.span.start..problem.span.end).is_some()),
    }
}

fn words_rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let split = |text: &str| {
        words::split(&Template { text, place: &|span| span }, &mut |_| Ok("a 'b c'".into()))
    };
    let Ok(found) = split(text) else { return };
    for word in &found {
        assert!(text.get(word.span.start..word.span.end).is_some());
        let quoted = shell_quoted(word.text.as_ref());
        // Braces would be placeholders to us, as they are not to a shell.
        if !word.text.contains("{{") && !word.text.contains("<<") {
            let again: Vec<String> = split(&quoted).unwrap().into_iter().map(|w| w.text).collect();
            assert_eq!(again, std::slice::from_ref(&word.text));
        }
    }
}

fn argv_rules(input: &[u8]) {
    let argv: Vec<OsString> =
        input.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.into())).collect();
    match cli::parse(&table(), &argv).parsed {
        Ok(Parsed::Run(_, args)) => {
            // What is an operand was typed.
            assert!(args.operands.iter().all(|operand| argv.contains(operand)));
        }
        Ok(Parsed::Help | Parsed::Version) => {}
        Err(error) => assert!(error.text().starts_with("qqmgr: error: ")),
    }
}

fn places() -> Places {
    let [control, known_hosts, project] = ["/r", "/r/known_hosts", "/p"].map(PathBuf::from);
    Places { control, known_hosts, written: project.clone(), project }
}

/// However values look, the file has one `Host`, and a line for each value.
fn ssh_rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let options: Vec<(String, Vec<String>)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        // What the configuration lets through.
        .filter(|(name, value)| {
            name.chars().all(|c| c.is_ascii_alphanumeric())
                && !["Host", "Match"].iter().any(|block| block.eq_ignore_ascii_case(name))
                && !value.contains(['\n', '\r', '\0'])
        })
        .map(|(name, value)| (name.to_string(), vec![value.to_string()]))
        .collect();
    let file = render("vm", 22, &options, &places());
    assert_eq!(file.lines().filter(|line| line.starts_with("Host ")).count(), 1);
    assert!(file.lines().skip(2).all(|line| line.starts_with("    ")));
}

/// Nothing goes through but text, four control characters, and `ESC [ parameters m`; in whichever
/// pieces it comes.
fn terminal_rules(input: &[u8]) {
    let mut filter = Filter::new();
    let whole = filter.pass(input);
    let (mut other, (left, right)) = (Filter::new(), input.split_at(input.len() / 2));
    assert_eq!([other.pass(left), other.pass(right)].concat(), whole);
    assert_eq!(other.end(), filter.end());

    let text = String::from_utf8(whole).expect("what is shown is UTF-8");
    let mut parts = text.split('\u{1b}');
    let is_harmless =
        |text: &str| !text.contains(|c: char| c.is_control() && !"\n\t\r\u{8}".contains(c));
    assert!(parts.next().is_none_or(is_harmless));
    for part in parts {
        let rest = part.strip_prefix('[').expect("a sequence is CSI");
        let (parameters, rest) = rest.split_once('m').expect("it sets a colour");
        assert!(parameters.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':'));
        assert!(is_harmless(rest));
    }
}
