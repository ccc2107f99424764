//! For bash, back to 3.2, without the package bash-completion.

use super::{
    Command, Completion, GLOBAL_FLAGS, all_flags, fill, is_ambiguous, join, lines, places,
    spellings,
};
use crate::cli::spec::Flag;

pub(super) fn script(commands: &[&Command]) -> String {
    let flags = commands.iter().filter(|command| !command.flags.is_empty());
    let flags = flags.map(|c| format!("{}) _qqmgr_words {} ;;", c.name, flag_words(c.flags)));
    let values = all_flags(commands)
        .into_iter()
        .filter_map(|flag| Some(value(flag, "*", &flag_call(flag)?)));
    let values = ambiguous_values(commands).into_iter().chain(values);
    let operands = commands.iter().flat_map(|command| {
        places(command).into_iter().map(|(place, operand)| {
            let place = place.map_or("*".into(), |place| place.to_string());
            let call = call(Completion::of_operand(operand)).unwrap_or_else(|| ":".into());
            format!("{}:{place}) {call} ;;", command.name)
        })
    });
    fill(SCRIPT, commands)
        .replace("@FLAGS@\n", &lines(8, flags))
        .replace("@GLOBAL_FLAGS@", &flag_words(GLOBAL_FLAGS))
        .replace("@VALUES@\n", &lines(8, values))
        .replace("@OPERANDS@\n", &lines(8, operands))
}

/// The case of a flag of some command.
fn value(flag: &Flag, command: &str, call: &str) -> String {
    let places = spellings(flag).into_iter().map(|spelling| format!("{command}:{spelling}"));
    format!("{}) {call} ;;", places.collect::<Vec<_>>().join(" | "))
}

/// Of flags that mean something else in another command.
fn ambiguous_values(commands: &[&Command]) -> Vec<String> {
    let flags =
        commands.iter().flat_map(|command| command.flags.iter().map(|flag| (command.name, flag)));
    let ambiguous = flags.filter(|(_, flag)| is_ambiguous(flag, commands));
    ambiguous
        .map(|(command, flag)| value(flag, command, &flag_call(flag).unwrap_or_else(|| ":".into())))
        .collect()
}

fn flag_call(flag: &Flag) -> Option<String> {
    call(Completion::of(flag.kind.value_name()?))
}

fn flag_words(flags: &[&Flag]) -> String {
    join(flags.iter().flat_map(|flag| spellings(flag)))
}

/// What is called to offer that.
fn call(completion: Completion) -> Option<String> {
    match completion {
        Completion::Vms => Some("_qqmgr_names list".into()),
        Completion::Images => Some("_qqmgr_names img list".into()),
        Completion::Tags => Some("_qqmgr_tags".into()),
        Completion::Commands => Some("_qqmgr_words $commands".into()),
        Completion::Files => Some("_qqmgr_files".into()),
        Completion::Words(words) => Some(format!("_qqmgr_words {}", words.join(" "))),
        Completion::Nothing => None,
    }
}

const SCRIPT: &str = r#"# bash completion for qqmgr, made by `qqmgr completions bash`

# Offers the words that begin with the current one. Readline leaves $kept as it is.
_qqmgr_words() {
    local word
    for word; do
        [[ $word != "${current#[\"\']}"* ]] || word=$prefix$word COMPREPLY+=("${word#"$kept"}")
    done
}

_qqmgr_files() {
    local name
    compopt -o filenames 2>/dev/null
    while IFS= read -r name; do
        [[ -z $name ]] || name=$prefix$name COMPREPLY+=("${name#"$kept"}")
    done <<<"$(compgen -f -- "$current")"
}

# Those that are not on the line yet. Of what was typed, nothing but qqmgr is run.
_qqmgr_names() {
    local name names=() program=${COMP_WORDS[0]}
    case $program in \~/*) program=$HOME${program#?} ;; esac
    type -P "$program" >/dev/null || program=qqmgr
    case $config in
    [\"\']*) config=${config#?} config=${config%[\"\']} ;;
    \~/*) config=$HOME${config#?} config=${config//\\/} ;;
    *) config=${config//\\/} ;;
    esac
    for name in $("$program" ${config:+-c "$config"} "$@" -q 2>/dev/null); do
        [[ " ${operands[*]} " == *" $name "* ]] || names+=("$name")
    done
    _qqmgr_words "${names[@]}"
}

_qqmgr_tags() {
    case ${operands[0]} in load | delete) _qqmgr_names snapshot list "${operands[1]}" ;; esac
}

_qqmgr() {
    local IFS=$' \t\n' commands='@COMMANDS@'
    local line=$COMP_LINE words=() piece='' before='' gap i
    COMPREPLY=()
    # Readline takes words apart at `=` and `:`; the line tells where blanks were.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]} gap=${line%%[![:blank:]]*}
        if [[ -z $gap && ($piece == [=:@]* || $before == *[=:@]) ]]; then
            words[${#words[@]} - 1]+=$piece
        else
            words+=("$piece")
        fi
        line=${line#"$gap$piece"} before=$piece
    done
    local current=${words[${#words[@]} - 1]} kept prefix=''
    case $piece in [=:@]*) kept=$current ;; *) kept=${current%"$piece"} ;; esac

    # The words before the current one, as qqmgr reads them.
    local word tail flag='' config='' command='' ended='' operands=()
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word=${words[i]} tail=${words[i]#-*[@LETTERS@]}
        if [[ -n $flag ]]; then
            case $flag in -c | --config) config=$word ;; esac
            flag=''
        elif [[ -n $ended || $word != -?* ]]; then
            if [[ -z $command ]]; then command=$word; else operands+=("$word"); fi
            [[ ' @REST@ ' != *" $command:${#operands[@]} "* ]] || ended=1
        elif [[ $word == -- ]]; then
            [[ ' @WORDS@ ' != *" $command "* ]] || return 0
            ended=1
        elif [[ $word == --config=* ]]; then
            config=${word#*=}
        elif [[ $word == --* ]]; then
            [[ ' @WITH_VALUE@ ' != *" $word "* ]] || flag=$word
        elif [[ $word != "$tail" ]]; then
            flag=${word%"$tail"} flag=-${flag:${#flag} - 1}
            [[ $flag != -c ]] || config=$tail
            [[ -z $tail ]] || flag=''
        fi
    done

    if [[ -z $flag$ended && $current == --*=* ]]; then
        flag=${current%%=*} prefix=${current%%=*}= current=${current#*=}
    fi
    if [[ -n $flag ]]; then
        case $command:$flag in
@VALUES@
        esac
    elif [[ -z $ended && $current == -* ]]; then
        case $command in
@FLAGS@
        esac
        _qqmgr_words @GLOBAL_FLAGS@
    elif [[ -z $command ]]; then
        _qqmgr_words $commands
    else
        case $command:${#operands[@]} in
@OPERANDS@
        esac
    fi
    [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace 2>/dev/null
    return 0
}

complete -F _qqmgr qqmgr
"#;
