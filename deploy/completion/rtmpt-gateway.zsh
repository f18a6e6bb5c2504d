#compdef rtmpt-gateway
# Completion of rtmpt-gateway's arguments for zsh.
# Install it as /usr/share/zsh/vendor-completions/_rtmpt-gateway, or in another directory of $fpath.

local curcontext="$curcontext" state line
local -a commands file help
help=('(- *)'{-h,--help}'[show this help message and exit]')
file=('1:configuration file:_files')
commands=(
    'check:Check the configuration and the files that it names'
    'config:Print the configuration in effect, with every key'
    'run:Run the gateway in the foreground'
    'version:Print the versions of the gateway and of Twisted'
)

_arguments -C $help '1:command:->command' '*::argument:->argument' && return
case $state in
    command) _describe command commands ;;
    argument)
        curcontext="${curcontext%:*:*}:rtmpt-gateway-$line[1]:"
        case $line[1] in
            check) _arguments $help $file ;;
            config)
                _arguments $help $file \
                    '(--schema)--json[print JSON instead of TOML]' \
                    '(--json 1)--schema[print the JSON schema of configurations, for editors]'
                ;;
            run)
                _arguments $help $file \
                    '*--listen[without a file: accept clients on this address; may be repeated]:address:' \
                    '*--upstream[without a file: forward sessions to this RTMP server; may be repeated]:server:' \
                    '--workers[without a file: number of worker processes, or auto for one a core, the default]:number:' \
                    '--reactor[reactor to use, one of twistd --help-reactors; workers use the default one]:name:'
                ;;
            version) _arguments $help ;;
        esac
        ;;
esac
