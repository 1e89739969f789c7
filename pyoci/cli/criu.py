"""The options of checkpoint and restore as requests."""

import posix

from pyoci.cli import arguments
from pyoci.cli.call import absolute
from pyoci.cli.output import print_data, print_lines, to_json
from pyoci.criu import rpc
from pyoci.errors import UsageError
from pyoci.request import CheckpointRequest, CriuOptions, RestoreRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cli.call import Call
    from pyoci.cli.options import Values
    from pyoci.compiler.operations import Plan

MANAGE_CGROUPS_MODES = ("soft", "full", "strict", "ignore")
LSM_TYPES = ("apparmor", "selinux")
EMPTY_NAMESPACES = ("network",)  # runc accepts no other, and CRIU can leave out only this one


def checkpoint_request(call: "Call") -> CheckpointRequest:
    """The options of `checkpoint`. Raises UsageError."""
    options = call.options
    return CheckpointRequest(
        _image_path(call),
        work_path=call.optional_path("work-path"),
        parent_path=_parent_path(options),
        leave_running=options.on("leave-running"),
        pre_dump=options.on("pre-dump"),
        page_server=_page_server(options),
        status_fd=_status_fd(options),
        options=_criu_options(options),
        criu=_criu(call),
        plan=_plan(options),
        log=call.log,
    )


def restore_request(call: "Call") -> RestoreRequest:
    """The options of `restore`. Raises UsageError."""
    options = call.options
    return RestoreRequest(
        arguments.create_request(call),
        _image_path(call),
        work_path=call.optional_path("work-path"),
        detach=options.on("detach"),
        no_subreaper=options.on("no-subreaper"),
        keep=options.on("keep"),
        options=_criu_options(options),
        criu=_criu(call),
        plan=_plan(options),
    )


def print_plan(plan: "Plan", request: rpc.Request, output: str, problems: "list[str] | None" = None) -> int:
    """Print the plan of the process that becomes CRIU, and CRIU's request: as `text`, or as `json`.

    `problems` says what CRIU can't dump: comments in the text, and a list in the document.
    """
    from pyoci.compiler import show

    if output == "json":
        asked = to_json(rpc.document(request), indent=2)
        found = "" if problems is None else f', "undumpable": {to_json(problems, indent=2).rstrip()}'
        return print_data(f'{{"plan": {show.as_json(plan).rstrip()}, "request": {asked.rstrip()}{found}}}\n')
    comments = [f"# {problem}" for problem in problems or ()]
    return print_lines([*show.text(plan).rstrip("\n").split("\n"), "", *comments, *_lines(request)])


def _lines(request: rpc.Request) -> "list[str]":
    options = [f"  {line}" for line in rpc.show(request.options)]
    return [f"type: {rpc.KINDS[request.kind]}", "opts {", *options, "}"]


def _criu_options(options: "Values") -> CriuOptions:
    """The options that both commands pass on to CRIU. --empty-ns changes nothing, but its values are checked."""
    for name in options.all("empty-ns"):
        _one_of(name, "empty-ns", EMPTY_NAMESPACES)
    return CriuOptions(
        tcp_established=options.on("tcp-established"),
        tcp_skip_in_flight=options.on("tcp-skip-in-flight"),
        tcp_close=options.on("tcp-close"),
        ext_unix_sk=options.on("ext-unix-sk"),
        shell_job=options.on("shell-job"),
        file_locks=options.on("file-locks"),
        manage_cgroups_mode=_one_of(options.text("manage-cgroups-mode"), "manage-cgroups-mode", MANAGE_CGROUPS_MODES),
        lsm_profile=_lsm_profile(options.text("lsm-profile")),
        lsm_mount_context=options.text("lsm-mount-context"),
        network_lock=_one_of(options.text("network-lock"), "network-lock", tuple(rpc.NETWORK_LOCKS)),
        link_remap=options.on("link-remap"),
        auto_dedup=options.on("auto-dedup"),
        lazy_pages=options.on("lazy-pages"),
    )


def _image_path(call: "Call") -> str:
    """The directory of the images as an absolute path: by default `checkpoint`, as in runc and crun."""
    return call.path("image-path") or absolute("checkpoint")


def _parent_path(options: "Values") -> "str | None":
    """The directory of the parent images. CRIU makes a link to it, so an absolute one would break when images move."""
    path = options.text("parent-path")
    if path.startswith("/"):
        raise UsageError(f"cannot use `{path}` for --parent-path: expected a path relative to the image directory")
    return path or None


def _page_server(options: "Values") -> "tuple[str, int] | None":
    """The address and port in ADDRESS:PORT. An IPv6 address is in brackets."""
    text = options.text("page-server")
    if not text:
        return None
    address, _, port = text.rpartition(":")
    bracketed = address.startswith("[") and address.endswith("]")
    if bracketed:
        address = address[1:-1]
    elif ":" in address:
        address = ""
    if not address or not (port.isascii() and port.isdigit()) or len(port) > 5 or not 0 < int(port) < 65536:
        raise UsageError(f"cannot use `{text}` for --page-server: expected ADDRESS:PORT")
    return address, int(port)


def _status_fd(options: "Values") -> "int | None":
    """The descriptor of --status-fd, which must be open. Callers write -1 for none."""
    text = options.text("status-fd")
    if text in ("", "-1"):
        return None
    number = options.count("status-fd")
    try:
        posix.fstat(number)
    except OSError:
        raise UsageError(f"cannot use `{text}` for --status-fd: the descriptor is not open") from None
    return number


def _lsm_profile(text: str) -> str:
    kind, _, name = text.partition(":")
    if text and (kind not in LSM_TYPES or not name):
        raise UsageError(f"cannot use `{text}` for --lsm-profile: expected apparmor:NAME or selinux:LABEL")
    return text


def _criu(call: "Call") -> "str | None":
    """The program of --criu. A relative path would depend on the directory that an engine happens to be in."""
    if call.criu and not call.criu.startswith("/"):
        raise UsageError(f"cannot use `{call.criu}` for --criu: expected an absolute path")
    return call.criu or None


def _plan(options: "Values") -> str:
    if options.on("json"):
        if not options.on("plan"):
            raise UsageError("cannot use --json without --plan")
        return "json"
    return "text" if options.on("plan") else ""


def _one_of(text: str, option: str, values: "tuple[str, ...]") -> str:
    """Return `text`, one of `values` or "" for the default."""
    if text and text not in values:
        *others, last = values
        expected = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"cannot use `{text}` for --{option}: expected {expected}")
    return text
