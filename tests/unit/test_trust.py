"""What the runtime trusts: files that only root, or the user who runs it, can change."""

import os
from pathlib import Path

import pytest

from pyoci.host import trust


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file in a private directory below the sticky /tmp."""
    directory = tmp_path / "a"
    directory.mkdir(mode=0o700)
    file = directory / "file"
    file.touch(mode=0o600)
    return file


def test_check_accepts_private_files(place: Path) -> None:
    """Also those that are missing, and the directory itself."""
    trust.check(str(place))
    trust.check(str(place.parent))
    trust.check(str(place.parent / "missing"))


@pytest.mark.parametrize("part", [".", "..", "../.."])
def test_check_rejects_what_others_can_write(place: Path, part: str) -> None:
    """The file, its directory, and one further above."""
    changed = Path(os.path.normpath(place / part))
    mode = changed.stat().st_mode
    changed.chmod(0o777)
    try:
        with pytest.raises(trust.Untrusted, match=f"^{changed} can be written by others$"):
            trust.check(str(place))
    finally:
        changed.chmod(mode)


def test_check_accepts_sticky_directories(place: Path) -> None:
    """The kernel lets users remove only their own files there. But they can make a file that is missing."""
    place.parent.chmod(0o1777)

    trust.check(str(place))
    with pytest.raises(trust.Untrusted, match=r"^others can make .*/missing$"):
        trust.check(str(place.parent / "missing"))


def test_check_follows_links(place: Path) -> None:
    """What counts is the file that is opened in the end, and the way to it."""
    link = place.parent.parent / "link"
    link.symlink_to("a/../a/./file")
    trust.check(str(link))

    place.chmod(0o606)
    with pytest.raises(trust.Untrusted, match=f"^{place} can be written by others$"):
        trust.check(str(link))


def test_check_rejects_circles(tmp_path: Path) -> None:
    """Two links that lead to each other."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    with pytest.raises(trust.Untrusted, match=r"^too many levels of symbolic links$"):
        trust.check(str(tmp_path / "a"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_check_rejects_other_owners_and_groups(place: Path) -> None:
    """For root the members of a group are others, too."""
    os.chown(place, 1234, -1)
    with pytest.raises(trust.Untrusted, match=f"^{place} belongs to user 1234$"):
        trust.check(str(place))

    os.chown(place, 0, -1)
    place.chmod(0o660)
    with pytest.raises(trust.Untrusted, match=f"^{place} can be written by others$"):
        trust.check(str(place))
