# bash completion for qqmgr, made by `qqmgr completions bash`

# `qqmgr complete` gets the line up to the cursor, and prints what readline is to insert, quoted.
_qqmgr() {
    local program=${COMP_WORDS[0]} breaks=$COMP_WORDBREAKS line before kept typed
    case $program in \~/*) program=$HOME${program#?} ;; esac
    type -P "$program" >/dev/null || program=qqmgr
    # The user's bash may not split words at `=`.
    [[ ${COMP_WORDS[COMP_CWORD]} != *?=* ]] || breaks=${breaks//=}
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == $'\tfiles' ]]; then
            # Three parts: the text before the file's name, the part that stays, and the typed name.
            IFS= read -r before && IFS= read -r kept && IFS= read -r typed || break
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do
                [[ -z $line ]] || line=$before$line COMPREPLY+=("${line#"$kept"}")
            done <<<"$(compgen -f -- "$typed")"
        elif [[ -n $line ]]; then
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done <<<"$(command "$program" complete bash "$breaks" \
        "${COMP_LINE:0:${COMP_POINT:-${#COMP_LINE}}}" 2>/dev/null)"
    [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace 2>/dev/null
    return 0
}

complete -F _qqmgr qqmgr
