# fish completion for qqmgr, made by `qqmgr completions fish`

# `qqmgr complete` gets the words without their quotes; fish itself quotes what it inserts. Fails
# where a file is expected, so that fish offers files.
function __qqmgr_ask
    set -l words (string replace -r '^~/' "$HOME/" -- (commandline -opc))
    set -l current (commandline -ct)
    set -g __qqmgr_offered
    command -s $words[1] >/dev/null; or set words[1] qqmgr
    command -s $words[1] >/dev/null; or return 0
    set __qqmgr_offered (command $words[1] complete fish $words[2..-1] "$current" 2>/dev/null)
    test "$__qqmgr_offered[1]" != \tfiles
end

complete -c qqmgr -n __qqmgr_ask -f -a '$__qqmgr_offered'
