"""The options of a command as arguments of the functions that it calls."""

import posix

from pyoci.cli.call import absolute
from pyoci.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cli.call import Call
    from pyoci.compiler.facts import Options
    from pyoci.request import CreateRequest, ExecRequest, ProcessOverrides
    from pyoci.types import Resources


def create_request(call: "Call") -> "CreateRequest":
    """The options that `create` and `run` share."""
    from pyoci.request import CreateRequest

    options = call.options
    return CreateRequest(
        call.id,
        root=call.root,
        bundle=call.path("bundle") or posix.getcwd(),
        config_file=_config_file(call) or None,
        console_socket=call.optional_path("console-socket"),
        pidfd_socket=call.optional_path("pidfd-socket"),
        pid_file=call.optional_path("pid-file"),
        no_pivot=options.on("no-pivot"),
        no_new_keyring=options.on("no-new-keyring"),
        preserve_fds=options.count("preserve-fds"),
        cgroup_manager=call.cgroup_manager,
        log=call.log,
    )


def exec_request(call: "Call") -> "ExecRequest":
    """The options of `exec`."""
    from pyoci.request import ExecRequest

    options = call.options
    return ExecRequest(
        call.path("process") or _process_overrides(call),
        detach=options.on("detach"),
        console_socket=call.optional_path("console-socket"),
        pidfd_socket=call.optional_path("pidfd-socket"),
        pid_file=call.optional_path("pid-file"),
        preserve_fds=options.count("preserve-fds"),
        sub_cgroup=options.text("cgroup"),
        ignore_paused=options.on("ignore-paused"),
        log=call.log,
    )


def _process_overrides(call: "Call") -> "ProcessOverrides":
    """How the options of `exec` change the container's process settings."""
    from pyoci.request import ProcessOverrides

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
    """Raise UsageError for text that could not be in a process.json."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"exec: cannot use `{text}`: it is not UTF-8") from None


def _user(text: str) -> "tuple[int, int | None]":
    """UID or UID:GID. Only numbers: engines look up the names in the container's files."""
    uid, colon, gid = text.partition(":")
    return _id(uid, "user"), _id(gid, "user") if colon else None


def _id(text: str, option: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= 0xFFFFFFFF:
        raise UsageError(f"cannot use `{text}` for --{option}: expected an id from 0 to 4294967294")
    return int(text)


def _capability(name: str) -> str:
    name = name.upper()
    return name if name.startswith("CAP_") else f"CAP_{name}"


def output_format(call: "Call") -> str:
    """The value of --format: table, the default, or json. Raises UsageError."""
    name = call.options.text("format") or "table"
    if name not in ("table", "json"):
        raise UsageError(f"cannot use format `{name}`: expected table or json")
    return name


def interval(call: "Call") -> float:
    """The value of --interval in seconds. Raises UsageError."""
    from pyoci.events import parse_interval

    text = call.options.text("interval") or "5s"
    try:
        return parse_interval(text)
    except ValueError:
        raise UsageError(f"cannot use `{text}` for --interval: expected a duration such as 5s or 500ms") from None


def resources(call: "Call") -> "Resources":
    """The limits that `update` sets: those in the file of --resources, or those of the other options."""
    from pyoci.cli import resources
    from pyoci.config import load_resources

    name = call.options.text("resources")
    if not name:
        return resources.from_options(call.options)
    return load_resources(_read_input(name))


def _read_input(name: str) -> bytes:
    """The content of the file `name`, or of standard input if it is `-`."""
    from pyoci.host.bundle import read_given, read_pipe

    return read_pipe(0, "standard input") if name == "-" else read_given(absolute(name))


def read_config(call: "Call") -> "tuple[bytes, str]":
    """The content of the config that the call names, and the name of its file."""
    from pyoci.host.bundle import read_config

    path = _config_file(call) or "config.json"
    return read_config(_bundle(call), path), path.rpartition("/")[2]


def _config_file(call: "Call") -> str:
    """The path in --config, from the current directory; but `config.json` is the bundle's, as in crun."""
    return "" if call.options.text("config") == "config.json" else call.path("config")


def _bundle(call: "Call") -> str:
    """The bundle that the call names, as an absolute path: operand, option, or the current directory."""
    return absolute(call.operands[0]) if call.operands else call.path("bundle") or posix.getcwd()


def plan_options(call: "Call") -> "Options":
    """The options of `plan` as `create` would pass them to the compiler."""
    from pyoci.compiler.facts import Options
    from pyoci.compiler.paths import clean
    from pyoci.host.state_directory import notify_socket, notify_socket_of_caller

    options = call.options
    return Options(
        clean(_bundle(call)),
        "ID",
        preserve_fds=options.count("preserve-fds"),
        no_pivot=options.on("no-pivot"),
        new_keyring=not options.on("no-new-keyring"),
        cgroup_manager=call.cgroup_manager,
        notify=notify_socket(call.root, "ID") if notify_socket_of_caller() else "",
    )
