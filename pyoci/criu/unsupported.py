"""What CRIU can't dump, or only with an option: judges what the kernel says about a process. Pure.

The facts are those of CRIU 4.2. A phrase completes the sentence `process 12 (python3) ...`.
"""

from pyoci.config.text import printable
from pyoci.linux import S_IFBLK, S_IFCHR, S_IFDIR, S_IFMT, S_IFREG, S_IFSOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from pyoci.mountinfo import MountInfo
    from pyoci.request import CriuOptions

GHOST_LIMIT = 1 << 20  # bytes of a deleted file that CRIU copies into the images, unless ghost-limit raises it
MAX_NAME = 120  # characters
_CANT = "CRIU can't dump it"

# Files without a path, by their links in /proc/PID/fd: `anon_inode:[eventfd]`.
_ANONYMOUS = frozenset({"eventfd", "eventpoll", "inotify", "fanotify", "signalfd", "timerfd", "pidfd"})
_ANONYMOUS_NAMES = {
    "io_uring": "an io_uring",
    "perf_event": "a performance counter (perf_event_open)",
    "userfaultfd": "a userfaultfd",
    "bpf-prog": "a BPF program",
    "bpf_link": "a BPF link",
    "seccomp notify": "the listener of a seccomp filter",
    "landlock-ruleset": "a Landlock ruleset",
    "fscontext": "a filesystem that is not mounted yet (fsopen)",
    "kvm-vm": "a virtual machine of KVM",
    "kvm-vcpu": "a virtual CPU of KVM",
}
_BPF_HASH, _BPF_ARRAY = 1, 2  # the kinds of BPF maps that a CRIU with libbpf dumps
_NAMESPACE_FILES = frozenset({"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"})
# Files in memory that have a path but no mount in the container.
_MEMORY = ("/memfd:", "/dev/zero", "/SYSV", "/[aio]", "/anon_hugepage", "socket:", "anon_inode:[perf_event]")

# Devices that CRIU opens again by their paths, or knows how to make again: (major, minors).
_MEM, _TTY, _TTY_AUX, _MISC, _PTS = 1, 4, 5, 10, 136
_TUN, _AUTOFS = 200, 235
_MAX_CONSOLE = 63
_PTS_MAJORS = range(_PTS, _PTS + 8)
_SERIAL_MAJORS = (*range(128, 136), 148, 188, 204)
_ZERO = (1, 5)

# The names of protocols in the extended attribute system.sockprotoname.
_PROTOCOLS = frozenset(
    {"TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6", "UNIX", "UNIX-STREAM", "NETLINK"}
    | {"PACKET"}
)
_CONNECTED = frozenset({1, 2, 4, 5, 8, 9, 11})  # ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, …
_LISTEN = 10
_DATAGRAM, _SHUT_BOTH = 2, 3
_CONNECTED_UNIX = ((1, 1), (1, 5))  # established, and a stream or a sequence of packets

SLOW_FILESYSTEMS = ("fuse", "9p")
"""A process of the container may serve these, and never answer: the runtime must not look at their files."""
HARMLESS_FILESYSTEMS = frozenset({"tmpfs", "devpts"})
"""Restore lets CRIU mount these anew without a counterpart in config.json. They hold only what the image has."""
KERNEL_FILESYSTEMS = frozenset({"proc", "sysfs", "mqueue", "cgroup", "cgroup2"})
"""These show kernel objects. The namespaces that they show are the container's, but masks may hide parts of them."""
KERNEL_WIDE_FILESYSTEMS = frozenset(
    {"binfmt_misc", "configfs", "debugfs", "devtmpfs", "efivarfs", "fusectl", "pstore", "securityfs", "tracefs"}
)
"""Every mount of these shows the same. So CRIU gets them from outside, and restore has only those that are binds."""
NESTED = ("uts", "ipc", "user", "cgroup", "pid", "time")
"""The namespaces of which CRIU dumps only init's."""


class File:
    """What a descriptor of a process leads to.

    link      as in /proc/PID/fd
    mode      type and permissions, 0 if the runtime did not look at it
    device    (major, minor) of a device file
    links     how many names a file has
    size      of its content on the disk, in bytes
    inode     its number
    fdinfo    the fields of /proc/PID/fdinfo
    protocol  of a socket
    """

    __slots__ = ("device", "fdinfo", "inode", "link", "links", "mode", "protocol", "size")

    def __init__(self, link: str, mode: int = 0, *, fdinfo: "Mapping[str, str] | None" = None) -> None:
        self.link = link
        self.mode = mode
        self.fdinfo = fdinfo or {}
        self.device = (0, 0)
        self.links = 1
        self.size = self.inode = 0
        self.protocol = ""

    @property
    def kind(self) -> int:
        """Its type, such as S_IFREG."""
        return self.mode & S_IFMT

    @property
    def mount(self) -> int:
        """The number of the mount through which it was opened; -1 if that is not known."""
        return number(self.fdinfo.get("mnt_id", ""))

    @property
    def key(self) -> str:
        """CRIU's name of a file from outside, such as file[1b:2af]."""
        return f"file[{self.mount:x}:{self.inode:x}]"


# --- one descriptor


def judge_file(file: File, options: "CriuOptions", mounts: "Collection[int]", external: "Collection[str]") -> str:
    """Return the problem with a descriptor, or "".

    `mounts` are the numbers of the container's mounts; empty if they are not known. `external` has CRIU's names of
    files that the request declares.
    """
    if file.kind == S_IFSOCK:
        return judge_protocol(file.protocol)
    if file.link.startswith("anon_inode:"):
        return _judge_anonymous(file.link.removeprefix("anon_inode:").strip("[]"), file.fdinfo)
    if not file.link.startswith("/"):
        return _judge_pseudo_file(file)
    if file.link.startswith(_MEMORY):
        return ""
    if file.link.startswith("/secretmem"):
        return f"has secret memory (memfd_secret): {_CANT}"
    name = short(file.link)
    if mounts and file.mount >= 0 and file.mount not in mounts:
        return "" if file.key in external else f"has {name}, which is in none of the container's mounts: {_CANT}"
    if file.kind in (S_IFCHR, S_IFBLK):
        return judge_device(name, file)
    if "lock" in file.fdinfo and not options.file_locks:
        return f"holds a lock on {name} (hint: pass --file-locks)"
    return judge_deleted(name, file, options) if file.link.endswith(" (deleted)") else ""


def _judge_anonymous(kind: str, fdinfo: "Mapping[str, str]") -> str:
    if kind in _ANONYMOUS:
        return ""
    if kind == "bpf-map" and number(fdinfo.get("map_type", "")) in (_BPF_HASH, _BPF_ARRAY):
        return f"has a BPF map: {_CANT}, unless it was built with libbpf"
    if kind == "bpf-map":
        return f"has a BPF map: {_CANT}"
    return f"has {_ANONYMOUS_NAMES.get(kind) or 'a file of the kind ' + short(kind)}: {_CANT}"


def _judge_pseudo_file(file: File) -> str:
    """Judge a file of the kernel that has no path, such as `pipe:[123]`."""
    kind = file.link.partition(":")[0]
    if file.kind not in (S_IFREG, S_IFDIR) or kind in _NAMESPACE_FILES or kind == "pidfd":
        return ""
    return f"has {short(file.link)}: {_CANT}"


def judge_device(name: str, file: File) -> str:
    """Return the problem with an open device file, or ""."""
    major, minor = file.device
    known = (
        major == _MEM
        or (major == _MISC and minor in (_TUN, _AUTOFS))
        or major in (_TTY_AUX, *_PTS_MAJORS, *_SERIAL_MAJORS)
        or (major == _TTY and 1 <= minor <= _MAX_CONSOLE)
    )
    if file.kind == S_IFCHR and known:
        return ""
    return f"has the device {name} ({major}:{minor}): {_CANT}"


def judge_deleted(name: str, file: File, options: "CriuOptions") -> str:
    """Return the problem with a file whose name is gone, or ""."""
    if file.kind != S_IFREG:
        return ""
    if file.links > 0:
        return "" if options.link_remap else f"has {name}, which has another hard link (hint: pass --link-remap)"
    if file.size > GHOST_LIMIT:
        return f"has {name} with {file.size} bytes (hint: set ghost-limit in /etc/criu/pyoci.conf)"
    return ""


def judge_protocol(protocol: str) -> str:
    """Return the problem with a socket because of its protocol, or ""."""
    if not protocol or protocol in _PROTOCOLS:
        return ""
    hint = " (hint: set GODEBUG=multipathtcp=0 for a Go program)" if protocol == "MPTCP" else ""
    return f"has a socket of the protocol {short(protocol)}: {_CANT}{hint}"


def terminal_index(file: File) -> "tuple[bool, int]":
    """Return whether the file is the master of a pseudoterminal, and the number of that; -1 for any other file."""
    if file.kind == S_IFCHR and "tty-index" in file.fdinfo:
        return True, number(file.fdinfo["tty-index"])
    major, minor = file.device
    if file.kind == S_IFCHR and major in _PTS_MAJORS:
        return False, (major - _PTS) * 256 + minor
    return False, -1


# --- memory


def mapped_files(maps: str) -> "Iterator[tuple[str, str, str]]":
    """Yield address range, device (in hexadecimal) and path of each mapped file in /proc/PID/maps that needs a look."""
    for line in maps.split("\n"):
        fields = line.split(" ", 5)
        path = fields[5].strip() if len(fields) > 5 else ""
        if path.startswith(("anon_inode:", "/dev/", "/SYSV", "/secretmem")) or path.endswith(" (deleted)"):
            yield fields[0], fields[3], path


def judge_mapping(path: str, file: "File | None", options: "CriuOptions", *, shares_ipc: bool) -> str:
    """Return the problem with a mapped file, or "". `file` is None if it could not be read."""
    if path.startswith("anon_inode:"):
        kind = path.removeprefix("anon_inode:").strip("[]")
        return f"maps {_ANONYMOUS_NAMES.get(kind) or 'a file of the kind ' + short(kind)}: {_CANT}"
    if path.startswith("/secretmem"):
        return f"maps secret memory (memfd_secret): {_CANT}"
    if path.startswith("/SYSV"):
        return "maps System V shared memory of the host: give the container an ipc namespace" if shares_ipc else ""
    if file is None or path.startswith(_MEMORY):
        return ""
    if file.kind == S_IFCHR and file.device != _ZERO:
        return f"maps the device {short(path)}: {_CANT}"
    if path.endswith(" (deleted)"):
        found = judge_deleted(short(path), file, options)
        return found.replace("has ", "maps ", 1)
    return ""


# --- sockets


def connections(text: str) -> "dict[int, tuple[int, int]]":
    """Return state and length of the receive queue of each socket in /proc/PID/net/tcp, by inode."""
    found = {}
    for line in text.split("\n")[1:]:
        fields = line.split()
        if len(fields) > 9:
            found[number(fields[9])] = number(fields[3], 16), number(fields[4].partition(":")[2], 16)
    return found


def judge_connection(state: int, queue: int, options: "CriuOptions") -> str:
    """Return the problem with a TCP socket, or ""."""
    if state in _CONNECTED and not (options.tcp_established or options.tcp_close):
        return "has established TCP connections (hint: pass --tcp-established to keep them, or --tcp-close)"
    if state == _LISTEN and queue and not options.tcp_skip_in_flight:
        return "has not accepted a TCP connection yet (hint: pass --tcp-skip-in-flight)"
    return ""


def unread_netlink(text: str) -> "set[int]":
    """Return the inodes of sockets in /proc/PID/net/netlink that have unread messages."""
    lines = [line.split() for line in text.split("\n")[1:]]
    return {number(fields[9]) for fields in lines if len(fields) > 9 and number(fields[4])}


class UnixSocket:
    """A unix socket as unix_diag describes it. `peer` is the inode of the other end; 0 if there is none."""

    __slots__ = ("kind", "name", "peer", "shutdown", "state", "waiting")

    def __init__(self, kind: int, state: int) -> None:
        self.kind = kind
        self.state = state
        self.name = ""
        self.peer = 0
        self.shutdown = 0
        self.waiting: tuple[int, ...] = ()  # what has connected to it, and was not accepted yet


def judge_unix_sockets(
    sockets: "Mapping[int, UnixSocket]", own: "Collection[int]", options: "CriuOptions"
) -> "Iterator[tuple[int, str]]":
    """Yield the connections that lead out of the container: the inode of a socket, and a phrase.

    `sockets` are those of a network namespace by their inodes, `own` has the inodes of the container.
    """
    waiting = {inode for each in own if each in sockets for inode in sockets[each].waiting}
    for inode, socket in sockets.items():
        if inode not in own:
            continue
        if socket.peer and socket.peer not in own:
            name = sockets[socket.peer].name if socket.peer in sockets else ""
            yield inode, _judge_peer(socket, short(name), options)
        elif (
            not socket.peer
            and (socket.state, socket.kind) in _CONNECTED_UNIX
            and socket.shutdown != _SHUT_BOTH
            and inode not in waiting
        ):
            yield inode, _judge_peer(socket, "", options)


def _judge_peer(socket: UnixSocket, name: str, options: "CriuOptions") -> str:
    where = f"the unix socket {name} outside the container" if name else "a unix socket outside the container"
    if socket.kind == _DATAGRAM and name:
        return "" if options.ext_unix_sk else f"is connected to {where} (hint: pass --ext-unix-sk)"
    return f"is connected to {where}: CRIU can't dump the connection"


# --- processes and mounts


def judge_status(fields: "Mapping[str, str]", *, shares_pids: bool) -> "Iterator[str]":
    """Yield the problems that /proc/PID/status shows. `shares_pids`: whether it has init's pid namespace."""
    tracer = number(fields.get("TracerPid", ""))
    if tracer:
        yield f"is traced by process {tracer}: CRIU can't stop it (hint: detach the debugger)"
    sessions = fields.get("NSsid", "").split()
    if shares_pids and len(sessions) > 1 and sessions[-1] == "0":
        yield f"belongs to a session that began outside the container: {_CANT}"


def judge_namespaces(own: "Mapping[str, int]", init: "Mapping[str, int]") -> "Iterator[str]":
    """Yield the namespaces that a process does not share with init, and that CRIU can't dump."""
    for kind in NESTED:
        if kind in own and kind in init and own[kind] != init[kind]:
            yield f"has its own {kind} namespace: {_CANT}"


def judge_mounts(mounts: "Iterable[MountInfo]", external: "Collection[str]") -> "Iterator[str]":
    """Yield the problems with mounts of the container. `external` has the mount points that CRIU does not dump."""
    restored = HARMLESS_FILESYSTEMS | KERNEL_FILESYSTEMS
    for mount in mounts:
        kind = mount.type.partition(".")[0] if mount.type.startswith("fuse.") else mount.type
        if mount.point != "/" and mount.root == "/" and mount.point not in external and kind not in restored:
            yield f"the container has mounted {short(kind)} on {short(mount.point)}, which pyoci does not restore"


def outside_tree(parents: "Mapping[int, int]", init: int) -> "list[int]":
    """Return the processes that do not descend from init. `parents` has the parent of each."""
    found = []
    for pid in parents:
        ancestor, seen = pid, 0
        while ancestor != init and ancestor in parents and seen <= len(parents):
            ancestor, seen = parents[ancestor], seen + 1
        if ancestor != init:
            found.append(pid)
    return found


# --- texts


def fields_of(text: str) -> "dict[str, str]":
    """Return the lines `name: value` of a file such as /proc/PID/status."""
    found = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip()] = value.strip()
    return found


def number(text: str, base: int = 10) -> int:
    """Return a number of the kernel; -1 for any other text."""
    try:
        return int(text, base)
    except ValueError:
        return -1


def short(name: str) -> str:
    """Return a name for one line: printable, and not too long."""
    shown = printable(name)
    return shown if len(shown) <= MAX_NAME else shown[: MAX_NAME - 3] + "..."


__all__ = ["File", "judge_file", "short"]
