"""pyoci/criu/propagation.py: which mounts CRIU can't restore as peers and slaves."""

import pytest

from pyoci.criu import propagation
from pyoci.mountinfo import parse

ROOT = "10 9 8:1 /b/rootfs / rw{} - ext4 x rw"
SLAVE = " master:1"


def found(*lines: str, root: str = "", external: str = "", host: tuple[int, ...] = ()) -> list[str]:
    """The mount points that `find` returns. `external` has those of external mounts."""
    mounts = parse("\n".join([ROOT.format(root), *lines]))
    return propagation.find(mounts, mounts[0], [m for m in mounts if m.point in external.split()], host)


@pytest.mark.parametrize("root", ["", SLAVE])
def test_private_volumes(root: str) -> None:
    """They may be anywhere, beside a root that gets mounts from the host, too."""
    volumes = ("11 10 8:1 /a /a rw - ext4 x rw", "12 10 8:1 /b/c /c rw - ext4 x rw")
    assert [] == found(*volumes, root=root, external="/a /c")


def test_slaves_of_one_group_with_different_roots() -> None:
    """CRIU would copy the group of all from one of them."""
    volumes = (f"11 10 8:1 /a /a rw{SLAVE} - ext4 x rw", f"12 10 8:1 /b /b rw{SLAVE} - ext4 x rw")
    assert ["/a", "/b"] == found(*volumes, external="/a /b")
    assert ["/", "/a"] == found(volumes[0], root=SLAVE, external="/a")
    assert [] == found(volumes[0], external="/a")


def test_slaves_of_different_groups() -> None:
    """Each has a source of its own."""
    volumes = (f"11 10 8:1 /a /a rw{SLAVE} - ext4 x rw", "12 10 8:2 /b /b rw master:2 - ext4 y rw")
    assert [] == found(*volumes, external="/a /b")


def test_the_same_directory_twice() -> None:
    """Either is a source of both."""
    volumes = (f"11 10 8:1 /a /a rw{SLAVE} - ext4 x rw", f"12 10 8:1 /a /b rw{SLAVE} - ext4 x rw")
    assert [] == found(*volumes, external="/a /b")


def test_binds_of_the_container_in_its_root() -> None:
    """The root filesystem is their source, unless CRIU could take a volume that contains them."""
    bind = f"11 10 8:1 /b/rootfs/etc /own rw{SLAVE} - ext4 x rw"
    assert [] == found(bind, root=SLAVE)
    assert ["/", "/own"] == found(bind, "12 10 8:1 /b /b rw - ext4 x rw", root=SLAVE, external="/b")


def test_a_slave_without_a_source() -> None:
    """Neither the root nor a volume shows it."""
    assert ["/own"] == found("11 10 0:40 / /own rw master:9 - tmpfs x rw")


def test_mounts_shared_with_the_host() -> None:
    """CRIU restores them in a group of the container. One that the container has made is the same again."""
    volume = "11 10 8:1 /a /a rw shared:5 - ext4 x rw"
    assert ["/a"] == found(volume, external="/a", host=(5,))
    assert ["/"] == found(root=" shared:5", host=(5,))
    assert [] == found(volume, external="/a", host=(6,))


def test_peers_inside_the_container() -> None:
    """One of them must contain the others, and the group that they get mounts from must contain them."""
    one, other = "11 10 0:40 /a /a rw shared:5 - tmpfs x rw", "12 10 0:40 /b /b rw shared:5 - tmpfs x rw"
    whole = "13 10 0:40 / /t rw shared:5 - tmpfs x rw"
    assert ["/a", "/b"] == found(one, other)
    assert [] == found(one, other, whole)
    assert [] == found("11 10 0:40 /a /a rw master:5 - tmpfs x rw", whole)
    assert ["/a", "/b"] == found(one, "12 10 0:40 /b /b rw master:5 - tmpfs x rw")


def test_many_mounts_are_no_burden() -> None:
    """An image may have hundreds of thousands."""
    mounts = parse("\n".join(f"{n} 1 8:1 /a/{n} /{n} rw{SLAVE} - ext4 x rw" for n in range(2, 100_000)))
    assert len(mounts) == len(propagation.find(mounts, None, mounts))


def test_text_for_many_mounts() -> None:
    """Three are shown, in printable form."""
    assert "the mounts at /a, /b" == propagation.show(["/a", "/b"])
    assert "the mounts at /a, /\\n, /c and 2 more" == propagation.show(["/a", "/\n", "/c", "/d", "/e"])
