"""Small files of the host."""

import os
from pathlib import Path

import pytest

from pyoci import files


def leave(place: Path, kind: str) -> None:
    """What a process of our number may have left, or whoever may write to the folder put there."""
    if kind == "file":
        place.write_text("of before")
    elif kind == "link":
        place.symlink_to(place.parent / "elsewhere")
    else:
        os.mkfifo(place)


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_replace_after_a_crash(tmp_path: Path, kind: str) -> None:
    """Numbers come again: a file that was left half written is no obstacle, and nothing is written through it."""
    (tmp_path / "elsewhere").write_text("untouched")
    leave(tmp_path / f".pid.{os.getpid()}", kind)

    files.replace(str(tmp_path / "pid"), b"5", 0o644)

    assert "5" == (tmp_path / "pid").read_text()
    assert "untouched" == (tmp_path / "elsewhere").read_text()
    assert ["elsewhere", "pid"] == sorted(os.listdir(tmp_path))


def test_replace_where_a_folder_is_in_the_way(tmp_path: Path) -> None:
    """An error, and nothing changes."""
    (tmp_path / f".pid.{os.getpid()}").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.replace(str(tmp_path / "pid"), b"5", 0o644)
    assert not (tmp_path / "pid").exists()
