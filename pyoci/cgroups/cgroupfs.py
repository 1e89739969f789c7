"""The `cgroupfs` driver: it creates cgroups of the v2 hierarchy through the file system.

    cgroup = Cgroup.create(cgroups_path, id, writes)    directories, controllers
    cgroup.apply(writes)                                limits, before any process is inside
    cgroup.attach_device_filter(program)
    … clone into cgroup.dirfd …
    cgroup.destroy(kill=True)

Implements "Control groups" of the runtime specification (config-linux.md). Every access goes through a descriptor of
the directory. Nothing here sleeps: the kernel reports in `cgroup.events` when a cgroup is frozen or empty.
"""

import errno
import posix
import time

from pyoci import _native
from pyoci.cgroups import controllers, freezer, takeover
from pyoci.cgroups.directories import (
    DIRECTORY,
    GONE,
    errno_of,
    failure,
    is_there,
    mkdir_at,
    open_below,
    pids_at,
    pids_below,
    read_at,
    read_file,
    remove_unused,
    rmdir_at,
    subtree,
    write_at,
)
from pyoci.cgroups.freezer import EMPTY, FROZEN, TIMEOUT
from pyoci.cgroups.hierarchy import PATH_POINTER, cgroup_path, find_mount
from pyoci.errors import CgroupError, reason
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyoci.cgroups.resources import Write

# Members of the record, and their types.
_MEMBERS = {
    "mount": str, "path": str, "created": list, "inode": int, "filter_id": int, "before": dict, "owners": dict
}  # fmt: skip

MAX_WALKS = 16  # another runtime may remove a parent that it made while we walk through it
MAX_RMDIRS = 256  # attempts on an empty cgroup; if they all fail, something is mounted on it

# The files that a delegated cgroup's new owner may write. The kernel lists more if it has more.
DELEGATE = "/sys/kernel/cgroup/delegate"
DELEGATED = "cgroup.procs cgroup.subtree_control cgroup.threads"

MKDIR_HINTS = {
    errno.EAGAIN: "an ancestor's cgroup.max.depth or cgroup.max.descendants is reached",
    errno.EROFS: "the cgroup2 mount is read-only here",
}


def check_record(record: "dict[str, Any]") -> None:
    """Raise TypeError unless `Cgroup.to_dict` can have made this record."""
    if not _native.has_types(record, _MEMBERS):
        raise TypeError
    texts = [*record["created"], *record["before"].values(), record.get("mark", "")]
    if {*map(type, texts)} != {str} or not {*map(type, record["owners"].values())} <= {int}:
        raise TypeError


class Cgroup:
    """A container's cgroup. `driver.Driver` documents the methods that all drivers have.

    mount       where the hierarchy is mounted
    path        path of the cgroup below the mount: `/docker/4f1e…`
    created     paths that `create` made, from the top down; `destroy` keeps all others
    inode       identifies the directory: a later directory of the same name is another cgroup. 0: it is only planned
    filter_id   id of the device program that `destroy` detaches from a cgroup that existed before; else 0
    originals   what the container found in a cgroup that existed before
    owner_mark  what the container left in such a cgroup to find out later whether it still owns it
    rootless    whether the caller lacks the host's root, and so may not give the cgroup to every user
    """

    __slots__ = (
        *("_dirfd", "created", "filter_id", "inode", "mount", "originals", "owner_mark", "path", "rootless"),
        "warnings",
    )

    driver = "cgroupfs"
    manager_moves_processes = False

    def __init__(self, mount: str, path: str, created: list[str], inode: int = 0, filter_id: int = 0) -> None:
        self.mount = mount
        self.path = path
        self.created = created
        self.inode = inode
        self.filter_id = filter_id
        self.originals = takeover.Originals()
        self.owner_mark = ""
        self.warnings: list[str] = []
        self.rootless = False
        self._dirfd = -1

    @classmethod
    def create(
        cls, cgroups_path: str, id: str, writes: "list[Write]", mount: str = "", *, rootless: bool = False
    ) -> "Cgroup":
        """Create the cgroup, with the controllers that `writes` need and all others that are available.

        Uses an existing cgroup if it is empty and not frozen. Raises CgroupError with the pointer of the path or of a
        limit, and then leaves no directory behind.
        """
        path = cgroup_path(cgroups_path, id)
        cgroup = cls(mount or find_mount(), path, [])
        cgroup.rootless = rootless
        try:
            ancestors = cgroup._make_directories()
            try:
                cgroup._check_usable(existed=path not in cgroup.created)
                if path not in cgroup.created:
                    cgroup.owner_mark = takeover.write_owner_mark(cgroup.dirfd, id)
                controllers.enable(cgroup.dirfd, path, cgroup.mount, ancestors, writes)
                controllers.enable_available(cgroup.dirfd, ancestors)
            finally:
                for fd in ancestors:
                    posix.close(fd)
        except BaseException:
            cgroup.destroy()
            raise
        return cgroup

    @classmethod
    def planned(cls, cgroups_path: str, id: str, mount: str) -> "Cgroup":
        """Return what `create` is about to make, to record it: the runtime may be killed in between."""
        path = cgroup_path(cgroups_path, id)
        parts = path[1:].split("/")
        ancestors = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
        mount = mount or find_mount()
        return cls(mount, path, [ancestor for ancestor in ancestors if not is_there(mount + ancestor)])

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "Cgroup":
        """Return the cgroup that `to_dict` described. Raises KeyError or TypeError for any other record."""
        check_record(record)
        cgroup = cls(record["mount"], record["path"], record["created"], record["inode"], record["filter_id"])
        cgroup.originals.values, cgroup.originals.owners = record["before"], record["owners"]
        cgroup.owner_mark = record.get("mark", "")
        return cgroup

    def to_dict(self) -> "dict[str, object]":
        """Return what later commands need to find the cgroup again, as JSON values."""
        return {
            "driver": self.driver,
            "mount": self.mount,
            "path": self.path,
            "created": self.created,
            "inode": self.inode,
            "filter_id": self.filter_id,
            "before": self.originals.values,
            "owners": self.originals.owners,
            "mark": self.owner_mark,
        }

    @staticmethod
    def existing(mount: str, path: str) -> "Cgroup":
        """Return the cgroup at `path`, which exists and belongs to some other program. Raises CgroupError."""
        try:
            fd = open_below(mount, path)
        except OSError as error:
            raise failure("use", path, error) from error
        found = Cgroup(mount, path, [], posix.fstat(fd).st_ino)
        found._dirfd = fd
        return found

    def child(self, below: str) -> "Cgroup":
        """Return the existing cgroup `below` this one, "/a/b". Raises CgroupError."""
        return self.existing(self.mount, self.path + below)

    @property
    def dirfd(self) -> int:
        """A descriptor of the directory, for CLONE_INTO_CGROUP. Raises CgroupError if the cgroup is gone."""
        if self._dirfd < 0:
            try:
                self._dirfd = self._open()
            except OSError as error:
                raise failure("open", self.path, error) from error
        return self._dirfd

    def close(self) -> None:
        """Close the descriptor."""
        if self._dirfd >= 0:
            posix.close(self._dirfd)
            self._dirfd = -1

    def apply(self, writes: "list[Write]") -> None:
        """Write the limits. Raises CgroupError with the pointer of the limit that the kernel rejects."""
        for write in writes:
            if write.usage:
                self._check_usage(write)
        for write in writes:
            self._apply(write)

    def add(self, pid: int) -> None:
        """Move a process into the cgroup."""
        write_at(self.dirfd, "cgroup.procs", str(pid).encode())

    def rounded(self, writes: "list[Write]") -> "list[Write]":
        """Return `writes` unchanged: no manager rounds them."""
        return writes

    def notify_manager(self, writes: "list[Write]") -> None:
        """Do nothing: there is no manager."""

    def enable(self, writes: "list[Write]") -> None:
        """Enable the controllers that `writes` need in a cgroup that exists. Raises CgroupError."""
        ancestors: list[int] = []
        try:
            ancestors.append(posix.open(self.mount, DIRECTORY))
            for name in self.path[1:].split("/")[:-1]:
                ancestors.append(posix.open(name, DIRECTORY, dir_fd=ancestors[-1]))
            controllers.enable(self.dirfd, self.path, self.mount, ancestors, writes)
        except OSError as error:
            raise failure("open", self.path, error) from error
        finally:
            for fd in ancestors:
                posix.close(fd)

    def read(self, name: str) -> str:
        """Return the content of a file, "" if there is none. Raises CgroupError."""
        try:
            return read_at(self.dirfd, name).decode("utf-8", "surrogateescape")
        except OSError as error:
            if errno_of(error) in (*GONE, errno.EOPNOTSUPP):
                return ""
            raise failure(f"read {name} of", self.path, error) from error

    def delegate(self, uid: int) -> None:
        """Make `uid` the owner of the directory and of the files that the kernel lets a new owner write.

        Without root, this skips a uid that only root may give files to.
        """
        for name in (".", *(read_file(DELEGATE) if is_there(DELEGATE) else DELEGATED).split()):
            try:
                if self.path not in self.created:
                    self.originals.save_owner(self.dirfd, name)
                posix.chown(name, uid, -1, dir_fd=self.dirfd, follow_symlinks=False)
            except FileNotFoundError:
                pass  # the file of a controller that this cgroup does not have
            except PermissionError:
                if not self.rootless:
                    raise
                return

    def attach_device_filter(self, program: bytes, where: str = "/linux/resources/devices") -> None:
        """Load and attach a program of `device_filter.compile_rules`. Ignores b"", which allows everything.

        Raises CgroupError.
        """
        if not program:
            return
        from pyoci.cgroups import device_program  # only create and update load this

        program_id = device_program.attach(self.dirfd, program, where)
        if self.path not in self.created:
            self.filter_id = program_id

    # Processes

    def pids(self, *, recursive: bool = True) -> list[int]:
        """Return the container's processes; none if the cgroup is gone or another container has taken it over."""
        try:
            if takeover.new_owner(self.dirfd, self.owner_mark):
                return []
            return pids_below(self.dirfd) if recursive else pids_at(self.dirfd, "cgroup.procs")
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise
            return []

    def is_frozen(self) -> bool:
        """Whether the processes are stopped, or about to stop; False if the cgroup is gone. Raises CgroupError."""
        try:
            return freezer.is_frozen(self.dirfd, self.path)
        except CgroupError as error:
            if errno_of(error) not in GONE:
                raise
            return False

    def freeze(self, timeout: float = TIMEOUT) -> None:
        """Stop every process and wait until they have stopped. Raises CgroupError after `timeout` seconds."""
        freezer.freeze(self.dirfd, self.path, timeout)

    def thaw(self, timeout: float = TIMEOUT) -> None:
        """Resume every process. Raises CgroupError after `timeout` seconds."""
        freezer.thaw(self.dirfd, self.path, timeout)

    def kill(self, signal: int = SIGKILL) -> bool:
        """Send `signal` to every process in the cgroup.

        Returns False if the cgroup is only planned: then the caller must signal the processes that it knows. Ignores
        a cgroup that is gone, and one that another container has taken over: it had no process of this container then.
        """
        if not self.inode:
            return False
        try:
            if not takeover.new_owner(self.dirfd, self.owner_mark):
                freezer.signal_all(self.dirfd, self.path, signal, self.pids)
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise
        return True

    def accept_own_mark(self, is_alive: "Callable[[], bool]") -> None:
        """Accept any owner mark as this container's own while its init `is_alive`.

        No container can take over a cgroup with processes in it. So a foreign mark comes from root of this container,
        who may write it with every capability.
        """
        try:
            mark = takeover.read_owner_mark(self.dirfd)
        except CgroupError:
            return  # it is gone, or a later access reports the error
        finally:
            self.close()  # a later access has to find out whether it is gone
        if mark != self.owner_mark and is_alive():
            self.owner_mark = mark

    # The end

    def destroy(self, *, kill: bool = False, timeout: float = TIMEOUT) -> None:
        """Remove what `create` made: the cgroup with all below it, and its ancestors unless others use them.

        With `kill` this kills the processes inside; otherwise they get `timeout` seconds to end. It

        - ignores a cgroup that is gone
        - keeps a cgroup that existed before `create`, and restores what the container changed in it
        - keeps a cgroup that another container has taken over, and does not kill its processes
        - keeps a cgroup that is only planned if processes are in it, since they may belong to others
        - fails with CgroupError if processes remain.
        """
        deadline = time.monotonic() + timeout
        try:
            if self.path in self.created:
                self._remove(kill, deadline)
            elif self.inode:
                self._release_existing(kill, deadline)
            for path in reversed(self.created):
                if path != self.path:
                    remove_unused(self.mount, path)
        except OSError as error:
            raise failure("remove", self.path, error) from error
        finally:
            self.close()

    def _remove(self, kill: bool, deadline: float) -> None:
        parent_path, _, name = self.path.rpartition("/")
        try:
            if self.inode:
                self.dirfd  # noqa: B018  it fails unless the directory is still this container's
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
        for _ in range(MAX_RMDIRS):
            if rmdir_at(parent, name):
                return
            if not self.inode and self._dirfd < 0:
                # The record is from before `create` made it: take the directory that has the name now.
                self._dirfd = posix.open(name, DIRECTORY, dir_fd=parent)
            if self._is_taken_over():
                return
            if kill:
                self.kill()
            if not freezer.wait_for(self.dirfd, deadline, EMPTY):
                if self.inode:
                    raise self._still_populated()
                self.warnings.append(f"cgroup {self.path} stays: its processes may not be the container's")
                return
            for above, child in subtree(self.dirfd) if self.inode else ():
                rmdir_at(above, child)
            posix.sched_yield()  # the last process may still be leaving a CPU
        if self.inode:
            raise OSError(errno.EBUSY, "")
        self.warnings.append(f"cgroup {self.path} stays: its content may not be the container's")

    def _release_existing(self, kill: bool, deadline: float) -> None:
        """Empty a cgroup that existed before, detach the device program, and restore what the container changed."""
        try:
            taken_over = self._is_taken_over()
            if kill and not taken_over:
                self.kill()
                if not freezer.wait_for(self.dirfd, deadline, EMPTY):
                    raise self._still_populated()
            if self.filter_id:
                from pyoci.cgroups import device_program

                device_program.detach(self.dirfd, self.filter_id)
            if taken_over:
                self.originals.hand_over(self.dirfd)
            else:
                self.originals.inherit(self.dirfd)
                self.originals.restore(self.dirfd)
                takeover.remove_marks(self.dirfd)
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise

    def _is_taken_over(self) -> bool:
        owner = takeover.new_owner(self.dirfd, self.owner_mark)
        if owner:
            self.warnings.append(f"cgroup {self.path} stays: container {owner} has taken it over")
        return bool(owner)

    def _still_populated(self) -> CgroupError:
        pids = self.pids()
        some = " ".join(map(str, pids[:8])) + (" …" if len(pids) > 8 else "")
        return CgroupError(f"cannot remove cgroup {self.path}: it still has processes: {some}")

    # The directories

    def _make_directories(self) -> list[int]:
        """Create the directories and keep a descriptor of the cgroup. Returns those from the mount to its parent."""
        for attempt in range(MAX_WALKS):
            ancestors: list[int] = []
            path = ""
            try:
                ancestors.append(posix.open(self.mount, DIRECTORY))
                for name in self.path[1:].split("/"):
                    path += f"/{name}"
                    if mkdir_at(ancestors[-1], name) and path not in self.created:
                        self.created.append(path)
                    ancestors.append(posix.open(name, DIRECTORY, dir_fd=ancestors[-1]))
                self._dirfd = ancestors.pop()
                status = posix.fstat(self._dirfd)
                if status.st_dev != posix.fstat(ancestors[0]).st_dev:
                    raise CgroupError(
                        f"cannot use cgroup {self.path}: something is mounted over it", where=PATH_POINTER
                    )
                self.inode = status.st_ino
                return ancestors
            except BaseException as error:
                for fd in ancestors:
                    posix.close(fd)
                if not isinstance(error, OSError):
                    raise
                if error.errno not in GONE or not path or attempt == MAX_WALKS - 1:
                    raise CgroupError(
                        f"cannot create cgroup {self.path}: {reason(errno_of(error))}",
                        where=PATH_POINTER,
                        hint=MKDIR_HINTS.get(errno_of(error), ""),
                    ) from error
        raise AssertionError("unreachable")

    def _open(self) -> int:
        """Open this very cgroup, not a later one with its name. Raises OSError."""
        fd = open_below(self.mount, self.path)
        if _native.stat_at("", fd)[2] != self.inode:
            posix.close(fd)
            raise FileNotFoundError(errno.ENOENT, "")
        return fd

    def _check_usable(self, *, existed: bool) -> None:
        """Reject a cgroup in which the container could not start, or would not be alone."""
        if not existed and self.path.count("/") == 1:
            return  # a child of the root inherits neither the freezer's state nor a threaded type
        events = read_at(self.dirfd, "cgroup.events")
        why = ""
        if b"populated 1" in events:
            why = "the container's cgroup is not empty"
        elif FROZEN in events:
            why = "the container's cgroup unexpectedly frozen"
        elif (kind := read_at(self.dirfd, "cgroup.type").strip()) != b"domain" and kind != b"domain threaded":
            why = "it is a threaded cgroup"
        if why:
            raise CgroupError(f"cannot use cgroup {self.path}: {why}", where=PATH_POINTER)

    def _exists(self) -> bool:
        try:
            posix.stat("cgroup.procs", dir_fd=self.dirfd)
        except OSError:
            return False
        return True

    # Limits

    def _check_usage(self, write: "Write") -> None:
        try:
            usage = int(read_at(self.dirfd, write.usage))
        except OSError as error:
            if errno_of(error) not in GONE:
                raise failure(f"read {write.usage} of", self.path, error) from error
            return  # the kernel does not count it
        if int(write.value) < usage:
            raise CgroupError(f"cannot set {write.file} to {write.value}: {usage} are in use", where=write.where)

    def _apply(self, write: "Write") -> None:
        if self.path not in self.created:
            self.originals.save_value(self.dirfd, write.file)
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


__all__ = ["Cgroup", "check_record"]
