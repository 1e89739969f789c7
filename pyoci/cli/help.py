"""The text of `--help`, and of the man pages. Loaded for nothing else."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyoci.cli.options import Option
    from pyoci.cli.table import Command

LEFT_COLUMN = 26

# What each command does: the sentence goes on from "pyoci COMMAND" in its man page.
ABOUT = {
    "create": """\
creates everything that config.json describes, except that the program waits for `start`. It fails if
the program is missing or can't be executed, or if the working directory can't be entered. A failure leaves
nothing behind.

If the config asks for a terminal, --console-socket is required; otherwise it must not be given. If LISTEN_PID
is the pid of pyoci, the program gets the descriptors that LISTEN_FDS counts.""",
    "exec": """\
runs PROGRAM with the container's `process` settings, changed by the options. With --process, the
settings come from FILE; capabilities, rlimits, oomScoreAdj, labels and priorities missing there are the
container's. The process gets the container's namespaces, cgroup and seccomp filter.

Options stand before ID. The exit status is the program's, 128 + N if signal N ended it, or 255 if pyoci could
not run it.""",
    "start": """\
starts the program of a container with the status `created`, and returns when the program has been
executed. If that fails, it reports why, and destroys the container.

With SCMP_ACT_NOTIFY in the seccomp profile, the agent at listenerPath must be ready by now: it gets the
listener before the process makes its first call under the filter. If `create` and `start` have NOTIFY_SOCKET
in their environment, `start` returns when the program reports that it is ready, or ends.""",
    "run": """\
creates and starts a container, passes signals on to its program, and deletes it when the program ends.
The exit status is the program's, or 128 + N if signal N ended it. With --detach it returns 0 as soon as the
program runs.""",
    "state": """\
prints the state as the specification defines it: ociVersion, id, status, pid, bundle, annotations. It
adds rootfs, created and owner, as runc does, and for a container under systemd the name of its unit as
systemd-scope, as crun does. The status is creating, created, running, paused or stopped.""",
    "kill": """\
sends SIGNAL to the container's init process. SIGNAL is a number from 0 to 64 or a name: KILL, SIGKILL,
kill, RTMIN+1. Options stand before ID.

If the container shares its PID namespace, KILL goes to every process in its cgroup, even after init has
exited: the kernel does not kill the others with it.""",
    "delete": """\
deletes a stopped container. It kills a created one first. A container that runs or is still being
created needs --force. poststop hooks run last; if one fails, pyoci only warns.""",
    "pause": """\
pauses every process of the container, and returns when all of them have stopped. The status of the
container is then `paused`.""",
    "resume": """\
lets the processes of a paused container run again. It fails if the container is not paused.""",
    "ps": """\
prints the lines of ps(1) for the processes of the container. It passes the PS-OPTIONs to ps(1); the
default is -ef. With --format json it prints only the pids, as the caller sees them. For a stopped container
the list is empty and the exit status 0.""",
    "update": """\
changes the limits that the options name. The other limits stay unchanged, and device rules never change.
With --resources, pyoci ignores the other options, except --l3-cache-schema and --mem-bw-schema. If the kernel
rejects a limit, pyoci restores the old values of those it has changed.""",
    "checkpoint": """\
saves the processes of a running or paused container in image files, and deletes the container; its root
filesystem and its volumes stay as they are. With --leave-running and --pre-dump, and after a failure, the
container runs on. criu(8) does the work, and its log is dump.log in the work directory.

With --plan it changes nothing. It prints the operations of the process that becomes CRIU, and CRIU's request as
text of protocol buffers. Comments name what CRIU can't dump, and the options that would help.""",
    "restore": """\
creates a container from config.json as `create` does, but its processes come from the image files of
`checkpoint`, and go on where they were. The root filesystem and the volumes must be as they were. In the
foreground it then does what `run` does: the exit status is the program's, or 128 + N if signal N ended it.
With --detach it returns 0 as soon as the processes run. A failure leaves nothing behind. criu(8) does the work,
and its log is restore.log in the work directory.

pyoci checks that the images fit config.json before it starts CRIU, and that every process has at most the
privileges of config.json before the first one runs. With --plan it changes nothing. It prints the operations of
the process that becomes CRIU, and CRIU's request.""",
    "events": """\
prints a line of type `stats` at every interval, and one of type `oom` when the kernel kills a process
because memory ran out. It returns when the container ends.""",
    "list": """\
lists the containers under --root, and ignores what other runtimes keep there. If it can't read one of
them, it lists the others and exits with status 1.""",
    "spec": """\
writes a config that runs `sh` on a terminal in the root filesystem `rootfs`, with few privileges. It
never overwrites a file.""",
    "validate": """\
checks config.json against the specification and prints every fault, one per line: line and column in
the file, the JSON pointer of the value, the fault, and what the specification expects. It runs nothing. The
exit status is 1 if there is a fault.""",
    "plan": """\
prints the operations into which pyoci compiles config.json, in their order, each with the value that it
comes from. Annotations that have no effect come first, the hooks of `start` and `delete` last. An operation
for NOTIFY_SOCKET in the environment names that variable. It prints root's plan for every user, and changes
nothing. With `--json`, each operation of the container's process has its fields, read back from the block that
the process gets: texts, numbers, tables in hexadecimal, and descriptors by the numbers of their slots.""",
    "features": """\
prints the features document of the specification. It describes this pyoci, not this host, with one
exception: it has the annotation org.opencontainers.runc.checkpoint.enabled only if the host has criu(8).""",
}


def of_program(commands: "Mapping[str, Command]", options: "Iterable[Option]", *, whole: bool = True) -> str:
    """The help of the program; only its usage line if not `whole`."""
    lines = ["usage: pyoci [OPTION]... COMMAND [ARGUMENT]..."]
    if whole:
        lines += ["", "A low-level OCI container runtime.", "", "commands:"]
        lines += [_row(name, command.summary) for name, command in commands.items()]
        lines += ["", "options:", *_options(options), "", "`pyoci COMMAND --help` explains a command."]
    return "\n".join(lines) + "\n"


def of_command(verb: str, command: "Command", *, whole: bool = True) -> str:
    """The help of the command `verb`; only its usage line if not `whole`."""
    lines = [f"usage: {synopsis(verb, command)}"]
    if whole:
        lines += ["", f"{_capitalized(command.summary)}.", "", _capitalized(ABOUT[verb]), "", "options:"]
        lines += [*_options(command.options), _row("-h, --help", "show this help")]
    return "\n".join(lines) + "\n"


def synopsis(verb: str, command: "Command") -> str:
    """The usage of the command on one line."""
    options = ["[OPTION]..."] if any(not option.hidden for option in command.options) else []
    return " ".join(["pyoci", verb, *options, *command.operands])


def flags(option: "Option") -> str:
    """An option's names, the short ones first, and its value: `-b, --bundle DIR`."""
    names = [f"-{name}" if len(name) == 1 else f"--{name}" for name in reversed(option.names)]
    return " ".join(filter(None, (", ".join(names), option.value)))


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def _options(options: "Iterable[Option]") -> "list[str]":
    return [_row(flags(option), option.help) for option in options if not option.hidden]


def _row(left: str, right: str) -> str:
    if len(left) > LEFT_COLUMN - 2:
        return f"  {left}\n  {'':{LEFT_COLUMN}}{right}"
    return f"  {left:{LEFT_COLUMN}}{right}"
