# Completion of rtmpt-gateway's arguments for bash.
# Install it as /usr/share/bash-completion/completions/rtmpt-gateway, or source it.

_rtmpt_gateway() {
    local word="${COMP_WORDS[COMP_CWORD]}" words=""
    COMPREPLY=()
    case "${COMP_WORDS[COMP_CWORD - 1]}" in
        --listen | --upstream | --workers | --reactor)
            compopt +o default    # no file names
            return
            ;;
    esac
    if ((COMP_CWORD == 1)); then
        words="check config run version --help"
    elif [[ $word == -* ]]; then
        case "${COMP_WORDS[1]}" in
            check | version) words="--help" ;;
            config) words="--help --json --schema" ;;
            run) words="--help --listen --upstream --workers --reactor" ;;
        esac
    fi
    # Without words bash completes file names.
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o default -F _rtmpt_gateway rtmpt-gateway
