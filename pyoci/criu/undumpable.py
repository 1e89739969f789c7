"""Name beforehand what CRIU can't dump: looks at each process of a container, from the host.

The container runs meanwhile, so processes and their files come and go. What can't be read is not reported: CRIU itself
has the last word.
"""

import _socket
import _struct
import posix
import sys

from pyoci import _native
from pyoci.criu import unsupported
from pyoci.criu.unsupported import File, UnixSocket
from pyoci.host import files
from pyoci.linux import CLONE_NEWNET, S_IFSOCK
from pyoci.mountinfo import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pyoci.request import CriuOptions

    Finding = tuple[int, str]  # the pid, 0 for the container, and a phrase

MAX_FINDINGS = 100
MAX_FILES = 100_000  # descriptors and mapped files of all processes
_MAX_TEXT = 16 << 20  # bytes of one file below /proc
_STREAMS = ("0", "1", "2")

# linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_SHOW_NAME, _SHOW_PEER, _SHOW_ICONS = 1, 4, 8
_NAME, _PEER, _ICONS, _SHUTDOWN = 0, 2, 3, 6
_HEADER = _struct.Struct("=IHHII")  # length, type, flags, sequence number, sender
_UNIX_REQUEST = _struct.Struct("=BBHIIIII")  # family, protocol, padding, states, inode, what to show, cookie
_UNIX_ANSWER = _struct.Struct("=BBBBIII")  # family, type, state, padding, inode, cookie
_ATTRIBUTE = _struct.Struct("=HH")  # length with this header, type
_ALL_STATES = 0xFFFFFFFF
_MAX_MESSAGE = 1 << 16


def find(init: int, pids: "Iterable[int]", options: "CriuOptions", external: "Collection[str]" = ()) -> list[str]:
    """Return what CRIU can't dump, or only with an option that is not set; a line for each, in the order of the pids.

    `pids` are the container's processes, as the host numbers them. `external` are the objects that the request declares
    as external, such as `mnt[/data]:/data` and `file[1b:2af]`. Never fails because a process ends.
    """
    findings: dict[Finding, None] = {}
    for finding in _Container(init, pids, options, external).findings():
        if finding[1]:
            findings[finding] = None
        if len(findings) > MAX_FINDINGS:
            break
    lines = [_line(pid, phrase) for pid, phrase in sorted(findings)]
    return lines if len(lines) <= MAX_FINDINGS else [*lines[:MAX_FINDINGS], "there may be more"]


def _line(pid: int, phrase: str) -> str:
    if not pid:
        return phrase
    name = _text(f"/proc/{pid}/comm").removesuffix("\n")
    return f"process {pid} ({unsupported.short(name)}) {phrase}" if name else f"process {pid} {phrase}"


class _Mounts:
    """The mounts of one mount namespace. All are empty if they can't be read.

    list     as in mountinfo
    all      the numbers of all
    quick    the numbers of those whose files can be looked at
    devices  of the filesystems of those, as in /proc/PID/maps
    """

    def __init__(self, mountinfo: str) -> None:
        self.list = parse(mountinfo)
        quick = [mount for mount in self.list if not mount.type.startswith(unsupported.SLOW_FILESYSTEMS)]
        self.all = {mount.id for mount in self.list}
        self.quick = {mount.id for mount in quick}
        self.devices = {f"{int(major):02x}:{int(minor):02x}" for major, minor in (m.device.split(":") for m in quick)}


class _Container:
    """The processes, and what more than one of them has."""

    def __init__(self, init: int, pids: "Iterable[int]", options: "CriuOptions", external: "Collection[str]") -> None:
        self._init = init
        self._pids = sorted({init, *pids})
        self._options = options
        self._files = {name for name in external if name.startswith("file[")}
        mounts = {name.partition("]:")[0].removeprefix("mnt[") for name in external if name.startswith("mnt[")}
        self._external_mounts = mounts
        self._mounts: dict[int, _Mounts] = {}  # of each mount namespace
        self._namespaces = {pid: _namespaces(pid) for pid in self._pids}
        self._left = MAX_FILES
        self._sockets: dict[int, int] = {}  # inode -> the first process that has it
        self._networks: dict[int, int] = {}  # inode of a network namespace -> the first process in it
        self._masters: set[int] = set()
        self._terminals: dict[int, int] = {}  # number of a pseudoterminal -> the first process that has it
        self._console = -1

    def findings(self) -> "Iterator[Finding]":
        """Yield everything that is found; the same finding may come more than once."""
        mounts = self._mounts_of(self._init)  # before another process of its namespace, which may show fewer
        yield from ((0, phrase) for phrase in unsupported.judge_mounts(mounts.list, self._external_mounts))
        parents = {}
        for pid in self._pids:
            status = unsupported.fields_of(_text(f"/proc/{pid}/status"))
            if not status or status.get("State", "").startswith(("Z", "X")):
                continue
            parents[pid] = unsupported.number(status.get("PPid", ""))
            yield from ((pid, phrase) for phrase in self._judge_status(pid, status))
            yield from ((pid, phrase) for phrase in self._look_at(pid))
        for pid in unsupported.outside_tree(parents, self._init):
            yield pid, "was started by exec: CRIU leaves it out"
        yield from self._orphaned_terminals()
        for pid in self._networks.values():
            yield from self._connections(pid)
            yield from self._peers(pid)

    # --- one process

    def _judge_status(self, pid: int, status: "dict[str, str]") -> "Iterator[str]":
        own, init = (self._namespaces[each].get("pid") for each in (pid, self._init))
        return unsupported.judge_status(status, shares_pids=own == init)

    def _look_at(self, pid: int) -> "Iterator[str]":
        own = self._namespaces[pid]
        yield from unsupported.judge_namespaces(own, self._namespaces[self._init])
        self._networks.setdefault(own.get("net", 0), pid)
        mounts = self._mounts_of(pid)
        for fd in _names(f"/proc/{pid}/fd"):
            if self._left <= 0:
                return
            self._left -= 1
            file = _file(pid, fd, mounts)
            if file is None:
                continue
            self._remember(pid, fd, file)
            yield unsupported.judge_file(file, self._options, mounts.all, self._files)
        yield from self._mappings(pid, mounts, shares_ipc=own.get("ipc") == _inode("/proc/self/ns/ipc"))

    def _mounts_of(self, pid: int) -> "_Mounts":
        """Return the mounts of a process's mount namespace, as the first process that has any shows them.

        A process shows only mounts below its root directory: none after chroot(2) to a plain directory, and none once
        it has ended.
        """
        namespace = self._namespaces[pid].get("mnt", 0)
        if namespace in self._mounts:
            return self._mounts[namespace]
        found = _Mounts(_text(f"/proc/{pid}/mountinfo"))
        if found.all:
            self._mounts[namespace] = found
        return found

    def _remember(self, pid: int, fd: str, file: File) -> None:
        """Keep what only makes sense together with the files of other processes."""
        if file.kind == S_IFSOCK:
            self._sockets.setdefault(file.inode, pid)
        is_master, index = unsupported.terminal_index(file)
        if is_master:
            self._masters.add(index)
        elif index >= 0:
            self._terminals.setdefault(index, pid)
            if pid == self._init and fd in _STREAMS:
                self._console = index

    def _mappings(self, pid: int, mounts: "_Mounts", *, shares_ipc: bool) -> "Iterator[str]":
        for addresses, device, path in unsupported.mapped_files(_text(f"/proc/{pid}/maps")):
            if self._left <= 0:
                return
            self._left -= 1
            file = _mapped_file(f"/proc/{pid}/map_files/{addresses}", path) if device in mounts.devices else None
            yield unsupported.judge_mapping(path, file, self._options, shares_ipc=shares_ipc)

    # --- all of them

    def _orphaned_terminals(self) -> "Iterator[Finding]":
        """CRIU restores one terminal whose master is outside the container: init's."""
        orphans = sorted(set(self._terminals) - self._masters)
        kept = self._console if self._console in orphans else next(iter(orphans), -1)
        for index in orphans:
            if index != kept:
                phrase = f"has the terminal /dev/pts/{index}, whose master is outside the container: CRIU can't dump it"
                yield self._terminals[index], phrase

    def _connections(self, pid: int) -> "Iterator[Finding]":
        """Yield the problems with the sockets of the network namespace of a process."""
        for table in ("tcp", "tcp6"):
            for inode, (state, queue) in unsupported.connections(_text(f"/proc/{pid}/net/{table}")).items():
                if inode in self._sockets:
                    yield self._sockets[inode], unsupported.judge_connection(state, queue, self._options)
        for inode in unsupported.unread_netlink(_text(f"/proc/{pid}/net/netlink")):
            if inode in self._sockets:
                yield self._sockets[inode], "has a netlink socket with unread messages: CRIU can't dump it"

    def _peers(self, pid: int) -> "Iterator[Finding]":
        for inode, phrase in unsupported.judge_unix_sockets(_unix_sockets(pid), self._sockets, self._options):
            yield self._sockets[inode], phrase


# --- reading /proc


def _text(path: str) -> str:
    """Return the content of a file; "" if it can't be read, such as that of a process that has ended."""
    try:
        return files.read(path, limit=_MAX_TEXT).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        return sorted(posix.listdir(path), key=unsupported.number)
    except OSError:
        return []


def _inode(path: str) -> int:
    try:
        return posix.stat(path).st_ino
    except OSError:
        return 0


def _namespaces(pid: int) -> "dict[str, int]":
    found = {kind: _inode(f"/proc/{pid}/ns/{kind}") for kind in (*unsupported.NESTED, "net", "mnt")}
    return {kind: inode for kind, inode in found.items() if inode}


def _file(pid: int, fd: str, mounts: "_Mounts") -> "File | None":
    """Return what a descriptor leads to; None if it is closed by now."""
    path = f"/proc/{pid}/fd/{fd}"
    try:
        link = posix.readlink(path)
    except OSError:
        return None
    file = File(link, fdinfo=unsupported.fields_of(_text(f"/proc/{pid}/fdinfo/{fd}")))
    if link.startswith("/") and file.mount not in mounts.quick:
        file.inode = unsupported.number(file.fdinfo.get("ino", ""))
    elif not _look(path, file):
        return None
    if file.kind == S_IFSOCK:
        file.protocol = _protocol(path)
    return file


def _mapped_file(path: str, link: str) -> "File | None":
    """Return what a process maps; None if it can't be read."""
    file = File(link)
    return file if _look(path, file) else None


def _look(path: str, file: File) -> bool:
    """Complete `file` with what stat(2) says about a path; return whether it says anything."""
    try:
        status = posix.stat(path)
    except OSError:
        return False
    file.mode = status.st_mode
    file.device = posix.major(status.st_rdev), posix.minor(status.st_rdev)
    file.links = status.st_nlink
    file.size = status.st_blocks * 512
    file.inode = status.st_ino
    return True


def _protocol(path: str) -> str:
    try:
        return posix.getxattr(path, "system.sockprotoname").rstrip(b"\0").decode("ascii", "backslashreplace")
    except OSError:
        return ""


# --- unix sockets


def _unix_sockets(pid: int) -> "dict[int, UnixSocket]":
    """Return the unix sockets in the network namespace of a process by their inodes.

    Returns {} if the kernel lacks unix_diag.
    """
    try:
        diagnostics = _diagnostics_socket(pid)
    except OSError:
        return {}
    try:
        show = _SHOW_NAME | _SHOW_PEER | _SHOW_ICONS
        request = _UNIX_REQUEST.pack(_socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, 0, 0)
        header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
        diagnostics.send(header + request)
        return dict(_answers(diagnostics))
    except OSError:
        return {}
    finally:
        diagnostics.close()


def _diagnostics_socket(pid: int) -> "_socket.socket":
    """Open a socket in the network namespace of a process. It stays there; the runtime does not."""
    home = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        network = posix.open(f"/proc/{pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            _native.enter_namespace(network, CLONE_NEWNET)
        finally:
            posix.close(network)
        try:
            kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
            return _socket.socket(_socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
        finally:
            _native.enter_namespace(home, CLONE_NEWNET)
    finally:
        posix.close(home)


def _answers(diagnostics: "_socket.socket") -> "Iterator[tuple[int, UnixSocket]]":
    while True:
        data = diagnostics.recv(_MAX_MESSAGE)
        if not data:
            return
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind in (_DONE, _ERROR) or length < _HEADER.size + _UNIX_ANSWER.size:
                return
            yield _unix_socket(data[at + _HEADER.size : at + length])
            at += length + 3 & ~3


def _unix_socket(message: bytes) -> "tuple[int, UnixSocket]":
    _family, kind, state, _padding, inode, *_ = _UNIX_ANSWER.unpack_from(message)
    found = UnixSocket(kind, state)
    at = _UNIX_ANSWER.size
    while at + _ATTRIBUTE.size <= len(message):
        length, attribute = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            break
        value = message[at + _ATTRIBUTE.size : at + length]
        if attribute == _NAME:
            found.name = _socket_name(value)
        elif attribute == _PEER:
            found.peer = int.from_bytes(value, sys.byteorder)
        elif attribute == _ICONS:
            found.waiting = tuple(memoryview(value[: len(value) & ~3]).cast("I"))
        elif attribute == _SHUTDOWN:
            found.shutdown = int.from_bytes(value, sys.byteorder)
        at += length + 3 & ~3
    return inode, found


def _socket_name(value: bytes) -> str:
    """Return the path, or an abstract name, which begins with a zero byte, as `@name`."""
    name = value.replace(b"\0", b"@") if value[:1] == b"\0" else value.partition(b"\0")[0]
    return name.decode("utf-8", "surrogateescape")


__all__ = ["find"]
