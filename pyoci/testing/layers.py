"""Unpack archives and OCI images into a root filesystem, as image-spec/layer.md has it.

An archive cannot write outside: every path is resolved with the root filesystem as its root.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from pyoci import _native
from pyoci.errors import PyociError

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_RESOLVE_IN_ROOT = 0x10
_O_PATH = 0o10000000
_DIRECTORY = _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_XATTR = "SCHILY.xattr."


def unpack_archive(archive: Path, root: Path) -> None:
    """Unpack a tar archive, compressed or not, into the directory `root`."""
    with _opened(archive) as tar, _Tree(root) as tree:
        tree.extract(tar)


def unpack_image(layout: Path, root: Path, tag: str = "") -> None:
    """Unpack the image with this tag, for this machine, from an OCI image layout into the directory `root`."""
    manifest = _manifest(layout, tag)
    with _Tree(root) as tree:
        for layer in manifest["layers"]:
            with _opened(_blob(layout, layer)) as tar:
                tree.remove_whiteouts(tar)
                tree.extract(tar)


def _manifest(layout: Path, tag: str) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((layout / "index.json").read_bytes())
    if tag:
        name = "org.opencontainers.image.ref.name"
        index["manifests"] = [entry for entry in index["manifests"] if entry.get("annotations", {}).get(name) == tag]
    while "manifests" in index:
        entries: list[dict[str, Any]] = [entry for entry in index["manifests"] if _is_for_us(entry)]
        if len(entries) != 1:
            raise PyociError(f"cannot unpack {layout}: it has {len(entries)} images for this machine, not one")
        index = json.loads(_blob(layout, entries[0]).read_bytes())
    return index


def _is_for_us(entry: dict[str, Any]) -> bool:
    machine = os.uname().machine
    wanted = {"os": "linux", "architecture": _ARCHITECTURES.get(machine, machine)}
    return all(entry.get("platform", wanted).get(key) == value for key, value in wanted.items())


def _blob(layout: Path, descriptor: dict[str, Any]) -> Path:
    """The file of a descriptor. Raises PyociError unless it has the digest."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    if algorithm not in ("sha256", "sha512") or not digest.isalnum():
        raise PyociError(f"cannot unpack {layout}: unknown digest {descriptor['digest']}")
    path = Path(layout, "blobs", algorithm, digest)
    with path.open("rb") as file:
        if hashlib.file_digest(file, algorithm).hexdigest() != digest:
            raise PyociError(f"cannot unpack {layout}: {path.name} does not have the digest of its name")
    return path


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(archive.open("rb"))
        if file.read(4) == b"\x28\xb5\x2f\xfd":
            file = _decompressed(file, stack)
        file.seek(0)
        try:
            yield stack.enter_context(tarfile.open(fileobj=file))
        except tarfile.TarError as error:
            raise PyociError(f"cannot unpack {archive}: {error}") from error


def _decompressed(file: IO[bytes], stack: contextlib.ExitStack) -> IO[bytes]:
    """The content of a zstd file. Python reads these itself from 3.14 on."""
    program = shutil.which("zstd")
    if program is None:
        raise PyociError("cannot unpack a layer: it is compressed with zstd", hint="install zstd")
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # zstd reads the descriptor, which is ahead of the buffer
    output: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    subprocess.run([program, "--decompress", "--stdout"], stdin=file, stdout=output, check=True)
    return output


class _Tree:
    """A root filesystem that layers are unpacked into."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._modes: dict[str, int] = {}  # of directories, which are set last: one may be read-only
        self._privileged = os.geteuid() == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for path, mode in self._modes.items():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a later layer has removed it
                    fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    os.fchmod(fd, mode if self._privileged else mode | stat.S_IRWXU)
                    os.close(fd)
        finally:
            os.close(self._root)

    def remove_whiteouts(self, tar: tarfile.TarFile) -> None:
        """Remove what this layer hides of the layers below it."""
        for member in tar:
            directory, name = _split(member.name)
            if not name.startswith(_WHITEOUT):
                continue
            try:
                parent = self._open(directory, _DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                hidden = os.listdir(f"/proc/self/fd/{parent}") if name == _OPAQUE else [name.removeprefix(_WHITEOUT)]
                for each in hidden:
                    if each in ("", ".", ".."):
                        raise PyociError(f"cannot unpack {member.name}: it hides no file")
                    _remove(parent, each)
            finally:
                os.close(parent)

    def extract(self, tar: tarfile.TarFile) -> None:
        """Unpack every member but whiteouts."""
        for member in tar:
            directory, name = _split(member.name)
            if not name:
                self._modes[""] = member.mode
            elif not name.startswith(_WHITEOUT):
                parent = self._make_directories(directory)
                try:
                    self._create(tar, member, parent, name)
                finally:
                    os.close(parent)

    def _create(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if not (member.isdir() and _is_directory(parent, name)):
            _remove(parent, name)
        if member.isdir():
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
            self._modes["/".join(_split(member.name)).lstrip("/")] = member.mode
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            directory, target = _split(member.linkname)
            source = self._open(directory, _DIRECTORY)
            try:
                os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
            return
        elif member.isreg():
            self._write(tar, member, parent, name)
        elif self._privileged or member.isfifo():
            kind = stat.S_IFIFO if member.isfifo() else stat.S_IFBLK if member.isblk() else stat.S_IFCHR
            os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
        else:  # a device, which only root creates
            return
        if self._privileged:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if not (member.isdir() or member.issym()):
            os.chmod(name, member.mode, dir_fd=parent)  # after chown, which removes set-user-ID
        if self._privileged and member.isreg():
            _set_attributes(member, parent, name)  # after chown, which removes file capabilities
        os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        content = tar.extractfile(member)
        with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, 1 << 20)

    def _open(self, path: str, flags: int) -> int:
        """Open a path below the root, which is also the root of symbolic links."""
        return _native.openat2(self._root, path or ".", flags, 0, _RESOLVE_IN_ROOT)

    def _make_directories(self, path: str) -> int:
        """Open the directory `path`, and create what is missing of it."""
        try:
            return self._open(path, _DIRECTORY)
        except FileNotFoundError:
            pass
        directory, name = _split(path)
        parent = self._make_directories(directory)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        return self._open(path, _DIRECTORY)


def _split(name: str) -> tuple[str, str]:
    """The directory and the last part of a member's name; ("", "") for the root. Raises PyociError for `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PyociError(f"cannot unpack {name}: its name leads out of its directory")
    return "/".join(parts[:-1]), parts[-1] if parts else ""


def _set_attributes(member: tarfile.TarInfo, parent: int, name: str) -> None:
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            path = f"/proc/self/fd/{parent}/{name}"
            os.setxattr(path, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"), follow_symlinks=False)


def _is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove(parent: int, name: str) -> None:
    """Remove a file or a tree, if it is there."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        shutil.rmtree(name, dir_fd=parent)
