# Completion of rtmpt-client's arguments for fish.
# Install it as /usr/share/fish/vendor_completions.d/rtmpt-client.fish.

complete -c rtmpt-client -f
complete -c rtmpt-client -s h -l help -d 'show this help message and exit'
complete -c rtmpt-client -x -l gateway -d 'the gateway: HOST for all ways; HOST:PORT for all protocols on this port; or a URL such as rtmpts://HOST for one way'
complete -c rtmpt-client -x -l listen -d 'accept local programs on this address, such as 127.0.0.1:1935 or [::1]:1935; may be repeated [default: 127.0.0.1:1935]'
complete -c rtmpt-client -l allow-remote -d 'permit --listen and --metrics on addresses that other machines can reach: all who can connect may then use the gateway through this program'
complete -c rtmpt-client -x -a 'rtmp rtmps rtmpt rtmpts' -l way -d 'try this way instead of the usual ones: rtmp, rtmps, rtmpt or rtmpts; may be repeated'
complete -c rtmpt-client -x -l proxy -d 'reach the gateway through this HTTP proxy only, http://USER:PASSWORD@HOST:PORT [default: http_proxy, https_proxy, all_proxy and no_proxy of the environment, and connections without a proxy]'
complete -c rtmpt-client -l no-proxy -d 'use no HTTP proxy, even if the environment has one'
complete -c rtmpt-client -r -F -l ca -d 'verify certificates by the authorities in this PEM file instead of those of the system'
complete -c rtmpt-client -x -l timeout -d 'give up if no way has answered after this time [default: 10]'
complete -c rtmpt-client -x -l connections -d 'accept at most this number of local connections at a time [default: 32]'
complete -c rtmpt-client -r -F -l state -d 'remember in this file which way was used in which network, or none to keep no file [default: ways.json in $STATE_DIRECTORY, $XDG_STATE_HOME/rtmpt-client or ~/.local/state/rtmpt-client]'
complete -c rtmpt-client -x -l metrics -d 'serve Prometheus metrics at http://ADDRESS/metrics, such as 127.0.0.1:9136 [default: none]'
complete -c rtmpt-client -x -a 'debug info warn error' -l log-level -d 'log from this level on, one of debug, info, warn, error [default: info]'
complete -c rtmpt-client -l version -d 'print the version, and exit'
