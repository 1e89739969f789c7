"""The harness itself: what it promises to the tests."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import deadline
from tests.support.reach import is_reachable, reachable

pytest_plugins = ["pytester"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """An executable in a directory that only its owner can enter, like /root."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    program = folder / "program"
    program.write_text("#!/bin/sh\necho works\n")
    program.chmod(0o755)
    return program


@as_root
def test_another_user_reaches_the_executable(closed: Path) -> None:
    """An executable in a closed directory is copied to a place where another user can run it, and the copy is
    removed.
    """
    as_user = ["setpriv", "--reuid=43210", "--regid=43210", "--clear-groups"]
    assert 0 != subprocess.run([*as_user, closed], capture_output=True, timeout=10).returncode

    with reachable(closed) as copy:
        assert "works\n" == subprocess.check_output([*as_user, copy], text=True, timeout=10)

    assert not copy.parent.exists()


def test_a_reachable_executable_is_used_as_it_is() -> None:
    """Nothing is copied without need."""
    assert is_reachable(Path("/bin/sh"))
    with reachable(Path("/bin/sh")) as path:
        assert Path("/bin/sh") == path


HELD = """
import os, signal, subprocess, pytest
from pathlib import Path

@pytest.fixture
def cleaned():
    yield
    os.kill(int(Path("pid").read_text()), signal.SIGKILL)
    Path("cleaned").touch()

@pytest.mark.deadline(1)
def test_that_waits(cleaned):
    subprocess.run(["sh", "-c", "sleep 1000 & echo $! >pid"], capture_output=True)

def test_after():
    pass
"""


def test_no_test_waits_for_ever(pytester: pytest.Pytester) -> None:
    """A test that waits for an output that a left process holds fails at its deadline, cleans up, and others go on."""
    pytester.makeini("[pytest]\nmarkers = deadline(seconds): x")
    pytester.makeconftest("pytest_plugins = ['tests.support.deadline']")
    pytester.makepyfile(HELD)

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*TooLate: the deadline of this test is over*"])
    assert (pytester.path / "cleaned").exists()


def begin(script: str, folder: Path) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder)


def test_finish_tells_of_output_that_is_held_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command has ended, a process that it left has not: finish fails at once, not after the whole timeout."""
    monkeypatch.setattr(deadline, "GRACE", 0.2)
    held = pytest.raises(deadline.HeldOpen, match="ended with status 3, and a process that it left keeps")
    with begin("sleep 1000 & echo $! >pid; exit 3", tmp_path) as process, held:
        deadline.finish(process, 60)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_finish_kills_what_does_not_end(tmp_path: Path) -> None:
    """After the timeout the command is gone."""
    with begin("exec sleep 1000", tmp_path) as process, pytest.raises(subprocess.TimeoutExpired):
        deadline.finish(process, 0.2)
    assert -signal.SIGKILL == process.returncode


def test_finish_passes_on_all_that_a_slow_command_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Input and both outputs are whole, however long it takes."""
    monkeypatch.setattr(deadline, "GRACE", 0.05)
    with begin("sleep 0.3; cat; sleep 0.3; echo end >&2", tmp_path) as process:
        assert (b"x" * 200_000, b"end\n") == deadline.finish(process, 60, b"x" * 200_000)
