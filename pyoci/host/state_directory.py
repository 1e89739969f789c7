"""A container's state directory: `ROOT/ID/` with record.json, two FIFOs and a lock.

mkdir claims the id, a rename commits the record, and flock on the directory is the lock. The record does not hold the
container's status. Each command finds it out, so a container of a killed runtime is described as it is:

    no live process                                  stopped
    live, and it still holds exec.fifo open          created (creating while create holds the lock)
    live, and execve has closed the FIFO             running, or paused if its cgroup is frozen
"""

import errno
import fcntl
import posix
import time

from pyoci import _native
from pyoci.config.jsonio import JsonError, dumps, loads
from pyoci.errors import ContainerExists, ContainerNotFound, PyociError, StateError, reason
from pyoci.host import files
from pyoci.host.state_root import open_root, require_private
from pyoci.linux import S_IFIFO, S_IFMT
from pyoci.record import ExecSettings, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FORMAT = 1
EXEC_FIFO, RESULT_FIFO, RECORD = "exec.fifo", "result.fifo", "record.json"
# The record's name up to 0.1.0, which is runc's. Containers that run while pyoci is upgraded have it.
OLD_RECORD = "state.json"
EXEC_SETTINGS, SECCOMP = "exec.json", "seccomp"  # read by exec alone: settings as JSON, the compiled filter
NOTIFY, NOTIFY_SOCKET = "notify", "notify.sock"  # the directory with the container's socket for sd_notify
_RECORDS = (RECORD, OLD_RECORD)
_TEMPORARY = tuple(f".{name}." for name in _RECORDS)
_OUR_FILES = frozenset((EXEC_FIFO, RESULT_FIFO, *_RECORDS, EXEC_SETTINGS, SECCOMP, NOTIFY))
MAX_FILE = 32 << 20  # bytes
LOCK_TIMEOUT = 10  # seconds
MAX_CLAIMS = 100  # each retry needs a `delete` between mkdir and flock
_NEW_FILE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
# The file does not exist, or is not a regular file that may be opened.
_LASTING = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR)


def notify_socket_of_caller() -> str:
    """Return the socket where a service manager waits for the container to be ready (sd_notify(3)), or ""."""
    return posix.environ.get(b"NOTIFY_SOCKET", b"").decode("utf-8", "surrogateescape")


def notify_socket(root: str, id: str) -> str:
    """Return the host path of the container's own socket for sd_notify."""
    return f"{root}/{id}/{NOTIFY}/{NOTIFY_SOCKET}"


def parse_record(document: "dict[str, Any]") -> "tuple[Record, list[int]]":
    """Return the record in the document of record.json, and the inodes of its FIFOs. Raises ValueError, KeyError."""
    if document["pyoci"] != FORMAT or type(document.get("fifos")) is not list:
        raise ValueError("pyoci")
    return Record.from_dict(document), document["fifos"]


def is_transient(error: Exception) -> bool:
    """Whether an OSError, or the OSError behind a PyociError, may come from the moment, such as a lack of descriptors.

    Otherwise it comes from the file, which is missing or of another type. A failing disk counts as transient.
    """
    cause = error.__cause__ if isinstance(error, PyociError) else error
    return isinstance(cause, OSError) and cause.errno not in _LASTING


class StateDirectory:
    """The open directory of one container, locked on request."""

    __slots__ = ("_fifos", "_is_old", "_locked", "_prepared", "_root_fd", "fd", "id", "root")

    def __init__(self, root: str, root_fd: int, id: str, fd: int) -> None:
        self.root = root
        self._root_fd = root_fd
        self.id = id
        self.fd = fd
        self._fifos: list[int] = []  # inodes of exec.fifo and result.fifo
        self._is_old = False  # the record has its old name
        self._prepared = "", b""  # the temporary name and the content of a record that `prepare` wrote
        self._locked = False

    @property
    def root_fd(self) -> int:
        """The descriptor of the directory that holds all containers."""
        return self._root_fd

    # --- opening and closing

    @classmethod
    def claim(cls, root: str, id: str) -> "StateDirectory":
        """Create and lock the directory, which claims the id. Raises ContainerExists, StateError."""
        try:
            root_fd = open_root(root, create=True)
        except OSError as error:
            hint = ""
            if error.errno == errno.EACCES and posix.geteuid() != 0:
                hint = "set XDG_RUNTIME_DIR or pass --root"
            raise StateError(f"cannot use state directory {root}: {reason(error.errno or 0)}", hint=hint) from error
        for attempt in range(MAX_CLAIMS):
            try:
                return cls._claim_once(root, root_fd, id)
            except (FileNotFoundError, ContainerNotFound) as error:  # deleted between mkdir and lock
                if attempt == MAX_CLAIMS - 1:
                    posix.close(root_fd)
                    raise StateError(f"cannot create container `{id}`: it was deleted at the same time") from error
            except BaseException:
                posix.close(root_fd)
                raise
        raise AssertionError

    @classmethod
    def _claim_once(cls, root: str, root_fd: int, id: str) -> "StateDirectory":
        """Try `claim` once. Raises FileNotFoundError or ContainerNotFound if a `delete` interfered."""
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
            if not self.is_empty():  # a `delete` has removed ours, and another create has made its own
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
    def open(cls, root: str, id: str, root_fd: int = -1) -> "StateDirectory":
        """Open the directory of an existing container, unlocked. Raises ContainerNotFound, StateError.

        `root_fd` is the open root, which stays the caller's.
        """
        return cls._open_in(root, _root_of_existing(root, id, root_fd), id)

    def reopen_locked(self, while_waiting: "Callable[[StateDirectory], None] | None" = None) -> "StateDirectory":
        """Open and lock the directory of the same name in the same root, wherever the root's path leads by now.

        This closes the old one. It calls `while_waiting` with the new one again and again as long as another process
        holds the lock. Raises ContainerNotFound, StateError.
        """
        root_fd, self._root_fd = self._root_fd, -1
        self.close()
        if root_fd < 0:
            root_fd = _root_of_existing(self.root, self.id)
        opened = StateDirectory._open_in(self.root, root_fd, self.id)
        try:
            opened._lock(while_waiting)
        except BaseException:
            opened.close()
            raise
        return opened

    @classmethod
    def _open_in(cls, root: str, root_fd: int, id: str) -> "StateDirectory":
        """Open a container's directory in an open root, which this closes if it fails."""
        try:
            fd = posix.open(id, _DIRECTORY, dir_fd=root_fd)
        except OSError as error:
            posix.close(root_fd)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                raise StateError(f"cannot use state directory {root}/{id}: {reason(error.errno or 0)}") from error
            raise ContainerNotFound(f"container `{id}` does not exist") from error
        try:
            require_private(fd, f"{root}/{id}")
        except StateError:
            posix.close(root_fd)
            raise
        return cls(root, root_fd, id, fd)

    def release(self) -> None:
        """Release the lock and close the directory; the root stays open for `reopen_locked`."""
        if self._locked:
            try:
                self.unlock()  # a process that was cloned meanwhile may share the lock
            except OSError:  # closing the directory is enough for all others, and the program may run already
                self._locked = False
        if self.fd >= 0:
            posix.close(self.fd)
        self.fd = -1

    def close(self) -> None:
        """Release the lock and close both descriptors. A second call does nothing."""
        for fd in (self.fd, self._root_fd):
            if fd >= 0:
                posix.close(fd)
        self.fd = self._root_fd = -1
        self._locked = False

    # --- the lock

    @property
    def has_lock(self) -> bool:
        """Whether this object holds the lock."""
        return self._locked

    def lock_at_once(self) -> bool:
        """Lock the open directory. Returns False if another process has the lock, or if the id has a new directory."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._locked = self._is_current()
        if not self._locked:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        return self._locked

    def _lock(self, while_waiting: "Callable[[StateDirectory], None] | None" = None) -> None:
        """Wait for the lock. Raises ContainerNotFound if the id names another directory by then, StateError."""
        _wait_for_lock(self.fd, self.id, (lambda: while_waiting(self)) if while_waiting else None)
        if not self._is_current():
            raise ContainerNotFound(f"container `{self.id}` does not exist")
        self._locked = True

    def _is_current(self) -> bool:
        """Whether the id still names the open directory."""
        try:
            now = posix.stat(self.id, dir_fd=self._root_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        opened = posix.fstat(self.fd)
        return (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)

    def unlock(self) -> None:
        """Release the lock, and keep the directory open."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        self._locked = False

    def is_locked(self) -> bool:
        """Whether another process holds the lock."""
        if self._locked:
            return False  # testing it through this descriptor would release our own lock
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    # --- the record

    def prepare(self, record: Record) -> None:
        """Write a new record to a file of its own. If the next `save` gets the same record, it only has to rename it.

        Raises StateError.
        """
        data = self._document(record)
        try:
            self._prepared = files.write_beside(RECORD, data, 0o600, self.fd), data
        except OSError as error:
            raise StateError(f"cannot write {self._path(RECORD)}: {reason(error.errno or 0)}") from error

    def save(self, record: Record) -> None:
        """Replace record.json atomically. Raises StateError."""
        data = self._document(record)
        (temporary, prepared), self._prepared = self._prepared, ("", b"")
        try:
            if data == prepared:
                posix.rename(temporary, RECORD, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            else:
                files.replace(RECORD, data, 0o600, self.fd)
                if temporary:
                    posix.unlink(temporary, dir_fd=self.fd)
            if self._is_old:
                posix.unlink(OLD_RECORD, dir_fd=self.fd)
                self._is_old = False
        except OSError as error:
            raise StateError(f"cannot write {self._path(RECORD)}: {reason(error.errno or 0)}") from error

    def _document(self, record: Record) -> bytes:
        document = {"pyoci": FORMAT, "fifos": self._fifos, **record.to_dict()}
        return dumps(document).encode("utf-8", "surrogateescape")

    def load(self) -> Record:
        """Read the record. Raises ContainerNotFound if another runtime made the directory, else StateError."""
        name, data = self._read_record()
        document = self._parse(name, data)
        if type(document) is not dict or "pyoci" not in document:
            raise self._foreign()
        try:
            record, self._fifos = parse_record(document)
            if record.id != self.id:
                raise ValueError("id")
        except ValueError as error:
            raise StateError(f"cannot use {self._path(name)}: it is not a state of this version") from error
        self._is_old = name == OLD_RECORD
        return record

    def _read_record(self) -> "tuple[str, bytes]":
        """Return the name of the record's file, and its contents."""
        for name in (RECORD, OLD_RECORD, RECORD):  # another command may rename it between the first two attempts
            try:
                return name, files.read_regular(name, self.fd, MAX_FILE)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StateError(f"cannot read {self._path(name)}: {reason(error.errno or 0)}") from error
        raise self._missing()

    def _missing(self) -> PyociError:
        """Return the error for a directory without a record."""
        if not self.is_ours():
            return self._foreign()
        if not self._exists():
            return ContainerNotFound(f"container `{self.id}` does not exist")
        if self.is_locked():
            return StateError(f"container `{self.id}` is being created: it has no {RECORD} yet")
        return StateError(
            f"container `{self.id}` was left half made: it has no {RECORD}", hint="run `pyoci delete --force`"
        )

    def _foreign(self) -> ContainerNotFound:
        """Return the error for a container of another runtime."""
        missing = f"container `{self.id}` does not exist: {self._path()}"
        runtime = self._runtime()
        if not runtime:
            return ContainerNotFound(f"{missing} belongs to another runtime")
        return ContainerNotFound(
            f"{missing} is a container of {runtime}", hint=f"use `{runtime} --root {self.root}` for it"
        )

    def _runtime(self) -> str:
        """Return which other runtime made the container, by a file that only it writes; "" if unknown."""
        names = _native.list_names(self.fd)
        for runtime, file in (("youki", "youki_config.json"), ("crun", "status"), ("runc", OLD_RECORD)):
            if file in names:
                return runtime
        return ""

    # --- other files

    def write_once(self, name: str, data: bytes) -> None:
        """Write a new file, which will never change. Raises StateError."""
        try:
            fd = posix.open(name, _NEW_FILE, 0o600, dir_fd=self.fd)
            try:
                files.write_all(fd, data)
            finally:
                posix.close(fd)
        except OSError as error:
            raise StateError(f"cannot write {self._path(name)}: {reason(error.errno or 0)}") from error

    def read(self, name: str) -> bytes:
        """Read a file that `write_once` wrote. Raises ContainerNotFound, StateError."""
        try:
            return files.read(name, self.fd, MAX_FILE)
        except OSError as error:
            if error.errno == errno.ENOENT and not self._exists():
                raise ContainerNotFound(f"container `{self.id}` does not exist") from error
            raise StateError(f"cannot read {self._path(name)}: {reason(error.errno or 0)}") from error

    def save_exec_settings(self, settings: ExecSettings) -> None:
        """Write exec.json. Raises StateError."""
        self.write_once(EXEC_SETTINGS, dumps(settings.to_dict()).encode("utf-8", "surrogateescape"))

    def load_exec_settings(self) -> ExecSettings:
        """Read exec.json. Raises ContainerNotFound, StateError."""
        document = self._parse(EXEC_SETTINGS, self.read(EXEC_SETTINGS))
        try:
            return ExecSettings.from_dict(document)
        except ValueError as error:
            raise StateError(f"cannot use {self._path(EXEC_SETTINGS)}: it is not of this version") from error

    def _parse(self, name: str, data: bytes) -> "Any":
        try:
            return loads(data)
        except JsonError as error:
            problem = error.problems[0]
            problem.file = ""  # the file is not config.json
            raise StateError(f"cannot read {self._path(name)}: {problem}") from error

    def create_fifos(self) -> "tuple[int, int]":
        """Create exec.fifo and result.fifo, and open both for reading and writing. Raises OSError."""
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
        """Open one of the FIFOs, non-blocking.

        Raises OSError; ENXIO if it has no reader, or if it is not the FIFO that create made.
        """
        fd = posix.open(name, flags | posix.O_NONBLOCK | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.fd)
        st = posix.fstat(fd)
        if st.st_mode & S_IFMT != S_IFIFO or st.st_ino not in self._fifos:
            posix.close(fd)
            raise OSError(errno.ENXIO, posix.strerror(errno.ENXIO))
        return fd

    def awaits_start(self) -> bool:
        """Whether a process waits on exec.fifo for `start`.

        Raises BrokenPipeError if the FIFO is there without a process that waits: the process is ending, or a `start`
        was killed before it could remove the FIFO.
        """
        try:
            if not _native.exists_at(EXEC_FIFO, self.fd):  # `start` has removed it
                return False
            posix.close(self.open_fifo(EXEC_FIFO, posix.O_WRONLY))
        except FileNotFoundError:  # just now
            return False
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ELOOP, errno.EISDIR):
                raise BrokenPipeError from error
            raise StateError(f"cannot open {EXEC_FIFO} of container `{self.id}`: {reason(error.errno or 0)}") from error
        return True

    def create_notify_directory(self) -> int:
        """Create and open the directory for the container's sd_notify socket.

        Every user may enter it, because the container sees a read-only mount of it. Raises OSError.
        """
        posix.mkdir(NOTIFY, 0o700, dir_fd=self.fd)
        directory = posix.open(NOTIFY, _DIRECTORY, dir_fd=self.fd)
        posix.fchmod(directory, 0o755)
        return directory

    # --- the directory itself

    def owner(self) -> int:
        """Return the uid of the user who created the container."""
        return posix.fstat(self.fd).st_uid

    def _exists(self) -> bool:
        """Whether the directory has not been removed since it was opened."""
        return posix.fstat(self.fd).st_nlink > 0

    def is_ours(self) -> bool:
        """Whether the directory holds only files of this runtime. Engines share one root between runtimes."""
        return all(name in _OUR_FILES or name.startswith(_TEMPORARY) for name in _native.list_names(self.fd))

    def is_empty(self) -> bool:
        """Whether the directory has no files: not yet, or no longer."""
        return not _native.list_names(self.fd)

    def remove(self) -> None:
        """Remove the files, the record last, then the directory.

        So if this process is killed half way, `delete` still finds a container. Raises OSError.
        """
        try:
            names = _native.list_names(self.fd)
        except OSError:  # such as EMFILE: no descriptor is left to read it
            names = list(_OUR_FILES)
        for name in sorted(names, key=_RECORDS.__contains__):
            try:
                posix.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                self._remove_directory(name)
        posix.rmdir(self.id, dir_fd=self._root_fd)

    def _remove_directory(self, name: str) -> None:
        """Remove `notify` with its socket, or another directory that is empty. Raises OSError for other files."""
        if name == NOTIFY:
            try:
                posix.unlink(f"{NOTIFY}/{NOTIFY_SOCKET}", dir_fd=self.fd)
            except FileNotFoundError:
                pass
        posix.rmdir(name, dir_fd=self.fd)

    def _path(self, name: str = "") -> str:
        return f"{self.root}/{self.id}/{name}" if name else f"{self.root}/{self.id}"


def _root_of_existing(root: str, id: str, root_fd: int = -1) -> int:
    """Open the root of a container that should exist, or duplicate `root_fd`. Raises ContainerNotFound, StateError."""
    try:
        return posix.dup(root_fd) if root_fd >= 0 else open_root(root, create=False)
    except FileNotFoundError as error:
        raise ContainerNotFound(f"container `{id}` does not exist") from error
    except OSError as error:
        raise StateError(f"cannot use state directory {root}: {reason(error.errno or 0)}") from error


def _wait_for_lock(fd: int, id: str, while_waiting: "Callable[[], None] | None" = None) -> None:
    """Take the lock, calling `while_waiting` after each failed attempt. Raises StateError after LOCK_TIMEOUT seconds.

    This polls: the kernel has no event for a lock that becomes free, and the signal of a timer would reach the whole
    program.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    pause = 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                text = f"cannot lock container `{id}`: another process has held it for {LOCK_TIMEOUT} s"
                raise StateError(text) from error
        else:
            return
        if while_waiting is not None:
            while_waiting()
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


__all__ = ["StateDirectory", "is_transient", "notify_socket", "notify_socket_of_caller", "parse_record"]
