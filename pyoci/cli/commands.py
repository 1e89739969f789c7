"""The commands, one short function each: from the command line to the work, and back to an exit status.

Imports are inside, so that a command loads what it needs and no more.
"""

import posix
import sys

from pyoci.cli.log import Log, print_data, printable
from pyoci.cli.options import Values
from pyoci.errors import CgroupError, PyociError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyoci.compiler.create import Options
    from pyoci.container import Container
    from pyoci.create import CreateRequest
    from pyoci.errors import Problem
    from pyoci.exec import ProcessOverrides


class Call:
    """What a command was called with."""

    __slots__ = ("cgroup_manager", "log", "operands", "options", "root", "root_given")

    def __init__(
        self, operands: "list[str]", options: Values, root: str, cgroup_manager: str, log: Log, *, root_given: bool
    ) -> None:
        self.operands = operands
        self.options = options
        self.root = root
        self.root_given = root_given  # it is not the default
        self.cgroup_manager = cgroup_manager
        self.log = log

    @property
    def id(self) -> str:
        """The container's id, always the first operand."""
        return self.operands[0]

    def operand(self, index: int, default: str) -> str:
        """An operand that may be left out."""
        return self.operands[index] if index < len(self.operands) else default

    def path(self, name: str) -> str:
        """The value of an option that is a path, made absolute; "" if it was not given."""
        path = self.options.text(name)
        return _absolute(path) if path else ""


def create(call: Call) -> int:
    """`pyoci create ID`."""
    from pyoci.create import create

    create(_request(call))
    return 0


def run(call: Call) -> int:
    """`pyoci run ID`: the exit status is the program's, or 0 with --detach."""
    from pyoci.run import run

    options = call.options
    return run(
        _request(call),
        detach=options.on("detach"),
        keep=options.on("keep"),
        no_subreaper=options.on("no-subreaper"),
    )


def exec_process(call: Call) -> int:
    """`pyoci exec ID [PROGRAM] [ARGUMENT]...`: the exit status is the program's, or 0 with --detach."""
    from pyoci.exec import ExecRequest, execute

    options = call.options
    container = _load(call, call.id)
    request = ExecRequest(
        call.path("process") or _process_overrides(call),
        detach=options.on("detach"),
        console_socket=call.path("console-socket") or None,
        pidfd_socket=call.path("pidfd-socket") or None,
        pid_file=call.path("pid-file") or None,
        preserve_fds=options.count("preserve-fds"),
        sub_cgroup=options.text("cgroup"),
        ignore_paused=options.on("ignore-paused"),
        log=call.log,
    )
    return execute(container, request)


def start(call: Call) -> int:
    """`pyoci start ID`."""
    from pyoci.start import start

    container = _load(call, call.id)
    try:
        start(container)
    finally:
        _warn(call, container)
    return 0


def state(call: Call) -> int:
    """`pyoci state ID`."""
    return print_data(_json(_load(call, call.id).state(), indent=2))


def kill(call: Call) -> int:
    """`pyoci kill ID [SIGNAL]`."""
    from pyoci.cli.signals import parse_signal
    from pyoci.kill import kill

    signal = parse_signal(call.operand(1, "TERM"))
    everyone = call.options.on("all")
    return _each(call, lambda name: kill(_load(call, name), signal, all=everyone))


def delete(call: Call) -> int:
    """`pyoci delete ID`. Engines repeat `delete --force`, so with it an unknown id is no error."""
    from pyoci.errors import ContainerNotFound

    force = call.options.on("force")
    try:
        return _each(call, lambda name: _delete(call, name, force=force))
    except ContainerNotFound:
        if not force:
            raise
        return 0


def pause(call: Call) -> int:
    """`pyoci pause ID`."""
    _load(call, call.id).pause()
    return 0


def resume(call: Call) -> int:
    """`pyoci resume ID`."""
    _load(call, call.id).resume()
    return 0


def ps(call: Call) -> int:
    """`pyoci ps ID [PS-OPTION]...`."""
    output = call.options.text("format") or "table"
    if output not in ("table", "json"):
        raise UsageError(f"cannot use format `{output}`: expected table or json")
    pids = _load(call, call.id).pids()
    if output == "json":
        return print_data(_json(pids))
    from pyoci.cli.ps import table

    return print_data(table(pids, call.operands[1:]))


def update(call: Call) -> int:
    """`pyoci update ID`: the JSON of --resources, or the other options."""
    from pyoci.cli import resources
    from pyoci.config import load_resources

    name = call.options.text("resources")
    wanted = load_resources(_read_input(name)) if name else resources.from_options(call.options)
    schemas = {key: text for key, option in resources.SCHEMAS.items() if (text := call.options.text(option))}
    container = _load(call, call.id)
    try:
        container.update(wanted, schemas)
    except CgroupError as error:
        if not name:
            error.where = resources.option_of(error.where)
        raise
    return 0


def events(call: Call) -> int:
    """`pyoci events ID`."""
    container = _load(call, call.id)
    from pyoci.events import follow, parse_interval, statistics

    text = call.options.text("interval") or "5s"
    try:
        interval = parse_interval(text)
    except ValueError:
        raise UsageError(f"cannot use `{text}` for --interval: expected a duration such as 5s or 500ms") from None
    if call.options.on("stats"):
        return print_data(_json(statistics(container)))
    for event in follow(container, interval):
        print_data(_json(event))
    return 0


def move_net_devices() -> int:
    """The process that works for `pyoci.host.net_devices`."""
    from pyoci.host import netlink

    return netlink.main()


def list_containers(call: Call) -> int:
    """`pyoci list`."""
    from pyoci.container import list_all

    output = call.options.text("format") or "table"
    if output not in ("table", "json"):
        raise UsageError(f"cannot use format `{output}`: expected table or json")
    states, failures = list_all(call.root, must_exist=call.root_given)
    if call.options.on("quiet"):
        text = "".join(f"{state['id']}\n" for state in states)
    else:
        text = _json(states) if output == "json" else _table(states)
    status = print_data(text)
    if failures:
        raise PyociError("; ".join(failures))
    return status


def spec(call: Call) -> int:
    """`pyoci spec`."""
    from pyoci.cli import spec
    from pyoci.compiler.paths import join

    config = spec.default()
    if call.options.on("rootless"):
        config = spec.rootless(config, posix.geteuid(), posix.getegid())
    directory, file = call.path("bundle"), call.options.text("file") or "config.json"
    spec.write(join(directory, file) if directory else file, _json(config, indent=2))
    return 0


def validate(call: Call) -> int:
    """`pyoci validate [BUNDLE]`: 1 if the config has a fault. The report is data, for standard output."""
    from pyoci.config.report import report

    problems = report(*_read_config(call))
    if call.options.on("json"):
        print_data(_json([_problem_document(problem) for problem in problems], indent=2))
    else:
        print_data("".join(f"{printable(str(problem))}\n" for problem in problems))
    return 1 if problems else 0


def plan(call: Call) -> int:
    """`pyoci plan [BUNDLE]`: what root would do, for every user."""
    from pyoci import config
    from pyoci.compiler import create, show
    from pyoci.host import facts

    configuration, warnings = config.load(*_read_config(call))
    result = create.compile_container(configuration, facts.probe(as_root=True), _plan_options(call))
    for warning in [*warnings, *result.warnings]:
        call.log.warning(warning)
    if call.options.on("json"):
        return print_data(show.as_json(result))
    return print_data("".join(f"{printable(line)}\n" for line in show.text(result).removesuffix("\n").split("\n")))


def features(_: Call) -> int:
    """`pyoci features`."""
    from pyoci.cli.features import document

    return print_data(_json(document(), indent=2))


def _request(call: Call) -> "CreateRequest":
    """What create and run are asked for, from the options that they share."""
    from pyoci.create import CreateRequest

    options = call.options
    return CreateRequest(
        call.id,
        root=call.root,
        bundle=call.path("bundle") or posix.getcwd(),
        config_file=_config_file(call) or None,
        console_socket=call.path("console-socket") or None,
        pidfd_socket=call.path("pidfd-socket") or None,
        pid_file=call.path("pid-file") or None,
        no_pivot=options.on("no-pivot"),
        no_new_keyring=options.on("no-new-keyring"),
        preserve_fds=options.count("preserve-fds"),
        cgroup_manager=call.cgroup_manager,
        log=call.log,
    )


def _process_overrides(call: Call) -> "ProcessOverrides":
    """What the options of exec say of the process."""
    from pyoci.exec import ProcessOverrides

    if not call.operands[1:]:
        raise UsageError("exec: needs a program, or --process")
    options = call.options
    for text in (*call.operands[1:], *options.all("env"), options.text("cwd")):
        _require_utf8(text)
    user = options.text("user")
    return ProcessOverrides(
        call.operands[1:],
        terminal=options.on("tty"),
        env=options.all("env"),
        cwd=options.text("cwd") or None,
        user=_user(user) if user else None,
        additional_gids=[_id(text, "additional-gids") for text in options.all("additional-gids")],
        capabilities=[_capability(name) for name in options.all("cap")],
        no_new_privs=options.on("no-new-privs"),
        apparmor=options.text("apparmor") or None,
        label=options.text("process-label") or None,
    )


def _require_utf8(text: str) -> None:
    """What becomes part of a process.json, even of one that is never written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"exec: cannot use `{text}`: it is not UTF-8") from None


def _user(text: str) -> "tuple[int, int | None]":
    """UID or UID:GID: numbers, since names are the caller's to look up."""
    uid, colon, gid = text.partition(":")
    return _id(uid, "user"), _id(gid, "user") if colon else None


def _id(text: str, option: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= 0xFFFFFFFF:
        raise UsageError(f"cannot use `{text}` for --{option}: expected an id from 0 to 4294967294")
    return int(text)


def _capability(name: str) -> str:
    name = name.upper()
    return name if name.startswith("CAP_") else f"CAP_{name}"


def _load(call: Call, id: str) -> "Container":
    from pyoci.container import Container

    return Container.load(id, root=call.root)


def _delete(call: Call, name: str, *, force: bool) -> None:
    from pyoci.delete import delete

    container = _load(call, name)
    delete(container, force=force)
    _warn(call, container)


def _warn(call: Call, container: "Container") -> None:
    """Tell what the container's last operation met and went on."""
    for warning in container.warnings:
        call.log.warning(warning)


def _each(call: Call, act: "Callable[[str], None]") -> int:
    """Do `act` for the container that the call names, or, with --regex, for each whose id matches."""
    if not call.options.on("regex"):
        act(call.id)
        return 0
    names, failures = _matching(call)
    for name in names:
        try:
            act(name)
        except PyociError as error:
            failures.append(f"{name}: {error}")
    if failures:
        raise PyociError("; ".join(failures))
    return 0


def _matching(call: Call) -> "tuple[list[str], list[str]]":
    """The ids that the pattern matches, and what is wrong with containers that can't be read just now."""
    from pyoci.container import list_all

    sys.warnoptions = ["ignore"]  # `re` warns about some patterns; the core of Python has no such list
    import re

    try:
        pattern = re.compile(call.id)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"cannot use regular expression `{call.id}`: {error}") from error
    states, failures = list_all(call.root)
    return [state["id"] for state in states if pattern.search(state["id"])], failures


def _read_input(name: str) -> bytes:
    """The file `name`, or standard input if it is `-`."""
    from pyoci.host.bundle import read_given, read_pipe

    return read_pipe(0, "standard input") if name == "-" else read_given(_absolute(name))


def _config_file(call: Call) -> str:
    """The path in --config, from the current folder; but `config.json` is the bundle's, as with crun."""
    return "" if call.options.text("config") == "config.json" else call.path("config")


def _read_config(call: Call) -> "tuple[bytes, str]":
    """The config that the call names, and the name of its file."""
    from pyoci.host.bundle import read_config

    path = _config_file(call) or "config.json"
    return read_config(_bundle(call), path), path.rpartition("/")[2]


def _bundle(call: Call) -> str:
    """The bundle that the call names, as an absolute path: operand, option, or the current folder."""
    return _absolute(call.operands[0]) if call.operands else call.path("bundle") or posix.getcwd()


def _plan_options(call: Call) -> "Options":
    from pyoci.compiler.create import Options
    from pyoci.host.state_directory import notify_socket, notify_socket_of_caller

    options = call.options
    return Options(
        _bundle(call),
        "ID",
        preserve_fds=options.count("preserve-fds"),
        no_pivot=options.on("no-pivot"),
        new_keyring=not options.on("no-new-keyring"),
        cgroup_manager=call.cgroup_manager,
        notify=notify_socket(call.root, "ID") if notify_socket_of_caller() else "",
    )


def _problem_document(problem: "Problem") -> "dict[str, object]":
    return {
        "where": problem.where,
        "message": problem.message,
        "line": problem.line,
        "column": problem.column,
    }


def _table(states: "Sequence[Mapping[str, object]]") -> str:
    """Columns as runc prints them: at least 12 wide, 3 apart."""
    rows = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
    names = ("id", "pid", "status", "bundle", "created", "owner")
    rows += [[printable(str(state.get(name, ""))) for name in names] for state in states]
    widths = [max(12, 3 + max(map(len, column))) for column in zip(*rows, strict=True)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)


def _json(value: object, indent: "int | None" = None) -> str:
    from pyoci.config.jsonio import dumps

    return dumps(value, indent=indent) + "\n"


def _absolute(path: str) -> str:
    from pyoci.compiler.paths import join

    return join(posix.getcwd(), path)
