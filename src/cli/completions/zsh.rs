//! For zsh, by its own `_arguments`.

use super::{Command, Completion, Count, Flag, FlagKind, GLOBAL_FLAGS};
use super::{all_flags, fill, is_ambiguous, lines, places, quoted, spellings};

pub(super) fn script(commands: &[&Command]) -> String {
    let described =
        commands.iter().map(|command| quoted(&format!("{}:{}", command.name, command.about)));
    let global = GLOBAL_FLAGS.iter().flat_map(|flag| flag_specs(flag, ""));
    // Before the command they are understood, but not offered.
    let mut others = all_flags(commands).split_off(GLOBAL_FLAGS.len());
    others.retain(|flag| !is_ambiguous(flag, commands));
    let others = others.into_iter().flat_map(|flag| flag_specs(flag, "!"));
    fill(SCRIPT, commands)
        .replace("@DESCRIBED@\n", &lines(8, described))
        .replace("@GLOBAL@\n", &lines(8, global))
        .replace("@OTHERS@\n", &lines(8, others))
        .replace("@CASES@\n", &lines(4, commands.iter().map(|command| case(command))))
}

/// What follows the command.
fn case(command: &Command) -> String {
    let flags = command.flags.iter().flat_map(|flag| flag_specs(flag, ""));
    let operands = places(command).into_iter().map(|(place, operand)| {
        let place = place.map_or("*".into(), |place| (place + 1).to_string());
        let completion = Completion::of_operand(operand);
        quoted(&format!("{place}:{}", value(operand.name, completion)))
    });
    let has_rest = command.operands.iter().any(|operand| operand.count == Count::Rest);
    let specs = lines(12, flags.chain(operands).map(|spec| spec + " \\"));
    let no_more_flags = if has_rest { "-A '-*' " } else { "" };
    format!(
        "{})\n        _arguments -s -S {no_more_flags}$global \\\n{specs}            && return\n        ;;",
        command.name
    )
}

/// `'(-c --config)-c+[Read ...]:FILE:_files'` for each spelling.
fn flag_specs(flag: &Flag, mark: &str) -> Vec<String> {
    let all = spellings(flag);
    let of_flag = |name| value(name, Completion::of(name));
    let spec = |spelling: &String| {
        let next = if spelling.starts_with("--") { "=" } else { "+" };
        let (once, sign, value) = match flag.kind {
            FlagKind::Switch(_) => (true, "", String::new()),
            FlagKind::Optional { name, .. } => (true, "=-", format!("::{}", of_flag(name))),
            FlagKind::Value { name, .. } => (true, next, format!(":{}", of_flag(name))),
            FlagKind::List { name, .. } => (false, next, format!(":{}", of_flag(name))),
        };
        let others = if once { format!("({})", all.join(" ")) } else { "*".into() };
        quoted(&format!("{mark}{others}{spelling}{sign}[{}]{value}", escaped(flag.help)))
    };
    all.iter().map(spec).collect()
}

/// The message and the action for an operand or a value of that name.
fn value(name: &str, completion: Completion) -> String {
    let action = match completion {
        Completion::Vms => "_qqmgr_vms".into(),
        Completion::Images => "_qqmgr_images".into(),
        Completion::Tags => "_qqmgr_tags".into(),
        Completion::Commands => "_qqmgr_commands".into(),
        Completion::Files => "_files".into(),
        Completion::Words(words) => format!(" _qqmgr_words {}", words.join(" ")),
        Completion::Nothing => " ".into(),
    };
    format!("{}:{action}", escaped(name))
}

/// As a part of a specification for `_arguments`.
fn escaped(text: &str) -> String {
    [r"\", ":", "[", "]"]
        .iter()
        .fold(text.into(), |text: String, special| text.replace(special, &format!("\\{special}")))
}

const SCRIPT: &str = r#"#compdef qqmgr
# zsh completion for qqmgr, made by `qqmgr completions zsh`

_qqmgr_commands() {
    local -a commands=(
@DESCRIBED@
    )
    _describe -t commands COMMAND commands
}

# What ends with `=` goes on.
_qqmgr_words() {
    compadd "$expl[@]" -S '' - ${(M)@:#*=}
    compadd "$expl[@]" - ${@:#*=}
}

_qqmgr_vms() {
    _qqmgr_names list
}

_qqmgr_images() {
    _qqmgr_names img list
}

_qqmgr_tags() {
    [[ $line[1] == (load|delete) ]] && _qqmgr_names snapshot list $line[2]
}

# Those that are not on the line yet.
_qqmgr_names() {
    local file=${opt_args[-c]:-${opt_args[--config]:-$config}}
    local -a names named=("${(@)line[1,-2]}")
    file=${(Q)file/#\~\//$HOME/}
    whence -p $program >/dev/null || program=qqmgr
    names=(${(f)"$(command $program ${file:+-c} ${file:+"$file"} "$@" -q 2>/dev/null)"})
    names=(${names:|named})
    _wanted names expl NAME compadd -a - names
}

_qqmgr() {
    local curcontext=$curcontext state config program=${(Q)words[1]/#\~\//$HOME/}
    local -a line global others
    local -A opt_args
    global=(
@GLOBAL@
    )
    others=(
@OTHERS@
    )
    _arguments -C -s $global $others '1:COMMAND:_qqmgr_commands' '*:::WORD:->words' && return
    [[ $state == words ]] || return
    config=${opt_args[-c]:-$opt_args[--config]}
    words=("$line[1]" "$words[@]")
    (( CURRENT++ ))
    # What is behind `--` is not ours.
    [[ ' @WORDS@ ' != *" $words[1] "* ]] || (( $words[(i)--] >= CURRENT )) || return
    case $words[1] in
@CASES@
    esac
    return 1
}

if [[ $funcstack[1] == _qqmgr ]]; then
    _qqmgr "$@"
else
    compdef _qqmgr qqmgr
fi
"#;
