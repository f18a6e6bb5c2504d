# Completion of rtmpt-port-test's arguments for fish.
# Install it as /usr/share/fish/vendor_completions.d/rtmpt-port-test.fish.

complete -c rtmpt-port-test -f
complete -c rtmpt-port-test -s h -l help -d 'show this help message and exit'
complete -c rtmpt-port-test -x -a 'rtmp rtmps rtmpt rtmpts' -l way -d 'try this way instead of the usual ones: rtmp, rtmps, rtmpt or rtmpts; may be repeated'
complete -c rtmpt-port-test -x -l proxy -d 'HTTP proxy, http://USER:PASSWORD@HOST:PORT, instead of that of the environment'
complete -c rtmpt-port-test -r -F -l ca -d 'verify certificates by the authorities in this PEM file instead of those of the system'
complete -c rtmpt-port-test -x -l timeout -d 'end after this time, by default 2.5'
complete -c rtmpt-port-test -l throughput -d 'then measure the throughput of each tunnel that works, if the server is a gateway with port_test'
complete -c rtmpt-port-test -l json -d 'print JSON instead of a table'
