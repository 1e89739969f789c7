# For ./demo and ./test: quiet steps, Debian packages, a virtual environment. To be sourced, in the checkout's root.

# step WHAT COMMAND...: run it quietly; tell how long it took, or else all that it printed
step() {
    local what=$1 begin=$SECONDS
    shift
    printf '  %-70s ' "$what"
    mkdir -p build
    if "$@" >build/step.log 2>&1 </dev/null; then
        printf 'ok %4ss\n' $((SECONDS - begin))
    else
        printf 'FAILED\n\n$ %s\n' "$*"
        cat build/step.log
        return 1
    fi
}

# packages NAME...: install Debian packages that are missing
packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "cannot install the packages that are missing: ${missing[*]} (hint: this needs Debian, and root)" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # lists that were fetched earlier may name versions that are no more
    step "fetch the lists of Debian's packages" apt-get -q update
    step "install ${missing[*]}" apt-get -q -y --no-install-recommends install "${missing[@]}"
}

# virtual_environment DIRECTORY: make it, unless it is there, with Debian's own Python
virtual_environment() {
    local python=${PYTHON:-/usr/bin/python3}
    [ -x "$1/bin/pip" ] || { rm -rf "$1" && step "make the virtual environment $1" "$python" -m venv "$1"; }
}

# pip_install DIRECTORY WHAT...: install quietly
pip_install() {
    local directory=$1
    shift
    "$directory/bin/pip" --disable-pip-version-check --no-input install -q "$@"
}
