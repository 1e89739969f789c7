"""What record.json says about a container, the state document that commands and hooks get from it, and exec.json.

create writes both files, and no later command reads the bundle again. Other versions of pyoci read them: these classes
know the keys, and check their types once, when a file is read.
"""

import time

from pyoci import _native
from pyoci.config.jsonio import dumps
from pyoci.version import SPEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    from pyoci.types import Hook, Linux, Process, State

    _SystemdScope = TypedDict("_SystemdScope", {"systemd-scope": NotRequired[str]})

    class ExtendedState(State, _SystemdScope):
        """The state document with runc's additions, and the unit of a container under systemd, as in crun."""

        rootfs: str
        created: str
        owner: str


class Listener:
    """The agent that gets the listener of the container's seccomp filter (SCMP_ACT_NOTIFY).

    `path` is its socket. The runtime sends `metadata` with the listener. `filters` counts the filters that the process
    has before it loads its own; None in a record of an earlier version.
    """

    __slots__ = ("filters", "metadata", "path")

    def __init__(self, path: str, metadata: str, filters: "int | None" = None) -> None:
        self.path = path
        self.metadata = metadata
        self.filters = filters

    @classmethod
    def from_dict(cls, data: "dict[str, Any]") -> "Listener":
        """Read it from the record. Raises ValueError."""
        filters = data.get("filters")
        _require(data, {"path": str, "metadata": str})
        if filters is not None and type(filters) is not int:
            raise ValueError("filters")
        return cls(data["path"], data["metadata"], filters)

    def to_dict(self) -> "dict[str, object]":
        """Return the JSON object."""
        found: dict[str, object] = {"path": self.path, "metadata": self.metadata}
        return found if self.filters is None else {**found, "filters": self.filters}


class ExecSettings:
    """What exec.json says: the part of config.json that every process of the container gets.

    process          the container's own, whose values a process.json may leave out
    linux            personality and memoryPolicy
    keyring          the container has a session keyring of its own
    seccomp_flags    None without a filter; its program is in a file beside
    """

    __slots__ = ("keyring", "linux", "process", "seccomp_flags")

    def __init__(
        self, process: "Process", linux: "Linux", *, keyring: bool, seccomp_flags: "int | None" = None
    ) -> None:
        self.process = process
        self.linux = linux
        self.keyring = keyring
        self.seccomp_flags = seccomp_flags

    @classmethod
    def from_dict(cls, data: "dict[str, Any]") -> "ExecSettings":
        """Check the types of settings that were read as JSON. Raises ValueError."""
        _require(data, {"process": dict, "linux": dict, "keyring": bool})
        if "seccomp" not in data:
            return cls(data["process"], data["linux"], keyring=data["keyring"])
        _require(data["seccomp"], {"flags": int})
        return cls(data["process"], data["linux"], keyring=data["keyring"], seccomp_flags=data["seccomp"]["flags"])

    def to_dict(self) -> "dict[str, object]":
        """Return the JSON object."""
        seccomp = {} if self.seccomp_flags is None else {"seccomp": {"flags": self.seccomp_flags}}
        return {"process": self.process, "linux": self.linux, "keyring": self.keyring, **seccomp}


class Record:
    """What commands after create know about a container.

    id, oci_version, bundle, rootfs, annotations, hooks    from config.json
    args                the program's arguments; [] if config.json has no process
    status              `creating` until create has committed the container, then `created`; the rest is found out
    pid                 of init; -1 before it exists
    start_time, boot_id with the pid they identify init
    created             when create began, RFC 3339
    notify              the container has a socket for sd_notify
    shares_pids         init is in a pid namespace that the container did not create
    cgroup, rdt         what cgroups.from_dict and host.resctrl read, each in its own format
    listener            None without SCMP_ACT_NOTIFY
    start_operations    those of the plan that run during `start`, by their number: what an error about one needs
    namespaces          the paths of those that config.json joins, by their type; {} in a record of an earlier version
    descriptors         what the program's standard streams were, as in /proc/PID/fd; [] in an earlier record
    """

    __slots__ = (
        *("annotations", "args", "boot_id", "bundle", "cgroup", "created", "descriptors", "hooks", "id", "listener"),
        *("namespaces", "notify", "oci_version", "other", "owner", "pid", "rdt", "rootfs", "shares_pids"),
        *("start_operations", "start_time", "status"),
    )

    def __init__(
        self,
        id: str,
        bundle: str,
        *,
        rootfs: str,
        created: str,
        cgroup: "dict[str, Any]",
        status: str = "creating",
        pid: int = -1,
        start_time: int = 0,
        boot_id: str = "",
        oci_version: str = "",
        owner: str = "",
        annotations: "dict[str, str] | None" = None,
        hooks: "dict[str, list[Hook]] | None" = None,
        args: "list[str] | None" = None,
        notify: bool = False,
        shares_pids: bool = False,
        rdt: "dict[str, Any] | None" = None,
        listener: "Listener | None" = None,
        start_operations: "dict[int, dict[str, Any]] | None" = None,
        namespaces: "dict[str, str] | None" = None,
        descriptors: "list[str] | None" = None,
        other: "dict[str, object] | None" = None,
    ) -> None:
        self.id = id
        self.bundle = bundle
        self.rootfs = rootfs
        self.created = created
        self.cgroup = cgroup
        self.status = status
        self.pid = pid
        self.start_time = start_time
        self.boot_id = boot_id
        self.oci_version = oci_version
        self.owner = owner
        self.annotations = annotations or {}
        self.hooks = hooks or {}
        self.args = args or []
        self.notify = notify
        self.shares_pids = shares_pids
        self.rdt = rdt or {}
        self.listener = listener
        self.start_operations = start_operations or {}
        self.namespaces = namespaces or {}
        self.descriptors = descriptors or []
        self.other = other or {}  # keys of another version, which a saved record keeps

    @classmethod
    def from_dict(cls, data: "dict[str, Any]") -> "Record":
        """Check the types of a record that was read as JSON. Raises ValueError."""
        _require(data, _TYPES)
        pid: int = data["pid"]
        if pid != -1 and not 0 < pid < 1 << 31:
            raise ValueError("pid")
        for entries in data["hooks"].values():
            if type(entries) is not list or not all(map(_is_hook, entries)):
                raise ValueError("hooks")
        return cls(
            data["id"],
            data["bundle"],
            rootfs=data["rootfs"],
            created=data["created"],
            cgroup=data["cgroup"],
            status=data["status"],
            pid=pid,
            start_time=data["startTime"],
            boot_id=data["bootId"],
            oci_version=str(data.get("ociVersion", "")),
            owner=data["owner"],
            annotations=data["annotations"],
            hooks=data["hooks"],
            args=data["process"],
            notify=bool(data.get("notify")),
            shares_pids=data["sharesPids"],
            rdt=data["rdt"],
            listener=Listener.from_dict(data["listener"]) if data["listener"] else None,
            start_operations=_operations(data["startOps"]),
            namespaces=_paths(data.get("namespaces", {})),
            descriptors=_texts(data.get("descriptors", [])),
            other={} if data.keys() <= _KEYS else {key: data[key] for key in data if key not in _KEYS},
        )

    def to_dict(self) -> "dict[str, object]":
        """Return the JSON object."""
        return {
            "id": self.id,
            "ociVersion": self.oci_version,
            "status": self.status,
            "pid": self.pid,
            "startTime": self.start_time,
            "bootId": self.boot_id,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
            "owner": self.owner,
            "annotations": self.annotations,
            "hooks": self.hooks,
            "process": self.args,
            "notify": self.notify,
            "sharesPids": self.shares_pids,
            "cgroup": self.cgroup,
            "rdt": self.rdt,
            "listener": self.listener.to_dict() if self.listener is not None else {},
            "startOps": {str(index): operation for index, operation in self.start_operations.items()},
            "namespaces": self.namespaces,
            "descriptors": self.descriptors,
            **self.other,
        }

    def state(self, status: str, pid: "int | None" = None) -> "State":
        """Return the specification's state document, with the pid that its reader sees, if that is not the host's."""
        its = self.pid if pid is None else pid
        document: State = {
            "ociVersion": SPEC,
            "id": self.id,
            "pid": 0 if status == "stopped" else max(its, 0),
            "status": status,
            "bundle": self.bundle,
        }
        if self.annotations:
            document["annotations"] = self.annotations
        return document

    def extended_state(self, status: str) -> "ExtendedState":
        """Return the state document of `pyoci state`."""
        document: ExtendedState = self.state(status)  # type: ignore[assignment]  # the other members follow
        document["rootfs"] = self.rootfs
        document["created"] = self.created
        document["owner"] = self.owner
        unit = self.cgroup.get("unit")
        if unit:
            document["systemd-scope"] = unit
        return document

    def state_json(self, status: str, pid: "int | None" = None) -> bytes:
        """Return the state document as hooks read it from standard input."""
        return dumps(self.state(status, pid)).encode("utf-8", "surrogateescape")


_OPERATION_TYPES = {"verb": str, "where": str, "s1": str, "timeout": int}
_TYPES = {
    "annotations": dict, "bootId": str, "bundle": str, "cgroup": dict, "created": str, "hooks": dict, "id": str,
    "listener": dict, "owner": str, "pid": int, "process": list, "rdt": dict, "rootfs": str, "sharesPids": bool,
    "startOps": dict, "startTime": int, "status": str,
}  # fmt: skip
# Keys that earlier versions did not write, and the two that belong to the state directory.
_KEYS = frozenset((*_TYPES, "ociVersion", "notify", "namespaces", "descriptors", "pyoci", "fifos"))


def _require(data: "dict[str, Any]", types: "dict[str, type]") -> None:
    """Raise ValueError unless every key is there, with its type. A bool is not an int here."""
    if type(data) is not dict:
        raise ValueError("expected an object")
    if not _native.has_types(data, types):
        wrong = [key for key, kind in types.items() if type(data.get(key)) is not kind]
        raise ValueError(wrong[0])


def _texts(data: "Any") -> "list[str]":
    """Return a list of strings. Raises ValueError."""
    if type(data) is not list or any(type(text) is not str for text in data):
        raise ValueError("descriptors")
    return data


def _paths(data: "Any") -> "dict[str, str]":
    """Return an object of strings. Raises ValueError."""
    if type(data) is not dict or any(type(path) is not str for path in data.values()):
        raise ValueError("namespaces")
    return data


def _is_hook(entry: "Any") -> bool:
    """Whether this is a hook as create writes it."""
    if type(entry) is not dict or type(entry.get("path")) is not str or type(entry.get("timeout", 0)) is not int:
        return False
    lists = entry.get("args", []), entry.get("env", [])
    return all(type(texts) is list and all(type(text) is str for text in texts) for texts in lists)


def _operations(data: "dict[str, Any]") -> "dict[int, dict[str, Any]]":
    """Return operations by their number, which is a JSON key. Raises ValueError."""
    keys = "".join(data)
    if (keys and not (keys.isascii() and keys.isdigit())) or not _native.each_has_types(data, _OPERATION_TYPES):
        raise ValueError("startOps")
    return {int(key): operation for key, operation in data.items()}


def now() -> str:
    """Return the time as RFC 3339 with nanoseconds, in UTC."""
    nanoseconds = time.time_ns()
    year, month, day, hour, minute, second = time.gmtime(nanoseconds // 1_000_000_000)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds % 1_000_000_000:09}Z"


__all__ = ["ExecSettings", "Listener", "Record", "now"]
