"""What an image of CRIU says about the container that was dumped. Pure: bytes of its files → facts.

The fields are those of `images/*.proto` in CRIU 4.2. An image is not trusted: each damaged file ends in DamagedImage.
Facts that are only a matter of the container's programs, such as registers, are left to CRIU.
"""

from pyoci.config.text import printable
from pyoci.criu.cgroups import Cgroups
from pyoci.criu.credentials import Credentials
from pyoci.criu.messages import Message, entries, only_entry
from pyoci.criu.remaps import GHOST, Remap, check_ghost, ghost_name, is_ghost, remaps
from pyoci.criu.wire import signed
from pyoci.errors import PyociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    T = TypeVar("T")

# criu/include/magic.h
INVENTORY, PSTREE, CORE, IDS, MNTS = 0x58313116, 0x50273030, 0x55053847, 0x54432030, 0x55563928
SECCOMP, USERNS, NETNS, PIDNS, CGROUP = 0x64413049, 0x55474906, 0x55933752, 0x61157326, 0x59383330
FILES, FDINFO, TTY_INFO, APPARMOR = 0x56303138, 0x56213732, 0x59453036, 0x59423047

VERSION = 2  # of the format, since CRIU 2.0
MAX_THREADS = 1 << 17

# Names of config.json by the field of a task's namespace ids.
NAMESPACE_FIELDS = {
    5: "pid", 6: "network", 7: "ipc", 8: "uts", 9: "mount", 10: "user", 11: "cgroup", 12: "time",
}  # fmt: skip
FILESYSTEMS = {
    0: "unsupported", 1: "proc", 2: "sysfs", 3: "devtmpfs", 4: "binfmt_misc", 5: "tmpfs", 6: "devpts", 7: "simfs",
    8: "pstore", 9: "securityfs", 10: "fusectl", 11: "debugfs", 12: "cgroup", 13: "aufs", 14: "mqueue", 15: "fuse",
    16: "auto", 17: "overlay", 18: "autofs", 19: "tracefs", 23: "cgroup2",
}  # fmt: skip
LSMS = {0: "", 1: "selinux", 2: "apparmor"}
ALIVE, DEAD, STOPPED = 1, 2, 3  # states of a task
SECCOMP_MODE_FILTER = 2
SECCOMP_FILTER_FLAG_TSYNC = 1
_PTY = 1  # a type of terminals
REGULAR, INET_SOCKET, PACKET_SOCKET, FANOTIFY, TUN, BPF_MAP = 1, 4, 10, 12, 15, 19  # types of files
_SOCK_RAW = 3
_OPEN_CHANGES = 0o100 | 0o200 | 0o1000  # O_CREAT, O_EXCL, O_TRUNC


class DamagedImage(PyociError):
    """A file of the image can't be what CRIU wrote."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot restore the container: checkpoint image {printable(name)} is damaged: {why}")


def _credentials(message: Message) -> Credentials:
    """Return a thread's credentials. The ids are those in the container's user namespace."""
    return Credentials(
        uids=[message.number(field) for field in (1, 3, 5, 7)],
        gids=[message.number(field) for field in (2, 4, 6, 8)],
        groups=message.numbers(14),
        inheritable=_mask(message, 9),
        permitted=_mask(message, 10),
        effective=_mask(message, 11),
        bounding=_mask(message, 12),
        ambient=_mask(message, 19),
        no_new_privs=bool(message.number(18, 0)),
        label=message.text(15, ""),
        socket_label=message.text(16, ""),
    )


def _mask(message: Message, field: int) -> int:
    words = message.numbers(field)
    if len(words) > 2:
        raise ValueError(f"field {field} has {len(words)} words of capabilities")
    return sum(word << 32 * place for place, word in enumerate(words))


class Thread:
    """A thread: its id in the container, its name, its credentials, and its seccomp mode with its last filter.

    `filter` is an index of `Image.filters`, -1 if there is no filter. `policy` is the scheduling policy,
    and `cgroups` a number of `Cgroups.of_threads`, 0 if CRIU has not dumped cgroups.
    """

    __slots__ = ("cgroups", "credentials", "filter", "id", "mode", "name", "policy")

    def __init__(self, id: int, name: str, core: Message) -> None:
        self.id = id
        thread = core.message(5)
        self.name = thread.text(13, name)
        self.policy = thread.number(4, 0)
        self.credentials = _credentials(thread.message(10))
        self.cgroups = thread.number(16, core.message(3).number(9, 0) if core.has(3) else 0)
        self.mode = thread.number(11, 0)
        self.filter = thread.number(12) if self.mode == SECCOMP_MODE_FILTER else -1


class Task:
    """A process: its pid and its parent's in the container, its name, its threads, and its namespaces by type.

    A dead process, which waits for its parent, has no threads and no namespaces. `rlimits` are soft and hard limits by
    resource number. `oom_score_adj` is None in images of a CRIU that does not know it.
    """

    __slots__ = ("files", "name", "namespaces", "oom_score_adj", "parent", "pid", "rlimits", "state", "threads")

    def __init__(self, pid: int, parent: int, name: str, state: int) -> None:
        self.pid = pid
        self.parent = parent
        self.name = name
        self.state = state
        self.threads: list[Thread] = []
        self.namespaces: dict[str, int] = {}
        self.rlimits: list[tuple[int, int]] = []
        self.oom_score_adj: int | None = None
        self.files = 0  # the number of its fdinfo file

    @property
    def is_dead(self) -> bool:
        """Whether it has ended, and waits for its parent."""
        return self.state == DEAD


class Mount:
    """A mount as the container saw it.

    `flags` are those of mount(2). `key` names a mount whose filesystem comes from outside, "" if it does not. `shared`
    and `master` are the peer groups that the mount is in and gets mounts from, 0 without one.
    """

    __slots__ = (
        *("device", "flags", "id", "key", "master", "options", "parent", "point", "root", "sb_flags", "shared"),
        *("source", "type"),
    )

    def __init__(self, message: Message) -> None:
        kind = message.number(1)
        if kind not in FILESYSTEMS:
            raise ValueError(f"filesystem {kind} is unknown")
        self.type = FILESYSTEMS[kind]
        self.id = message.number(2)
        self.device = message.number(3)
        self.parent = message.number(4)
        self.flags = message.number(5)
        self.root = message.text(6)
        self.point = message.text(7)
        self.source = message.text(8)
        self.options = message.text(9)
        self.shared = message.number(10, 0)
        self.master = message.number(11, 0)
        self.sb_flags = message.number(17, 0)
        self.key = message.text(18, "")
        if message.flag(13):  # the form of CRIU before 2.0
            if message.has(18):
                raise ValueError("a mount has two keys")
            self.key = self.root
        if message.has(18) and not self.key:
            raise ValueError("a mount has an empty key")
        if not self.point.startswith("/") or ".." in self.point.split("/"):
            raise ValueError(f"`{printable(self.point)}` is not a mount point")


class Filter:
    """A seccomp filter: its program, and the index of the filter that was loaded before it, -1 if there is none.

    `is_shared`: CRIU loads it for all threads of the process.
    """

    __slots__ = ("is_shared", "previous", "program")

    def __init__(self, message: Message) -> None:
        self.program = message.data(1)
        self.previous = message.number(2) if message.has(2) else -1
        self.is_shared = bool(message.number(3, 0) & SECCOMP_FILTER_FLAG_TSYNC)


class IdMap:
    """The id maps of a user namespace: lists of the first id inside, the first id outside, and how many there are."""

    __slots__ = ("gids", "uids")

    def __init__(self, message: Message) -> None:
        self.uids, self.gids = ([_extent(each) for each in message.messages(field)] for field in (1, 2))


def _extent(message: Message) -> "tuple[int, int, int]":
    return message.number(1), message.number(2), message.number(3)


class File:
    """An open file.

    type         one of REGULAR, INET_SOCKET, …
    id           of the file, which is unique among files of this type
    path, mount  of a regular file, a directory or a device: the path in the container, and the number of the mount
    is_external  whether the file comes from outside
    is_raw       whether it is a raw socket
    """

    __slots__ = ("id", "is_external", "is_raw", "mount", "path", "type")

    def __init__(self, message: Message) -> None:
        self.type = message.number(1)
        self.id = 0
        self.path = ""
        self.mount = -1
        self.is_external = self.is_raw = False
        if self.type == REGULAR:
            regular = message.message(3)
            self.id = regular.number(1, 0)
            self.path = regular.text(6)
            self.is_external = regular.flag(9)
            flags = regular.number(2, 0)
            if flags & _OPEN_CHANGES:  # the kernel keeps them of no open file
                raise ValueError(f"a file has the flags {flags:#x}, with which CRIU would change it")
            if regular.has(7):
                number = regular.number(7)
                self.mount = number >> 1 ^ -(number & 1)  # a sint32
        elif self.type == INET_SOCKET:
            self.is_raw = message.message(4).number(4) == _SOCK_RAW


class Terminal:
    """A terminal: its number in its devpts, and whether a process of the container had its master open."""

    __slots__ = ("has_master", "index")

    def __init__(self, index: int, *, has_master: bool) -> None:
        self.index = index
        self.has_master = has_master


class Image:
    """A decoded image.

    lsm            the security module of the host on which it was dumped: "", selinux or apparmor
    host           the namespaces of that host, by type, as numbers that tasks refer to
    tasks          init first
    mounts         by the number of the mount namespace
    filters        those that threads refer to
    id_maps        by the number of the user namespace
    external       the keys of network and pid namespaces, by type and number, "" for one that is the container's own
    cgroups        None if CRIU has not dumped cgroups
    terminals      the terminals that processes had open
    open_files     by the number of a task's files: type and id of each descriptor
    files          the open files
    remaps         the files that were open without a name
    has_policies   whether it has AppArmor policies, which CRIU loads
    """

    __slots__ = (
        *("cgroups", "external", "files", "filters", "has_policies", "host", "id_maps", "lsm", "mounts", "open_files"),
        *("remaps", "tasks", "terminals"),
    )

    def __init__(self) -> None:
        self.lsm = ""
        self.host: dict[str, int] = {}
        self.tasks: list[Task] = []
        self.mounts: dict[int, list[Mount]] = {}
        self.filters: list[Filter] = []
        self.id_maps: dict[int, IdMap] = {}
        self.external: dict[tuple[str, int], str] = {}
        self.cgroups: Cgroups | None = None
        self.terminals: list[Terminal] = []
        self.open_files: dict[int, dict[int, tuple[int, int]]] = {}
        self.files: list[File] = []
        self.remaps: list[Remap] = []
        self.has_policies = False

    @property
    def init(self) -> Task:
        """The container's first process."""
        return self.tasks[0]

    @property
    def init_mounts(self) -> "list[Mount]":
        """The mounts of init; [] if it was in the host's mount namespace."""
        return self.mounts.get(self.init.namespaces["mount"], [])

    def external_keys(self) -> "list[str]":
        """Return the keys of all mounts whose filesystems come from outside, each once, in the order of their ids."""
        found = [mount for mounts in self.mounts.values() for mount in mounts if mount.key]
        return list(dict.fromkeys(mount.key for mount in sorted(found, key=lambda mount: mount.id)))

    @property
    def has_sub_cgroups(self) -> bool:
        """Whether a thread was in a cgroup v2 below the container's."""
        if self.cgroups is None:
            return False
        sets = {thread.cgroups for task in self.tasks for thread in task.threads}
        paths = {self.cgroups.of_threads.get(number, {}).get("", "") for number in sets}
        return len(paths) > 1 or not self.cgroups.below_root.isdisjoint(sets)

    def has_terminal(self) -> bool:
        """Whether processes had a terminal open whose master was outside: one that an engine has asked for."""
        return any(not terminal.has_master for terminal in self.terminals)

    def chain(self, thread: Thread) -> "Iterator[Filter]":
        """Yield the filters of a thread, the last one first. `decode` has checked that they end."""
        index = thread.filter
        while index >= 0:
            yield self.filters[index]
            index = self.filters[index].previous


# The beginnings of the names of files that `decode` reads. A name goes on with a number, or ends.
SINGLE = ("inventory", "pstree", "seccomp", "cgroup", "files", "tty-info", "apparmor", "remap-fpath")
NUMBERED = ("core", "ids", "mountpoints", "userns", "netns", "pidns", "fdinfo")


def is_read(name: str) -> bool:
    """Whether `decode` reads a file of this name."""
    stem, dot, suffix = name.rpartition(".")
    kind, _, number = stem.rpartition("-")
    return is_ghost(name) or (
        dot == "." and suffix == "img" and (stem in SINGLE or (kind in NUMBERED and number.isdigit()))
    )


def decode(files: "Mapping[str, bytes]") -> Image:
    """Return what the files say, by their names. Ignores files that `is_read` does not name. Raises DamagedImage."""
    image = Image()
    _read(files, "inventory.img", lambda data: _read_inventory(image, data))
    processes = _read(files, "pstree.img", _processes)
    if "seccomp.img" in files:
        image.filters = _read(files, "seccomp.img", _filters)
    for pid, parent, threads in processes:
        image.tasks.append(_task(files, image, pid, parent, threads))
    _read_namespaces(files, image)
    if "cgroup.img" in files:
        image.cgroups = _read(files, "cgroup.img", lambda data: Cgroups(only_entry(data, CGROUP)))
    if "apparmor.img" in files:
        image.has_policies = _read(files, "apparmor.img", _has_policies)
    _read_files(files, image)
    return image


def _read(files: "Mapping[str, bytes]", name: str, read: "Callable[[bytes], T]") -> "T":
    """Read a file. Raises DamagedImage if it is missing or damaged."""
    if name not in files:
        raise DamagedImage(name, "it is missing")
    try:
        return read(files[name])
    except ValueError as error:
        raise DamagedImage(name, str(error)) from error


def _read_inventory(image: Image, data: bytes) -> None:
    message = only_entry(data, INVENTORY, common=False)
    version = message.number(1)
    if version != VERSION:
        raise ValueError(f"its format is {version} instead of {VERSION}")
    lsm = message.number(6, 0)
    if lsm not in LSMS:
        raise ValueError(f"security module {lsm} is unknown")
    if not (message.flag(2) and message.flag(4)):
        raise ValueError("it was made by a CRIU before 2.0")
    # CRIU puts it into commands for nft, which may run in the host's network namespace
    run = message.text(13, "")
    if run.strip("0123456789abcdef-"):
        raise ValueError(f"it has the run id {printable(run)}")
    image.lsm = LSMS[lsm]
    image.host = _namespaces(message.message(3))


def _namespaces(message: Message) -> "dict[str, int]":
    return {kind: message.number(field) for field, kind in NAMESPACE_FIELDS.items() if message.has(field)}


def _processes(data: bytes) -> "list[tuple[int, int, list[int]]]":
    """Return pid, parent and threads of each process. Init comes first, and every other has its parent before it."""
    found = [(each.number(1), each.number(2), each.numbers(5)) for each in entries(data, PSTREE)]
    seen: set[int] = set()
    threads: set[int] = set()
    for index, (pid, parent, ids) in enumerate(found):
        if not 0 < pid < 1 << 22 or pid in seen:
            raise ValueError(f"process {pid} can't exist")
        if (parent != 0) != (index > 0) or (parent and parent not in seen):
            raise ValueError(f"process {pid} has no parent")
        own = {pid, *ids[1:]}  # CRIU ignores the first, and writes anything for a dead process
        if not ids or (ids[0] != pid and len(ids) > 1) or not threads.isdisjoint(own) or len(own) < len(ids):
            raise ValueError(f"process {pid} can't have its threads")
        seen.add(pid)
        threads.update(own)
    if not found or len(threads) > MAX_THREADS:
        raise ValueError(f"it has {len(threads)} threads")
    return found


def _filters(data: bytes) -> "list[Filter]":
    found = [Filter(each) for each in only_entry(data, SECCOMP).messages(1)]
    ends = {-1}  # the indexes of filters whose chain ends
    for index in range(len(found)):
        chain: list[int] = []
        while index not in ends:
            if index >= len(found) or len(chain) > len(found):
                raise ValueError("its filters form no chain")
            chain.append(index)
            index = found[index].previous
        ends.update(chain)
    return found


def _task(files: "Mapping[str, bytes]", image: Image, pid: int, parent: int, threads: "list[int]") -> Task:
    name = f"core-{pid}.img"
    core = _read(files, name, lambda data: only_entry(data, CORE))
    task = _read(files, name, lambda _: _leader(core, pid, parent))
    if task.is_dead:
        return task
    if threads[0] != pid:
        raise DamagedImage("pstree.img", f"process {pid} can't have its threads")
    task.threads.append(_read(files, name, lambda _: _thread(image, pid, task.name, core)))
    for tid in threads[1:]:
        read = lambda data, tid=tid: _thread(image, tid, task.name, only_entry(data, CORE))  # noqa: E731
        task.threads.append(_read(files, f"core-{tid}.img", read))
    _share_filters(image, task)
    ids = _read(files, f"ids-{pid}.img", lambda data: only_entry(data, IDS))
    task.namespaces = _read(files, f"ids-{pid}.img", lambda _: _namespaces(ids))
    task.files = _read(files, f"ids-{pid}.img", lambda _: ids.number(2))
    if task.namespaces.keys() != image.host.keys() or "mount" not in image.host:
        raise DamagedImage(f"ids-{pid}.img", "it has other namespaces than the host")
    return task


def _share_filters(image: Image, task: Task) -> None:
    """Give the threads the filters of the first one, if CRIU loads those for all. Then it dumps them only there."""
    leader = task.threads[0]
    if leader.filter >= 0 and all(each.is_shared for each in image.chain(leader)):
        for thread in task.threads[1:]:
            if thread.mode == 0:
                thread.mode, thread.filter = leader.mode, leader.filter


def _leader(core: Message, pid: int, parent: int) -> Task:
    common = core.message(3)
    if common.has(11) or common.has(12):
        raise ValueError("it was made by a CRIU before 3.0")
    state = common.number(1)
    if state not in (ALIVE, DEAD, STOPPED) or (state == DEAD and not parent):
        raise ValueError(f"state {state} is impossible")
    task = Task(pid, parent, common.text(6), state)
    if common.has(14):
        task.oom_score_adj = signed(common.number(14, bits=64), 32)
    if common.has(8):
        task.rlimits = [(each.number(1, bits=64), each.number(2, bits=64)) for each in common.message(8).messages(1)]
    return task


def _thread(image: Image, tid: int, name: str, core: Message) -> Thread:
    thread = Thread(tid, name, core)
    if thread.filter >= len(image.filters):
        raise ValueError(f"filter {thread.filter} does not exist")
    return thread


def _read_namespaces(files: "Mapping[str, bytes]", image: Image) -> None:
    """Read the files of the namespaces that tasks have."""
    for task in image.tasks:
        for kind, number in task.namespaces.items():
            if number == image.host[kind]:
                continue
            if kind == "mount" and number not in image.mounts:
                image.mounts[number] = _read(files, f"mountpoints-{number}.img", _mounts)
            elif kind == "user" and number not in image.id_maps:
                read = lambda data: IdMap(only_entry(data, USERNS))  # noqa: E731
                image.id_maps[number] = _read(files, f"userns-{number}.img", read)
            elif kind in _KEYS and (kind, number) not in image.external:
                image.external[kind, number] = _namespace_key(files, kind, number)


# The files of namespaces that may come from outside: the beginning of the name, magic and the field of the key.
_KEYS = {"network": ("netns", NETNS, 8), "pid": ("pidns", PIDNS, 1)}


def _namespace_key(files: "Mapping[str, bytes]", kind: str, number: int) -> str:
    name, magic, field = _KEYS[kind]
    file = f"{name}-{number}.img"
    if file not in files:
        return ""  # CRIU writes no file for a pid namespace that it makes, or for a network namespace without content
    return _read(files, file, lambda data: only_entry(data, magic).text(field, ""))


def _has_policies(data: bytes) -> bool:
    return any(each.has(1) for each in entries(data, APPARMOR))


def _mounts(data: bytes) -> "list[Mount]":
    found = [Mount(each) for each in entries(data, MNTS)]
    ids = {mount.id for mount in found}
    if len(ids) < len(found):
        raise ValueError("two mounts have the same id")
    if sum(mount.parent not in ids for mount in found) != 1:
        raise ValueError("it has no root")
    return found


def root_mount(mounts: "list[Mount]") -> Mount:
    """Return the mount whose parent is not in the namespace. `decode` has checked that there is one."""
    ids = {mount.id for mount in mounts}
    return next(mount for mount in mounts if mount.parent not in ids)


def _read_files(files: "Mapping[str, bytes]", image: Image) -> None:
    """Read the terminals, and which files the descriptors of each task are."""
    for task in image.tasks:
        if not task.is_dead and task.files not in image.open_files:
            image.open_files[task.files] = _read(files, f"fdinfo-{task.files}.img", _descriptors)
    if "tty-info.img" in files:
        image.terminals = _read(files, "tty-info.img", _terminals)
    image.files = _read(files, "files.img", _files)
    if "remap-fpath.img" in files:
        image.remaps = _read(files, "remap-fpath.img", remaps)
    for remap in image.remaps:
        if remap.kind == GHOST:
            _read(files, ghost_name(remap), check_ghost)


def _descriptors(data: bytes) -> "dict[int, tuple[int, int]]":
    """Return type and id of the file of each descriptor."""
    found = {}
    for each in entries(data, FDINFO):
        descriptor = each.number(4)
        if descriptor in found:
            raise ValueError(f"descriptor {descriptor} occurs twice")
        found[descriptor] = each.number(3), each.number(1)
    return found


def _terminals(data: bytes) -> "list[Terminal]":
    """Return the terminals whose slave is open. One without settings (termios) is hung up."""
    slaves, masters = [], set()
    for each in entries(data, TTY_INFO):
        number, kind = each.number(1), each.number(2)
        if kind != _PTY:
            continue
        if number & 1:
            masters.add(number >> 1)
        elif each.has(9):
            slaves.append(number >> 1)
    return [Terminal(index, has_master=index in masters) for index in slaves]


def _files(data: bytes) -> "list[File]":
    found = [File(each) for each in entries(data, FILES)]
    if not found:
        raise ValueError("it has no file")  # CRIU would look for those of an older format
    return found


__all__ = ["DamagedImage", "Image", "decode", "is_read", "root_mount"]
