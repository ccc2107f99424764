#compdef qqmgr
# zsh completion for qqmgr, made by `qqmgr completions zsh`

# `qqmgr complete` gets the words without their quotes; zsh itself quotes what it inserts.
_qqmgr() {
    local program=${(Q)words[1]/#\~\//$HOME/} line
    local -a candidates open_ended asked=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    whence -p $program >/dev/null || program=qqmgr
    for line in "${(@f)$(command $program complete zsh "$asked[@]" 2>/dev/null)}"; do
        if [[ $line == $'\tfiles' ]]; then
            [[ $PREFIX != --*=* ]] || compset -P '*='
            _files
            return
        fi
        # `_describe` takes NAME:HELP.
        line=${${line//\\/\\\\}//:/\\:}
        case $line in
        '') ;;
        *=$'\t'*) open_ended+=("${line/$'\t'/:}") ;;
        *) candidates+=("${line/$'\t'/:}") ;;
        esac
    done
    _describe -t words WORD candidates -- open_ended -S ''
}

if [[ $funcstack[1] == _qqmgr ]]; then
    _qqmgr "$@"
else
    compdef _qqmgr qqmgr
fi
