# shellcheck shell=sh
# What ./run, ./test and .ci/run have in common: a Python, its .venv, and packages of the system.
# To be sourced with the checkout as the current folder. POSIX sh.

# Without compiled files, each of the gateway's processes takes longer to start.
unset PYTHONDONTWRITEBYTECODE

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Whether this program is a Python that the gateway runs on.
is_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1
}

# Print the Python to use; $PYTHON overrides.
find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if is_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Run as root, or not at all: nobody may be there to type a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get > /dev/null && as_root true > /dev/null 2>&1
}

# Install packages of the system, which may_install allowed; fails if that fails.
install_packages() {
    echo "installing from the system's packages: $*" >&2
    as_root apt-get -q update < /dev/null > /dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
            install "$@" < /dev/null > /dev/null
}

# Debian ships Python without what makes environments.
require_venv() {
    "$1" -c 'import ensurepip, venv' > /dev/null 2>&1 && return
    package="$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    if may_install; then
        install_packages "$package" && return
    fi
    fail "$1 cannot make environments; install the package $package (or python3-venv) and try again"
}

# Make .venv anew unless it works.
make_environment() {
    is_python .venv/bin/python && .venv/bin/python -m pip --version > /dev/null 2>&1 && return
    python="$(find_python)" || fail "no Python 3.11 or newer found; install one, or name it: PYTHON=/path/to/python3 $0"
    require_venv "$python"
    rm -rf .venv
    "$python" -m venv .venv || fail "could not make .venv with $python"
}

# Install the project, with the extras named if any ("[test]"), unless that is done already.
# Editable, so that the checkout's code runs; PYTHONPATH is what makes twistd see the plugin then.
make_project() {
    make_environment
    stamp=".venv/installed$1"
    wanted="$(cat setup.cfg pyproject.toml | cksum)"
    if [ "$(cat "$stamp" 2> /dev/null)" != "$wanted" ]; then
        echo "installing the project$1 into .venv" >&2
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
            --editable ".$1" < /dev/null || fail "pip could not install the project$1"
        # With extras is more than without.
        echo "$wanted" | tee "$stamp" > .venv/installed
    fi
    PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
}

# Provide the program $1 of PyPI, version $2, beside the project's own in .venv/bin, unless that is done
# already. $3 is the name of its package, if it has another. It has an environment of its own, since what it
# needs may not go with what the project needs.
make_tool() {
    place=".venv/tools/$1"
    [ "$(cat "$place/installed" 2> /dev/null)" = "$2" ] && return
    echo "installing $1 into $place" >&2
    .venv/bin/python -m venv --clear "$place" &&
        env -u PYTHONPATH "$place/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
            "${3:-$1}==$2" < /dev/null &&
        ln -sf "../tools/$1/bin/$1" ".venv/bin/$1" &&
        echo "$2" > "$place/installed"
}
