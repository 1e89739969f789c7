"""Where the destinations of config.json lie behind the symlinks of a root filesystem."""

from pathlib import Path

import pytest

from pyoci.host.places import resolve


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root filesystem with symlinks, some of which would lead out of it."""
    root = tmp_path / "rootfs"
    (root / "run").mkdir(parents=True)
    (root / "var").mkdir()
    for link, target in {
        "var/run": "/run",
        "up": "../../../etc",
        "relative": "var/../run",
        "chain": "var/run",
        "loop": "loop",
        "dangling": "/srv/missing",
        "run/self": "/proc/self/root",
    }.items():
        (root / link).symlink_to(target)
    return root


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/run/box.sock", "/run/box.sock"),
        ("var/run//box.sock", "/run/box.sock"),
        ("/up/passwd", "/etc/passwd"),
        ("/relative/x", "/run/x"),
        ("/chain", "/run"),
        ("/dangling/x", "/srv/missing/x"),
        ("/run/self/etc", "/proc/self/root/etc"),
    ],
)
def test_path_behind_a_symlink(rootfs: Path, path: str, place: str) -> None:
    """It is the place in the root filesystem that create mounts on."""
    assert [place] == list(resolve(str(rootfs), [path]).values())


@pytest.mark.parametrize("path", ["/run", "/run/x", "/missing/x", "/loop/x", "/"])
def test_path_without_a_symlink(rootfs: Path, path: str) -> None:
    """It stays as it is, and so does one that leads nowhere."""
    assert {} == resolve(str(rootfs), [path])


def test_missing_root_filesystem(tmp_path: Path) -> None:
    """Nothing is known. The plan reports it."""
    assert {} == resolve(str(tmp_path / "missing"), ["/x"])
