"""The directories of a checkpoint: pyoci.criu.directories."""

import json
import os
import stat
from pathlib import Path

import pytest

from pyoci.criu.directories import Directories
from pyoci.errors import SetupError


def test_make_makes_missing_directories_for_root_alone(tmp_path: Path) -> None:
    """runc makes missing parents, too."""
    directories = Directories.make(f"{tmp_path}/a/b", f"{tmp_path}/w")
    directories.close()
    for path in ("a", "a/b", "w"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700


def test_make_keeps_the_mode_of_an_engines_directory(tmp_path: Path) -> None:
    """An engine may have its own reasons for another mode."""
    tmp_path.chmod(0o750)
    Directories.make(str(tmp_path), None).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_open_reports_a_missing_directory(tmp_path: Path) -> None:
    """restore makes no image directory."""
    with pytest.raises(SetupError, match=r"cannot open image directory .*/none: no such file or directory"):
        Directories.open(f"{tmp_path}/none", None)
    assert not (tmp_path / "none").exists()


def test_criu_works_in_the_image_directory_by_default(tmp_path: Path) -> None:
    """Its logs are there, unless there is a work directory."""
    directories = Directories.make(str(tmp_path), None)
    assert directories.options() == {"images_dir_fd": directories.images, "work_dir_fd": directories.images}
    assert directories.options(images=False) == {"images_dir_fd": -1, "work_dir_fd": directories.images}
    directories.close()


def test_descriptors_survive(tmp_path: Path) -> None:
    """The file has the format of runc's, and root alone reads it."""
    directories = Directories.make(str(tmp_path), None)
    assert directories.read_descriptors() == []
    directories.write_descriptors(["/dev/null", "pipe:[7]", "pipe:[8]"])
    file = tmp_path / "descriptors.json"
    assert json.loads(file.read_text()) == ["/dev/null", "pipe:[7]", "pipe:[8]"] == directories.read_descriptors()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    directories.close()


@pytest.mark.parametrize("text", ["{}", "[1]", "[", '["a"] x'])
def test_damaged_descriptors_are_an_error(tmp_path: Path, text: str) -> None:
    """The file may come from anywhere."""
    (tmp_path / "descriptors.json").write_text(text)
    directories = Directories.open(str(tmp_path), None)
    with pytest.raises(SetupError, match=r"cannot use .*/descriptors.json: "):
        directories.read_descriptors()
    directories.close()


def test_a_log_is_read_from_its_end(tmp_path: Path) -> None:
    """A log of CRIU may be large. A link to another file is not read."""
    directories = Directories.open(str(tmp_path), None)
    (tmp_path / "dump.log").write_text("x" * (1 << 20) + "the end")
    text = directories.read_log("dump.log")
    assert text.endswith("the end")
    assert len(text) == 1 << 20
    os.symlink("/etc/passwd", tmp_path / "restore.log")
    assert directories.read_log("restore.log") == directories.read_log("none") == ""
    directories.close()
