"""What create passes on to a program and writes into the record: pyoci.handover."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.handover import standard_streams


@pytest.fixture
def descriptor() -> Iterator[int]:
    """Standard input, which a test may replace."""
    saved = os.dup(0)
    yield 0
    os.dup2(saved, 0)
    os.close(saved)


def test_standard_streams_name_pipes(descriptor: int) -> None:
    """A checkpoint needs the pipes' numbers."""
    read, write = os.pipe()
    os.dup2(write, descriptor)
    assert standard_streams()[descriptor] == f"pipe:[{os.fstat(write).st_ino}]"
    os.close(read)
    os.close(write)


def test_standard_streams_leave_out_names_that_json_can_not_hold(descriptor: int, tmp_path: Path) -> None:
    """Otherwise no command could read the record of such a container."""
    fd = os.open(os.fsencode(tmp_path) + b"/out\xff", os.O_CREAT | os.O_WRONLY)
    os.dup2(fd, descriptor)
    assert standard_streams()[descriptor] == ""
    os.close(fd)
