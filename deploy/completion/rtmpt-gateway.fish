# Completion of rtmpt-gateway's arguments for fish.
# Install it as /usr/share/fish/vendor_completions.d/rtmpt-gateway.fish.

complete -c rtmpt-gateway -f
complete -c rtmpt-gateway -s h -l help -d 'show this help message and exit'
complete -c rtmpt-gateway -n __fish_use_subcommand -a check -d 'Check the configuration and the files that it names'
complete -c rtmpt-gateway -n __fish_use_subcommand -a config -d 'Print the configuration in effect, with every key'
complete -c rtmpt-gateway -n __fish_use_subcommand -a run -d 'Run the gateway in the foreground'
complete -c rtmpt-gateway -n __fish_use_subcommand -a version -d 'Print the versions of the gateway and of Twisted'
complete -c rtmpt-gateway -n '__fish_seen_subcommand_from check config run' -F
complete -c rtmpt-gateway -n '__fish_seen_subcommand_from config' -l json -d 'print JSON instead of TOML'
complete -c rtmpt-gateway -n '__fish_seen_subcommand_from config' -l schema -d 'print the JSON schema of configurations, for editors'
complete -c rtmpt-gateway -n '__fish_seen_subcommand_from run' -x -l listen -d 'without a file: accept clients on this address; may be repeated'
complete -c rtmpt-gateway -n '__fish_seen_subcommand_from run' -x -l upstream -d 'without a file: forward sessions to this RTMP server; may be repeated'
complete -c rtmpt-gateway -n '__fish_seen_subcommand_from run' -x -l workers -d 'without a file: number of worker processes, or auto for one a core, the default'
complete -c rtmpt-gateway -n '__fish_seen_subcommand_from run' -x -l reactor -d 'reactor to use, one of twistd --help-reactors; workers use the default one'
