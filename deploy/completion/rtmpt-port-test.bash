# Completion of rtmpt-port-test's arguments for bash.
# Install it as /usr/share/bash-completion/completions/rtmpt-port-test, or source it.

_rtmpt_port_test() {
    local word="${COMP_WORDS[COMP_CWORD]}" words=""
    COMPREPLY=()
    case "${COMP_WORDS[COMP_CWORD - 1]}" in
        --way) words="rtmp rtmps rtmpt rtmpts" ;;
        --ca)
            compopt -o default    # file names
            return
            ;;
        --proxy | --timeout) return ;;
        *)
            if [[ $word == -* ]]; then
                words="--help --way --proxy --ca --timeout --throughput --json"
            fi
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _rtmpt_port_test rtmpt-port-test
