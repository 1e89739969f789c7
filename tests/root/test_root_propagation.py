"""linux.rootfsPropagation, by mounts that are made while the container runs: on the host, in it, and in a nested
one.
"""

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import Bundle, MountPoint, Runtime, mount_points, wait_for

pytestmark = pytest.mark.root

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x20000


@pytest.fixture
def root(runtime: Runtime, bundle: Bundle) -> Iterator[Path]:
    """A shared mount of the host as the root filesystem, with mount points in it."""
    tree = runtime.folder / "tree"
    tree.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "root", tree], check=True)
    subprocess.run(["mount", "--make-shared", tree], check=True)
    subprocess.run(["cp", "-a", f"{bundle.rootfs}/.", tree], check=True)
    for name in ("host", "inside", "nested", "bound"):
        (tree / name).mkdir()
    bundle.config["root"]["path"] = str(tree)
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind].append("CAP_SYS_ADMIN")
    yield tree
    runtime.clean_up()
    subprocess.run(["umount", "-R", tree], check=True)


@pytest.fixture
def started(runtime: Runtime, bundle: Bundle, root: Path) -> Iterator[Callable[..., Any]]:
    """Start a container with a propagation of its root; make a mount of each kind. Its root as the host reaches it."""
    processes = []

    def start(value):
        if value:
            bundle.linux["rootfsPropagation"] = value
        bundle.shell("mount -t tmpfs i /inside && touch /inside/file /ready; sleep 100")
        runtime.create()
        runtime.start()
        inside = Path(f"/proc/{runtime.pid()}/root")
        wait_for((inside / "ready").exists)
        processes.append(nested(runtime.pid()))
        subprocess.run(["mount", "-t", "tmpfs", "host", root / "host"], check=True)
        (root / "host/file").touch()
        return inside

    yield start
    for process in processes:
        process.kill()
        process.wait()


def nested(pid: int) -> subprocess.Popen[Any]:
    """A nested container as far as mounts go: a process with a copy of the container's mounts and one more."""

    def enter() -> None:
        with open(f"/proc/{pid}/ns/mnt") as namespace:
            assert 0 == LIBC.setns(namespace.fileno(), CLONE_NEWNS)
        assert 0 == LIBC.unshare(CLONE_NEWNS)
        assert 0 == LIBC.mount(b"nested", b"/nested", b"tmpfs", 0, None)
        with open("/nested/file", "w"):
            pass

    return subprocess.Popen(["/bin/sleep", "100"], preexec_fn=enter)  # noqa: PLW1509


def mount_of_root(pid: int) -> MountPoint:
    return mount_points(Path(f"/proc/{pid}/mountinfo").read_text())["/"]


def has_nested(runtime: Runtime) -> bool:
    """Whether the container sees what the nested one has mounted."""
    return Path(f"/proc/{runtime.pid()}/root/nested/file").exists()


def test_shared(runtime: Runtime, root: Path, started: Callable[..., Any]) -> None:
    """A peer group of its own: what nested containers mount is seen, the host sees nothing (PROP-02)."""
    started("shared")
    assert "shared" in mount_of_root(runtime.pid()).fields
    assert has_nested(runtime)
    assert [] == [name for name in ("inside", "nested") if (root / name / "file").exists()]


def test_slave(runtime: Runtime, root: Path, started: Callable[..., Any]) -> None:
    """What the host mounts is seen, and the host sees nothing (PROP-03)."""
    inside = started("slave")
    assert (inside / "host/file").exists()
    assert {"master"} == mount_of_root(runtime.pid()).fields
    assert not (root / "inside/file").exists()


@pytest.mark.parametrize("value", ["private", "unbindable"])
def test_private(runtime: Runtime, root: Path, started: Callable[..., Any], value: str) -> None:
    """Neither direction, and nested containers are by themselves, too (PROP-04)."""
    inside = started(value)
    assert not (inside / "host/file").exists()
    assert not (root / "inside/file").exists()
    assert not has_nested(runtime)
    assert ({"unbindable"} if value == "unbindable" else set()) == mount_of_root(runtime.pid()).fields


@pytest.mark.parametrize(("value", "answer"), [("private", "bound"), ("unbindable", "Invalid argument")])
def test_unbindable(runtime: Runtime, bundle: Bundle, root: Path, value: str, answer: str) -> None:
    """It is private and can't be bound (PROP-05)."""
    bundle.linux["rootfsPropagation"] = value
    assert answer in runtime.shell("mount --bind / /bound 2>&1 && echo bound; true")


def test_unset(root: Path, started: Callable[..., Any]) -> None:
    """The specification leaves it open: as a slave, so that an unmount on the host is not held up by a container."""
    inside = started(None)
    assert (inside / "host/file").exists()
    assert not (root / "inside/file").exists()
