"""No test waits for ever.

A container that is made where a test expects a failure keeps the pipe open that the test reads. `finish` notices that.
Besides, every test has a deadline, whatever it waits for: the wait ends with an error, and the fixtures clean up.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import IO

import pytest

DEFAULT = 1200  # seconds for a test, and as many for its fixtures to be made, and to be cleaned up
MACHINES = 4 * 3600  # of tests that boot machines, which have bounds of their own
ENGINE, ENDURANCE = 300, 1800  # of an engine's tests in a machine, and of those with all repetitions
FOLDERS = {"vm", "conformance", "engines"}
GRACE = 5  # seconds for the last output of a command that has ended


class TooLate(Exception):
    """A test is not over at its deadline."""


class HeldOpen(AssertionError):
    """A command has ended, and a process that it left keeps its output open."""


def finish(process: "subprocess.Popen[bytes]", timeout: float, given: bytes | None = None) -> tuple[bytes, bytes]:
    """What a command writes to pipes until it ends; `given` is its input, for which it has a pipe, too.

    Raises subprocess.TimeoutExpired if it does not end, having killed it, and HeldOpen if its output does not.
    """
    deadline = time.monotonic() + timeout
    if given is not None:  # a thread's work, since `communicate` sends no more once it was called twice
        threading.Thread(target=_feed, args=(process.stdin, given), daemon=True).start()
        process.stdin = None
    try:
        while True:
            ended = process.poll() is not None
            patience = GRACE if ended else max(0.0, min(GRACE, deadline - time.monotonic()))
            try:
                return process.communicate(timeout=patience)
            except subprocess.TimeoutExpired as late:
                if ended:
                    words = " ".join(map(str, process.args))  # type: ignore[arg-type]
                    raise HeldOpen(
                        f"`{words}` ended with status {process.returncode}, and a process that it left keeps its output open"
                    ) from late
                if time.monotonic() >= deadline:
                    late.timeout = timeout
                    raise
    except BaseException:
        process.kill()
        raise


def _feed(pipe: "IO[bytes]", given: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(given)


def _late(_number: int, _frame: FrameType | None) -> None:
    raise TooLate("the deadline of this test is over: what it waits for does not happen")


@contextlib.contextmanager
def _bounded(item: pytest.Item) -> Iterator[None]:
    """Run a phase of a test under its deadline."""
    marker = item.get_closest_marker("deadline")
    before = signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, marker.args[0] if marker else _usual(item))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _usual(item: pytest.Item) -> float:
    if "PYOCI_ENGINE" in os.environ:  # in a machine
        return ENDURANCE if item.config.getoption("--endurance") else ENGINE
    return MACHINES if FOLDERS & set(item.path.parts) else DEFAULT


# of the kind that Debian 12's pytest has, too
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _bounded(item):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _bounded(item):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _bounded(item):
        yield
