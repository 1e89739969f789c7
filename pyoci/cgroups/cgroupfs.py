"""The `fs` driver: cgroups of the v2 hierarchy, through the file system.

    cgroup = Cgroup.create(cgroups_path, id, writes)    directories, controllers
    cgroup.apply(writes)                                limits, before anything runs inside
    cgroup.attach_device_filter(program)
    … clone into cgroup.dirfd …
    cgroup.destroy(kill=True)

Implements "Control groups" of the runtime specification (config-linux.md). Everything is done by descriptor. Nothing
here sleeps: `cgroup.events` says when a cgroup is frozen or empty.
"""

import _struct
import errno
import posix
import select
import time

from pyoci import _native
from pyoci.cgroups.directories import (
    DIRECTORY,
    GONE,
    READ,
    errno_of,
    is_there,
    mkdir_at,
    open_below,
    pids_at,
    read_at,
    read_file,
    remove_unused,
    rmdir_at,
    subtree,
    words_at,
    write_at,
)
from pyoci.cgroups.hierarchy import PATH_POINTER, cgroup_path, find_mount
from pyoci.errors import CgroupError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyoci.cgroups.resources import Write

KEYED = ("io.max", "io.weight", "io.bfq.weight", "rdma.max")  # a line for each device that has a limit

# an extended attribute of a cgroup that was there before the container: its id, a slash, and a number of its own
TAKEN = "trusted.pyoci"
# another one: `before` and `owners` of a container that had it before this one, and was deleted while this one has it
HANDED_ON = "trusted.pyoci.before"
HANDED_ON_MAX = 4096  # bytes
NOBODY = (1 << 32) - 1  # is no user's id

SIGKILL = 9
PATIENCE = 10.0  # seconds that processes get to freeze or to die

# of the record of a cgroup
_MEMBERS = {
    "mount": str, "path": str, "created": list, "inode": int, "filter_id": int, "before": dict, "owners": dict
}  # fmt: skip

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


def check_record(record: "dict[str, Any]") -> None:
    """Raises KeyError or TypeError for what no `to_dict` of a cgroup has made."""
    if any(type(record[key]) is not kind for key, kind in _MEMBERS.items()):
        raise TypeError
    texts = [*record["created"], *record["before"].values(), record.get("mark", "")]
    if any(type(text) is not str for text in texts) or any(type(uid) is not int for uid in record["owners"].values()):
        raise TypeError


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
        return cls(mount, path, [ancestor for ancestor in ancestors if not is_there(mount + ancestor)])

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "Cgroup":
        """The cgroup that `to_dict` described. Raises KeyError or TypeError if that can't have been."""
        check_record(record)
        cgroup = cls(record["mount"], record["path"], record["created"], record["inode"], record["filter_id"])
        cgroup.before, cgroup.owners = record["before"], record["owners"]
        cgroup.mark = record.get("mark", "")
        return cgroup

    def at(self, path: str) -> "Cgroup":
        """The cgroup at `path` of the same hierarchy, which exists. Raises `CgroupError`."""
        try:
            fd = open_below(self.mount, path)
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
        write_at(self.dirfd, "cgroup.procs", str(pid).encode())

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
            return read_at(self.dirfd, name).decode("utf-8", "surrogateescape")
        except OSError as error:
            if errno_of(error) in (*GONE, errno.EOPNOTSUPP):
                return ""
            raise self._failure(f"read {name} of", error) from error

    def delegate(self, uid: int) -> None:
        """Make `uid` the owner of the directory, and of the files in it that the kernel lets a new owner write."""
        for name in (".", *(read_file(DELEGATE) if is_there(DELEGATE) else DELEGATED).split()):
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
            found = pids_at(top, "cgroup.procs")
            if recursive:
                for parent, name in subtree(top):
                    found += pids_at(parent, f"{name}/cgroup.procs")
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise
            return []
        return found

    def frozen(self) -> bool:
        """Whether the processes inside are stopped, or will be: a signal lets a frozen one move for a moment."""
        try:
            asked = read_at(self.dirfd, "cgroup.freeze").startswith(b"1")
            return asked or b"frozen 1" in read_at(self.dirfd, "cgroup.events")
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
                    write_at(self.dirfd, "cgroup.kill", b"1")
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
        is by now, whom nobody kills. Raises `CgroupError` when processes remain; of one that was only planned nobody
        knows whose they are, and it stays.
        """
        deadline = time.monotonic() + timeout
        try:
            if self.path in self.created:
                self._remove(kill, deadline)
            elif self.inode:
                self._leave(kill, deadline)
            for path in reversed(self.created):
                if path != self.path:
                    remove_unused(self.mount, path)
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
                    if mkdir_at(line[-1], name) and path not in self.created:
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
        fd = open_below(self.mount, self.path)
        if posix.fstat(fd).st_ino != self.inode:
            posix.close(fd)
            raise FileNotFoundError(errno.ENOENT, "")
        return fd

    def _check_fitness(self, *, existed: bool) -> None:
        """Refuse a cgroup in which the container could not start, or would not be alone."""
        if not existed and self.path.count("/") == 1:
            return  # a child of the root inherits neither the freezer nor threads
        events = read_at(self.dirfd, "cgroup.events")
        why = ""
        if b"populated 1" in events:
            why = "the container's cgroup is not empty"
        elif b"frozen 1" in events:
            why = "the container's cgroup unexpectedly frozen"
        elif (kind := read_at(self.dirfd, "cgroup.type").strip()) != b"domain" and kind != b"domain threaded":
            why = "it is a threaded cgroup"
        if why:
            raise CgroupError(f"cannot use cgroup {self.path}: {why}", where=PATH_POINTER)

    def _enable(self, line: list[int], writes: "list[Write]") -> None:
        """Enable the controllers of `writes` in every ancestor that does not have them enabled yet."""
        from pyoci.cgroups.resources import controllers  # only create has limits to think of

        needed, spare = controllers(writes)
        if not needed and not spare:
            return
        enabled = words_at(self.dirfd, "cgroup.controllers")
        if all(name in enabled for name in (*needed, *spare)):
            return
        available = words_at(line[0], "cgroup.controllers")
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
        enabled = words_at(self.dirfd, "cgroup.controllers")
        rest = [name for name in words_at(line[0], "cgroup.controllers") if name not in enabled]
        for fd in line if rest else ():
            given = words_at(fd, "cgroup.subtree_control")
            if not _try_enable(fd, [name for name in rest if name not in given]):
                # one of them can't: a cgroup with processes of its own has some to give, and others not
                rest = [name for name in rest if name in given or _try_enable(fd, [name])]

    def _enable_one(self, name: str, line: list[int], writes: "list[Write]", *, tolerant: bool) -> None:
        parts = self.path.split("/")
        for depth, fd in enumerate(line):
            if name in words_at(fd, "cgroup.subtree_control"):
                continue
            try:
                write_at(fd, "cgroup.subtree_control", f"+{name}".encode())
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
            usage = int(read_at(self.dirfd, write.usage))
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
            write_at(self.dirfd, write.file, (write.value or "\n").encode())
        except OSError as error:
            missing = error.errno == errno.ENOENT
            if error.errno in GONE and not self._exists():
                raise CgroupError(f"cannot limit cgroup {self.path}: it was removed", where=write.where) from error
            if missing and write.default:
                return
            if missing and write.otherwise:
                self._apply(write.otherwise)
                return
            what = f"cannot set {write.asked}: " if write.asked else ""
            raise CgroupError(
                f"{what}cannot write `{write.value}` to {write.file} of cgroup {self.path}: {reason(errno_of(error))}",
                where=write.where,
                hint="this kernel has no such file" if missing else "",
            ) from error

    def _keep(self, file: str) -> None:
        """What it holds, for the end of the container."""
        try:
            self.before.setdefault(file, read_at(self.dirfd, file).decode())
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
            write_at(self.dirfd, "cgroup.freeze", b"1" if frozen else b"0")
            # Who has ended need not be let go; and of a cgroup whose processes were killed while they were frozen
            # Linux may never take `frozen 1` back, if there is another cgroup below.
            if self._wait(deadline, *((b"frozen 1",) if frozen else (b"frozen 0", b"populated 0"))):
                return
            if frozen:
                write_at(self.dirfd, "cgroup.freeze", b"0")
        except OSError as error:
            raise self._failure(verb, error) from error
        hint = "" if frozen else "an ancestor may be frozen"
        raise CgroupError(f"cannot {verb} cgroup {self.path}: not done after {timeout:g} s", hint=hint)

    def _wait(self, deadline: float, *states: bytes) -> bool:
        """Wait until cgroup.events has one of the lines `states`; False when `deadline` came first."""
        fd = posix.open("cgroup.events", READ, dir_fd=self.dirfd)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            # A read arms the file, a change after it ends the poll: nothing can slip in between.
            while True:
                events = posix.pread(fd, 4096, 0)
                if any(state in events for state in states):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poll.poll(left * 1000)
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
            parent = open_below(self.mount, parent_path)
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise
            return
        try:
            self._empty_and_remove(name, parent, kill, deadline)
        except OSError as error:
            if error.errno not in GONE:
                raise
        finally:
            posix.close(parent)

    def _empty_and_remove(self, name: str, parent: int, kill: bool, deadline: float) -> None:
        for _ in range(RMDIR_ATTEMPTS):
            if rmdir_at(parent, name):
                return
            if not self.inode and self._dirfd < 0:
                # only planned, as far as the record goes: whatever has the name now
                self._dirfd = posix.open(name, DIRECTORY, dir_fd=parent)
            if self._is_taken():
                return
            if kill:
                self.kill()
            if not self._wait(deadline, b"populated 0"):
                if self.inode:
                    raise self._still_populated()
                self.warnings.append(f"cgroup {self.path} stays: the processes in it may be anybody's")
                return
            for above, child in subtree(self.dirfd) if self.inode else ():
                rmdir_at(above, child)
            posix.sched_yield()  # the last process may still be on its way out of a processor
        if self.inode:
            raise OSError(errno.EBUSY, "")
        self.warnings.append(f"cgroup {self.path} stays: what is in it may be anybody's")

    def _leave(self, kill: bool, deadline: float) -> None:
        """Empty a cgroup that is not ours to remove, take off our device program, and give back what we changed."""
        try:
            taken = self._is_taken()
            if kill and not taken:
                self.kill()
                if not self._wait(deadline, b"populated 0"):
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
                lines = [*_lifted(old, read_at(self.dirfd, file).decode()), *(line for line in lines if line)]
            for line in lines:
                try:
                    write_at(self.dirfd, file, (line or "\n").encode())
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


def _try_enable(fd: int, controllers: "list[str]") -> bool:
    """Enable controllers, all or none; whether it could be done."""
    try:
        if controllers:
            write_at(fd, "cgroup.subtree_control", " ".join(f"+{controller}" for controller in controllers).encode())
    except OSError:
        return False
    return True


def _no_controller(name: str, mount: str, where: str) -> CgroupError:
    hint = ""
    for line in read_file("/proc/cgroups").split("\n"):
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
