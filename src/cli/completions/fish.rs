//! For fish, from 3.0 on.

use super::{Command, Completion, FlagKind, GLOBAL_FLAGS, fill, lines, places, quoted};
use crate::cli::spec::Flag;

pub(super) fn script(commands: &[&Command]) -> String {
    let described = commands.iter().map(|c| format!("echo {}\\t{}", c.name, quoted(c.about)));
    // Each is what is said of the place in a line, and what is offered there.
    let mut rows = vec![(":0".to_string(), argument(Completion::Commands))];
    rows.extend(GLOBAL_FLAGS.iter().map(|flag| (".*".into(), row(flag))));
    for command in commands {
        let flag = |flag: &&Flag| (format!("{}:.*", command.name), row(flag));
        rows.extend(command.flags.iter().map(flag));
        let places = places(command);
        rows.extend(places.iter().map(|(place, operand)| {
            let numbers = match place {
                Some(place) => place.to_string(),
                None => format!("([{}-9]|\\d\\d)", places.len() - 1),
            };
            (format!("{}:{numbers}", command.name), argument(Completion::of_operand(operand)))
        }));
    }
    rows.retain(|(_, offered)| !offered.is_empty());
    let rows = rows
        .iter()
        .map(|(place, offered)| format!("complete -c qqmgr -n \"__qqmgr_at '{place}'\" {offered}"));
    fill(SCRIPT, commands).replace("@DESCRIBED@\n", &lines(4, described)) + &lines(0, rows)
}

/// `-l timeout -x -d 'Give up ...'`
fn row(flag: &Flag) -> String {
    let short = flag.short.map(|letter| format!("-s {letter} ")).unwrap_or_default();
    let value = match flag.kind {
        FlagKind::Value { name, .. } | FlagKind::List { name, .. } => match Completion::of(name) {
            Completion::Files => "-r -F ".into(),
            other => format!("-x {} ", argument(other)),
        },
        FlagKind::Switch(_) | FlagKind::Optional { .. } => String::new(),
    };
    format!("{short}-l {} {value}-d {}", flag.long, quoted(flag.help))
}

fn argument(completion: Completion) -> String {
    match completion {
        Completion::Vms => "-a '(__qqmgr_names VM list)'".into(),
        Completion::Images => "-a '(__qqmgr_names image img list)'".into(),
        Completion::Tags => "-a '(__qqmgr_tags)'".into(),
        Completion::Commands => "-a '(__qqmgr_commands)'".into(),
        Completion::Files => "-F".into(),
        Completion::Words(words) => format!("-a '{}'", words.join(" ")),
        Completion::Nothing => String::new(),
    }
}

const SCRIPT: &str = r#"# fish completion for qqmgr, made by `qqmgr completions fish`

# Reads the words before the cursor as qqmgr does. Prints where it is, as `stop:1`: the command and
# the number of its operands, or `stop:value` of a flag; then the configuration, and the operands.
# Fails where nothing of qqmgr can follow.
function __qqmgr_line
    set -l command ''
    set -l flag ''
    set -l config ''
    set -l ended ''
    set -l operands
    for word in (commandline -opc)[2..-1]
        if test -n "$flag"
            contains -- $flag -c --config; and set config $word
            set flag ''
        else if test -n "$ended"; or not string match -qr -- '^-.' $word
            if test -z "$command"
                set command $word
            else
                set operands $operands $word
            end
            contains -- "$command:"(count $operands) @REST@; and return 1
        else if test "$word" = --
            contains -- "$command" @WORDS@; and return 1
            set ended 1
        else if string match -q -- '--config=*' $word
            set config (string replace -- --config= '' $word)
        else if string match -q -- '--*' $word
            contains -- $word @WITH_VALUE@; and set flag $word
        else if string match -qr -- '^-[^@LETTERS@]*[@LETTERS@]' $word
            set flag -(string replace -r -- '^-[^@LETTERS@]*([@LETTERS@]).*' '$1' $word)
            set -l tail (string replace -r -- '^-[^@LETTERS@]*[@LETTERS@]' '' $word)
            test "$flag" = -c; and set config $tail
            test -n "$tail"; and set flag ''
        end
    end
    set -l place (count $operands)
    test -n "$flag"; and set place value
    printf '%s\n' "$command:$place" "$config" $operands
end

function __qqmgr_at
    set -l line (__qqmgr_line); and string match -qr -- "^$argv[1]\$" $line[1]
end

function __qqmgr_commands
@DESCRIBED@
end

# Those that are not on the line yet.
function __qqmgr_names
    set -l line (__qqmgr_line)
    set -l files (string replace -r '^~/' "$HOME/" -- (commandline -opc)[1] "$line[2]")
    command -s $files[1] >/dev/null; or set files[1] qqmgr
    command -s $files[1] >/dev/null; or return
    set -l config
    test -n "$files[2]"; and set config -c $files[2]
    for name in (command $files[1] $config $argv[2..-1] -q 2>/dev/null)
        contains -- $name $line[3..-1]; or echo $name\t$argv[1]
    end
end

function __qqmgr_tags
    set -l line (__qqmgr_line)
    contains -- $line[3] load delete; and __qqmgr_names TAG snapshot list $line[4]
end

complete -c qqmgr -f
"#;
