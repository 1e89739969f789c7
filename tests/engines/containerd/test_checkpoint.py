"""ctr checkpoints tasks, and restores containers from images of checkpoints."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containerd import BUSYBOX, Containerd
from tests.support.counting import LISTEN, repeat, until_count
from tests.support.daemon import until
from tests.support.docker import LATE

IMAGE = "localhost/checkpoint:latest"
# `ctr run --detach` shows no output. --rw brings the file along.
SCRIPT = "i=0; " + repeat("i=$((i+1)); echo $i >/count")


@pytest.fixture
def box(ctr: Containerd) -> Iterator[str]:
    """The name of a container that counts. Checkpoints are removed after the test."""
    ctr("run", *ctr.options(), "--detach", BUSYBOX, "box", "sh", "-c", SCRIPT)
    until_count(lambda: count(ctr, "box"), 5)
    yield "box"
    for line in ctr("images", "ls").splitlines():
        if "checkpoint" in line.split()[0]:
            ctr("images", "rm", "--sync", line.split()[0])


def count(ctr: Containerd, name: str) -> int:
    """The number that a container has counted to."""
    found: list[str] = []

    def read() -> bool:
        found[:] = ctr("tasks", "exec", "--exec-id", "e", name, *LATE, "sh", "-c", "cat /count || echo 0").split()
        return bool(found)  # the program may have just emptied the file

    until(read, "the file has a number")
    return int(found[0])


def status(ctr: Containerd, name: str) -> str:
    """A task's status."""
    found = re.search(rf"^{name}\s+\d+\s+(\w+)", ctr("tasks", "ls"), re.MULTILINE)
    assert found
    return found[1]


def end(ctr: Containerd, name: str) -> None:
    """End a container, and remove it."""
    ctr("tasks", "delete", "--force", name)
    ctr("containers", "delete", name)


def test_paths(ctr: Containerd, box: str, tmp_path: Path) -> None:
    """tasks checkpoint --image-path --work-path: the images and the log are there, and the task runs on."""
    before = count(ctr, box)

    ctr("tasks", "checkpoint", "--image-path", tmp_path / "images", "--work-path", tmp_path / "work", box)

    assert "RUNNING" == status(ctr, box)
    assert (tmp_path / "images/inventory.img").exists()
    assert 0o700 == (tmp_path / "work").stat().st_mode & 0o777
    assert "Dumping finished successfully" in (tmp_path / "work/dump.log").read_text()
    until_count(lambda: count(ctr, box), before + 5)


def test_exit(ctr: Containerd, box: str) -> None:
    """tasks checkpoint --exit: the task stops."""
    said = ctr("tasks", "checkpoint", "--exit", box)

    assert said.startswith("containerd.io/checkpoint/box:")
    until(lambda: status(ctr, box) == "STOPPED", "it stops")


@pytest.mark.cgroup
def test_restore(ctr: Containerd, box: str) -> None:
    """containers checkpoint --task --rw, and restore --live: the container goes on where it was."""
    ctr("containers", "checkpoint", "--task", "--rw", box, IMAGE)
    assert "RUNNING" == status(ctr, box)
    before = count(ctr, box)
    end(ctr, box)

    ctr("containers", "restore", "--live", "--rw", box, IMAGE)

    assert "RUNNING" == status(ctr, box)
    assert before // 2 <= count(ctr, box)
    until_count(lambda: count(ctr, box), before + 10)
    ctr("tasks", "kill", "--signal", "SIGKILL", box)
    until(lambda: status(ctr, box) == "STOPPED", "it ends")


def test_other_name(ctr: Containerd, box: str) -> None:
    """containers restore: under another name, twice, one after the other."""
    ctr("containers", "checkpoint", "--task", "--rw", box, IMAGE)
    before = count(ctr, box)
    end(ctr, box)

    for name in "first", "second":
        ctr("containers", "restore", "--live", "--rw", name, IMAGE)
        assert before // 2 <= count(ctr, name)
        until_count(lambda name=name: count(ctr, name), before + 10)  # type: ignore[misc]
        end(ctr, name)


def test_failure(ctr: Containerd, tmp_path: Path) -> None:
    """tasks checkpoint: an error for an open connection; the task runs on."""
    connected = f"ifconfig lo up; {LISTEN}; nc 127.0.0.1 7001 </dev/zero >/dev/null & "
    ctr("run", *ctr.options(), "--detach", "--cap-add", "CAP_NET_ADMIN", BUSYBOX, "box", "sh", "-c", connected + SCRIPT)
    until_count(lambda: count(ctr, "box"), 10)

    said = ctr("tasks", "checkpoint", "--work-path", tmp_path, "--image-path", tmp_path / "images", "box", status=1)

    assert "checkpoint" in said or "criu" in said
    errors = [line for line in (tmp_path / "dump.log").read_text().splitlines() if "Error" in line]
    assert any("Connected TCP socket" in line for line in errors), errors
    until_count(lambda: count(ctr, "box"), count(ctr, "box") + 5)
    assert "RUNNING" == status(ctr, "box")
