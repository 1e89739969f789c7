"""pyoci/criu/links.py and pyoci/criu/remaps.py: no symlink of the container may lead CRIU to the host."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyoci.criu import images, links, remaps
from pyoci.criu.images import Image
from pyoci.criu.messages import COMMON_MAGIC, Message
from pyoci.criu.remaps import GHOST, LINKED, REMAP_FPATH, Remap
from pyoci.errors import PyociError
from tests.support import checkpoints
from tests.support.checkpoints import encode


class Container:
    """The container `plain`, with a root filesystem and a volume of the test, and an image directory for its tmpfs."""

    def __init__(self, folder: Path) -> None:
        self.rootfs, self.volume, self.images = (folder / name for name in ("rootfs", "volume", "images"))
        for directory in (self.rootfs / "dir", self.volume / "dir", self.images):
            directory.mkdir(parents=True)
        for directory in (self.rootfs, self.volume):
            (directory / "link").symlink_to("/etc")
        self.image = checkpoints.image("plain")
        self.config: dict[str, Any] = {
            "mounts": [{"destination": "/data", "source": str(self.volume), "options": ["bind"]}]
        }

    def mount(self, point: str) -> images.Mount:
        """A mount of the image."""
        return next(mount for mount in self.image.init_mounts if mount.point == point)

    def delete_file(self, path: str, mount: str, kind: int = GHOST, target: str = "") -> None:
        """Let the image have a deleted file at a path in a mount."""
        point = self.mount(mount).id << 1
        regular = {1: [90], 2: [0], 6: [path.encode()], 7: [point]}
        self.image.files.append(images.File(Message(encode({1: [1], 2: [90], 3: [encode(regular)]}))))
        linked = {1: [91], 2: [0], 6: [target.encode()]}
        self.image.files.append(images.File(Message(encode({1: [1], 2: [91], 3: [encode(linked)]}))))
        self.image.remaps.append(Remap(Message(encode({1: [90], 2: [91], 3: [kind]}))))

    def pack(self, point: str, make: Callable[[Path], object]) -> None:
        """Pack the content of a tmpfs as CRIU does."""
        content = self.images.parent / "content"
        content.mkdir()
        make(content)
        device = self.mount(point).device
        with (self.images / f"tmpfs-dev-{device}.tar.gz.img").open("wb") as archive:
            subprocess.run(["tar", "--create", "--gzip", "--directory", content, "."], stdout=archive, check=True)

    def refusal(self) -> str:
        """What the check says; "" if it accepts the image."""
        directory = os.open(self.images, os.O_RDONLY)
        try:
            links.check(self.image, self.config, directory, bundle="/", rootfs=str(self.rootfs), places={})
        except PyociError as error:
            return str(error).removeprefix("cannot restore the container: the checkpoint image is not safe: ")
        finally:
            os.close(directory)
        return ""


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """The container `plain`."""
    return Container(tmp_path)


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/dir/file", "/"),
        ("/missing/file", "/"),
        ("/file", "/"),
        ("/data/dir/file", "/data"),
        ("/dev/shm/x", "/dev/shm"),
    ],
)
def test_check_accepts_deleted_files(container: Container, path: str, mount: str) -> None:
    """In the root filesystem, in a volume and in a tmpfs. Their directories may be deleted, too."""
    container.delete_file(path, mount)

    assert "" == container.refusal()


@pytest.mark.parametrize(
    ("path", "mount", "expected"),
    [
        ("/link/file", "/", "CRIU would follow link in "),
        ("/data/link/file", "/data", "CRIU would follow link in "),
        ("/dir/../../file", "/", "/dir/../../file is not below /"),
        ("/file", "/data", "/file is not below /data"),
        ("/proc/sys/file", "/proc", "the deleted file /proc/sys/file is in a filesystem of the kernel"),
    ],
)
def test_check_rejects_deleted_files_elsewhere(container: Container, path: str, mount: str, expected: str) -> None:
    """CRIU would make or remove them on the host."""
    container.delete_file(path, mount)

    assert expected in container.refusal()


def test_check_rejects_the_removal_of_other_files(container: Container) -> None:
    """CRIU removes the name that it gave a file at the dump, and no other one may be in its place."""
    container.delete_file("/dir/file", "/", LINKED, "/dir/victim")

    assert "CRIU would remove /dir/victim" == container.refusal()


@pytest.mark.parametrize(
    ("target", "expected"), [("/dir/link_remap.7", ""), ("/link/link_remap.7", "CRIU would follow")]
)
def test_check_follows_the_path_of_a_linked_file(container: Container, target: str, expected: str) -> None:
    """It is in the directory of the file, unless that was deleted."""
    container.delete_file("/dir/file", "/", LINKED, target)

    assert container.refusal().startswith(expected) if expected else not container.refusal()


def test_check_rejects_symlinks_in_a_tmpfs(container: Container) -> None:
    """CRIU would attach /dev/shm to the host's directory."""
    container.pack("/dev", lambda content: (content / "shm").symlink_to("/usr/local/sbin"))

    assert "its tmpfs at /dev has a symlink /shm in the way" == container.refusal()


def test_check_accepts_other_symlinks_in_a_tmpfs(container: Container) -> None:
    """Such as /dev/fd. Names may have any character."""

    def fill(content: Path) -> None:
        (content / "fd").symlink_to("/proc/self/fd")
        (content / 'a "b" -> \\ \n\xe9').symlink_to("/etc")
        (content / "shm").mkdir()

    container.pack("/dev", fill)

    assert "" == container.refusal()


def test_links_of_reads_the_list_of_tar() -> None:
    """A hard link may be one to a symlink."""
    text = (
        'drwxr-xr-x 0/0 0 2026-11-30 06:58 "./"\nlrwxrwxrwx 0/0 0 2026-11-30 06:58 "./a\\"b\\303\\251" -> "/x"\n'
        'hrw-r--r-- 0/0 0 2026-11-30 06:58 "./c/d" link to "./a"\n-rw-r--r-- 0/0 0 2026-11-30 06:58 "./e"\n'
    )
    assert {'/a"b\xe9', "/c/d"} == links.links_of(text, "x")


@pytest.mark.parametrize("line", ["tar: what", "", 'M--------- 0/0 0 2026 06:58 "a"', 'l 0/0 "../a"', 'l 0/0 "a'])
def test_links_of_rejects_unexpected_lines(line: str) -> None:
    """CRIU's tar never packs such an entry."""
    with pytest.raises(PyociError, match="x has an unexpected entry"):
        links.links_of(f"{line}\n", "x")


@pytest.mark.parametrize(
    ("change", "expected"),
    [("link", "CRIU would follow link"), ("link/below", "CRIU would follow link/below"), ("dir", "")],
)
def test_check_follows_the_root_of_a_bind_mount(container: Container, change: str, expected: str) -> None:
    """The container has bound a directory of its root filesystem elsewhere."""
    root, mount = container.mount("/"), container.mount("/dev/shm")
    mount.type, mount.device, mount.root = root.type, root.device, f"{root.root.rstrip('/')}/{change}"

    assert container.refusal().startswith(expected) if expected else not container.refusal()


@pytest.mark.parametrize("point", ["/proc/1/root", "/proc/self/root", "/proc/net/x"])
def test_check_rejects_mount_points_in_processes(container: Container, point: str) -> None:
    """The links there lead to the root of a process of the host."""
    container.mount("/proc/sys").point = point

    assert f"it has a mount in {point}" == container.refusal()


# --- files of the image


def ghost(mode: int) -> bytes:
    """A ghost file with content."""
    message = encode({1: [0], 2: [0], 3: [mode]})
    words = (COMMON_MAGIC, remaps.GHOST_FILE, len(message))
    return b"".join(word.to_bytes(4, "little") for word in words) + message + b"content of any kind"


def decoded(mode: int) -> Image:
    """The container `plain` with a ghost of this mode."""
    files = checkpoints.files("plain")
    message = encode({1: [5], 2: [26], 3: [GHOST]})
    words = (COMMON_MAGIC, REMAP_FPATH, len(message))
    files["remap-fpath.img"] = b"".join(word.to_bytes(4, "little") for word in words) + message
    files["ghost-file-1a.img"] = ghost(mode)
    assert all(images.is_read(name) for name in ("remap-fpath.img", "ghost-file-1a.img"))
    return images.decode(files)


def test_decode_returns_remaps() -> None:
    """The name of a ghost's file has its id in hexadecimal digits."""
    (remap,) = decoded(0o100644).remaps

    assert (5, 26, GHOST) == (remap.file, remap.target, remap.kind)


@pytest.mark.parametrize("mode", [0o060666, 0o020666, 0o120777, 0o140777, 0o666])
def test_decode_rejects_deleted_devices_and_symlinks(mode: int) -> None:
    """CRIU would make a device whatever config.json allows."""
    with pytest.raises(images.DamagedImage, match="which CRIU can't restore safely"):
        decoded(mode)
