"""Small files of the host."""

import os
from typing import TYPE_CHECKING

import pytest

from pyoci import _native
from pyoci.host import files

if TYPE_CHECKING:
    from pathlib import Path


def test_replace_beside_another(tmp_path: "Path") -> None:
    """Pids are used again, also in other pid namespaces. A file that another pyoci process writes, or has left half
    written, does not disturb, and stays as it is.
    """
    (tmp_path / f".pid.{os.getpid()}").write_text("another's")

    files.replace(str(tmp_path / "pid"), b"5", 0o644)

    assert "5" == (tmp_path / "pid").read_text()
    assert "another's" == (tmp_path / f".pid.{os.getpid()}").read_text()
    assert 2 == len(os.listdir(tmp_path))


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_replace_writes_through_nothing(tmp_path: "Path", monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whatever may lie where the new file is to be made: an error, and it is left alone."""
    monkeypatch.setattr(files.posix, "urandom", bytes)
    place, elsewhere = tmp_path / f".pid.{'00' * 8}", tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    if kind == "file":
        place.write_text("untouched")
    elif kind == "link":
        place.symlink_to(elsewhere)
    else:
        os.mkfifo(place)

    with pytest.raises(FileExistsError):
        files.replace(str(tmp_path / "pid"), b"5", 0o644)

    assert "untouched" == elsewhere.read_text()
    assert kind != "file" or "untouched" == place.read_text()
    assert [place.name, "elsewhere"] == sorted(os.listdir(tmp_path))


def test_names_of_a_directory(tmp_path: "Path") -> None:
    """All names, again and again, whatever their bytes; none once the directory is removed."""
    names = [f"{'n' * 200}{n}" for n in range(300)]
    for name in (*names, b"\xff".decode("utf-8", "surrogateescape")):
        (tmp_path / name).touch()
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(2):
        assert sorted(os.listdir(tmp_path)) == sorted(_native.list_names(directory))
    os.close(directory)
    (tmp_path / "gone").mkdir()
    directory = os.open(tmp_path / "gone", os.O_RDONLY | os.O_DIRECTORY)
    assert [] == _native.list_names(directory)
    (tmp_path / "gone").rmdir()
    assert [] == _native.list_names(directory)
    os.close(directory)


def test_namespaces_of_a_process() -> None:
    """The inodes behind the links of /proc/PID/ns; nothing of a kind that the kernel lacks or a process that ended."""
    found = _native.namespaces("self", {"network": "net", "mount": "mnt", "other": "no_such_namespace"})
    assert {"network": os.stat("/proc/self/ns/net").st_ino, "mount": os.stat("/proc/self/ns/mnt").st_ino} == found
    assert {} == _native.namespaces("0", {"mount": "mnt"})
