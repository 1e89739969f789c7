"""The messages between the runtime and `criu swrk`: CRIU's images/rpc.proto, as far as the runtime needs it. Pure.

A request is data: its kind, and options by the names of criu_opts. `encode_request` makes the message, and `show` its
text. `Response.decode` reads an answer or a notification.
"""

from pyoci.criu.wire import decode, encode, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyoci.criu.wire import Value

    Single = str | int | Mapping[str, "str | int"]
    Option = Single | list[str] | list[Mapping[str, "str | int"]]
    Options = dict[str, Option]

# criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK = 1, 2, 4, 6, 9
KINDS = {DUMP: "DUMP", RESTORE: "RESTORE", PRE_DUMP: "PRE_DUMP"}

# criu_cg_mode and criu_network_lock_method
CGROUP_MODES = {"ignore": 0, "none": 1, "props": 2, "soft": 3, "full": 4, "strict": 5}
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}

# Scripts of notifications that the runtime acts on.
SETUP_NAMESPACES, POST_RESTORE, ORPHAN_PTS_MASTER = "setup-namespaces", "post-restore", "orphan-pts-master"
PRE_RESUME = "pre-resume"
POST_DUMP = "post-dump"

_TYPE, _OPTIONS, _NOTIFY_SUCCESS, _FEATURES = 1, 2, 3, 5  # criu_req

# criu_opts
_NUMBERS = {
    "images_dir_fd": 1, "pid": 2, "leave_running": 3, "ext_unix_sk": 4, "tcp_established": 5, "shell_job": 7,
    "file_locks": 8, "log_level": 9, "log_file": 10, "ps": 11, "notify_scripts": 12, "root": 13,
    "parent_img": 14, "track_mem": 15, "auto_dedup": 16, "work_dir_fd": 17, "link_remap": 18, "manage_cgroups": 24,
    "cg_root": 25, "rst_sibling": 26, "inherit_fd": 27, "manage_cgroups_mode": 34, "external": 37,
    "empty_ns": 38, "join_ns": 39, "freeze_cgroup": 44, "tcp_skip_in_flight": 46, "lazy_pages": 48,
    "status_fd": 49, "orphan_pts_master": 50, "config_file": 51, "tcp_close": 52, "lsm_profile": 53, "cgroup_yard": 60,
    "lsm_mount_context": 63, "network_lock": 64, "images_dir": 68,
}  # fmt: skip
_INSIDE = {
    "ps": {"address": 1, "port": 2},
    "cg_root": {"ctrl": 1, "path": 2},
    "inherit_fd": {"key": 1, "fd": 2},
    "join_ns": {"ns": 1, "ns_file": 2},
}
_NAMES = {
    "manage_cgroups_mode": {number: name.upper() for name, number in CGROUP_MODES.items()},
    "network_lock": {number: name.upper() for name, number in NETWORK_LOCKS.items()},
}


class Request:
    """What the runtime asks of CRIU. `kind` is one of KINDS; `options` are criu_opts without the descriptors."""

    __slots__ = ("kind", "options")

    def __init__(self, kind: int, options: "Options") -> None:
        self.kind = kind
        self.options = options


def encode_request(kind: int, options: "Options") -> bytes:
    """Return the message for a request with these options."""
    return encode([(_TYPE, kind), (_OPTIONS, encode(_fields(options)))])


def encode_feature_check() -> bytes:
    """Return the message that asks whether CRIU can track memory and fetch pages later."""
    return encode([(_TYPE, FEATURE_CHECK), (_FEATURES, encode([(1, True), (2, True)]))])


def encode_acknowledgement(*, success: bool) -> bytes:
    """Return the runtime's answer to a notification. Without success, CRIU gives up."""
    return encode([(_TYPE, NOTIFY), (_NOTIFY_SUCCESS, success)])


def show(options: "Options") -> "Iterator[str]":
    """Yield the options as lines of protobuf text, such as `external: "mnt[/data]:/data"`."""
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            yield f"{name}: {_text(name, each)}"


def document(request: Request) -> "dict[str, object]":
    """Return the request as protocol buffers have it in JSON: constants by their names."""
    options = {
        name: _NAMES[name][value] if name in _NAMES and isinstance(value, int) else value
        for name, value in request.options.items()
    }
    return {"type": KINDS[request.kind], "opts": options}


def _text(name: str, value: "Single") -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _NAMES.get(name, {}).get(value, str(value))
    if isinstance(value, str):
        return _quote(value)
    return f"{{ {' '.join(f'{key}: {_text(key, each)}' for key, each in value.items())} }}"


def _quote(text: str) -> str:
    shown = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown) + '"'


def _fields(options: "Options") -> "Iterator[tuple[int, Value]]":
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            yield _NUMBERS[name], _value(name, each)


def _value(name: str, value: "Single") -> "Value":
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return encode((_INSIDE[name][key], _value(key, each)) for key, each in value.items())


class Response:
    """One message of CRIU: an answer, or a notification with `script`.

    `pid` is that of the restored or restoring init, in the runtime's pid namespace; -1 if the message has none.
    `error` says why a request failed, as far as CRIU knows. The features answer a check of them.
    """

    __slots__ = ("error", "kind", "lazy_pages", "memory_tracking", "pid", "script", "success")

    def __init__(self) -> None:
        self.kind = 0
        self.success = False
        self.script = ""
        self.pid = -1
        self.error = ""
        self.memory_tracking = False
        self.lazy_pages = False

    @classmethod
    def decode(cls, data: bytes) -> "Response":
        """Read a message. Raises ValueError."""
        fields = decode(data)
        response = cls()
        response.kind = _number(fields, 1)
        response.success = bool(_number(fields, 2))
        restored, notification = _message(fields, 4), _message(fields, 5)
        response.script = _string(notification, 1)
        response.pid = signed(_number(restored, 1) or _number(notification, 2), 32) or -1
        features = _message(fields, 8)
        response.memory_tracking = bool(_number(features, 1))
        response.lazy_pages = bool(_number(features, 2))
        response.error = _string(fields, 9).strip()
        return response


def _number(fields: "Mapping[int, list[Value]]", number: int) -> int:
    value = fields[number][-1] if number in fields else 0
    if not isinstance(value, int):
        raise ValueError(f"field {number} is not a number")
    return value


def _bytes(fields: "Mapping[int, list[Value]]", number: int) -> bytes:
    value = fields[number][-1] if number in fields else b""
    if isinstance(value, int):
        raise ValueError(f"field {number} is a number")
    return value


def _string(fields: "Mapping[int, list[Value]]", number: int) -> str:
    return _bytes(fields, number).decode("utf-8", "backslashreplace")


def _message(fields: "Mapping[int, list[Value]]", number: int) -> "dict[int, list[Value]]":
    return decode(_bytes(fields, number))


__all__ = ["Request", "Response", "document", "encode_acknowledgement", "encode_request", "show"]
