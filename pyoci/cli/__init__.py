"""The command line: one table of commands, and the one place where errors are told.

The commands and options are those of runc and crun, so that engines need no change.
"""

import posix

from pyoci.cli import commands
from pyoci.cli.commands import Call
from pyoci.cli.log import Log, print_data
from pyoci.cli.options import Option, UnknownOption, Values, parse
from pyoci.errors import PyociError, UsageError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType


class Command:
    """One command: what it does, its operands and options, and the function that does it.

    `failure` is the exit status when the command itself fails. Operands in brackets may be left out. `data`
    marks commands whose standard output is parsed, often together with standard error. `mixed` allows options
    after operands.
    """

    __slots__ = ("data", "failure", "mixed", "operands", "options", "run", "summary")

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
        self.options = options
        self.run = run
        self.data = data
        self.mixed = mixed
        self.failure = failure


HELP = (
    Option("help h ?", "", "show this help"),
    Option("usage", "", "show only how the command is written"),
)
GLOBAL_OPTIONS = (
    Option("root", "DIR", "keep states here (default: /run/pyoci; rootless: $XDG_RUNTIME_DIR/pyoci)"),
    Option("log", "DEST", "write errors to this file, too, or to journald:ID or syslog:ID"),
    Option("log-format", "FORMAT", "format of the log: text (default) or json"),
    Option("log-level", "LEVEL", "least important messages to write: error, warning, info or debug"),
    Option("debug", "", "the same as --log-level debug"),
    Option("cgroup-manager", "NAME", "cgroupfs (default); systemd: a unit of systemd's; or disabled for no cgroup"),
    Option("systemd-cgroup", "", "the same as --cgroup-manager systemd"),
    *HELP,
    Option("version v V", "", "show the version"),
    Option("rootless", "BOOL", "pyoci finds out by itself what it may do", hidden=True),
    Option("criu", "PATH", "no command here uses CRIU", hidden=True),
)

_BUNDLE = Option("bundle b", "DIR", "the bundle: a folder with config.json (default: the current folder)")
_CONFIG = Option("config f", "FILE", "read this file instead of the bundle's config.json")
_PLANNED = (
    Option("no-pivot", "", "don't use pivot_root; needed when the root filesystem is on a ramdisk"),
    Option("no-new-keyring", "", "keep the caller's session keyring"),
    Option("preserve-fds", "N", "pass on N descriptors after the standard three and those of $LISTEN_FDS"),
)
_CREATE = (
    _BUNDLE,
    _CONFIG,
    *_PLANNED,
    Option("console-socket", "SOCKET", "send the master end of the terminal to this socket"),
    Option("pidfd-socket", "SOCKET", "send a pidfd of the container's process to this socket"),
    Option("pid-file", "FILE", "write the pid of the container's process to this file"),
)
_REGEX = Option("regex r", "", "ID is a regular expression: take every container whose id it matches")
_JSON = Option("json", "", "print JSON")

COMMANDS = {
    "create": Command(
        "create a container",
        "ID",
        (*_CREATE, Option("no-subreaper", "", "`create` is never a subreaper", hidden=True)),
        commands.create,
    ),
    "exec": Command(
        "run one more program in a container",
        "ID [PROGRAM] [ARGUMENT]...",
        (
            Option("process p", "FILE", "take the process from this file: `process` of a config.json"),
            Option("detach d", "", "don't wait: leave the program running"),
            Option("tty t", "", "give it a terminal"),
            Option("console-socket", "SOCKET", "send the master end of the terminal to this socket"),
            Option("pid-file", "FILE", "write the pid of the process to this file"),
            Option("pidfd-socket", "SOCKET", "send a pidfd of the process to this socket"),
            Option("preserve-fds", "N", "pass on N descriptors after the standard three and those of $LISTEN_FDS"),
            Option("user u", "UID[:GID]", "run as this user"),
            Option("additional-gids g", "GID", "one more group; may be repeated"),
            Option("cwd", "DIR", "start in this folder of the container"),
            Option("env e", "NAME=VALUE", "one more variable; may be repeated"),
            Option("cap c", "NAME", "one more capability; may be repeated"),
            Option("no-new-privs", "", "no program may gain privileges"),
            Option("apparmor", "PROFILE", "run under this AppArmor profile"),
            Option("process-label", "LABEL", "run under this SELinux label"),
            Option("cgroup", "PATH", "run in this cgroup below the container's"),
            Option("ignore-paused", "", "wait for a paused container instead of failing"),
        ),
        commands.exec_process,
        mixed=False,
        failure=255,
    ),
    "start": Command("start the program of a created container", "ID", (), commands.start),
    "run": Command(
        "create and start a container, wait for its end, and delete it",
        "ID",
        (
            *_CREATE,
            Option("detach d", "", "don't wait: leave the container running"),
            Option("keep", "", "keep the stopped container and its cgroup until `delete`"),
            Option("no-subreaper", "", "don't adopt the orphans of the container's process"),
        ),
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
        (Option("force f", "", "kill it first if it runs; an unknown ID is no error"), _REGEX),
        commands.delete,
    ),
    "pause": Command("stop every process of a container where it is", "ID", (), commands.pause),
    "resume": Command("let a paused container go on", "ID", (), commands.resume),
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
            Option("cpu-period", "MICROSECONDS", "how long a period is, of which --cpu-quota is a part"),
            Option("cpu-quota", "MICROSECONDS", "CPU time in a period, -1 for no limit"),
            Option("cpu-burst", "MICROSECONDS", "unused time that later periods may use, at most the quota"),
            Option("cpu-share", "N", "weight of CPU time beside other containers; 1024 is usual"),
            Option("cpu-rt-period", "MICROSECONDS", "not in cgroup v2: refused"),
            Option("cpu-rt-runtime", "MICROSECONDS", "not in cgroup v2: refused"),
            Option("cpu-idle", "N", "1: only CPU time that nobody else wants"),
            Option("cpuset-cpus", "LIST", "CPUs to run on, such as 0-3,7"),
            Option("cpuset-mems", "LIST", "memory nodes to use"),
            Option("memory", "BYTES", "limit of memory, such as 512m; -1 for none"),
            Option("memory-reservation", "BYTES", "memory that is not taken while others can be found"),
            Option("memory-swap", "BYTES", "limit of memory and swap together; -1 for none"),
            Option("pids-limit", "N", "limit of processes and threads, -1 for none"),
            Option("l3-cache-schema", "LINE", "lines of the schemata file of its resource group, such as L3:0=7f"),
            Option("mem-bw-schema", "LINE", "the same for memory bandwidth, such as MB:0=50"),
            Option("kernel-memory", "BYTES", "not in cgroup v2", hidden=True),
            Option("kernel-memory-tcp", "BYTES", "not in cgroup v2", hidden=True),
        ),
        commands.update,
    ),
    "events": Command(
        "print what happens to a container, and what it uses, as lines of JSON",
        "ID",
        (
            Option("interval", "DURATION", "how often to print what it uses (default: 5s)"),
            Option("stats", "", "print what it uses once, and no events"),
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
            Option("bundle b", "DIR", "write it into this folder (default: the current folder)"),
            Option("file f", "FILE", "write this file instead of config.json"),
            Option("rootless", "", "make it fit for a user without privileges"),
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

# Commands of runc and crun that are not here.
UNSUPPORTED = {
    "checkpoint": "cannot checkpoint a container: pyoci does not support checkpoint and restore",
    "restore": "cannot restore a container: pyoci does not support checkpoint and restore",
    "mounts": "cannot change the mounts of a container: pyoci does not support it",
}

# What this program runs of itself in a process of its own: no command of anybody's.
HELPERS = {"move-net-devices": commands.move_net_devices}


def main(argv: "list[str]") -> int:
    """Run the command line `argv` (without the program's name) and return the exit status. Raises nothing.

    0 is success, 1 any failure: a wrong command line too, as runc has it. `run` and `exec` in the foreground return the
    status of their program, which is 128 + N when signal N ended it; a failure of `exec` itself is 255.
    """
    given = Values()
    try:
        return _dispatch(argv, given)
    except KeyboardInterrupt:
        return 128 + 2
    except BaseException as error:  # noqa: BLE001 - engines want one line, whatever went wrong
        try:
            return _fail(error, given)
        except MemoryError:
            posix.write(2, _OUT_OF_MEMORY)
            return 1


def _dispatch(argv: "list[str]", given: Values) -> int:
    try:
        rest = parse(GLOBAL_OPTIONS, argv, given, mixed=False)
    except UnknownOption as error:
        error.hint = _meant(error.name, GLOBAL_OPTIONS, ("after the command", _of_commands()))
        raise
    if given.on("version"):
        return print_data(_version())
    verb, arguments = (rest[0], rest[1:]) if rest else ("help", [])
    if verb == "help" or given.on("help") or given.on("usage"):
        return _help(arguments[0] if arguments and verb == "help" else "", given)
    if verb in HELPERS:
        return HELPERS[verb]()
    if verb not in COMMANDS:
        raise _unknown(verb)
    return _run(verb, arguments, given)


def _run(verb: str, arguments: "list[str]", given: Values) -> int:
    command = COMMANDS[verb]
    options = Values()
    try:
        operands = parse((*command.options, *HELP), arguments, options, mixed=command.mixed)
        if options.on("help") or options.on("usage"):
            return _help(verb, options)
        _check_operands(command, operands)
    except UsageError as error:
        hint = ""
        if isinstance(error, UnknownOption):
            hint = _meant(error.name, command.options, (f"before `{verb}`", GLOBAL_OPTIONS))
        raise UsageError(f"{verb}: {error.message}", hint=hint or f"see `pyoci {verb} --help`") from error
    log = _log(given, quiet=command.data)
    try:
        root_given = bool(given.text("root"))
        return command.run(Call(operands, options, _root(given), _cgroup_manager(given), log, root_given=root_given))
    except OSError as error:  # of the system, not of the container: no descriptors left, a full disk
        log.debug(_trace(error.__traceback__))
        subject = f"{error.filename}: " if error.filename else ""
        failure = PyociError(f"cannot {verb}: {subject}{reason(error.errno or 0)}")
        failure.status = command.failure
        raise failure from error
    except (MemoryError, SystemError) as error:
        if not _lacks_memory(error):
            raise
        _let_go(error)
        failure = PyociError(f"cannot {verb}: out of memory")
        failure.status = command.failure
        raise failure from None
    except PyociError as error:
        error.status = command.failure
        raise
    finally:
        log.close()


def _check_operands(command: Command, operands: "list[str]") -> None:
    least = sum(not name.startswith("[") for name in command.operands)
    if len(operands) < least:
        raise UsageError(f"needs {command.operands[len(operands)]}")
    if command.operands and command.operands[-1].endswith("..."):
        return
    if len(operands) > len(command.operands):
        raise UsageError(f"cannot use `{operands[len(command.operands)]}`: one argument too many")


def _unknown(verb: str) -> UsageError:
    from pyoci.config import spelling

    if verb in UNSUPPORTED:
        return UsageError(UNSUPPORTED[verb])
    hint = spelling.hint(verb, COMMANDS) or "see `pyoci --help`"
    return UsageError(f"cannot run command `{verb}`: there is no such command", hint=hint)


def _of_commands() -> "list[Option]":
    return [option for command in COMMANDS.values() for option in command.options]


def _meant(name: str, here: "Iterable[Option]", elsewhere: "tuple[str, Iterable[Option]]") -> str:
    """A hint for an option that is unknown `here`: its place, or the option that the user meant; "" without a guess."""
    from pyoci.config import spelling

    place, others = elsewhere
    if any(name in option.names for option in others):
        return f"write it {place}"
    names = [each for option in here if not option.hidden for each in option.names if len(each) > 1]
    return spelling.hint(name, names, "--")


def _help(verb: str, given: Values) -> int:
    from pyoci.cli import usage

    if verb and verb not in COMMANDS:
        raise _unknown(verb)
    whole = not given.on("usage")
    if verb:
        return print_data(usage.of_command(verb, COMMANDS[verb], whole=whole))
    return print_data(usage.of_program(COMMANDS, GLOBAL_OPTIONS, whole=whole))


def _version() -> str:
    from pyoci.version import COMMIT, SPEC, VERSION

    # dockerd takes the last line with the word "version" in it, and a line that starts with "commit:".
    commit = f"commit: {COMMIT}\n" if COMMIT else ""
    return f"pyoci version {VERSION}\n{commit}spec: {SPEC}\n"


def _log(given: Values, *, quiet: bool) -> Log:
    level = "debug" if given.on("debug") else given.text("log-level")
    return Log(given.text("log"), format=given.text("log-format") or "text", level=level, quiet=quiet)


def _root(given: Values) -> str:
    """Where states are kept, as an absolute path.

    Later commands for the same container come with another environment, so the default depends on as little
    of it as can be: on XDG_RUNTIME_DIR, and not for root, whose engines pass the user's, or an empty one.
    """
    root = given.text("root")
    runtime_dir = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    if not root:
        rootless = runtime_dir and (posix.geteuid() != 0 or _in_user_namespace())
        root = f"{runtime_dir}/pyoci" if rootless else "/run/pyoci"
    if root.startswith("/"):
        return root
    from pyoci.compiler.paths import join

    return join(posix.getcwd(), root)


def _in_user_namespace() -> bool:
    """Whether this is not the initial user namespace, where every id maps to itself."""
    try:
        fd = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without user namespaces, or no /proc
        return False
    try:
        return posix.read(fd, 4096).split() != [b"0", b"0", b"4294967295"]
    finally:
        posix.close(fd)


def _cgroup_manager(given: Values) -> str:
    name = given.text("cgroup-manager") or ("systemd" if given.on("systemd-cgroup") else "cgroupfs")
    if name not in ("cgroupfs", "systemd", "disabled"):
        raise UsageError(f"cannot use cgroup manager `{name}`: expected cgroupfs, systemd or disabled")
    return name


_SPARE = 1 << 20  # bytes: more than a single import takes
_OUT_OF_MEMORY = b"cannot run the command: out of memory\n"


def _lacks_memory(error: BaseException) -> bool:
    """Whether it is a MemoryError, or a SystemError that CPython makes of one, as while it imports a frozen module."""
    if isinstance(error, SystemError) and not isinstance(error.__cause__, MemoryError):
        try:  # CPython may lose the MemoryError on the way, so see how much memory there is
            bytearray(_SPARE)
        except MemoryError:
            return True
        return False
    return isinstance(error, MemoryError | SystemError)


def _let_go(error: BaseException) -> None:
    """Free the memory that the error's frames hold: its message needs some, too."""
    error.__traceback__ = error.__context__ = error.__cause__ = None


def _fail(error: BaseException, given: Values) -> int:
    """Tell `error` once, on standard error and in the log, and return the exit status."""
    if _lacks_memory(error):
        _let_go(error)
        error = PyociError("cannot run the command: out of memory")
    try:
        log = _log(given, quiet=False)
    except PyociError:  # that may be the error itself; what is left is standard error
        log = Log()
    if not isinstance(error, PyociError):
        log.debug(_trace(error.__traceback__))
    if isinstance(error, PyociError):
        log.error(str(error), kind=type(error).__name__, pointer=error.pointer, hint=error.hint)
    else:
        log.error(f"internal error: {type(error).__name__}: {error}")
    log.close()
    return error.status if isinstance(error, PyociError) else 1


def _trace(traceback: "TracebackType | None") -> str:
    """Where an error came from. The `traceback` module would read source files, and isn't frozen in."""
    places = []
    while traceback:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return "raised at " + ", ".join(places)
