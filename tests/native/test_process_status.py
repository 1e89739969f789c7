"""What /proc/PID/stat says, as the extension reads it (pyoci/native/files.pxi)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyoci._native import process_status

RENAMED = """
import ctypes, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
signal.raise_signal(signal.SIGUSR1)
print(flush=True)
signal.pause()
"""


def fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@pytest.mark.parametrize("name", ["plain", "a) R 1 2 (3", ") (", "()", "tab\tnew\nline", "1 2 3 4 5 6 7 8"])
def test_status_has_the_fields_whatever_the_name(name: str) -> None:
    """A process chooses its name, which stands before the fields."""
    child = subprocess.Popen([sys.executable, "-c", RENAMED, name], stdout=subprocess.PIPE)
    try:
        assert child.stdout
        child.stdout.readline()
        while (expected := fields(child.pid))[0] != "S":
            pass

        status = process_status(child.pid)

        assert status is not None
        assert status == (ord("S"), *(int(expected[index]) for index in (1, 6, 17, 19, 28, 49)))
        assert 1 << (signal.SIGUSR1 - 1) == status[5]
    finally:
        child.kill()
        child.communicate()


def test_status_of_a_zombie_has_its_wait_status() -> None:
    """A killed process that nobody has reaped yet."""
    child = subprocess.Popen(["sleep", "1000"])
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    status = process_status(child.pid)

    assert status is not None
    assert (ord("Z"), signal.SIGKILL) == (status[0], status[6])
    child.wait()
    assert process_status(child.pid) is None


@pytest.mark.parametrize("pid", [-1, 1 << 30, (1 << 31) - 1])
def test_no_status_of_a_process_that_does_not_exist(pid: int) -> None:
    """Numbers that no process has."""
    assert process_status(pid) is None
