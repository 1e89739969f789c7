# Completes the command line of pyoci in fish 3.1 or later. tools/gen_completion.py writes this file.

# Options with a value, as COMMAND:NAME
set -g __pyoci_valued :root :log :log-format :log-level :cgroup-manager :criu :rootless create:bundle create:b create:config create:f create:preserve-fds create:console-socket create:pidfd-socket create:pid-file exec:process exec:p exec:console-socket exec:pid-file exec:pidfd-socket exec:preserve-fds exec:user exec:u exec:additional-gids exec:g exec:cwd exec:env exec:e exec:cap exec:c exec:apparmor exec:process-label exec:cgroup run:bundle run:b run:config run:f run:preserve-fds run:console-socket run:pidfd-socket run:pid-file ps:format ps:f update:resources update:r update:blkio-weight update:cpu-period update:cpu-quota update:cpu-burst update:cpu-share update:cpu-rt-period update:cpu-rt-runtime update:cpu-idle update:cpuset-cpus update:cpuset-mems update:memory update:memory-reservation update:memory-swap update:pids-limit update:l3-cache-schema update:mem-bw-schema update:kernel-memory update:kernel-memory-tcp checkpoint:image-path checkpoint:work-path checkpoint:manage-cgroups-mode checkpoint:network-lock checkpoint:empty-ns checkpoint:parent-path checkpoint:page-server checkpoint:status-fd restore:bundle restore:b restore:config restore:f restore:image-path restore:work-path restore:manage-cgroups-mode restore:network-lock restore:empty-ns restore:console-socket restore:pidfd-socket restore:pid-file restore:lsm-profile restore:lsm-mount-context restore:preserve-fds events:interval list:format list:f spec:bundle spec:b spec:file spec:f validate:bundle validate:b validate:config validate:f plan:bundle plan:b plan:config plan:f plan:preserve-fds

# Print the command before the cursor, the number of the operand at the cursor, and whether options may stand there.
function __pyoci_place
    set -l command ''
    set -l operand 1
    set -l options yes
    set -l pending
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if set -q pending[1]
            set -e pending
        else if test $options = yes; and test "x$word" = x--
            set options no
        else if test $options = yes; and string match -qr -- '^-.' $word
            set -l name (string replace -r -- '^--?' '' $word)
            contains -- "$command:$name" $__pyoci_valued; and set pending yes
        else if test -z "$command"
            set command $word
            set options yes
        else
            set operand (math $operand + 1)
            contains -- $command exec kill ps; and set options no
        end
    end
    printf '%s\n' "$command" $operand $options
end

# Whether an option of COMMAND may stand at the cursor
function __pyoci_option
    set -l place (__pyoci_place)
    test "$place[1]" = "$argv[1]" -a "$place[3]" = yes
end

# Whether operand NUMBER of COMMAND stands at the cursor
function __pyoci_operand
    set -l place (__pyoci_place)
    test "$place[1]" = "$argv[1]" -a "$place[2]" = "$argv[2]"
end

# Print container ids with their status: those with one of STATUS..., or all if no STATUS is given.
function __pyoci_containers
    set -l words (string replace -r -- '^~/' "$HOME/" (commandline -opc))
    set -l list $words[1]
    set -l pending
    for word in $words[2..-1]
        if set -q pending[1]
            set list $words[1] --root $word
            set -e pending
        else if string match -qr -- '^--?root$' $word
            set pending yes
        else if string match -qr -- '^--?root=' $word
            set list $words[1] --root (string replace -r -- '^--?root=' '' $word | string replace -r '^~/' "$HOME/")
        end
    end
    command $list list 2>/dev/null </dev/null | tail -n +2 | while read -l id pid state rest
        if test (count $argv) -eq 0; or contains -- $state $argv
            printf '%s\t%s\n' $id $state
        end
    end
end

# Print the directories that begin with the word at the cursor, or with the value in it.
function __pyoci_directories
    __fish_complete_directories (commandline -ct | string replace -r -- '^-[^=]*=' '')
end

complete -c pyoci -f
complete -c pyoci -n '__pyoci_operand "" 1' -a create -d 'create a container'
complete -c pyoci -n '__pyoci_operand "" 1' -a exec -d 'run another program in a container'
complete -c pyoci -n '__pyoci_operand "" 1' -a start -d 'start the program of a created container'
complete -c pyoci -n '__pyoci_operand "" 1' -a run -d 'create and start a container, wait until it ends, and delete it'
complete -c pyoci -n '__pyoci_operand "" 1' -a state -d 'print the state of a container as JSON'
complete -c pyoci -n '__pyoci_operand "" 1' -a kill -d 'send a signal to a container (default: TERM)'
complete -c pyoci -n '__pyoci_operand "" 1' -a delete -d 'delete a stopped container'
complete -c pyoci -n '__pyoci_operand "" 1' -a pause -d 'pause every process of a container'
complete -c pyoci -n '__pyoci_operand "" 1' -a resume -d 'resume a paused container'
complete -c pyoci -n '__pyoci_operand "" 1' -a ps -d 'list the processes of a container'
complete -c pyoci -n '__pyoci_operand "" 1' -a update -d 'change the limits of a container'
complete -c pyoci -n '__pyoci_operand "" 1' -a checkpoint -d 'save a running container in image files, and stop it'
complete -c pyoci -n '__pyoci_operand "" 1' -a restore -d 'restore a container from image files, wait until it ends, and delete it'
complete -c pyoci -n '__pyoci_operand "" 1' -a events -d 'print what happens to a container, and its resource usage, as lines of JSON'
complete -c pyoci -n '__pyoci_operand "" 1' -a list -d 'list the containers'
complete -c pyoci -n '__pyoci_operand "" 1' -a spec -d 'write a config.json to start from'
complete -c pyoci -n '__pyoci_operand "" 1' -a validate -d 'report every fault of a config.json'
complete -c pyoci -n '__pyoci_operand "" 1' -a plan -d 'print what `create` would do, step by step'
complete -c pyoci -n '__pyoci_operand "" 1' -a features -d 'print what this pyoci supports, as JSON'
complete -c pyoci -n '__pyoci_option ""' -l root -r -a '(__pyoci_directories)' -d 'keep states in DIR (default: /run/pyoci; rootless: $XDG_RUNTIME_DIR/pyoci)'
complete -c pyoci -n '__pyoci_option ""' -l log -r -F -d 'also write errors to this file, or to journald:ID or syslog:ID'
complete -c pyoci -n '__pyoci_option ""' -l log-format -r -a 'text json' -d 'format of the log: text (default) or json'
complete -c pyoci -n '__pyoci_option ""' -l log-level -r -a 'error warning info debug' -d 'least important messages to write: error, warning, info or debug'
complete -c pyoci -n '__pyoci_option ""' -l debug -d 'the same as --log-level debug'
complete -c pyoci -n '__pyoci_option ""' -l cgroup-manager -r -a 'cgroupfs systemd disabled' -d 'cgroupfs (default), systemd for a unit of systemd, or disabled for no cgroup'
complete -c pyoci -n '__pyoci_option ""' -l systemd-cgroup -d 'the same as --cgroup-manager systemd'
complete -c pyoci -n '__pyoci_option ""' -l criu -r -F -d 'program that checkpoint and restore run (default: criu in the system\'s directories)'
complete -c pyoci -n '__pyoci_option ""' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option ""' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option ""' -l version -s 'v' -s 'V' -d 'show the version'
complete -c pyoci -n '__pyoci_option create' -l bundle -s 'b' -r -a '(__pyoci_directories)' -d 'bundle: a directory with config.json (default: the current directory)'
complete -c pyoci -n '__pyoci_option create' -l config -s 'f' -r -F -d 'read this file instead of the bundle\'s config.json'
complete -c pyoci -n '__pyoci_option create' -l no-pivot -d 'don\'t use pivot_root; needed if the host\'s root filesystem is a ramdisk'
complete -c pyoci -n '__pyoci_option create' -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c pyoci -n '__pyoci_option create' -l preserve-fds -r -d 'pass N descriptors after the standard three and those of $LISTEN_FDS'
complete -c pyoci -n '__pyoci_option create' -l console-socket -r -F -d 'send the master end of the terminal to this socket'
complete -c pyoci -n '__pyoci_option create' -l pidfd-socket -r -F -d 'send a pidfd of the container\'s process to this socket'
complete -c pyoci -n '__pyoci_option create' -l pid-file -r -F -d 'write the pid of the container\'s process to this file'
complete -c pyoci -n '__pyoci_option create' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option create' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option exec' -l process -s 'p' -r -F -d 'take the settings from this file: `process` of a config.json'
complete -c pyoci -n '__pyoci_option exec' -l detach -s 'd' -d 'don\'t wait: leave the program running'
complete -c pyoci -n '__pyoci_option exec' -l tty -s 't' -d 'give it a terminal'
complete -c pyoci -n '__pyoci_option exec' -l console-socket -r -F -d 'send the master end of the terminal to this socket'
complete -c pyoci -n '__pyoci_option exec' -l pid-file -r -F -d 'write the pid of the process to this file'
complete -c pyoci -n '__pyoci_option exec' -l pidfd-socket -r -F -d 'send a pidfd of the process to this socket'
complete -c pyoci -n '__pyoci_option exec' -l preserve-fds -r -d 'pass N descriptors after the standard three and those of $LISTEN_FDS'
complete -c pyoci -n '__pyoci_option exec' -l user -s 'u' -r -d 'run as this user'
complete -c pyoci -n '__pyoci_option exec' -l additional-gids -s 'g' -r -d 'add a supplementary group; may be repeated'
complete -c pyoci -n '__pyoci_option exec' -l cwd -r -d 'start in this directory of the container'
complete -c pyoci -n '__pyoci_option exec' -l env -s 'e' -r -d 'set a variable; may be repeated'
complete -c pyoci -n '__pyoci_option exec' -l cap -s 'c' -r -a 'CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE' -d 'add a capability; may be repeated'
complete -c pyoci -n '__pyoci_option exec' -l no-new-privs -d 'keep programs from gaining privileges'
complete -c pyoci -n '__pyoci_option exec' -l apparmor -r -d 'run under this AppArmor profile'
complete -c pyoci -n '__pyoci_option exec' -l process-label -r -d 'run under this SELinux label'
complete -c pyoci -n '__pyoci_option exec' -l cgroup -r -d 'run in this cgroup below the container\'s'
complete -c pyoci -n '__pyoci_option exec' -l ignore-paused -d 'if the container is paused, wait until it is resumed'
complete -c pyoci -n '__pyoci_option exec' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option exec' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option start' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option start' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option run' -l bundle -s 'b' -r -a '(__pyoci_directories)' -d 'bundle: a directory with config.json (default: the current directory)'
complete -c pyoci -n '__pyoci_option run' -l config -s 'f' -r -F -d 'read this file instead of the bundle\'s config.json'
complete -c pyoci -n '__pyoci_option run' -l no-pivot -d 'don\'t use pivot_root; needed if the host\'s root filesystem is a ramdisk'
complete -c pyoci -n '__pyoci_option run' -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c pyoci -n '__pyoci_option run' -l preserve-fds -r -d 'pass N descriptors after the standard three and those of $LISTEN_FDS'
complete -c pyoci -n '__pyoci_option run' -l console-socket -r -F -d 'send the master end of the terminal to this socket'
complete -c pyoci -n '__pyoci_option run' -l pidfd-socket -r -F -d 'send a pidfd of the container\'s process to this socket'
complete -c pyoci -n '__pyoci_option run' -l pid-file -r -F -d 'write the pid of the container\'s process to this file'
complete -c pyoci -n '__pyoci_option run' -l detach -s 'd' -d 'don\'t wait: leave the container running'
complete -c pyoci -n '__pyoci_option run' -l keep -d 'keep the stopped container and its cgroup until `delete`'
complete -c pyoci -n '__pyoci_option run' -l no-subreaper -d 'don\'t adopt orphans of the container\'s process'
complete -c pyoci -n '__pyoci_option run' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option run' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option state' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option state' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option kill' -l all -s 'a' -d 'send it to every process of the container'
complete -c pyoci -n '__pyoci_option kill' -l regex -s 'r' -d 'ID is a regular expression: apply to every container whose id it matches'
complete -c pyoci -n '__pyoci_option kill' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option kill' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option delete' -l force -s 'f' -d 'kill it first if it runs; succeed if ID does not exist'
complete -c pyoci -n '__pyoci_option delete' -l regex -s 'r' -d 'ID is a regular expression: apply to every container whose id it matches'
complete -c pyoci -n '__pyoci_option delete' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option delete' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option pause' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option pause' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option resume' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option resume' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option ps' -l format -s 'f' -r -a 'table json' -d 'table (default) or json: an array of pids'
complete -c pyoci -n '__pyoci_option ps' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option ps' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option update' -l resources -s 'r' -r -F -d 'read them from this file, or - for standard input: linux.resources as JSON'
complete -c pyoci -n '__pyoci_option update' -l blkio-weight -r -d 'weight of block I/O, from 10 to 1000'
complete -c pyoci -n '__pyoci_option update' -l cpu-period -r -d 'length of a period, of which --cpu-quota is a part'
complete -c pyoci -n '__pyoci_option update' -l cpu-quota -r -d 'CPU time in a period, -1 for no limit'
complete -c pyoci -n '__pyoci_option update' -l cpu-burst -r -d 'unused time that later periods may use, at most the quota'
complete -c pyoci -n '__pyoci_option update' -l cpu-share -r -d 'share of CPU time relative to other containers; 1024 is usual'
complete -c pyoci -n '__pyoci_option update' -l cpu-rt-period -r -d 'rejected: not in cgroup v2'
complete -c pyoci -n '__pyoci_option update' -l cpu-rt-runtime -r -d 'rejected: not in cgroup v2'
complete -c pyoci -n '__pyoci_option update' -l cpu-idle -r -d '1: use only CPU time that would otherwise be idle'
complete -c pyoci -n '__pyoci_option update' -l cpuset-cpus -r -d 'CPUs to run on, such as 0-3,7'
complete -c pyoci -n '__pyoci_option update' -l cpuset-mems -r -d 'memory nodes to use'
complete -c pyoci -n '__pyoci_option update' -l memory -r -d 'limit of memory, such as 512m; -1 for no limit'
complete -c pyoci -n '__pyoci_option update' -l memory-reservation -r -d 'memory that the kernel reclaims last'
complete -c pyoci -n '__pyoci_option update' -l memory-swap -r -d 'limit of memory and swap together; -1 for no limit'
complete -c pyoci -n '__pyoci_option update' -l pids-limit -r -d 'limit of processes and threads; -1 for no limit'
complete -c pyoci -n '__pyoci_option update' -l l3-cache-schema -r -d 'line of the schemata file of its resource group, such as L3:0=7f'
complete -c pyoci -n '__pyoci_option update' -l mem-bw-schema -r -d 'the same for memory bandwidth, such as MB:0=50'
complete -c pyoci -n '__pyoci_option update' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option update' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option checkpoint' -l image-path -r -a '(__pyoci_directories)' -d 'directory of the images (default: checkpoint in the current directory)'
complete -c pyoci -n '__pyoci_option checkpoint' -l work-path -r -a '(__pyoci_directories)' -d 'directory of CRIU\'s log and other files (default: that of the images)'
complete -c pyoci -n '__pyoci_option checkpoint' -l tcp-established -d 'allow established TCP connections'
complete -c pyoci -n '__pyoci_option checkpoint' -l tcp-close -d 'drop established TCP connections: the restored program finds them closed'
complete -c pyoci -n '__pyoci_option checkpoint' -l ext-unix-sk -d 'allow connections to unix sockets outside the container'
complete -c pyoci -n '__pyoci_option checkpoint' -l shell-job -d 'allow a terminal or session that belongs to the caller'
complete -c pyoci -n '__pyoci_option checkpoint' -l file-locks -d 'allow file locks'
complete -c pyoci -n '__pyoci_option checkpoint' -l manage-cgroups-mode -r -a 'soft full strict ignore' -d 'what CRIU does with cgroups in the container: soft, full, strict or ignore'
complete -c pyoci -n '__pyoci_option checkpoint' -l network-lock -r -a 'iptables nftables skip' -d 'how CRIU blocks TCP traffic meanwhile: iptables, nftables or skip'
complete -c pyoci -n '__pyoci_option checkpoint' -l empty-ns -r -a 'network' -d 'leave this namespace empty: network, which is never saved'
complete -c pyoci -n '__pyoci_option checkpoint' -l auto-dedup -d 'free memory pages of a parent image that later images replace'
complete -c pyoci -n '__pyoci_option checkpoint' -l lazy-pages -d 'move memory when the restored program needs it (see `criu lazy-pages`)'
complete -c pyoci -n '__pyoci_option checkpoint' -l parent-path -r -d 'images of the previous --pre-dump, relative to the directory of the images'
complete -c pyoci -n '__pyoci_option checkpoint' -l leave-running -d 'let the container run on'
complete -c pyoci -n '__pyoci_option checkpoint' -l pre-dump -d 'save only memory, and let the container run on'
complete -c pyoci -n '__pyoci_option checkpoint' -l tcp-skip-in-flight -d 'leave out TCP connections that are still being established'
complete -c pyoci -n '__pyoci_option checkpoint' -l link-remap -d 'save deleted files that are open by linking them again'
complete -c pyoci -n '__pyoci_option checkpoint' -l page-server -r -d 'send the memory to a `criu page-server`; with --lazy-pages, serve it there'
complete -c pyoci -n '__pyoci_option checkpoint' -l status-fd -r -d 'with --lazy-pages: write a zero byte to descriptor N when memory can be moved'
complete -c pyoci -n '__pyoci_option checkpoint' -l plan -d 'print the plan and CRIU\'s request, and change nothing'
complete -c pyoci -n '__pyoci_option checkpoint' -l json -d 'print the plan as JSON'
complete -c pyoci -n '__pyoci_option checkpoint' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option checkpoint' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option restore' -l bundle -s 'b' -r -a '(__pyoci_directories)' -d 'bundle: a directory with config.json (default: the current directory)'
complete -c pyoci -n '__pyoci_option restore' -l config -s 'f' -r -F -d 'read this file instead of the bundle\'s config.json'
complete -c pyoci -n '__pyoci_option restore' -l image-path -r -a '(__pyoci_directories)' -d 'directory of the images (default: checkpoint in the current directory)'
complete -c pyoci -n '__pyoci_option restore' -l work-path -r -a '(__pyoci_directories)' -d 'directory of CRIU\'s log and other files (default: that of the images)'
complete -c pyoci -n '__pyoci_option restore' -l tcp-established -d 'allow established TCP connections'
complete -c pyoci -n '__pyoci_option restore' -l tcp-close -d 'drop established TCP connections: the restored program finds them closed'
complete -c pyoci -n '__pyoci_option restore' -l ext-unix-sk -d 'allow connections to unix sockets outside the container'
complete -c pyoci -n '__pyoci_option restore' -l shell-job -d 'allow a terminal or session that belongs to the caller'
complete -c pyoci -n '__pyoci_option restore' -l file-locks -d 'allow file locks'
complete -c pyoci -n '__pyoci_option restore' -l manage-cgroups-mode -r -a 'soft full strict ignore' -d 'what CRIU does with cgroups in the container: soft, full, strict or ignore'
complete -c pyoci -n '__pyoci_option restore' -l network-lock -r -a 'iptables nftables skip' -d 'how CRIU blocks TCP traffic meanwhile: iptables, nftables or skip'
complete -c pyoci -n '__pyoci_option restore' -l empty-ns -r -a 'network' -d 'leave this namespace empty: network, which is never saved'
complete -c pyoci -n '__pyoci_option restore' -l auto-dedup -d 'free memory pages of a parent image that later images replace'
complete -c pyoci -n '__pyoci_option restore' -l lazy-pages -d 'move memory when the restored program needs it (see `criu lazy-pages`)'
complete -c pyoci -n '__pyoci_option restore' -l console-socket -r -F -d 'send the master end of the terminal to this socket'
complete -c pyoci -n '__pyoci_option restore' -l pidfd-socket -r -F -d 'send a pidfd of the container\'s process to this socket'
complete -c pyoci -n '__pyoci_option restore' -l pid-file -r -F -d 'write the pid of the container\'s process to this file'
complete -c pyoci -n '__pyoci_option restore' -l detach -s 'd' -d 'don\'t wait: leave the container running'
complete -c pyoci -n '__pyoci_option restore' -l keep -d 'keep the stopped container and its cgroup until `delete`'
complete -c pyoci -n '__pyoci_option restore' -l no-subreaper -d 'don\'t adopt orphans of the container\'s process'
complete -c pyoci -n '__pyoci_option restore' -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c pyoci -n '__pyoci_option restore' -l lsm-profile -r -d 'restore under this profile: apparmor:NAME or selinux:LABEL'
complete -c pyoci -n '__pyoci_option restore' -l lsm-mount-context -r -d 'replace the SELinux context of mounts that have one'
complete -c pyoci -n '__pyoci_option restore' -l plan -d 'print the plan and CRIU\'s request, and change nothing'
complete -c pyoci -n '__pyoci_option restore' -l json -d 'print the plan as JSON'
complete -c pyoci -n '__pyoci_option restore' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option restore' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option events' -l interval -r -d 'how often to print the usage (default: 5s)'
complete -c pyoci -n '__pyoci_option events' -l stats -d 'print the usage once, and no events'
complete -c pyoci -n '__pyoci_option events' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option events' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option list' -l format -s 'f' -r -a 'table json' -d 'table (default) or json'
complete -c pyoci -n '__pyoci_option list' -l quiet -s 'q' -d 'print only ids'
complete -c pyoci -n '__pyoci_option list' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option list' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option spec' -l bundle -s 'b' -r -a '(__pyoci_directories)' -d 'write it to this directory (default: the current directory)'
complete -c pyoci -n '__pyoci_option spec' -l file -s 'f' -r -F -d 'write this file instead of config.json'
complete -c pyoci -n '__pyoci_option spec' -l rootless -d 'write one for a user without privileges'
complete -c pyoci -n '__pyoci_option spec' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option spec' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option validate' -l bundle -s 'b' -r -a '(__pyoci_directories)' -d 'bundle: a directory with config.json (default: the current directory)'
complete -c pyoci -n '__pyoci_option validate' -l config -s 'f' -r -F -d 'read this file instead of the bundle\'s config.json'
complete -c pyoci -n '__pyoci_option validate' -l json -d 'print JSON'
complete -c pyoci -n '__pyoci_option validate' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option validate' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option plan' -l bundle -s 'b' -r -a '(__pyoci_directories)' -d 'bundle: a directory with config.json (default: the current directory)'
complete -c pyoci -n '__pyoci_option plan' -l config -s 'f' -r -F -d 'read this file instead of the bundle\'s config.json'
complete -c pyoci -n '__pyoci_option plan' -l no-pivot -d 'don\'t use pivot_root; needed if the host\'s root filesystem is a ramdisk'
complete -c pyoci -n '__pyoci_option plan' -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c pyoci -n '__pyoci_option plan' -l preserve-fds -r -d 'pass N descriptors after the standard three and those of $LISTEN_FDS'
complete -c pyoci -n '__pyoci_option plan' -l json -d 'print JSON'
complete -c pyoci -n '__pyoci_option plan' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option plan' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_option features' -l help -s 'h' -s '?' -d 'show this help'
complete -c pyoci -n '__pyoci_option features' -l usage -d 'show only the usage line'
complete -c pyoci -n '__pyoci_operand exec 1' -a '(__pyoci_containers created running paused)'
complete -c pyoci -n '__pyoci_operand start 1' -a '(__pyoci_containers created)'
complete -c pyoci -n '__pyoci_operand state 1' -a '(__pyoci_containers)'
complete -c pyoci -n '__pyoci_operand kill 1' -a '(__pyoci_containers created running paused)'
complete -c pyoci -n '__pyoci_operand kill 2' -a 'HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS'
complete -c pyoci -n '__pyoci_operand delete 1' -a '(__pyoci_containers)'
complete -c pyoci -n '__pyoci_operand pause 1' -a '(__pyoci_containers running)'
complete -c pyoci -n '__pyoci_operand resume 1' -a '(__pyoci_containers paused)'
complete -c pyoci -n '__pyoci_operand ps 1' -a '(__pyoci_containers)'
complete -c pyoci -n '__pyoci_operand update 1' -a '(__pyoci_containers)'
complete -c pyoci -n '__pyoci_operand checkpoint 1' -a '(__pyoci_containers running paused)'
complete -c pyoci -n '__pyoci_operand events 1' -a '(__pyoci_containers)'
complete -c pyoci -n '__pyoci_operand validate 1' -a '(__pyoci_directories)'
complete -c pyoci -n '__pyoci_operand plan 1' -a '(__pyoci_directories)'
