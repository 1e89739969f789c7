"""The state of containers on disk: `ROOT/ID/record.json`, two FIFOs, a lock.

mkdir claims the id, a rename commits the record, a process is a pid together with its start time. The status is not
written down, it is found out: what a killed runtime left behind is described as it is.

    no live process                                  stopped
    live, and it still holds exec.fifo open          created (creating while the creator is at work)
    live, the FIFO closed by execve                  running, or paused if its cgroup is frozen
"""

import errno
import fcntl
import posix
import time

from pyoci import _native
from pyoci.config.jsonio import JsonError, dumps, loads
from pyoci.errors import ContainerExists, ContainerNotFound, PyociError, StateError, reason
from pyoci.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FORMAT = 1
EXEC_FIFO, RESULT_FIFO, RECORD = "exec.fifo", "result.fifo", "record.json"
# runc's name, which ours had up to 0.1.0: of containers that run while pyoci is upgraded
OLD_RECORD = "state.json"
FOR_EXEC, SECCOMP = "exec.json", "seccomp"  # what only exec reads: settings as JSON, the compiled filter
NOTIFY, NOTIFY_SOCKET = "notify", "notify.sock"  # the folder with the container's socket for sd_notify
_RECORDS = (RECORD, OLD_RECORD)
_TEMPORARY = tuple(f".{name}." for name in _RECORDS)
_OUR_FILES = frozenset((EXEC_FIFO, RESULT_FIFO, *_RECORDS, FOR_EXEC, SECCOMP, NOTIFY))
LOCK_PATIENCE = 10  # seconds
TRACER_PATIENCE = 2  # seconds for a tracer to take note of the end of a process
CLAIM_ATTEMPTS = 100  # as many deletes would have to come right between mkdir and flock
_PF_EXITING = 4
_SIGKILL = 9
_NEW_FILE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_WAY = 0x200000 | posix.O_DIRECTORY | posix.O_CLOEXEC  # O_PATH


def service_manager() -> str:
    """The socket where a service manager waits for the container to be ready (sd_notify(3)), or ""."""
    return posix.environ.get(b"NOTIFY_SOCKET", b"").decode("utf-8", "surrogateescape")


def notify_socket(root: str, id: str) -> str:
    """Where the container's own is, on the host."""
    return f"{root}/{id}/{NOTIFY}/{NOTIFY_SOCKET}"


def open_root(root: str, *, make: bool) -> int:
    """Descriptor of the directory that holds all containers.

    It must be a real directory of ours that no other user can write to, sticky or not: a user who can add a name there
    can add a container, whose hooks we would run. With `make` this makes a missing one. Raises StateError,
    and OSError as open(2) does, such as FileNotFoundError.
    """
    while root.endswith(("/", "/.")) and root != "/":  # a slash behind it would have a symlink followed
        root = root.removesuffix(".").rstrip("/") or "/"
    try:
        fd = posix.open(root, _DIRECTORY)
    except FileNotFoundError:
        if not make:
            raise
        fd = _make_directories(root)
    _check_ours(fd, root)
    return fd


def _check_ours(fd: int, path: str) -> None:
    """Raise StateError, and close `fd`, unless the directory is ours alone."""
    st = posix.fstat(fd)
    if st.st_uid != posix.geteuid() or st.st_mode & 0o022:
        posix.close(fd)
        raise StateError(
            f"cannot use state directory {path}: others can write to it "
            f"(owner {st.st_uid}, mode {st.st_mode & 0o7777:o})"
        )


def _make_directories(path: str) -> int:
    """Make what is missing on the way, and open the last one. Each is made in a directory that is open, and what was
    made is entered through no link: nothing that takes its name meanwhile leads elsewhere. Links on the way that were
    there before are followed."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    at = posix.open("/" if path.startswith("/") else ".", _WAY)
    for index, name in enumerate(names, 1):
        how = _DIRECTORY
        try:
            posix.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            how = _WAY
        try:
            following = posix.open(name, _DIRECTORY if index == len(names) else how, dir_fd=at)
        finally:
            posix.close(at)
        at = following
    return at


class Directory:
    """One container's directory, open and, if asked for, locked."""

    __slots__ = ("_fifos", "_is_old", "_locked", "_root_fd", "fd", "id", "root")

    def __init__(self, root: str, root_fd: int, id: str, fd: int) -> None:
        self.root = root
        self._root_fd = root_fd
        self.id = id
        self.fd = fd
        self._fifos: list[int] = []  # inodes of exec.fifo and result.fifo
        self._is_old = False  # the record has the name that it had before
        self._locked = False

    @classmethod
    def claim(cls, root: str, id: str) -> "Directory":
        """Make the directory, which makes the id ours, and lock it. Raises ContainerExists."""
        try:
            root_fd = open_root(root, make=True)
        except OSError as error:
            hint = ""
            if error.errno == errno.EACCES and posix.geteuid() != 0:
                hint = "a user without privileges sets XDG_RUNTIME_DIR, or --root"
            raise StateError(f"cannot use state directory {root}: {reason(error.errno or 0)}", hint=hint) from error
        for attempt in range(CLAIM_ATTEMPTS):
            try:
                return cls._claimed(root, root_fd, id)
            except (FileNotFoundError, ContainerNotFound) as error:  # deleted between mkdir and lock
                if attempt == CLAIM_ATTEMPTS - 1:
                    posix.close(root_fd)
                    raise StateError(f"cannot create container `{id}`: it was deleted at the same time") from error
            except BaseException:
                posix.close(root_fd)
                raise
        raise AssertionError

    @classmethod
    def _claimed(cls, root: str, root_fd: int, id: str) -> "Directory":
        """One attempt of `claim`. Raises FileNotFoundError or ContainerNotFound if a `delete` was at work meanwhile."""
        try:
            posix.mkdir(id, 0o700, dir_fd=root_fd)
        except FileExistsError as error:
            raise ContainerExists(f"container with given ID already exists: {id}") from error
        except OSError as error:
            raise StateError(f"cannot make state directory {root}/{id}: {reason(error.errno or 0)}") from error
        self = cls(root, root_fd, id, -1)
        try:
            self.fd = posix.open(id, _DIRECTORY, dir_fd=root_fd)
            self._lock()
            if not self.is_empty():  # another create has made it anew, after a `delete` had removed ours
                raise ContainerExists(f"container with given ID already exists: {id}")
        except BaseException as error:
            if self.fd >= 0:
                posix.close(self.fd)
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                posix.rmdir(id, dir_fd=root_fd)
                raise StateError(f"cannot use state directory {root}/{id}: {reason(error.errno or 0)}") from error
            raise
        return self

    @classmethod
    def open(
        cls, root: str, id: str, *, lock: bool = False, meanwhile: "Callable[[Directory], None] | None" = None
    ) -> "Directory":
        """The directory of an existing container. Raises ContainerNotFound.

        `meanwhile` is called with it again and again while another process has the lock.
        """
        try:
            root_fd = open_root(root, make=False)
        except FileNotFoundError as error:
            raise ContainerNotFound(f"container `{id}` does not exist") from error
        except OSError as error:
            raise StateError(f"cannot use state directory {root}: {reason(error.errno or 0)}") from error
        return cls._open_in(root, root_fd, id, lock=lock, meanwhile=meanwhile)

    def again(self, meanwhile: "Callable[[Directory], None] | None" = None) -> "Directory":
        """The directory of this name, locked, in the very root that was opened first, wherever its path leads by now.

        This one is closed. Raises ContainerNotFound.
        """
        root_fd, self._root_fd = self._root_fd, -1
        self.close()
        if root_fd < 0:
            return Directory.open(self.root, self.id, lock=True, meanwhile=meanwhile)
        return Directory._open_in(self.root, root_fd, self.id, lock=True, meanwhile=meanwhile)

    @classmethod
    def _open_in(
        cls, root: str, root_fd: int, id: str, *, lock: bool, meanwhile: "Callable[[Directory], None] | None"
    ) -> "Directory":
        """`open`, in a root that is open; it is closed if that fails."""
        try:
            fd = posix.open(id, _DIRECTORY, dir_fd=root_fd)
        except OSError as error:
            posix.close(root_fd)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                raise StateError(f"cannot use state directory {root}/{id}: {reason(error.errno or 0)}") from error
            raise ContainerNotFound(f"container `{id}` does not exist") from error
        try:
            _check_ours(fd, f"{root}/{id}")
        except StateError:
            posix.close(root_fd)
            raise
        self = cls(root, root_fd, id, fd)
        if lock:
            try:
                self._lock(meanwhile)
            except BaseException:
                self.close()
                raise
        return self

    def _lock(self, meanwhile: "Callable[[Directory], None] | None" = None) -> None:
        """Wait for the lock, and make sure that the name still leads to what is locked."""
        _lock_patiently(self.fd, f"container `{self.id}`", (lambda: meanwhile(self)) if meanwhile else None)
        try:
            now = posix.stat(self.id, dir_fd=self._root_fd, follow_symlinks=False)
        except FileNotFoundError as error:
            raise ContainerNotFound(f"container `{self.id}` does not exist") from error
        held = posix.fstat(self.fd)
        if (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino):
            raise ContainerNotFound(f"container `{self.id}` does not exist")
        self._locked = True

    def unlock(self) -> None:
        """Give up the lock."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        self._locked = False

    def is_locked(self) -> bool:
        """Whether another runtime is at work on this container."""
        if self._locked:
            return False  # to ask the kernel would give up the lock
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    def make_fifos(self) -> tuple[int, int]:
        """The FIFOs between init and `start`, both open for reading and writing: exec.fifo, result.fifo."""
        fds = []
        try:
            for name in (EXEC_FIFO, RESULT_FIFO):
                posix.mkfifo(name, 0o600, dir_fd=self.fd)
                fds.append(posix.open(name, posix.O_RDWR | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.fd))
                self._fifos.append(posix.fstat(fds[-1]).st_ino)
        except OSError:
            for fd in fds:
                posix.close(fd)
            raise
        return fds[0], fds[1]

    def open_fifo(self, name: str, flags: int) -> int:
        """One of the FIFOs, never blocking. Raises OSError; ENXIO: nobody reads it, or it is not the one we made."""
        fd = posix.open(name, flags | posix.O_NONBLOCK | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.fd)
        st = posix.fstat(fd)
        if st.st_mode & 0o170000 != 0o010000 or st.st_ino not in self._fifos:
            posix.close(fd)
            raise OSError(errno.ENXIO, posix.strerror(errno.ENXIO))
        return fd

    def awaits_start(self) -> bool:
        """Whether a process still waits on exec.fifo. Raises BrokenPipeError if it does not, and none was started."""
        try:
            posix.close(self.open_fifo(EXEC_FIFO, posix.O_WRONLY))
        except FileNotFoundError:  # `start` has removed it
            return False
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ELOOP, errno.EISDIR):
                raise BrokenPipeError from error
            raise StateError(f"cannot open {EXEC_FIFO} of container `{self.id}`: {reason(error.errno or 0)}") from error
        return True

    def save(self, record: "dict[str, Any]") -> None:
        """Commit the record. Raises StateError."""
        data = dumps({"pyoci": FORMAT, "fifos": self._fifos, **record}).encode("utf-8", "surrogateescape")
        try:
            files.replace(RECORD, data, 0o600, self.fd)
            if self._is_old:
                posix.unlink(OLD_RECORD, dir_fd=self.fd)
                self._is_old = False
        except OSError as error:
            raise StateError(f"cannot write {self.root}/{self.id}/{RECORD}: {reason(error.errno or 0)}") from error

    def load(self) -> "dict[str, Any]":
        """The record. Raises ContainerNotFound if the directory is another runtime's, StateError if it is broken."""
        for name in (RECORD, OLD_RECORD, RECORD):  # another command may replace the old one between the first two
            try:
                data = files.read(name, self.fd, 32 << 20)
                break
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StateError(f"cannot read {self.root}/{self.id}/{name}: {reason(error.errno or 0)}") from error
        else:
            raise self._missing()
        record = self._parse(name, data)
        if not isinstance(record, dict) or "pyoci" not in record:
            raise self._foreign()
        if record["pyoci"] != FORMAT or not _is_record(record) or record["id"] != self.id:
            raise StateError(f"cannot use {self.root}/{self.id}/{name}: it is not a state of this version")
        self._is_old = name == OLD_RECORD
        self._fifos = record["fifos"]
        return record

    def _missing(self) -> PyociError:
        """Why there is no record."""
        if not self.is_ours():
            return self._foreign()
        if not self._is_there():
            return ContainerNotFound(f"container `{self.id}` does not exist")
        if self.is_locked():
            return StateError(f"container `{self.id}` is being created: it has no {RECORD} yet")
        return StateError(f"container `{self.id}` was left half made: it has no {RECORD}", hint="pyoci delete --force")

    def keep(self, name: str, data: bytes) -> None:
        """Write a file that never changes. Raises StateError."""
        try:
            fd = posix.open(name, _NEW_FILE, 0o600, dir_fd=self.fd)
            try:
                files.write_all(fd, data)
            finally:
                posix.close(fd)
        except OSError as error:
            raise StateError(f"cannot write {self.root}/{self.id}/{name}: {reason(error.errno or 0)}") from error

    def kept(self, name: str) -> bytes:
        """What `keep` wrote. Raises StateError."""
        try:
            return files.read(name, self.fd, 32 << 20)
        except OSError as error:
            if error.errno == errno.ENOENT and not self._is_there():
                raise ContainerNotFound(f"container `{self.id}` does not exist") from error
            raise StateError(f"cannot read {self.root}/{self.id}/{name}: {reason(error.errno or 0)}") from error

    def settings_for_exec(self) -> "dict[str, Any]":
        """What `keep` wrote of them. Raises StateError."""
        settings: dict[str, Any] = self._parse(FOR_EXEC, self.kept(FOR_EXEC))
        return settings

    def _parse(self, name: str, data: bytes) -> "Any":
        try:
            return loads(data)
        except JsonError as error:
            problem = error.problems[0]
            problem.file = ""  # it is of no config.json
            raise StateError(f"cannot read {self.root}/{self.id}/{name}: {problem}") from error

    def _is_there(self) -> bool:
        """Whether nobody has deleted it meanwhile."""
        return posix.fstat(self.fd).st_nlink > 0

    def is_ours(self) -> bool:
        """Whether nothing lies in the directory but what this runtime puts there; engines share one root between
        runtimes.
        """
        return all(name in _OUR_FILES or name.startswith(_TEMPORARY) for name in posix.listdir(self.fd))

    def is_empty(self) -> bool:
        """Whether nothing was put into it yet, or everything removed."""
        return not posix.listdir(self.fd)

    def _foreign(self) -> ContainerNotFound:
        runtime = self._maker()
        if not runtime:
            return ContainerNotFound(
                f"container `{self.id}` does not exist: {self.root}/{self.id} belongs to another runtime"
            )
        return ContainerNotFound(
            f"container `{self.id}` does not exist: {self.root}/{self.id} is a container of {runtime}",
            hint=f"use `{runtime} --root {self.root}` for it",
        )

    def _maker(self) -> str:
        """Which other runtime has made the container, by what only that one puts there; "" for an unknown one."""
        names = posix.listdir(self.fd)
        for runtime, file in (("youki", "youki_config.json"), ("crun", "status"), ("runc", OLD_RECORD)):
            if file in names:
                return runtime
        return ""

    def remove(self) -> None:
        """Remove the files, the record last, then the directory: whoever is killed half way leaves a container that
        can be deleted again.
        """
        try:
            names = posix.listdir(self.fd)
        except OSError:  # there is no descriptor left to read it with
            names = list(_OUR_FILES)
        for name in sorted(names, key=_RECORDS.__contains__):
            try:
                posix.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                continue
            except IsADirectoryError:  # with more inside, of somebody who knows better, it stays, and we say so
                self._remove_folder(name)
        posix.rmdir(self.id, dir_fd=self._root_fd)

    def _remove_folder(self, name: str) -> None:
        if name == NOTIFY:
            try:
                posix.unlink(f"{NOTIFY}/{NOTIFY_SOCKET}", dir_fd=self.fd)
            except FileNotFoundError:
                pass
        posix.rmdir(name, dir_fd=self.fd)

    def make_notify_folder(self) -> int:
        """Make and open the folder where the container will find its socket. Every user may pass; the container
        sees a read-only mount of it."""
        posix.mkdir(NOTIFY, 0o700, dir_fd=self.fd)
        folder = posix.open(NOTIFY, _DIRECTORY, dir_fd=self.fd)
        posix.fchmod(folder, 0o755)
        return folder

    def let_go(self) -> None:
        """Give up the lock and the descriptor, but for the root's: `again` finds it there."""
        if self.fd >= 0:
            posix.close(self.fd)
        self.fd = -1

    def close(self) -> None:
        """Give up the lock and the descriptors; a second time is no error."""
        for fd in (self.fd, self._root_fd):
            if fd >= 0:
                posix.close(fd)
        self.fd = self._root_fd = -1


def _lock_patiently(fd: int, what: str, meanwhile: "Callable[[], None] | None" = None) -> None:
    """Take the lock; raise StateError after LOCK_PATIENCE seconds. `meanwhile` is called before each further attempt.

    This polls: no descriptor tells when a lock becomes free, and the signal of a timer would concern the whole
    program.
    """
    deadline = time.monotonic() + LOCK_PATIENCE
    pause = 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StateError(f"cannot lock {what}: another process has held it for {LOCK_PATIENCE} s") from error
        else:
            return
        if meanwhile is not None:
            meanwhile()
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


# Of a record that is missing, or is no file.
_LASTING = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR)


def is_passing(error: Exception) -> bool:
    """Whether this OSError, or the one that a PyociError comes from, may be about the process and the moment, such as a
    lack of descriptors; of a disk that fails it can't be told. Else it is about the file: there is none, or another."""
    cause = error.__cause__ if isinstance(error, PyociError) else error
    return isinstance(cause, OSError) and cause.errno not in _LASTING


# --- processes -----------------------------------------------------------------------------------------------


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def birth(pid: int) -> "tuple[int, bool]":
    """(start time, whether it was killed already) of a process that was just cloned."""
    fields = _stat(pid)
    if not fields:
        return 0, False
    return int(fields[19]), _is_killed(fields)


def _is_killed(fields: "list[bytes]") -> bool:
    """Whether SIGKILL is pending, or was taken."""
    return bool(int(fields[28]) >> (_SIGKILL - 1) & 1) or int(fields[49]) & 0x7F == _SIGKILL


def is_exiting(pid: int) -> bool:
    """Whether a process is in its end, or beyond it: some of what it had open is closed already."""
    fields = _stat(pid)
    return not fields or bool(int(fields[6]) & _PF_EXITING)


def glance(pid: int) -> "tuple[bytes, int]":
    """The state of a process, as a letter of /proc/PID/stat, and its flags; (b"", 0) if there is no such process."""
    fields = _stat(pid)
    return (fields[0], int(fields[6])) if fields else (b"", 0)


def parent(pid: int) -> int:
    """The process that will be told of the end of `pid`; 0 if there is no such process, or none that we could see."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> "list[bytes]":
    """The fields of /proc/PID/stat from the third one on, the process' state; none if there is no such process."""
    try:
        data = files.read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return data[data.rindex(b")") + 2 :].split()  # the name in parentheses may hold anything


def boot_id() -> str:
    """Identifies this boot: a pid and a start time mean nothing in another one."""
    return files.read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


_TYPES = {
    "annotations": dict, "bootId": str, "bundle": str, "cgroup": dict, "created": str, "fifos": list, "hooks": dict,
    "id": str, "listener": dict, "owner": str, "pid": int, "process": list, "rdt": dict, "rootfs": str,
    "sharesPids": bool, "startOps": dict, "startTime": int, "status": str,
}  # fmt: skip


def _is_record(record: "dict[str, Any]") -> bool:
    """Whether everything is there and of its type; the pid is one, or -1 for a process that was not there yet."""
    if any(type(record.get(key)) is not kind for key, kind in _TYPES.items()):
        return False
    listener = record["listener"]
    if listener and any(type(listener.get(key)) is not str for key in ("path", "metadata")):
        return False
    if not all(type(entries) is list and all(map(_is_hook, entries)) for entries in record["hooks"].values()):
        return False
    pid: int = record["pid"]
    return pid == -1 or 0 < pid < 1 << 31


def _is_hook(entry: "Any") -> bool:
    """Whether it is a hook as `create` has put it there: what has been read as JSON need not be one."""
    if type(entry) is not dict or type(entry.get("path")) is not str or type(entry.get("timeout", 0)) is not int:
        return False
    lists = entry.get("args", []), entry.get("env", [])
    return all(type(texts) is list and all(type(text) is str for text in texts) for texts in lists)


def open_process(record: "dict[str, Any]", *, lasting: bool = False) -> int:
    """A pidfd of the container's init, -1 if it has ended or was never there. What it names was verified after it was
    opened. With `lasting` -1 also for one that nothing keeps from ending. Raises StateError if that can't be found out:
    a live process must not be taken for an ended one.
    """
    if record["pid"] < 0:
        return -1
    try:
        fd = posix.pidfd_open(record["pid"])
    except OSError as error:
        if error.errno in _NO_PROCESS:
            return -1
        raise StateError(f"cannot open process {record['pid']}: {reason(error.errno or 0)}") from error
    try:
        same = _is_same(fd, record, lasting=lasting)
    except OSError as error:
        posix.close(fd)
        raise StateError(f"cannot look at process {record['pid']}: {reason(error.errno or 0)}") from error
    if same:
        return fd
    posix.close(fd)
    return -1


# No such process; or the number is a thread's by now, as some kernels have it EINVAL and others ENOENT.
_NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)


def _is_same(fd: int, record: "dict[str, Any]", *, lasting: bool) -> bool:
    """Whether `fd` is the process that the record describes, and alive."""
    fields = _stat(record["pid"])
    if not fields or int(fields[19]) != record["startTime"] or boot_id() != record["bootId"]:
        return False
    if lasting and (_is_killed(fields) or (int(fields[6]) & _PF_EXITING and int(fields[17]) <= 1)):
        return False  # but a first thread that has ended leaves the process to the others
    return not wait_ended(fd, 0)  # a zombie; but not one whose other threads live on


def send_signal(pidfd: int, signal: int) -> bool:
    """Signal the process; False if it has ended."""
    try:
        _native.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    return True


def wait_ended(pidfd: int, seconds: float) -> bool:
    """Wait for a process to end: the kernel tells. False after `seconds`."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def reap(pid: int, seconds: float) -> "int | None":
    """The wait status of a child that ends within so many seconds.

    None if it does not end, or if its tracer, who hears of the end first, keeps it to itself for TRACER_PATIENCE
    seconds. This polls: no descriptor tells when a tracer lets go.
    """
    pidfd = posix.pidfd_open(pid)
    patience = TRACER_PATIENCE if wait_ended(pidfd, seconds) else 0
    posix.close(pidfd)
    deadline = time.monotonic() + patience
    pause = 0.001
    while True:
        reaped, status = posix.waitpid(pid, posix.WNOHANG)
        if reaped:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def wait_status(pid: int) -> int:
    """The wait status of a child that has ended, and that its tracer has not given back; 0 if it can't be seen."""
    fields = _stat(pid)
    return int(fields[49]) if fields else 0
