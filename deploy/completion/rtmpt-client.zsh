#compdef rtmpt-client
# Completion of rtmpt-client's arguments for zsh.
# Install it as /usr/share/zsh/vendor-completions/_rtmpt-client, or in another directory of $fpath.

_arguments \
    '(- *)'{-h,--help}'[show this help message and exit]' \
    '--gateway[the gateway\: HOST for all ways; HOST\:PORT for all protocols on this port; or a URL such as rtmpts\://HOST for one way]:server:' \
    '*--listen[accept local programs on this address, such as 127.0.0.1\:1935 or \[\:\:1\]\:1935; may be repeated \[default\: 127.0.0.1\:1935\]]:address:' \
    '--allow-remote[permit --listen and --metrics on addresses that other machines can reach\: all who can connect may then use the gateway through this program]' \
    '*--way[try this way instead of the usual ones\: rtmp, rtmps, rtmpt or rtmpts; may be repeated]:protocol:(rtmp rtmps rtmpt rtmpts)' \
    '(--no-proxy)--proxy[reach the gateway through this HTTP proxy only, http\://USER\:PASSWORD@HOST\:PORT \[default\: http_proxy, https_proxy, all_proxy and no_proxy of the environment, and connections without a proxy\]]:url:' \
    '(--proxy)--no-proxy[use no HTTP proxy, even if the environment has one]' \
    '--ca[verify certificates by the authorities in this PEM file instead of those of the system]:file:_files' \
    '--timeout[give up if no way has answered after this time \[default\: 10\]]:seconds:' \
    '--connections[accept at most this number of local connections at a time \[default\: 32\]]:n:' \
    '--state[remember in this file which way was used in which network, or none to keep no file \[default\: ways.json in $STATE_DIRECTORY, $XDG_STATE_HOME/rtmpt-client or ~/.local/state/rtmpt-client\]]:file:_files' \
    '--metrics[serve Prometheus metrics at http\://ADDRESS/metrics, such as 127.0.0.1\:9136 \[default\: none\]]:address:' \
    '--log-level[log from this level on, one of debug, info, warn, error \[default\: info\]]:level:(debug info warn error)' \
    '--version[print the version, and exit]'
