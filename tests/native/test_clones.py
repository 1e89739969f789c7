"""Clones of the host's mounts, as the runtime makes them through the child's own functions."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci import _native

pytestmark = pytest.mark.root

RECURSIVE, SLAVE, NO_FOLLOW, IS_EXPECTED = 1, 2, 4, 8
RDONLY, NOSUID, NODEV = 1, 2, 4


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory with a tmpfs below it."""
    below = tmp_path / "tree/below"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    (below / "file").touch()
    yield below.parent
    subprocess.run(["umount", below], check=True)


def flags_of(fd: int) -> int:
    """Flags of the mount behind a descriptor, which is closed."""
    try:
        return os.fstatvfs(fd).f_flag & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV)
    finally:
        os.close(fd)


def test_a_rootfs_comes_with_the_mounts_below_it(tree: Path) -> None:
    """The clone shows a file of the tmpfs below it."""
    fd = _native.clone_host_rootfs(str(tree))
    assert stat.S_ISREG(os.stat("below/file", dir_fd=fd).st_mode)
    os.close(fd)


@pytest.mark.parametrize("kind", ["symlink", "file", "missing"])
def test_a_rootfs_must_be_a_directory(tmp_path: Path, kind: str) -> None:
    """A symlink, a file and a missing path are rejected before anything is cloned."""
    path = tmp_path / "path"
    if kind == "symlink":
        path.symlink_to("/")
    elif kind == "file":
        path.touch()
    error = FileNotFoundError if kind == "missing" else NotADirectoryError
    with pytest.raises(error) as caught:
        _native.clone_host_rootfs(str(path))
    assert ("openat", str(path)) == (caught.value.strerror, caught.value.filename)


@pytest.mark.parametrize("recursive", [False, True])
def test_attributes_of_a_tree(tree: Path, recursive: bool) -> None:
    """One pair of sets is for every mount of the clone, the other for its root alone."""
    fd = _native.clone_host_tree(str(tree), RECURSIVE if recursive else 0, NODEV, 0, RDONLY, 0, -1)
    assert recursive == ("file" in os.listdir(os.open("below", os.O_RDONLY, dir_fd=fd)))
    below = os.open("below", os.O_PATH, dir_fd=fd)
    assert flags_of(fd) == os.ST_NODEV | os.ST_RDONLY
    assert flags_of(below) == os.ST_NODEV | (0 if recursive else os.ST_RDONLY)


def test_a_tree_that_was_replaced_is_rejected(tree: Path, tmp_path: Path) -> None:
    """With IS_EXPECTED the clone has to be the file that the descriptor shows."""
    expected = os.open(tmp_path, os.O_PATH)
    with pytest.raises(OSError, match="changed") as caught:
        _native.clone_host_tree(str(tree), IS_EXPECTED, 0, 0, 0, 0, expected)
    assert "changed" == caught.value.strerror
    os.close(_native.clone_host_tree(str(tmp_path), IS_EXPECTED, 0, 0, 0, 0, expected))
    os.close(expected)


def test_a_symlink_itself_can_be_cloned(tmp_path: Path) -> None:
    """With NO_FOLLOW."""
    (tmp_path / "link").symlink_to("/etc")
    fd = _native.clone_host_tree(str(tmp_path / "link"), NO_FOLLOW, 0, 0, 0, 0, -1)
    assert stat.S_ISLNK(os.fstat(fd).st_mode)
    os.close(fd)


def test_a_device_is_a_read_only_mount() -> None:
    """Its clone can be written to, but its mode can't be changed."""
    fd = _native.clone_host_device("/dev/null", False, 1, 3)
    writable = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    assert 1 == os.write(writable, b"x")
    with pytest.raises(OSError, match="Read-only"):
        os.fchmod(writable, 0o666)
    os.close(writable)
    assert os.ST_RDONLY == flags_of(fd) & os.ST_RDONLY


@pytest.mark.parametrize(("block", "minor"), [(False, 5), (True, 3)])
def test_another_device_is_rejected(block: bool, minor: int) -> None:
    """The host's node must have the type and the number that the config names; no descriptor is left."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="other-node"):
        _native.clone_host_device("/dev/null", block, 1, minor)
    assert before == os.listdir("/proc/self/fd")
