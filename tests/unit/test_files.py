"""Small files of the host."""

import os
from typing import TYPE_CHECKING

import pytest

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
