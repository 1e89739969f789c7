"""The `fs` driver: cgroups of the v2 hierarchy, through the file system.

    cgroup = Cgroup.create(cgroups_path, id, writes)    directories, controllers
    cgroup.apply(writes)                                limits, before anything runs inside
    cgroup.attach_device_filter(program)
    … clone into cgroup.dirfd …
    cgroup.destroy(kill=True)

Implements "Control groups" of the runtime specification (config-linux.md). The hierarchy is found through
/proc/self/mountinfo, so unified and hybrid hosts are the same to it. Directories are reached one component at
a time from the mount, never through a symbolic link, and everything is done by descriptor. Nothing here
sleeps: `cgroup.events` says when a cgroup is frozen or empty.
"""

import _struct
import errno
import posix
import select
import time

from pyoci import _native
from pyoci.errors import CgroupError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyoci.cgroups.resources import Write

PATH_POINTER = "/linux/cgroupsPath"
DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC
WRITE = posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC
KEYED = ("io.max", "io.weight", "io.bfq.weight", "rdma.max")  # a line for each device that has a limit
GONE = (errno.ENOENT, errno.ENODEV)  # what a removed cgroup answers, by name and by descriptor

# an extended attribute of a cgroup that was there before the container: its id, a slash, and a number of its own
TAKEN = "trusted.pyoci"
# another one: `before` and `owners` of a container that had it before this one, and was deleted while this one has it
HANDED_ON = "trusted.pyoci.before"
HANDED_ON_MAX = 4096  # bytes
NOBODY = (1 << 32) - 1  # is no user's id

SIGKILL = 9
PATIENCE = 10.0  # seconds that processes get to freeze or to die

# The path through the tree can vanish under us when another runtime removes a parent it made.
WALK_ATTEMPTS = 16
RMDIR_ATTEMPTS = 256  # of an empty cgroup: more means that something is mounted on it

# What a cgroup's new owner may write; the file names more where the kernel has more to give.
DELEGATE = "/sys/kernel/cgroup/delegate"
DELEGATED = "cgroup.procs cgroup.subtree_control cgroup.threads"

# bpf(2)
BPF_PROG_ATTACH, BPF_PROG_DETACH, BPF_PROG_GET_FD_BY_ID, BPF_PROG_QUERY = 8, 9, 13, 16
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI = 15, 6, 2

MKDIR_HINTS = {
    errno.EAGAIN: "an ancestor's cgroup.max.depth or cgroup.max.descendants is reached",
    errno.EROFS: "the cgroup2 mount is read-only here",
}
ENABLE_HINTS = {
    errno.EACCES: "it is not delegated to this user (cgroups(7), Delegation)",
    errno.EBUSY: "a cgroup with processes of its own can't have limited children; move them into a child",
    errno.ENOENT: "its parent does not have the controller to give",
    errno.EOPNOTSUPP: "it is a threaded cgroup",
}


def find_mount() -> str:
    """The mount point of the cgroup v2 hierarchy.

    Of several, a mount of the hierarchy's root goes before one of a part, the two usual places before others,
    and what was mounted first before what came later. Raises `CgroupError` if there is none.
    """
    found = []
    for order, (root, path, device) in enumerate(mounts("cgroup2")):
        usual = {"/sys/fs/cgroup": 0, "/sys/fs/cgroup/unified": 1}.get(path, 2)
        found.append((root != "/", usual, order, path, device))
    for _, _, _, path, device in sorted(found):
        if is_mounted(path, device):
            return path
    raise CgroupError(
        "cannot find the cgroup v2 hierarchy: no cgroup2 file system is mounted",
        hint="mount one, or run with --cgroup-manager disabled",
    )


def mounts(kind: str) -> "Iterator[tuple[str, str, str]]":
    """The mounts of a type of file system: what of it is mounted, where, and its device as "major:minor"."""
    for line in _read_file("/proc/self/mountinfo").split("\n"):
        if f" - {kind} " in line:
            _, _, device, root, path, *_ = line.split(" ")
            yield root, _unescape(path), device


def is_mounted(path: str, device: str) -> bool:
    """Whether `path` still shows the mount of `device` ("major:minor") and nothing on top of it."""
    major, _, minor = device.partition(":")
    try:
        return posix.stat(path).st_dev == posix.makedev(int(major), int(minor))
    except OSError:
        return False


def _unescape(path: str) -> str:
    """A path of mountinfo, where blank, tab, newline and backslash are `\\` and three octal digits."""
    head, *escaped = path.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in escaped)


def cgroup_path(cgroups_path: str, id: str) -> str:
    """The path from the mount for `linux.cgroupsPath` ("" when unset) of container `id`.

    An absolute one counts from the mount. A relative one, and the id when there is none, go beside the cgroup
    of the caller: in its parent, since v2 lets a cgroup have either processes or limited children.
    """
    parts = (cgroups_path or id).removesuffix("/").split("/")
    absolute = parts[0] == ""
    if absolute:
        del parts[0]
    if not parts or any(part in ("", ".", "..") or "\0" in part or "\n" in part for part in parts):
        raise CgroupError(
            f"cannot use cgroup path {cgroups_path!r}: not a plain path below the mount", where=PATH_POINTER
        )
    return "/" + "/".join(parts) if absolute else f"{_own_parent()}/{'/'.join(parts)}"


def _own_parent() -> str:
    """The parent of the caller's own cgroup as a path from the mount, "" when it is the root."""
    parent = path_of().rpartition("/")[0]
    return "" if "/.." in parent else parent  # outside of our cgroup namespace: not visible here


def path_of(pid: "int | str" = "self") -> str:
    """The cgroup of a process, by default the caller's own, as a path from the mount; "" without a v2 hierarchy."""
    for line in _read_file(f"/proc/{pid}/cgroup").split("\n"):
        if line.startswith("0::"):
            return line[3:]
    return ""


def refusal(cgroups_path: str, id: str, mount: str) -> str:
    """Why a process that is not root of the host may not make this cgroup and put a process into it; "" if it may.

    What it takes (cgroups(7), "Delegation"): to write to the directory above, and to the cgroup.procs of the cgroup
    that both the new one and the process' own lie in.
    """
    if not mount:
        return "no cgroup2 file system is mounted"
    path = cgroup_path(cgroups_path, id)
    above = path
    while above and not _is_there(mount + above):
        above = above.rpartition("/")[0]
    own = path_of()
    common = path
    while common and not f"{own}/".startswith(f"{common}/"):
        common = common.rpartition("/")[0]
    for file in (f"{mount}{above}", f"{mount}{common}/cgroup.procs"):
        if not posix.access(file, posix.W_OK, effective_ids=True):
            return f"{file} is not this user's to write to"
    return ""


class Cgroup:
    """A container's cgroup.

    mount     where the hierarchy is mounted
    path      the cgroup's path from there: `/docker/4f1e…`
    created   the paths that `create` made, from the top down; the others stay when the container goes
    inode     identifies the directory: a later one of the same name is another cgroup
    filter_id the device program in a cgroup that was there before, to be taken off again; else 0
    before    in such a cgroup, what its files held until we wrote them
    owners    likewise, whose they were ("." is the directory)
    mark      likewise, what says in its TAKEN attribute that it is this container's now, and not that of one before
    rootless  its maker is not root of the host, and may not give it to every user
    """

    __slots__ = (
        *("_dirfd", "before", "created", "filter_id", "inode", "mark", "mount", "owners", "path", "rootless"),
        "warnings",
    )

    driver = "cgroupfs"
    can_fetch = False  # whether somebody else moves processes here that this process may not move

    def __init__(self, mount: str, path: str, created: list[str], inode: int = 0, filter_id: int = 0) -> None:
        self.mount = mount
        self.path = path
        self.created = created
        self.inode = inode
        self.filter_id = filter_id
        self.before: dict[str, str] = {}
        self.owners: dict[str, int] = {}
        self.mark = ""
        self.warnings: list[str] = []
        self.rootless = False
        self._dirfd = -1

    @classmethod
    def create(
        cls, cgroups_path: str, id: str, writes: "list[Write]", mount: str = "", *, rootless: bool = False
    ) -> "Cgroup":
        """Make the cgroup with every controller that `writes` needs, and what other controllers can be had.

        An existing one is taken as it is if it is empty and not frozen. Raises `CgroupError`, with the pointer
        of the path or of the limit, and leaves no directory behind.
        """
        path = cgroup_path(cgroups_path, id)
        cgroup = cls(mount or find_mount(), path, [])
        cgroup.rootless = rootless
        try:
            line = cgroup._make_directories()
            try:
                cgroup._check_fitness(existed=path not in cgroup.created)
                if path not in cgroup.created:
                    cgroup._mark(id)
                cgroup._enable(line, writes)
                cgroup._enable_rest(line)
            finally:
                for fd in line:
                    posix.close(fd)
        except BaseException:
            cgroup.destroy()
            raise
        return cgroup

    @classmethod
    def planned(cls, cgroups_path: str, id: str, mount: str) -> "Cgroup":
        """What `create` is about to make, for the record of a runtime that may be killed in between."""
        path = cgroup_path(cgroups_path, id)
        parts = path[1:].split("/")
        ancestors = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
        mount = mount or find_mount()
        return cls(mount, path, [ancestor for ancestor in ancestors if not _is_there(mount + ancestor)])

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "Cgroup":
        """The cgroup that `to_dict` described."""
        cgroup = cls(record["mount"], record["path"], record["created"], record["inode"], record["filter_id"])
        cgroup.before, cgroup.owners = record["before"], record["owners"]
        cgroup.mark = record.get("mark", "")
        return cgroup

    def at(self, path: str) -> "Cgroup":
        """The cgroup at `path` of the same hierarchy, which exists. Raises `CgroupError`."""
        try:
            fd = _open_below(self.mount, path)
        except OSError as error:
            raise CgroupError(f"cannot use cgroup {path}: {reason(errno_of(error))}") from error
        found = Cgroup(self.mount, path, [], posix.fstat(fd).st_ino)
        found._dirfd = fd
        return found

    def to_dict(self) -> "dict[str, Any]":
        """What later commands need to find it again, as JSON values."""
        return {
            "driver": self.driver,
            "mount": self.mount,
            "path": self.path,
            "created": self.created,
            "inode": self.inode,
            "filter_id": self.filter_id,
            "before": self.before,
            "owners": self.owners,
            "mark": self.mark,
        }

    @property
    def dirfd(self) -> int:
        """A descriptor of the directory, for CLONE_INTO_CGROUP. Raises `CgroupError` when it is gone."""
        if self._dirfd < 0:
            try:
                self._dirfd = self._open()
            except OSError as error:
                raise self._failure("open", error) from error
        return self._dirfd

    def close(self) -> None:
        """Give the descriptor back."""
        if self._dirfd >= 0:
            posix.close(self._dirfd)
            self._dirfd = -1

    def apply(self, writes: "list[Write]") -> None:
        """Write the limits. Raises `CgroupError` with the pointer of the one which the kernel refuses."""
        for write in writes:
            if write.usage:
                self._check_usage(write)
        for write in writes:
            self._apply(write)

    def add(self, pid: int) -> None:
        """Move a process here."""
        _write(self.dirfd, "cgroup.procs", str(pid).encode())

    def fitted(self, writes: "list[Write]") -> "list[Write]":
        """`writes` as a manager of the cgroup would have them: here, the same."""
        return writes

    def tell(self, writes: "list[Write]") -> None:
        """Tell a manager of the cgroup what was written: here is none."""

    def enable(self, writes: "list[Write]") -> None:
        """Enable the controllers of `writes` in a cgroup that exists."""
        line: list[int] = []
        try:
            line.append(posix.open(self.mount, DIRECTORY))
            for name in self.path[1:].split("/")[:-1]:
                line.append(posix.open(name, DIRECTORY, dir_fd=line[-1]))
            self._enable(line, writes)
        except OSError as error:
            raise self._failure("open", error) from error
        finally:
            for fd in line:
                posix.close(fd)

    def read(self, name: str) -> str:
        """The content of a file; "" if there is none. Raises `CgroupError`."""
        try:
            return _read(self.dirfd, name).decode("utf-8", "surrogateescape")
        except OSError as error:
            if errno_of(error) in (*GONE, errno.EOPNOTSUPP):
                return ""
            raise self._failure(f"read {name} of", error) from error

    def delegate(self, uid: int) -> None:
        """Make `uid` the owner of the directory, and of the files in it that the kernel lets a new owner write."""
        for name in (".", *(_read_file(DELEGATE) if _is_there(DELEGATE) else DELEGATED).split()):
            try:
                if self.path not in self.created:
                    status = posix.stat(name, dir_fd=self.dirfd, follow_symlinks=False)
                    self.owners.setdefault(name, status.st_uid)
                posix.chown(name, uid, -1, dir_fd=self.dirfd, follow_symlinks=False)
            except FileNotFoundError:
                pass  # a controller that this cgroup does not have
            except PermissionError:
                if not self.rootless:
                    raise
                return  # an id of others, which only root may give something to

    def attach_device_filter(self, program: bytes, where: str = "/linux/resources/devices") -> None:
        """Load and attach a program of `device_filter.compile_rules`; b"" allows everything: nothing to attach.

        Raises `CgroupError`, with the verifier's last line if it was that.
        """
        if not program:
            return
        try:
            program_fd = _native.bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, program)
        except OSError as error:
            raise CgroupError(f"cannot load device filter: {_verdict(program, error)}", where=where) from error
        try:
            # Several programs may be attached, and all of them are asked: an ancestor's or systemd's stay in force.
            _native.bpf(BPF_PROG_ATTACH, _bpf_attr(self.dirfd, program_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI))
            query = _bpf_attr(self.dirfd, BPF_CGROUP_DEVICE, 0, 0, 0, 0, 0, 0)
            _native.bpf(BPF_PROG_QUERY, query)
            if not _struct.unpack_from("=I", query, 24)[0]:
                raise CgroupError("cannot attach device filter: the kernel does not list it", where=where)
            if self.path not in self.created:
                self.filter_id = _native.bpf_prog_id(program_fd)
        except OSError as error:
            raise CgroupError(f"cannot attach device filter: {reason(errno_of(error))}", where=where) from error
        finally:
            posix.close(program_fd)

    def pids(self, *, recursive: bool = True) -> list[int]:
        """The container's processes, as this process numbers them; none when the cgroup is gone or another's."""
        try:
            top = self.dirfd
            if self._taker():
                return []
            found = _read_pids(top, "cgroup.procs")
            if recursive:
                for parent, name in _below(top):
                    found += _read_pids(parent, f"{name}/cgroup.procs")
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise
            return []
        return found

    def frozen(self) -> bool:
        """Whether the processes inside are stopped, or will be: a signal lets a frozen one move for a moment."""
        try:
            asked = _read(self.dirfd, "cgroup.freeze").startswith(b"1")
            return asked or b"frozen 1" in _read(self.dirfd, "cgroup.events")
        except (OSError, CgroupError) as error:
            if errno_of(error) in GONE:
                return False
            if isinstance(error, OSError):
                raise self._failure("read the state of", error) from error
            raise

    def freeze(self, timeout: float = PATIENCE) -> None:
        """Stop every process inside; returns when they have. Raises `CgroupError` after `timeout` seconds."""
        self._set_frozen(True, timeout)

    def thaw(self, timeout: float = PATIENCE) -> None:
        """Let them go on."""
        self._set_frozen(False, timeout)

    def kill(self, signal: int = SIGKILL) -> bool:
        """Send `signal` to every process inside. True: they were all reached, even those just being forked; False: the
        cgroup is only planned, and the caller has to signal the processes that it knows."""
        if not self.inode:
            return False
        try:
            if self._taker():
                return True  # it was empty then, and nobody of ours can have come back
            if signal == SIGKILL:
                try:
                    _write(self.dirfd, "cgroup.kill", b"1")
                    return True
                except OSError as error:
                    # Linux before 5.14 has no such file, and threaded cgroups refuse it.
                    if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                        raise
            self._signal(signal)
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise
        return True

    def destroy(self, *, kill: bool = False, timeout: float = PATIENCE) -> None:
        """Remove what `create` made: the cgroup with all below it, and its ancestors unless others use them.

        With `kill` processes inside are killed, else they get `timeout` seconds to end. A cgroup that is
        gone already is no error; one that was there before `create` stays, and so does one in which another container
        is by now, whom nobody kills. Raises `CgroupError` when processes remain.
        """
        deadline = time.monotonic() + timeout
        try:
            if self.path in self.created:
                self._remove(kill, deadline)
            elif self.inode:
                self._leave(kill, deadline)
            for path in reversed(self.created):
                if path != self.path:
                    _remove_unused(self.mount, path)
        except OSError as error:
            raise self._failure("remove", error) from error
        finally:
            self.close()

    # The directories

    def _make_directories(self) -> list[int]:
        """Descriptors of the directories from the mount to the cgroup's parent; its own is kept in `self`."""
        for attempt in range(WALK_ATTEMPTS):
            line: list[int] = []
            path = ""
            try:
                line.append(posix.open(self.mount, DIRECTORY))
                for name in self.path[1:].split("/"):
                    path += f"/{name}"
                    if _make(name, line[-1]) and path not in self.created:
                        self.created.append(path)
                    line.append(posix.open(name, DIRECTORY, dir_fd=line[-1]))
                self._dirfd = line.pop()
                status = posix.fstat(self._dirfd)
                if status.st_dev != posix.fstat(line[0]).st_dev:
                    raise CgroupError(
                        f"cannot use cgroup {self.path}: something is mounted over it", where=PATH_POINTER
                    )
                self.inode = status.st_ino
                return line
            except BaseException as error:
                for fd in line:
                    posix.close(fd)
                if not isinstance(error, OSError):
                    raise
                if error.errno not in GONE or not path or attempt == WALK_ATTEMPTS - 1:
                    raise CgroupError(
                        f"cannot create cgroup {self.path}: {reason(errno_of(error))}",
                        where=PATH_POINTER,
                        hint=MKDIR_HINTS.get(errno_of(error), ""),
                    ) from error
        raise AssertionError("unreachable")

    def _open(self) -> int:
        """A new descriptor of this very cgroup, not of a later one with its name."""
        fd = _open_below(self.mount, self.path)
        if posix.fstat(fd).st_ino != self.inode:
            posix.close(fd)
            raise FileNotFoundError(errno.ENOENT, "")
        return fd

    def _check_fitness(self, *, existed: bool) -> None:
        """Refuse a cgroup in which the container could not start, or would not be alone."""
        if not existed and self.path.count("/") == 1:
            return  # a child of the root inherits neither the freezer nor threads
        events = _read(self.dirfd, "cgroup.events")
        why = ""
        if b"populated 1" in events:
            why = "the container's cgroup is not empty"
        elif b"frozen 1" in events:
            why = "the container's cgroup unexpectedly frozen"
        elif (kind := _read(self.dirfd, "cgroup.type").strip()) != b"domain" and kind != b"domain threaded":
            why = "it is a threaded cgroup"
        if why:
            raise CgroupError(f"cannot use cgroup {self.path}: {why}", where=PATH_POINTER)

    def _enable(self, line: list[int], writes: "list[Write]") -> None:
        """Enable the controllers of `writes` in every ancestor that does not have them enabled yet."""
        from pyoci.cgroups.resources import controllers  # only create has limits to think of

        needed, spare = controllers(writes)
        if not needed and not spare:
            return
        enabled = _read_words(self.dirfd, "cgroup.controllers")
        if all(name in enabled for name in (*needed, *spare)):
            return
        available = _read_words(line[0], "cgroup.controllers")
        for name in needed:
            if name not in available:
                raise _no_controller(
                    name, self.mount, next(w.where for w in writes if w.controller == name and not w.default)
                )
        for name in (*needed, *spare):
            if name not in enabled and name in available:
                self._enable_one(name, line, writes, tolerant=name in spare)

    def _enable_rest(self, line: list[int]) -> None:
        """Enable every other controller that can be had: what a container without limits uses is measured by them, and
        one that manages cgroups of its own hands them on.
        """
        enabled = _read_words(self.dirfd, "cgroup.controllers")
        rest = [name for name in _read_words(line[0], "cgroup.controllers") if name not in enabled]
        for fd in line if rest else ():
            given = _read_words(fd, "cgroup.subtree_control")
            if not _try_enable(fd, [name for name in rest if name not in given]):
                # one of them can't: a cgroup with processes of its own has some to give, and others not
                rest = [name for name in rest if name in given or _try_enable(fd, [name])]

    def _enable_one(self, name: str, line: list[int], writes: "list[Write]", *, tolerant: bool) -> None:
        parts = self.path.split("/")
        for depth, fd in enumerate(line):
            if name in _read_words(fd, "cgroup.subtree_control"):
                continue
            try:
                _write(fd, "cgroup.subtree_control", f"+{name}".encode())
            except OSError as error:
                if tolerant:
                    return
                where = next(w.where for w in writes if w.controller == name)
                place = "/".join(parts[: depth + 1]) or "/"
                raise CgroupError(
                    f"cannot enable controller {name} in cgroup {place}: {reason(errno_of(error))}",
                    where=where,
                    hint=ENABLE_HINTS.get(errno_of(error), ""),
                ) from error

    # Limits

    def _check_usage(self, write: "Write") -> None:
        try:
            usage = int(_read(self.dirfd, write.usage))
        except OSError as error:
            if errno_of(error) not in GONE:
                raise self._failure(f"read {write.usage} of", error) from error
            return  # nothing is counted
        if int(write.value) < usage:
            raise CgroupError(f"cannot set {write.file} to {write.value}: {usage} are in use", where=write.where)

    def _apply(self, write: "Write") -> None:
        if self.path not in self.created:
            self._keep(write.file)
        try:
            _write(self.dirfd, write.file, (write.value or "\n").encode())
        except OSError as error:
            missing = error.errno == errno.ENOENT
            if error.errno in GONE and not self._exists():
                raise CgroupError(f"cannot limit cgroup {self.path}: it was removed", where=write.where) from error
            if missing and write.default:
                return
            if missing and write.otherwise:
                self._apply(write.otherwise)
                return
            raise CgroupError(
                f"cannot write `{write.value}` to {write.file} of cgroup {self.path}: {reason(errno_of(error))}",
                where=write.where,
                hint="this kernel has no such file" if missing else "",
            ) from error

    def _keep(self, file: str) -> None:
        """What it holds, for the end of the container."""
        try:
            self.before.setdefault(file, _read(self.dirfd, file).decode())
        except OSError:
            pass  # it can't be read, and so not be restored; or it is not there, as the write will say

    def _exists(self) -> bool:
        try:
            posix.stat("cgroup.procs", dir_fd=self.dirfd)
        except OSError:
            return False
        return True

    # Processes

    def _set_frozen(self, frozen: bool, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        verb = "freeze" if frozen else "thaw"
        try:
            _write(self.dirfd, "cgroup.freeze", b"1" if frozen else b"0")
            if self._wait(b"frozen 1" if frozen else b"frozen 0", deadline):
                return
            if frozen:
                _write(self.dirfd, "cgroup.freeze", b"0")
        except OSError as error:
            raise self._failure(verb, error) from error
        hint = "" if frozen else "an ancestor may be frozen"
        raise CgroupError(f"cannot {verb} cgroup {self.path}: not done after {timeout:g} s", hint=hint)

    def _wait(self, state: bytes, deadline: float) -> bool:
        """Wait until cgroup.events has the line `state`; False when `deadline` came first."""
        fd = posix.open("cgroup.events", READ, dir_fd=self.dirfd)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            # A read arms the file, a change after it ends the poll: nothing can slip in between.
            while state not in posix.pread(fd, 4096, 0):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poll.poll(left * 1000)
            return True
        finally:
            posix.close(fd)

    def _signal(self, signal: int) -> None:
        """Without cgroup.kill: in a frozen cgroup nobody forks, and no pid changes hands."""
        was_frozen = self.frozen()
        if not was_frozen:
            try:
                self.freeze()
            except CgroupError:  # something is stuck in the kernel: reach the others at least
                if signal != SIGKILL:
                    raise
        try:
            for pid in self.pids():
                try:
                    posix.kill(pid, signal)
                except ProcessLookupError:
                    pass  # it ended by itself
        finally:
            if not was_frozen:
                self.thaw()

    # The end

    def _remove(self, kill: bool, deadline: float) -> None:
        parent_path, _, name = self.path.rpartition("/")
        try:
            if self.inode:
                self.dirfd  # noqa: B018  only if it is still ours
            parent = _open_below(self.mount, parent_path)
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise
            return
        try:
            for _ in range(RMDIR_ATTEMPTS):
                if _rmdir(name, parent):
                    return
                if self._is_taken():
                    return
                if kill:
                    self.kill()
                if not self._wait(b"populated 0", deadline):
                    raise self._still_populated()
                for above, child in _below(self.dirfd):
                    _rmdir(child, above)
                posix.sched_yield()  # the last process may still be on its way out of a processor
            raise OSError(errno.EBUSY, "")
        except OSError as error:
            if error.errno not in GONE:
                raise
        finally:
            posix.close(parent)

    def _leave(self, kill: bool, deadline: float) -> None:
        """Empty a cgroup that is not ours to remove, take off our device program, and give back what we changed."""
        try:
            taken = self._is_taken()
            if kill and not taken:
                self.kill()
                if not self._wait(b"populated 0", deadline):
                    raise self._still_populated()
            if self.filter_id:
                program_fd = _native.bpf(BPF_PROG_GET_FD_BY_ID, _bpf_attr(self.filter_id, 0, 0))
                try:
                    _native.bpf(BPF_PROG_DETACH, _bpf_attr(self.dirfd, program_fd, BPF_CGROUP_DEVICE))
                finally:
                    posix.close(program_fd)
            if taken:
                self._hand_on()
            else:
                before, owners = self._handed_on()
                self.before |= before
                self.owners |= owners
                self._restore()
                self._unmark()
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise

    def _mark(self, id: str) -> None:
        """Say that a cgroup which was there is in use: a container that had it before may have ended and not be deleted
        yet, and its delete would kill whoever is inside."""
        try:
            # under another root there may be another container of this id
            mark = f"{id}/{posix.urandom(8).hex()}"
            if not self._said():
                self._unmark()  # nothing is handed on by whom nobody had followed
            posix.setxattr(self.dirfd, TAKEN, mark.encode())
            self.mark = mark
        except OSError:
            pass  # it takes the host's root; without it there is one cgroup for each container, as there should be

    def _unmark(self) -> None:
        for attribute in (HANDED_ON, TAKEN):
            try:
                posix.removexattr(self.dirfd, attribute)
            except OSError:
                pass

    def _hand_on(self) -> None:
        """Leave to whoever has taken it over what to restore: that one has found only what this container had set."""
        before, owners = self._handed_on()
        kept = _native.json_dumps({"before": self.before | before, "owners": self.owners | owners})
        if len(kept) <= HANDED_ON_MAX and (self.before or self.owners):
            try:
                posix.setxattr(self.dirfd, HANDED_ON, kept)
            except OSError:
                pass

    def _handed_on(self) -> "tuple[dict[str, str], dict[str, int]]":
        """What containers before this one have left to restore: (before, owners)."""
        try:
            kept: Any = _native.json_loads(posix.getxattr(self.dirfd, HANDED_ON))
            before, owners = kept["before"], kept["owners"]
            proper = [type(value) is str and value.isascii() for value in before.values()]
            proper += [type(uid) is int and 0 <= uid < NOBODY for uid in owners.values()]
            if all(proper) and all(map(_is_name, (*before, *owners))):
                return before, owners
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # there is nothing; or root of a container with every privilege has written it
        return {}, {}

    def trust(self, lives: "Callable[[], bool]") -> None:
        """Where the container's first process `lives` nobody can have taken the cgroup over, whatever it says now: root
        of a container with every privilege can have written that.
        """
        try:
            said = self._said()
        except CgroupError:
            return  # it is gone, or whoever needs it will tell
        finally:
            self.close()  # later it may be gone
        if said != self.mark and lives():
            self.mark = said

    def _said(self) -> str:
        """What the cgroup says of whose it is; "" if nothing."""
        try:
            return posix.getxattr(self.dirfd, TAKEN).decode("utf-8", "replace")
        except OSError:
            return ""

    def _taker(self) -> str:
        """The container that has taken this cgroup over since, "" if there is none."""
        taker = self._said()
        return taker.partition("/")[0] if taker != self.mark else ""

    def _is_taken(self) -> bool:
        taker = self._taker()
        if taker:
            self.warnings.append(f"cgroup {self.path} stays: it is that of container {taker} now")
        return bool(taker)

    def _restore(self) -> None:
        """The last written first: a value may only be legal beside another one."""
        for name, uid in self.owners.items():
            posix.chown(name, uid, -1, dir_fd=self.dirfd, follow_symlinks=False)
        for file, old in reversed(self.before.items()):
            lines = old.splitlines() or [""]
            if file in KEYED:
                lines = [*_lifted(old, _read(self.dirfd, file).decode()), *(line for line in lines if line)]
            for line in lines:
                try:
                    _write(self.dirfd, file, (line or "\n").encode())
                except OSError as error:
                    if error.errno in GONE:
                        raise
                    # The kernel takes no longer what it has said: a processor that was unplugged, a weight while idle.

    def _still_populated(self) -> CgroupError:
        pids = self.pids()
        some = " ".join(map(str, pids[:8])) + (" …" if len(pids) > 8 else "")
        return CgroupError(f"cannot remove cgroup {self.path}: it still has processes: {some}")

    def _failure(self, verb: str, error: OSError) -> CgroupError:
        return CgroupError(f"cannot {verb} cgroup {self.path}: {reason(errno_of(error))}")


class NoCgroup:
    """The `disabled` manager: the container stays in the cgroup of its creator, without limits."""

    __slots__ = ("warnings",)

    driver = "disabled"
    can_fetch = False
    dirfd = -1
    path = ""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @classmethod
    def create(
        cls,
        cgroups_path: str,  # noqa: ARG003
        id: str,  # noqa: ARG003
        writes: "list[Write]",  # noqa: ARG003
        mount: str = "",  # noqa: ARG003
        *,
        rootless: bool = False,  # noqa: ARG003
    ) -> "NoCgroup":
        """Nothing to make."""
        return cls()

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "NoCgroup":  # noqa: ARG003
        """The counterpart of `to_dict`."""
        return cls()

    def to_dict(self) -> "dict[str, Any]":
        """What later commands need: that there is nothing."""
        return {"driver": self.driver}

    def close(self) -> None:
        """Nothing is open."""

    def apply(self, writes: "list[Write]") -> None:
        """Warn of every limit that is lost."""
        self.warnings += [f"{w.where}: ignored: cgroups are disabled" for w in writes if not w.default]

    def add(self, pid: int) -> None:
        """It stays where it is."""

    def enable(self, writes: "list[Write]") -> None:
        """There is nothing to limit."""

    def fitted(self, writes: "list[Write]") -> "list[Write]":
        """The same."""
        return writes

    def tell(self, writes: "list[Write]") -> None:
        """There is nobody to tell."""

    def read(self, name: str) -> str:  # noqa: ARG002
        """There are no files."""
        return ""

    def delegate(self, uid: int) -> None:
        """There is nothing to own."""

    def attach_device_filter(self, program: bytes, where: str = "/linux/resources/devices") -> None:
        """Warn that devices are not filtered."""
        if program:
            self.warnings.append(f"{where}: ignored: cgroups are disabled")

    def pids(self, *, recursive: bool = True) -> list[int]:  # noqa: ARG002
        """None are known."""
        return []

    def frozen(self) -> bool:
        """Never."""
        return False

    def freeze(self, timeout: float = PATIENCE) -> None:  # noqa: ARG002
        """Raises `CgroupError`."""
        raise CgroupError("cannot freeze container: its cgroup manager is disabled")

    def thaw(self, timeout: float = PATIENCE) -> None:  # noqa: ARG002
        """Raises `CgroupError`."""
        raise CgroupError("cannot thaw container: its cgroup manager is disabled")

    def kill(self, signal: int = SIGKILL) -> bool:  # noqa: ARG002
        """False: nobody was reached, the caller has to signal the processes that it knows."""
        return False

    def trust(self, lives: "Callable[[], bool]") -> None:
        """There is nothing to take over."""

    def destroy(self, *, kill: bool = False, timeout: float = PATIENCE) -> None:
        """Nothing to remove."""


def page_sizes() -> "list[str]":
    """The sizes of huge pages that hugetlb files are named after: `2MB`, `1GB`."""
    names = []
    try:
        entries = posix.listdir("/sys/kernel/mm/hugepages")
    except OSError:
        return []
    for entry in sorted(entries):
        kilobytes = entry.removeprefix("hugepages-").removesuffix("kB")
        size, unit = int(kilobytes), "KB"
        for larger in ("MB", "GB"):
            if size >= 1024:
                size, unit = size // 1024, larger
        names.append(f"{size}{unit}")
    return names


# Files


def _is_name(name: str) -> bool:
    """Whether it names a file of a cgroup, or with "." the cgroup, and nothing elsewhere."""
    return name.isascii() and "/" not in name and "\0" not in name and name not in ("", "..")


def _lifted(old: str, new: str) -> "Iterator[str]":
    """What lifts the limits of the devices that have one in a keyed file now, and had none before."""
    had = {line.split(" ")[0] for line in old.splitlines()}
    for line in new.splitlines():
        device, *values = line.split()
        if device not in had:
            names = [value.partition("=")[0] for value in values if "=" in value]
            yield " ".join([device, *(f"{name}=max" for name in names)]) if names else f"{device} default"


def _is_there(path: str) -> bool:
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def _read_file(path: str) -> str:
    fd = posix.open(path, READ)
    try:
        return _read_all(fd).decode("utf-8", "surrogateescape")
    finally:
        posix.close(fd)


def _read(dirfd: int, name: str) -> bytes:
    fd = posix.open(name, READ, dir_fd=dirfd)
    try:
        return _read_all(fd)
    finally:
        posix.close(fd)


def _read_all(fd: int) -> bytes:
    chunks = []
    while chunk := posix.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def _try_enable(fd: int, controllers: "list[str]") -> bool:
    """Enable controllers, all or none; whether it could be done."""
    try:
        if controllers:
            _write(fd, "cgroup.subtree_control", " ".join(f"+{controller}" for controller in controllers).encode())
    except OSError:
        return False
    return True


def _read_words(dirfd: int, name: str) -> list[str]:
    return _read(dirfd, name).decode().split()


def _read_pids(dirfd: int, name: str) -> list[int]:
    """The pids of a cgroup.procs; 0 stands for one that our PID namespace can't see."""
    try:
        return [pid for pid in map(int, _read(dirfd, name).split()) if pid > 0]
    except OSError as error:
        # Processes of a threaded cgroup are listed in the one above.
        if error.errno in (*GONE, errno.EOPNOTSUPP):
            return []
        raise


def _write(dirfd: int, name: str, value: bytes) -> None:
    fd = posix.open(name, WRITE, dir_fd=dirfd)
    try:
        if posix.write(fd, value) != len(value):
            raise OSError(errno.EIO, "short write")
    finally:
        posix.close(fd)


# Directories


def _make(name: str, parent: int) -> bool:
    """Make a directory; False if it is there."""
    try:
        posix.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _rmdir(name: str, parent: int) -> bool:
    """Remove a directory, or find it gone; False if it is in use."""
    try:
        posix.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in GONE:
            raise
    return True


def _open_below(mount: str, path: str) -> int:
    """A descriptor of the directory `path` ("/a/b", or "" for the mount itself)."""
    fd = posix.open(mount, DIRECTORY)
    for name in path[1:].split("/") if path else ():
        above = fd
        try:
            fd = posix.open(name, DIRECTORY, dir_fd=above)
        finally:
            posix.close(above)
    return fd


def _remove_unused(mount: str, path: str) -> None:
    """Remove a directory if nothing is in it."""
    parent_path, _, name = path.rpartition("/")
    try:
        parent = _open_below(mount, parent_path)
    except OSError as error:
        if error.errno in GONE:
            return
        raise
    try:
        _rmdir(name, parent)
    finally:
        posix.close(parent)


def _children(dirfd: int) -> list[str]:
    if posix.fstat(dirfd).st_nlink == 2:  # the kernel counts subdirectories there
        return []
    with posix.scandir(dirfd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _below(top: int) -> "Iterator[tuple[int, str]]":
    """(descriptor of its parent, name) of every cgroup below `top`, children first.

    A container may nest its cgroups as deep as it likes: this takes one descriptor and no recursion.
    """
    fd = posix.dup(top)
    names: list[str] = []
    pending = [_children(fd)]
    try:
        while names or pending[-1]:
            if pending[-1]:
                name = pending[-1].pop()
                try:
                    child = posix.open(name, DIRECTORY, dir_fd=fd)
                    pending.append(_children(child))
                except OSError as error:
                    if error.errno in GONE:
                        continue
                    raise
                posix.close(fd)
                fd = child
                names.append(name)
                continue
            pending.pop()
            parent = posix.open("..", DIRECTORY, dir_fd=fd)
            posix.close(fd)
            fd = parent
            yield fd, names.pop()
    finally:
        posix.close(fd)


# The rest


def errno_of(error: BaseException) -> int:
    """The errno of an OSError, or of the one that caused a CgroupError; 0 if there is none."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause.errno or 0 if isinstance(cause, OSError) else 0


def _no_controller(name: str, mount: str, where: str) -> CgroupError:
    hint = ""
    for line in _read_file("/proc/cgroups").split("\n"):
        subsystem, *numbers = line.split()[:2] or [""]
        if subsystem == ("blkio" if name == "io" else name) and numbers != ["0"]:
            hint = f"on this host it serves cgroup v1, unless the kernel is booted with cgroup_no_v1={subsystem}"
    return CgroupError(
        f"cannot apply: the requested cgroup controller `{name}` is not available "
        f"in this host's cgroup v2 hierarchy ({mount})",
        where=where,
        hint=hint,
    )


def _bpf_attr(*words: int) -> bytearray:
    """A union bpf_attr of 32-bit words."""
    return bytearray(_struct.pack(f"={len(words)}I", *words))


def _verdict(program: bytes, error: OSError) -> str:
    """Why the kernel refused `program`: asked for only now, since a log costs time."""
    log = bytearray(65536)
    try:
        posix.close(_native.bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, program, log))
    except OSError:
        pass
    lines = log.rstrip(b"\0\n").decode("utf-8", "replace").split("\n")
    said = [line for line in lines if line and not line.startswith("processed ")]
    return reason(errno_of(error)) + (f" ({said[-1]})" if said else "")
