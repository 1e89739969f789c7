"""What `start` reads from init: pyoci.start."""

import os

import pytest

from pyoci import start
from pyoci.parent import conversation


def test_a_report_is_read_though_the_program_runs_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine, the program may run, and have ended, before its report was read."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    os.write(writer, b"a report")
    monkeypatch.setattr(conversation.Watch, "wait", lambda *_, **__: set())
    try:
        assert start._read_to_end(reader, os.getpid(), -1, None) == b"a report"
        assert start._read_to_end(reader, os.getpid(), -1, None) == b""
    finally:
        os.close(reader)
        os.close(writer)
