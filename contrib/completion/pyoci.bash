# Completes the command line of pyoci in bash 4.3 or later. tools/gen_completion.py writes this file.

# Set `options` to the options of COMMAND, or to those of pyoci itself if COMMAND is empty.
_pyoci_options() {
    case $1 in
    '') options='--root --log --log-format --log-level --debug --cgroup-manager --systemd-cgroup --criu --help -h -? --usage --version -v -V' ;;
    create) options='--bundle -b --config -f --no-pivot --no-new-keyring --preserve-fds --console-socket --pidfd-socket --pid-file --help -h -? --usage' ;;
    exec) options='--process -p --detach -d --tty -t --console-socket --pid-file --pidfd-socket --preserve-fds --user -u --additional-gids -g --cwd --env -e --cap -c --no-new-privs --apparmor --process-label --cgroup --ignore-paused --help -h -? --usage' ;;
    start) options='--help -h -? --usage' ;;
    run) options='--bundle -b --config -f --no-pivot --no-new-keyring --preserve-fds --console-socket --pidfd-socket --pid-file --detach -d --keep --no-subreaper --help -h -? --usage' ;;
    state) options='--help -h -? --usage' ;;
    kill) options='--all -a --regex -r --help -h -? --usage' ;;
    delete) options='--force -f --regex -r --help -h -? --usage' ;;
    pause) options='--help -h -? --usage' ;;
    resume) options='--help -h -? --usage' ;;
    ps) options='--format -f --help -h -? --usage' ;;
    update) options='--resources -r --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime --cpu-idle --cpuset-cpus --cpuset-mems --memory --memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema --help -h -? --usage' ;;
    checkpoint) options='--image-path --work-path --tcp-established --tcp-close --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode --network-lock --empty-ns --auto-dedup --lazy-pages --parent-path --leave-running --pre-dump --tcp-skip-in-flight --link-remap --page-server --status-fd --plan --json --help -h -? --usage' ;;
    restore) options='--bundle -b --config -f --image-path --work-path --tcp-established --tcp-close --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode --network-lock --empty-ns --auto-dedup --lazy-pages --console-socket --pidfd-socket --pid-file --detach -d --keep --no-subreaper --no-new-keyring --lsm-profile --lsm-mount-context --plan --json --help -h -? --usage' ;;
    events) options='--interval --stats --help -h -? --usage' ;;
    list) options='--format -f --quiet -q --help -h -? --usage' ;;
    spec) options='--bundle -b --file -f --rootless --help -h -? --usage' ;;
    validate) options='--bundle -b --config -f --json --help -h -? --usage' ;;
    plan) options='--bundle -b --config -f --no-pivot --no-new-keyring --preserve-fds --json --help -h -? --usage' ;;
    features) options='--help -h -? --usage' ;;
    *) options= ;;
    esac
}

# Set `kind` to what completes the value of OPTION, an option of COMMAND. Fail if it has no value.
_pyoci_value() {
    case $1:$2 in
    :root | create:bundle | create:b | run:bundle | run:b | checkpoint:image-path | checkpoint:work-path | restore:bundle | restore:b | restore:image-path | restore:work-path | spec:bundle | spec:b | validate:bundle | validate:b | plan:bundle | plan:b)
        kind='directories' ;;
    :log | :criu | create:config | create:f | create:console-socket | create:pidfd-socket | create:pid-file | exec:process | exec:p | exec:console-socket | exec:pid-file | exec:pidfd-socket | run:config | run:f | run:console-socket | run:pidfd-socket | run:pid-file | update:resources | update:r | restore:config | restore:f | restore:console-socket | restore:pidfd-socket | restore:pid-file | spec:file | spec:f | validate:config | validate:f | plan:config | plan:f)
        kind='files' ;;
    :log-format)
        kind='words text json' ;;
    :log-level)
        kind='words error warning info debug' ;;
    :cgroup-manager)
        kind='words cgroupfs systemd disabled' ;;
    :rootless | create:preserve-fds | exec:preserve-fds | exec:user | exec:u | exec:additional-gids | exec:g | exec:cwd | exec:env | exec:e | exec:apparmor | exec:process-label | exec:cgroup | run:preserve-fds | update:blkio-weight | update:cpu-period | update:cpu-quota | update:cpu-burst | update:cpu-share | update:cpu-rt-period | update:cpu-rt-runtime | update:cpu-idle | update:cpuset-cpus | update:cpuset-mems | update:memory | update:memory-reservation | update:memory-swap | update:pids-limit | update:l3-cache-schema | update:mem-bw-schema | update:kernel-memory | update:kernel-memory-tcp | checkpoint:parent-path | checkpoint:page-server | checkpoint:status-fd | restore:lsm-profile | restore:lsm-mount-context | restore:preserve-fds | events:interval | plan:preserve-fds)
        kind='' ;;
    exec:cap | exec:c)
        kind='words CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE' ;;
    ps:format | ps:f | list:format | list:f)
        kind='words table json' ;;
    checkpoint:manage-cgroups-mode | restore:manage-cgroups-mode)
        kind='words soft full strict ignore' ;;
    checkpoint:network-lock | restore:network-lock)
        kind='words iptables nftables skip' ;;
    checkpoint:empty-ns | restore:empty-ns)
        kind='words network' ;;
    *) return 1 ;;
    esac
}

# Set `kind` to what completes operand NUMBER of COMMAND.
_pyoci_operand() {
    case $1:$2 in
    exec:1 | kill:1)
        kind='containers created running paused' ;;
    start:1)
        kind='containers created' ;;
    state:1 | delete:1 | ps:1 | update:1 | events:1)
        kind='containers' ;;
    kill:2)
        kind='words HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS' ;;
    pause:1)
        kind='containers running' ;;
    resume:1)
        kind='containers paused' ;;
    checkpoint:1)
        kind='containers running paused' ;;
    validate:1 | plan:1)
        kind='directories' ;;
    *) kind= ;;
    esac
}

# Set `words` to the words up to the cursor. Bash also divides a word at `=` and `:`; here it stays whole.
_pyoci_split() {
    local i word rest line=${COMP_LINE:0:COMP_POINT}
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        rest=${line#"${line%%[![:blank:]]*}"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$rest
        if ((i > 0)) && [[ $rest == "$line" ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
}

# Print a word of the command line as the shell would pass it on, without expanding variables.
_pyoci_unquote() {
    local word=${1//[\"\'\\]/}
    printf %s "${word/#\~\//$HOME/}"
}

# Set COMPREPLY to container ids: those with one of STATUS..., or all if no STATUS is given. Bash lists several ids
# at the second key press: then each has its status.
_pyoci_containers() {
    local id status
    local -a list=("$(_pyoci_unquote "${words[0]}")") statuses=()
    [[ ! $root ]] || list+=(--root "$(_pyoci_unquote "$root")")
    while read -r id _ status _; do
        if [[ $id == "$current"* && (! $1 || " $* " == *" $status "*) ]]; then
            COMPREPLY+=("$id")
            statuses+=("$status")
        fi
    done < <("${list[@]}" list 2>/dev/null </dev/null | tail -n +2)
    if ((${#COMPREPLY[@]} > 1)) && [[ $COMP_TYPE == 63 || $COMP_TYPE == 33 || $COMP_TYPE == 64 ]]; then
        for id in "${!COMPREPLY[@]}"; do COMPREPLY[id]+=" (${statuses[id]})"; done
    fi
}

_pyoci() {
    local IFS=$' \t\n' current word name pending= command= root= ended= options= kind=
    local -i operand=1
    local -a words
    COMPREPLY=()
    _pyoci_split
    current=${words[-1]}
    for word in "${words[@]:1:${#words[@]}-2}"; do
        if [[ $pending ]]; then
            [[ $command:$pending != :root ]] || root=$word
            pending=
        elif [[ ! $ended && $word == -- ]]; then
            ended=1
        elif [[ ! $ended && $word == -?* ]]; then
            name=${word#-} name=${name#-}
            if [[ $command:$name == :root=* ]]; then
                root=${name#root=}
            elif [[ $name != *=* ]] && _pyoci_value "$command" "$name"; then
                pending=$name
            fi
        elif [[ ! $command ]]; then
            command=$word ended=
        else
            operand+=1
            [[ " exec kill ps " != *" $command "* ]] || ended=1
        fi
    done

    if [[ $pending ]]; then
        _pyoci_value "$command" "$pending"
    elif [[ ! $ended && $current == -*=* ]]; then
        name=${current%%=*} name=${name#-} name=${name#-}
        current=${current#*=}
        _pyoci_value "$command" "$name" || return 0
    elif [[ ! $ended && $current == -* ]]; then
        _pyoci_options "$command"
        kind="words $options"
    elif [[ ! $command ]]; then
        kind="words create exec start run state kill delete pause resume ps update checkpoint restore events list spec validate plan features"
    else
        _pyoci_operand "$command" "$operand"
    fi
    case $kind in
    words*) mapfile -t COMPREPLY < <(compgen -W "${kind#words}" -- "$current") ;;
    containers*) _pyoci_containers ${kind#containers} ;;
    files) compopt -o default ;;
    directories) compopt -o dirnames ;;
    esac
}

complete -F _pyoci pyoci
