# Functions for ./demo, ./test and tools/conformance. Source it in the root of the checkout.

# step WHAT COMMAND...: run it quietly; print how long it took, or its output if it fails
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
        echo "cannot install the missing packages ${missing[*]}: needs Debian and root" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # old lists may name versions that the mirror has removed
    step "fetch the lists of Debian's packages" apt-get -q update
    step "install ${missing[*]}" apt-get -q -y --no-install-recommends install "${missing[@]}"
}

# virtual_environment DIRECTORY: create it with Debian's Python, unless it exists
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

# commit_hook: let git check commit messages, unless the user has hooks of their own. Ignores a tarball without .git.
commit_hook() {
    local hooks
    [ -z "${CI:-}" ] && hooks=$(git rev-parse --git-path hooks 2>/dev/null) || return 0
    [ -z "$(git config core.hooksPath)" ] && [ ! -e "$hooks/commit-msg" ] && [ ! -L "$hooks/commit-msg" ] || return 0
    # in a worktree or a submodule the link would lead elsewhere
    [ "$(readlink -f "$hooks/../../tools/hooks")" = "$(readlink -f tools/hooks)" ] || return 0
    ln -s ../../tools/hooks/commit-msg "$hooks/commit-msg" || true
}
