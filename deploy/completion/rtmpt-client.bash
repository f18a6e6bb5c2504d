# Completion of rtmpt-client's arguments for bash.
# Install it as /usr/share/bash-completion/completions/rtmpt-client, or source it.

_rtmpt_client() {
    local word="${COMP_WORDS[COMP_CWORD]}" words=""
    COMPREPLY=()
    case "${COMP_WORDS[COMP_CWORD - 1]}" in
        --way) words="rtmp rtmps rtmpt rtmpts" ;;
        --log-level) words="debug info warn error" ;;
        --ca | --state)
            compopt -o default    # file names
            return
            ;;
        --gateway | --listen | --proxy | --timeout | --connections | --metrics) return ;;
        *)
            if [[ $word == -* ]]; then
                words="--help --gateway --listen --allow-remote --way --proxy --no-proxy"
                words+=" --ca --timeout --connections --state --metrics --log-level --version"
            fi
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _rtmpt_client rtmpt-client
