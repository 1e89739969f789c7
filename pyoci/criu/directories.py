"""The directories of a checkpoint: one for images, and one for CRIU's logs and statistics."""

import posix

from pyoci.config.jsonio import JsonError, dumps, loads
from pyoci.criu.explain import MAX_LOG
from pyoci.errors import SetupError, reason
from pyoci.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from pyoci.criu.rpc import Options

DESCRIPTORS = "descriptors.json"  # the same name and format as runc's
_MAX_DESCRIPTORS = 1 << 16  # bytes
MODE = 0o700  # images have the memory of the container
_OPEN = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC


class Directories:
    """The two directories, open. Without a work directory, CRIU uses the image directory for everything.

    `parents`: where each image directory of a previous dump is, and its descriptor. `close` closes these, too.
    """

    __slots__ = ("_work", "image_path", "images", "parents", "work_path")

    def __init__(self, image_path: str, work_path: "str | None", *, make: bool) -> None:
        self.image_path = image_path
        self.work_path = work_path or image_path
        self.images = self._work = -1
        self.parents: list[tuple[str, int]] = []
        try:
            self.images = _open(image_path, "image directory", make=make)
            if work_path is not None:
                self._work = _open(work_path, "work directory", make=True)
        except BaseException:
            self.close()
            raise

    @classmethod
    def make(cls, image_path: str, work_path: "str | None") -> "Directories":
        """Open the directories, and make those that don't exist. Raises SetupError."""
        return cls(image_path, work_path, make=True)

    @classmethod
    def open(cls, image_path: str, work_path: "str | None") -> "Directories":
        """Open the directories of an existing checkpoint. Raises SetupError."""
        return cls(image_path, work_path, make=False)

    def options(self, *, images: bool = True) -> "Options":
        """Return CRIU's options for them. Without `images`, another option has the image directory."""
        work = self._work if self._work >= 0 else self.images
        return {"images_dir_fd": self.images if images else -1, "work_dir_fd": work}

    def write_descriptors(self, descriptors: "list[str]") -> None:
        """Write what the standard streams of the container are. Raises SetupError."""
        try:
            files.replace(DESCRIPTORS, dumps(descriptors).encode("utf-8", "surrogateescape"), 0o600, self.images)
        except OSError as error:
            raise SetupError(f"cannot write {self.image_path}/{DESCRIPTORS}: {reason(error.errno or 0)}") from error

    def read_descriptors(self) -> "list[str]":
        """Return what `write_descriptors` wrote, or runc or crun; [] without the file. Raises SetupError."""
        try:
            found = loads(files.read_regular(DESCRIPTORS, self.images, _MAX_DESCRIPTORS))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SetupError(f"cannot read {self.image_path}/{DESCRIPTORS}: {reason(error.errno or 0)}") from error
        except JsonError as error:
            raise SetupError(f"cannot use {self.image_path}/{DESCRIPTORS}: {error}") from error
        if type(found) is not list or any(type(name) is not str for name in found):
            raise SetupError(f"cannot use {self.image_path}/{DESCRIPTORS}: expected an array of strings")
        return found

    def read_log(self, name: str) -> str:
        """Return the end of a log; "" without a log."""
        try:
            fd = posix.open(
                name,
                posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC,
                dir_fd=self._work if self._work >= 0 else self.images,
            )
        except OSError:
            return ""
        try:
            size = posix.fstat(fd).st_size
            return posix.pread(fd, MAX_LOG, max(0, size - MAX_LOG)).decode("utf-8", "backslashreplace")
        except OSError:
            return ""
        finally:
            posix.close(fd)

    def log_path(self, name: str) -> str:
        """Return the path of a log."""
        return f"{self.work_path}/{name}"

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all directories."""
        for fd in (self.images, self._work, *(fd for _, fd in self.parents)):
            if fd >= 0:
                posix.close(fd)
        self.images = self._work = -1
        self.parents = []


def _open(path: str, what: str, *, make: bool) -> int:
    try:
        if make:
            _make(path)
        return posix.open(path, _OPEN)
    except OSError as error:
        raise SetupError(f"cannot open {what} {path}: {reason(error.errno or 0)}") from error


def _make(path: str) -> None:
    """Make a directory, and those above it that are missing."""
    try:
        posix.mkdir(path, MODE)
    except FileExistsError:
        pass
    except FileNotFoundError:
        parent = path.rstrip("/").rpartition("/")[0]
        if not parent:
            raise
        _make(parent)
        posix.mkdir(path, MODE)
