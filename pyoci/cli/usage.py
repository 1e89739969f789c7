"""What `--help` prints. Loaded for nothing else."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyoci.cli import Command
    from pyoci.cli.options import Option

_WIDTH = 26  # of the left column

ABOUT = {
    "create": """\
Makes everything that config.json asks for, except that the program waits for `start`. A program that is
missing or can't be executed, and a working directory that can't be entered, are errors of `create`. When it
fails, nothing is left behind. If the config asks for a terminal, --console-socket is needed, and only then.
$LISTEN_FDS is honoured when $LISTEN_PID is the pid of pyoci.""",
    "exec": """\
The process is the container's own with what the options change, or that of --process, where capabilities,
rlimits, oomScoreAdj, labels and priorities are the container's unless it says otherwise. It gets the
container's namespaces, cgroup and seccomp filter, and goes through what the first process went through.
Options stand before ID. The exit status is the program's, 128 + N if signal N ended it, or 255 if it
could not be run.""",
    "start": """\
The container must be in the status `created`. Returns when the program has been executed; if that fails, it
says why, and the container is destroyed. With SCMP_ACT_NOTIFY in its seccomp profile, the agent at listenerPath
must be there by now: it gets the listener before anything is done under the filter. Where `create` and
`start` have NOTIFY_SOCKET in their environment, it returns when the program says that it is ready, or ends.""",
    "run": """\
Passes signals on to the program, and returns its exit status, or 128 + N if signal N ended it. With --detach
it returns 0 as soon as the program runs.""",
    "state": """\
The document is the specification's: ociVersion, id, status, pid, bundle, annotations; and rootfs, created,
owner as runc has them; and systemd-scope, as crun has it, the unit of a container under systemd. The status is
creating, created, running or stopped.""",
    "kill": """\
SIGNAL is a number from 0 to 64 or a name: KILL, SIGKILL, kill, RTMIN+1. Options stand before ID. It goes to
the first process. KILL of a container that has no pid namespace of its own goes to all in its cgroup, also
when the first has ended, since the others do not end with it.""",
    "delete": """\
A created container is killed first; one that runs, or is still being created, is only deleted with --force.
The poststop hooks run; if one fails, delete warns and goes on.""",
    "pause": """\
Returns when every process is stopped. The container's status is then `paused`.""",
    "resume": """\
The container must be paused.""",
    "ps": """\
Shows the lines of ps(1) for processes of the container; PS-OPTIONs are handed to it (default: -ef). With
--format json the pids alone, as the caller sees them. Of a stopped container there are none, which is no error.""",
    "update": """\
What is not given stays as it is; with --resources other options are not looked at, and device rules are left
alone. If the kernel refuses a limit, those changed before it get their old values back.""",
    "events": """\
Prints a line of type `stats` at every interval, and one of type `oom` when the kernel kills a process for want
of memory. Ends with the container.""",
    "list": """\
Shows the containers under --root. What other runtimes keep there is passed over.
If one of them can't be read just now, the others are shown, and the exit status is 1.""",
    "spec": """\
An existing file is never overwritten. The config runs `sh` on a terminal in the root filesystem `rootfs`,
with few privileges.""",
    "validate": """\
Checks config.json against the specification and prints every fault, one per line: line and column in the
file, the JSON pointer of the value, what is wrong and what was expected. Nothing is run. The exit status is 1
if there is a fault.""",
    "plan": """\
Prints the operations into which config.json is compiled, in their order, each with the value it comes from; in
the end the hooks of `start` and `delete`. Annotations that ask for something and have no effect come first.
It prints the plan of root for every user. It runs and changes nothing.
A step that is due to NOTIFY_SOCKET in the environment names that.""",
    "features": """\
The document describes this pyoci, not this host. It is the specification's features document.""",
}


def of_program(commands: "Mapping[str, Command]", options: "Iterable[Option]", *, whole: bool = True) -> str:
    """The help of the program; its usage line alone if not `whole`."""
    lines = ["usage: pyoci [OPTION]... COMMAND [ARGUMENT]..."]
    if whole:
        lines += ["", "A low-level OCI container runtime.", "", "commands:"]
        lines += [_row(name, command.summary) for name, command in commands.items()]
        lines += ["", "options:", *_options(options), "", "`pyoci COMMAND --help` explains a command."]
    return "\n".join(lines) + "\n"


def of_command(verb: str, command: "Command", *, whole: bool = True) -> str:
    """The help of the command `verb`; its usage line alone if not `whole`."""
    lines = [f"usage: {synopsis(verb, command)}"]
    if whole:
        summary = command.summary[0].upper() + command.summary[1:]
        lines += ["", f"{summary}.", "", ABOUT[verb], "", "options:"]
        lines += [*_options(command.options), _row("-h, --help", "show this help")]
    return "\n".join(lines) + "\n"


def synopsis(verb: str, command: "Command") -> str:
    """How the command is written."""
    options = ["[OPTION]..."] if any(not option.hidden for option in command.options) else []
    return " ".join(["pyoci", verb, *options, *command.operands])


def flags(option: "Option") -> str:
    """An option's names, the short ones first, and its value: `-b, --bundle DIR`."""
    names = [f"-{name}" if len(name) == 1 else f"--{name}" for name in reversed(option.names)]
    return " ".join(filter(None, (", ".join(names), option.value)))


def _options(options: "Iterable[Option]") -> "list[str]":
    return [_row(flags(option), option.help) for option in options if not option.hidden]


def _row(left: str, right: str) -> str:
    if len(left) > _WIDTH - 2:
        return f"  {left}\n  {'':{_WIDTH}}{right}"
    return f"  {left:{_WIDTH}}{right}"
