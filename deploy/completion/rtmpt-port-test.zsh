#compdef rtmpt-port-test
# Completion of rtmpt-port-test's arguments for zsh.
# Install it as /usr/share/zsh/vendor-completions/_rtmpt-port-test, or in another directory of $fpath.

_arguments \
    '(- *)'{-h,--help}'[show this help message and exit]' \
    '*--way[try this way instead of the usual ones: rtmp, rtmps, rtmpt or rtmpts; may be repeated]:protocol:(rtmp rtmps rtmpt rtmpts)' \
    '--proxy[HTTP proxy, http://USER:PASSWORD@HOST:PORT, instead of that of the environment]:URL:' \
    '--ca[verify certificates by the authorities in this PEM file instead of those of the system]:file:_files' \
    '--timeout[end after this time, by default 2.5]:seconds:' \
    '--throughput[then measure the throughput of each tunnel that works, if the server is a gateway with port_test]' \
    '--json[print JSON instead of a table]' \
    '1:server:_hosts'
