"""The table of commands and their options. They are those of runc and crun, so that engines need no change."""

from pyoci.cli import commands
from pyoci.cli.options import Option, by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.cli.call import Call


HELP = (
    Option("help h ?", "", "show this help"),
    Option("usage", "", "show only the usage line"),
)


class Command:
    """One command.

    - `summary` says what it does; `run` does it.
    - `operands` and `options` are what it accepts. Operands in brackets are optional, `least` are not.
    - `by_name` has the options, and those for help.
    - `data`: callers parse its standard output, often together with standard error.
    - `mixed`: options may follow operands.
    - `failure` is the exit status when the command itself fails.
    """

    __slots__ = ("by_name", "data", "failure", "least", "mixed", "operands", "options", "run", "summary")

    def __init__(
        self,
        summary: str,
        operands: str,
        options: "tuple[Option, ...]",
        run: "Callable[[Call], int]",
        *,
        data: bool = False,
        mixed: bool = True,
        failure: int = 1,
    ) -> None:
        self.summary = summary
        self.operands = operands.split()
        self.least = sum(not name.startswith("[") for name in self.operands)
        self.options = options
        self.by_name = by_name((*options, *HELP))
        self.run = run
        self.data = data
        self.mixed = mixed
        self.failure = failure


GLOBAL_OPTIONS = (
    Option("root", "DIR", "keep states in DIR (default: /run/pyoci; rootless: $XDG_RUNTIME_DIR/pyoci)"),
    Option("log", "DEST", "also write errors to this file, or to journald:ID or syslog:ID"),
    Option("log-format", "FORMAT", "format of the log: text (default) or json"),
    Option("log-level", "LEVEL", "least important messages to write: error, warning, info or debug"),
    Option("debug", "", "the same as --log-level debug"),
    Option("cgroup-manager", "NAME", "cgroupfs (default), systemd for a unit of systemd, or disabled for no cgroup"),
    Option("systemd-cgroup", "", "the same as --cgroup-manager systemd"),
    Option("criu", "PATH", "program that checkpoint and restore run (default: criu in the system's directories)"),
    *HELP,
    Option("version v V", "", "show the version"),
    Option("rootless", "BOOL", "ignored: pyoci finds out by itself what it may do", hidden=True),
)
GLOBAL_BY_NAME = by_name(GLOBAL_OPTIONS)

_BUNDLE = Option("bundle b", "DIR", "bundle: a directory with config.json (default: the current directory)")
_CONFIG = Option("config f", "FILE", "read this file instead of the bundle's config.json")
_KEYRING = Option("no-new-keyring", "", "keep the caller's session keyring")
_PLANNED = (
    Option("no-pivot", "", "don't use pivot_root; needed if the host's root filesystem is a ramdisk"),
    _KEYRING,
    Option("preserve-fds", "N", "pass N descriptors after the standard three and those of $LISTEN_FDS"),
)
_HANDOVER = (
    Option("console-socket", "SOCKET", "send the master end of the terminal to this socket"),
    Option("pidfd-socket", "SOCKET", "send a pidfd of the container's process to this socket"),
    Option("pid-file", "FILE", "write the pid of the container's process to this file"),
)
_CREATE = (_BUNDLE, _CONFIG, *_PLANNED, *_HANDOVER)
_FOREGROUND = (
    Option("detach d", "", "don't wait: leave the container running"),
    Option("keep", "", "keep the stopped container and its cgroup until `delete`"),
    Option("no-subreaper", "", "don't adopt orphans of the container's process"),
)
_REGEX = Option("regex r", "", "ID is a regular expression: apply to every container whose id it matches")
_JSON = Option("json", "", "print JSON")

_PLAN = (
    Option("plan", "", "print the plan and CRIU's request, and change nothing"),
    Option("json", "", "print the plan as JSON"),
)
_CRIU = (
    Option("image-path", "DIR", "directory of the images (default: checkpoint in the current directory)"),
    Option("work-path", "DIR", "directory of CRIU's log and other files (default: that of the images)"),
    Option("tcp-established", "", "allow established TCP connections"),
    Option("tcp-close", "", "drop established TCP connections: the restored program finds them closed"),
    Option("ext-unix-sk", "", "allow connections to unix sockets outside the container"),
    Option("shell-job", "", "allow a terminal or session that belongs to the caller"),
    Option("file-locks", "", "allow file locks"),
    Option("manage-cgroups-mode", "MODE", "what CRIU does with cgroups in the container: soft, full, strict or ignore"),
    Option("network-lock", "METHOD", "how CRIU blocks TCP traffic meanwhile: iptables, nftables or skip"),
    Option("empty-ns", "NAMESPACE", "leave this namespace empty: network, which is never saved"),
    Option("auto-dedup", "", "free memory pages of a parent image that later images replace"),
    Option("lazy-pages", "", "move memory when the restored program needs it (see `criu lazy-pages`)"),
)

COMMANDS = {
    "create": Command(
        "create a container",
        "ID",
        (*_CREATE, Option("no-subreaper", "", "`create` is never a subreaper", hidden=True)),
        commands.create,
    ),
    "exec": Command(
        "run another program in a container",
        "ID [PROGRAM] [ARGUMENT]...",
        (
            Option("process p", "FILE", "take the settings from this file: `process` of a config.json"),
            Option("detach d", "", "don't wait: leave the program running"),
            Option("tty t", "", "give it a terminal"),
            Option("console-socket", "SOCKET", "send the master end of the terminal to this socket"),
            Option("pid-file", "FILE", "write the pid of the process to this file"),
            Option("pidfd-socket", "SOCKET", "send a pidfd of the process to this socket"),
            Option("preserve-fds", "N", "pass N descriptors after the standard three and those of $LISTEN_FDS"),
            Option("user u", "UID[:GID]", "run as this user"),
            Option("additional-gids g", "GID", "add a supplementary group; may be repeated"),
            Option("cwd", "DIR", "start in this directory of the container"),
            Option("env e", "NAME=VALUE", "set a variable; may be repeated"),
            Option("cap c", "NAME", "add a capability; may be repeated"),
            Option("no-new-privs", "", "keep programs from gaining privileges"),
            Option("apparmor", "PROFILE", "run under this AppArmor profile"),
            Option("process-label", "LABEL", "run under this SELinux label"),
            Option("cgroup", "PATH", "run in this cgroup below the container's"),
            Option("ignore-paused", "", "if the container is paused, wait until it is resumed"),
        ),
        commands.exec_process,
        mixed=False,
        failure=255,
    ),
    "start": Command("start the program of a created container", "ID", (), commands.start),
    "run": Command(
        "create and start a container, wait until it ends, and delete it",
        "ID",
        (*_CREATE, *_FOREGROUND),
        commands.run,
    ),
    "state": Command("print the state of a container as JSON", "ID", (), commands.state, data=True),
    "kill": Command(
        "send a signal to a container (default: TERM)",
        "ID [SIGNAL]",
        (Option("all a", "", "send it to every process of the container"), _REGEX),
        commands.kill,
        mixed=False,
    ),
    "delete": Command(
        "delete a stopped container",
        "ID",
        (Option("force f", "", "kill it first if it runs; succeed if ID does not exist"), _REGEX),
        commands.delete,
    ),
    "pause": Command("pause every process of a container", "ID", (), commands.pause),
    "resume": Command("resume a paused container", "ID", (), commands.resume),
    "ps": Command(
        "list the processes of a container",
        "ID [PS-OPTION]...",
        (Option("format f", "FORMAT", "table (default) or json: an array of pids"),),
        commands.ps,
        data=True,
        mixed=False,
    ),
    "update": Command(
        "change the limits of a container",
        "ID",
        (
            Option("resources r", "FILE", "read them from this file, or - for standard input: linux.resources as JSON"),
            Option("blkio-weight", "N", "weight of block I/O, from 10 to 1000"),
            Option("cpu-period", "MICROSECONDS", "length of a period, of which --cpu-quota is a part"),
            Option("cpu-quota", "MICROSECONDS", "CPU time in a period, -1 for no limit"),
            Option("cpu-burst", "MICROSECONDS", "unused time that later periods may use, at most the quota"),
            Option("cpu-share", "N", "share of CPU time relative to other containers; 1024 is usual"),
            Option("cpu-rt-period", "MICROSECONDS", "rejected: not in cgroup v2"),
            Option("cpu-rt-runtime", "MICROSECONDS", "rejected: not in cgroup v2"),
            Option("cpu-idle", "N", "1: use only CPU time that would otherwise be idle"),
            Option("cpuset-cpus", "LIST", "CPUs to run on, such as 0-3,7"),
            Option("cpuset-mems", "LIST", "memory nodes to use"),
            Option("memory", "BYTES", "limit of memory, such as 512m; -1 for no limit"),
            Option("memory-reservation", "BYTES", "memory that the kernel reclaims last"),
            Option("memory-swap", "BYTES", "limit of memory and swap together; -1 for no limit"),
            Option("pids-limit", "N", "limit of processes and threads; -1 for no limit"),
            Option("l3-cache-schema", "LINE", "line of the schemata file of its resource group, such as L3:0=7f"),
            Option("mem-bw-schema", "LINE", "the same for memory bandwidth, such as MB:0=50"),
            Option("kernel-memory", "BYTES", "not in cgroup v2", hidden=True),
            Option("kernel-memory-tcp", "BYTES", "not in cgroup v2", hidden=True),
        ),
        commands.update,
    ),
    "checkpoint": Command(
        "save a running container in image files, and stop it",
        "ID",
        (
            *_CRIU,
            Option("parent-path", "DIR", "images of the previous --pre-dump, relative to the directory of the images"),
            Option("leave-running", "", "let the container run on"),
            Option("pre-dump", "", "save only memory, and let the container run on"),
            Option("tcp-skip-in-flight", "", "leave out TCP connections that are still being established"),
            Option("link-remap", "", "save deleted files that are open by linking them again"),
            Option(
                "page-server",
                "ADDRESS:PORT",
                "send the memory to a `criu page-server`; with --lazy-pages, serve it there",
            ),
            Option("status-fd", "N", "with --lazy-pages: write a zero byte to descriptor N when memory can be moved"),
            *_PLAN,
        ),
        commands.checkpoint,
    ),
    "restore": Command(
        "restore a container from image files, wait until it ends, and delete it",
        "ID",
        (
            _BUNDLE,
            _CONFIG,
            *_CRIU,
            *_HANDOVER,
            *_FOREGROUND,
            _KEYRING,
            Option("lsm-profile", "TYPE:NAME", "restore under this profile: apparmor:NAME or selinux:LABEL"),
            Option("lsm-mount-context", "CONTEXT", "replace the SELinux context of mounts that have one"),
            *_PLAN,
            Option("no-pivot", "", "accepted for callers that pass it, and ignored", hidden=True),
            Option("preserve-fds", "N", "ignored: the images say which descriptors a process has", hidden=True),
        ),
        commands.restore,
    ),
    "events": Command(
        "print what happens to a container, and its resource usage, as lines of JSON",
        "ID",
        (
            Option("interval", "DURATION", "how often to print the usage (default: 5s)"),
            Option("stats", "", "print the usage once, and no events"),
        ),
        commands.events,
        data=True,
    ),
    "list": Command(
        "list the containers",
        "",
        (Option("format f", "FORMAT", "table (default) or json"), Option("quiet q", "", "print only ids")),
        commands.list_containers,
        data=True,
    ),
    "spec": Command(
        "write a config.json to start from",
        "",
        (
            Option("bundle b", "DIR", "write it to this directory (default: the current directory)"),
            Option("file f", "FILE", "write this file instead of config.json"),
            Option("rootless", "", "write one for a user without privileges"),
        ),
        commands.spec,
    ),
    "validate": Command(
        "report every fault of a config.json", "[BUNDLE]", (_BUNDLE, _CONFIG, _JSON), commands.validate
    ),
    "plan": Command(
        "print what `create` would do, step by step",
        "[BUNDLE]",
        (_BUNDLE, _CONFIG, *_PLANNED, _JSON),
        commands.plan,
    ),
    "features": Command("print what this pyoci supports, as JSON", "", (), commands.features, data=True),
}

# Commands of runc and crun that pyoci lacks.
UNSUPPORTED = {
    "mounts": "cannot change the mounts of a container: pyoci does not support it",
}

# pyoci runs these in a process of its own. They are not for users.
INTERNAL = {"move-net-devices": commands.move_net_devices}
