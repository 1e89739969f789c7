"""How `wait` learns an exit status, on every kernel and with every parent."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyoci as api
from pyoci.client import exits
from pyoci.testing import Bundle

PR_SET_CHILD_SUBREAPER = 36
NULL = subprocess.DEVNULL


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel before 6.15: later ones can take the same path."""
    monkeypatch.setattr(exits, "kernel_keeps_status", lambda: False)
    monkeypatch.setattr(exits.Watch, "_kept_status", lambda self: None)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """This process is the parent of orphans, as a service manager is."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def monitors(runtime: api.Runtime) -> list[str]:
    """Monitor processes of this runtime's containers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(runtime.root).encode() in words and any(word.endswith(b"client/monitor.py") for word in words):
                found.append(entry.name)
    return found


def end(runtime: api.Runtime, bundle: Bundle, id: str) -> list[int]:
    """The exit status of two containers: one exits, one is killed."""
    statuses = []
    for signal in (None, "KILL"):
        bundle.shell("exit 5" if signal is None else "sleep 1000")
        with runtime.create(f"{id}-{os.getpid()}", bundle, stdin=NULL) as container:
            container.start()
            if signal:
                container.kill(signal)
            statuses.append(container.wait(timeout=60))
    return statuses


@pytest.mark.root
def test_a_pidfd_keeps_the_status(runtime: api.Runtime, bundle: Bundle) -> None:
    """Linux 6.15 and later, or a parent that does not reap."""
    assert [5, 137] == end(runtime, bundle, "kept")
    assert [] == monitors(runtime)


@pytest.mark.root
@pytest.mark.usefixtures("old_kernel")
def test_a_monitor_reports_the_status(runtime: api.Runtime, bundle: Bundle) -> None:
    """Before Linux 6.15. The monitor ends with the container, and its pipe does not keep the container's open."""
    assert [5, 137] == end(runtime, bundle, "monitor")
    bundle.shell("echo text")
    with runtime.create("monitor-pipe", bundle, stdin=NULL, stdout=subprocess.PIPE) as container:
        assert 1 == len(monitors(runtime))
        container.start()
        assert container.stdout is not None
        assert b"text\n" == container.stdout.read()
    deadline = time.monotonic() + 60
    while monitors(runtime):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.root
@pytest.mark.usefixtures("old_kernel")
def test_a_monitor_passes_the_error_on(runtime: api.Runtime, bundle: Bundle) -> None:
    """`create` raises the same error."""
    bundle.config["hostname"] = 1  # type: ignore[typeddict-item]
    with pytest.raises(api.ConfigError):
        runtime.create("monitor", bundle, stdin=NULL, stderr=NULL)

    assert [] == runtime.list()


@pytest.mark.root
@pytest.mark.usefixtures("subreaper")
@pytest.mark.parametrize("kernel", ["new", "old"])
def test_a_subreaper_gets_the_status_of_its_child(
    runtime: api.Runtime, bundle: Bundle, kernel: str, request: pytest.FixtureRequest
) -> None:
    """And no zombie stays."""
    if kernel == "old":
        request.getfixturevalue("old_kernel")
    assert [5, 137] == end(runtime, bundle, "subreaper")
    with runtime.create("unwaited", bundle, stdin=NULL):
        pass
    deadline = time.monotonic() + 60
    while zombies():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def zombies() -> list[str]:
    """Children of this process that have ended."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [pid for pid in children if ") Z " in Path(f"/proc/{pid}/stat").read_text()]


def watched(program: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A process whose child this process does not reap, and the child's pid."""
    code = f"import os, time\npid = os.fork()\nif not pid:\n    {program}\nprint(pid, flush=True)\ninput()\nos.wait()\ninput()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize(
    ("program", "status"), [("os._exit(42)", 42), ("os.kill(os.getpid(), 15); time.sleep(9)", 143)]
)
@pytest.mark.parametrize("kernel", ["new", "old"])
def test_a_zombie_shows_its_status(program: str, status: int, kernel: str, request: pytest.FixtureRequest) -> None:
    """A parent that never reaps, such as process 1 of many containers."""
    if kernel == "old":
        request.getfixturevalue("old_kernel")
    parent, pid = watched(program)
    with parent:
        watch = exits.Watch(monitor=False)
        watch.begin(pid)
        assert status == watch.wait(60)
        watch.close()
        assert status == watch.wait(0)
        parent.kill()


def _let_reap(parent: "subprocess.Popen[bytes]", pid: int) -> None:
    """Let the parent reap the process, and wait until its pid is free."""
    assert parent.stdin is not None
    parent.stdin.write(b"\n")
    parent.stdin.flush()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline


@pytest.mark.skipif(not exits.kernel_keeps_status(), reason="Linux 6.15 keeps the status")
@pytest.mark.may_skip("older kernels keep no status")
def test_a_reaped_process_has_a_status() -> None:
    """Its pidfd was opened before."""
    parent, pid = watched("time.sleep(0.05); os._exit(42)")
    with parent:
        watch = exits.Watch(monitor=False)
        watch.begin(pid)
        _let_reap(parent, pid)
        assert 42 == watch.wait(60)
        watch.close()
        parent.kill()


@pytest.mark.usefixtures("old_kernel")
def test_a_lost_status_is_an_error() -> None:
    """The parent has reaped the process on an old kernel."""
    parent, pid = watched("time.sleep(0.05); os._exit(42)")
    with parent:
        watch = exits.Watch(monitor=False)
        watch.begin(pid)
        _let_reap(parent, pid)
        with pytest.raises(api.StatusError, match="its parent has taken it"):
            watch.wait(60)
        watch.close()
        parent.kill()
