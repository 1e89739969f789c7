# For `uml` and `qemu`: their options, the job and what goes along with it, its output as it comes, its status. To be
# sourced. The script that does so defines boot(), which starts the machine in a process group of its own and sets
# `machine` to its process. The job's directory, which the machine shares, has `command` and `guest`, and their
# results: `stdout`, `stderr`, `status`, and after how many seconds it had `booted` and `ended`.

usage() {
    sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0" >&2
    exit 125
}

# take NAMES ARGUMENT...: the options, each a variable of its name that has its default; the rest is `command`
take() {
    local names=$1
    shift
    verbose='' systemd=''
    while [ $# -gt 0 ]; do
        case $1 in
            --) shift && break ;;
            --verbose) verbose=1 && shift ;;
            --systemd) systemd=1 && shift ;;
            --*)
                [[ " $names " == *" ${1#--} "* && $# -gt 1 ]] || usage
                printf -v "${1#--}" %s "$2"
                shift 2
                ;;
            -*) usage ;;
            *) break ;;
        esac
    done
    [ $# -gt 0 ] || usage
    command=("$@")
}

# needs PROGRAM:PACKAGE...: what a machine takes of this host, whose root it sees; with --systemd what that takes, too
needs() {
    local each programs=("$@" ip:iproute2)
    [ -z "$systemd" ] || programs+=(/lib/systemd/systemd:systemd dbus-daemon:dbus setpriv:util-linux)
    for each in "${programs[@]}"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${each%:*}" >/dev/null || {
            echo "cannot run a machine: there is no ${each%:*} (hint: apt-get install ${each#*:})" >&2
            exit 125
        }
    done
}

say() {
    echo "$(basename "$0"): $*" >&2
}

end_machine() {
    [ -n "$machine" ] || return 0
    # both here, where the shell's word of the death of its child is not seen
    { kill -KILL -- "-$machine"; wait "$machine"; } 2>/dev/null || true
    machine=
}

clean() {
    end_machine
    rm -rf "$job"
}

# Make the job: its directory, and the command with its environment.
prepare() {
    job=$(mktemp -d "${TMPDIR:-/tmp}/pyoci-$(basename "$0").XXXXXX") machine=
    trap clean EXIT
    trap 'exit 130' INT TERM HUP
    touch "$job/stdout" "$job/stderr"
    # the machine reads them as it boots, so it gets copies that stay unchanged
    cp "$here"/{guest,guest-systemd,work} "$job/"
    [ -z "$systemd" ] || touch "$job/systemd"
    local name
    {
        for name in $(compgen -e | grep -E '^(CI$|PYTHON|PYTEST_|PYOCI|CONFORMANCE_)' || true); do
            printf 'export %s=%q\n' "$name" "${!name}"
        done
        [ ! -d "$checkout/.venv/bin" ] || printf 'PATH=%q:$PATH\n' "$checkout/.venv/bin"
        printf 'cd %q\n' "$PWD"
        printf '%q ' "${command[@]}"
        echo
    } >"$job/command"
}

# await TIMEOUT: wait until the machine is done or dead, did not boot in time, or exceeded --timeout
await() {
    local tails booting=$((SECONDS + $1)) end= # whole seconds: the first one may be almost over
    tail -q -s 0.1 --pid="$machine" -c +1 -f "$job/stdout" &
    tails=($!)
    tail -q -s 0.1 --pid="$machine" -c +1 -f "$job/stderr" >&2 &
    tails+=($!)
    while [ ! -e "$job/status" ] && kill -0 "$machine" 2>/dev/null && [ $SECONDS -lt ${end:-$booting} ]; do
        [ -n "$end" ] || [ ! -e "$job/booted" ] || end=$((SECONDS + timeout + 1))
        sleep 0.1
    done
    [ -z "$end" ] || [ -e "$job/status" ] || [ $SECONDS -lt $end ] || echo 124 >"$job/late"
    end_machine
    wait "${tails[@]}" || true
}

# run TRIES: boot the machine, again if it does not get as far as the job; exit with the job's status. `patience` is for
# how many seconds it may boot.
run() {
    local tries=$1 try
    for ((try = 1; ; try++)); do
        boot
        await "${patience:-120}"
        [ ! -e "$job/booted" ] || break
        if [ $try = "$tries" ]; then
            say "the machine did not boot; its console:"
            tail -n 20 "$job/console" >&2
            exit 125
        fi
        say "the machine did not boot, and is tried again: $(why)"
    done
    if [ -e "$job/status" ]; then
        [ -z "$verbose" ] || say "booted in $(cat "$job/booted") s, was up $(cat "$job/ended") s"
        exit "$(cat "$job/status")"
    fi
    if [ -e "$job/late" ]; then
        say "ended after $timeout seconds"
        exit 124
    fi
    say "the machine died: $(why)"
    exit 125
}

# the kernel's last message
why() {
    grep -a -m 1 -iE 'panic|BUG:|Oops|cannot' "$job/console" || tail -n 1 "$job/console"
}
